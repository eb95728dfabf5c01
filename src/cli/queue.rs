//! `queue`: list, show, cat and summary; retry, hold, release, bounce and drop.

use std::collections::BTreeMap;

use super::ask::Daemon;
use super::filter::Selector;
use super::output::{Context, Failure, Outcome};
use crate::control::wire::{Act, Row, Rows, Shown};
use crate::mail::deliver_by::{DeliverBy, Mode};
use crate::mail::id::Id;
use crate::mail::meaning::Reason;
use crate::maillog::view::clean;
use crate::queue::store::{Action, Filter, StateName};

/// Legs that a summary counts at most.
const SUMMARY_MAX: usize = 100_000;

/// The verbs of `queue`.
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// List what is queued, oldest first.
    #[command(
        after_help = "Examples:\n  waxseal queue list\n  waxseal queue list --domain example.com --state deferred\n  waxseal queue list --json --older-than 2h | jq -r .id"
    )]
    List(Selector),
    /// Show one message: what was decided, its headers, what it waits for.
    #[command(after_help = "Example:\n  waxseal queue show 01JD7K2M8A9ZP0Q3R5T7V9X1Y3")]
    Show(One),
    /// Print one message as it leaves. The mail log keeps who read it.
    #[command(after_help = "Example:\n  waxseal queue cat 01JD7K2M8A9ZP0Q3R5T7V9X1Y3 > message.eml")]
    Cat(One),
    /// Count by destination.
    #[command(after_help = "Examples:\n  waxseal queue summary\n  waxseal queue summary --tenant acme")]
    Summary(Selector),
    /// Attempt now.
    #[command(
        after_help = "Examples:\n  waxseal queue retry 01JD7K2M8A9ZP0Q3R5T7V9X1Y3\n  waxseal queue retry --domain example.com"
    )]
    Retry(Selector),
    /// Park until released.
    #[command(after_help = "Example:\n  waxseal queue hold --tenant acme --because 'asked by phone'")]
    Hold(Because),
    /// Let parked mail go.
    #[command(
        after_help = "Examples:\n  waxseal queue release --tenant acme\n  waxseal queue release --cause seal --from-domain example.com"
    )]
    Release(Selector),
    /// Give up now: the tenant is told.
    #[command(
        after_help = "Example:\n  waxseal queue bounce --to nobody@example.com --because 'the mailbox is gone'"
    )]
    Bounce(Because),
    /// Remove without telling anybody but the mail log.
    #[command(after_help = "Example:\n  waxseal queue drop 01JD7K2M8A9ZP0Q3R5T7V9X1Y3")]
    Drop(Selector),
}

/// One message.
#[derive(clap::Args, Debug)]
pub struct One {
    /// Its queue id.
    pub id: Id,
}

/// Messages, and why.
#[derive(clap::Args, Debug)]
pub struct Because {
    #[command(flatten)]
    selector: Selector,
    /// Why, for the listing and for whoever is told.
    #[arg(long, value_name = "TEXT", default_value = "by the administrator")]
    because: String,
}

/// Runs it.
pub(super) fn run(context: &Context, verb: Verb) -> Outcome {
    let daemon = || context.load_config().map(|config| Daemon::of(&config));
    match verb {
        Verb::List(selector) => list(context, &daemon()?, &selector),
        Verb::Show(one) => show(context, &daemon()?, one.id),
        Verb::Cat(one) => cat(context, &daemon()?, one.id),
        Verb::Summary(selector) => summary(context, &daemon()?, &selector),
        Verb::Retry(selector) => act(context, &selector, Action::Retry),
        Verb::Hold(Because { selector, because }) => {
            act(context, &selector, Action::Hold { reason: because })
        }
        Verb::Release(selector) => act(context, &selector, Action::Release),
        Verb::Bounce(Because { selector, because }) => {
            act(context, &selector, Action::Bounce { reason: because })
        }
        Verb::Drop(selector) => act(context, &selector, Action::Drop),
    }
}

fn list(context: &Context, daemon: &Daemon, selector: &Selector) -> Outcome {
    let found: Rows = daemon.post("/v1/queue/list", &selector.filter())?;
    print(context, &found.rows)?;
    if found.more {
        context.note(format_args!("only the first {} are shown; --limit N shows more", found.rows.len()));
    }
    Ok(())
}

fn print(context: &Context, rows: &[Row]) -> Outcome {
    if context.json {
        return rows.iter().try_for_each(|row| context.print_json(row));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let header = ["ID", "TENANT", "STATE", "TRIES", "NEXT", "FROM", "TO", "CAUSE", "REASON"];
    let cells = rows.iter().map(|row| {
        vec![
            row.id.to_string(),
            row.tenant.to_string(),
            name(row.state).to_owned(),
            row.attempts.to_string(),
            row.next_attempt.clone().unwrap_or_else(|| "-".to_owned()),
            clean(&format!("<{}>", row.from)),
            clean(&row.to.join(",")),
            row.reason_class.map_or("-", Reason::name).to_owned(),
            clean(row.reason.as_deref().unwrap_or("-")),
        ]
    });
    context.print_table(&header, cells.collect())
}

fn name(state: StateName) -> &'static str {
    match state {
        StateName::Due => "due",
        StateName::Deferred => "deferred",
        StateName::Active => "active",
        StateName::Held => "held",
    }
}

/// Prints a message whole, and says so where its class hides something.
fn cat(context: &Context, daemon: &Daemon, id: Id) -> Outcome {
    let shown: Shown = daemon.get(&format!("/v1/message/{id}"))?;
    if let (Some(class), false) = (&shown.facts.class, shown.hidden.is_empty()) {
        let hidden = shown.hidden.join(" and ");
        context.note(format_args!(
            "class {} hides {hidden}: what follows is its recipient's secret; keep it from logs and tickets",
            class.name
        ));
    }
    context.print_bytes(&daemon.bytes(&format!("/v1/message/{id}/raw"))?)
}

fn show(context: &Context, daemon: &Daemon, id: Id) -> Outcome {
    let shown: Shown = daemon.get(&format!("/v1/message/{id}"))?;
    if context.json {
        return context.print_json(&shown);
    }
    let facts = &shown.facts;
    let from = facts.envelope.from.as_ref().map(ToString::to_string).unwrap_or_default();
    let login = facts.login.as_deref().unwrap_or("none (by network)");
    let class = facts
        .class
        .as_ref()
        .map_or_else(|| "none".to_owned(), |class| format!("{} (by {})", class.name, class.by));
    for (name, value) in [
        ("id", facts.id.to_string()),
        ("tenant", facts.tenant.to_string()),
        ("login", login.to_owned()),
        ("class", class),
        ("priority", format!("{} ({} lane)", facts.priority, facts.lane.name())),
        ("from", format!("<{from}>")),
        ("received", facts.received.utc().to_string()),
        ("expires", facts.expires.utc().to_string()),
        ("deliver by", facts.deliver_by.as_ref().map_or_else(|| "any time".to_owned(), by)),
        ("size", facts.size.to_string()),
    ] {
        context.print(format_args!("{name:10} {}", clean(&value)))?;
    }
    context.print("")?;
    print(context, &shown.legs)?;
    for leg in &shown.legs {
        if let Some(todo) = todo(leg) {
            context.print(format_args!("{}: {todo}", clean(&leg.to.join(","))))?;
        }
    }
    context.print("")?;
    if !shown.hidden.is_empty() {
        context.note(format_args!("not shown, because of the class: {}", shown.hidden.join(", ")));
    }
    shown.headers.lines().try_for_each(|line| context.print(clean(line)))
}

/// By when its sender wants it, and what happens then.
fn by(by: &DeliverBy) -> String {
    let then = match by.mode {
        Mode::Return => "then it fails",
        Mode::Notify => "then its sender is told, and it is tried further",
    };
    format!("{} ({}): {then}", by.at.utc(), by.letters())
}

/// What a leg's last reply came to, whose job it is and what to do, as a sentence.
pub(super) fn todo(leg: &Row) -> Option<String> {
    let (reason, whose, advice) = (leg.reason_class?, leg.whose?, leg.advice.as_deref()?);
    Some(format!("{} ({}): {}", reason.name(), whose.name(), clean(advice)))
}

fn summary(context: &Context, daemon: &Daemon, selector: &Selector) -> Outcome {
    let mut filter = selector.filter();
    filter.limit = Some(filter.limit.unwrap_or(SUMMARY_MAX));
    let found: Rows = daemon.post("/v1/queue/list", &filter)?;
    let mut counts: BTreeMap<(String, String), Count> = BTreeMap::new();
    for row in &found.rows {
        let key = (row.tenant.to_string(), row.destination.to_string());
        counts.entry(key).or_default().add(row);
    }
    if found.more {
        context.note(format_args!("only the {} oldest are counted", found.rows.len()));
    }
    if context.json {
        return counts.iter().try_for_each(|((tenant, destination), count)| {
            context.print_json(&serde_json::json!({
                "v": 1, "tenant": tenant, "destination": destination, "recipients": count.recipients,
                "due": count.due, "deferred": count.deferred, "active": count.active, "held": count.held,
                "oldest": count.oldest,
            }))
        });
    }
    let header = ["TENANT", "DESTINATION", "RECIPIENTS", "DUE", "DEFERRED", "ACTIVE", "HELD", "OLDEST"];
    let cells = counts.into_iter().map(|((tenant, destination), count)| {
        let numbers = [count.recipients, count.due, count.deferred, count.active, count.held];
        let mut row = vec![tenant, clean(&destination)];
        row.extend(numbers.iter().map(ToString::to_string));
        row.push(count.oldest);
        row
    });
    context.print_table(&header, cells.collect())
}

/// What a summary says of one destination.
#[derive(Default)]
struct Count {
    recipients: usize,
    due: usize,
    deferred: usize,
    active: usize,
    held: usize,
    oldest: String,
}

impl Count {
    fn add(&mut self, row: &Row) {
        self.recipients += row.to.len();
        match row.state {
            StateName::Due => self.due += 1,
            StateName::Deferred => self.deferred += 1,
            StateName::Active => self.active += 1,
            StateName::Held => self.held += 1,
        }
        if self.oldest.is_empty() || row.received < self.oldest {
            self.oldest.clone_from(&row.received);
        }
    }
}

/// Changes what is selected; an id that is not there is a failure, an empty selection is not.
fn act(context: &Context, selector: &Selector, action: Action) -> Outcome {
    let mut order = Act { filter: selector.filter_or_all()?, action };
    let named = !order.filter.ids.is_empty();
    let daemon = Daemon::of(&context.load_config()?);
    let (mut done, mut shown) = (0, Ok(()));
    let ended = loop {
        let page: Rows = match daemon.post("/v1/queue/act", &order) {
            Ok(page) => page,
            Err(failure) => break Err(failure),
        };
        done += page.rows.len();
        // Nobody who reads along is no reason to leave the rest undone.
        if context.json && shown.is_ok() {
            shown = page.rows.iter().try_for_each(|row| context.print_json(row));
        }
        if !goes_on(&mut order.filter, &page) {
            break Ok(());
        }
    };
    if ended.is_ok() || done > 0 {
        context.note(format_args!("{done} done"));
    }
    ended.and(shown)?;
    if named && done == 0 {
        return Err(Failure::NotFound(
            "none of these is in the queue, or an attempt is under way".to_owned(),
        ));
    }
    Ok(())
}

/// Lets a command go on behind a page of it; answers whether it has to.
fn goes_on(filter: &mut Filter, page: &Rows) -> bool {
    let Some(last) = page.rows.last().filter(|_| page.more) else { return false };
    filter.after = Some(last.id);
    filter.limit = filter.limit.map(|limit| limit.saturating_sub(page.rows.len()));
    true
}
