//! The part that people read, and the subject.

use std::fmt::Write as _;

use super::status::{date, status};
use super::{Action, Identity, Notice, Told};
use crate::mail::meaning::Whose;

/// Recipients named in the words for people; the fields for programs name all of them.
const NAMED: usize = 100;

/// The subject names the recipient if it is one.
pub(super) fn subject(notice: &Notice) -> String {
    let what = match notice.action {
        Action::Failed => "Not delivered",
        Action::Delayed => "Delayed",
        Action::Relayed => "Relayed",
    };
    match notice.told.as_slice() {
        [one] => clean(&format!("{what}: {}", recipient(one))),
        many => format!("{what}: {} recipients", many.len()),
    }
}

/// What happened, to whom, and what comes next.
pub(super) fn text(identity: &Identity, notice: &Notice) -> String {
    let mut out = format!("This is the mail relay {}.\n\n{}\n", identity.hostname, lead(notice));
    for told in notice.told.iter().take(NAMED) {
        paragraph(&mut out, notice.action, told);
    }
    if let Some(more) = notice.told.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let _ = write!(out, "\nand {more} more, listed in the report that follows.\n");
    }
    out.push_str(
        "\nThe parts that follow say the same for programs, and return what was asked for of the mail.\n",
    );
    out
}

fn lead(notice: &Notice) -> &'static str {
    match (notice.action, notice.told.len()) {
        (Action::Failed, 1) => "Mail could not be delivered to this recipient. It will not be tried again.",
        (Action::Failed, _) => "Mail could not be delivered to these recipients. It will not be tried again.",
        (Action::Delayed, _) => {
            "Mail has not been delivered yet. It is still being tried; there is no need to send it again."
        }
        (Action::Relayed, _) if notice.told.iter().any(|told| told.facts.deliver_by.is_some()) => {
            "As its sender asked, this confirms that mail was handed on within its time, or after it. Unless the next \
             server offers DELIVERBY or confirms delivery, this is the last that will be heard if it does not fail there."
        }
        (Action::Relayed, _) => {
            "As its sender asked, this confirms that mail was handed on. The next server does not confirm delivery, so \
             this is the last that will be heard unless it fails there."
        }
    }
}

fn paragraph(out: &mut String, action: Action, told: &Told) {
    let facts = &told.facts;
    let from = facts.envelope.from.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string);
    let _ = write!(out, "\n  {}\n    {}\n", clean(&recipient(told)), clean(&said(action, told)));
    if action != Action::Relayed {
        let meaning = told.last.meaning();
        let _ =
            writeln!(out, "    cause: {}; {}: {}", meaning.reason.name(), job(meaning.whose), meaning.advice);
    }
    if action == Action::Delayed {
        let _ = writeln!(out, "    it is tried until {}", date(facts.expires));
    }
    let _ =
        writeln!(out, "    message {}, from {}, accepted {}", facts.id, clean(&from), date(facts.received));
}

/// Whose turn it is, in the words of the notification.
fn job(whose: Whose) -> &'static str {
    match whose {
        Whose::Tenant => "you can mend it",
        Whose::Operator => "the relay's administrator can mend it",
        Whose::Recipient => "the recipient's side can mend it",
        Whose::Nobody => "nothing has to be done",
    }
}

/// Who said what: the remote server, or we.
fn said(action: Action, told: &Told) -> String {
    let last = &told.last;
    let code = status(action, told);
    match (&last.host, last.code) {
        (Some(host), 0) => format!("{host}: {} ({code})", last.text),
        (None, 0) => format!("{} ({code})", last.text),
        (Some(host), reply) => format!("{host} answered: {reply} {}", last.text),
        (None, reply) => format!("the server answered: {reply} {}", last.text),
    }
}

fn recipient(told: &Told) -> String {
    let rcpt = told.facts.envelope.rcpts.get(usize::from(told.rcpt));
    rcpt.map_or_else(|| "an unknown recipient".to_owned(), |rcpt| rcpt.address.to_string())
}

/// Text of strangers: nothing that moves the cursor, breaks a line or turns the direction of writing.
fn clean(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}
