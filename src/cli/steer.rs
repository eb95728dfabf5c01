//! `status`, `reload`, `drain`: what is asked of the running daemon.

use super::ask::Daemon;
use super::output::{Context, Failure, Outcome};
use crate::control::wire::{Done, Site, Status};

/// What `status` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exits 1 when the daemon runs and something is wrong.\n\nExamples:\n  waxseal status\n  waxseal status --json | jq .queue"
)]
pub struct StatusArgs {}

/// What `reload` is told.
#[derive(clap::Args, Debug)]
#[command(after_help = "A bad file leaves everything as it was, and is named.\n\nExample:\n  waxseal reload")]
pub struct ReloadArgs {}

/// What `drain` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The same as SIGTERM: nothing new is taken, what is in flight gets 30 s, the rest stays queued.\n\nExample:\n  waxseal drain"
)]
pub struct DrainArgs {}

pub(super) fn status(context: &Context, _args: StatusArgs) -> Outcome {
    let status: Status = Daemon::of(&context.load_config()?).get("/v1/status")?;
    if context.json {
        context.print_json(&status)?;
    } else {
        print(context, &status)?;
    }
    status.trouble.map_or(Ok(()), |trouble| Err(Failure::Bad(trouble)))
}

fn print(context: &Context, status: &Status) -> Outcome {
    let about = &status.about;
    let listeners: Vec<String> = about.listeners.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        ("daemon", format!("{} {} (pid {})", about.phase, about.version, about.pid)),
        ("hostname", about.hostname.clone()),
        ("since", about.started.clone()),
        ("listeners", listeners.join(" ")),
        ("configuration", about.config.display().to_string()),
        ("mail log", about.log.display().to_string()),
        ("tenants", about.tenants.to_string()),
        ("sessions", status.sessions.to_string()),
    ];
    if let Some(queue) = &status.queue {
        let held = format!("{} held, {} under way", queue.held, queue.active);
        rows.push(("queue", format!("{} messages, {} recipients, {held}", queue.messages, queue.recipients)));
        rows.push(("journal", format!("{} octets, {} live", queue.journal_bytes, queue.live_bytes)));
    }
    rows.extend(
        status.sites.iter().filter(|site| site.rests_until.is_some()).map(|site| ("resting", rest(site))),
    );
    rows.extend(about.reload_error.clone().map(|error| ("last reload", format!("refused: {error}"))));
    rows.extend(status.trouble.clone().map(|trouble| ("trouble", trouble)));
    for (name, value) in rows {
        context.print(format_args!("{name:14} {value}"))?;
    }
    Ok(())
}

/// A site at rest, in a line.
fn rest(site: &Site) -> String {
    let (until, reason) = (site.rests_until.as_deref(), site.reason.as_deref());
    let last = site.last.as_deref().map(|last| format!(": {last}")).unwrap_or_default();
    format!("{} until {} ({}){last}", site.site, until.unwrap_or_default(), reason.unwrap_or_default())
}

pub(super) fn reload(context: &Context, _args: ReloadArgs) -> Outcome {
    order(context, "/v1/reload")
}

pub(super) fn drain(context: &Context, _args: DrainArgs) -> Outcome {
    order(context, "/v1/drain")
}

fn order(context: &Context, path: &str) -> Outcome {
    let done: Done = Daemon::of(&context.load_config()?).post(path, &())?;
    if context.json { context.print_json(&done) } else { context.print(&done.done) }
}
