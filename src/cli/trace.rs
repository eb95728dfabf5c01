//! `trace`: what became of one message, from the mail log and, if it still waits, from the queue.

use memchr::memmem::Finder;
use serde_json::Value;

use super::ask::Daemon;
use super::log::{print, unreadable};
use super::output::{Context, Failure, Outcome};
use crate::control::wire::Shown;
use crate::mail::id::Id;
use crate::maillog::tail::{files, scan};
use crate::maillog::view::clean;

/// What `trace` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "The id is in the reply `queued as`, in Received:, and in every line of the mail log.\n\nExamples:\n  waxseal trace 01JD7K2M8A9ZP0Q3R5T7V9X1Y3\n  waxseal trace --json 01JD7K2M8A9ZP0Q3R5T7V9X1Y3 | jq .type"
)]
pub struct Args {
    /// The queue id.
    pub id: Id,
}

/// Runs it.
pub(super) fn run(context: &Context, args: Args) -> Outcome {
    let config = context.load_config()?;
    let id = args.id.to_string();
    let found = read(&config.log.path, &id)?;
    for (record, line) in &found {
        print(context, record, line)?;
    }
    let queued = Daemon::of(&config).get::<Shown>(&format!("/v1/message/{id}"));
    if let (Ok(shown), false) = (&queued, context.json) {
        for leg in &shown.legs {
            let next = leg
                .next_attempt
                .as_deref()
                .map_or_else(|| "held".to_owned(), |at| format!("next attempt {at}"));
            context.note(format_args!("still queued for {}: {next}", clean(&leg.to.join(", "))));
            if let Some(todo) = super::queue::todo(leg) {
                context.note(format_args!("  {todo}"));
            }
        }
    }
    if found.is_empty() && queued.is_err() {
        return Err(Failure::NotFound(format!("{id} is neither in the log nor in the queue")));
    }
    Ok(())
}

/// Every record about the message, with its line, in order.
fn read(path: &std::path::Path, id: &str) -> Result<Vec<(Value, Vec<u8>)>, Failure> {
    let mut found = Vec::new();
    let finder = Finder::new(id.as_bytes());
    for file in files(path).map_err(|error| unreadable(path, &error))? {
        let scanned = scan(&file, |line| {
            if finder.find(line).is_some() {
                found.extend(serde_json::from_slice(line).ok().map(|record: Value| (record, line.to_vec())));
            }
            true
        });
        scanned.map_err(|error| unreadable(&file, &error))?;
    }
    let about = |record: &Value| {
        let told = record.get("about").and_then(Value::as_array);
        record.get("id").and_then(Value::as_str) == Some(id)
            || told.is_some_and(|ids| ids.iter().any(|told| told.as_str() == Some(id)))
    };
    found.retain(|(record, _)| about(record));
    // Two threads may tell of one message in the same millisecond: the order of the file decides.
    found.sort_by(|(one, _), (other, _)| ts(one).cmp(ts(other)));
    Ok(found)
}

fn ts(record: &Value) -> &str {
    record.get("ts").and_then(Value::as_str).unwrap_or_default()
}
