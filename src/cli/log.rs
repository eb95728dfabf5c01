//! `log`: tail and search. Reads the files; no daemon is needed.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::filter::Selector;
use super::output::{Context, Failure, Outcome};
use crate::maillog::tail::{Follow, files, scan};
use crate::maillog::view;

/// Between two looks at the end of the log.
const LOOK: Duration = Duration::from_millis(200);

/// The verbs of `log`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Show the last events, and go on showing them.
    #[command(
        after_help = "Examples:\n  waxseal log tail\n  waxseal log tail --tenant acme --type bounced\n  waxseal log tail --no-follow --lines 100 --json"
    )]
    Tail(Tail),
    /// Show the events that match, in the log in use and in those rotated beside it.
    #[command(
        after_help = "Examples:\n  waxseal log search --to someone@example.com\n  waxseal log search --domain example.com --type deferred --since 2h --json"
    )]
    Search(Search),
}

/// What `log tail` is told.
#[derive(clap::Args, Debug)]
pub struct Tail {
    #[command(flatten)]
    events: Events,
    /// How many of the last lines to look at first.
    #[arg(long, short = 'n', default_value_t = 10)]
    lines: usize,
    /// End at the end of the log.
    #[arg(long)]
    no_follow: bool,
}

/// What `log search` is told.
#[derive(clap::Args, Debug)]
pub struct Search {
    #[command(flatten)]
    events: Events,
    /// Not older than this: 90s, 15m, 2h, 1d.
    #[arg(long, value_name = "AGE", value_parser = super::filter::age)]
    since: Option<Duration>,
}

/// Which events.
#[derive(clap::Args, Debug)]
pub(super) struct Events {
    #[command(flatten)]
    selector: Selector,
    /// Events of this type (may be repeated): received, delivered, deferred, bounced, ...
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    match verb {
        Verb::Tail(args) => tail(context, &args),
        Verb::Search(args) => search(context, &args),
    }
}

fn tail(context: &Context, args: &Tail) -> Outcome {
    let path = context.load_config()?.log.path;
    let opened = Follow::open(&path, args.lines);
    let (mut log, last) = opened.map_err(|error| unreadable(&path, &error))?;
    for line in &last {
        show(context, &args.events, line)?;
    }
    if args.no_follow {
        return Ok(());
    }
    loop {
        match log.next_line()? {
            Some(line) => show(context, &args.events, &line)?,
            None => std::thread::sleep(LOOK),
        }
    }
}

fn search(context: &Context, args: &Search) -> Outcome {
    let path = context.load_config()?.log.path;
    let now = crate::clock::Clock::System.now();
    let edge = |age: Duration| {
        let ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        crate::mail::time::Time(now.0.saturating_sub(ms)).utc().to_string()
    };
    let since = args.since.map(edge);
    let until = args.events.selector.older_than.map(edge);
    let most = args.events.selector.limit.unwrap_or(usize::MAX);
    let mut outcome = Ok(0);
    for file in files(&path).map_err(|error| unreadable(&path, &error))? {
        let more = scan(&file, |line| {
            let found = one(context, &args.events, line, (since.as_deref(), until.as_deref()));
            outcome = match (&outcome, found) {
                (Ok(count), Ok(shown)) => Ok(count + usize::from(shown)),
                (_, Err(failure)) => Err(failure),
                (Err(_), Ok(_)) => return false,
            };
            matches!(outcome, Ok(count) if count < most)
        });
        if !more.map_err(|error| unreadable(&file, &error))? {
            break;
        }
    }
    outcome.map(drop)
}

/// Shows a line if it matches and lies between the edges; times of one form compare as texts.
fn one(
    context: &Context,
    events: &Events,
    line: &[u8],
    (since, until): (Option<&str>, Option<&str>),
) -> Result<bool, Failure> {
    let Some(record) = events.matching(line) else { return Ok(false) };
    let at = record.get("ts").and_then(Value::as_str).unwrap_or_default();
    if since.is_some_and(|since| at < since) || until.is_some_and(|until| at > until) {
        return Ok(false);
    }
    print(context, &record, line)?;
    Ok(true)
}

fn show(context: &Context, events: &Events, line: &[u8]) -> Outcome {
    events.matching(line).map_or(Ok(()), |record| print(context, &record, line))
}

/// Prints a record: as it stands in the log, or for a person.
pub(super) fn print(context: &Context, record: &Value, line: &[u8]) -> Outcome {
    if context.json { context.print_bytes(line) } else { context.print(view::line(record)) }
}

pub(super) fn unreadable(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Bad(format!("{}: {error}", path.display()))
}

impl Events {
    /// The record, if it is meant. A line that is no record (torn by a crash) never is.
    fn matching(&self, line: &[u8]) -> Option<Value> {
        let record: Value = serde_json::from_slice(line).ok()?;
        let wanted =
            |types: &[String]| types.is_empty() || types.iter().any(|kind| is(&record, "type", kind));
        (wanted(&self.types) && self.selector.matches(&record)).then_some(record)
    }
}

impl Selector {
    /// Whether a record of the mail log is meant.
    fn matches(&self, record: &Value) -> bool {
        let ids: Vec<String> = self.filter().ids.iter().map(ToString::to_string).collect();
        let same =
            |field: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|w| is(record, field, w));
        let from = self.filter().from;
        (ids.is_empty() || ids.iter().any(|id| is(record, "id", id)))
            && same("tenant", &self.tenant)
            && same("class", &self.class)
            && same("from", &from)
            && self.from_domain.as_ref().is_none_or(|domain| {
                record.get("header_from").and_then(Value::as_str).is_some_and(|from| is_at(from, domain))
            })
            && self.to.as_ref().is_none_or(|to| named(record, |named| named.eq_ignore_ascii_case(to)))
            && self.domain.as_ref().is_none_or(|domain| named(record, |named| is_at(named, domain)))
            && self.reason.as_ref().is_none_or(|text| says(record, text))
    }
}

fn is(record: &Value, field: &str, wanted: &str) -> bool {
    record.get(field).and_then(Value::as_str).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
}

/// Whether one of the recipients named passes.
fn named(record: &Value, pass: impl Fn(&str) -> bool) -> bool {
    match record.get("to") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).any(pass),
        Some(Value::String(one)) => pass(one),
        _ => false,
    }
}

fn is_at(address: &str, domain: &str) -> bool {
    address.rsplit_once('@').is_some_and(|(_, own)| own.eq_ignore_ascii_case(domain))
}

fn says(record: &Value, text: &str) -> bool {
    let said = [record.pointer("/reply/text"), record.get("reason"), record.get("reason_class")];
    said.into_iter().flatten().filter_map(Value::as_str).any(|said| said.contains(text))
}
