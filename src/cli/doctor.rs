//! `doctor`: is this machine fit to send mail, and how do the tenants' domains stand?

use std::path::PathBuf;

use serde::Serialize;

use super::ask::wait;
use super::findings;
use super::output::{Context, Failure, Outcome};
use crate::clock::Clock;
use crate::config::{Config, Role};
use crate::dns::{Failure as Unanswered, Mx, Resolver};
use crate::doctor::{self, Egress, Scope};
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::seal::doctor::{DomainCase, Us, homes, of_domain};
use crate::seal::facts::{Exchange, Known, Picture};
use crate::seal::judge::{Finding, Level};
use crate::tenant::{self, Directory, OwnedDomain, Route, Tenant};

/// What `doctor` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Looks at this machine and at every tenant's domains: reverse names, the way out by port 25, the certificate, \
files, DNS. Each finding says what to do. Exits 1 if any is an error.\n\n\
Examples:\n  waxseal doctor\n  waxseal doctor --json | jq '.instance[] | select(.level == \"error\")'\n  \
waxseal doctor --dnsbl zen.spamhaus.org --reference outlook.com"
)]
pub struct Args {
    /// The domain whose mail exchanger is greeted, to see whether mail can leave; nothing is sent to it.
    #[arg(long, value_name = "DOMAIN", default_value = "gmail.com")]
    reference: Domain,
    /// A blocklist to ask for the addresses that mail leaves from (may be repeated).
    #[arg(long, value_name = "ZONE")]
    dnsbl: Vec<Domain>,
    /// Connect to nobody.
    #[arg(long, conflicts_with = "reference")]
    no_outbound: bool,
    /// Roots that the listener's certificate may rest on beside the system's (PEM), for an authority of your own.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    v: u8,
    ok: bool,
    instance: Vec<Finding>,
    domains: Vec<Group>,
}

/// A domain's findings.
#[derive(Serialize)]
struct Group {
    domain: Domain,
    tenant: std::sync::Arc<str>,
    findings: Vec<Finding>,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let config = context.load_config()?;
    let directory = tenant::load(&config).map_err(|error| Failure::Config(error.to_string()))?;
    let mut report = wait(examine(&config, &directory, args))??;
    report.instance.extend(keys(&config));
    let ok = report.all().all(|finding| finding.level != Level::Error);
    report.ok = ok;
    if context.json {
        context.print_json(&report)?;
    } else {
        report.print(context)?;
    }
    if report.ok { Ok(()) } else { Err(Failure::Bad(report.summary())) }
}

/// What is wrong with the keys. `serve` would end with 78 for what is an error here; whoever asks the doctor wants to hear all.
fn keys(config: &Config) -> Vec<Finding> {
    match super::key::keyring(config) {
        Ok(keyring) => {
            let fix = "make a longer key, and publish its record";
            let warnings = keyring.warnings().iter();
            warnings.map(|warning| Finding::warning("keys", warning.to_string(), fix)).collect()
        }
        Err(failure) => {
            vec![Finding::error("keys", failure.to_string(), "the daemon does not start with it")]
        }
    }
}

async fn examine(config: &Config, directory: &Directory, args: Args) -> Result<Report, Failure> {
    let resolver = Resolver::new(&config.dns).map_err(|error| Failure::Bad(error.to_string()))?;
    let scope = Scope {
        config: config.clone(),
        resolver: resolver.clone(),
        reference: (!args.no_outbound).then_some(args.reference),
        blocklists: args.dnsbl,
        ca_file: args.ca_file,
        direct: directory.tenants().any(|tenant| matches!(*tenant.route, Route::Mx)),
        now: Clock::System.now(),
    };
    let (instance, domains) =
        tokio::join!(doctor::instance(&scope), examine_domains(config, directory, &resolver));
    Ok(Report { v: 1, ok: false, instance, domains })
}

/// Every tenant's domains, by name.
async fn examine_domains(config: &Config, directory: &Directory, resolver: &Resolver) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut owned: Vec<_> =
        directory.tenants().flat_map(|tenant| tenant.domains.iter().map(move |own| (tenant, own))).collect();
    owned.sort_by(|(_, one), (_, other)| one.name.as_str().cmp(other.name.as_str()));
    let egress = Egress::of(config, &resolver.addresses(config.hostname.as_str()).await);
    let us = Us {
        hostname: &config.hostname,
        addresses: &egress.addresses,
        inbound: config.listeners.iter().any(|listener| listener.role == Role::Inbound),
    };
    for (tenant, own) in owned {
        let findings = examine_domain(resolver, tenant, own, &us).await;
        groups.push(Group {
            domain: own.name.clone(),
            tenant: std::sync::Arc::clone(&tenant.name),
            findings,
        });
    }
    groups
}

/// What is looked at beyond the verdict: where its mail and its bounces go.
async fn examine_domain(
    resolver: &Resolver,
    tenant: &Tenant,
    own: &OwnedDomain,
    us: &Us<'_>,
) -> Vec<Finding> {
    let path = own.return_path.as_ref().unwrap_or(&own.name);
    let (author, sender) = tokio::join!(picture(resolver, &own.name), picture(resolver, path));
    let homes = homes(resolver, &[&author, &sender]).await;
    of_domain(&DomainCase {
        tenant,
        own,
        omit: &[],
        author: &author,
        sender: &sender,
        policy: None,
        homes: &homes,
        us,
    })
}

async fn picture(resolver: &Resolver, domain: &Domain) -> Picture {
    let exchange = match resolver.mx(domain).await {
        Ok(Mx::Exchangers(hosts)) => {
            Some(Exchange::Hosts(hosts.into_iter().map(|host| (host.preference, host.host)).collect()))
        }
        Ok(Mx::Implicit) => Some(Exchange::Implicit),
        Ok(Mx::Null) => Some(Exchange::Null),
        Err(Unanswered::NoSuchName | Unanswered::NoRecords) => Some(Exchange::Nowhere),
        Err(Unanswered::Transient(_)) => None,
    };
    let mut picture = Picture::blank(domain.clone());
    picture.exchange = exchange.map(|value| Known { value, seen: Time(0), until: Time(0) });
    picture
}

impl Report {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.instance.iter().chain(self.domains.iter().flat_map(|group| &group.findings))
    }

    fn print(&self, context: &Context) -> Outcome {
        context.print("this machine")?;
        findings::print(context, &self.instance)?;
        for group in &self.domains {
            context.print(format_args!("\n{} (tenant {})", group.domain, group.tenant))?;
            findings::print(context, &group.findings)?;
        }
        context.print(format_args!("\n{}", self.summary()))
    }

    fn summary(&self) -> String {
        let count = |level: Level| self.all().filter(|finding| finding.level == level).count();
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        match (errors, warnings) {
            (0, 0) => "all is well".to_owned(),
            (errors, warnings) => {
                format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"))
            }
        }
    }
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
