//! REQUIRETLS (RFC 8689): offered and taken under TLS alone, kept with the message, asked of the next hop, and told of with as
//! little as may be.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::{Deferred, Delivered, Failed};
use waxseal::mail::message::TlsNeed::{RequireTls, Usual, Waived};
use waxseal::mail::message::{Kind, TlsNeed};
use waxseal::session::params;
use waxseal::tenant::{Route, Upstream, UpstreamTls};

use crate::deliver::{BODY, World, fates, message, words, world};
use crate::exchanger::{Script, script};
use crate::intake::{Intake, envelope};
use crate::rig::{Plan, Rig};

#[test]
fn the_parameter_takes_no_value() {
    assert!(params::mail(" REQUIRETLS").unwrap().require_tls);
    assert!(params::mail(" SIZE=1 requiretls").unwrap().require_tls);
    assert!(!params::mail(" SIZE=1").unwrap().require_tls);
    assert!(params::mail(" REQUIRETLS=1").is_err());
    assert!(params::mail(" REQUIRETLS REQUIRETLS").is_err());
}

#[tokio::test]
async fn what_the_sender_asks_for_is_kept() {
    let intake = Intake::new();
    let rows = [
        (true, "", RequireTls, "the parameter"),
        (true, "TLS-Required: No\r\n", RequireTls, "RFC 8689 3: the parameter outdoes the field"),
        (false, "TLS-Required: No\r\n", Waived, "the field"),
        (false, "tls-required:  no \r\n", Waived, "in any case"),
        (false, "TLS-Required: Yes\r\n", Usual, "a value that means nothing"),
        (false, "TLS-Required: No\r\nTLS-Required: No\r\n", Usual, "two fields"),
        (false, "", Usual, "nothing"),
    ];
    for (parameter, field, need, why) in rows {
        let text = format!("From: a@t.example\r\nTo: r@rcpt.example\r\n{field}\r\nbody\r\n");
        let mut submission = intake.submission(text.as_bytes());
        submission.envelope = envelope("a@t.example", &["r@rcpt.example"]);
        submission.require_tls = parameter;
        let taken = intake.take(submission).await;
        assert_eq!(taken.message.facts.needs.tls, need, "{why}");
    }
    let logged = intake.logged();
    assert!(
        logged.contains(r#""tls_need":"requiretls""#) && logged.contains(r#""tls_need":"waived""#),
        "{logged}"
    );
}

#[test]
fn a_waiver_counts_where_the_class_needs_nothing() {
    let rows = [
        (Waived, Usual, Waived),
        (Waived, TlsNeed::Required, TlsNeed::Required),
        (Usual, TlsNeed::Verified, TlsNeed::Verified),
        (RequireTls, TlsNeed::Verified, RequireTls),
        (Usual, Usual, Usual),
    ];
    for (sender, class, both) in rows {
        assert_eq!(sender.joined(class), both, "{sender:?} and {class:?}");
    }
}

const ONE: &str = "b.test. 60 IN MX 10 mx2.test.\nup.test. 60 IN A 127.0.0.2\n";

/// Under TLS this is offered, and then said.
fn upstream(offers: &str, rest: &str) -> Script {
    script(&format!(
        "<- 220 up\n-> EHLO relay.test\n<- 250-up\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n-> EHLO relay.test\n\
         <- 250-up\n<- 250 {offers}\n{rest}"
    ))
}

fn by_upstream(world: &World) -> Arc<Route> {
    let file = world.config.state.join("ca.pem");
    std::fs::write(&file, &world.exchangers[0].certificate).unwrap();
    let upstream = Upstream {
        host: "up.test".into(),
        ca_file: Some(file),
        ..world.upstream(UpstreamTls::Starttls, false)
    };
    Arc::new(Route::Upstream(upstream))
}

#[tokio::test]
async fn it_is_passed_on_where_it_is_offered() {
    let rest = "-> MAIL FROM:<a@acme.test> REQUIRETLS\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n\
                -- silence";
    let world = world(ONE, vec![vec![upstream("REQUIRETLS", rest)]]).await;
    let mut mail = message(&["b@b.test"], BODY);
    mail.facts.needs.tls = RequireTls;
    let decided = world.send(mail, &by_upstream(&world)).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
}

#[tokio::test]
async fn without_it_nothing_is_sent_and_the_sender_is_told() {
    let world = world(ONE, vec![vec![upstream("HELP", "-> QUIT\n<- 221 bye")]]).await;
    let mut mail = message(&["b@b.test"], BODY);
    mail.facts.needs.tls = RequireTls;
    let decided = world.send(mail, &by_upstream(&world)).await;
    assert_eq!(fates(&decided), [(Failed, 0)]);
    assert!(words(&decided).starts_with("5.7.30"), "{}", words(&decided));
}

#[tokio::test]
async fn an_exchanger_that_nobody_vouches_for_gets_nothing() {
    let world = world(ONE, vec![vec![script("<- 554 nobody may come here")]]).await;
    let decided = world.needing(RequireTls).await;
    assert_eq!(fates(&decided), [(Failed, 0)]);
    assert!(words(&decided).starts_with("5.7.10 nobody vouches"), "{}", words(&decided));
    assert_eq!(world.exchangers[0].connections(), 0);
}

/// What DNS does not say about an exchanger or a policy may be what the sender asked for: the mail waits.
#[tokio::test]
async fn silence_fails_no_mail() {
    let silent = "loop.test. 60 IN CNAME pool.test.\npool.test. 60 IN CNAME loop.test.\n";
    let rows = [
        ("", "b.test. 60 IN MX 5 loop.test.\n", "5.7.10 nobody vouches", "the best exchanger's address"),
        ("_mta-sts.b.test. 60 IN CNAME loop.test.\n", "", "4.7.10 nobody vouches", "the policy"),
        ("_mta-sts.b.test. 60 IN TXT \"v=STSv1; id=1\"\n", "", "4.7.10 nobody vouches", "the policy's host"),
    ];
    for (policy, exchanger, says, why) in rows {
        let zone = [ONE, silent, policy, exchanger].concat();
        let world = world(&zone, vec![vec![script("<- 554 nobody may come here")]]).await;
        let decided = world.needing(RequireTls).await;
        assert_eq!(fates(&decided), [(Deferred, 0)], "{why}: {}", words(&decided));
        assert!(words(&decided).starts_with(says), "{why}: {}", words(&decided));
    }
}

#[tokio::test]
async fn a_notification_is_sent_all_the_same() {
    let take = "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL FROM:<>\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n\
                <- 250 ok\n-- silence";
    let world = world(ONE, vec![vec![script(take)]]).await;
    let mut mail = message(&["b@b.test"], BODY);
    mail.facts.needs.tls = RequireTls;
    mail.facts.envelope.from = None;
    mail.facts.kind = Kind::Notification;
    let decided = world.send(mail, &Arc::new(Route::Mx)).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "RFC 8689 5: {}", words(&decided));
}

#[tokio::test]
async fn a_notification_about_it_asks_for_it_and_tells_little() {
    let mut rig = Rig::new(waxseal::queue::store::Turns { per_destination: 20, total: 50 });
    rig.script.plan([Plan::Named]);
    rig.start();
    rig.accept_with("acme", &["f@example.test"], |facts| {
        facts.needs.tls = RequireTls;
        facts.envelope.ret = Some(waxseal::mail::envelope::Ret::Full);
    })
    .await;
    let told = rig.notification().await.message;
    assert_eq!(told.facts.needs.tls, RequireTls);
    let text = String::from_utf8_lossy(&told.body).into_owned();
    assert!(text.contains("text/rfc822-headers"), "RET=HDRS, whatever was asked:\n{text}");
    assert!(!text.contains("Subject: hello") && !text.contains("\nsecret "), "{text}");
}
