//! The scheduler: what is attempted when, what becomes of it, and what a stop leaves behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use waxseal::queue::store::{State, StateName, Turns};
use waxseal::tenant::{Directory, Route, Tenant, Upstream, UpstreamTls};

use crate::rig::{DAY, HOUR, MINUTE, Plan, Rig, START, patiently, report, tenant};

const TURNS: Turns = Turns { per_destination: 20, total: 50 };

fn due(state: &State) -> u64 {
    let State::Due(at) = state else { panic!("held: {state:?}") };
    at.0
}

#[tokio::test]
async fn a_mix_of_answers_leaves_only_what_was_deferred() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Named]);
    let id = rig.accept("acme", &["d1@example.test", "f1@example.test", "t1@example.test"]).await;
    rig.start();
    assert_eq!(rig.seen().await.rcpts, 3);
    rig.notification().await;
    rig.drain().await;
    let left: Vec<_> = rig.list().await.into_iter().filter(|entry| entry.leg.id == id).collect();
    assert_eq!(left.len(), 1);
    let leg = &left[0].leg;
    assert_eq!((leg.rcpts.as_slice(), leg.attempts), ([2_u16].as_slice(), 1));
    let wait = due(&leg.state) - START;
    assert!((wait / 1000).abs_diff(300) <= 30, "the first wait of the schedule, within its jitter: {wait}");
    assert_eq!(leg.last.as_ref().unwrap().text, "4.7.1 try later");
    for (kind, count) in [("attempt", 2), ("delivered", 2), ("deferred", 1), ("bounced", 1), ("dsn", 1)] {
        assert_eq!(rig.logged(kind).len(), count, "{kind}: the message's and the notification's");
    }
    assert_eq!(rig.store.stats().await.unwrap().owed, 0, "told in the same record");
}

#[tokio::test]
async fn a_restart_keeps_due_times_and_the_count_of_attempts() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(451), Plan::All(250)]);
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    rig.seen().await;
    rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    let before = due(&rig.list().await[0].leg.state);
    rig.restart().await;
    assert_eq!(due(&rig.list().await[0].leg.state), before);
    // Other mail passes, which shows that the scheduler runs, and leaves the waiting leg alone.
    let other = rig.accept("blue", &["b@other.test"]).await;
    assert_eq!(rig.seen().await.id, other);
    rig.until(|all| all.iter().all(|entry| entry.state == StateName::Deferred)).await;
    rig.pass(6 * MINUTE);
    let both = [rig.seen().await.id, rig.seen().await.id];
    assert!(both.contains(&id) && both.contains(&other));
    rig.until(<[_]>::is_empty).await;
}

/// QU7, RM12: an outage longer than a message's life costs it its remaining tries, but not all of them.
#[tokio::test]
async fn mail_older_than_its_life_is_tried_once_and_then_told_of() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.hand.fetch_add(10 * DAY, Ordering::Relaxed);
    rig.start();
    assert_eq!(rig.seen().await.id, id, "tried");
    let told = rig.notification().await;
    let report = report(&told.message.body);
    assert!(report.contains("Status: 4.4.7\n"), "{report}");
    assert!(
        report.contains("given up after 10 days; last: mx.example.test: 451 4.7.1 try later"),
        "{report}"
    );
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.logged("expired").len(), 1);
    assert!(rig.logged("deferred").is_empty());
}

#[tokio::test]
async fn a_schedule_runs_to_the_end_of_the_message_and_no_further() {
    let mut rig = Rig::new(TURNS);
    rig.configure(|config| config.delivery.delay_notice = Duration::ZERO);
    rig.script.plan([Plan::All(451)]);
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    let mut tries = 0;
    loop {
        let seen = rig.seen().await;
        if seen.id != id {
            break;
        }
        tries += 1;
        let count = tries;
        rig.until(|all| all.iter().all(|entry| entry.leg.id != id || entry.leg.attempts >= count)).await;
        let list = rig.list().await;
        if let Some(entry) = list.iter().find(|entry| entry.leg.id == id) {
            let at = due(&entry.leg.state);
            assert!(at <= START + 5 * DAY, "the last attempt falls on the end of its life");
            rig.pass(at - rig.now().0);
        }
    }
    assert!((30..45).contains(&tries), "5, 15, 30 min, 1, 2 h and then every 4 h for 5 days: {tries}");
    assert_eq!(rig.logged("expired").len(), 1);
}

/// FA13.
#[tokio::test]
async fn a_drain_settles_what_ends_and_unclaims_the_rest() {
    let mut rig = Rig::new(TURNS);
    rig.configure(|config| config.delivery.drain = Duration::from_millis(200));
    rig.script.slow.lock().unwrap().push("stuck.test".to_owned());
    rig.script.plan([Plan::All(250)]);
    let stuck = rig.accept("acme", &["a@stuck.test"]).await;
    rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    let _ = [rig.seen().await, rig.seen().await];
    rig.drain().await;
    let left = rig.list().await;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].leg.id, left[0].leg.attempts, left[0].state), (stuck, 0, StateName::Due));
    assert_eq!(due(&left[0].leg.state), START, "due as before");
    // The next process takes it up.
    rig.script.slow.lock().unwrap().clear();
    rig.restart_drained().await;
    assert_eq!(rig.seen().await.id, stuck);
    rig.until(<[_]>::is_empty).await;
}

#[tokio::test]
async fn an_attempt_that_ends_within_the_drain_is_settled() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Gate]);
    rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    rig.seen().await;
    rig.script.gate.add_permits(1);
    rig.drain().await;
    assert!(rig.list().await.is_empty());
}

/// FA16: what breaks an attempt breaks nothing else, and does not come back at once.
#[tokio::test]
async fn a_panic_hurts_only_its_own_attempt() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::Panic, Plan::All(250)]);
    let broken = rig.accept("acme", &["a@example.test", "b@example.test"]).await;
    rig.start();
    rig.seen().await;
    let sound = rig.accept("acme", &["c@other.test"]).await;
    assert_eq!(rig.seen().await.id, sound);
    rig.until(|all| all.len() == 1 && all[0].state == StateName::Deferred).await;
    let list = rig.list().await;
    let leg = &list[0].leg;
    assert_eq!((leg.id, leg.rcpts.as_slice(), leg.attempts), (broken, [1_u16].as_slice(), 1));
    rig.pass(6 * MINUTE);
    assert_eq!(rig.seen().await.rcpts, 1, "only the recipient that was undecided");
    rig.until(<[_]>::is_empty).await;
}

fn upstream(name: &str) -> Tenant {
    let upstream = Upstream {
        host: "smtp.provider.test".to_owned(),
        port: 587,
        tls: UpstreamTls::Starttls,
        credentials: None,
        oauth: None,
        cleartext_auth: false,
        ca_file: None,
    };
    Tenant { route: Arc::new(Route::Upstream(upstream)), ..tenant(name, &[]) }
}

#[tokio::test]
async fn the_route_is_the_one_of_the_moment() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    assert!(!rig.seen().await.from_upstream);
    rig.until(|all| all[0].state == StateName::Deferred).await;
    rig.tenants.store(Arc::new(Directory::new([upstream("acme")])));
    rig.pass(6 * MINUTE);
    assert!(rig.seen().await.from_upstream);
}

/// FA14: a tenant removed with mail in the queue.
#[tokio::test]
async fn a_tenant_that_is_gone_parks_its_mail() {
    let mut rig = Rig::new(TURNS);
    let id = rig.accept("acme", &["a@example.test"]).await;
    rig.tenants.store(Arc::new(Directory::new([tenant("blue", &[])])));
    rig.start();
    rig.until(|all| all[0].state == StateName::Held).await;
    let list = rig.list().await;
    let State::Held { reason, .. } = &list[0].leg.state else { panic!("not held") };
    assert_eq!(&**reason, "tenant acme is gone; add it again and release, or drop");
    assert_eq!((list[0].leg.id, list[0].leg.attempts), (id, 0));
    assert_eq!(rig.logged("held").len(), 1);
}

#[tokio::test]
async fn a_failed_store_is_said_to_the_daemon() {
    let mut rig = Rig::new(TURNS);
    rig.fail_store();
    rig.start();
    let error = patiently(rig.scheduler().failed()).await;
    assert_eq!(error.to_string(), "the spool failed: the disk is gone");
    assert!(patiently(rig.scheduler().drain()).await.is_err());
}

/// RM9: the schedule, with its jitter, sets the pace of a greylisting server.
#[tokio::test]
async fn greylisted_mail_comes_back_when_the_schedule_says() {
    let mut rig = Rig::new(TURNS);
    rig.script.plan([Plan::All(451), Plan::All(250)]);
    rig.accept("acme", &["a@example.test"]).await;
    rig.start();
    rig.seen().await;
    rig.until(|all| all[0].state == StateName::Deferred).await;
    let at = due(&rig.list().await[0].leg.state);
    assert!((START + 270_000..=START + 330_000).contains(&at));
    rig.pass(at - START);
    rig.seen().await;
    rig.until(<[_]>::is_empty).await;
    assert_eq!(rig.logged("delivered")[0]["attempt"], 2);
    assert!(rig.now().0 < START + HOUR);
}
