//! A body that not every server carries unchanged (octets over 127, lines over 998) is re-encoded before it is sealed, part by
//! part. All else is never looked into.

use mail_parser::{HeaderName, MessageParser, MimeHeaders};

use super::encode;
use super::refusal::Refusal;
use super::transfer;
use crate::mail::header::{Field, Headers};
use crate::mail::multipart::Delimiters;

/// How deep parts may nest where they must be re-encoded; real mail stays below 8.
const DEPTH_MAX: usize = 16;
/// Parts of one message that must be re-encoded; real mail stays below 100.
const PARTS_MAX: usize = 1_000;
/// Octets of a part's header section.
const PART_HEADER_MAX: usize = 64 * 1024;
/// RFC 2046 section 5.1.1 allows 70; some write more.
const BOUNDARY_MAX: usize = 200;

/// What becomes of a header section whose body is re-encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Content-Transfer-Encoding goes, and this one comes, if any.
    pub(super) transfer: Option<&'static str>,
    /// A Content-Type for text that had none.
    pub(super) kind: Option<&'static str>,
}

/// A body that was re-encoded.
pub(super) struct Recoded {
    /// What its header section must say; `None`: what it says already.
    pub(super) change: Option<Change>,
    /// The octets.
    pub(super) octets: Vec<u8>,
    /// Whether something in it may not be touched and needs 8BITMIME.
    pub(super) eight_bit: bool,
}

/// The body for the wire; `None` if it is fit as it is.
pub(super) fn recode(headers: &Headers<'_>, body: &[u8]) -> Result<Option<Recoded>, Refusal> {
    if transfer::is_plain(body) {
        return Ok(None);
    }
    let mut writer =
        Writer { out: Vec::with_capacity(body.len() + body.len() / 4), parts: 0, eight_bit: false };
    let entity = Entity { headers, body, depth: 0 };
    let plan = writer.plan(&entity)?;
    writer.body(&entity, &plan)?;
    Ok(Some(Recoded { change: plan.change(), octets: writer.out, eight_bit: writer.eight_bit }))
}

/// A message, or a part of one.
struct Entity<'a> {
    headers: &'a Headers<'a>,
    body: &'a [u8],
    depth: usize,
}

/// What is to be done with an entity's body.
enum Plan {
    /// Nothing need be done.
    Keep,
    /// Nothing may be done: it is signed or encrypted as it stands (RFC 1847).
    Sealed,
    /// Its parts are looked at; the boundary.
    Multipart(String),
    /// A message within the message.
    Message,
    /// Encoded anew.
    Leaf { how: Encoding, kind: Option<&'static str> },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    QuotedPrintable,
    Base64,
    /// Was quoted-printable, badly.
    Requoted,
    /// Was base64, badly.
    Rewrapped,
}

impl Plan {
    fn change(&self) -> Option<Change> {
        match self {
            Self::Keep | Self::Sealed => None,
            // RFC 2045 section 6.4: what holds parts is never itself encoded; without a field it is 7bit.
            Self::Multipart(_) | Self::Message => Some(Change::default()),
            Self::Leaf { how, kind } => {
                let transfer = match how {
                    Encoding::QuotedPrintable | Encoding::Requoted => "quoted-printable",
                    Encoding::Base64 | Encoding::Rewrapped => "base64",
                };
                Some(Change { transfer: Some(transfer), kind: *kind })
            }
        }
    }
}

impl Change {
    /// Whether a field of the old section has no place in the new one.
    pub(super) fn removes(field: &Field<'_>) -> bool {
        field.is("Content-Transfer-Encoding")
    }

    /// The fields it adds.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in [("Content-Type", self.kind), ("Content-Transfer-Encoding", self.transfer)] {
            let Some(value) = value else { continue };
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
}

struct Writer {
    out: Vec<u8>,
    parts: usize,
    eight_bit: bool,
}

impl Writer {
    fn plan(&mut self, entity: &Entity<'_>) -> Result<Plan, Refusal> {
        self.parts += 1;
        if self.parts > PARTS_MAX || entity.depth > DEPTH_MAX {
            let text = format!(
                "the message must be re-encoded, and has more than {PARTS_MAX} parts or nests them deeper than {DEPTH_MAX}.\n\
                 Send it with Content-Transfer-Encoding base64 or quoted-printable"
            );
            return Err(Refusal::bad_form("mime", text));
        }
        if transfer::is_plain(entity.body) {
            return Ok(Plan::Keep);
        }
        let kind = content_type(entity.headers)?;
        let encoding =
            entity.headers.first("Content-Transfer-Encoding").map(|field| field.value().trim_ascii());
        let encoding = encoding.unwrap_or(b"7bit").to_ascii_lowercase();
        let identity = matches!(encoding.as_slice(), b"7bit" | b"8bit" | b"binary");
        match kind {
            Some(kind) if kind.main == "multipart" && identity => Ok(multipart(kind, entity.body)),
            // RFC 2046 section 5.2.1 and RFC 6532 section 3.7.
            Some(kind)
                if kind.main == "message" && identity && matches!(kind.sub.as_str(), "rfc822" | "global") =>
            {
                Ok(Plan::Message)
            }
            kind => leaf(kind.as_ref().map(|kind| kind.main.as_str()), &encoding, entity.body),
        }
    }

    fn body(&mut self, entity: &Entity<'_>, plan: &Plan) -> Result<(), Refusal> {
        let body = entity.body;
        match plan {
            Plan::Keep => self.out.extend_from_slice(body),
            Plan::Sealed => {
                self.eight_bit = true;
                self.out.extend_from_slice(body);
            }
            Plan::Multipart(boundary) => return self.multipart(entity, boundary),
            Plan::Message => return self.part(body, entity.depth),
            Plan::Leaf { how: Encoding::QuotedPrintable, .. } => {
                transfer::quoted_printable(body, false, &mut self.out)
            }
            Plan::Leaf { how: Encoding::Requoted, .. } => {
                transfer::quoted_printable(body, true, &mut self.out)
            }
            Plan::Leaf { how: Encoding::Base64, .. } => transfer::base64(body, &mut self.out),
            Plan::Leaf { how: Encoding::Rewrapped, .. } => transfer::rewrap_base64(body, &mut self.out),
        }
        Ok(())
    }

    /// Header section and body of a part, or of a message within one.
    fn part(&mut self, part: &[u8], depth: usize) -> Result<(), Refusal> {
        if transfer::is_plain(part) {
            self.parts += 1;
            self.out.extend_from_slice(part);
            return Ok(());
        }
        let headers = Headers::parse(part, PART_HEADER_MAX).map_err(|bad| {
            Refusal::bad_form(
                "mime",
                format!("the message must be re-encoded, but a part of it is malformed: {bad}"),
            )
        })?;
        let body = part.get(headers.body..).unwrap_or_default();
        let entity = Entity { headers: &headers, body, depth: depth + 1 };
        let plan = self.plan(&entity)?;
        let change = plan.change();
        for field in &headers.fields {
            if change.is_some() && Change::removes(field) {
                continue;
            }
            let written = if field.raw.is_ascii() { None } else { encode::in_ascii(field) };
            self.eight_bit |= written.is_none() && !field.raw.is_ascii();
            self.out.extend_from_slice(written.as_deref().unwrap_or(field.raw));
        }
        change.unwrap_or_default().write(&mut self.out);
        self.out.extend_from_slice(b"\r\n");
        self.body(&entity, &plan)
    }

    /// RFC 2046 section 5.1.1. Text before and after the parts, which nobody is shown, goes if it is not fit.
    fn multipart(&mut self, entity: &Entity<'_>, boundary: &str) -> Result<(), Refusal> {
        let mut rest = Delimiters::new(entity.body, boundary);
        let mut start = None;
        loop {
            let found = rest.next();
            let end = found.as_ref().map_or(entity.body.len(), |delimiter| delimiter.content_end);
            let content = entity.body.get(start.unwrap_or(0)..end).unwrap_or_default();
            match start {
                Some(_) => self.part(content, entity.depth)?,
                None if transfer::is_plain(content) => self.out.extend_from_slice(content),
                None => {}
            }
            let Some(delimiter) = found else { return Ok(()) };
            self.out.extend_from_slice(if delimiter.content_end == 0 { b"" } else { b"\r\n" });
            self.out.extend_from_slice(format!("--{boundary}").as_bytes());
            if delimiter.closes {
                let epilogue = entity.body.get(delimiter.line_end..).unwrap_or_default();
                self.out.extend_from_slice(b"--\r\n");
                self.out.extend_from_slice(if transfer::is_plain(epilogue) { epilogue } else { b"" });
                return Ok(());
            }
            self.out.extend_from_slice(b"\r\n");
            start = Some(delimiter.line_end);
        }
    }
}

fn multipart(kind: Kind, body: &[u8]) -> Plan {
    let sealed = matches!(kind.sub.as_str(), "signed" | "encrypted");
    let fits = |boundary: &String| !boundary.is_empty() && boundary.len() <= BOUNDARY_MAX;
    let begins =
        |boundary: &String| Delimiters::new(body, boundary).next().is_some_and(|first| !first.closes);
    match kind.boundary.filter(|boundary| fits(boundary) && begins(boundary)) {
        Some(boundary) if !sealed => Plan::Multipart(boundary),
        // Without a boundary that begins a part its parts cannot be told apart: nobody can, so it is left as it is. All of it may be
        // what its sender meant to be read, and readers show it.
        Some(_) | None => Plan::Sealed,
    }
}

fn leaf(main: Option<&str>, encoding: &[u8], body: &[u8]) -> Result<Plan, Refusal> {
    let text = main.is_none_or(|main| main == "text" || main == "message");
    let how = match encoding {
        b"quoted-printable" => Encoding::Requoted,
        b"base64" => Encoding::Rewrapped,
        b"7bit" | b"8bit" | b"binary" if text && transfer::suits_quoted_printable(body) => {
            Encoding::QuotedPrintable
        }
        b"7bit" | b"8bit" | b"binary" => Encoding::Base64,
        other => {
            let text = format!(
                "a part in Content-Transfer-Encoding {} has lines over 998 octets or octets over 127; send it as base64",
                String::from_utf8_lossy(other)
            );
            return Err(Refusal::bad_form("mime", text));
        }
    };
    // RFC 2045 section 5.2: without a field it is US-ASCII text, which it is not; RFC 1428 has the name for what is unknown.
    let kind = match main {
        Some(_) => None,
        None if body.is_ascii() => None,
        None if std::str::from_utf8(body).is_ok() => Some("text/plain; charset=utf-8"),
        None => Some("text/plain; charset=unknown-8bit"),
    };
    Ok(Plan::Leaf { how, kind })
}

/// What must be known of a Content-Type.
struct Kind {
    main: String,
    sub: String,
    boundary: Option<String>,
}

/// As mail-parser reads it; `None` where there is none.
fn content_type(headers: &Headers<'_>) -> Result<Option<Kind>, Refusal> {
    let Some(field) = headers.first("Content-Type") else { return Ok(None) };
    let parser = MessageParser::new().header_content_type(HeaderName::ContentType).default_header_ignore();
    let section = [field.raw, b"\r\n"].concat();
    let read = parser.parse_headers(&section);
    let kind = read.as_ref().and_then(|message| message.content_type());
    let kind =
        kind.ok_or_else(|| Refusal::bad_form("mime", "a Content-Type header cannot be read; correct it"))?;
    Ok(Some(Kind {
        main: kind.ctype().to_ascii_lowercase(),
        sub: kind.subtype().unwrap_or_default().to_ascii_lowercase(),
        boundary: kind.attribute("boundary").map(str::to_owned),
    }))
}

#[cfg(test)]
mod tests;
