//! Reports, as other servers write them: delivery status notifications (RFC 3464, and RFC 6533 for addresses outside ASCII)
//! and complaints (RFC 5965). Pure: octets in, what they say out. Only a `multipart/report` is one; mail in words, however
//! much it looks like a bounce, is not guessed at.

use bytes::Bytes;

use super::fields::{self, Group};
use super::parts::{self, Part};
use crate::mail::address::Address;
use crate::mail::reply::{Enhanced, PeerReply};

/// Of a returned message no more of the header section than this is kept.
const RETURNED: usize = 64 * 1024;
/// Characters of what a server said that are kept: `queue::store::Last`'s bound.
const TEXT: usize = 512;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// What became of recipients.
    Status(Status),
    /// A recipient called it spam.
    Complaint(Complaint),
}

/// A delivery status notification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The server that reports.
    pub reporting: Option<String>,
    /// Of whom; at least one.
    pub recipients: Vec<Reported>,
    /// The header section of the message that it is about, if that was returned.
    pub returned: Option<Bytes>,
}

/// One recipient of a delivery status notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// As we named it, if the report says so.
    pub original: Option<Address>,
    /// Where it went in the end.
    pub last: Option<Address>,
    /// What became of it.
    pub action: Action,
    /// RFC 3463.
    pub status: Option<Enhanced>,
    /// The three digits of an SMTP reply; 0 where none is told.
    pub code: u16,
    /// What was said.
    pub text: String,
    /// The server that said it.
    pub remote: Option<String>,
}

/// RFC 3464 section 2.3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It will never get there.
    Failed,
    /// It is still being tried.
    Delayed,
    /// It is there.
    Delivered,
    /// It went on to a server that does not report.
    Relayed,
    /// It went on to several recipients.
    Expanded,
}

/// A complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// `abuse`, `fraud`, `not-spam`, ... (RFC 5965 section 3.1).
    pub kind: String,
    /// Who complains, where that is not hidden.
    pub recipient: Option<Address>,
    /// Who reports it.
    pub reporter: Option<String>,
}

/// Why a message is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoReport {
    /// It is mail like any other.
    #[error("this is no multipart/report")]
    Mail,
    /// It claims to be one, and has no part that says anything.
    #[error("the report has no part that says what became of the message")]
    Empty,
}

/// Reads a report.
///
/// # Errors
/// It is none.
pub fn read(message: &[u8]) -> Result<Report, NoReport> {
    let parts = parts::of_report(message).ok_or(NoReport::Mail)?;
    let of = |kinds: &[&str]| parts.iter().find(|part| part.main == "message" && kinds.contains(&&*part.sub));
    if let Some(part) = of(&["delivery-status", "global-delivery-status"]) {
        let returned = parts.iter().find_map(section);
        return status(&part.octets(), returned).map(Report::Status).ok_or(NoReport::Empty);
    }
    if let Some(part) = of(&["feedback-report"]) {
        return complaint(&part.octets()).map(Report::Complaint).ok_or(NoReport::Empty);
    }
    Err(NoReport::Empty)
}

/// The header section that a part returns.
fn section(part: &Part<'_>) -> Option<Bytes> {
    match (part.main.as_str(), part.sub.as_str()) {
        ("message", "rfc822" | "global" | "global-headers") | ("text", "rfc822-headers") => {}
        _ => return None,
    }
    let whole = part.octets();
    let end = memchr::memmem::find(&whole, b"\r\n\r\n").map_or(whole.len(), |at| at + 2);
    let head = whole.get(..end.min(RETURNED))?;
    // Cut at the end of a line.
    let end = memchr::memrchr(b'\n', head).map_or(0, |at| at + 1);
    Some(Bytes::copy_from_slice(head.get(..end)?)).filter(|head| !head.is_empty())
}

fn status(part: &[u8], returned: Option<Bytes>) -> Option<Status> {
    let groups = fields::groups(part);
    let (about, rest) = groups.split_first()?;
    // Some servers leave out the group about the message.
    let all = if about.get("action").is_some() { groups.as_slice() } else { rest };
    let recipients: Vec<Reported> = all.iter().filter_map(reported).collect();
    let reporting = about.typed("reporting-mta").map(|(_, name)| name.to_owned());
    (!recipients.is_empty()).then_some(Status { reporting, recipients, returned })
}

fn reported(group: &Group) -> Option<Reported> {
    let status = group.get("status").and_then(enhanced);
    let said = group.typed("diagnostic-code");
    let (code, text) = match said {
        Some((kind, text)) if kind.eq_ignore_ascii_case("smtp") => reply(text),
        Some((_, text)) => (0, text),
        None => (0, "the reporting server gave no reason"),
    };
    Some(Reported {
        original: group.typed("original-recipient").and_then(address),
        last: group.typed("final-recipient").and_then(address),
        action: action(group.get("action")?, status)?,
        status,
        code,
        text: text.chars().take(TEXT).collect(),
        remote: group.typed("remote-mta").map(|(_, name)| name.to_owned()),
    })
}

/// The word, in any case and with what some servers write behind it (`failed (unknown user)`).
fn action(text: &str, status: Option<Enhanced>) -> Option<Action> {
    let word = text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "failed" => Some(Action::Failed),
        "delayed" => Some(Action::Delayed),
        "delivered" => Some(Action::Delivered),
        "relayed" => Some(Action::Relayed),
        "expanded" => Some(Action::Expanded),
        // A word that RFC 3464 does not know, with a permanent status: better told than lost.
        _ => status.filter(|code| code.0 == 5).map(|_| Action::Failed),
    }
}

/// `rfc822; a@b` or `utf-8; a@b` (RFC 6533 section 3), with or without brackets.
fn address((kind, text): (&str, &str)) -> Option<Address> {
    let plain = text.trim_start_matches('<').trim_end_matches('>');
    if kind.eq_ignore_ascii_case("utf-8") { unescaped(plain)?.parse().ok() } else { plain.parse().ok() }
}

/// RFC 6533 section 3: `\x{E9}` stands for a character.
fn unescaped(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\\x{") {
        let (digits, behind) = after.split_once('}')?;
        let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
        out.push_str(before);
        out.push(Some(c).filter(|c| !c.is_control())?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// RFC 3463: `5.1.1`, and what some servers write behind it.
fn enhanced(text: &str) -> Option<Enhanced> {
    let word = text.split_whitespace().next()?;
    let mut numbers = word.split('.');
    let code = Enhanced(
        numbers.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?,
        numbers.next()?.parse().ok().filter(|subject| *subject < 1_000)?,
        numbers.next()?.parse().ok().filter(|detail| *detail < 1_000)?,
    );
    numbers.next().is_none().then_some(code)
}

/// `550 5.1.1 no such user` or `550-5.1.1 ...`: the digits and the rest.
fn reply(text: &str) -> (u16, &str) {
    let (digits, rest) = text.split_at_checked(3).unwrap_or(("", text));
    match digits.parse() {
        Ok(code @ 200..=599) if !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') => {
            (code, rest.trim_start_matches([' ', '-']))
        }
        Ok(_) | Err(_) => (0, text),
    }
}

fn complaint(part: &[u8]) -> Option<Complaint> {
    let groups = fields::groups(part);
    let fields = groups.first()?;
    let plain = |text: &str| text.trim_start_matches('<').trim_end_matches('>').parse().ok();
    Some(Complaint {
        kind: fields.get("feedback-type")?.chars().take(TEXT).collect(),
        recipient: fields.get("original-rcpt-to").and_then(plain),
        reporter: fields.typed("reporting-mta").map(|(_, name)| name.to_owned()),
    })
}

impl Reported {
    /// The recipient as the tenant knows it, if it can be told.
    #[must_use]
    pub fn recipient(&self) -> Option<&Address> {
        self.original.as_ref().or(self.last.as_ref())
    }

    /// What was answered, for the log.
    #[must_use]
    pub fn reply(&self) -> PeerReply {
        PeerReply { code: self.code, enhanced: self.status, text: self.text.clone().into_bytes() }
    }
}

impl Action {
    /// As RFC 3464 writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

#[cfg(test)]
mod tests;
