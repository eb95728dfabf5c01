//! Lines and arguments, a row a reason.

use super::*;

#[test]
fn lines_are_found_and_faults_swallow_to_crlf() {
    let rows: [(&[u8], Found, &[u8], &str); 6] = [
        (b"NOOP\r\nX", Found::Line(6), b"NOOP\r\nX", "a line is left for the caller"),
        (b"NOOP\r", Found::More, b"NOOP\r", "half an end is none"),
        (b"A\nB\r\nC", Found::BareLf(Verb::Unknown), b"B\r\nC", "the rest is dropped by the next look"),
        (b"BDAT 5\nhello", Found::BareLf(Verb::Bdat), b"hello", "whose octets cannot be told from commands"),
        (b"\x16\x03\x01", Found::Tls, b"\x16\x03\x01", "a ClientHello"),
        (b"", Found::More, b"", "nothing yet"),
    ];
    for (octets, found, left, why) in rows {
        let mut input = BytesMut::from(octets);
        assert_eq!(Lines::default().find(&mut input, false), found, "{why}");
        assert_eq!(&input[..], left, "{why}");
    }
}

#[test]
fn what_follows_a_bare_lf_is_never_a_command() {
    let (mut lines, mut input) = (Lines::default(), BytesMut::from(&b"A\nQUIT\r\nNOOP\r\n"[..]));
    assert_eq!(lines.find(&mut input, false), Found::BareLf(Verb::Unknown));
    assert_eq!(lines.find(&mut input, false), Found::Line(6));
    assert_eq!(&input[..], b"NOOP\r\n");
}

#[test]
fn each_kind_of_line_has_its_bound() {
    let rows =
        [("NOOP ", LINE_MAX), ("mail ", PATH_LINE_MAX), ("RCPT ", PATH_LINE_MAX), ("AUTH ", AUTH_LINE_MAX)];
    for (head, max) in rows {
        for (length, fits) in [(max, true), (max + 1, false)] {
            let line = format!("{head}{}\r\n", "x".repeat(length - head.len() - 2));
            let found = Lines::default().find(&mut BytesMut::from(line.as_bytes()), false);
            assert_eq!(matches!(found, Found::Line(_)), fits, "{head}{length}");
        }
    }
}

#[test]
fn chunks_are_counted_or_unknown() {
    let known = |octets, last| Some(Chunk { octets, last });
    let rows = [
        ("0 LAST", known(0, Some(true)), "the empty end"),
        ("12", known(12, Some(false)), "one of several"),
        ("12 last", known(12, Some(true)), "in any case"),
        ("1 FOO", known(1, None), "the count is known, so the octets can be read"),
        ("1 LAST x", known(1, None), "likewise"),
        ("", None, "no count"),
        ("-1", None, "no count"),
        ("+1", None, "digits only"),
        ("18446744073709551616", None, "over 64 bits"),
    ];
    for (text, expected, why) in rows {
        assert_eq!(chunk(text), expected, "{text}: {why}");
    }
}
