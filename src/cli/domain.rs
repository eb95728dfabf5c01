//! `domain`: From domains, their keys, and the records to publish.

use serde_json::json;

use super::check;
use super::output::{Context, Failure, Outcome};
use super::tenant::edited;
use crate::config::Config;
use crate::fsx;
use crate::mail::address::Domain;
use crate::mail::secret::ExposeSecret;
use crate::seal::Keyring;
use crate::seal::keys::{self, Kind};
use crate::seal::records::{self, Record, Setting};
use crate::tenant::{self, Route, edit};

/// The first selector; rotation uses a second one.
const SELECTOR: &str = "wx1";

/// The verbs of `domain`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Let a tenant send from a domain: make its key, print the records to publish.
    Add {
        /// The From domain.
        domain: String,
        /// Whose it is.
        #[arg(long, value_name = "NAME")]
        tenant: String,
    },
    /// List the From domains, their tenants and selectors.
    List,
    /// Ask DNS now whether receivers would believe a domain's mail; a running daemon takes over what it says.
    #[command(
        after_help = "Exits 0 when mail would pass, 1 when it would not.\n\nExamples:\n  waxseal domain check acme.com\n  waxseal domain check acme.com --wait 30m   (after publishing: ends as soon as DNS says so)\n  waxseal domain check acme.com --json"
    )]
    Check {
        /// The From domain.
        domain: String,
        /// Look again until it is good, at most so long: 90s, 30m, 2h.
        #[arg(long, value_name = "TIME", value_parser = super::filter::age)]
        wait: Option<std::time::Duration>,
    },
    /// Show how From domains stand with receivers, and then every change.
    #[command(
        after_help = "Examples:\n  waxseal domain watch\n  waxseal domain watch acme.com\n  waxseal domain watch --no-follow --json"
    )]
    Watch {
        /// Only this From domain.
        domain: Option<String>,
        /// End after the list.
        #[arg(long)]
        no_follow: bool,
    },
    /// Print the records to publish, as a zone file.
    Dns {
        /// The From domain.
        #[arg(required_unless_present = "relay", conflicts_with = "relay")]
        domain: Option<String>,
        /// The relay's own records.
        #[arg(long)]
        relay: bool,
    },
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    match verb {
        Verb::Add { domain, tenant } => add(context, &config, &parse(&domain)?, &tenant),
        Verb::List => list(context, &config),
        Verb::Check { domain, wait } => check::check(context, &parse(&domain)?, wait),
        Verb::Watch { domain, no_follow } => {
            let only = domain.as_deref().map(parse).transpose()?;
            check::watch(context, only.as_ref(), !no_follow)
        }
        Verb::Dns { domain: Some(domain), .. } => print(context, &of_tenant(&config, &parse(&domain)?)?),
        Verb::Dns { domain: None, .. } => print(context, &of_relay(&config)?),
    }
}

pub(super) fn parse(text: &str) -> Result<Domain, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("{text}: {error}")))
}

fn directory(config: &Config) -> Result<tenant::Directory, Failure> {
    tenant::load(config).map_err(|error| Failure::Config(error.to_string()))
}

pub(super) fn keyring(config: &Config) -> Result<Keyring, Failure> {
    fsx::create_dir(&config.keys)?;
    Keyring::load(&config.keys).map_err(|error| Failure::Config(error.to_string()))
}

/// Makes a domain's first key. One that is there, made or placed by hand, is kept.
pub(super) fn make_key(config: &Config, domain: &Domain) -> Outcome {
    if !keyring(config)?.keys(domain).is_empty() {
        return Ok(());
    }
    let made = keys::generate(Kind::Rsa2048).map_err(|error| Failure::Bad(error.to_string()))?;
    let dir = config.keys.join(domain.as_str());
    fsx::create_dir(&dir)?;
    let path = dir.join(format!("{SELECTOR}.pem"));
    fsx::write_atomically(&path, made.pem.expose_secret().as_bytes(), 0o600)?;
    Ok(())
}

fn add(context: &Context, config: &Config, domain: &Domain, tenant: &str) -> Outcome {
    edited(edit::add_domain(config, tenant, domain))?;
    make_key(config, domain)?;
    context.note(format_args!("{domain} is tenant {tenant}'s; publish these records:"));
    print(context, &of_tenant(config, domain)?)?;
    context.tell_daemon(config)
}

fn of_tenant(config: &Config, domain: &Domain) -> Result<Vec<Record>, Failure> {
    let directory = directory(config)?;
    let found = directory.tenants().find_map(|tenant| {
        let own = tenant.domains.iter().find(|own| own.name == *domain)?;
        Some((own, matches!(*tenant.route, Route::Upstream(_))))
    });
    let (own, upstream) =
        found.ok_or_else(|| Failure::NotFound(format!("{domain} is no tenant's From domain")))?;
    records_of(config, domain, own.return_path.as_ref(), upstream)
}

fn of_relay(config: &Config) -> Result<Vec<Record>, Failure> {
    let mut all = records_of(config, &config.relay.domain, None, false)?;
    if let Some(zone) = &config.relay.dkim_zone {
        let directory = directory(config)?;
        let domains: Vec<Domain> = directory
            .tenants()
            .flat_map(|tenant| tenant.domains.iter().map(|own| own.name.clone()))
            .collect();
        all.extend(records::delegated(&domains, &keyring(config)?, zone));
    }
    Ok(all)
}

fn records_of(
    config: &Config,
    domain: &Domain,
    return_path: Option<&Domain>,
    upstream: bool,
) -> Result<Vec<Record>, Failure> {
    let delivery = &config.delivery;
    let seen =
        if delivery.public_addresses.is_empty() { &delivery.sources } else { &delivery.public_addresses };
    // The relay's own keys stand in its own zone, where a CNAME would point at itself.
    let zone = config.relay.dkim_zone.as_ref().filter(|_| *domain != config.relay.domain);
    let setting = Setting {
        hostname: &config.hostname,
        dkim_zone: zone,
        public_addresses: seen,
        return_path,
        upstream,
    };
    Ok(records::for_domain(domain, &keyring(config)?, &setting))
}

fn print(context: &Context, records: &[Record]) -> Outcome {
    if context.json {
        return context.print_json(&json!({"v": 1, "records": records}));
    }
    context.print(records::zone_text(records).trim_end())
}

fn list(context: &Context, config: &Config) -> Outcome {
    let (directory, keyring) = (directory(config)?, keyring(config)?);
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for tenant in directory.tenants() {
        for own in &tenant.domains {
            let selectors: Vec<String> =
                keyring.keys(&own.name).iter().map(|key| key.selector.to_string()).collect();
            rows.push((own.name.to_string(), tenant.name.to_string(), selectors.join(" ")));
        }
    }
    rows.sort();
    if context.json {
        return rows.iter().try_for_each(|(domain, tenant, selectors)| {
            let selectors: Vec<&str> = selectors.split_whitespace().collect();
            context.print_json(&json!({"v": 1, "domain": domain, "tenant": tenant, "selectors": selectors}))
        });
    }
    let rows = rows.into_iter().map(|(domain, tenant, selectors)| vec![domain, tenant, selectors]).collect();
    context.print_table(&["domain", "tenant", "selectors"], rows)
}
