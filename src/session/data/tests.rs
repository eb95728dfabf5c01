//! The reader against a plain model of the standard, whatever the octets and however they are split.

use proptest::prelude::*;

use super::*;

/// The message before the first CRLF . CRLF, said slowly: split at the true end, then unstuff after true line ends.
fn model(octets: &[u8]) -> Option<Vec<u8>> {
    let whole = [b"\r\n", octets].concat();
    let end = memchr::memmem::find(&whole, b"\r\n.\r\n")?;
    let mut message = whole[..end + 2].to_vec();
    let mut at = 0;
    while let Some(next) = memchr::memmem::find(&message[at..], b"\r\n.") {
        message.remove(at + next + 2);
        at += next + 2;
    }
    Some(message[2..].to_vec())
}

fn read(octets: &[u8], size: usize) -> Option<Result<Vec<u8>, Fault>> {
    let mut body = Body::new(Framing::Dots, BareNewlines::Refuse, 1000, None, Permit::default());
    for piece in octets.chunks(size) {
        if body.take(piece).1 {
            return Some(finished(body));
        }
    }
    None
}

fn finished(body: Body) -> Result<Vec<u8>, Fault> {
    body.finish().map(|(octets, _)| octets)
}

fn octet() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(b'\r'), 3 => Just(b'\n'), 3 => Just(b'.'), 1 => Just(b'x'), 1 => Just(0)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_end_is_where_the_standard_has_it(octets in proptest::collection::vec(octet(), 0..40), size in 1usize..9) {
        let expected = model(&octets);
        let got = read(&octets, size);
        prop_assert_eq!(expected.is_some(), got.is_some());
        if let (Some(expected), Some(Ok(got))) = (expected, got) {
            prop_assert_eq!(expected, got);
        }
    }

    #[test]
    fn what_is_taken_holds_neither_bare_line_ends_nor_nul(octets in proptest::collection::vec(octet(), 0..40)) {
        for bare in [BareNewlines::Refuse, BareNewlines::Normalize] {
            let mut body = Body::new(Framing::Counted, bare, 1000, None, Permit::default());
            body.take(&octets);
            let Ok(taken) = finished(body) else { continue };
            let text = String::from_utf8(taken).unwrap().replace("\r\n", "");
            prop_assert!(!text.contains(['\r', '\n', '\0']));
        }
    }
}

#[test]
fn the_limit_counts_what_is_kept_not_what_is_stuffed() {
    let mut body = Body::new(Framing::Dots, BareNewlines::Refuse, 6, Some(u64::MAX), Permit::default());
    assert_eq!(body.take(b"..abc\r\n.\r\nNOOP"), (10, true));
    assert_eq!(finished(body), Ok(b".abc\r\n".to_vec()));
    let mut body = Body::new(Framing::Dots, BareNewlines::Refuse, 5, None, Permit::default());
    body.take(b".abcd\r\n\n\0\r\n.\r\n");
    assert_eq!(finished(body), Err(Fault::TooBig), "said before all else");
}
