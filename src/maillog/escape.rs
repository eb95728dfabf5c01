//! How a line is escaped, on disk and at display: nothing that a stranger said may drive a terminal or break a line.

use std::fmt::Write as _;
use std::io;

/// Compact JSON that is also safe to print: besides what JSON escapes itself, control characters above ASCII, DEL, line
/// separators and the marks that turn the direction of text.
pub(super) struct Plain;

impl serde_json::ser::Formatter for Plain {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return out.write_all(text.as_bytes());
        }
        let mut safe = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            if is_unsafe(c) {
                // Every one of them is below U+10000. Writing to a String cannot fail.
                let _ = write!(safe, "\\u{:04x}", u32::from(c));
            } else {
                safe.push(c);
            }
        }
        out.write_all(safe.as_bytes())
    }
}

/// Whether a character could change what a terminal or a reader sees around it.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}
