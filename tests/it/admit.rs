//! What admission takes, repairs and refuses: section 7 of the fault catalogue, and CM2, CM3, CM6, QU1, RE9.

use std::sync::Arc;
use std::time::Duration;

use waxseal::mail::return_path::{self, Token};
use waxseal::queue::store::StoreError;
use waxseal::tenant::{SignWith, Signing};

use crate::intake::{self, Intake, envelope, tenant};

/// The header section and body that would leave.
fn leaves(accept: &waxseal::queue::store::Accept) -> String {
    String::from_utf8(accept.message.body.to_vec()).unwrap()
}

/// Header sections, the code and enhanced code they get, and why.
const TRICKS: &[(&str, u16, &str, &str)] = &[
    ("From: a@t.example\r\nFrom: a@t.example\r\n", 550, "5.6.0", "ID1: two From headers"),
    (
        "From: a@t.example\r\n \r\nFrom: b@t.example\r\n",
        550,
        "5.6.0",
        "ID1: behind a fold like an empty line",
    ),
    (" From: a@t.example\r\nTo: b@c.example\r\n", 550, "5.6.0", "ID1: a space before"),
    ("From: a@t.example\r\n From: b@t.example\r\n", 550, "5.7.1", "ID1: a space before the second"),
    ("From : a@t.example\r\n", 550, "5.6.0", "ID1: a space behind"),
    ("From\r\n : a@t.example\r\n", 550, "5.6.0", "ID1: the colon on the next line"),
    ("From: a@t.example, b@other.example\r\nSender: a@t.example\r\n", 550, "5.7.1", "ID2: two domains"),
    ("From: a@t.example, b@t.example\r\n", 550, "5.7.1", "ID2: no Sender"),
    ("Subject: x\r\n", 550, "5.7.1", "ID3: no From"),
    ("From: <>\r\n", 550, "5.7.1", "ID3: null"),
    ("From: undisclosed:;\r\n", 550, "5.7.1", "ID3: a group"),
    ("From: Ann Example\r\n", 550, "5.7.1", "ID3: a name only"),
    ("From: a@\r\n", 550, "5.7.1", "ID3: no domain"),
    ("From: =?utf-8?q?a=40t.example?=\r\n", 550, "5.7.1", "ID4: an encoded word as address"),
    ("From: \"ceo@other.example\"@t.example\r\n", 550, "5.7.1", "ID4: a quoted local part"),
    ("From: <@other.example:x@t.example>\r\n", 550, "5.7.1", "ID4: a route"),
    ("From: a@other.example <x@t.example>\r\n", 550, "5.7.1", "ID4: an address as display name"),
    ("From: <\"a>b\"@t.example>\r\n", 550, "5.7.1", "ID4: a bracket that two parsers see elsewhere"),
    ("From: a@t.example\0\r\n", 550, "5.6.0", "ID4: NUL"),
    ("From: a@other.example\r\n", 550, "5.7.1", "AU7: another tenant's domain"),
    ("From: a@sub.t.example\r\n", 550, "5.7.1", "AU7: a name below, which the tenant file does not cover"),
    ("From: a@\u{442}.example\r\n", 550, "5.7.1", "RE9: Cyrillic letters"),
    ("From: a@xn--a.example\r\n", 550, "5.7.1", "RE9: invalid punycode"),
    ("From: a@keyless.example\r\n", 550, "5.7.20", "no key: never unsigned"),
    ("From: a@t.example\r\nDate: x\r\nDate: y\r\n", 550, "5.6.0", "a second Date"),
    ("From: a@t.example\r\nSubject: x\r\nSubject: y\r\n", 550, "5.6.0", "a second Subject"),
    ("From: a@t.example\r\nTo: <x@y.example>\r\nTo: <x@z.example>\r\n", 550, "5.6.0", "a second To"),
    ("From: a@t.example\r\nMessage-ID: <x@y>\r\nmessage-id: <x@z>\r\n", 550, "5.6.0", "a second Message-ID"),
    ("From: a@t.example\r\nMessage-ID: <é@y>\r\n", 550, "5.6.0", "CM3: raw 8-bit where none can be encoded"),
    ("From: a@t.example\r\nno colon\r\n", 550, "5.6.0", "CM3: a header without a colon"),
];

#[tokio::test]
async fn each_identity_trick_is_refused_logged_and_not_queued() {
    let intake = Intake::new();
    let received = "Received: from a by b; Tue, 24 Nov 2026 00:00:00 +0000\r\n".repeat(101);
    let ours = "Received: from a by relay.example with ESMTP; Tue, 24 Nov 2026 00:00:00 +0000\r\n".repeat(5);
    let long = format!("From: a@t.example\r\nX: {}\r\n", "x".repeat(999));
    let long = (long.as_str(), 550, "5.6.0", "CM2: a header line over 998 octets");
    for (head, code, enhanced, why) in TRICKS.iter().copied().chain([long]) {
        let reply = intake.reply(format!("{head}\r\nbody\r\n").as_bytes()).await;
        assert_eq!(
            (reply.code, reply.enhanced.unwrap().to_string().as_str()),
            (code, enhanced),
            "{why}: {reply}"
        );
    }
    for hops in [received, ours] {
        let reply = intake.reply(format!("{hops}From: a@t.example\r\n\r\n").as_bytes()).await;
        assert_eq!(
            (reply.code, reply.enhanced.unwrap().to_string().as_str()),
            (554, "5.4.6"),
            "QU1: {reply}"
        );
    }
    let reply = intake.reply(b"From: a@t.example\r\n\r\na\0b\r\n").await;
    assert_eq!(reply.enhanced.unwrap().to_string(), "5.6.0", "NUL in the body");
    let reply = intake.reply(b"From: a@t.example\r\nSubject: \xff\r\n\r\n").await;
    assert_eq!(reply.enhanced.unwrap().to_string(), "5.6.0", "CM3: octets that are not UTF-8");
    assert!(intake.taken().is_empty(), "nothing is queued");
    assert_eq!(intake.logged().matches("\"rejected\"").count(), 35, "{}", intake.logged());
}

#[tokio::test]
async fn two_authors_of_one_domain_with_a_sender_pass() {
    let intake = Intake::new();
    let taken =
        intake.accepted(b"From: a@t.example, b@T.example\r\nSender: s@elsewhere.example\r\n\r\n").await;
    let author = taken.message.facts.header_from.as_ref().unwrap().to_string();
    assert_eq!(author, "a@t.example", "ID2, and ID5: a foreign Sender counts for nothing");
}

/// How long this thread has run, as Linux counts.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[tokio::test]
async fn a_header_section_over_the_bound_costs_little() {
    let intake = Intake::new();
    let one = format!("From: a@t.example\r\nX: {}\r\n\r\n", "x\r\n ".repeat(300_000));
    let many = format!("From: a@t.example\r\n{}\r\n", "X: y\r\n".repeat(100_000));
    for (message, why) in [(one, "one header of a megabyte"), (many, "100,000 headers")] {
        let before = on_processor();
        let reply = intake.reply(message.as_bytes()).await;
        assert_eq!(reply.enhanced.unwrap().to_string(), "5.6.0", "CM3: {why}: {reply}");
        let took = on_processor().zip(before).map(|(now, before)| now - before);
        assert!(took.is_none_or(|took| took.as_millis() < 500), "CM3: {why}: {took:?}");
    }
}

#[tokio::test]
async fn what_is_missing_is_added_and_what_must_not_leave_is_removed() {
    let intake = Intake::new();
    let message = "From: a@t.example\r\nTo: r@rcpt.example\r\nBcc: hidden@rcpt.example\r\nReturn-Path: <x@y.example>\r\n\
                   Authentication-Results: relay.example; dmarc=pass\r\n\
                   Authentication-Results: elsewhere.example; dkim=pass\r\n\
                   Received: from x by relay.example; Tue, 24 Nov 2026 00:00:00 +0000\r\n\
                   Subject: a\r\n From: b\r\n\r\nbody without end";
    let taken = intake.accepted(message.as_bytes()).await;
    let (facts, text) = (&taken.message.facts, leaves(&taken));
    assert_eq!(facts.size, taken.message.body.len() as u64);
    assert!(text.starts_with("DKIM-Signature: v=1; a=rsa-sha256; s=rsa; d=t.example;"), "{text}");
    assert!(text.contains(&format!(
        "Received: from pod-7 ([192.0.2.7])\r\n\tby relay.example with ESMTPA id {};",
        facts.id
    )));
    assert!(text.contains(&format!("Message-ID: <{}@t.example>\r\n", facts.id)), "{text}");
    assert!(text.contains("\r\nMIME-Version: 1.0\r\n") && text.contains("\r\nDate: "), "{text}");
    for gone in ["hidden@", "Return-Path", "dmarc=pass", "\r\n From:"] {
        assert!(!text.contains(gone), "{gone} must not leave: {text}");
    }
    for kept in ["elsewhere.example; dkim=pass", "from x by relay.example", "\r\nSubject: a From: b\r\n"] {
        assert!(text.contains(kept), "{kept} must stay: {text}");
    }
    assert!(text.ends_with("\r\n\r\nbody without end\r\n"));
    let logged = intake.logged();
    assert!(logged.contains("\"received\"") && logged.contains("\"return-path\""), "{logged}");
}

#[tokio::test]
async fn nothing_a_client_calls_itself_breaks_received() {
    let intake = Intake::new();
    let long = "x".repeat(1_000);
    for helo in ["a(b", "a\"b", "a;b", "a\r\nFrom: x@y.example", "a b", long.as_str(), "", "é"] {
        let mut submission = intake.submission(b"From: a@t.example\r\n\r\n");
        submission.client.helo = helo.to_owned();
        submission.client.login = Some("a;\r\nX: y(".into());
        let text = leaves(&intake.take(submission).await);
        assert!(
            text.contains("Received: from unknown ([192.0.2.7])\r\n\tby relay.example with ESMTPA id "),
            "ID7: {text}"
        );
        assert!(!text.contains("X: y("), "ID7: {text}");
    }
}

#[tokio::test]
async fn a_foreign_sender_is_rewritten_and_anothers_refused() {
    let intake = Intake::new();
    for (from, left, why) in [
        ("b@t.example", "b@t.example", "its own"),
        ("x@elsewhere.example", "a@t.example", "nobody's here: rewritten to the author"),
        ("", "", "the null reverse-path"),
    ] {
        let mut submission = intake.submission(b"From: a@t.example\r\n\r\n");
        submission.envelope =
            envelope(from, &["r@rcpt.example", "s@other.test", "r@RCPT.example", "q@rcpt.example"]);
        let taken = intake.take(submission).await;
        let envelope = &taken.message.facts.envelope;
        assert_eq!(envelope.from.as_ref().map(ToString::to_string).unwrap_or_default(), left, "{why}");
        assert_eq!(envelope.rcpts.len(), 3, "CM6: one delivery for a recipient named twice");
        let legs: Vec<_> = taken.legs.iter().map(|(to, rcpts)| (to.0.as_ref(), rcpts.clone())).collect();
        assert_eq!(legs, [("rcpt.example", vec![0, 2]), ("other.test", vec![1])]);
    }
    let theirs = "x@other.example".parse().unwrap();
    let reply = intake.admit.may_send_from(&intake.tenant, Some(&theirs)).unwrap_err();
    assert_eq!(reply.enhanced.unwrap().to_string(), "5.7.1", "AU7: another tenant's domain");
    assert!(intake.admit.may_send_from(&intake.tenant, None).is_ok());
}

/// VERP: next hops see an address of ours at the tenant's bounce domain; the queue and the tenant still see the sender.
#[tokio::test]
async fn a_return_path_is_made_where_the_domain_has_one() {
    let intake = Intake::new();
    let mut tenant = tenant("t", &["t.example"]);
    tenant.domains[0].return_path = Some("bounce.t.example".parse().unwrap());
    let tenant = std::sync::Arc::new(tenant);
    for (from, wanted, why) in [
        ("a@t.example", true, "its own"),
        ("x@elsewhere.example", true, "rewritten, and returned to us all the same"),
        ("", false, "the null reverse-path stays null"),
    ] {
        let mut submission = intake.submission(b"From: a@t.example\r\n\r\n");
        submission.tenant = std::sync::Arc::clone(&tenant);
        submission.envelope = envelope(from, &["r@rcpt.example"]);
        let facts = intake.take(submission).await.message.facts.clone();
        let read = facts.return_path.as_ref().map(|path| return_path::read(&intake::secret(), path));
        assert_eq!(read, wanted.then_some(Some(Token::Bounce(facts.id))), "{why}");
        assert!(facts.return_path.is_none_or(|path| path.domain().as_str() == "bounce.t.example"));
    }
    let plain = intake.accepted(b"From: a@t.example\r\n\r\n").await;
    assert_eq!(plain.message.facts.return_path, None, "without a return_path the sender's address stays");
}

#[tokio::test]
async fn ascii_mail_stays_ascii_whatever_flags_came() {
    let intake = Intake::new();
    let mut submission =
        intake.submission("From: Jörg <a@t.example>\r\nSubject: Grüße\r\n\r\nübel\r\n".as_bytes());
    submission.smtputf8 = true;
    let taken = intake.take(submission).await;
    let needs = taken.message.facts.needs;
    assert!(taken.message.body.is_ascii() && !needs.smtputf8 && !needs.eight_bit, "{}", leaves(&taken));
    let plain = "From: jörg@t.example\r\nSubject: Grüße\r\n\r\nx\r\n".as_bytes();
    assert_eq!(intake.reply(plain).await.enhanced.unwrap().to_string(), "5.6.7");
    let mut submission = intake.submission(plain);
    submission.smtputf8 = true;
    let taken = intake.take(submission).await;
    assert!(taken.message.facts.needs.smtputf8 && leaves(&taken).contains("Subject: Grüße\r\n"));
}

#[tokio::test]
async fn only_the_store_makes_a_client_come_again() {
    let intake = Intake::new();
    for (fault, code) in [(StoreError::Full("disk".into()), 452), (StoreError::Failed("sync".into()), 451)] {
        *intake.shelf.fault.lock().unwrap() = Some(fault);
        assert_eq!(intake.reply(b"From: a@t.example\r\n\r\n").await.code, code);
    }
}

#[tokio::test]
async fn where_the_upstream_signs_nothing_is_signed_here_and_the_log_says_so() {
    let mut intake = Intake::new();
    let signing = Signing { keys: SignWith::None, omit: Vec::new() };
    intake.tenant = Arc::new(intake.lent(signing));
    let accept = intake.accepted(b"From: a@keyless.example\r\n\r\nhi\r\n").await;
    assert!(!leaves(&accept).contains("DKIM-Signature:"), "{}", leaves(&accept));
    assert!(intake.logged().contains("\"auth\":{\"unsigned\":\"route\"}"), "{}", intake.logged());
}

#[tokio::test]
async fn what_the_upstream_writes_anew_is_not_covered() {
    let mut intake = Intake::new();
    let signing = Signing { keys: SignWith::Both, omit: vec!["Date".to_owned(), "Message-ID".to_owned()] };
    intake.tenant = Arc::new(intake.lent(signing));
    let accept = intake.accepted(b"From: a@t.example\r\n\r\nhi\r\n").await;
    let text = leaves(&accept).replace("\r\n\t", "");
    let names = text.split(';').find_map(|tag| tag.trim().strip_prefix("h=")).unwrap();
    assert!(
        names.contains("From:From") && !names.contains("Date") && !names.contains("Message-ID"),
        "{names}"
    );
    assert!(!intake.logged().contains("unsigned"), "{}", intake.logged());
}
