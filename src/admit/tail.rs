//! Lines of nothing but blanks at the end of a message. Under relaxed canonicalization they are part of no body (RFC 6376
//! section 3.4.4), but some verifiers, mail-auth 0.13 among them, hash them: so that all agree, they do not leave.

use memchr::memmem;

/// Cuts lines of white space at the end, if one of them holds a blank. Plain empty lines stay: nobody disagrees about them.
pub(super) fn trim(message: &mut Vec<u8>) {
    let text = message.iter().rposition(|octet| !octet.is_ascii_whitespace()).map_or(0, |last| last + 1);
    let rest = message.get(text..).unwrap_or_default();
    let line = memmem::find(rest, b"\r\n").map_or(message.len(), |at| text + at + 2);
    let body = memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    let keep = line.max(body);
    if message.get(keep..).unwrap_or_default().iter().any(|octet| matches!(octet, b' ' | b'\t')) {
        message.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_and_what_stays() {
        let rows = [
            ("a: b\r\n\r\nx\r\n \t\r\n\r\n", "a: b\r\n\r\nx\r\n", "a line of blanks at the end"),
            ("a: b\r\n\r\nx \t\r\n", "a: b\r\n\r\nx \t\r\n", "blanks behind text are the text's"),
            ("a: b\r\n\r\nx \r\n  ", "a: b\r\n\r\nx \r\n", "the last line lacks its CRLF"),
            ("a: b\r\n\r\nx\r\n\r\n\r\n", "a: b\r\n\r\nx\r\n\r\n\r\n", "empty lines stay"),
            ("a: b\r\n\r\n \r\n", "a: b\r\n\r\n", "a body of nothing else: the empty line between stays"),
            ("a: b\r\n\r\n\r\n \r\nx\r\n", "a: b\r\n\r\n\r\n \r\nx\r\n", "blanks before text stay"),
            ("", "", "nothing"),
        ];
        for (given, wanted, why) in rows {
            let mut message = given.as_bytes().to_vec();
            trim(&mut message);
            assert_eq!(String::from_utf8_lossy(&message), wanted, "{why}");
        }
    }
}
