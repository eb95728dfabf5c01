//! A header section as it stands: fields with their exact octets, nothing decoded, nothing guessed. What two parsers could
//! read differently is an error here rather than an opinion.

use std::ops::Range;

use memchr::{memchr, memchr_iter};

/// RFC 5322 section 2.1.1: octets of a line without its CRLF.
pub const LINE_MAX: usize = 998;
/// Fields of one header section. Postfix bounds the octets only; 1,000 is ten times what mailing lists and filters add.
pub const FIELDS_MAX: usize = 1_000;

/// Why a header section cannot be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// More octets than allowed.
    #[error("the header section is larger than {0} octets")]
    TooLarge(usize),
    /// More than `FIELDS_MAX` fields.
    #[error("the header section has more than {FIELDS_MAX} fields")]
    TooMany,
    /// A line over 998 octets (RFC 5322 section 2.1.1).
    #[error("line {0} of the header section is longer than {LINE_MAX} octets")]
    LongLine(usize),
    /// A line that is neither `Name: value` nor a continuation.
    #[error("line {0} of the header section has no field name followed by a colon")]
    NoName(usize),
    /// White space before the first field, before a colon, or alone on a line: receivers disagree on what it means.
    #[error("line {0} of the header section has white space where none may stand")]
    Space(usize),
    /// NUL, or CR or LF alone.
    #[error("line {0} of the header section has a NUL, or a CR or LF alone")]
    Control(usize),
}

/// One field: `Name: value CRLF` with its continuation lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// All of it, final CRLF included.
    pub raw: &'a [u8],
    colon: usize,
}

impl<'a> Field<'a> {
    /// The name as written.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.raw.get(..self.colon).unwrap_or_default()
    }

    /// What follows the colon, folds and final CRLF included.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.raw.get(self.colon + 1..).unwrap_or_default()
    }

    /// Names are compared without regard to case (RFC 5322 section 1.2.2).
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }
}

/// A header section's fields in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Top to bottom.
    pub fields: Vec<Field<'a>>,
    /// Where the body starts in the octets given; their length where there is none.
    pub body: usize,
}

impl<'a> Headers<'a> {
    /// Reads the section at the start of `message`, up to and with its empty line, or to the end where there is none.
    ///
    /// # Errors
    /// What could be read in more than one way, or exceeds `most` octets.
    pub fn parse(message: &'a [u8], most: usize) -> Result<Self, BadHeader> {
        let mut reader = Reader { message, most, fields: Vec::with_capacity(24), start: 0, colon: None };
        let mut number = 0;
        let mut at = 0;
        for end in memchr_iter(b'\n', message).map(|lf| lf + 1) {
            number += 1;
            if message.get(at..end) == Some(b"\r\n") {
                reader.close(at)?;
                return Ok(Headers { fields: reader.fields, body: end });
            }
            reader.line(at..end, number)?;
            at = end;
        }
        if at < message.len() {
            reader.line(at..message.len(), number + 1)?;
        }
        reader.close(message.len())?;
        Ok(Headers { fields: reader.fields, body: message.len() })
    }

    /// The fields of this name, top to bottom.
    pub fn all<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'s Field<'a>> + 's {
        self.fields.iter().filter(move |field| field.is(name))
    }

    /// The first field of this name.
    #[must_use]
    pub fn first<'s>(&'s self, name: &'s str) -> Option<&'s Field<'a>> {
        self.all(name).next()
    }
}

struct Reader<'a> {
    message: &'a [u8],
    most: usize,
    fields: Vec<Field<'a>>,
    /// Where the field under way starts.
    start: usize,
    /// Its colon, counted from there; `None` before the first field.
    colon: Option<usize>,
}

impl Reader<'_> {
    fn line(&mut self, range: Range<usize>, number: usize) -> Result<(), BadHeader> {
        if range.end > self.most {
            return Err(BadHeader::TooLarge(self.most));
        }
        let line = self.message.get(range.clone()).unwrap_or_default();
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if text.len() > LINE_MAX {
            return Err(BadHeader::LongLine(number));
        }
        if text.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n')) {
            return Err(BadHeader::Control(number));
        }
        if matches!(text.first(), Some(b' ' | b'\t')) {
            return self.continuation(text, number);
        }
        self.close(range.start)?;
        self.start = range.start;
        self.colon = Some(name_length(text, number)?);
        Ok(())
    }

    fn continuation(&self, text: &[u8], number: usize) -> Result<(), BadHeader> {
        // RFC 5322 section 3.2.2: no folded line may be white space alone; some readers end the section there.
        if self.colon.is_none() || text.trim_ascii().is_empty() {
            return Err(BadHeader::Space(number));
        }
        Ok(())
    }

    fn close(&mut self, end: usize) -> Result<(), BadHeader> {
        let Some(colon) = self.colon.take() else { return Ok(()) };
        if self.fields.len() == FIELDS_MAX {
            return Err(BadHeader::TooMany);
        }
        let raw = self.message.get(self.start..end).unwrap_or_default();
        self.fields.push(Field { raw, colon });
        Ok(())
    }
}

/// RFC 5322 section 3.6.8 ftext: printable ASCII but the colon. `From :` was obsolete in 2001, and readers differ on it.
fn name_length(text: &[u8], number: usize) -> Result<usize, BadHeader> {
    let colon = memchr(b':', text).ok_or(BadHeader::NoName(number))?;
    let name = text.get(..colon).unwrap_or_default();
    match name.iter().find(|octet| !octet.is_ascii_graphic()) {
        Some(b' ' | b'\t') => Err(BadHeader::Space(number)),
        Some(_) => Err(BadHeader::NoName(number)),
        None if name.is_empty() => Err(BadHeader::NoName(number)),
        None => Ok(colon),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 64 * 1024;

    #[test]
    fn fields_keep_their_octets() {
        let message = b"From: a@b.example\r\nSubject:  two\r\n\tlines \r\n\r\nbody\r\n";
        let headers = Headers::parse(message, MOST).unwrap();
        assert_eq!(headers.fields[0].value(), b" a@b.example\r\n");
        assert_eq!(headers.fields[1].raw, b"Subject:  two\r\n\tlines \r\n");
        assert!(headers.fields[1].is("SUBJECT"));
        assert_eq!(&message[headers.body..], b"body\r\n");
    }

    #[test]
    fn a_section_may_end_with_the_message() {
        assert_eq!(Headers::parse(b"A: b\r\n", MOST).unwrap().body, 6);
        assert_eq!(Headers::parse(b"A: b", MOST).unwrap().fields[0].value(), b" b");
        assert_eq!(Headers::parse(b"", MOST).unwrap().fields.len(), 0);
        assert_eq!(Headers::parse(b"\r\nA: b\r\n", MOST).unwrap().fields.len(), 0);
    }

    #[test]
    fn what_readers_would_disagree_on_is_refused() {
        let long = format!("A: {}\r\n", "x".repeat(996));
        let many = "A: b\r\n".repeat(FIELDS_MAX + 1);
        let large = format!("A: b\r\n{}", " xxxxxxxx\r\n".repeat(MOST / 10));
        let cases: &[(&[u8], BadHeader, &str)] = &[
            (b" From: a@b\r\n", BadHeader::Space(1), "a fold of nothing: some skip it, some read From"),
            (b"A: b\r\n \r\nFrom: x\r\n", BadHeader::Space(2), "some end the section here"),
            (b"From : a@b\r\n", BadHeader::Space(1), "obsolete space before the colon"),
            (b"From\r\n : a@b\r\n", BadHeader::NoName(1), "the name on a line of its own"),
            (b"From a@b Mon Jan 1\r\n", BadHeader::NoName(1), "an mbox separator"),
            (b"From a@b 12:00\r\n", BadHeader::Space(1), "an mbox separator with a time"),
            (b": x\r\n", BadHeader::NoName(1), "no name"),
            (b"Fr\xc3\xb6m: x\r\n", BadHeader::NoName(1), "names are ASCII, RFC 6532 too"),
            (b"A: b\0c\r\n", BadHeader::Control(1), "C strings end here"),
            (b"A: b\rFrom: c\r\n", BadHeader::Control(1), "some take CR for a line end"),
            (b"A: b\nFrom: c\r\n", BadHeader::Control(1), "and LF"),
            (long.as_bytes(), BadHeader::LongLine(1), "999 octets"),
            (many.as_bytes(), BadHeader::TooMany, "one more than FIELDS_MAX"),
            (large.as_bytes(), BadHeader::TooLarge(MOST), "over the bound"),
        ];
        for (message, bad, why) in cases {
            assert_eq!(Headers::parse(message, MOST), Err(*bad), "{why}");
        }
    }

    proptest! {
        #[test]
        fn fields_and_body_add_up(message in "([A-Za-z]{1,5}:[ a-z]{0,9}\r\n( [a-z]{1,4}\r\n)?){0,6}(\r\n[ -~\r\n]{0,40})?") {
            if let Ok(headers) = Headers::parse(message.as_bytes(), MOST) {
                let fields: usize = headers.fields.iter().map(|field| field.raw.len()).sum();
                let blank = headers.body - fields;
                prop_assert!(blank == 0 || blank == 2);
            }
        }

        #[test]
        fn any_octets_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Headers::parse(&message, MOST);
        }
    }
}
