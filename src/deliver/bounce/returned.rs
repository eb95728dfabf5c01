//! How much of a message goes back with a notification about it (RFC 3461 section 4.3).

use bytes::Bytes;
use lettre::message::header::ContentTransferEncoding;
use lettre::message::{Body, SinglePart};

use super::{Action, Unwritten, media};
use crate::config::class::Hides;
use crate::deliver::redact;
use crate::mail::envelope::Ret;
use crate::mail::message::Message;

/// A message up to this size goes back whole where nobody said what to return (Postfix's `bounce_size_limit`).
const WHOLE_UNASKED: usize = 50_000;
/// A message up to this size goes back whole if its client asked for that: a notification must not be a burden of its own.
const WHOLE_ASKED: usize = 1024 * 1024;
/// Of a header section no more than this goes back.
const HEADERS: usize = 64 * 1024;
/// RFC 5322 section 2.1.1, without CRLF.
const LINE: usize = 998;

/// What goes back of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its header section, at most 64 KiB of it.
    Headers(Bytes),
    /// All of it.
    Whole(Bytes),
}

/// Chooses what goes back. `to_sender` tells whether only the message's own sender will read it: a tenant's `notify` is
/// somebody else, and a body may hold what only its recipient should see (a link that resets a password), so it goes there
/// only if the client asked for it. Where the class hides something the body goes to nobody, whatever was asked: a notification is a mail in
/// clear text, and rests in a mailbox.
#[must_use]
pub fn content(message: &Message, action: Action, to_sender: bool, hides: Hides) -> Content {
    let most = match message.facts.envelope.ret {
        _ if hides.any() => 0,
        // RFC 3461 section 4.3: RET speaks of failures; other notifications return the header section.
        _ if action != Action::Failed => 0,
        Some(Ret::Full) => WHOLE_ASKED,
        None if to_sender => WHOLE_UNASKED,
        Some(Ret::Hdrs) | None => 0,
    };
    if message.body.len() <= most && carries(&message.body) {
        Content::Whole(message.body.clone())
    } else {
        headers(message, hides)
    }
}

/// The header section alone, without what the class hides.
#[must_use]
pub fn headers(message: &Message, hides: Hides) -> Content {
    let section = section(&message.body);
    Content::Headers(if hides.any() { redact::headers(&section, hides).into() } else { section })
}

/// Whether the octets fit a message/rfc822 part that any server takes: RFC 2046 section 5.2.1 lets it not be encoded.
fn carries(octets: &[u8]) -> bool {
    octets.is_ascii() && octets.split(|octet| *octet == b'\n').all(|line| line.len() <= LINE + 1)
}

/// The header section, cut at the end of a line if it is too long.
fn section(body: &Bytes) -> Bytes {
    let end = memchr::memmem::find(body, b"\r\n\r\n").map_or(body.len(), |at| at + 2);
    let end = if end <= HEADERS {
        end
    } else {
        body.get(..HEADERS).and_then(|head| memchr::memrchr(b'\n', head)).map_or(0, |at| at + 1)
    };
    // A copy: a slice would keep the whole body in memory, of each of the messages that a notification tells of.
    Bytes::copy_from_slice(body.get(..end).unwrap_or_default())
}

/// The MIME part. Octets go in as they are wherever the part may carry them.
pub(super) fn part(content: &Content) -> Result<SinglePart, Unwritten> {
    let (kind, octets) = match content {
        Content::Whole(octets) => ("message/rfc822", octets),
        Content::Headers(octets) => ("text/rfc822-headers", octets),
    };
    let body = if carries(octets) {
        Body::dangerous_pre_encoded(octets.to_vec(), ContentTransferEncoding::SevenBit)
    } else {
        // Only headers come here; RFC 6522 section 4 allows quoted-printable for those that are not legal 7bit.
        Body::new_with_encoding(octets.to_vec(), ContentTransferEncoding::QuotedPrintable)
            .map_err(|_| Unwritten::Build("headers cannot be encoded".to_owned()))?
    };
    Ok(SinglePart::builder().header(media(kind)?).body(body))
}
