//! Re-encoding, judged by mail-parser: what a reader sees stays the same.

use std::time::Duration;

use mail_parser::MessageParser;
use proptest::prelude::*;

use super::*;

/// The message after re-encoding, and whether it needs 8BITMIME.
fn recoded(message: &[u8]) -> Option<(Vec<u8>, bool)> {
    let headers = Headers::parse(message, 1_000_000).unwrap();
    let recoded = recode(&headers, &message[headers.body..]).unwrap()?;
    let mut out = Vec::new();
    for field in &headers.fields {
        if recoded.change.is_none() || !Change::removes(field) {
            out.extend_from_slice(field.raw);
        }
    }
    if let Some(change) = recoded.change {
        change.write(&mut out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&recoded.octets);
    Some((out, recoded.eight_bit))
}

fn refused(message: &[u8]) -> bool {
    let headers = Headers::parse(message, 10_000_000).unwrap();
    recode(&headers, &message[headers.body..]).is_err()
}

#[test]
fn plain_mail_is_never_looked_into() {
    assert!(recoded(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nbroken").is_none());
}

#[test]
fn text_keeps_its_words_and_gets_short_lines() {
    let html = "<p>Grüße</p>".repeat(2_000);
    let head = "From: a@t.example\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n";
    let (out, eight_bit) = recoded(format!("{head}{html}\r\n").as_bytes()).unwrap();
    assert!(transfer::is_plain(&out) && !eight_bit);
    let parsed = MessageParser::new().parse(&out).unwrap();
    assert_eq!(parsed.body_html(0).unwrap().trim_end(), html);
    assert_eq!(
        out.windows(25).filter(|window| window.eq_ignore_ascii_case(b"content-transfer-encoding")).count(),
        1
    );
}

#[test]
fn text_without_a_type_gets_one_that_is_true() {
    for (body, expected, why) in [
        ("Grüße\r\n".as_bytes(), "charset=utf-8", "valid UTF-8"),
        (b"Gr\xfc\xdfe\r\n".as_slice(), "charset=unknown-8bit", "anything else"),
    ] {
        let message = [b"From: a@t.example\r\n\r\n", body].concat();
        let (out, _) = recoded(&message).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(expected), "{why}");
    }
}

#[test]
fn each_part_is_treated_by_itself() {
    let long = "x".repeat(5_000);
    let message = format!(
        "From: a@t.example\r\nContent-Type: multipart/mixed; boundary=\"o\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         préamble\r\n--o\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n\
         --i\r\n\r\nplain stays\r\n--i\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<b>日本語</b>\r\n--i--\r\n\
         --o \r\nContent-Type: application/x-long\r\n\r\n{long}\r\n\
         --o\r\nContent-Type: message/rfc822\r\n\r\nSubject: Grüße\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nübel\r\n\
         --o--\r\nepilog\r\n"
    );
    let (out, eight_bit) = recoded(message.as_bytes()).unwrap();
    assert!(transfer::is_plain(&out) && !eight_bit, "{}", String::from_utf8_lossy(&out));
    let parsed = MessageParser::new().parse(&out).unwrap();
    assert_eq!(parsed.body_text(0).unwrap(), "plain stays");
    assert_eq!(parsed.body_html(0).unwrap(), "<b>日本語</b>");
    assert_eq!(parsed.attachment(0).unwrap().contents(), long.as_bytes());
    let inner = parsed.attachment(1).unwrap().message().unwrap();
    assert_eq!(inner.subject().unwrap(), "Grüße");
    assert_eq!(inner.body_text(0).unwrap().trim_end(), "übel");
}

#[test]
fn what_is_signed_or_encrypted_is_not_touched_and_needs_8bitmime() {
    for kind in ["signed", "encrypted"] {
        let body = "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n--b\r\n\r\nsignature\r\n--b--\r\n";
        let head = format!("From: a@t.example\r\nContent-Type: multipart/{kind}; boundary=b\r\n\r\n");
        let message = format!("{head}{body}");
        assert_eq!(recoded(message.as_bytes()), Some((message.clone().into_bytes(), true)), "{kind}");
        let wrapped =
            format!("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n{head}{body}\r\n--o--\r\n");
        assert_eq!(
            recoded(wrapped.as_bytes()),
            Some((wrapped.clone().into_bytes(), true)),
            "{kind} within a part"
        );
    }
}

/// A template that says multipart and has no parts: what it has is all there is to read.
#[test]
fn what_has_no_parts_keeps_its_words() {
    for (boundary, body, why) in [
        ("b", "<p>Grüße</p>\r\n", "no delimiter"),
        ("b", "<p>Grüße</p>\r\n--b--\r\n", "only the last"),
        ("b", "<p>Grüße</p>\r\n--B\r\n\r\nsmall\r\n--B--\r\n", "another one"),
    ] {
        let head = format!("From: a@t.example\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n");
        let message = format!("{head}{body}");
        assert_eq!(recoded(message.as_bytes()), Some((message.clone().into_bytes(), true)), "{why}");
        let wrapped =
            format!("Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n{head}{body}\r\n--o--\r\n");
        let (out, _) = recoded(wrapped.as_bytes()).unwrap();
        assert!(String::from_utf8_lossy(&out).contains("<p>Grüße</p>"), "{why}, within a part");
    }
}

#[test]
fn broken_encodings_are_written_properly() {
    for (encoding, body, expected) in [
        ("base64", "QUJD".repeat(1_000), "ABC".repeat(1_000)),
        ("quoted-printable", "=C3=A9 é ".repeat(300), "é é ".repeat(300)),
    ] {
        let head = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding";
        let (out, _) = recoded(format!("{head}: {encoding}\r\n\r\n{body}\r\n").as_bytes()).unwrap();
        assert!(transfer::is_plain(&out));
        let parsed = MessageParser::new().parse(&out).unwrap();
        assert_eq!(parsed.body_text(0).unwrap().trim_end(), expected.trim_end(), "{encoding}");
    }
    let odd = format!("Content-Transfer-Encoding: x-uuencode\r\n\r\n{}", "x".repeat(1_000));
    assert!(refused(odd.as_bytes()), "an encoding that nobody can undo");
}

/// How long this thread has run, as Linux counts.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// CM4: hostile structures are carried as they are, or refused, in bounded time.
#[test]
fn hostile_structures_cost_little() {
    let nested: String = (0..10_000)
        .map(|n| format!("--b{n}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n", n + 1))
        .collect();
    let messages = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
    let parts = "--b0\r\n\r\né\r\n".repeat(300_000);
    let same = "--b0\r\nContent-Type: multipart/mixed; boundary=b0\r\n\r\n".repeat(10_000);
    let params: String = (0..900).map(|n| format!("; name*{n}=x\r\n ")).collect();
    let long = "--b0x".repeat(200_000);
    for (body, why) in [
        (format!("{nested}é"), "nested 10,000 deep"),
        (format!("{same}é"), "one boundary for all"),
        (format!("--b0\r\n{messages}é"), "messages within messages"),
        (parts, "300,000 parts"),
        (format!("--b0\r\nContent-Type: text/plain{params}\r\n\r\né"), "continued parameters"),
        (long, "a megabyte of what is nearly a boundary"),
        ("é".to_owned(), "no part at all"),
    ] {
        let message = format!("Content-Type: multipart/mixed; boundary=b0\r\n\r\n{body}");
        let headers = Headers::parse(message.as_bytes(), 1_000).unwrap();
        // This thread's time on a processor, and the best of some tries, since other tests share the machine.
        let took = (0..8).map(|_| {
            let before = on_processor();
            let _ = recode(&headers, &message.as_bytes()[headers.body..]);
            on_processor().zip(before).map(|(now, before)| now - before)
        });
        let took = took.min().unwrap();
        assert!(took.is_none_or(|took| took < Duration::from_millis(50)), "{why}: {took:?}");
    }
}

proptest! {
    #[test]
    fn whatever_goes_in_plain_octets_come_out(body in "(--b(--)?\r\n|Content-Type: (text/plain|multipart/mixed; boundary=b|message/rfc822)\r\n|\r\n|é|[a-z]{1,20}\r\n){0,30}") {
        let message = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{body}");
        let headers = Headers::parse(message.as_bytes(), 1_000).unwrap();
        if let Ok(Some(recoded)) = recode(&headers, &message.as_bytes()[headers.body..]) {
            prop_assert!(recoded.eight_bit || transfer::is_plain(&recoded.octets));
        }
    }
}
