//! `tenant test`: the Connect button towards a tenant's next hop, with everything that was said.

use std::time::Instant;

use serde_json::json;

use super::ask::wait;
use super::output::{Context, Failure, Outcome};
use crate::config::Config;
use crate::deliver::reach::Reach;
use crate::deliver::trial::{Line, Speaker, Trial};
use crate::dns::Resolver;
use crate::mail::address::Domain;
use crate::maillog::view::clean;
use crate::tenant::Tenant;

/// What `tenant test` is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Whose next hop.
    pub name: String,
    /// Of a tenant whose mail goes to the recipients' exchangers: the domain whose exchanger is greeted.
    #[arg(long, value_name = "DOMAIN", default_value = "gmail.com")]
    to: Domain,
}

/// Runs it. Exits 0 only if a delivery would get as far as MAIL.
pub(super) fn run(context: &Context, config: &Config, tenant: &Tenant, args: &Args) -> Outcome {
    let began = Instant::now();
    let resolver = Resolver::new(&config.dns).map_err(|error| Failure::Bad(error.to_string()))?;
    let reach = Reach::new(config, resolver);
    let trial = wait(Box::pin(reach.try_route(tenant, &args.to)))?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if context.json {
        context.print_json(&value(tenant, &trial, ms))?;
    } else {
        print(context, &trial)?;
    }
    match (&trial.trouble, trial.meaning()) {
        (Some(trouble), Some(meaning)) => {
            let (name, whose) = (meaning.reason.name(), meaning.whose.name());
            let said = clean(&trouble.reply.escaped());
            Err(Failure::Bad(format!("{said}\n{name} ({whose}): {}", meaning.advice)))
        }
        _ => {
            context.note(works(&trial));
            Ok(())
        }
    }
}

fn print(context: &Context, trial: &Trial) -> Outcome {
    trial.transcript.iter().try_for_each(|Line { who, text }| {
        let mark = match who {
            Speaker::Us => "->",
            Speaker::Them => "<-",
            Speaker::Note => "--",
        };
        context.print(format_args!("{mark} {}", clean(text)))
    })
}

fn works(trial: &Trial) -> String {
    let tls = match &trial.tls {
        Some(tls) if tls.verified => format!("{} with a verified certificate", tls.version),
        Some(tls) => format!("{} with a certificate that is not verified", tls.version),
        None => "clear text".to_owned(),
    };
    let login = if trial.authenticated { ", user name and password taken" } else { "" };
    format!("it works: {} by {tls}{login}", clean(trial.host.as_deref().unwrap_or("the server")))
}

fn value(tenant: &Tenant, trial: &Trial, ms: u64) -> serde_json::Value {
    let meaning = trial.meaning();
    json!({
        "v": 1,
        "tenant": tenant.name,
        "ok": trial.works(),
        "route": trial.route,
        "host": trial.host,
        "tls": trial.tls,
        "authenticated": trial.authenticated,
        "transcript": trial.transcript,
        "error": trial.trouble.as_ref().map(|trouble| trouble.reply.escaped()),
        "reason_class": meaning.map(|meaning| meaning.reason),
        "whose": meaning.map(|meaning| meaning.whose),
        "advice": meaning.map(|meaning| meaning.advice),
        "ms": ms,
    })
}
