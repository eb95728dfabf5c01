//! Notifications read back with a parser that is not ours.

use bytes::Bytes;
use mail_parser::{MessageParser, MimeHeaders, PartType};

use super::*;
use crate::config::class::Hides;
use crate::mail::envelope::{Envelope, Notify, Recipient, Ret};
use crate::mail::meaning::Meaning;
use crate::mail::message::{Kind, Lane, Message, Needs};
use crate::mail::reply::Enhanced;

fn identity() -> Identity {
    Identity { domain: "relay.test".parse().unwrap(), hostname: "mx.relay.test".parse().unwrap() }
}

fn rcpt(address: &str, orcpt: Option<&str>) -> Recipient {
    Recipient {
        address: address.parse().unwrap(),
        orcpt: orcpt.map(str::to_owned),
        notify: Notify::default(),
    }
}

fn facts(random: u128, rcpts: Vec<Recipient>) -> Facts {
    let from = Some("noreply@acme.test".parse().unwrap());
    Facts {
        id: Id::new(Time(1_700_000_000_000), random),
        tenant: "acme".into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope { from, rcpts, ret: None, envid: None },
        received: Time(1_700_000_000_000),
        expires: Time(1_700_432_000_000),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: crate::mail::message::Asked::default(),
        priority: crate::mail::priority::Priority::default(),
        deliver_by: None,
        size: 10,
    }
}

fn last(code: u16, enhanced: Option<Enhanced>, text: &str) -> Last {
    let host = (code > 0).then(|| "mx1.example.test".to_owned());
    Last {
        at: Time(1_700_000_060_000),
        code,
        enhanced,
        text: text.to_owned(),
        host,
        reason: Meaning::of_words(None, code, enhanced, text).reason,
        lost: None,
    }
}

fn told(facts: &Arc<Facts>, rcpt: u16, last: Last) -> Told {
    Told { facts: Arc::clone(facts), rcpt, last }
}

fn notice(action: Action, told: Vec<Told>, returned: Vec<Content>) -> Notice {
    let to = vec!["noreply@acme.test".parse().unwrap()];
    Notice { id: Id::new(Time(1), 77), at: Time(1_700_000_061_000), action, to, told, returned }
}

fn composed(notice: &Notice) -> String {
    String::from_utf8(compose(&identity(), notice).unwrap()).unwrap()
}

/// The delivery-status part of a whole notification.
fn status_part(raw: &str) -> String {
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let part = message
        .parts
        .iter()
        .find(|part| part.content_type().is_some_and(|kind| kind.subtype() == Some("delivery-status")));
    String::from_utf8(part.unwrap().contents().to_vec()).unwrap()
}

#[test]
fn one_failure_as_rfc_3464_has_it() {
    let facts = Arc::new(facts(1, vec![rcpt("bob@example.test", None)]));
    let reply = last(550, Some(Enhanced(5, 1, 1)), "5.1.1 no such user");
    let raw = composed(&notice(Action::Failed, vec![told(&facts, 0, reply)], Vec::new()));
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("postmaster@relay.test"));
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("noreply@acme.test"));
    assert_eq!(message.subject(), Some("Not delivered: bob@example.test"));
    assert_eq!(message.header("Auto-Submitted").unwrap().as_text(), Some("auto-replied"));
    assert!(message.date().is_some() && message.message_id().is_some());
    let kind = message.content_type().unwrap();
    assert_eq!((kind.ctype(), kind.subtype()), ("multipart", Some("report")));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    let expected = "Reporting-MTA: dns; mx.relay.test\r\nArrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
                    X-Waxseal-Queue-ID: 01HF7YAT000000000000000001\r\n\r\n\
                    Final-Recipient: rfc822; bob@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n\
                    Remote-MTA: dns; mx1.example.test\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\
                    Last-Attempt-Date: Tue, 14 Nov 2023 22:14:20 +0000\r\n";
    assert_eq!(status_part(&raw), expected);
    let text = message.body_text(0).unwrap();
    assert!(text.contains("mx1.example.test answered: 550 5.1.1 no such user"), "{text}");
    assert!(raw.is_ascii());
}

#[test]
fn envid_and_orcpt_are_reported_as_the_client_meant_them() {
    let rows = [
        ("rfc822;bob+2Bx@example.test", "rfc822;bob+x@example.test", "decoded"),
        (
            "rfc822;bob+0D+0AAction:+20delivered",
            "rfc822;bob+0D+0AAction:+20delivered",
            "never a line of its own",
        ),
        ("rfc822;bob+zz", "rfc822;bob+zz", "not xtext: as it came"),
        ("x400;/S=bob/", "x400;/S=bob/", "other types pass"),
    ];
    for (orcpt, expected, why) in rows {
        let mut facts = facts(1, vec![rcpt("bob@example.test", Some(orcpt))]);
        facts.envelope.envid = Some("order 66".to_owned());
        let reply = last(550, None, "no");
        let raw = composed(&notice(Action::Failed, vec![told(&Arc::new(facts), 0, reply)], Vec::new()));
        let fields = status_part(&raw);
        assert!(fields.contains("\r\nOriginal-Envelope-Id: order 66\r\n"), "{fields}");
        assert!(fields.contains(&format!("\r\nOriginal-Recipient: {expected}\r\n")), "{why}: {fields}");
        assert!(fields.contains("Diagnostic-Code: smtp; 550 no\r\n"), "{fields}");
    }
}

#[test]
fn what_a_server_said_cannot_begin_a_line() {
    let facts = Arc::new(facts(1, vec![rcpt("bob@example.test", None)]));
    let reply = last(550, None, "x\r\nAction: delivered\r\n\r\n--=_\u{1b}[2J\u{202e}é");
    let raw = composed(&notice(Action::Failed, vec![told(&facts, 0, reply)], Vec::new()));
    assert!(!raw.contains("\r\nAction: delivered"));
    assert!(!raw.contains('\u{1b}'));
    assert!(status_part(&raw).contains("smtp; 550 x??Action: delivered????--=_?[2J??\r\n"));
}

#[test]
fn status_class_fits_the_action() {
    let rows = [
        (Action::Failed, Some(Enhanced(4, 4, 7)), Enhanced(4, 4, 7), "given up: persistent transient"),
        (Action::Failed, Some(Enhanced(2, 1, 5)), Enhanced(5, 0, 0), "a 2 cannot be a failure"),
        (Action::Failed, None, Enhanced(5, 0, 0), "no code at all"),
        (Action::Delayed, Some(Enhanced(4, 7, 1)), Enhanced(4, 7, 1), "as it was said"),
        (Action::Delayed, Some(Enhanced(5, 7, 1)), Enhanced(4, 0, 0), "a 5 cannot be a delay"),
        (Action::Relayed, Some(Enhanced(2, 1, 5)), Enhanced(2, 1, 5), "as it was said"),
        (Action::Relayed, None, Enhanced(2, 0, 0), "no code at all"),
    ];
    for (action, said, expected, why) in rows {
        assert_eq!(status::fit(action, &last(1, said, "")), expected, "{why}");
    }
}

#[test]
fn a_delay_says_until_when_and_where_there_was_no_reply() {
    let facts = Arc::new(facts(1, vec![rcpt("bob@example.test", None)]));
    let reply = last(0, Some(Enhanced(4, 4, 1)), "connection refused");
    let raw = composed(&notice(Action::Delayed, vec![told(&facts, 0, reply)], Vec::new()));
    let fields = status_part(&raw);
    assert!(
        fields.contains(
            "Action: delayed\r\nStatus: 4.4.1\r\nDiagnostic-Code: x-waxseal; connection refused\r\n"
        )
    );
    assert!(fields.contains("Will-Retry-Until: Sun, 19 Nov 2023 22:13:20 +0000\r\n"), "{fields}");
    assert!(raw.contains("Subject: Delayed: bob@example.test\r\n"));
}

#[test]
fn several_messages_in_one_notification_are_told_apart() {
    let first = Arc::new(facts(1, vec![rcpt("bob@example.test", None), rcpt("eve@example.test", None)]));
    let second = Arc::new(facts(2, vec![rcpt("\"a b\"@example.test", None)]));
    let reply = || last(550, None, "no");
    let headers = |text: &'static str| Content::Headers(text.into());
    let all = vec![told(&first, 0, reply()), told(&first, 1, reply()), told(&second, 0, reply())];
    let raw =
        composed(&notice(Action::Failed, all, vec![headers("Subject: 1\r\n"), headers("Subject: 2\r\n")]));
    let fields = status_part(&raw);
    assert_eq!(fields.matches("Final-Recipient: ").count(), 3);
    assert_eq!(fields.matches(&format!("X-Waxseal-Queue-ID: {}", first.id)).count(), 2);
    assert_eq!(fields.matches(&format!("X-Waxseal-Queue-ID: {}", second.id)).count(), 1);
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let returned = message
        .parts
        .iter()
        .filter(|part| part.content_type().is_some_and(|kind| kind.subtype() == Some("rfc822-headers")));
    assert_eq!(returned.count(), 2);
}

#[test]
fn an_address_that_is_not_ascii_is_reported_in_seven_bits() {
    let facts = Arc::new(facts(1, vec![rcpt("jörg+x@example.test", None)]));
    let raw = composed(&notice(Action::Failed, vec![told(&facts, 0, last(550, None, "no"))], Vec::new()));
    assert!(status_part(&raw).contains("Final-Recipient: utf-8; j\\x{F6}rg\\x{2B}x@example.test\r\n"));
    assert!(raw.is_ascii());
}

#[test]
fn how_much_goes_back() {
    let small = "Subject: s\r\n\r\nbody\r\n".to_owned();
    let big = format!("Subject: s\r\n\r\n{}", "0123456789\r\n".repeat(10_000));
    let huge = format!("Subject: s\r\n\r\n{}", "0123456789\r\n".repeat(100_000));
    let eight = "Subject: s\r\n\r\nb\u{e9}\r\n".to_owned();
    let long = format!("Subject: s\r\n\r\n{}\r\n", "x".repeat(999));
    let rows = [
        (&small, None, Action::Failed, true, true, "small, to its sender"),
        (&small, None, Action::Failed, false, false, "small, but others read it"),
        (&small, Some(Ret::Full), Action::Failed, false, true, "asked for"),
        (&small, Some(Ret::Hdrs), Action::Failed, true, false, "asked for"),
        (&small, Some(Ret::Full), Action::Delayed, true, false, "RFC 3461 4.3: no failure, no body"),
        (&big, None, Action::Failed, true, false, "too big to come unasked"),
        (&big, Some(Ret::Full), Action::Failed, true, true, "asked for"),
        (&huge, Some(Ret::Full), Action::Failed, true, false, "too big even if asked for"),
        (&eight, Some(Ret::Full), Action::Failed, true, false, "would need 8BITMIME all the way back"),
        (&long, Some(Ret::Full), Action::Failed, true, false, "a line that not every server takes"),
    ];
    for (body, ret, action, to_sender, whole, why) in rows {
        let mut facts = facts(1, vec![rcpt("bob@example.test", None)]);
        facts.envelope.ret = ret;
        let message = Message { facts, body: body.clone().into() };
        match content(&message, action, to_sender, Hides::default()) {
            Content::Whole(octets) => assert!(whole && octets == body.as_bytes(), "{why}"),
            Content::Headers(octets) => assert!(!whole && *octets == b"Subject: s\r\n"[..], "{why}"),
        }
    }
}

#[test]
fn a_returned_message_is_the_message_octet_for_octet() {
    let body = "Subject: s\r\nDKIM-Signature: x; b=\r\n =\r\n\r\n.dot\r\n--=_x\r\ntrailing  \r\n\r\n";
    let facts = Arc::new(facts(1, vec![rcpt("bob@example.test", None)]));
    let returned = vec![Content::Whole(body.into())];
    let raw = composed(&notice(Action::Failed, vec![told(&facts, 0, last(550, None, "no"))], returned));
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let inner = message.parts.iter().find_map(|part| {
        let PartType::Message(inner) = &part.body else { return None };
        Some(inner.raw_message().to_vec())
    });
    assert_eq!(String::from_utf8(inner.unwrap()).unwrap(), body);
}

#[test]
fn an_endless_header_section_is_cut_at_a_line_and_eight_bit_headers_are_encoded() {
    let endless = Message {
        facts: facts(1, vec![rcpt("bob@example.test", None)]),
        body: "X-Filler: 0123456789\r\n".repeat(10_000).into(),
    };
    let Content::Headers(octets) = content(&endless, Action::Failed, false, Hides::default()) else {
        panic!("never whole")
    };
    assert!(octets.len() <= 64 * 1024 && octets.ends_with(b"\r\n") && octets.len() > 60_000);
    let part = returned::part(&Content::Headers("Subject: j\u{f6}rg\r\n".into())).unwrap();
    assert!(part.formatted().is_ascii());
}

/// A notification tells of twenty messages: their bodies must not all be in memory until it is written.
#[test]
fn a_returned_header_section_keeps_no_body_in_memory() {
    let body: Bytes = [b"Subject: s\r\n\r\n".to_vec(), vec![b'x'; 1 << 20]].concat().into();
    let message = Message { facts: facts(1, vec![rcpt("b@c.test", None)]), body: body.clone() };
    let Content::Headers(section) = returned::headers(&message, Hides::default()) else {
        panic!("not the headers")
    };
    drop(message);
    assert_eq!(section, "Subject: s\r\n");
    assert!(body.is_unique());
}
