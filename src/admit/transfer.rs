//! Content transfer encodings (RFC 2045 section 6): what brings octets over 127 and long lines into a form that every server
//! carries unchanged.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr_iter;

use crate::mail::header::LINE_MAX;

/// RFC 2045 section 6.7 rule 5 and section 6.8: octets of an encoded line.
const ENCODED_LINE_MAX: usize = 76;
/// Octets that fill one line of base64.
const BASE64_INPUT: usize = ENCODED_LINE_MAX / 4 * 3;
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Whether these octets pass every server as they are: ASCII, in lines of at most 998 (RFC 5321 section 4.5.3.1.6).
pub(super) fn is_plain(octets: &[u8]) -> bool {
    let mut start = 0;
    let short = |end: usize| {
        let length = end - start;
        start = end + 1;
        // The CR of a CRLF is counted in `length`, not in the line.
        length <= LINE_MAX + 1
    };
    octets.is_ascii() && memchr_iter(b'\n', octets).chain([octets.len() + 1]).all(short)
}

/// Quoted-printable or base64, whichever is shorter for text.
pub(super) fn suits_quoted_printable(octets: &[u8]) -> bool {
    let coded = octets.iter().filter(|octet| !octet.is_ascii() || **octet == b'=').count();
    // Three octets for each coded one against four for every three.
    coded * 6 <= octets.len()
}

/// Appends text as quoted-printable; CRLF stays a line end. With `encoded`, `=` was encoded before and stays.
pub(super) fn quoted_printable(text: &[u8], encoded: bool, out: &mut Vec<u8>) {
    out.reserve(text.len() + text.len() / 8);
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        let content = line.strip_suffix(b"\r\n").unwrap_or(line);
        quote_line(content, encoded, out);
        if content.len() < line.len() {
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn quote_line(line: &[u8], encoded: bool, out: &mut Vec<u8>) {
    let last = line.len().saturating_sub(1);
    let mut column = 0;
    // Octets left of an escape that stands in the text already, which must not be parted.
    let mut escape = 0;
    for (at, octet) in line.iter().copied().enumerate() {
        let plain = match octet {
            b'=' => encoded,
            b' ' | b'\t' => at != last,
            octet => octet.is_ascii_graphic(),
        };
        let opens = encoded && escape == 0 && octet == b'=';
        let width = if plain && !opens { 1 } else { 3 };
        let room = if at == last { ENCODED_LINE_MAX } else { ENCODED_LINE_MAX - 1 };
        if escape == 0 && column + width > room {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        escape = if opens { 2_u8 } else { escape.saturating_sub(1) };
        if plain {
            out.push(octet);
            column += 1;
        } else {
            let hex = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'=', hex(octet >> 4), hex(octet & 15)]);
            column += 3;
        }
    }
}

/// Appends octets as base64 in lines parted by CRLF, without one at the end.
pub(super) fn base64(octets: &[u8], out: &mut Vec<u8>) {
    out.reserve(octets.len() / 3 * 4 + octets.len() / BASE64_INPUT * 2 + 8);
    let mut line = [0; ENCODED_LINE_MAX];
    for (at, chunk) in octets.chunks(BASE64_INPUT).enumerate() {
        if at > 0 {
            out.extend_from_slice(b"\r\n");
        }
        let length = STANDARD.encode_slice(chunk, &mut line).unwrap_or(0);
        out.extend_from_slice(line.get(..length).unwrap_or_default());
    }
}

/// Appends base64 that was badly wrapped in lines of 76; what is not of its alphabet is dropped, as decoders do (RFC 2045
/// section 6.8).
pub(super) fn rewrap_base64(encoded: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded.len() + encoded.len() / 38);
    let belongs = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=".contains(octet);
    for (at, octet) in encoded.iter().copied().filter(belongs).enumerate() {
        if at > 0 && at % ENCODED_LINE_MAX == 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.push(octet);
    }
}

#[cfg(test)]
mod tests {
    use mail_parser::MessageParser;
    use proptest::prelude::*;

    use super::*;

    fn decoded(encoding: &str, body: &[u8]) -> Vec<u8> {
        let head = format!("Content-Type: application/x\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n");
        let message = [head.as_bytes(), body].concat();
        MessageParser::new().parse(&message).unwrap().parts[0].contents().to_vec()
    }

    #[test]
    fn a_line_of_998_octets_passes_and_one_of_999_does_not() {
        let line = |length: usize| [vec![b'x'; length], b"\r\n".to_vec()].concat();
        assert!(is_plain(&line(998)));
        assert!(!is_plain(&line(999)));
        assert!(is_plain(&[line(998), line(998)].concat()));
        assert!(!is_plain(&[line(1), vec![b'x'; 1_000]].concat()), "a last line without CRLF");
        assert!(!is_plain("é\r\n".as_bytes()));
    }

    #[test]
    fn an_escape_that_stands_in_the_text_is_not_parted() {
        let text = "=C3=A9".repeat(400);
        let mut out = Vec::new();
        quoted_printable(text.as_bytes(), true, &mut out);
        assert!(out.split(|octet| *octet == b'\n').all(|line| line.len() <= 77));
        assert_eq!(decoded("quoted-printable", &out), "é".repeat(400).into_bytes());
        out.clear();
        quoted_printable(&[b'='; 4_000], true, &mut out);
        assert!(is_plain(&out), "nothing but marks");
    }

    proptest! {
        #[test]
        fn quoted_printable_is_read_back(text in "([ -~é\t]{0,90}\r\n){0,6}") {
            let mut out = Vec::new();
            quoted_printable(text.as_bytes(), false, &mut out);
            prop_assert!(is_plain(&out));
            prop_assert!(out.split(|octet| *octet == b'\n').all(|line| line.len() <= 77));
            prop_assert_eq!(decoded("quoted-printable", &out), text.into_bytes());
        }

        #[test]
        fn base64_is_read_back(octets in proptest::collection::vec(any::<u8>(), 1..300)) {
            let (mut out, mut again) = (Vec::new(), Vec::new());
            base64(&octets, &mut out);
            prop_assert!(is_plain(&out));
            rewrap_base64(&out.iter().copied().filter(|octet| !b"\r\n".contains(octet)).collect::<Vec<_>>(), &mut again);
            prop_assert_eq!(&out, &again);
            prop_assert_eq!(decoded("base64", &out), octets);
        }
    }
}
