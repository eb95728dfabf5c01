//! Notifications: who is told what, when, and that it is sealed; and all the cases in which nobody is.

use std::sync::Arc;
use std::time::Duration;

use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator};
use waxseal::config;
use waxseal::dns::Resolver;
use waxseal::mail::envelope::{Notify, Ret};
use waxseal::queue::store::{Action, Filter, StateName, Turns};
use waxseal::sandbox::zone::Zone;
use waxseal::seal::Keyring;

use crate::rig::watched::NO_ROOM;
use crate::rig::{HOUR, MINUTE, Plan, Rig, patiently, report};

const TURNS: Turns = Turns { per_destination: 20, total: 50 };

/// Everything fails but notifications, which the courier takes: their destination is the tenant's own domain.
async fn failing(rig: &mut Rig) {
    rig.script.plan([Plan::Named]);
    rig.start();
}

#[tokio::test]
async fn a_failure_is_told_to_its_sender_and_the_relay_seals_it() {
    let mut rig = Rig::new(TURNS);
    rig.go_to_present();
    let id = rig.accept("acme", &["f1@example.test"]).await;
    failing(&mut rig).await;
    let told = rig.notification().await;
    let facts = &told.message.facts;
    assert_eq!(facts.envelope.from, None, "null reverse-path");
    assert_eq!(facts.envelope.rcpts[0].address.to_string(), "noreply@acme.test");
    assert!(facts.envelope.rcpts[0].notify.stated && !facts.envelope.rcpts[0].notify.failure);
    let text = String::from_utf8(told.message.body.to_vec()).unwrap();
    assert!(text.starts_with("DKIM-Signature:"), "{text}");
    assert!(text.contains(&format!("secret {id}")), "a small message goes back whole to its sender");
    assert!(
        report(&told.message.body).contains("Final-Recipient: rfc822; f1@example.test\nAction: failed\n")
    );
    let record = rig.keyring.load().keys(&"relay.test".parse().unwrap())[0].public.record();
    let half = record.len() / 2;
    let zone =
        format!("wx1._domainkey.relay.test. 60 IN TXT \"{}\" \"{}\"\n", &record[..half], &record[half..]);
    assert_eq!(dkim(&zone, &told.message.body).await, "pass");
}

/// What a receiver finds: mail-auth, asking a real name server.
async fn dkim(zone: &str, message: &[u8]) -> &'static str {
    let zone = Zone::start(zone).await.unwrap();
    let dns = config::Dns {
        servers: vec![zone.address()],
        timeout: Duration::from_secs(30),
        ..config::Dns::default()
    };
    let verifier = MessageAuthenticator(Resolver::new(&dns).unwrap().hickory().clone());
    let parsed = AuthenticatedMessage::parse(message).unwrap();
    let found = patiently(verifier.verify_dkim(&parsed)).await;
    assert!(!found.is_empty());
    if found.iter().all(|one| *one.result() == DkimResult::Pass) { "pass" } else { "fail" }
}

#[tokio::test]
async fn whom_the_tenant_names_is_told_but_sees_no_body() {
    let mut rig = Rig::new(TURNS);
    let id = rig.accept("blue", &["f1@example.test"]).await;
    failing(&mut rig).await;
    let told = rig.notification().await;
    assert_eq!(told.destination, "help.test");
    let text = String::from_utf8(told.message.body.to_vec()).unwrap();
    assert!(text.contains("Subject: hello") && !text.contains(&format!("secret {id}")));
}

#[tokio::test]
async fn failures_are_gathered_into_one_notification() {
    let mut rig = Rig::new(TURNS);
    rig.configure(|config| config.delivery.gather = Duration::from_secs(60));
    for n in 0..5 {
        rig.accept("acme", &[&format!("f{n}@example.test")]).await;
    }
    failing(&mut rig).await;
    for _ in 0..5 {
        assert_eq!(&*rig.seen().await.tenant, "acme");
    }
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.store.stats().await.unwrap().owed, 5, "owed, and not told yet");
    rig.pass(MINUTE);
    let told = rig.notification().await;
    assert_eq!(report(&told.message.body).matches("Final-Recipient:").count(), 5);
    rig.drain().await;
    assert_eq!(rig.logged("dsn").len(), 1);
    assert_eq!(rig.store.stats().await.unwrap().owed, 0);
}

#[tokio::test]
async fn what_is_owed_survives_a_restart() {
    let mut rig = Rig::new(TURNS);
    rig.configure(|config| config.delivery.gather = Duration::from_secs(60));
    rig.accept("acme", &["f1@example.test"]).await;
    failing(&mut rig).await;
    rig.seen().await;
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!(rig.store.stats().await.unwrap().owed, 1);
    rig.configure(|config| config.delivery.gather = Duration::ZERO);
    rig.restart_drained().await;
    assert!(report(&rig.notification().await.message.body).contains("f1@example.test"));
}

/// Never unsigned: without the relay's key a failure stays owed, and is told when the key is there.
#[tokio::test]
async fn without_a_key_nothing_is_sent_and_nothing_is_forgotten() {
    let mut rig = Rig::new(TURNS);
    let key = rig.keyring.swap(Arc::new(Keyring::default()));
    rig.accept("acme", &["f1@example.test"]).await;
    failing(&mut rig).await;
    rig.seen().await;
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.store.stats().await.unwrap().owed, 1);
    rig.keyring.store(key);
    rig.scheduler().nudge();
    rig.notification().await;
    rig.drain().await;
    assert_eq!(rig.store.stats().await.unwrap().owed, 0);
}

/// QU2, QU3, QU4, QU6: the log says why, and that is all.
#[tokio::test]
async fn nobody_is_told_where_nobody_may_be() {
    let mut rig = Rig::new(TURNS);
    rig.accept_with("acme", &["f1@example.test"], |facts| facts.envelope.from = None).await;
    rig.accept_with("acme", &["f2@example.test"], |facts| {
        facts.envelope.from = Some("victim@elsewhere.test".parse().unwrap());
    })
    .await;
    let never = Notify { success: false, failure: false, delay: false, stated: true };
    rig.accept_with("acme", &["f3@example.test"], |facts| facts.envelope.rcpts[0].notify = never).await;
    failing(&mut rig).await;
    for _ in 0..3 {
        assert_eq!(&*rig.seen().await.tenant, "acme");
    }
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    let mut why: Vec<String> = rig.logged("dsn").iter().map(|line| line["reason"].to_string()).collect();
    why.sort();
    assert_eq!(why.len(), 3);
    assert!(why[0].contains("its reverse-path is null"), "{why:?}");
    assert!(why[1].contains("its sender asked not to be told"), "{why:?}");
    assert!(why[2].contains("its sender is not the tenant's own"), "{why:?}");
    assert_eq!(rig.logged("bounced").len(), 3);
    assert_eq!(rig.store.stats().await.unwrap().owed, 0);
}

/// QU3.
#[tokio::test]
async fn a_notification_that_fails_is_the_end_of_it() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(550)]);
    rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    rig.notification().await;
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!(rig.logged("bounced").len(), 2, "the message and its notification");
    let said = rig.logged("dsn");
    assert_eq!(said.len(), 2, "one that was written, one word that there is no other");
    let why = |line: &serde_json::Value| line["reason"] == "it is a notification itself";
    assert_eq!(said.iter().filter(|line| why(line)).count(), 1);
}

#[tokio::test]
async fn what_an_operator_bounces_is_told() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451)]);
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    rig.seen().await;
    rig.until(|all| all[0].state == StateName::Deferred).await;
    let filter = Filter { ids: vec![id], ..Filter::default() };
    let reason = "wrong list".to_owned();
    assert_eq!(rig.store.act(filter, Action::Bounce { reason }, rig.now()).await.unwrap().len(), 1);
    rig.scheduler().nudge();
    assert!(report(&rig.notification().await.message.body).contains("wrong list"));
}

#[tokio::test]
async fn a_delay_is_told_once() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    let id = rig.accept("acme", &["t1@example.test"]).await;
    rig.start();
    rig.seen().await;
    rig.until(|all| all[0].state == StateName::Deferred).await;
    rig.pass(5 * HOUR);
    rig.seen().await;
    let told = rig.notification().await;
    let said = report(&told.message.body);
    assert!(
        said.contains("Action: delayed\nStatus: 4.7.1\n") && said.contains("Will-Retry-Until:"),
        "{said}"
    );
    rig.until(|all| all.iter().any(|entry| entry.leg.id == id && entry.leg.delay_told)).await;
    rig.pass(5 * HOUR);
    assert_eq!(rig.seen().await.id, id);
    rig.drain().await;
    assert_eq!(rig.logged("dsn").iter().filter(|line| line["dsn"] == "delayed").count(), 1);
}

/// RFC 3461 section 5.2.2, and QU5: what the client asked for, in its own words.
#[tokio::test]
async fn a_client_that_asks_hears_of_success_and_failure_in_its_own_words() {
    let mut rig = Rig::new(TURNS);
    rig.accept_with("acme", &["d1@example.test", "f1@example.test"], |facts| {
        facts.envelope.envid = Some("order 66".to_owned());
        facts.envelope.ret = Some(Ret::Hdrs);
        for rcpt in &mut facts.envelope.rcpts {
            rcpt.orcpt = Some("rfc822;some+2Bone@example.test".to_owned());
            rcpt.notify = Notify { success: true, failure: true, delay: false, stated: true };
        }
    })
    .await;
    failing(&mut rig).await;
    let mut reports = [rig.notification().await, rig.notification().await].map(|told| {
        let text = String::from_utf8(told.message.body.to_vec()).unwrap();
        assert!(!text.contains("secret"), "RET=HDRS");
        report(&told.message.body)
    });
    reports.sort_by_key(|report| report.contains("Action: relayed"));
    let [failed, relayed] = reports;
    assert!(failed.contains("Action: failed\nStatus: 5.1.1\n"), "{failed}");
    assert!(relayed.contains("Action: relayed\nStatus: 2.0.0\n"), "{relayed}");
    for report in [failed, relayed] {
        assert!(report.contains("Original-Envelope-Id: order 66\n"), "{report}");
        assert!(report.contains("Original-Recipient: rfc822;some+one@example.test\n"), "{report}");
    }
}

/// One notification that cannot be kept now keeps nobody else's failure from being told.
#[tokio::test]
async fn what_cannot_be_told_holds_up_no_other_tenants_word() {
    let mut rig = Rig::new(TURNS);
    let stuck = rig
        .accept_with("acme", &["f1@example.test"], |facts| {
            facts.envelope.from = Some(format!("{NO_ROOM}acme.test").parse().unwrap());
        })
        .await;
    let told = rig.accept("blue", &["f2@example.test"]).await;
    failing(&mut rig).await;
    assert_eq!(rig.notification().await.destination, "help.test");
    let owed = rig.store.owed(10).await.unwrap();
    let owed: Vec<_> = owed.iter().map(|(owed, _)| owed.id).collect();
    assert!(owed == [stuck] && told != stuck, "its own stays owed");
}
