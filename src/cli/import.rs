//! `key import`: a PEM file, or the keys of an OpenDKIM, as a plan that `--apply` carries out.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::domain::{directory, parse};
use super::key::{check_selector, keyring};
use super::output::{Context, Failure, Outcome};
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::seal::opendkim::{self, Plan, Take};
use crate::seal::{Keyring, stages};

/// What is taken over.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The key's domain.
    #[arg(required_unless_present = "opendkim_keytable", requires = "file")]
    domain: Option<String>,
    /// The selector that its record is published at.
    #[arg(long, value_name = "S", requires = "domain")]
    selector: Option<String>,
    /// The private key: PKCS#8 or PKCS#1, RSA or Ed25519.
    #[arg(long, value_name = "PEM", requires = "selector")]
    file: Option<PathBuf>,
    /// OpenDKIM's KeyTable.
    #[arg(long, value_name = "FILE", conflicts_with = "domain", requires = "opendkim_signingtable")]
    opendkim_keytable: Option<PathBuf>,
    /// OpenDKIM's SigningTable.
    #[arg(long, value_name = "FILE", requires = "opendkim_keytable")]
    opendkim_signingtable: Option<PathBuf>,
    /// Do what the plan says.
    #[arg(long, requires = "opendkim_keytable")]
    apply: bool,
}

/// How it stands with one key of the plan.
enum Stands {
    /// It can be taken, or was.
    Good,
    /// It is here already.
    Here,
    /// It cannot be taken.
    Bad(String),
}

/// Runs it.
pub(super) fn run(context: &Context, config: &Config, args: Args) -> Outcome {
    match args {
        Args { domain: Some(domain), selector: Some(selector), file: Some(file), .. } => {
            pem(context, config, (&parse(&domain)?, &selector), &file)
        }
        Args { opendkim_keytable: Some(keys), opendkim_signingtable: Some(signing), apply, .. } => {
            opendkim(context, config, (&keys, &signing), apply)
        }
        Args { .. } => Err(Failure::Usage(
            "name a DOMAIN with --selector and --file, or OpenDKIM's two tables".to_owned(),
        )),
    }
}

fn pem(context: &Context, config: &Config, (domain, selector): (&Domain, &str), file: &Path) -> Outcome {
    check_selector(selector)?;
    if keyring(config)?.keys(domain).iter().any(|key| key.selector == selector) {
        return Err(Failure::Bad(format!("{domain} has a key at {selector} already; nothing was changed")));
    }
    stages::import(&config.keys, (domain, selector), file, Clock::System.now())?;
    let shown = if context.json {
        context.print_json(&json!({"v": 1, "domain": domain, "selector": selector}))
    } else {
        Ok(())
    };
    context.note(format_args!("{domain} has the key {selector}; it signs once its record is seen in DNS"));
    context.tell_daemon(config)?;
    shown
}

fn opendkim(context: &Context, config: &Config, (keys, signing): (&Path, &Path), apply: bool) -> Outcome {
    let base = keys.parent().unwrap_or(Path::new("."));
    let plan = opendkim::plan(&text(keys)?, &text(signing)?, base);
    let ring = keyring(config)?;
    let stood: Vec<(&Take, Stands)> =
        plan.take.iter().map(|take| (take, stands(config, &ring, take, apply))).collect();
    // The daemon is told also where nobody reads our output any more.
    let shown = print_plan(context, &plan, &stood, apply);
    let owned = directory(config)?;
    for take in
        plan.take.iter().filter(|take| !owned.tenants().any(|tenant| tenant.owns(&take.domain).is_some()))
    {
        context
            .note(format_args!("{0} is no tenant's yet: waxseal domain add {0} --tenant NAME", take.domain));
    }
    if apply {
        context.tell_daemon(config)?;
    } else {
        context.note("nothing was changed; the same with --apply does it");
    }
    shown?;
    let bad = stood.iter().filter(|(_, stands)| matches!(stands, Stands::Bad(_))).count();
    if bad > 0 {
        return Err(Failure::Bad(format!("{bad} of {} keys cannot be taken over", plan.take.len())));
    }
    Ok(())
}

fn text(file: &Path) -> Result<String, Failure> {
    let text = std::fs::read(file).map_err(|error| Failure::Bad(format!("{}: {error}", file.display())))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn stands(config: &Config, ring: &Keyring, take: &Take, apply: bool) -> Stands {
    let public = match stages::look_at(&take.file) {
        Ok(public) => public,
        Err(error) => return Stands::Bad(error.to_string()),
    };
    if let Some(here) = ring.keys(&take.domain).iter().find(|key| key.selector == take.selector) {
        let same = here.public == public;
        let other = "another key is at this selector here; it is not overwritten";
        return if same { Stands::Here } else { Stands::Bad(other.to_owned()) };
    }
    if !apply {
        return Stands::Good;
    }
    let place = (&take.domain, take.selector.as_str());
    match stages::import(&config.keys, place, &take.file, Clock::System.now()) {
        Ok(_) => Stands::Good,
        Err(error) => Stands::Bad(error.to_string()),
    }
}

fn print_plan(context: &Context, plan: &Plan, stood: &[(&Take, Stands)], apply: bool) -> Outcome {
    stood.iter().try_for_each(|(take, stands)| print_take(context, take, stands, apply))?;
    for left in &plan.left {
        if context.json {
            context.print_json(&json!({"v": 1, "do": "leave", "place": left.place, "why": left.why}))?;
        } else {
            context.print(format_args!("leave  {}: {}", left.place, left.why))?;
        }
    }
    Ok(())
}

fn print_take(context: &Context, take: &Take, stands: &Stands, apply: bool) -> Outcome {
    let (word, why) = match stands {
        Stands::Good if apply => ("taken", None),
        Stands::Good => ("take", None),
        Stands::Here => ("here", Some("it is here already".to_owned())),
        Stands::Bad(why) => ("leave", Some(why.clone())),
    };
    if context.json {
        return context.print_json(&json!({
            "v": 1, "do": word, "domain": take.domain, "selector": take.selector, "file": take.file,
            "notes": take.notes, "why": why,
        }));
    }
    let Take { domain, selector, file, notes } = take;
    context.print(format_args!("{word:<6} {domain} {selector} {}", file.display()))?;
    let notes = notes.iter().chain(&why).map(|note| format!("       {note}"));
    notes.into_iter().try_for_each(|note| context.print(note))
}
