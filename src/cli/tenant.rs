//! `tenant`: who may send, and their logins.

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::output::{Context, Failure, Outcome};
use crate::admit::classify::ControlKey;
use crate::config::Config;
use crate::mail::secret::{ExposeSecret, SecretString};
use crate::tenant::edit::{EditError, Way};
use crate::tenant::preset::Preset;
use crate::tenant::{self, Directory, Route, Tenant, edit, password};

/// The verbs of `tenant`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Add a tenant with a login; its generated password is shown once.
    Add {
        /// Its name, and its file's.
        name: String,
        /// Its first user name [default: the tenant's name].
        #[arg(long, value_name = "U")]
        username: Option<String>,
        /// Read the password from standard input instead of generating one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the tenants.
    List,
    /// Show one tenant.
    Show {
        /// Its name.
        name: String,
    },
    /// Let nobody send as a tenant; what is queued still goes out.
    Disable {
        /// Its name.
        name: String,
        /// Let them send again.
        #[arg(long)]
        undo: bool,
    },
    /// Press Connect towards a tenant's next hop: everything up to MAIL, with a transcript. Nothing is sent.
    #[command(
        after_help = "Connects, says EHLO, starts TLS, logs in and says QUIT, as a delivery does. Of a tenant without an upstream, an exchanger of\n--to is greeted. Passwords are not shown. Exits 1 if a delivery would not get as far as MAIL.\n\nExamples:\n  waxseal tenant test acme\n  waxseal tenant test acme --json | jq -r '.transcript[].text'"
    )]
    Test(super::trial::Args),
    /// Set by which way a tenant's mail leaves. Its file keeps its comments, and what it says of signing.
    #[command(
        after_help = "Examples:\n  waxseal tenant route acme --preset ses --region eu-west-1 --username AKIA... < password\n  waxseal tenant route acme --host smtp.provider.example --username acme < password\n  waxseal tenant route acme --host smtp.provider.example --port 465 --tls implicit --username acme < password\n  waxseal tenant route acme --mx\n\nOf a server that it leaves by already, what is not said stays as it is in the file. Port 465 means --tls implicit, unless another is said.\n\nPresets: ses, sendgrid, mailgun, postmark, gmail, microsoft365; docs/routes.md says what each asks for."
    )]
    Route(RouteArgs),
    /// Set the password of a tenant's upstream, read from standard input; what its refusal held leaves by itself.
    #[command(
        name = "upstream-password",
        after_help = "Example:\n  waxseal tenant upstream-password acme < new-password\n\nIt goes into the file that password_file in [route.upstream] names, mode 0600. Where the unit loads a credential of that\nname (LoadCredential=), the daemon takes that one: change it there, and restart."
    )]
    UpstreamPassword {
        /// Whose upstream.
        name: String,
    },
    /// Print the address that, as BCC of a tenant's mail, tells its class. It is never delivered to.
    #[command(
        name = "control-address",
        after_help = "Example:\n  waxseal tenant control-address acme password_reset\n\nWhere a platform can set no header, its template gets this address as BCC."
    )]
    ControlAddress {
        /// Whose mail.
        tenant: String,
        /// The class.
        class: String,
    },
    /// Add, list and revoke logins.
    #[command(subcommand)]
    Login(LoginVerb),
}

/// What `tenant route` is told.
#[derive(clap::Args, Debug)]
pub struct RouteArgs {
    /// Whose mail.
    name: String,
    /// To the recipients' exchangers.
    #[arg(long, required_unless_present_any = ["preset", "host"], conflicts_with_all = ["preset", "host"])]
    mx: bool,
    /// Through a provider that is known by name.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Preset::names()))]
    preset: Option<String>,
    /// Through this server.
    #[arg(long, conflicts_with = "preset")]
    host: Option<String>,
    /// The preset's region.
    #[arg(long, requires = "preset")]
    region: Option<String>,
    /// The server's port [default: 587; with --tls implicit 465].
    #[arg(long, conflicts_with = "mx")]
    port: Option<u16>,
    /// How the connection is encrypted [default: starttls; at port 465 implicit].
    #[arg(long, value_name = "METHOD", conflicts_with = "mx", value_parser = ["starttls", "implicit", "none"])]
    tls: Option<String>,
    /// Who logs in there; the password is read from standard input.
    #[arg(long, value_name = "U", conflicts_with = "mx")]
    username: Option<String>,
}

/// The verbs of `tenant login`.
#[derive(clap::Subcommand, Debug)]
pub enum LoginVerb {
    /// Add a login; its generated password is shown once.
    Add {
        /// Whose.
        tenant: String,
        /// The user name.
        username: String,
        /// Read the password from standard input instead of generating one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List the user names of a tenant.
    List {
        /// Whose.
        tenant: String,
    },
    /// Take a login away; its sessions are refused at their next message.
    Revoke {
        /// Whose.
        tenant: String,
        /// The user name.
        username: String,
    },
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    match verb {
        Verb::Add { name, username, password_stdin } => {
            let username = username.unwrap_or_else(|| name.clone());
            with_password(context, &config, (&name, &username), password_stdin, |hash| {
                edit::add_tenant(&config, &name, &username, hash).map(drop)
            })
        }
        Verb::List => list(context, &config),
        Verb::Show { name } => show(context, &config, &name),
        Verb::Disable { name, undo } => {
            edited(edit::set_disabled(&config, &name, !undo))?;
            context.note(format_args!("tenant {name} is {}", if undo { "enabled" } else { "disabled" }));
            context.tell_daemon(&config)
        }
        Verb::Test(args) => {
            let directory = directory(&config)?;
            super::trial::run(context, &config, named(&directory, &args.name)?, &args)
        }
        Verb::Route(args) => route(context, &config, args),
        Verb::UpstreamPassword { name } => {
            let path = edited(edit::set_upstream_password(&config, &name, &read_line()?))?;
            context.note(format_args!("the password of tenant {name}'s upstream is set: {}", path.display()));
            context.tell_daemon(&config)
        }
        Verb::ControlAddress { tenant, class } => control_address(context, &config, &tenant, &class),
        Verb::Login(verb) => login(context, &config, verb),
    }
}

fn control_address(context: &Context, config: &Config, name: &str, class: &str) -> Outcome {
    let directory = directory(config)?;
    let tenant = named(&directory, name)?;
    if let Some(what) = tenant.classes.unknown(class) {
        return Err(Failure::NotFound(what));
    }
    let address = ControlKey::open(&config.state)?.address(&config.relay.domain, name, class);
    let address =
        address.ok_or_else(|| Failure::Bad("relay.domain is too long for such an address".to_owned()))?;
    if context.json {
        return context.print_json(&json!({"v": 1, "tenant": name, "class": class, "address": address}));
    }
    context.print(address)
}

fn route(context: &Context, config: &Config, args: RouteArgs) -> Outcome {
    let RouteArgs { name, mx: _, preset, host, region, port, tls, username } = args;
    let usual = preset.as_deref().and_then(Preset::named).and_then(Preset::username);
    let username = username.or_else(|| usual.map(str::to_owned));
    let password = match &username {
        Some(_) => Some(read_line()?),
        None => None,
    };
    let way = Way { preset, region, host, port, tls, username, password };
    edited(edit::set_route(config, &name, &way))?;
    let to = way.preset.or(way.host).unwrap_or_else(|| "the recipients' exchangers".to_owned());
    context.note(format_args!("mail of tenant {name} leaves by {to}"));
    context.tell_daemon(config)
}

fn login(context: &Context, config: &Config, verb: LoginVerb) -> Outcome {
    match verb {
        LoginVerb::Add { tenant, username, password_stdin } => {
            with_password(context, config, (&tenant, &username), password_stdin, |hash| {
                edit::add_login(config, &tenant, &username, hash)
            })
        }
        LoginVerb::List { tenant } => {
            let directory = directory(config)?;
            named(&directory, &tenant)?.logins.iter().try_for_each(|login| {
                if context.json {
                    return context
                        .print_json(&json!({"v": 1, "tenant": tenant, "username": login.username}));
                }
                context.print(&login.username)
            })
        }
        LoginVerb::Revoke { tenant, username } => {
            edited(edit::revoke_login(config, &tenant, &username))?;
            context.note(format_args!("login {username} of tenant {tenant} is revoked"));
            context.tell_daemon(config)
        }
    }
}

/// What an edit's failure means for the exit code.
pub(super) fn edited<T>(result: Result<T, EditError>) -> Result<T, Failure> {
    result.map_err(|error| match error {
        EditError::Config(error) => Failure::Config(error.to_string()),
        EditError::NotFound(what) => Failure::NotFound(what),
        other @ (EditError::Refused(_) | EditError::Io { .. }) => Failure::Bad(other.to_string()),
    })
}

/// Makes or reads a password, stores its hash by `add`, and shows a generated one this once.
fn with_password(
    context: &Context,
    config: &Config,
    (tenant, username): (&str, &str),
    from_stdin: bool,
    add: impl FnOnce(&str) -> Result<(), EditError>,
) -> Outcome {
    let password = if from_stdin { read_password()? } else { password::generate() };
    add_hash(&password, add)?;
    // The daemon is told also where nobody reads our output any more.
    let shown = show_login(context, (tenant, username), (!from_stdin).then_some(&password));
    context.tell_daemon(config)?;
    shown
}

fn show_login(
    context: &Context,
    (tenant, username): (&str, &str),
    password: Option<&SecretString>,
) -> Outcome {
    let password = password.map(ExposeSecret::expose_secret);
    if context.json {
        let shown = json!({"v": 1, "tenant": tenant, "username": username, "password": password});
        return context.print_json(&shown);
    }
    context.print(format_args!("tenant    {tenant}\nusername  {username}"))?;
    if let Some(password) = password {
        context.print(format_args!("password  {password}"))?;
        context.note("the password is shown this once; only its hash is kept");
    }
    Ok(())
}

fn add_hash(password: &SecretString, add: impl FnOnce(&str) -> Result<(), EditError>) -> Outcome {
    let hash = password::hash(password).map_err(Failure::Bad)?;
    edited(add(&hash))
}

fn read_password() -> Result<SecretString, Failure> {
    let password = read_line()?;
    if password.expose_secret().len() < password::CHOSEN_MIN {
        return Err(Failure::Usage(format!("a password has at least {} octets", password::CHOSEN_MIN)));
    }
    Ok(password)
}

/// A secret is never an argument: everybody could see it in the list of processes.
fn read_line() -> Result<SecretString, Failure> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])))
}

fn directory(config: &Config) -> Result<Directory, Failure> {
    tenant::load(config).map_err(|error| Failure::Config(error.to_string()))
}

fn named<'d>(directory: &'d Directory, name: &str) -> Result<&'d Tenant, Failure> {
    let found = directory.tenant(name).map(AsRef::as_ref);
    found.ok_or_else(|| Failure::NotFound(format!("there is no tenant `{name}`")))
}

/// What is shown of a tenant: never a hash.
fn view(config: &Config, tenant: &Tenant) -> Result<serde_json::Value, Failure> {
    let via = match &*tenant.route {
        Route::Mx => "mx".to_owned(),
        Route::Upstream(upstream) => format!("{}:{}", upstream.host, upstream.port),
    };
    Ok(json!({
        "v": 1,
        "name": tenant.name,
        "disabled": edited(edit::is_disabled(config, &tenant.name))?,
        "logins": tenant.logins.iter().map(|login| &login.username).collect::<Vec<_>>(),
        "domains": tenant.domains.iter().map(|own| &own.name).collect::<Vec<_>>(),
        "networks": tenant.networks,
        "notify": tenant.notify,
        "route": via,
    }))
}

fn list(context: &Context, config: &Config) -> Outcome {
    let directory = directory(config)?;
    let mut tenants: Vec<_> = directory.tenants().collect();
    tenants.sort_by(|a, b| a.name.cmp(&b.name));
    if context.json {
        return tenants.iter().try_for_each(|tenant| context.print_json(&view(config, tenant)?));
    }
    let row = |tenant: &&std::sync::Arc<Tenant>| -> Result<Vec<String>, Failure> {
        let disabled = edited(edit::is_disabled(config, &tenant.name))?;
        let domains: Vec<String> = tenant.domains.iter().map(|own| own.name.to_string()).collect();
        let state = if disabled { "disabled" } else { "active" };
        Ok(vec![
            tenant.name.to_string(),
            state.to_owned(),
            tenant.logins.len().to_string(),
            domains.join(" "),
        ])
    };
    let rows: Result<Vec<_>, _> = tenants.iter().map(row).collect();
    context.print_table(&["tenant", "state", "logins", "domains"], rows?)
}

fn show(context: &Context, config: &Config, name: &str) -> Outcome {
    let directory = directory(config)?;
    let shown = view(config, named(&directory, name)?)?;
    if context.json {
        return context.print_json(&shown);
    }
    let fields = shown.as_object().into_iter().flatten().filter(|(key, _)| *key != "v");
    fields.into_iter().try_for_each(|(key, value)| context.print(format_args!("{key:10} {}", plain(value))))
}

fn plain(value: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().map_or_else(|| text(value), |list| list.iter().map(text).collect::<Vec<_>>().join(" "))
}
