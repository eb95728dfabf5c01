//! `sandbox`: the whole journey of a message in one process.

use serde_json::json;

use super::output::{Context, Failure, Outcome};
use crate::sandbox::client::{Form, Method};
use crate::sandbox::journey::Step;
use crate::sandbox::{Sight, run as play};

/// What `sandbox` is told.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// End when the message has arrived; exit 0 only if it did with dkim=pass, spf=pass and dmarc=pass.
    #[arg(long)]
    once: bool,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut closed = Ok(());
    let passed = runtime.block_on(play(args.once, &mut |sight| {
        if closed.is_ok() {
            closed = show(context, &sight);
        }
    }));
    let passed = passed.map_err(|trouble| Failure::Bad(trouble.to_string()))?;
    closed?;
    // Whoever ends it by hand has seen what there was to see.
    if passed || !args.once {
        Ok(())
    } else {
        Err(Failure::Bad("the message did not arrive with all three passing".to_owned()))
    }
}

fn show(context: &Context, sight: &Sight<'_>) -> Outcome {
    match sight {
        Sight::Step(step) if context.json => context.print_json(&json!({"v": 1, "event": step})),
        Sight::Step(step) => context.print(line(step)),
        Sight::Open { forms, login, domain, certificate, config, mail } if context.json => {
            let servers: Vec<_> = forms
                .iter()
                .map(|form| json!({"method": name(form.method), "server": form.server}))
                .collect();
            context.print_json(&json!({
                "v": 1, "servers": servers, "username": login.0, "password": login.1, "from_domain": domain,
                "certificate": certificate, "config": config, "mail": mail,
            }))
        }
        Sight::Open { forms, login, domain, certificate, config, mail } => {
            context.print("Custom SMTP server, for a platform or a client of yours:\n")?;
            for form in *forms {
                context.print(format_args!("  {}", door(form)))?;
            }
            context.print(format_args!(
                "\n  User name    {}\n  Password     {}\n  From         anybody@{domain}\n  To           anybody: all mail ends at the sandbox's exchanger\n  \
                 Certificate  {}\n  Arrived mail {}\n  Commands     waxseal --config {} queue list\n\nControl-C ends it.\n",
                login.0, login.1, certificate.display(), mail.display(), config.display(),
            ))
        }
    }
}

/// One step: time, step, id, words.
fn line(step: &Step) -> String {
    let time = step.ts.utc().to_string();
    let clock = time.split_once('T').map_or(time.as_str(), |(_, clock)| clock);
    let text: String = step.text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{clock} {:<9} {:<26} {text}", step.step, step.id.as_deref().unwrap_or("-"))
}

/// One line of the form.
fn door(form: &Form) -> String {
    let how = match form.method {
        Method::None => "clear text; no login is needed from this machine",
        Method::Tls => "STARTTLS, then login",
        Method::Ssl => "TLS from the first octet, then login",
    };
    format!("{:<4} {:<22} {how}", name(form.method), form.server)
}

fn name(method: Method) -> &'static str {
    match method {
        Method::None => "None",
        Method::Tls => "TLS",
        Method::Ssl => "SSL",
    }
}
