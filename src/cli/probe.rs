//! `domain probe`: a message by the tenant's real route back to ourselves, and what a receiver finds in it.

use std::time::Duration;

use super::ask::Daemon;
use super::output::{Context, Failure, Outcome};
use crate::config::Config;
use crate::control::wire::{Probe, Probed};
use crate::inbound::probe::{Change, Difference, Found};
use crate::maillog::view::clean;

/// What `domain probe` is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The From domain.
    domain: String,
    /// How long to wait for it: 30s, 5m.
    #[arg(long, value_name = "AGE", default_value = "60s", value_parser = super::filter::age)]
    timeout: Duration,
}

/// Runs it. Exits 0 only if the probe arrived and DMARC passes.
pub(super) fn run(context: &Context, config: &Config, args: &Args) -> Outcome {
    let domain = super::domain::parse(&args.domain)?;
    let timeout = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX);
    let probed: Probed = Daemon::of(config).post("/v1/domain/probe", &Probe { domain, timeout })?;
    if context.json {
        context.print_json(&probed)?;
    } else {
        print(context, &probed)?;
    }
    match &probed.found {
        Some(found) if found.verdict.dmarc == "pass" => Ok(()),
        Some(found) => Err(Failure::Bad(format!("receivers find dmarc={}", clean(&found.verdict.dmarc)))),
        None => Err(Failure::Bad(clean(probed.trouble.as_deref().unwrap_or("the probe did not arrive")))),
    }
}

fn print(context: &Context, probed: &Probed) -> Outcome {
    let row = |name: &str, value: &str| context.print(format_args!("{name:10} {}", clean(value)));
    row("message", &probed.id.to_string())?;
    row("to", &probed.to)?;
    row("route", &probed.route)?;
    let Some(found) = &probed.found else { return Ok(()) };
    for (name, value) in rows(probed, found) {
        row(name, &value)?;
    }
    for line in changes(&found.difference) {
        row("changed", &line)?;
    }
    if let Some(also) = &probed.trouble {
        context.note(clean(also));
    }
    Ok(())
}

/// What was found, a line each.
fn rows(probed: &Probed, found: &Found) -> Vec<(&'static str, String)> {
    let verdict = &found.verdict;
    let from = format!("<{}>", found.from);
    let mut rows = vec![("dkim", verdict.dkim.clone())];
    rows.extend(found.signatures.iter().map(|one| {
        let why = if one.why.is_empty() { String::new() } else { format!(" ({})", one.why) };
        ("", format!("d={} s={} a={}: {}{why}", one.domain, one.selector, one.algorithm, one.result))
    }));
    rows.push(("spf", format!("{} for MAIL FROM:{from}", verdict.spf)));
    rows.push(("dmarc", verdict.dmarc.clone()));
    let tls = found
        .tls
        .as_ref()
        .map_or_else(|| "in clear text".to_owned(), |tls| format!("by {} {}", tls.version, tls.cipher));
    rows.push(("came", format!("from {}[{}] {tls}, {} ms", found.helo, found.peer, probed.ms)));
    rows
}

fn changes(difference: &Difference) -> Vec<String> {
    let marked =
        |text: String, breaks: bool| if breaks { format!("{text}: BREAKS THE SIGNATURE") } else { text };
    let mut lines: Vec<String> = difference
        .headers
        .iter()
        .map(|one| {
            let word = match one.change {
                Change::Added => "added",
                Change::Removed => "removed",
                Change::Changed => "changed",
            };
            marked(format!("header {} {word}", one.name), one.breaks)
        })
        .collect();
    lines.extend(difference.body.map(|body| {
        let text = format!("body from line {}: {} octets became {}", body.line, body.sealed, body.arrived);
        marked(text, body.breaks)
    }));
    lines
}
