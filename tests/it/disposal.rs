//! Useful life, superseding and extra recipients: what an administrator asked for ends mail, is told and logged, and nothing else does.

use std::time::Duration;

use waxseal::mail::attempt::Fate;
use waxseal::mail::class::{By, Classed};
use waxseal::mail::id::Id;
use waxseal::mail::meaning::Reason;
use waxseal::mail::message::{Asked, Facts};
use waxseal::mail::time::Time;
use waxseal::queue::store::{Action, Filter, Last, Settlement, StateName, Then, Turns};

use crate::rig::{self, MINUTE, Plan, Rig};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };

/// A reset, of use for fifty minutes.
fn short(facts: &mut Facts) {
    facts.class = Some(Classed { name: "password_reset".into(), by: By::Login });
    facts.expires = facts.received.after(Duration::from_millis(50 * MINUTE));
    facts.asked = Asked { life: true, ..Asked::default() };
}

/// A reset that older ones give way to.
fn superseding(facts: &mut Facts) {
    facts.class = Some(Classed { name: "password_reset".into(), by: By::Login });
    facts.header_from = Some("noreply@acme.test".parse().unwrap());
    facts.asked = Asked { supersede: true, ..Asked::default() };
}

#[tokio::test]
async fn what_is_not_delivered_while_it_is_of_use_fails_and_is_told() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    let id = rig.accept_with("acme", &["t@there.test"], short).await;
    rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    rig.pass(50 * MINUTE);
    let told = rig.notification().await;
    let words = rig::report(&told.message.body);
    assert!(words.contains("Status: 4.4.7") && words.contains("its useful life was over"), "{words}");
    rig.drain().await;
    let expired = rig.logged("expired");
    assert_eq!((expired.len(), &expired[0]["id"]), (1, &id.to_string().into()));
    assert_eq!(
        (&expired[0]["life"], &expired[0]["attempt"]),
        (&"class".into(), &2.into()),
        "the last attempt falls on its end"
    );
}

#[tokio::test]
async fn after_an_outage_longer_than_its_life_it_is_not_attempted() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    let short_lived = rig.accept_with("acme", &["t@there.test"], short).await;
    let other = rig.accept("acme", &["t@there.test"]).await;
    rig.until(|all| all.iter().filter(|entry| entry.state == StateName::Deferred).count() == 2).await;
    rig.drain().await;
    rig.hand.fetch_add(120 * MINUTE, std::sync::atomic::Ordering::Relaxed);
    rig.script.plan([Plan::All(250)]);
    rig.restart_drained().await;
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    let attempts = |id: Id| rig.logged("attempt").iter().filter(|line| line["id"] == id.to_string()).count();
    assert_eq!(
        (attempts(short_lived), attempts(other)),
        (1, 2),
        "a link that leads nowhere is not sent; other mail is"
    );
    let expired = rig.logged("expired");
    assert_eq!((expired.len(), &expired[0]["life"]), (1, &"class".into()));
}

#[tokio::test]
async fn held_mail_ends_with_its_useful_life_too() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    rig.accept_with("acme", &["t@there.test"], short).await;
    rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    let hold = Action::Hold { reason: "by phone".to_owned() };
    rig.store.act(Filter::default(), hold, rig.now()).await.unwrap();
    rig.pass(50 * MINUTE);
    let told = rig.notification().await;
    assert!(rig::report(&told.message.body).contains("held until its useful life ended"));
    rig.drain().await;
    assert_eq!(rig.logged("expired")[0]["life"], "class");
}

/// Two resets to one address, the first of which waits. Answers both ids.
async fn two(rig: &Rig, change: impl Fn(&mut Facts)) -> (Id, Id) {
    rig.script.plan([Plan::All(451)]);
    let older = rig.accept_with("acme", &["t@there.test", "d@else.test"], superseding).await;
    rig.until(|all| all.len() == 2 && all.iter().all(|entry| entry.state == StateName::Deferred)).await;
    rig.hand.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
    rig.script.plan([Plan::All(250)]);
    let newer = rig
        .accept_with("acme", &["t@there.test"], |facts| {
            superseding(facts);
            change(facts);
        })
        .await;
    (older, newer)
}

#[tokio::test]
async fn an_older_mail_ends_when_the_newer_is_delivered_and_not_before() {
    let mut rig = Rig::new(TURNS);
    rig.start();
    rig.script.plan([Plan::All(451)]);
    let older = rig.accept_with("acme", &["t@there.test", "d@else.test"], superseding).await;
    rig.until(|all| all.len() == 2 && all.iter().all(|entry| entry.state == StateName::Deferred)).await;
    // The marks are in sled now, and no longer in memory.
    rig.restart().await;
    rig.hand.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
    let newer = rig.accept_with("acme", &["t@there.test"], superseding).await;
    rig.until(|all| all.len() == 3 && all.iter().all(|entry| entry.state == StateName::Deferred)).await;
    assert!(rig.logged("superseded").is_empty(), "the newer one is not out yet");
    rig.script.plan([Plan::All(250)]);
    rig.store.act(Filter { ids: vec![newer], ..Filter::default() }, Action::Retry, rig.now()).await.unwrap();
    let told = rig.notification().await;
    let words = rig::report(&told.message.body);
    assert!(words.contains("t@there.test") && words.contains(&format!("newer mail {newer}")), "{words}");
    rig.drain().await;
    let lines = rig.logged("superseded");
    assert_eq!(
        (lines.len(), &lines[0]["id"], &lines[0]["to"]),
        (1, &older.to_string().into(), &"t@there.test".into())
    );
    assert_eq!((&lines[0]["about"][0], &lines[0]["class_by"]), (&newer.to_string().into(), &"login".into()));
    let left: Vec<_> = rig.list().await.into_iter().filter(|entry| entry.leg.id == older).collect();
    assert_eq!(left.len(), 1, "its other recipient, whom no newer mail went to, still waits for it");
}

#[tokio::test]
async fn only_the_same_tenants_mail_of_that_from_class_and_recipient_gives_way() {
    type Change = fn(&mut Facts);
    let rows: [(Change, &str); 6] = [
        (|facts| facts.header_from = Some("other@acme.test".parse().unwrap()), "another From"),
        (|facts| facts.tenant = "blue".into(), "another tenant"),
        (
            |facts| facts.envelope.rcpts[0].address = "T@there.test".parse().unwrap(),
            "another local part, to the letter",
        ),
        (|facts| facts.class = Some(Classed { name: "w9".into(), by: By::Login }), "another class"),
        (
            |facts| {
                facts.class = Some(Classed { name: "password_reset".into(), by: By::Link });
                facts.asked = Asked::default();
            },
            "a guess asks for nothing, so admission does not ask for it",
        ),
        (|facts| facts.received = Time(rig::START), "accepted in the same millisecond: nobody is the newer"),
    ];
    for (change, why) in rows {
        let mut rig = Rig::new(TURNS);
        rig.start();
        let (older, newer) = two(&rig, change).await;
        rig.until(|all| all.iter().all(|entry| entry.leg.id != newer)).await;
        rig.drain().await;
        assert!(rig.logged("superseded").is_empty(), "{why}");
        assert_eq!(rig.list().await.iter().filter(|entry| entry.leg.id == older).count(), 2, "{why}");
    }
}

/// The older one's attempt is under way when the newer is delivered: it has its chance, and ends when it is deferred.
#[tokio::test]
async fn an_attempt_under_way_is_not_broken_off() {
    let mut rig = Rig::new(TURNS);
    rig.script.slow.lock().unwrap().push("slow.test".to_owned());
    rig.start();
    let older = rig.accept_with("acme", &["t@slow.test"], superseding).await;
    assert_eq!(rig.seen().await.id, older);
    rig.script.slow.lock().unwrap().clear();
    rig.hand.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
    let newer = rig.accept_with("acme", &["t@slow.test"], superseding).await;
    assert_eq!(rig.seen().await.id, newer);
    rig.until(|all| all.iter().all(|entry| entry.leg.id != newer)).await;
    assert_eq!(rig.list().await.len(), 1, "it is left alone");
    rig.script.gate.add_permits(1);
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!((rig.logged("delivered").len(), rig.logged("superseded").len()), (2, 0));
}

#[tokio::test]
async fn an_attempt_under_way_that_is_deferred_is_the_last() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Late(451), Plan::All(250)]);
    rig.start();
    let older = rig.accept_with("acme", &["t@there.test"], superseding).await;
    assert_eq!(rig.seen().await.id, older);
    rig.hand.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
    let newer = rig.accept_with("acme", &["t@there.test"], superseding).await;
    rig.until(|all| all.iter().all(|entry| entry.leg.id != newer)).await;
    rig.script.gate.add_permits(1);
    let told = rig.notification().await;
    assert!(rig::report(&told.message.body).contains(&format!("newer mail {newer}")));
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    let attempts = rig.logged("attempt").iter().filter(|line| line["id"] == older.to_string()).count();
    assert_eq!((attempts, rig.logged("superseded").len()), (1, 1), "it is not tried again");
}

/// As a crash leaves it: the newer one's delivery is durable, and nobody has come to the older one.
#[tokio::test]
async fn a_crash_before_the_older_one_ends_lets_it_go_out_too_and_loses_neither() {
    let mut rig = Rig::new(TURNS);
    let older = rig.accept_with("acme", &["d@there.test"], superseding).await;
    rig.hand.fetch_add(1_000, std::sync::atomic::Ordering::Relaxed);
    let newer = rig.accept_with("acme", &["d@there.test"], superseding).await;
    let leg = rig.list().await.iter().find(|entry| entry.leg.id == newer).unwrap().leg.leg;
    let last = Last {
        at: rig.now(),
        code: 250,
        enhanced: None,
        text: "taken".into(),
        host: None,
        reason: Reason::Busy,
        lost: None,
    };
    let fates = vec![(0, Fate::Delivered, last)];
    let settled = Settlement { id: newer, leg, fates, owe: false, then: Then::Continue };
    rig.store.settle(vec![settled]).await.unwrap();
    rig.start();
    assert_eq!(rig.seen().await.id, older, "the newer one has been delivered, and is not sent again");
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    let delivered = rig.logged("delivered");
    assert_eq!((delivered.len(), &delivered[0]["id"]), (1, &older.to_string().into()), "twice does no harm");
    assert!(rig.logged("superseded").is_empty());
}

#[tokio::test]
async fn an_extra_recipient_is_dropped_and_told_of() {
    let mut rig = Rig::new(TURNS);
    rig.start();
    let id = rig
        .accept_with("acme", &["d@there.test", "staff@acme-mail.test"], |facts| {
            facts.class = Some(Classed { name: "password_reset".into(), by: By::Header });
            facts.asked = Asked { extra: vec![1], ..Asked::default() };
        })
        .await;
    let told = rig.notification().await;
    let words = rig::report(&told.message.body);
    assert!(words.contains("staff@acme-mail.test") && words.contains("neither To nor Cc"), "{words}");
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    let dropped = rig.logged("dropped");
    assert_eq!(
        (dropped.len(), &dropped[0]["to"], &dropped[0]["class_by"]),
        (1, &"staff@acme-mail.test".into(), &"header".into())
    );
    let delivered: Vec<_> =
        rig.logged("delivered").into_iter().filter(|line| line["id"] == id.to_string()).collect();
    assert_eq!((delivered.len(), &delivered[0]["to"]), (1, &"d@there.test".into()));
}
