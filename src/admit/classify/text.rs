//! The texts of a message, decoded as far as links need it. Bounded in every direction: a guess is not worth more, and what lies beyond
//! a bound is not looked at.

use mail_parser::{HeaderName, MessageParser, MimeHeaders};

use crate::mail::header::Headers;
use crate::mail::multipart::Delimiters;

/// Octets of a body that are looked at; text stands before attachments.
pub(super) const SEARCHED_MAX: usize = 1024 * 1024;
/// Octets of text that are decoded, over all parts.
pub(super) const TEXT_MAX: usize = 256 * 1024;
/// Parts that are looked at.
pub(super) const PARTS_MAX: usize = 64;
/// How deep parts may nest.
const DEPTH_MAX: usize = 8;
/// Octets of a part's header section.
const PART_HEADER_MAX: usize = 16 * 1024;

/// One text of a message.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) html: bool,
    pub(super) octets: Vec<u8>,
}

/// Every text part that is not an attachment, in order, within the bounds.
pub(super) fn texts(headers: &Headers<'_>, body: &[u8]) -> Vec<Text> {
    let mut reader = Reader { found: Vec::new(), room: TEXT_MAX, parts: 0 };
    reader.entity(headers, body.get(..SEARCHED_MAX).unwrap_or(body), 0);
    reader.found
}

struct Reader {
    found: Vec<Text>,
    room: usize,
    parts: usize,
}

impl Reader {
    fn entity(&mut self, headers: &Headers<'_>, body: &[u8], depth: usize) {
        self.parts += 1;
        if self.parts > PARTS_MAX || depth > DEPTH_MAX || self.room == 0 {
            return;
        }
        match kind(headers) {
            Kind::Multipart(boundary) => self.parts(body, &boundary, depth),
            Kind::Text { html } => self.text(headers, body, html),
            Kind::Other => {}
        }
    }

    fn parts(&mut self, body: &[u8], boundary: &str, depth: usize) {
        let mut start = None;
        for delimiter in Delimiters::new(body, boundary) {
            if let Some(start) = start {
                self.part(body.get(start..delimiter.content_end).unwrap_or_default(), depth);
            }
            if delimiter.closes || self.parts > PARTS_MAX {
                return;
            }
            start = Some(delimiter.line_end);
        }
        // Not closed, or cut by a bound: what there is counts.
        self.part(start.and_then(|start| body.get(start..)).unwrap_or_default(), depth);
    }

    /// A part whose header section cannot be read is passed over: admission has its own word on that.
    fn part(&mut self, part: &[u8], depth: usize) {
        if let Ok(headers) = Headers::parse(part, PART_HEADER_MAX) {
            self.entity(&headers, part.get(headers.body..).unwrap_or_default(), depth + 1);
        }
    }

    fn text(&mut self, headers: &Headers<'_>, body: &[u8], html: bool) {
        let encoding = headers.first("Content-Transfer-Encoding").map(|field| field.value().trim_ascii());
        let mut octets = match encoding {
            Some(name) if name.eq_ignore_ascii_case(b"base64") => base64(body, self.room),
            Some(name) if name.eq_ignore_ascii_case(b"quoted-printable") => quoted_printable(body, self.room),
            Some(_) | None => body.get(..self.room).unwrap_or(body).to_vec(),
        };
        octets.truncate(self.room);
        self.room -= octets.len();
        self.found.push(Text { html, octets });
    }
}

enum Kind {
    Multipart(String),
    Text { html: bool },
    Other,
}

/// By Content-Type; without one it is plain text (RFC 2045 section 5.2). What is attached is nobody's notification.
fn kind(headers: &Headers<'_>) -> Kind {
    let attached = headers.first("Content-Disposition").is_some_and(|field| {
        let value = field.value().trim_ascii_start();
        value.get(..10).is_some_and(|head| head.eq_ignore_ascii_case(b"attachment"))
    });
    if attached {
        return Kind::Other;
    }
    let Some(field) = headers.first("Content-Type") else { return Kind::Text { html: false } };
    let parser = MessageParser::new().header_content_type(HeaderName::ContentType).default_header_ignore();
    let section = [field.raw, b"\r\n"].concat();
    let read = parser.parse_headers(&section);
    let Some(kind) = read.as_ref().and_then(|message| message.content_type()) else { return Kind::Other };
    let sub = kind.subtype().unwrap_or_default();
    match (kind.ctype().to_ascii_lowercase().as_str(), kind.attribute("boundary")) {
        ("multipart", Some(boundary)) if !boundary.is_empty() => Kind::Multipart(boundary.to_owned()),
        ("text", _) => Kind::Text { html: sub.eq_ignore_ascii_case("html") },
        _ => Kind::Other,
    }
}

/// RFC 2045 section 6.8, forgiving: what is no base64 is passed over, up to `most` octets.
fn base64(encoded: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity((encoded.len() / 4 * 3).min(most));
    let (mut bits, mut count) = (0_u32, 0_u32);
    for octet in encoded {
        let six = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6) | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.extend(u8::try_from((bits >> count) & 0xff));
            if out.len() >= most {
                break;
            }
        }
    }
    out
}

/// RFC 2045 section 6.7, forgiving: what is not encoded rightly stays as it is.
fn quoted_printable(encoded: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded.len().min(most));
    let mut rest = encoded;
    while let Some((first, tail)) = rest.split_first() {
        if out.len() >= most {
            break;
        }
        rest = tail;
        if *first != b'=' {
            out.push(*first);
            continue;
        }
        // A soft line break, with the blanks that some transports put before its CRLF.
        let blanks = tail.iter().take_while(|octet| matches!(octet, b' ' | b'\t')).count();
        let after = tail.get(blanks..).unwrap_or_default();
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        if let Some(line) = after.strip_prefix(b"\r\n").or_else(|| after.strip_prefix(b"\n")) {
            rest = line;
        } else if let Some(octet) = hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            out.push(octet);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(b'=');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(message: &[u8]) -> Vec<(bool, String)> {
        let headers = Headers::parse(message, 64 * 1024).unwrap();
        let texts = texts(&headers, &message[headers.body..]);
        texts
            .into_iter()
            .map(|text| (text.html, String::from_utf8_lossy(&text.octets).into_owned()))
            .collect()
    }

    #[test]
    fn texts_are_found_and_attachments_are_not() {
        let message = "Content-Type: multipart/mixed; boundary=\"a\"\r\n\r\npreamble\r\n--a\r\n\
                       Content-Type: multipart/alternative; boundary=b\r\n\r\n\
                       --b\r\n\r\nplain\r\n--b\r\nContent-Type: TEXT/HTML\r\nContent-Transfer-Encoding: Base64\r\n\r\n\
                       PGI+aGk8L2I+\r\n--b--\r\n--a\r\nContent-Type: text/plain\r\nContent-Disposition: Attachment\r\n\r\nno\r\n\
                       --a\r\nContent-Type: application/pdf\r\n\r\nno\r\n--a\r\nContent-Type: text/plain\r\n\r\nlast, not closed\r\n";
        let expected = [
            (false, "plain".to_owned()),
            (true, "<b>hi</b>".to_owned()),
            (false, "last, not closed\r\n".to_owned()),
        ];
        assert_eq!(all(message.as_bytes()), expected);
    }

    #[test]
    fn decoding_forgives() {
        for (text, decoded, why) in [
            ("a=3Db", "a=b", "encoded"),
            ("oob=\r\nCode", "oobCode", "a soft break"),
            ("oob= \t\r\nCode", "oobCode", "blanks before it"),
            ("oob=\nCode", "oobCode", "a line end without CR"),
            ("a=zzb=", "a=zzb=", "not encoded at all"),
            ("a=4", "a=4", "cut"),
        ] {
            assert_eq!(quoted_printable(text.as_bytes(), 100), decoded.as_bytes(), "{why}");
        }
        assert_eq!(base64(b"aGVs\r\nbG8=", 100), b"hello");
        assert_eq!(base64(b"aG!V*s-bG8", 100), b"hello", "marks and missing padding");
        assert_eq!(base64(&[b'A'; 1000], 10).len(), 10, "no more than asked for");
    }

    #[test]
    fn bounds_hold() {
        let many =
            format!("Content-Type: multipart/mixed; boundary=x\r\n\r\n{}", "--x\r\n\r\na\r\n".repeat(5_000));
        assert!(all(many.as_bytes()).len() <= PARTS_MAX);
        let long = format!("A: b\r\n\r\n{}", "x".repeat(2 * SEARCHED_MAX));
        assert_eq!(all(long.as_bytes())[0].1.len(), TEXT_MAX);
        let mut deep = String::from("Content-Type: multipart/mixed; boundary=b0\r\n\r\n");
        for depth in 0..50 {
            deep += &format!("--b{depth}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", depth + 1);
        }
        deep += "--b50\r\n\r\nhidden\r\n";
        assert!(all(deep.as_bytes()).is_empty(), "nobody nests that deep");
    }

    proptest! {
        #[test]
        fn any_octets_are_survived_and_bounded(
            kind in "(text/html|multipart/mixed; boundary=x|[a-z;=\" /]{0,20})",
            encoding in "(base64|quoted-printable|[a-z0-9]{0,8})",
            body in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'='), Just(b'-'), Just(b'x'), Just(b'\n')], 0..400),
        ) {
            let mut message = format!("Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n--x\r\n").into_bytes();
            message.extend(body);
            if let Ok(headers) = Headers::parse(&message, 64 * 1024) {
                let found = texts(&headers, &message[headers.body..]);
                prop_assert!(found.iter().map(|text| text.octets.len()).sum::<usize>() <= message.len());
            }
        }
    }
}
