//! The message as it goes over the wire: dot-stuffed (RFC 5321 section 4.5.2) and ended, in pieces of the original octets,
//! so that nothing is copied.

use memchr::memmem::{self, FindIter};

const DOT: &[u8] = b".";
/// After a body that ends in CRLF, as every sealed one does, or that is empty.
const END: &[u8] = b".\r\n";
/// After one that does not.
const CRLF_END: &[u8] = b"\r\n.\r\n";

/// The pieces of a body on the wire, with the final dot.
#[derive(Debug)]
pub struct Wire<'a> {
    body: &'a [u8],
    /// Start of what has not been given out.
    at: usize,
    dots: FindIter<'a, 'static>,
    next: Next,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Dot,
    Piece,
    End,
    Nothing,
}

impl<'a> Wire<'a> {
    /// The pieces of this body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        let next = if body.starts_with(DOT) { Next::Dot } else { Next::Piece };
        Self { body, at: 0, dots: memmem::find_iter(body, b"\r\n."), next }
    }

    /// Up to the next line that begins with a dot; that dot is doubled next.
    fn piece(&mut self) -> &'a [u8] {
        let found = self.dots.next().map(|hit| hit + 2);
        let end = found.unwrap_or(self.body.len());
        self.next = if found.is_some() { Next::Dot } else { Next::End };
        let piece = self.body.get(self.at..end).unwrap_or_default();
        self.at = end;
        piece
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self.next {
            Next::Dot => {
                self.next = Next::Piece;
                Some(DOT)
            }
            Next::Piece => Some(self.piece()),
            Next::End => {
                self.next = Next::Nothing;
                let whole = self.body.is_empty() || self.body.ends_with(b"\r\n");
                Some(if whole { END } else { CRLF_END })
            }
            Next::Nothing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(body: &[u8]) -> Vec<u8> {
        Wire::new(body).flatten().copied().collect()
    }

    /// What a receiver makes of it, written from RFC 5321 section 4.5.2 and not from the code above.
    fn unstuff(wire: &[u8]) -> Vec<u8> {
        let text = wire.strip_suffix(b".\r\n").unwrap();
        let mut body = Vec::new();
        let mut at_start = true;
        for (at, octet) in text.iter().enumerate() {
            let stuffed = at_start && *octet == b'.';
            if !stuffed {
                body.push(*octet);
            }
            at_start = text[..=at].ends_with(b"\r\n");
        }
        body
    }

    #[test]
    fn dots_are_doubled_where_a_line_begins() {
        let cases: [(&[u8], &[u8], &str); 8] = [
            (b"a\r\n", b"a\r\n.\r\n", "nothing to do"),
            (b".\r\n", b"..\r\n.\r\n", "a lone dot is text"),
            (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n", "every line that begins with one"),
            (b"\r\n.\r\n.\r\n", b"\r\n..\r\n..\r\n.\r\n", "lines that follow each other"),
            (b"a.\r\n", b"a.\r\n.\r\n", "not in the middle"),
            (b"a", b"a\r\n.\r\n", "the last line is ended for it"),
            (b"", b".\r\n", "an empty body"),
            (b"a\r\n.", b"a\r\n..\r\n.\r\n", "a dot at the very end"),
        ];
        for (body, expected, why) in cases {
            assert_eq!(wire(body), expected, "{why}");
        }
    }

    #[test]
    fn a_body_without_dots_is_one_piece() {
        assert_eq!(Wire::new(b"a\r\nb\r\n").count(), 2, "the body itself and the end: one vectored write");
    }

    proptest! {
        #[test]
        fn what_arrives_is_what_was_sealed(lines in proptest::collection::vec("[.a\r]{0,4}", 0..20)) {
            let body: String = lines.iter().map(|line| format!("{}\r\n", line.replace('\r', "x"))).collect();
            prop_assert_eq!(unstuff(&wire(body.as_bytes())), body.as_bytes());
        }
    }
}
