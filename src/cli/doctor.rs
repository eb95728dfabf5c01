//! `doctor`: is this machine fit to send mail, and how do the tenants' domains stand?

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::ask::wait;
use super::output::{Context, Failure, Outcome};
use super::{check, findings};
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::doctor::{self, Scope};
use crate::mail::address::Domain;
use crate::seal::judge::{Finding, Level};
use crate::tenant::{self, Directory, Tenant};

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
    let mut instance = wait(examine(&config, &directory, args))??;
    instance.extend(keys(&config));
    let mut report = Report { v: 1, ok: false, instance, domains: domains(&config, &directory) };
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

async fn examine(config: &Config, directory: &Directory, args: Args) -> Result<Vec<Finding>, Failure> {
    let resolver = Resolver::new(&config.dns).map_err(|error| Failure::Bad(error.to_string()))?;
    let scope = Scope {
        config: config.clone(),
        resolver,
        reference: (!args.no_outbound).then_some(args.reference),
        blocklists: args.dnsbl,
        ca_file: args.ca_file,
        direct: directory.tenants().any(|tenant| tenant.is_direct()),
        now: Clock::System.now(),
    };
    Ok(doctor::instance(&scope).await)
}

/// Every tenant's domains, by name, as `domain check` looks at each.
fn domains(config: &Config, directory: &Directory) -> Vec<Group> {
    let owned = |tenant: &Arc<Tenant>| {
        let name = Arc::clone(&tenant.name);
        tenant.domains.iter().map(|own| (own.name.clone(), Arc::clone(&name))).collect::<Vec<_>>()
    };
    let mut names: Vec<(Domain, Arc<str>)> = directory.tenants().flat_map(owned).collect();
    names.sort();
    let group = |(domain, tenant): (Domain, Arc<str>)| {
        check::ask(config, &domain).map(Group::from).unwrap_or_else(|failure| {
            let fix = "put that right, and look again";
            let finding = Finding::error("domain", format!("it could not be looked at: {failure}"), fix);
            Group { domain, tenant, findings: vec![finding] }
        })
    };
    names.into_iter().map(group).collect()
}

impl From<crate::seal::check::Report> for Group {
    fn from(report: crate::seal::check::Report) -> Self {
        Self { domain: report.domain, tenant: report.tenant, findings: report.findings }
    }
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
