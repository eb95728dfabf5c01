//! DELIVERBY (RFC 2852): a sender's time is kept over restarts and in holds, ends what it is to end and nothing else, is told of as
//! NOTIFY allows, and goes along to servers that keep it.

use std::sync::Arc;

use waxseal::clock::Clock;
use waxseal::deliver::Job;
use waxseal::mail::attempt::Fate::{Deferred, Delivered, Failed};
use waxseal::mail::deliver_by::{By, Mode};
use waxseal::mail::envelope::Notify;
use waxseal::mail::message::Facts;
use waxseal::mail::priority::Priority;
use waxseal::mail::time::Time;
use waxseal::queue::store::{Action, Entry, Filter, StateName, Turns};
use waxseal::tenant::Route;

use crate::deliver::{BODY, fates, job, message, words, world};
use crate::exchanger::{Script, script};
use crate::intake::Intake;
use crate::rig::{HOUR, MINUTE, Plan, Rig, report};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };
const SECOND: u64 = 1_000;

/// What admission makes of `BY=`.
fn by(facts: &mut Facts, text: &str) {
    let by = text.parse::<By>().unwrap().from(facts.received);
    facts.deliver_by = Some(by);
    if by.mode == Mode::Return {
        facts.expires = facts.expires.min(by.at);
    }
}

fn deferred(all: &[Entry]) -> bool {
    !all.is_empty() && all.iter().all(|entry| entry.state == StateName::Deferred)
}

#[tokio::test]
async fn what_is_asked_for_is_kept_with_the_message() {
    let intake = Intake::new();
    for (text, returned, why) in [
        ("600;R", true, "the queue is done with it then"),
        ("600;NT", false, "it lives as long as any other"),
        ("999999999;R", false, "the queue gives up long before"),
    ] {
        let mut submission = intake.submission(b"From: a@t.example\r\nTo: r@rcpt.example\r\n\r\nbody\r\n");
        // MAIL came two minutes ago: RFC 2852 section 4 counts from there.
        let mail = Time(Clock::System.now().0 - 120 * SECOND);
        submission.deliver_by = text.parse::<By>().ok().map(|by| by.from(mail));
        let facts = intake.take(submission).await.message.facts.clone();
        let until = facts.deliver_by.unwrap();
        assert_eq!(until.left(mail).to_string(), text, "{why}");
        assert_eq!((facts.is_returned(), facts.expires == until.at), (returned, returned), "{why}");
        assert_eq!(facts.priority, Priority::default(), "RFC 2852: it is no priority");
    }
    let logged = intake.logged();
    assert!(logged.contains(r#""by_mode":"NT""#) && logged.contains(r#""deliver_by":"2"#), "{logged}");
}

#[tokio::test]
async fn with_mode_r_what_is_not_delivered_in_time_fails_then_over_a_restart() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    let asked = |facts: &mut Facts| by(facts, "120;R");
    let id = rig.accept_with("acme", &["t@there.test", "d@there.test"], asked).await;
    let other = rig.accept("acme", &["t@there.test"]).await;
    rig.start();
    rig.until(deferred).await;
    rig.restart().await;
    rig.pass(119 * SECOND);
    let early = rig.list().await;
    assert!(early.iter().any(|entry| entry.leg.id == id), "a second is left");
    rig.pass(SECOND);
    let told = rig.notification().await;
    let words = report(&told.message.body);
    assert!(words.contains("Status: 5.4.7\n") && words.contains("Action: failed"), "{words}");
    assert!(words.contains("Deliver-By-Date: Thu, 1 Jan 2026 00:02:00"), "{words}");
    assert!(
        words.contains("t@there.test") && !words.contains("d@there.test"),
        "only whom it was not delivered: {words}"
    );
    rig.until(|all| all.iter().all(|entry| entry.leg.id == other)).await;
    rig.drain().await;
    let expired = rig.logged("expired");
    assert_eq!(
        (expired.len(), &expired[0]["life"], &expired[0]["by_mode"]),
        (1, &"deliver_by".into(), &"R".into())
    );
    let attempts = rig.logged("attempt").iter().filter(|line| line["id"] == id.to_string()).count();
    assert_eq!(attempts, 1, "none is made when the time is over");
}

#[tokio::test]
async fn with_mode_r_held_mail_ends_in_time_too() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    rig.accept_with("acme", &["t@there.test"], |facts| by(facts, "600;R")).await;
    rig.until(deferred).await;
    let hold = Action::Hold { reason: "by phone".to_owned() };
    rig.store.act(Filter::default(), hold, rig.now()).await.unwrap();
    rig.pass(10 * MINUTE);
    let words = report(&rig.notification().await.message.body);
    assert!(
        words.contains("Status: 5.4.7\n") && words.contains("held until its sender's time (BY) ended"),
        "{words}"
    );
    rig.until(<[_]>::is_empty).await;
}

/// Failures are told as ever: NOTIFY=NEVER outdoes it, and the log says so.
#[tokio::test]
async fn with_mode_r_never_is_never() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    rig.accept_with("acme", &["t@there.test"], |facts| {
        by(facts, "600;R");
        facts.envelope.rcpts[0].notify =
            Notify { success: false, failure: false, delay: false, stated: true };
    })
    .await;
    rig.until(deferred).await;
    rig.pass(10 * MINUTE);
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!((rig.logged("expired").len(), rig.logged("dsn").len()), (1, 1));
    assert_eq!(rig.logged("dsn")[0]["reason"], "its sender asked not to be told");
}

#[tokio::test]
async fn with_mode_n_a_delay_is_told_once_and_it_is_tried_further() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451)]);
    let id = rig.accept_with("acme", &["t@there.test"], |facts| by(facts, "420;N")).await;
    rig.start();
    assert_eq!(rig.seen().await.id, id);
    rig.until(deferred).await;
    rig.restart().await;
    // The schedule's five minutes, and then the sender's seven: an attempt falls on them.
    rig.pass(6 * MINUTE);
    assert_eq!(rig.seen().await.id, id);
    rig.until(|all| all.iter().any(|entry| entry.leg.attempts == 2)).await;
    assert!(rig.logged("dsn").is_empty(), "its time is not over");
    rig.pass(MINUTE);
    assert_eq!(rig.seen().await.id, id);
    let words = report(&rig.notification().await.message.body);
    assert!(words.contains("Action: delayed") && words.contains("Deliver-By-Date: "), "{words}");
    assert!(words.contains("Status: 4.4.7\n"), "RFC 2852 section 4.1.3, whatever the server said: {words}");
    assert!(words.contains("Will-Retry-Until: Tue, 6 Jan 2026"), "the usual life: {words}");
    // The usual notice after four hours has been given.
    rig.pass(5 * HOUR);
    rig.until(|all| all.iter().any(|entry| entry.leg.id == id && entry.leg.attempts == 4)).await;
    rig.script.plan([Plan::All(250)]);
    rig.pass(5 * HOUR);
    rig.until(|all| all.iter().all(|entry| entry.leg.id != id)).await;
    rig.drain().await;
    let about =
        |kind: &str| rig.logged(kind).iter().filter(|line| line["about"][0] == id.to_string()).count();
    let delivered = rig.logged("delivered").iter().filter(|line| line["id"] == id.to_string()).count();
    assert_eq!(delivered, 1, "late, but delivered");
    assert_eq!(about("dsn"), 1, "the delay: a hand-over is told of while there is time (section 4.1.4.2)");
}

#[tokio::test]
async fn with_mode_n_a_delay_is_told_while_it_is_held_and_the_hold_goes_on() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    rig.start();
    let id = rig.accept_with("acme", &["t@there.test"], |facts| by(facts, "600;N")).await;
    rig.until(deferred).await;
    let hold = Action::Hold { reason: "by phone".to_owned() };
    rig.store.act(Filter::default(), hold, rig.now()).await.unwrap();
    rig.restart().await;
    rig.pass(10 * MINUTE);
    let words = report(&rig.notification().await.message.body);
    assert!(words.contains("Action: delayed") && words.contains("it is held: by phone"), "{words}");
    let told = |all: &[Entry]| {
        all.iter().any(|entry| entry.leg.id == id && entry.state == StateName::Held && entry.leg.delay_told)
    };
    rig.until(told).await;
    rig.pass(HOUR);
    rig.drain().await;
    assert_eq!(rig.logged("dsn").len(), 1, "once");
}

#[tokio::test]
async fn a_time_that_is_over_already_goes_on_with_mode_n() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    rig.accept_with("acme", &["t@there.test"], |facts| by(facts, "-60;N")).await;
    rig.start();
    let words = report(&rig.notification().await.message.body);
    assert!(words.contains("Action: delayed"), "at the first word that it is late: {words}");
    assert_eq!(rig.list().await.iter().filter(|entry| entry.state == StateName::Deferred).count(), 1);
}

/// RFC 2852 section 4.1.4: who hears that a server took it. The courier's servers offer nothing.
#[tokio::test]
async fn a_hand_over_is_told_of_where_the_rfc_says_so() {
    let notify = |success, failure, delay| Notify { success, failure, delay, stated: true };
    for (asked, said, tells, why) in [
        ("600;N", Notify::default(), true, "nobody keeps the time from here on"),
        ("600;N", notify(false, true, false), true, "any word but NEVER"),
        ("600;N", notify(false, false, false), false, "NEVER"),
        ("-60;N", Notify::default(), false, "the time was over before"),
        ("-60;NT", Notify::default(), true, "a trace is asked for, whenever it is"),
        ("600;R", Notify::default(), false, "with mode R the server that took it keeps the time"),
        ("600;RT", Notify::default(), true, "a trace is asked for"),
        ("600;RT", notify(false, false, false), false, "NEVER outdoes it"),
    ] {
        let mut rig = Rig::new(TURNS);
        rig.script.plan([Plan::All(250)]);
        rig.start();
        rig.accept_with("acme", &["d@there.test"], |facts| {
            by(facts, asked);
            facts.envelope.rcpts[0].notify = said;
        })
        .await;
        if tells {
            let words = report(&rig.notification().await.message.body);
            assert!(words.contains("Action: relayed"), "{asked}: {why}: {words}");
        }
        rig.until(<[_]>::is_empty).await;
        rig.drain().await;
        assert_eq!(!rig.logged("dsn").is_empty(), tells, "{asked}: {why}");
    }
}

const ONE: &str = "b.test. 60 IN MX 10 mx2.test.\n";
const TWO: &str = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 20 mx3.test.\n";

fn takes(offers: &str) -> Script {
    script(&format!(
        "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 {offers}\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n\
         -- body\n<- 250 ok\n-- silence"
    ))
}

fn turned(offers: &str) -> Script {
    script(&format!("<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 {offers}\n-> QUIT\n<- 221 bye"))
}

/// A message that asks for this, attempted when it has just been received.
fn asking(text: &str) -> Job {
    let mut mail = message(&["b@b.test"], BODY);
    mail.facts.received = Time(1_000_000);
    by(&mut mail.facts, text);
    Job { started: mail.facts.received, ..job(mail, &Arc::new(Route::Mx)) }
}

#[tokio::test]
async fn what_is_left_goes_along_where_the_next_hop_keeps_it() {
    for (asked, offers, mode, keeps, why) in [
        ("600;R", "DELIVERBY", Some(";R"), true, "offered"),
        ("600;RT", "DELIVERBY 240", Some(";RT"), true, "enough for its minimum"),
        ("-20;N", "DELIVERBY 240", Some(";N"), true, "the minimum is for mode R"),
        ("600;N", "HELP", None, false, "not offered"),
    ] {
        let world = world(ONE, vec![vec![takes(offers)]]).await;
        let decided = world.attempt(&asking(asked)).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(decided[0].hop.deliver_by, keeps, "{why}");
        let lines = world.exchangers[0].lines();
        let mail = lines.iter().find(|line| line.starts_with("MAIL")).unwrap();
        let said = mail.split_once(" BY=").map(|(_, said)| said.parse::<By>().unwrap());
        assert_eq!(said.is_some(), mode.is_some(), "{why}: {mail}");
        let Some((said, mode)) = said.zip(mode) else { continue };
        let asked: By = asked.parse().unwrap();
        let passed = asked.seconds - said.seconds;
        assert!(mail.ends_with(mode) && (0..20).contains(&passed), "{why}: what is left of {asked}: {mail}");
    }
}

/// RFC 2852 section 4.1.4.2: a server that keeps no time may still tell of a delay.
#[tokio::test]
async fn with_mode_n_a_server_that_keeps_no_time_is_asked_for_word_of_a_delay() {
    let notify = |success| Notify { success, failure: false, delay: false, stated: true };
    for (asked, offers, said, rcpt, why) in [
        ("600;N", "DSN", Notify::default(), "RCPT TO:<b@b.test> NOTIFY=FAILURE,DELAY", "nothing was said"),
        ("600;N", "DSN", notify(true), "RCPT TO:<b@b.test> NOTIFY=SUCCESS,DELAY", "beside what was said"),
        ("600;N", "DSN", notify(false), "RCPT TO:<b@b.test> NOTIFY=NEVER", "NEVER stays"),
        ("-20;N", "DSN", Notify::default(), "RCPT TO:<b@b.test>", "the delay has been told of"),
        ("600;N", "HELP", Notify::default(), "RCPT TO:<b@b.test>", "it tells nothing"),
    ] {
        let world = world(ONE, vec![vec![takes(offers)]]).await;
        let mut mail = message(&["b@b.test"], BODY);
        mail.facts.received = Time(1_000_000);
        by(&mut mail.facts, asked);
        mail.facts.envelope.rcpts[0].notify = said;
        let job = Job { started: mail.facts.received, ..job(mail, &Arc::new(Route::Mx)) };
        let decided = world.attempt(&job).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        let lines = world.exchangers[0].lines();
        assert!(lines.iter().any(|line| line == rcpt), "{why}: {lines:?}");
    }
}

#[tokio::test]
async fn with_mode_r_nothing_is_handed_to_a_server_that_promises_nothing() {
    for (offers, said, why) in [
        ("HELP", "5.4.7 the server does not offer DELIVERBY", "not offered"),
        (
            "DELIVERBY 3600",
            "5.4.7 the server delivers within 3600 seconds, and 600 are left",
            "it wants more time",
        ),
    ] {
        let world = world(ONE, vec![vec![turned(offers)]]).await;
        let decided = world.attempt(&asking("600;R")).await;
        assert_eq!(fates(&decided), [(Failed, 0)], "{why}");
        assert!(words(&decided).starts_with(said), "{why}: {}", words(&decided));
    }
    let world = world(ONE, vec![vec![turned("HELP")]]).await;
    let mut mail = message(&["b@b.test"], BODY);
    (mail.facts.received, mail.facts.expires) = (Time(1_000_000), Time(1_000_000 + 5 * 24 * HOUR));
    by(&mut mail.facts, "999999999;R");
    assert!(!mail.facts.is_returned(), "the queue gives up first");
    let job = Job { started: mail.facts.received, ..job(mail, &Arc::new(Route::Mx)) };
    assert_eq!(fates(&world.attempt(&job).await), [(Failed, 0)], "at once all the same");
}

#[tokio::test]
async fn another_exchanger_may_keep_it_or_come_up_later() {
    let keeps = takes("DELIVERBY");
    let world_of_two = world(TWO, vec![vec![turned("HELP")], vec![keeps]]).await;
    let decided = world_of_two.attempt(&asking("600;R")).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "the second one offers it: {}", words(&decided));
    let half_dead = world(TWO, vec![vec![turned("HELP")], vec![]]).await;
    let decided = half_dead.attempt(&asking("600;R")).await;
    assert_eq!(
        fates(&decided),
        [(Deferred, 0)],
        "nobody knows what the second one offers: {}",
        words(&decided)
    );
}

#[tokio::test]
async fn with_mode_r_nothing_is_begun_when_the_time_is_over() {
    let world =
        world(ONE, vec![vec![script("<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 DELIVERBY\n-- silence")]]).await;
    let late = asking("600;R");
    let late = Job { started: Time(late.started.0 + 600_000), ..late };
    let decided = world.attempt(&late).await;
    assert_eq!(fates(&decided), [(Failed, 0)]);
    assert!(words(&decided).starts_with("5.4.7 the time that its sender set"), "{}", words(&decided));
}
