//! Where the parts of a multipart body begin and end. A scan in one pass, whatever is nested.

use memchr::memmem;

/// A delimiter line: the content before it ends without its CRLF, the next part starts behind it.
pub struct Delimiter {
    /// Where the content before it ends.
    pub content_end: usize,
    /// Where the next part begins.
    pub line_end: usize,
    /// It is the last one.
    pub closes: bool,
}

/// The delimiter lines of a multipart body (RFC 2046 section 5.1.1).
pub struct Delimiters<'a> {
    body: &'a [u8],
    mark: memmem::Finder<'static>,
    at: usize,
}

impl<'a> Delimiters<'a> {
    /// Of this body.
    #[must_use]
    pub fn new(body: &'a [u8], boundary: &str) -> Self {
        Self { body, mark: memmem::Finder::new(&format!("--{boundary}")).into_owned(), at: 0 }
    }
}

impl Iterator for Delimiters<'_> {
    type Item = Delimiter;

    fn next(&mut self) -> Option<Delimiter> {
        loop {
            let from = self.at;
            let start = from + self.mark.find(self.body.get(from..)?)?;
            let after = start + self.mark.needle().len();
            self.at = after;
            if start > 0 && self.body.get(start - 1) != Some(&b'\n') {
                continue;
            }
            let tail = self.body.get(after..)?;
            let length = memchr::memchr(b'\n', tail).map_or(tail.len(), |lf| lf + 1);
            let tail = tail.get(..length)?;
            let closes = tail.starts_with(b"--");
            let padding = if closes { tail.get(2..)? } else { tail };
            if padding.trim_ascii().is_empty() {
                self.at = after + length;
                // The CRLF before it belongs to the delimiter.
                return Some(Delimiter { content_end: start.saturating_sub(2), line_end: self.at, closes });
            }
        }
    }
}
