//! The part that programs read: message/delivery-status (RFC 3464 section 2).
//!
//! What remote servers and clients said stands in these fields as printable ASCII, bounded: nothing they sent can begin a
//! line here.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Action, Identity, Notice, Told};
use crate::mail::address::Address;
use crate::mail::message::Facts;
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;
use crate::queue::store::Last;

/// A field's value ends here: with its name it stays below RFC 5322's 998.
const VALUE: usize = 900;
/// RFC 3463 section 3.5: delivery time expired.
const EXPIRED: Enhanced = Enhanced(4, 4, 7);

/// The whole part, CRLF throughout.
pub(super) fn fields(identity: &Identity, notice: &Notice) -> String {
    let mut out = String::new();
    field(&mut out, "Reporting-MTA", &format!("dns; {}", identity.hostname));
    let single = sole(&notice.told);
    if let Some(facts) = single {
        if let Some(envid) = &facts.envelope.envid {
            // RFC 3464 section 2.2.1: as the client meant it, no longer xtext.
            field(&mut out, "Original-Envelope-Id", envid);
        }
        field(&mut out, "Arrival-Date", &date(facts.received));
        if let Some(by) = &facts.deliver_by {
            // RFC 2852 section 5.
            field(&mut out, "Deliver-By-Date", &date(by.at));
        }
        field(&mut out, "X-Waxseal-Queue-ID", &facts.id.to_string());
    }
    for told in &notice.told {
        out.push_str("\r\n");
        recipient(&mut out, notice.action, told, single.is_none());
    }
    out
}

/// The one message that all of these belong to, if it is one.
fn sole(told: &[Told]) -> Option<&Facts> {
    let first = told.first()?;
    told.iter().all(|other| other.facts.id == first.facts.id).then_some(&first.facts)
}

/// RFC 3464 section 2.3.
fn recipient(out: &mut String, action: Action, told: &Told, named: bool) {
    if let Some(rcpt) = told.facts.envelope.rcpts.get(usize::from(told.rcpt)) {
        if let Some(orcpt) = &rcpt.orcpt {
            field(out, "Original-Recipient", &original(orcpt));
        }
        field(out, "Final-Recipient", &final_recipient(&rcpt.address));
    }
    field(out, "Action", word(action));
    field(out, "Status", &status(action, told).to_string());
    if let Some(host) = &told.last.host {
        field(out, "Remote-MTA", &format!("dns; {host}"));
    }
    field(out, "Diagnostic-Code", &diagnostic(&told.last));
    field(out, "Last-Attempt-Date", &date(told.last.at));
    if action == Action::Delayed {
        field(out, "Will-Retry-Until", &date(told.facts.expires));
    }
    if named {
        field(out, "X-Waxseal-Queue-ID", &told.facts.id.to_string());
        field(out, "X-Waxseal-Arrival-Date", &date(told.facts.received));
    }
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Failed => "failed",
        Action::Delayed => "delayed",
        Action::Relayed => "relayed",
    }
}

/// What is said of a recipient. RFC 2852 section 4.1.3: a delay that is told because the time is over that its sender set says that,
/// whatever a server said last.
pub(super) fn status(action: Action, told: &Told) -> Enhanced {
    if action == Action::Delayed && told.facts.notify_at().is_some() {
        EXPIRED
    } else {
        fit(action, &told.last)
    }
}

/// RFC 3464 section 2.3.4: the class must fit the action, whatever the remote server wrote. A failure may keep a
/// persistent transient code (4.4.7: we gave up).
pub(super) fn fit(action: Action, last: &Last) -> Enhanced {
    let fits = |code: &Enhanced| match action {
        Action::Failed => matches!(code.0, 4 | 5),
        Action::Delayed => code.0 == 4,
        Action::Relayed => code.0 == 2,
    };
    let plain = match action {
        Action::Failed => Enhanced(5, 0, 0),
        Action::Delayed => Enhanced(4, 0, 0),
        Action::Relayed => Enhanced(2, 0, 0),
    };
    last.enhanced.filter(fits).unwrap_or(plain)
}

/// RFC 3464 section 2.3.6: `smtp` for what a server said, word for word, its enhanced code included; our own type where
/// there was no reply.
fn diagnostic(last: &Last) -> String {
    match last.code {
        0 => format!("x-waxseal; {}", last.text),
        code => format!("smtp; {code} {}", last.text),
    }
}

/// An address that is not ASCII stands in RFC 6533's form for 7-bit reports (section 3, utf-8-addr-xtext).
fn final_recipient(address: &Address) -> String {
    let text = address.to_string();
    if text.is_ascii() {
        return format!("rfc822; {text}");
    }
    let mut out = String::from("utf-8; ");
    for c in text.chars() {
        if c.is_ascii_graphic() && !matches!(c, '+' | '=' | '\\') {
            out.push(c);
        } else {
            let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
        }
    }
    out
}

/// ORCPT as its client meant it (RFC 3461 section 6.3): decoded where that gives printable ASCII, else as it came.
fn original(orcpt: &str) -> String {
    let decoded = orcpt.split_once(';').and_then(|(kind, xtext)| Some(format!("{kind};{}", unxtext(xtext)?)));
    decoded.unwrap_or_else(|| orcpt.to_owned())
}

/// RFC 3461 section 4: `+` and two upper-case hexadecimal digits stand for an octet.
fn unxtext(xtext: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = xtext.chars();
    while let Some(c) = rest.next() {
        let plain = if c == '+' {
            let (high, low) = (rest.next()?.to_digit(16)?, rest.next()?.to_digit(16)?);
            char::from_u32(high * 16 + low)?
        } else {
            c
        };
        out.push(Some(plain).filter(|c| c.is_ascii_graphic() || *c == ' ')?);
    }
    Some(out)
}

/// RFC 5322 section 3.3, in UTC.
pub(super) fn date(at: Time) -> String {
    let stamp =
        i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let zoned = stamp.to_zoned_datetime(TimeZone::UTC);
    jiff::fmt::rfc2822::DateTimePrinter::new().zoned_datetime_to_string(&zoned).unwrap_or_default()
}

/// One field. Only printable ASCII gets in, so that no value can begin another line.
fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    out.extend(value.chars().take(VALUE).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }));
    out.push_str("\r\n");
}
