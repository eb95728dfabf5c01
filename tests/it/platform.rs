//! A platform's own trace and signatures: kept where they are true, removed where they claim to be ours, and never a way to
//! write a header of the platform's choice (ID6, ID7).

use std::time::Duration;

use waxseal::sandbox::client::Method;
use waxseal::sandbox::world::{Extra, World};
use waxseal::seal::Keyring;

use crate::inbound::waited_for;
use crate::relay::smtp;
use crate::world::{arrival, start};

/// The key in tests/it/data as the record that publishes it.
const RECORD: &str = include_str!("data/rsa2048.txt");

/// Sends by method None; answers the reply to the final dot.
fn send(world: &World, from: &str, message: &[u8]) -> String {
    let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
    session.send(from, &["you@inbox.test"], message).unwrap()
}

/// The message with a signature of platform.test, whose key the zone publishes.
async fn signed(world: &World, dir: &std::path::Path, message: &str) -> Vec<u8> {
    signed_often(world, dir, message, 1).await
}

/// With so many of them, each of which would verify.
async fn signed_often(world: &World, dir: &std::path::Path, message: &str, times: usize) -> Vec<u8> {
    let keys = dir.join("platform/platform.test");
    std::fs::create_dir_all(&keys).unwrap();
    crate::relay::secret(&keys.join("s1.pem"), include_str!("data/rsa2048.pem"));
    let record = format!("s1._domainkey.platform.test. 1 IN TXT {RECORD}\n");
    world.zone.publish(&record).await.unwrap();
    let ring = Keyring::load(keys.parent().unwrap()).unwrap();
    let now = waxseal::clock::Clock::System.now();
    let domain = "platform.test".parse().unwrap();
    let sign = |_| ring.sign(&domain, message.as_bytes(), now, Duration::from_secs(3600)).unwrap();
    let mut octets: Vec<u8> = (0..times).flat_map(sign).collect();
    octets.extend_from_slice(message.as_bytes());
    octets
}

const WHOLE: &str = "From: rewards@acme.test\r\nTo: you@inbox.test\r\nSubject: s\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\
    Message-ID: <1@acme.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nbody\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_platforms_signature_is_kept_untouched_and_the_log_says_when_a_repair_broke_it() {
    let (mut world, dir) = start(&Extra::default()).await;
    let good = signed(&world, dir.path(), WHOLE).await;
    assert!(send(&world, "rewards@acme.test", &good).starts_with("250"));
    let whole = arrival(&mut world).await;
    let field = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets).into_owned();
        let at = text.find("DKIM-Signature: v=1; a=rsa-sha256; s=s1; d=platform.test").unwrap();
        text[at..at + text[at..].find("From: rewards").unwrap()].to_owned()
    };
    let sent = field(&good);
    let arrived = String::from_utf8_lossy(&whole.message).into_owned();
    assert!(arrived.contains(&sent), "octet for octet:\n{arrived}");
    assert!(whole.verdict.passes());

    // A Date is covered even where there is none, and adding one is a repair that has to be.
    let without_date = WHOLE.replace("Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n", "");
    let fragile = signed(&world, dir.path(), &without_date).await;
    let reply = send(&world, "rewards@acme.test", &fragile);
    let id = reply.rsplit_once("queued as ").unwrap().1.to_owned();
    let broken = arrival(&mut world).await;
    assert!(broken.verdict.passes(), "ours is the one that counts: {:?}", broken.verdict);
    let told = waited_for(&world, "platform_seal").await;
    assert_eq!((told.len(), told[0]["id"].as_str()), (1, Some(&*id)), "{told:#?}");
    assert_eq!(told[0]["auth"]["dkim"][0]["domain"], "platform.test");
    assert_eq!(told[0]["repairs"], serde_json::json!(["date"]));
    world.end().await.unwrap();
}

/// DK8: each signature looked at is a lookup and a hash over all of the mail. Mail with more than ten is passed on like any
/// other, and nothing of it is verified.
#[tokio::test(flavor = "multi_thread")]
async fn of_mail_with_more_than_ten_signatures_none_is_looked_at() {
    let (mut world, dir) = start(&Extra::default()).await;
    let without_date = WHOLE.replace("Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n", "");
    let mut looked_at = String::new();
    // The last one is looked at: by then there was time for those before it.
    for times in [100, 11, 11, 10] {
        let fragile = signed_often(&world, dir.path(), &without_date, times).await;
        let reply = send(&world, "rewards@acme.test", &fragile);
        looked_at = reply.rsplit_once("queued as ").unwrap().1.to_owned();
        let arrived = arrival(&mut world).await;
        assert!(arrived.verdict.passes(), "{times}: {:?}", arrived.verdict);
        let kept = String::from_utf8_lossy(&arrived.message).matches("d=platform.test").count();
        assert_eq!(kept, times, "all of them leave as they came");
    }
    let told = waited_for(&world, "platform_seal").await;
    let ids: Vec<_> = told.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [looked_at], "{told:#?}");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_claim_to_be_ours_do_not_leave_and_others_do() {
    let (mut world, _dir) = start(&Extra::default()).await;
    let message = format!(
        "Authentication-Results: relay.sandbox.test; dmarc=pass\r\n\
         Authentication-Results: (a (b) c) RELAY.sandbox.test 1; spf=pass\r\n\
         Authentication-Results:\r\n\t\"relay.sandbox.test\"; dkim=pass\r\n\
         Authentication-Results: platform.test; spf=pass\r\n\
         Return-Path: <x@y.test>\r\nBcc: hidden@inbox.test\r\n{WHOLE}"
    );
    assert!(send(&world, "rewards@acme.test", message.as_bytes()).starts_with("250"));
    let arrived = String::from_utf8(arrival(&mut world).await.message).unwrap();
    let results: Vec<&str> =
        arrived.lines().filter(|line| line.starts_with("Authentication-Results")).collect();
    assert_eq!(results, ["Authentication-Results: platform.test; spf=pass"], "{arrived}");
    assert!(!arrived.contains("Return-Path") && !arrived.contains("hidden@"), "{arrived}");
    world.end().await.unwrap();
}

/// ID7: what a client calls itself, logs in as or names as its sender never becomes more than it is.
#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_a_client_begins_a_header() {
    let (mut world, _dir) = start(&Extra::default()).await;
    let long = "x".repeat(1_000);
    for (helo, why) in [
        ("a(b", "an open comment"),
        ("a\"b;c", "a quote"),
        ("a;dmarc=pass", "a result"),
        ("x.test)\tby", "the rest of a trace field"),
        (&*long, "a long one"),
        ("[127.0.0.1]", "an honest one"),
    ] {
        let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
        // Refused or taken: what follows in the session must not depend on it.
        session.say(&format!("EHLO {helo}")).unwrap();
        let from = "\"a;(b\\\"\"@acme.test";
        let reply = session.send(from, &["you@inbox.test"], WHOLE.as_bytes()).unwrap();
        assert!(reply.starts_with("250"), "{why}: {reply}");
        let arrived = arrival(&mut world).await;
        let text = String::from_utf8(arrived.message).unwrap();
        assert!(arrived.verdict.passes(), "{why}: {text}");
        let head = text.split("\r\n\r\n").next().unwrap();
        assert_eq!(head.matches("Received: ").count(), 1, "{why}: {head}");
        assert!(!head.contains("Authentication-Results") && !head.contains("dmarc=pass"), "{why}: {head}");
        let received = head.split("Received: from ").nth(1).unwrap();
        let name = received.split(' ').next().unwrap();
        assert!(name.len() < 256 && !name.contains([';', '"', '(', ')']), "{why}: {name}");
        assert!(received.contains("\r\n\tby relay.sandbox.test with ESMTP id "), "{why}: {received}");
    }
    let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
    let refused = session.say("EHLO a\rX-Injected: 1").unwrap();
    assert!(refused.starts_with('5'), "CR in a name: {refused}");
    // `a;(b"` and a password that fits nothing.
    let auth = session.say("AUTH PLAIN AGE7KGIiAHg=").unwrap();
    assert!(auth.starts_with('5') && !auth.contains("a;(b"), "a login's name is not said again: {auth}");
    world.end().await.unwrap();
}
