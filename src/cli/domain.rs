//! `domain`: From domains, their keys, and the records to publish.

use serde_json::json;

use super::check;
use super::key::{first_key, keyring};
use super::output::{Context, Failure, Outcome};
use super::publish::{self, Look, setting};
use super::tenant::edited;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::seal::records::{self, Record};
use crate::tenant::{self, SignWith, edit};

/// The verbs of `domain`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Let a tenant send from a domain: make its key, print the records to publish.
    #[command(after_help = "Example:\n  waxseal domain add acme.example --tenant acme")]
    Add {
        /// The From domain.
        domain: String,
        /// Whose it is.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// Do not look at what DNS has now.
        #[arg(long)]
        offline: bool,
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
    /// Print the records to publish, as a zone file, merged with those that are there.
    #[command(
        after_help = "Examples:\n  waxseal domain dns acme.example\n  waxseal domain dns acme.example --json --offline\n  waxseal domain dns --relay"
    )]
    Dns {
        /// The From domain.
        #[arg(required_unless_present = "relay", conflicts_with = "relay")]
        domain: Option<String>,
        /// The relay's own records.
        #[arg(long)]
        relay: bool,
        /// Do not look at what DNS has now.
        #[arg(long)]
        offline: bool,
    },
    /// Send a message by the tenant's real route back to ourselves, and print what a receiver finds in it.
    #[command(
        after_help = "Needs a running daemon with a listener of role \"inbound\", to which the MX of the return path leads. Exits 0 only if DMARC \
passes.\n\nExamples:\n  waxseal domain probe acme.com\n  waxseal domain probe acme.com --timeout 5m --json"
    )]
    Probe(super::probe::Args),
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    match verb {
        Verb::Add { domain, tenant, offline } => {
            let look = if offline { Look::Nowhere } else { Look::ButKeys };
            add(context, &config, (&parse(&domain)?, &tenant), look)
        }
        Verb::List => list(context, &config),
        Verb::Check { domain, wait } => check::check(context, &parse(&domain)?, wait),
        Verb::Watch { domain, no_follow } => {
            let only = domain.as_deref().map(parse).transpose()?;
            check::watch(context, only.as_ref(), !no_follow)
        }
        Verb::Dns { domain, offline, .. } => {
            let look = if offline { Look::Nowhere } else { Look::Everywhere };
            let domain = domain.as_deref().map(parse).transpose()?;
            let wanted = match &domain {
                Some(domain) => of_tenant(context, &config, domain)?,
                None => of_relay(&config)?,
            };
            let retired =
                publish::retired(&keyring(&config)?, domain.as_ref().unwrap_or(&config.relay.domain));
            publish::print(context, &config, (&wanted, &retired), look)
        }
        Verb::Probe(args) => super::probe::run(context, &config, &args),
    }
}

pub(super) fn parse(text: &str) -> Result<Domain, Failure> {
    text.parse().map_err(|error| Failure::Usage(format!("{text}: {error}")))
}

pub(super) fn directory(config: &Config) -> Result<tenant::Directory, Failure> {
    tenant::load(config).map_err(|error| Failure::Config(error.to_string()))
}

fn add(context: &Context, config: &Config, (domain, tenant): (&Domain, &str), look: Look) -> Outcome {
    edited(edit::add_domain(config, tenant, domain))?;
    // The daemon is told also where nobody reads our output any more.
    let shown = show_added(context, config, (domain, tenant), look);
    context.tell_daemon(config)?;
    shown
}

/// Makes the first key, and prints what is to be published.
fn show_added(context: &Context, config: &Config, (domain, tenant): (&Domain, &str), look: Look) -> Outcome {
    let made = first_key(config, domain)?;
    context.note(format_args!("{domain} is tenant {tenant}'s; publish these records:"));
    // A key that was there may have been published: only a fresh one is not looked for.
    let look = if look == Look::ButKeys && !made { Look::Everywhere } else { look };
    publish::print(context, config, (&of_tenant(context, config, domain)?, &[]), look)
}

fn of_tenant(context: &Context, config: &Config, domain: &Domain) -> Result<Vec<Record>, Failure> {
    let directory = directory(config)?;
    let found = directory.tenants().find_map(|tenant| {
        let own = tenant.domains.iter().find(|own| own.name == *domain)?;
        Some((tenant, own))
    });
    let (tenant, own) =
        found.ok_or_else(|| Failure::NotFound(format!("{domain} is no tenant's From domain")))?;
    let upstream = !tenant.is_direct();
    let keyring = keyring(config)?;
    let setting = setting(config, domain, own.return_path.as_ref(), upstream);
    let mut all = records::spare(domain, &keyring, &setting);
    all.splice(0..0, records::for_domain(domain, &keyring, &setting));
    // Keys together, the next one's name behind those in use.
    all.sort_by_key(|record| !record.name.contains("._domainkey."));
    if tenant.signing.keys == SignWith::None {
        context.note(format_args!(
            "mail of tenant {} is signed by its upstream: the upstream's provider says which DKIM record to publish",
            tenant.name
        ));
        all.retain(|record| !record.name.contains("._domainkey."));
    }
    Ok(all)
}

fn of_relay(config: &Config) -> Result<Vec<Record>, Failure> {
    let (keyring, domain) = (keyring(config)?, &config.relay.domain);
    let setting = setting(config, domain, None, false);
    let mut all = records::for_domain(domain, &keyring, &setting);
    if config.hostname != *domain {
        all.push(records::for_hostname(&setting));
    }
    if let Some(host) = &config.relay.bounce_host {
        all.extend(records::for_bounces(host, &setting));
    }
    if let Some(zone) = &config.relay.dkim_zone {
        let directory = directory(config)?;
        let domains: Vec<Domain> = directory
            .tenants()
            .flat_map(|tenant| tenant.domains.iter().map(|own| own.name.clone()))
            .collect();
        all.extend(records::delegated(&domains, &keyring, zone));
    }
    Ok(all)
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
