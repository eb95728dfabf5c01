//! Replies of remote servers, read a line at a time out of what has arrived: opaque bytes, bounded in every direction.
//! Whatever breaks a bound or the grammar is a protocol error, which defers; nothing a server says can make us buffer
//! without end (CVE-2020-8794 was a multi-line reply).

use bytes::{Buf, BytesMut};
use memchr::memchr;

use crate::mail::reply::{Enhanced, PeerReply};

/// Octets of one line. RFC 5321 section 4.5.3.1.5 says 512; real servers put URLs in it.
pub const LINE_MAX: usize = 4 * 1024;
/// Lines of one reply; the longest seen in practice are a dozen.
pub const LINES_MAX: usize = 100;
/// Octets of one reply.
pub const REPLY_MAX: usize = 64 * 1024;
/// Octets of text kept of one reply (`PeerReply::text`).
pub const TEXT_MAX: usize = 4 * 1024;

/// Why what arrived is no SMTP reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Garbled {
    /// A line over `LINE_MAX`, finished or not.
    #[error("a reply line is longer than {LINE_MAX} octets")]
    Line,
    /// More than `LINES_MAX` lines, or `REPLY_MAX` octets.
    #[error("a reply has more than {LINES_MAX} lines or {REPLY_MAX} octets")]
    Reply,
    /// Not three digits from 200 to 599 and then a space, a dash or the end (RFC 5321 section 4.2).
    #[error("not an SMTP reply")]
    Grammar,
    /// The lines of one reply bear different codes (RFC 5321 section 4.2.1).
    #[error("the lines of a reply have different codes")]
    Mixed,
}

/// Reads replies out of a buffer that the driver fills.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    partial: Option<Partial>,
}

/// A reply of which not every line has arrived.
#[derive(Debug)]
struct Partial {
    code: u16,
    lines: usize,
    octets: usize,
    text: Vec<u8>,
}

impl Reader {
    /// Where arriving octets go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Whether octets have arrived that no reply has used up.
    #[must_use]
    pub fn has_leftovers(&self) -> bool {
        !self.buffer.is_empty() || self.partial.is_some()
    }

    /// The next whole reply; `None`: read more.
    ///
    /// # Errors
    /// `Garbled`; nothing after it can be trusted, and the connection is to be closed.
    pub fn take(&mut self) -> Result<Option<PeerReply>, Garbled> {
        while let Some(end) = memchr(b'\n', &self.buffer) {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            // A bare LF is taken for a line end: here it cannot smuggle anything, the server speaks for itself.
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if let Some(reply) = self.take_line(line)? {
                return Ok(Some(reply));
            }
        }
        // The CR of a line's end may be here already: the longest line is one however it comes in.
        let line = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        if line.len() > LINE_MAX { Err(Garbled::Line) } else { Ok(None) }
    }

    /// Adds a line to the reply under way; the reply, if this was its last.
    fn take_line(&mut self, line: &[u8]) -> Result<Option<PeerReply>, Garbled> {
        if line.len() > LINE_MAX {
            return Err(Garbled::Line);
        }
        let (code, last, text) = split_line(line)?;
        let partial = self.partial.get_or_insert(Partial { code, lines: 0, octets: 0, text: Vec::new() });
        if partial.code != code {
            return Err(Garbled::Mixed);
        }
        partial.lines += 1;
        partial.octets += line.len();
        if partial.lines > LINES_MAX || partial.octets > REPLY_MAX {
            return Err(Garbled::Reply);
        }
        if partial.lines > 1 {
            push_bounded(&mut partial.text, b"\n");
        }
        push_bounded(&mut partial.text, text);
        if !last {
            return Ok(None);
        }
        let kept = self.partial.take().map(|partial| partial.text).unwrap_or_default();
        Ok(Some(PeerReply { code, enhanced: enhanced(code, text), text: kept }))
    }
}

fn push_bounded(text: &mut Vec<u8>, more: &[u8]) {
    let room = TEXT_MAX.saturating_sub(text.len());
    text.extend(more.iter().take(room));
}

/// Code, whether it is the last line, and text. `250` alone is complete (RFC 5321 section 4.2: clients must accept it).
fn split_line(line: &[u8]) -> Result<(u16, bool, &[u8]), Garbled> {
    let (digits, rest) = line.split_at_checked(3).ok_or(Garbled::Grammar)?;
    let code = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let code: u16 = code.and_then(|digits| digits.parse().ok()).ok_or(Garbled::Grammar)?;
    // 1yz is never sent in SMTP, and there is no class 0 or above 5 (RFC 5321 section 4.2.1).
    if !(200..600).contains(&code) {
        return Err(Garbled::Grammar);
    }
    match rest.split_first() {
        None => Ok((code, true, rest)),
        Some((b' ' | b'\t', text)) => Ok((code, true, text)),
        Some((b'-', text)) => Ok((code, false, text)),
        Some(_) => Err(Garbled::Grammar),
    }
}

/// The enhanced code that a text begins with, if its class is the code's (RFC 2034 section 4).
fn enhanced(code: u16, text: &[u8]) -> Option<Enhanced> {
    let word = text.split(u8::is_ascii_whitespace).next()?;
    let mut parts = std::str::from_utf8(word).ok()?.split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| part.parse::<u16>().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()));
    let (class, subject, detail) = (class.parse::<u8>().ok()?, number(subject)?, number(detail)?);
    let sound = parts.next().is_none() && u16::from(class) == code / 100 && subject < 1000 && detail < 1000;
    sound.then_some(Enhanced(class, subject, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the octets in pieces of every size and expects the same each time.
    fn read(octets: &[u8]) -> Result<Vec<PeerReply>, Garbled> {
        let mut results = [1, 2, 7, octets.len().max(1)].map(|piece| {
            let mut reader = Reader::default();
            let mut replies = Vec::new();
            for chunk in octets.chunks(piece) {
                reader.buffer().extend_from_slice(chunk);
                while let Some(reply) = reader.take()? {
                    replies.push(reply);
                }
            }
            Ok(replies)
        });
        let first = results[0].clone();
        assert!(results.iter_mut().all(|result| *result == first), "the split must not matter");
        first
    }

    fn one(octets: &[u8]) -> PeerReply {
        read(octets).unwrap().remove(0)
    }

    #[test]
    fn replies_are_read() {
        type Case = (&'static [u8], u16, Option<Enhanced>, &'static [u8], &'static str);
        let cases: [Case; 9] = [
            (b"250 2.1.0 ok\r\n", 250, Some(Enhanced(2, 1, 0)), b"2.1.0 ok", "the plain case"),
            (b"250\r\n", 250, None, b"", "a code alone is a reply"),
            (b"250-a\r\n250-b\r\n250 c\r\n", 250, None, b"a\nb\nc", "lines are joined"),
            (b"571 no\r\n", 571, None, b"no", "codes that no RFC lists keep their class"),
            (b"550 4.1.1 x\r\n", 550, None, b"4.1.1 x", "an enhanced code of another class is none"),
            (b"550 5.1.1.1 x\r\n", 550, None, b"5.1.1.1 x", "four numbers are an address, not a code"),
            (b"220 caf\xe9\x00\x1b[2J\r\n", 220, None, b"caf\xe9\x00\x1b[2J", "any octet is kept"),
            (b"250 ok\n", 250, None, b"ok", "a bare LF ends a line"),
            (
                b"550-5.7.1 a\r\n550 5.7.26 b\r\n",
                550,
                Some(Enhanced(5, 7, 26)),
                b"5.7.1 a\n5.7.26 b",
                "the last counts",
            ),
        ];
        for (octets, code, enhanced, text, why) in cases {
            assert_eq!(one(octets), PeerReply { code, enhanced, text: text.to_vec() }, "{why}");
        }
    }

    #[test]
    fn garbage_is_told_from_replies() {
        let long = [b"250 ".as_slice(), &vec![b'x'; 1 << 20], b"\r\n"].concat();
        let many = b"250-x\r\n".repeat(1_000_000);
        let big = [b"250-".as_slice(), &[b'x'; 4000], b"\r\n"].concat().repeat(20);
        let cases: [(&[u8], Garbled, &str); 11] = [
            (b"HTTP/1.1 400 Bad Request\r\n", Garbled::Grammar, "another protocol"),
            (b"\x15\x03\x01\x00\x02\n", Garbled::Grammar, "a TLS alert"),
            (b"25 ok\r\n", Garbled::Grammar, "two digits"),
            (b"\r\n", Garbled::Grammar, "nothing"),
            (b"199 x\r\n", Garbled::Grammar, "1yz does not exist in SMTP"),
            (b"600 x\r\n", Garbled::Grammar, "no such class"),
            (b"250x\r\n", Garbled::Grammar, "neither space nor dash"),
            (b"250-a\r\n550 b\r\n", Garbled::Mixed, "which one holds?"),
            (&long, Garbled::Line, "a megabyte in one line"),
            (&many, Garbled::Reply, "a million lines"),
            (&big, Garbled::Reply, "over 64 KiB in allowed lines"),
        ];
        for (octets, garbled, why) in cases {
            assert_eq!(read(octets), Err(garbled), "{why}");
        }
    }

    #[test]
    fn an_endless_line_is_not_buffered() {
        let mut reader = Reader::default();
        reader.buffer().extend_from_slice(&[b'2'; LINE_MAX + 1]);
        assert_eq!(reader.take(), Err(Garbled::Line));
    }

    #[test]
    fn text_is_kept_within_its_bound() {
        let octets = [b"250-".as_slice(), &[b'x'; 4000], b"\r\n"].concat().repeat(3);
        assert_eq!(one(&[octets.as_slice(), b"250 2.0.0 end\r\n"].concat()).text.len(), TEXT_MAX);
    }

    #[test]
    fn leftovers_are_seen() {
        let mut reader = Reader::default();
        reader.buffer().extend_from_slice(b"220 go\r\n250-fake");
        assert_eq!(reader.take().unwrap().unwrap().code, 220);
        assert!(reader.has_leftovers());
    }
}
