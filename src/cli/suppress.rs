//! `suppress`: whom a tenant's mail no longer goes to: list, add, remove, import and export, through the running daemon.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::ask::Daemon;
use super::output::{Context, Failure, Outcome};
use super::rows;
use crate::clock::Clock;
use crate::control::wire::{Changed, SuppressAdd, SuppressList, SuppressRemove, Suppressed, VERSION};
use crate::mail::address::Address;
use crate::suppress::{Entry, Reason, folded};

/// Entries sent to the daemon at once.
const BATCH: usize = 2_000;

/// The verbs of `suppress`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// List the addresses that a tenant's mail no longer goes to.
    #[command(
        after_help = "Examples:\n  waxseal suppress list --tenant acme\n  waxseal suppress list --tenant acme --reason bounce --json"
    )]
    List(Listing),
    /// Put addresses on a tenant's list.
    #[command(
        after_help = "Examples:\n  waxseal suppress add --tenant acme bob@example.com\n  waxseal suppress add --tenant acme --class program_email --note 'asked by phone' bob@example.com"
    )]
    Add(Adding),
    /// Take addresses off a tenant's list.
    #[command(after_help = "Example:\n  waxseal suppress remove --tenant acme bob@example.com")]
    Remove(Removing),
    /// Put the addresses of a file on a tenant's list: one a line, or CSV as `export` writes it. Nothing is taken if a line is wrong.
    #[command(
        after_help = "Examples:\n  waxseal suppress import --tenant acme unsubscribed.txt\n  waxseal suppress import --tenant acme --reason bounce - < bounces.csv"
    )]
    Import(Importing),
    /// Print a tenant's list as CSV: address, reason, since, class, note.
    #[command(after_help = "Example:\n  waxseal suppress export --tenant acme > acme.csv")]
    Export(Whose),
}

/// Whose list.
#[derive(clap::Args, Debug)]
pub struct Whose {
    /// The tenant.
    #[arg(long, value_name = "NAME")]
    tenant: String,
}

/// What to list.
#[derive(clap::Args, Debug)]
pub struct Listing {
    #[command(flatten)]
    whose: Whose,
    /// Only those that are there for this reason: bounce, complaint, unsubscribe, manual.
    #[arg(long, value_name = "REASON")]
    reason: Option<Reason>,
    /// Only those with this text in the address.
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
}

/// What to add.
#[derive(clap::Args, Debug)]
pub struct Adding {
    #[command(flatten)]
    whose: Whose,
    /// Only mail that is of this class for certain is meant.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Why: bounce, complaint, unsubscribe, manual.
    #[arg(long, value_name = "REASON", default_value = "manual")]
    reason: Reason,
    /// Words for whoever reads the list.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// The addresses.
    #[arg(required = true)]
    addresses: Vec<Address>,
}

/// What to remove.
#[derive(clap::Args, Debug)]
pub struct Removing {
    #[command(flatten)]
    whose: Whose,
    /// The entry that is there for this class.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// The addresses.
    #[arg(required = true)]
    addresses: Vec<Address>,
}

/// What to import.
#[derive(clap::Args, Debug)]
pub struct Importing {
    #[command(flatten)]
    whose: Whose,
    /// The reason of lines that give none: bounce, complaint, unsubscribe, manual.
    #[arg(long, value_name = "REASON", default_value = "manual")]
    reason: Reason,
    /// The file; `-` is standard input.
    file: PathBuf,
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let config = context.load_config()?;
    let daemon = Daemon::of(&config);
    match verb {
        Verb::List(listing) => list(context, &daemon, &listing),
        Verb::Add(adding) => add(context, &daemon, &adding),
        Verb::Remove(removing) => remove(context, &daemon, &removing),
        Verb::Import(importing) => import(context, &daemon, &importing),
        Verb::Export(whose) => {
            context.print(rows::HEADER)?;
            each(&daemon, &whose.tenant, |entry| context.print(rows::write(entry)))
        }
    }
}

fn list(context: &Context, daemon: &Daemon, listing: &Listing) -> Outcome {
    let wanted = |entry: &Entry| {
        listing.reason.is_none_or(|reason| reason == entry.reason)
            && listing.matching.as_ref().is_none_or(|text| entry.address.contains(&text.to_lowercase()))
    };
    each(daemon, &listing.whose.tenant, |entry| match (wanted(entry), context.json) {
        (false, _) => Ok(()),
        (true, true) => context.print_json(&Row::from(entry)),
        (true, false) => context.print(human(entry)),
    })
}

/// An entry as `--json` prints it.
#[derive(serde::Serialize)]
struct Row<'a> {
    v: u8,
    address: &'a str,
    reason: &'static str,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    note: &'a str,
}

impl<'a> From<&'a Entry> for Row<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            v: VERSION,
            address: &entry.address,
            reason: entry.reason.name(),
            since: entry.since.utc().to_string(),
            class: entry.class.as_deref(),
            note: &entry.note,
        }
    }
}

fn human(entry: &Entry) -> String {
    let class = entry.class.as_ref().map(|class| format!(" class={class}")).unwrap_or_default();
    let note = if entry.note.is_empty() { String::new() } else { format!(" ({})", entry.note) };
    let line = format!("{} {}{class} since {}{note}", entry.address, entry.reason.name(), entry.since.utc());
    crate::maillog::view::clean(&line)
}

fn each(daemon: &Daemon, tenant: &str, mut with: impl FnMut(&Entry) -> Outcome) -> Outcome {
    let mut portion = Some(0);
    while let Some(at) = portion {
        let order = SuppressList { tenant: tenant.to_owned(), portion: at };
        let part: Suppressed = daemon.post("/v1/suppress/list", &order)?;
        part.entries.iter().try_for_each(&mut with)?;
        portion = part.next;
    }
    Ok(())
}

fn add(context: &Context, daemon: &Daemon, adding: &Adding) -> Outcome {
    let now = Clock::System.now();
    let entry = |address: &Address| {
        let entry = Entry::new(address, adding.reason, now, &adding.note);
        Entry { class: adding.class.clone(), ..entry }
    };
    let entries = adding.addresses.iter().map(entry).collect();
    send(context, daemon, &adding.whose.tenant, entries)
}

fn remove(context: &Context, daemon: &Daemon, removing: &Removing) -> Outcome {
    let entries: Vec<_> =
        removing.addresses.iter().map(|address| (folded(address), removing.class.clone())).collect();
    let asked = entries.len();
    let order = SuppressRemove { tenant: removing.whose.tenant.clone(), entries };
    let changed: Changed = daemon.post("/v1/suppress/remove", &order)?;
    said(context, &changed, "taken off the list")?;
    if changed.changed < asked {
        let missing = asked - changed.changed;
        return Err(Failure::NotFound(format!("{missing} of {asked} were not on the list")));
    }
    Ok(())
}

fn import(context: &Context, daemon: &Daemon, importing: &Importing) -> Outcome {
    let now = Clock::System.now();
    let entries = match importing.file.as_path() {
        path if path == Path::new("-") => rows::read(io::stdin().lock(), importing.reason, now),
        path => rows::read(open(path)?, importing.reason, now),
    };
    let entries = entries.map_err(|wrong| Failure::Bad(format!("nothing was imported: {wrong}")))?;
    send(context, daemon, &importing.whose.tenant, entries)
}

fn open(path: &Path) -> Result<impl BufRead, Failure> {
    let file = File::open(path).map_err(|error| Failure::Bad(format!("{}: {error}", path.display())))?;
    Ok(BufReader::new(file))
}

fn send(context: &Context, daemon: &Daemon, tenant: &str, entries: Vec<Entry>) -> Outcome {
    let mut total = Changed { v: VERSION, changed: 0 };
    for batch in entries.chunks(BATCH) {
        let order = SuppressAdd { tenant: tenant.to_owned(), entries: batch.to_vec() };
        let changed: Changed = daemon.post("/v1/suppress/add", &order)?;
        total.changed += changed.changed;
    }
    let known = entries.len() - total.changed.min(entries.len());
    if known > 0 {
        context.note(format_args!("{known} were there already"));
    }
    said(context, &total, "put on the list")
}

fn said(context: &Context, changed: &Changed, what: &str) -> Outcome {
    if context.json {
        context.print_json(changed)
    } else {
        context.print(format_args!("{} {what}", changed.changed))
    }
}
