//! Repair before sealing (RFC 6409 section 8): what a message must have is added, what must not leave is removed, what could
//! be changed on the way is written so that nobody need change it. Fields that need nothing keep their octets.

use memchr::memchr;

use super::Submission;
use super::body::{self, Change};
use super::classify;
use super::encode;
use super::own::Author;
use super::priority;
use super::refusal::Refusal;
use super::results;
use super::trace::{self, Stamp};
use crate::mail::header::{Field, Headers, LINE_MAX};
use crate::mail::message::{Needs, TlsNeed};
use crate::mail::priority::Priority;
use crate::mail::reply::Enhanced;

/// RFC 3463 section 3.7 as extended by RFC 6531: non-ASCII addresses not permitted.
const NEEDS_UTF8: Enhanced = Enhanced(5, 6, 7);

/// A message in the form in which it will be sealed.
pub(super) struct Repaired {
    /// The header section with the fields we add, without its empty line.
    pub(super) head: Vec<u8>,
    /// What follows.
    pub(super) body: Body,
    /// What the next hop must offer.
    pub(super) needs: Needs,
    /// What was done, a word each.
    pub(super) done: Vec<&'static str>,
    /// Without its brackets.
    pub(super) message_id: Option<String>,
}

/// What is written into the header section beside what every message must have.
pub(super) struct Added<'a> {
    /// Where its reader unsubscribes.
    pub(super) link: Option<&'a str>,
    /// The priority that it was given because its sender asked for one.
    pub(super) priority: Option<Priority>,
}

/// A body as given, or written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Everything from this octet on; `open` if it lacks its final CRLF.
    Kept {
        /// Where it starts in what was handed in.
        from: usize,
        /// Whether a CRLF is to be added.
        open: bool,
    },
    /// Re-encoded.
    Written(Vec<u8>),
}

impl Body {
    fn kept(from: usize, body: &[u8]) -> Self {
        Self::Kept { from, open: !body.is_empty() && !body.ends_with(b"\r\n") }
    }

    fn written(mut body: Vec<u8>) -> Self {
        if !body.ends_with(b"\r\n") {
            body.extend_from_slice(b"\r\n");
        }
        Self::Written(body)
    }

    /// The octets, out of those handed in.
    pub(super) fn octets<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Kept { from, .. } => message.get(*from..).unwrap_or_default(),
            Self::Written(body) => body,
        }
    }
}

/// Makes the message fit to be sealed.
pub(super) fn repair(
    submission: &Submission,
    headers: &Headers<'_>,
    author: &Author,
    stamp: &Stamp<'_>,
    added: &Added<'_>,
) -> Result<Repaired, Refusal> {
    let utf8 = needs_smtputf8(submission, headers)?;
    let body = submission.body.get(headers.body..).unwrap_or_default();
    if memchr(0, body).is_some() {
        let text = "the message has a NUL octet, which mail cannot carry; send binary data as base64";
        return Err(Refusal::bad_form("mime", text));
    }
    let recoded = body::recode(headers, body)?;
    let eight_bit = recoded.as_ref().is_some_and(|recoded| recoded.eight_bit);
    let mut head = Head::new(submission, stamp, utf8);
    head.add_missing(headers, author, stamp);
    head.add_unsubscribe(headers, added.link);
    head.add_priority(added.priority);
    let change = recoded.as_ref().and_then(|recoded| recoded.change.as_ref());
    for field in &headers.fields {
        if change.is_none() || !Change::removes(field) {
            head.keep(field, stamp)?;
        }
    }
    if let Some(change) = change {
        change.write(&mut head.out);
        head.done.push("body-encoding");
    }
    Ok(Repaired {
        head: head.out,
        body: recoded.map_or_else(|| Body::kept(headers.body, body), |recoded| Body::written(recoded.octets)),
        needs: Needs { eight_bit, smtputf8: utf8, tls: asked_tls(submission, headers) },
        done: head.done,
        message_id: head.message_id,
    })
}

/// What the sender asks for. REQUIRETLS outdoes the header field (RFC 8689 section 4.1); two fields, or another value than
/// `No`, say nothing.
fn asked_tls(submission: &Submission, headers: &Headers<'_>) -> TlsNeed {
    if submission.require_tls {
        return TlsNeed::RequireTls;
    }
    let mut fields = headers.all("TLS-Required");
    match (fields.next(), fields.next()) {
        (Some(only), None) if only.value().trim_ascii().eq_ignore_ascii_case(b"no") => TlsNeed::Waived,
        (Some(_) | None, _) => TlsNeed::Usual,
    }
}

/// Whether an address, in the envelope or in a header, is not ASCII. Nothing else needs SMTPUTF8, whatever flags were given:
/// text becomes encoded words, domains A-labels.
fn needs_smtputf8(submission: &Submission, headers: &Headers<'_>) -> Result<bool, Refusal> {
    let envelope = &submission.envelope;
    let paths = envelope.from.iter().chain(envelope.rcpts.iter().map(|rcpt| &rcpt.address));
    let utf8 = paths.into_iter().any(|path| path.needs_smtputf8())
        || headers.fields.iter().any(encode::needs_smtputf8);
    if utf8 && !submission.smtputf8 {
        let text = "an address has letters outside ASCII before the @; that needs SMTPUTF8, which MAIL did not ask for";
        return Err(Refusal::new("smtputf8", 550, NEEDS_UTF8, text));
    }
    Ok(utf8)
}

/// The header section as it is written.
struct Head {
    out: Vec<u8>,
    done: Vec<&'static str>,
    utf8: bool,
    has_mime_version: bool,
    message_id: Option<String>,
}

impl Head {
    fn new(submission: &Submission, stamp: &Stamp<'_>, utf8: bool) -> Self {
        let out = trace::received(submission, stamp, utf8).into_bytes();
        Self { out, done: Vec::new(), utf8, has_mime_version: false, message_id: None }
    }

    fn add(&mut self, what: &'static str, field: &str) {
        self.out.extend_from_slice(field.as_bytes());
        self.done.push(what);
    }

    /// RFC 6409 sections 8.2 and 8.3; MIME-Version, since what follows may be re-encoded by us or by others.
    fn add_missing(&mut self, headers: &Headers<'_>, author: &Author, stamp: &Stamp<'_>) {
        let empty = |field: &Field<'_>| field.value().trim_ascii().is_empty();
        if headers.first("Date").is_none_or(empty) {
            self.add("date", &format!("Date: {}\r\n", trace::date(stamp.now)));
        }
        self.message_id = headers.first("Message-ID").filter(|field| !empty(field)).map(identifier);
        if self.message_id.is_none() {
            let made = format!("{}@{}", stamp.id, author.address.domain());
            self.add("message-id", &format!("Message-ID: <{made}>\r\n"));
            self.message_id = Some(made);
        }
        if headers.first("MIME-Version").is_none() {
            self.add("mime-version", "MIME-Version: 1.0\r\n");
            self.has_mime_version = true;
        }
    }

    /// RFC 8058 section 3.1, where the message has no way to unsubscribe of its own.
    fn add_unsubscribe(&mut self, headers: &Headers<'_>, link: Option<&str>) {
        let own =
            ["List-Unsubscribe", "List-Unsubscribe-Post"].iter().any(|name| headers.first(name).is_some());
        if let Some(link) = link.filter(|_| !own) {
            let post = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";
            self.add("list-unsubscribe", &format!("List-Unsubscribe: <{link}>\r\n{post}"));
        }
    }

    /// RFC 6758 section 3.3, for servers without MT-PRIORITY. Written before the message is sealed, and not covered by the seal:
    /// a server on the way may have to replace it.
    fn add_priority(&mut self, priority: Option<Priority>) {
        if let Some(priority) = priority {
            self.add("mt-priority", &format!("{}: {priority}\r\n", priority::HEADER));
        }
    }

    /// Copies a field, unless it must not leave or must be written otherwise.
    fn keep(&mut self, field: &Field<'_>, stamp: &Stamp<'_>) -> Result<(), Refusal> {
        if let Some(what) = self.removed(field, stamp) {
            self.done.push(what);
            return Ok(());
        }
        let raw = field.raw;
        if !raw.is_ascii() && !self.utf8 {
            let written = encode::in_ascii(field).ok_or_else(|| not_ascii(field))?;
            self.out.extend_from_slice(&written);
            self.done.push("header-encoding");
        } else if std::str::from_utf8(raw).is_err() {
            return Err(not_ascii(field));
        } else if looks_like_another_from(raw) && !is_tag_list(field) {
            self.unfold(field)?;
        } else {
            self.out.extend_from_slice(raw);
        }
        if !self.out.ends_with(b"\r\n") {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// What must not leave: blind recipients, words between the platform and us, a path that is the last hop's to write (RFC 5321 section 4.4), results that
    /// only we may claim (RFC 8601 section 5), empty fields that were replaced, and a second MIME-Version.
    fn removed(&mut self, field: &Field<'_>, stamp: &Stamp<'_>) -> Option<&'static str> {
        let empty = || field.value().trim_ascii().is_empty();
        match () {
            () if field.is("Bcc") || field.is("Resent-Bcc") => Some("bcc"),
            () if field.is("Return-Path") => Some("return-path"),
            () if field.is(classify::HEADER) => Some("class-header"),
            () if field.is(priority::HEADER) => Some("mt-priority"),
            () if field.is("Authentication-Results") && results::claims(field, stamp.hostname) => {
                Some("authentication-results")
            }
            () if field.is("Date") && empty() => Some("date"),
            () if field.is("Message-ID") && empty() => Some("message-id"),
            () if field.is("MIME-Version") => {
                std::mem::replace(&mut self.has_mime_version, true).then_some("mime-version")
            }
            () => None,
        }
    }

    /// Puts a folded field on one line.
    fn unfold(&mut self, field: &Field<'_>) -> Result<(), Refusal> {
        let text = String::from_utf8_lossy(field.raw).replace("\r\n", "");
        if text.len() > LINE_MAX {
            let name = String::from_utf8_lossy(field.name());
            let text = format!(
                "a line of the {name} header starts with From: and some readers take it for the author"
            );
            return Err(Refusal::bad_form("header", text));
        }
        self.out.extend_from_slice(text.as_bytes());
        self.done.push("fold");
        Ok(())
    }
}

/// What stands between the brackets, for the log.
fn identifier(field: &Field<'_>) -> String {
    let value = String::from_utf8_lossy(field.value());
    value.trim().trim_start_matches('<').trim_end_matches('>').to_owned()
}

/// A continuation line such as ` From: x`: part of another field, but some readers skip the space (espoofer's A9 and A10).
fn looks_like_another_from(raw: &[u8]) -> bool {
    raw.split(|octet| *octet == b'\n').skip(1).any(is_from)
}

fn is_from(line: &[u8]) -> bool {
    let (name, rest) = line.trim_ascii_start().split_at_checked(4).unwrap_or_default();
    name.eq_ignore_ascii_case(b"From") && rest.trim_ascii_start().starts_with(b":")
}

/// A signature's list of covered names may begin a line with `From:`. It names nobody, and unfolded it would no longer be what
/// was signed where its header canonicalisation is `simple` (RFC 6376 section 3.4.1).
fn is_tag_list(field: &Field<'_>) -> bool {
    let names_somebody = |line: &[u8]| is_from(line) && memchr(b'@', line).is_some();
    field.is("DKIM-Signature") && !field.raw.split(|octet| *octet == b'\n').any(names_somebody)
}

fn not_ascii(field: &Field<'_>) -> Refusal {
    let name = String::from_utf8_lossy(field.name());
    let text =
        format!("the {name} header has octets outside ASCII that cannot be carried; encode them (RFC 2047)");
    Refusal::bad_form("header", text)
}
