//! The parts of a report, one level deep. Anybody who ever got a message of ours can send what he likes to its return path: what is
//! nested stays octets, and everything is bounded before it is looked at.

use std::borrow::Cow;

use mail_parser::{MessageParser, MimeHeaders, PartType};

use crate::mail::multipart::Delimiters;

/// Parts looked at. RFC 6522 has three.
const PARTS: usize = 16;
/// Octets of a header section; what a report's own needs is below 10 KiB.
const HEADER: usize = 64 * 1024;
/// Octets of a part that are decoded; a report on a thousand recipients has some 300 KiB.
const PART: usize = 1024 * 1024;

/// A part as it stands.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// `message` of `message/rfc822`, in lower case.
    pub(super) main: String,
    /// `rfc822` of it.
    pub(super) sub: String,
    boundary: Option<String>,
    /// Content-Transfer-Encoding, in lower case; empty without one.
    encoding: String,
    body: &'a [u8],
}

/// The parts of a `multipart/report`; `None`: it is none.
pub(super) fn of_report(message: &[u8]) -> Option<Vec<Part<'_>>> {
    let root = Part::read(message)?;
    let boundary = root.boundary.as_ref().filter(|boundary| !boundary.is_empty())?;
    if root.main != "multipart" || root.sub != "report" {
        return None;
    }
    let mut parts = Vec::new();
    let mut start = None;
    for delimiter in Delimiters::new(root.body, boundary) {
        parts.extend(start.and_then(|start| Part::read(root.body.get(start..delimiter.content_end)?)));
        start = (!delimiter.closes).then_some(delimiter.line_end);
        if delimiter.closes || parts.len() == PARTS {
            return Some(parts);
        }
    }
    // Cut off on its way: what came counts.
    parts.extend(start.and_then(|start| Part::read(root.body.get(start..)?)));
    Some(parts)
}

impl<'a> Part<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let (head, body) = if octets.starts_with(b"\r\n") {
            octets.split_at_checked(2)?
        } else {
            let end = memchr::memmem::find(octets.get(..HEADER).unwrap_or(octets), b"\r\n\r\n")?;
            octets.split_at_checked(end + 4)?
        };
        let read = MessageParser::new().parse_headers(head);
        let kind = read.as_ref().and_then(MimeHeaders::content_type);
        let encoding = read.as_ref().and_then(MimeHeaders::content_transfer_encoding).unwrap_or_default();
        // RFC 2045 section 5.2: what says nothing is plain text.
        Some(Self {
            main: kind.map_or_else(|| "text".to_owned(), |kind| kind.ctype().to_ascii_lowercase()),
            sub: kind.and_then(|kind| kind.subtype()).unwrap_or("plain").to_ascii_lowercase(),
            boundary: kind.and_then(|kind| kind.attribute("boundary")).map(str::to_owned),
            encoding: encoding.trim().to_ascii_lowercase(),
            body,
        })
    }

    /// What it holds, its transfer encoding undone; the first MiB.
    pub(super) fn octets(&self) -> Cow<'a, [u8]> {
        let body = self.body.get(..PART).unwrap_or(self.body);
        if !matches!(self.encoding.as_str(), "base64" | "quoted-printable") {
            return Cow::Borrowed(body);
        }
        // As octets of no type: the decoder looks for nothing in them.
        let head = "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: ";
        let plain = [head.as_bytes(), self.encoding.as_bytes(), b"\r\n\r\n", body].concat();
        let decoded = MessageParser::new().parse(&plain).and_then(|message| {
            message.parts.into_iter().next().map(|part| match part.body {
                PartType::Text(text) | PartType::Html(text) => text.into_owned().into_bytes(),
                PartType::Binary(octets) | PartType::InlineBinary(octets) => octets.into_owned(),
                PartType::Message(_) | PartType::Multipart(_) => Vec::new(),
            })
        });
        Cow::Owned(decoded.unwrap_or_default())
    }
}
