//! What is watched beside the path of mail: whether our own signatures verify, how much goes to providers that count, and how
//! often DNS is asked.

use std::io::Write;

use hickory_server::proto::rr::RecordType;
use tokio::sync::mpsc;
use waxseal::metrics::ResultLabel;
use waxseal::sandbox::client::Method;
use waxseal::sandbox::world::{Extra, World};

use crate::inbound::{logged, waited_for};
use crate::relay::smtp;
use crate::rig::patiently;
use crate::seal::check;
use crate::world::{arrival, start, submit};

/// Another key than the relay's.
const ANOTHER: &str = include_str!("data/rsa2048.txt");

fn checks(world: &World, result: &'static str) -> u64 {
    world.daemon.metrics().seal_checks.get_or_create(&ResultLabel { result }).get()
}

/// Where the program's own trace goes: line by line to who waits for it.
#[derive(Clone)]
struct Trace(mpsc::UnboundedSender<String>);

impl Write for Trace {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(octets).into_owned());
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, so that all of its trace is this test's.
#[tokio::test]
async fn a_sound_signature_of_ours_is_verified_once_and_not_spoken_of() {
    let (tell, mut traced) = mpsc::unbounded_channel();
    let trace = Trace(tell);
    let writer = move || trace.clone();
    // While there is one listener, `tracing` asks the thread that speaks first whether anybody listens; of two it asks each.
    let _nobody = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(writer).finish();
    let _traced = tracing::subscriber::set_default(subscriber);
    let (mut world, _dir) = start(&Extra::default()).await;
    for _ in 0..3 {
        submit(&world, Method::None).await;
        assert!(arrival(&mut world).await.verdict.passes());
    }
    while !patiently(traced.recv()).await.unwrap().contains("signatures of ours were verified") {}
    assert_eq!(checks(&world, "pass"), 1, "a sample of one domain's mail");
    assert_eq!(checks(&world, "fail") + checks(&world, "unknown"), 0);
    assert!(logged(&world, "seal_check").is_empty());
    let lookups = &world.daemon.metrics().lookups;
    assert!(lookups.get_or_create(&ResultLabel { result: "found" }).get() > 0, "the exchanger was looked up");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_changed_in_dns_shows_with_the_next_message() {
    let (world, _dir) = start(&Extra::default()).await;
    world.zone.withdraw("wx1._domainkey.acme.test", RecordType::TXT).await.unwrap();
    world.zone.publish(&format!("wx1._domainkey.acme.test. 1 IN TXT {ANOTHER}\n")).await.unwrap();
    let id = submit(&world, Method::None).await;
    let told = waited_for(&world, "seal_check").await.pop().unwrap();
    assert_eq!(told["id"].as_str(), Some(&*id), "{told:#?}");
    assert_eq!(told["auth"]["dkim"][0]["selector"], "wx1");
    assert!(told["reason"].as_str().is_some_and(|why| why.starts_with("wx1: ")), "{told:#?}");
    assert_eq!(checks(&world, "fail"), 1);
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_near_the_rules_for_bulk_senders_is_told_and_the_doctor_says_so() {
    let (world, _dir) = start(&Extra::default()).await;
    // The sandbox's exchanger takes 500 recipients at once.
    let to: Vec<String> = (0..500).map(|n| format!("r{n}@gmail.com")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
    for n in 0..6 {
        let message = format!("From: rewards@acme.test\r\nSubject: {n}\r\n\r\nbody\r\n");
        let reply = session.send("rewards@acme.test", &to, message.as_bytes()).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    let told = waited_for(&world, "volume").await.pop().unwrap();
    assert_eq!(told["domain"], "acme.test");
    assert_eq!(told["provider"], "gmail");
    assert_eq!(told["count"], 2_500);
    let report = check(&world).await;
    let finding = report.findings.iter().find(|finding| finding.check == "volume").expect("a finding");
    assert!(finding.says.contains("acme.test today"), "{finding:?}");
    world.end().await.unwrap();
}
