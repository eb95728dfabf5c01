//! What the queue keeps of what was heard, and its own words where it gives up. Pure.

use std::time::Duration;

use crate::mail::attempt::{Decided, Way};
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;
use crate::queue::store::Last;

/// What is kept of a reply: `Last`'s bound.
const TEXT: usize = 512;
/// RFC 3463 section 3.5: delivery time expired.
pub(super) const EXPIRED: Enhanced = Enhanced(4, 4, 7);
/// The same, for good: its sender does not want it any more (RFC 2852 section 4.1.3).
const RETURNED: Enhanced = Enhanced(5, 4, 7);
/// Whose life is over: the time that the sender set.
pub(super) const DELIVER_BY: &str = "deliver_by";

/// A reply as the store keeps it.
pub(super) fn heard(one: &Decided, at: Time, way: Way) -> Last {
    Last {
        at,
        code: one.reply.code,
        enhanced: one.reply.enhanced,
        text: bounded(one.reply.escaped()),
        host: one.hop.host.clone(),
        reason: one.meaning().reason,
        lost: one.hop.lost.then_some(way),
    }
}

/// Our own words: the time ran out, and what was heard last.
pub(super) fn given_up(last: &Last, age: Duration, life: &str) -> Last {
    let who = last.host.as_deref().map(|host| format!("{host}: ")).unwrap_or_default();
    let code = if last.code == 0 { String::new() } else { format!("{} ", last.code) };
    let (enhanced, life) = match life {
        DELIVER_BY => (RETURNED, ", when the time was over that its sender set (BY)"),
        "class" => (EXPIRED, ", when its useful life was over"),
        _ => (EXPIRED, ""),
    };
    let text = bounded(format!("given up after {}{life}; last: {who}{code}{}", span(age), last.text));
    Last { code: 0, enhanced: Some(enhanced), text, ..last.clone() }
}

/// An age in the largest unit that leaves at least two of it.
fn span(age: Duration) -> String {
    let (hours, minutes) = (age.as_secs() / 3600, age.as_secs() / 60);
    match (hours / 24, hours, minutes) {
        (days @ 2.., _, _) => format!("{days} days"),
        (_, hours @ 2.., _) => format!("{hours} hours"),
        (_, _, minutes @ 2..) => format!("{minutes} minutes"),
        _ => format!("{} seconds", age.as_secs()),
    }
}

pub(super) fn bounded(mut text: String) -> String {
    let end = (0..=TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}
