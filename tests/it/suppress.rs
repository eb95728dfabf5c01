//! Suppression lists: whom mail no longer goes to, who is told, what fills them, and that no guess asks for them.

use std::sync::Arc;

use waxseal::config::class::Suppression;
use waxseal::inbound::{Inbound, Peer, Returned};
use waxseal::mail::class::{By, Classed};
use waxseal::mail::id::Id;
use waxseal::mail::return_path::{self, Token};
use waxseal::mail::time::Time;
use waxseal::memory::Permit;
use waxseal::queue::store::Turns;
use waxseal::suppress::{Entry, Reason};
use waxseal::tenant::{Directory, SuppressionRules};

use crate::dialogue::secret;
use crate::inbound::report;
use crate::rig::{self, Plan, Rig, tenant};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };

/// A rig whose tenant acme has these rules.
fn rig(rules: SuppressionRules) -> Rig {
    let rig = Rig::new(TURNS);
    let mut acme = tenant("acme", &[]);
    acme.suppression = rules;
    acme.domains[0].return_path = Some("bounce.acme.test".parse().unwrap());
    rig.tenants.store(Arc::new(Directory::new([acme, tenant("blue", &[])])));
    rig
}

fn applying(apply: Suppression) -> SuppressionRules {
    SuppressionRules { apply, ..SuppressionRules::default() }
}

async fn put(rig: &Rig, address: &str, reason: Reason) {
    assert!(rig.list().await.is_empty(), "the index is there");
    let entry = Entry::new(&address.parse().unwrap(), reason, Time(rig::START), "said so");
    assert_eq!(rig.suppressions.add("acme", vec![entry]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_suppressed_recipient_is_told_of_and_the_others_get_their_mail() {
    let mut rig = rig(applying(Suppression::All));
    put(&rig, "gone@there.test", Reason::Bounce).await;
    let id = rig.accept("acme", &["d1@there.test", "Gone@there.test", "d2@there.test"]).await;
    rig.start();
    let seen = rig.seen().await;
    assert_eq!((seen.id, seen.rcpts), (id, 2), "the attempt is for those that are left");
    let told = rig.notification().await;
    let words = rig::report(&told.message.body);
    assert!(words.contains("Gone@there.test") && words.contains("Status: 5.7.1"), "{words}");
    assert!(words.contains("suppression list since 2026-01-01T00:00:00.000Z"), "{words}");
    rig.drain().await;
    let lines = rig.logged("suppressed");
    assert_eq!((lines.len(), &lines[0]["to"], &lines[0]["rcpt"]), (1, &"Gone@there.test".into(), &1.into()));
    assert_eq!(
        (rig.logged("delivered").len(), rig.logged("bounced").len()),
        (3, 0),
        "one fate each, and the notification"
    );
}

#[tokio::test]
async fn a_message_to_nobody_else_ends_without_an_attempt_also_after_a_restart() {
    let mut rig = rig(applying(Suppression::All));
    put(&rig, "gone@there.test", Reason::Manual).await;
    rig.start();
    rig.restart().await;
    let id = rig.accept("acme", &["gone@there.test"]).await;
    let told = rig.notification().await;
    assert!(rig::report(&told.message.body).contains(&id.to_string()));
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.logged("attempt").len(), 1, "the notification's");
}

/// The class says one thing and the tenant another: only a class that is certain has the word.
#[tokio::test]
async fn a_guess_neither_suppresses_nor_spares() {
    for (usual, of_class) in [(Suppression::Off, Suppression::All), (Suppression::All, Suppression::Off)] {
        let mut rig = rig(applying(usual));
        let directory = {
            let mut acme = tenant("acme", &[]);
            acme.suppression = applying(usual);
            acme.classes = rig::classes("w9", |class| class.suppression = Some(of_class));
            Directory::new([acme])
        };
        rig.tenants.store(Arc::new(directory));
        put(&rig, "gone@there.test", Reason::Bounce).await;
        let mut asked = 0;
        for by in By::ALL {
            let class = Classed { name: "w9".into(), by };
            rig.accept_with("acme", &["gone@there.test"], |facts| facts.class = Some(class)).await;
            asked += usize::from(by.is_certain() == (of_class == Suppression::All));
        }
        rig.start();
        rig.until(<[_]>::is_empty).await;
        rig.drain().await;
        let lines = rig.logged("suppressed");
        assert_eq!(lines.len(), asked, "{usual:?} {of_class:?}: {lines:?}");
        let certain = |line: &serde_json::Value| {
            ["login", "header", "control"].contains(&line["class_by"].as_str().unwrap())
        };
        assert!(lines.iter().all(|line| certain(line) == (of_class == Suppression::All)), "{lines:?}");
    }
}

#[tokio::test]
async fn resets_ignore_complaints() {
    let mut rig = rig(applying(Suppression::All));
    let mut acme = tenant("acme", &[]);
    acme.suppression = applying(Suppression::All);
    acme.classes =
        rig::classes("password_reset", |class| class.suppression = Some(Suppression::NoComplaints));
    rig.tenants.store(Arc::new(Directory::new([acme])));
    put(&rig, "d@there.test", Reason::Complaint).await;
    let reset = Classed { name: "password_reset".into(), by: By::Login };
    let id = rig.accept_with("acme", &["d@there.test"], |facts| facts.class = Some(reset)).await;
    rig.start();
    assert_eq!(rig.seen().await.id, id);
    rig.accept("acme", &["d@there.test"]).await;
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!(rig.logged("suppressed").len(), 1, "other mail does not");
}

#[tokio::test]
async fn a_hard_bounce_is_learned_where_the_tenant_asks_for_it() {
    for (bounces, attempts) in [(true, 1), (false, 2)] {
        let mut rig = rig(SuppressionRules { apply: Suppression::All, bounces, complaints: false });
        rig.script.plan([Plan::Named]);
        rig.start();
        for _ in 0..2 {
            rig.accept("acme", &["f@there.test"]).await;
            // It is learned right after it is settled.
            rig.until(|all| all.is_empty() && rig.logged("audit").is_empty() != bounces).await;
        }
        rig.drain().await;
        let tried = rig.logged("attempt").iter().filter(|line| line["tenant"] == "acme").count();
        assert_eq!(tried, attempts, "bounces = {bounces}");
        let audits = rig.logged("audit");
        assert_eq!(audits.len(), usize::from(bounces), "{audits:?}");
        assert!(audits.iter().all(|line| line["reason"] == "f@there.test: 5.1.1 no such user"), "{audits:?}");
    }
}

async fn comes_back(inbound: &Inbound, id: Id, path: waxseal::mail::address::Address, body: String) {
    let peer = Peer { ip: [192, 0, 2, 1].into(), helo: "mx.there.test".into(), tls: None };
    let held = Permit::default();
    let returned =
        Returned { peer, from: None, to: path, token: Token::Bounce(id), body: body.into_bytes(), held };
    assert_eq!(inbound.take(returned).await.code, 250);
}

fn complaint(rcpt: &str, kind: &str) -> String {
    format!(
        "From: fbl@there.test\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: {kind}\r\nUser-Agent: x/1\r\nVersion: 1\r\n\
         Original-Rcpt-To: {rcpt}\r\n\r\n--b--\r\n"
    )
}

/// Whoever once had a message can report on it for ever: only its own recipient is believed to be meant.
#[tokio::test]
async fn reports_are_believed_only_of_whom_the_message_went_to() {
    let rig = rig(SuppressionRules { apply: Suppression::Off, bounces: true, complaints: true });
    assert!(rig.list().await.is_empty(), "the index is there");
    let inbound = crate::inbound_tell::inbound(&rig);
    let at = "bounce.acme.test".parse().unwrap();
    let bounce = |rcpt: &str, status: &str| report(rcpt, "failed", status, "From: a@acme.test\r\n");
    let gone = Id::new(rig.now(), 7);
    let to = |rcpt: &str| return_path::make_for(&secret(), gone, &at, &rcpt.parse().unwrap());
    let several = return_path::make(&secret(), gone, &at);
    let queued = rig.accept("acme", &["one@there.test", "two@there.test"]).await;
    let single = rig.accept("acme", &["only@there.test"]).await;
    let rows = [
        (
            gone,
            to("bob@there.test"),
            bounce("bob@there.test", "5.1.1"),
            Some("bob@there.test"),
            "its recipient",
        ),
        (gone, to("bob@there.test"), bounce("eve@there.test", "5.1.1"), None, "somebody else"),
        (gone, to("max@there.test"), bounce("max@there.test", "5.2.2"), None, "full, not gone"),
        (gone, several, bounce("sue@there.test", "5.1.1"), None, "one of several: nothing proves it"),
        (
            queued,
            return_path::make(&secret(), queued, &at),
            bounce("Two@there.test", "5.1.1"),
            None,
            "one of several: the other could have written it",
        ),
        (
            single,
            return_path::make_for(&secret(), single, &at, &"only@there.test".parse().unwrap()),
            bounce("Only@there.test", "5.1.1"),
            Some("only@there.test"),
            "the only one, in whatever case",
        ),
        (
            gone,
            to("amy@there.test"),
            complaint("amy@there.test", "abuse"),
            Some("amy@there.test"),
            "a complaint",
        ),
        (gone, to("zoe@there.test"), complaint("zoe@there.test", "not-spam"), None, "the opposite"),
        (gone, to("zoe@there.test"), complaint("ann@there.test", "abuse"), None, "somebody else's"),
    ];
    let mut expected = 0;
    for (id, path, body, listed, why) in rows {
        comes_back(&inbound, id, path, body).await;
        let mut all = Vec::new();
        for portion in 0..waxseal::suppress::PORTIONS {
            all.extend(rig.suppressions.portion("acme", portion).await.unwrap());
        }
        expected += usize::from(listed.is_some());
        assert_eq!(all.len(), expected, "{why}: {all:?}");
        assert!(
            listed.is_none_or(|listed| all.iter().any(|entry| entry.address == listed)),
            "{why}: {all:?}"
        );
    }
}
