//! The seal at work in the whole relay: what receivers would not believe is refused, held, tagged or let through, as its tenant
//! chose, and leaves by itself once DNS is right.

use hickory_server::proto::rr::RecordType;
use waxseal::clock::Clock;
use waxseal::control::Client;
use waxseal::daemon::Daemon;
use waxseal::sandbox::client::{self, Method};
use waxseal::sandbox::world::{Extra, World};
use waxseal::seal::check::Report;
use waxseal::seal::judge::{Believed, Change};
use waxseal::seal::keys::Kind;
use waxseal::seal::stages::{self, Make};

use super::world::{arrival, log, start, submit};
use crate::follow::Follow;
use crate::relay::smtp;

const KEY: &str = "wx1._domainkey.acme.test";

fn tenant(lines: &str) -> Extra {
    Extra { tenant: lines.to_owned(), ..Extra::default() }
}

/// Takes everything away that would make the domain believed.
async fn withdraw(world: &World) {
    for name in [KEY, "acme.test"] {
        world.zone.withdraw(name, RecordType::TXT).await.unwrap();
    }
}

/// What `waxseal domain check acme.test` asks the daemon.
pub async fn check(world: &World) -> Report {
    let client = Client::new(&world.config.admin.socket);
    client.post("/v1/domain/acme.test/check", &()).await.unwrap()
}

/// Publishes what the report says, as an administrator would.
async fn publish(world: &World, report: &Report) {
    for change in report.findings.iter().filter_map(|finding| finding.change.as_ref()) {
        let (Change::Publish(record) | Change::Replace { record, .. }) = change else { continue };
        let line = format!("{}. 1 IN TXT {}\n", record.name, record.data());
        world.zone.publish(&line).await.unwrap();
    }
}

async fn refused(world: &World) -> String {
    let form = world.form(Method::Tls).unwrap();
    let sent = client::send(&form, "rewards@acme.test", "you@inbox.test", "Your reward").await;
    sent.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_nobody_would_believe_is_refused_with_the_record_and_passes_once_it_is_published() {
    let (mut world, _dir) = start(&Extra::default()).await;
    withdraw(&world).await;
    let report = check(&world).await;
    assert_eq!(report.believed, Believed::Fail, "{report:?}");

    let said = refused(&world).await;
    assert!(said.contains("would fail DMARC") && said.contains(KEY), "{said}");
    assert!(said.contains("waxseal domain check acme.test"), "{said}");
    let lines = log(&world);
    assert!(lines.contains(r#""type":"health""#) && lines.contains(r#""health":"fail""#), "{lines}");
    assert!(!lines.contains(r#""type":"received""#), "{lines}");

    publish(&world, &report).await;
    let report = check(&world).await;
    assert!(report.believed.passes(), "{report:?}");
    submit(&world, Method::Tls).await;
    let arrived = arrival(&mut world).await;
    assert_eq!(
        (arrived.verdict.dkim.as_str(), arrived.verdict.dmarc.as_str()),
        ("pass", "pass"),
        "{:?}",
        arrived.verdict
    );
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn held_mail_leaves_by_itself_and_sealed_once_dns_is_right() {
    let (mut world, _dir) = start(&tenant("on_fail = \"hold\"")).await;
    withdraw(&world).await;
    let report = check(&world).await;
    let id = submit(&world, Method::Tls).await;
    let held = listed(&world).await;
    assert!(held.contains(&id) && held.contains(KEY), "the reason says what is missing: {held}");

    // Released by hand it is judged again, and waits on.
    let client = Client::new(&world.config.admin.socket);
    let act = serde_json::json!({"filter": {"ids": [id]}, "action": "release"});
    client.post::<serde_json::Value>("/v1/queue/act", &act).await.unwrap();
    until(&world, r#""actor":"seal""#, 2).await;

    publish(&world, &report).await;
    assert!(check(&world).await.believed.passes());
    let arrived = arrival(&mut world).await;
    assert_eq!(
        (arrived.verdict.dkim.as_str(), arrived.verdict.dmarc.as_str()),
        ("pass", "pass"),
        "{:?}",
        arrived.verdict
    );
    let lines = log(&world);
    assert!(lines.contains(r#""type":"released""#), "{lines}");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_below_leaves_by_a_key_of_its_own_though_the_domain_above_fails() {
    let (mut world, _dir) = start(&tenant("on_fail = \"hold\"\nsubdomains = true")).await;
    withdraw(&world).await;
    check(&world).await;
    world.zone.publish("news.acme.test. 1 IN TXT \"here\"\n").await.unwrap();
    let form = world.form(Method::Tls).unwrap();
    client::send(&form, "offers@news.acme.test", "you@inbox.test", "Your reward").await.unwrap();
    until(&world, r#""type":"held""#, 1).await;

    // It was to be signed by acme.test; now it has got a key that is seen, and acme.test none.
    let made = Make {
        domain: "news.acme.test".parse().unwrap(),
        selector: "wx1".to_owned(),
        kind: Kind::Rsa2048,
        replaces: None,
        why: String::new(),
    };
    let record = stages::make(&world.config.keys, &made, Clock::System.now()).unwrap().record();
    let (one, other) = record.split_at(200);
    let line = format!("wx1._domainkey.news.acme.test. 1 IN TXT \"{one}\" \"{other}\"\n");
    world.zone.publish(&line).await.unwrap();
    world.daemon.reload().await.unwrap();
    let client = Client::new(&world.config.admin.socket);
    let report: Report = client.post("/v1/domain/news.acme.test/check", &()).await.unwrap();
    assert_eq!(
        (report.domain.as_str(), report.believed),
        ("news.acme.test", Believed::DkimOnly),
        "{report:?}"
    );

    let arrived = arrival(&mut world).await;
    let text = String::from_utf8_lossy(&arrived.message).into_owned();
    assert!(text.contains("d=news.acme.test"), "signed as it was judged:\n{text}");
    assert_eq!((arrived.verdict.dkim.as_str(), arrived.verdict.dmarc.as_str()), ("pass", "pass"));
    assert_eq!(check(&world).await.believed, Believed::Fail);
    assert_eq!(log(&world).matches(r#""type":"released""#).count(), 1);
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_be_believed_waits_on_in_silence_though_usual_mail_leaves() {
    let (mut world, _dir) = start(&tenant("on_fail = \"hold\"")).await;
    world.zone.withdraw(KEY, RecordType::TXT).await.unwrap();
    let report = check(&world).await;
    assert_eq!(report.believed, Believed::SpfOnly, "{report:?}");
    // SPF of a null sender is our host name's, which does not align.
    let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
    let message = b"From: rewards@acme.test\r\nSubject: hello\r\n\r\nbody\r\n";
    let reply = session.send("", &["you@inbox.test"], message).unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    for _ in 0..2 {
        check(&world).await;
    }
    let lines = log(&world);
    assert!(!lines.contains(r#""type":"released""#), "{lines}");
    assert_eq!(lines.matches(r#""type":"held""#).count(), 1, "{lines}");

    publish(&world, &report).await;
    assert_eq!(check(&world).await.believed, Believed::Both);
    assert_eq!(arrival(&mut world).await.verdict.dkim, "pass");
    world.end().await.unwrap();
}

/// Held legs, as `queue list --state held --json` has them.
async fn listed(world: &World) -> String {
    let client = Client::new(&world.config.admin.socket);
    let held = serde_json::json!({"state": "held"});
    client.post::<serde_json::Value>("/v1/queue/list", &held).await.unwrap().to_string()
}

/// Waits until nobody answers there any more.
async fn gone(dns: std::net::SocketAddr) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::net::UdpSocket::bind(dns).is_err() {
        assert!(std::time::Instant::now() < deadline, "{dns} is still answered");
        tokio::task::yield_now().await;
    }
}

/// Waits until the log has said this so many times.
async fn until(world: &World, text: &str, times: usize) {
    let mut file = Follow::new(&world.config.log.path);
    let said = file.until(|log| (log.matches(text).count() >= times).then_some(())).await;
    assert!(said.is_some(), "{text} is not said {times} times:\n{}", log(world));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_ends_is_a_failure_that_the_tenant_is_told_of() {
    let extra = Extra {
        tenant: "on_fail = \"hold\"".to_owned(),
        tables: "[seal]\nhold_max = \"1s\"".to_owned(),
        delivery: "gather = \"0s\"".to_owned(),
        ..Extra::default()
    };
    let (mut world, _dir) = start(&extra).await;
    withdraw(&world).await;
    check(&world).await;
    let id = submit(&world, Method::Tls).await;
    let told = arrival(&mut world).await;
    let text = String::from_utf8_lossy(&told.message).into_owned();
    assert_eq!(told.to, ["postmaster@acme.test"]);
    assert!(text.contains(&id) && text.contains("held"), "{text}");
    assert!(log(&world).contains(r#""type":"expired""#));
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tagged_mail_leaves_without_a_seal_that_nobody_could_check_and_the_log_says_so() {
    let (mut world, _dir) = start(&tenant("on_fail = \"tag\"")).await;
    withdraw(&world).await;
    check(&world).await;
    submit(&world, Method::Tls).await;
    let arrived = arrival(&mut world).await;
    let text = String::from_utf8_lossy(&arrived.message).into_owned();
    assert!(!text.contains("DKIM-Signature"), "never with a key that was not seen in DNS:\n{text}");
    let lines = log(&world);
    assert!(lines.contains(r#""unsigned":"unseen""#) && lines.contains(r#""dmarc":"fail""#), "{lines}");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn off_signs_without_having_seen_the_key() {
    let (mut world, _dir) = start(&tenant("on_fail = \"off\"")).await;
    withdraw(&world).await;
    submit(&world, Method::Tls).await;
    let arrived = arrival(&mut world).await;
    let text = String::from_utf8_lossy(&arrived.message).into_owned();
    assert!(text.contains("DKIM-Signature"), "{text}");
    assert!(!log(&world).contains(r#""dmarc""#), "nobody judged");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn believed_by_spf_alone_it_leaves_unsealed() {
    let (mut world, _dir) = start(&Extra::default()).await;
    world.zone.withdraw(KEY, RecordType::TXT).await.unwrap();
    assert_eq!(check(&world).await.believed, Believed::SpfOnly);
    submit(&world, Method::Tls).await;
    let arrived = arrival(&mut world).await;
    assert_eq!(
        (arrived.verdict.spf.as_str(), arrived.verdict.dmarc.as_str()),
        ("pass", "pass"),
        "{:?}",
        arrived.verdict
    );
    assert!(log(&world).contains(r#""aligned_by":"spf""#));
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_of_dns_refuses_nothing_and_the_facts_survive_a_restart() {
    let (world, _dir) = start(&Extra::default()).await;
    let World { zone, daemon, config, password, certificate, exchanger } = world;
    let dns = zone.address();
    daemon.drain().await.unwrap();
    drop(zone);
    gone(dns).await;

    let daemon = Daemon::start(config.clone()).await.unwrap();
    let client = Client::new(&config.admin.socket);
    let report: Report = client.post("/v1/domain/acme.test/check", &()).await.unwrap();
    assert_eq!(report.believed, Believed::Both, "the last known facts count: {report:?}");
    assert!(!report.silence.is_empty(), "and that DNS is silent is said: {report:?}");
    daemon.drain().await.unwrap();
    drop((password, certificate, exchanger));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_below_a_domain_are_looked_at_again_after_a_restart() {
    let (world, _dir) = start(&tenant("subdomains = true")).await;
    world.zone.publish("news.acme.test. 1 IN TXT \"here\"\n").await.unwrap();
    let client = Client::new(&world.config.admin.socket);
    let report: Report = client.post("/v1/domain/news.acme.test/check", &()).await.unwrap();
    assert_eq!(report.believed, Believed::DkimOnly, "{report:?}");

    let World { zone, daemon, config, password, certificate, exchanger } = world;
    daemon.drain().await.unwrap();
    zone.publish("news.acme.test. 1 IN MX 0 .\n").await.unwrap();
    let daemon = Daemon::start(config.clone()).await.unwrap();
    let form = client::Form {
        server: daemon.addresses()[1],
        method: Method::Tls,
        login: Some(("acme".to_owned(), password)),
        trust: certificate,
    };
    let sent = client::send(&form, "offers@news.acme.test", "you@inbox.test", "Hello").await;
    let said = sent.unwrap_err().to_string();
    assert!(said.contains("5.7.27"), "it has a null MX now: {said}");
    daemon.drain().await.unwrap();
    drop((zone, exchanger));
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_where_dns_never_said_anything() {
    let (world, dir) = start(&Extra::default()).await;
    let World { zone, daemon, config, password, certificate, mut exchanger } = world;
    daemon.drain().await.unwrap();
    let dns = zone.address();
    drop(zone);
    gone(dns).await;
    std::fs::remove_dir_all(&config.state).unwrap();
    let daemon = Daemon::start(config.clone()).await.unwrap();
    let form = client::Form {
        server: daemon.addresses()[1],
        method: Method::Tls,
        login: Some(("acme".to_owned(), password)),
        trust: certificate,
    };
    let reply = client::send(&form, "rewards@acme.test", "you@inbox.test", "Hello").await.unwrap();
    assert!(reply.contains("queued as"), "{reply}");
    daemon.log().flush();
    let lines = std::fs::read_to_string(&config.log.path).unwrap();
    assert!(lines.contains(r#""type":"held""#), "{lines}");
    assert!(exchanger_is_empty(&mut exchanger), "nothing leaves unjudged");
    daemon.drain().await.unwrap();
    drop(dir);
}

fn exchanger_is_empty(exchanger: &mut waxseal::sandbox::exchanger::Exchanger) -> bool {
    use std::task::{Context, Poll, Waker};
    let next = std::pin::pin!(exchanger.arrival());
    matches!(next.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending)
}
