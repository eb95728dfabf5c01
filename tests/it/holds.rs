//! Held mail and the scheduler: what a hold does to time, and how it ends.

use std::sync::Arc;

use waxseal::mail::id::Id;
use waxseal::mail::message::Message;
use waxseal::mail::time::Time;
use waxseal::queue::store::{
    Accept, Action, Cause, Destination, Entry, Filter, Hold, State, StateName, Turns,
};

use crate::rig::{DAY, MINUTE, Plan, Rig, facts, report};

const TURNS: Turns = Turns { per_destination: 5, total: 20 };

/// Puts a mail into the queue that is held from the start, for its own message's life or less.
async fn held(rig: &Rig, until: Option<Time>) -> Id {
    let mut facts = facts("acme", &["held@example.test"], rig.now());
    facts.header_from = Some("noreply@acme.test".parse().unwrap());
    let id = facts.id;
    let body = "From: noreply@acme.test\r\nSubject: held\r\n\r\nbody\r\n".into();
    let hold = Hold { reason: "no key is published".into(), cause: Cause::Seal, until };
    let legs = vec![(Destination("example.test".into()), vec![0])];
    let message = Arc::new(Message { facts, body });
    rig.store.accept(Accept { message, legs, held: Some(hold), tells: Vec::new() }).await.unwrap();
    id
}

fn find(list: &[Entry], id: Id) -> Option<&Entry> {
    list.iter().find(|entry| entry.leg.id == id)
}

/// A held leg's end was once taken for a due time that a wrong clock had written: the scheduler's time leapt ahead by days.
#[tokio::test]
async fn the_end_of_a_hold_days_ahead_moves_no_attempt() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    let parked = held(&rig, None).await;
    let late = rig.accept("acme", &["late@example.test"]).await;
    rig.start();
    assert_eq!(rig.seen().await.id, late);
    rig.until(|all| find(all, late).is_some_and(|entry| entry.state == StateName::Deferred)).await;
    rig.pass(MINUTE);
    let fresh = rig.accept("acme", &["fresh@example.test"]).await;
    assert_eq!(rig.seen().await.id, fresh, "and not the one that waits for its retry");
    rig.until(|all| find(all, fresh).is_none()).await;
    rig.drain().await;
    let list = rig.list().await;
    assert_eq!(find(&list, late).unwrap().leg.attempts, 1);
    assert_eq!(find(&list, parked).unwrap().state, StateName::Held);
}

/// FA11: mail dated three days ahead by a wrong clock waits a day at most, whatever is held beside it.
#[tokio::test]
async fn a_clock_that_was_ahead_delays_by_a_day_at_most() {
    let mut rig = Rig::new(TURNS);
    let now = rig.now();
    let parked = held(&rig, None).await;
    let ahead = rig.accept_with("acme", &["a@example.test"], |facts| {
        facts.received = Time(now.0 + 3 * DAY);
        facts.expires = Time(now.0 + 8 * DAY);
    });
    let ahead = ahead.await;
    // What is due now goes first: once it has ended, the queue was looked at, and the date ahead was seen.
    let due = rig.accept("acme", &["b@example.test"]).await;
    rig.start();
    assert_eq!(rig.seen().await.id, due);
    rig.until(|all| all.len() == 2).await;
    rig.pass(DAY + MINUTE);
    assert_eq!(rig.seen().await.id, ahead);
    rig.until(|all| all.len() == 1).await;
    assert_eq!(find(&rig.list().await, parked).unwrap().state, StateName::Held);
}

#[tokio::test]
async fn a_hold_with_an_end_ends_then_and_is_told_of() {
    let mut rig = Rig::new(TURNS);
    let until = Time(rig.now().0 + DAY);
    let id = held(&rig, Some(until)).await;
    rig.start();
    rig.until(|all| find(all, id).is_some_and(|entry| entry.state == StateName::Held)).await;
    rig.pass(DAY);
    let told = rig.notification().await;
    let report = report(&told.message.body);
    assert!(report.contains("it was held until its hold ended: no key is published"), "{report}");
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.logged("expired").len(), 1);
}

/// Spoils the body of a message in the journal.
fn spoil(rig: &Rig, id: Id) {
    let text = format!("secret {id}");
    for entry in std::fs::read_dir(rig.spool()).unwrap() {
        let path = entry.unwrap().path();
        let mut octets = std::fs::read(&path).unwrap();
        let found = octets.windows(text.len()).position(|window| window == text.as_bytes());
        if let Some(at) = found {
            octets[at] ^= 1;
            std::fs::write(&path, &octets).unwrap();
            return;
        }
    }
    panic!("{text} is nowhere");
}

/// Bug: at its end it was claimed, could not be read and was held again, for ever and without a pause; nobody was told.
#[tokio::test]
async fn a_message_whose_octets_are_damaged_is_held_and_its_end_is_told_of() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    rig.start();
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.until(|all| find(all, id).is_some_and(|entry| entry.state == StateName::Deferred)).await;
    rig.seen().await;
    rig.drain().await;
    spoil(&rig, id);
    rig.restart_drained().await;
    rig.pass(4 * 60 * MINUTE);
    rig.until(|all| find(all, id).is_some_and(|entry| entry.state == StateName::Held)).await;
    rig.pass(6 * DAY);
    let told = rig.notification().await;
    let report = report(&told.message.body);
    assert!(report.contains("until its life ended: the spool's copy is damaged"), "{report}");
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.logged("expired").len(), 1);
}

#[tokio::test]
async fn what_is_released_lives_on_to_the_end_of_its_message() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451)]);
    let until = Time(rig.now().0 + 2 * MINUTE);
    let id = held(&rig, Some(until)).await;
    rig.start();
    rig.until(|all| find(all, id).is_some_and(|entry| entry.state == StateName::Held)).await;
    let seal =
        Filter { cause: Some(Cause::Seal), from_domain: Some("ACME.test".to_owned()), ..Filter::default() };
    let none = Filter { from_domain: Some("test".to_owned()), ..seal.clone() };
    assert_eq!(rig.store.act(none, Action::Release, rig.now()).await.unwrap().len(), 0, "not below a name");
    assert_eq!(rig.store.act(seal, Action::Release, rig.now()).await.unwrap().len(), 1);
    rig.scheduler().nudge();
    assert_eq!(rig.seen().await.id, id);
    rig.until(|all| find(all, id).is_some_and(|entry| entry.state == StateName::Deferred)).await;
    rig.pass(4 * MINUTE);
    rig.drain().await;
    let list = rig.list().await;
    let entry = find(&list, id).unwrap();
    assert!(matches!(entry.leg.state, State::Due(at) if at > until), "{:?}", entry.leg.state);
    assert!(rig.logged("expired").is_empty());
}
