//! `domain check` and `domain watch`: how From domains stand with receivers, and what to publish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ask::{Daemon, wait};
use super::findings;
use super::output::{Context, Failure, Outcome};
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::doctor::copies;
use crate::mail::address::Domain;
use crate::maillog::tail::Follow;
use crate::seal::check::{self, Report};
use crate::seal::judge::{Believed, Finds, Policy};
use crate::seal::outlook::{Force, Outlook};
use crate::tenant::{self, OnFail};

/// Between two looks at DNS while waiting for it to be right.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two looks at the end of the log.
const LOOK: Duration = Duration::from_millis(200);

/// Checks a domain, once or until it is good.
pub(super) fn check(context: &Context, domain: &Domain, patience: Option<Duration>) -> Outcome {
    let config = context.load_config()?;
    let end = Instant::now() + patience.unwrap_or_default();
    let mut report = ask(&config, domain)?;
    while !report.is_good() && Instant::now() + AGAIN < end {
        context.note(format_args!("{domain}: {}; looking again in {} s", headline(&report), AGAIN.as_secs()));
        std::thread::sleep(AGAIN);
        report = ask(&config, domain)?;
    }
    // The daemon judges by DNS; whether resets are copied the mail log tells, as for `doctor`.
    let copies = copies::of_tenant(&config, &report.tenant);
    let report = report.with(copies);
    if context.json {
        context.print_json(&report)?;
    } else {
        show(context, &report)?;
    }
    if report.is_good() { Ok(()) } else { Err(Failure::Bad(format!("{domain}: {}", headline(&report)))) }
}

/// The daemon's answer, which is then in force; without a daemon, our own.
pub(super) fn ask(config: &Config, domain: &Domain) -> Result<Report, Failure> {
    match Daemon::of(config).post(&format!("/v1/domain/{domain}/check"), &()) {
        Err(Failure::Absent(_)) => look(config, domain),
        answer => answer,
    }
}

/// Looks without a daemon. A key that is seen for the first time is noted as seen, as the daemon would.
fn look(config: &Config, domain: &Domain) -> Result<Report, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::Config(error.to_string());
    let directory = tenant::load(config).map_err(|error| bad(&error))?;
    let (tenant, own) = directory
        .covering(domain)
        .ok_or_else(|| Failure::NotFound(format!("{domain} is no tenant's From domain")))?;
    let subject = check::usual(tenant, own, domain);
    let config = Arc::new(config.clone());
    let keyring = Arc::new(super::key::keyring(&config)?);
    wait(async {
        let resolver = Resolver::new(&config.dns).map_err(|error| bad(&error))?;
        let outlook = Arc::new(Outlook::new(resolver, Clock::System));
        check::look(&outlook, &subject, Force { config: &config, keyring: &keyring }).await;
        let moved = outlook.move_keys(&config, &keyring, Clock::System.now());
        if let Some((_, error)) = moved.failed.first() {
            return Err(bad(error));
        }
        let keyring = moved.keyring.map_or(keyring, Arc::new);
        let force = Force { config: &config, keyring: &keyring };
        let report = check::report(&outlook, &subject, force);
        let more = check::beyond(&outlook, &subject, force, report.policy).await;
        Ok(report.with(more))
    })?
}

fn show(context: &Context, report: &Report) -> Outcome {
    context.print(format_args!("{}  {}", report.domain, headline(report)))?;
    let policy = report.policy.map_or("none published", policy);
    context.print(format_args!(
        "  dkim {}, spf {}, dmarc policy {policy}, on_fail {}, tenant {}{}",
        finds(report.dkim),
        finds(report.spf),
        on_fail(report.on_fail),
        report.tenant,
        report.since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default(),
    ))?;
    findings::print(context, &report.findings)?;
    for silence in &report.silence {
        context.print(format_args!("  DNS did not say: {} ({})", silence.question, silence.why))?;
    }
    if !report.spf_tree.is_empty() {
        context.print("  SPF, as a receiver looks it up:")?;
    }
    report.spf_tree.iter().try_for_each(|line| context.print(format_args!("    {line}")))
}

/// What a person wants to know first.
fn headline(report: &Report) -> &'static str {
    if report.upstream_signs {
        return "its upstream signs; `waxseal domain probe` shows what receivers find";
    }
    match report.believed {
        Believed::Both => "receivers believe its mail, by DKIM and by SPF",
        Believed::DkimOnly => "receivers believe its mail, by DKIM",
        Believed::SpfOnly => "receivers believe its mail by SPF alone, which breaks where it is forwarded",
        Believed::Fail => "receivers would not believe its mail",
        Believed::Unknown => "DNS does not say enough to know",
    }
}

fn finds(finds: Finds) -> &'static str {
    match finds {
        Finds::Pass => "pass",
        Finds::Fail => "fail",
        Finds::Unknown => "unknown",
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::None => "none",
        Policy::Quarantine => "quarantine",
        Policy::Reject => "reject",
    }
}

fn on_fail(on_fail: OnFail) -> &'static str {
    match on_fail {
        OnFail::Reject => "reject",
        OnFail::Hold => "hold",
        OnFail::Tag => "tag",
        OnFail::Off => "off",
    }
}

/// Shows how every domain stands, then each change as the daemon sees it.
pub(super) fn watch(context: &Context, only: Option<&Domain>, follow: bool) -> Outcome {
    let config = context.load_config()?;
    let opened = Follow::open(&config.log.path, 0);
    let (mut log, _) = opened.map_err(|error| super::log::unreadable(&config.log.path, &error))?;
    let reports: Vec<Report> = Daemon::of(&config).get("/v1/domains")?;
    let meant = |report: &&Report| only.is_none_or(|only| report.domain == *only);
    let reports: Vec<&Report> = reports.iter().filter(meant).collect();
    if context.json {
        reports.iter().try_for_each(|report| context.print_json(report))?;
    } else {
        let row = |report: &&Report| {
            let since = report.since.clone().unwrap_or_default();
            vec![report.domain.to_string(), report.tenant.to_string(), headline(report).to_owned(), since]
        };
        context.print_table(&["domain", "tenant", "health", "since"], reports.iter().map(row).collect())?;
    }
    if !follow {
        return Ok(());
    }
    loop {
        match log.next_line()? {
            Some(line) => change(context, only, &line)?,
            None => std::thread::sleep(LOOK),
        }
    }
}

/// Prints a line of the log that says a domain's health changed.
fn change(context: &Context, only: Option<&Domain>, line: &[u8]) -> Outcome {
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(line) else { return Ok(()) };
    let says = |field: &str| record.get(field).and_then(serde_json::Value::as_str).unwrap_or_default();
    let meant = says("type") == "health" && only.is_none_or(|only| says("domain") == only.as_str());
    if meant { super::log::print(context, &record, line) } else { Ok(()) }
}
