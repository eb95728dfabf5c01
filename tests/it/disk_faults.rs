//! Disks that fail: whatever write or sync of a small day's work fails, and however, nothing is answered Ok that a
//! restart does not find; the store says that it has failed and never tries again, or it had no room and goes on when there is some.
//! Whatever look at the disk fails, what is there is found by the next start. Below the reserve the queue drains.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waxseal::clock::Clock;
use waxseal::fsx::{Disk, LocalDisk};
use waxseal::mail::attempt::Fate;
use waxseal::mail::id::Id;
use waxseal::mail::message::Lane;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, OpenError};
use waxseal::queue::store::*;

use rustix::io::Errno;
use rustix::process::Signal;

use crate::disk::{Faulty, How, unlocked};
use crate::power::work::directory;
use crate::relay::{Layout, Relay, smtp};
use crate::sink::Sink;
use crate::store_model::{copy, last, message, options, ready};

const NOW: Time = Time(1_800_000_000_000);
/// So small that the work ends segments and has them compacted.
const SEGMENT: u64 = 8 << 10;

type Opened = Result<Arc<Embedded>, OpenError>;

fn open(disk: impl Disk, dir: &Path) -> Opened {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    unlocked(|| Embedded::open_with(Arc::clone(&disk), dir, options(&Clock::System), SEGMENT))
}

/// Everything that the store promises to keep.
#[derive(Debug, PartialEq)]
struct Kept {
    legs: Vec<Leg>,
    owed: Vec<Owed>,
    memos: Vec<(String, Vec<u8>)>,
    bodies: BTreeMap<String, Option<u32>>,
}

async fn kept(store: &Embedded, case: &str) -> Kept {
    let legs: Vec<Leg> =
        store.list(Filter::default(), NOW).await.unwrap().into_iter().map(|entry| entry.leg).collect();
    let owed: Vec<Owed> = store.owed(100).await.unwrap().into_iter().map(|(owed, _)| owed).collect();
    let mut bodies = BTreeMap::new();
    for id in legs.iter().map(|leg| leg.id).chain(owed.iter().map(|owed| owed.id)) {
        let body = store.message(id).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        bodies.insert(id.to_string(), body.map(|message| crc32c::crc32c(&message.body)));
    }
    Kept { legs, owed, memos: store.recall(String::new()).await.unwrap(), bodies }
}

fn done<'a, T: Send + 'a>(answer: Answer<'a, T>) -> Answer<'a, ()> {
    Box::pin(async move { answer.await.map(drop) })
}

fn mail(serial: u64, legs: &[(u8, u8)], size: usize) -> Accept {
    message(serial, NOW, "t1", Lane::Normal, legs, size)
}

fn id(serial: u64) -> Id {
    mail(serial, &[(1, 1)], 0).message.facts.id
}

fn only(serial: u64) -> Filter {
    Filter { ids: vec![id(serial)], ..Filter::default() }
}

/// The first leg of this message, its recipients' fates in order.
fn settle(serial: u64, fates: &[Fate]) -> Vec<Settlement> {
    let fates = (0..).zip(fates).map(|(rcpt, fate)| (rcpt, *fate, last("said", NOW))).collect();
    vec![Settlement { id: id(serial), leg: 0, fates, owe: true, then: Then::Continue }]
}

fn memo(value: Option<Vec<u8>>) -> Vec<Memo> {
    vec![Memo { key: "dns/a".to_owned(), value }]
}

/// One step of the work; what it answers is what the house would rely on.
fn step(store: &Embedded, n: usize) -> Answer<'_, ()> {
    match n {
        0 => store.accept(mail(1, &[(1, 2), (2, 1)], 3000)),
        1 => store.remember(memo(Some(vec![1; 4000]))),
        2 => store.accept(mail(2, &[(1, 1)], 1_100_000)),
        3 => done(store.claim(NOW, 10)),
        4 => done(store.settle(settle(1, &[Fate::Delivered, Fate::Failed]))),
        5 => store.accept(mail(3, &[(3, 1)], 5000)),
        6 => done(store.act(only(3), Action::Hold { reason: "asked".into() }, NOW)),
        7 => store.remember(memo(None)),
        8 => store.accept(mail(4, &[(3, 1)], 6000)),
        9 => store.accept(Accept { tells: vec![(id(1), 1)], ..mail(5, &[(4, 1)], 500) }),
        10 => done(store.act(only(4), Action::Drop, NOW)),
        11 => done(store.act(only(3), Action::Release, NOW)),
        12 => done(store.settle(settle(2, &[Fate::Delivered]))),
        _ => store.accept(mail(n as u64, &[(3, 1)], 4000)),
    }
}

const STEPS: usize = 16;

/// What is kept after each step of a day on which nothing fails.
async fn undisturbed() -> Vec<Kept> {
    let dir = directory();
    let store = open(LocalDisk, dir.path()).unwrap();
    ready(&*store).await;
    let mut after = vec![kept(&store, "undisturbed").await];
    for n in 0..STEPS {
        step(&store, n).await.unwrap();
        after.push(kept(&store, "undisturbed").await);
    }
    after
}

/// Works from this step on until something fails. Answers how many steps were answered Ok.
async fn work(store: &Embedded, from: usize) -> Result<usize, (usize, StoreError)> {
    for n in from..STEPS {
        step(store, n).await.map_err(|error| (n, error))?;
    }
    Ok(STEPS)
}

/// After a failure of the journal itself: it is said, and nothing more is taken or written.
async fn has_failed(store: &Embedded, disk: &Faulty, case: &str) {
    let failed = tokio::time::timeout(Duration::from_secs(30), store.failed()).await;
    assert!(matches!(failed, Ok(StoreError::Failed(_))), "{case}: {failed:?}");
    let more = store.accept(message(99, NOW, "t1", Lane::Normal, &[(1, 1)], 100)).await;
    assert!(matches!(more, Err(StoreError::Failed(_))), "{case}: {more:?}");
    assert_eq!(disk.later(), 0, "{case}: the journal was written after it had failed");
}

/// One day with one failure. False: the day was over before it came to that.
async fn day(k: usize, how: How, after: &[Kept]) -> bool {
    let dir = directory();
    let disk = Faulty::at(k, how);
    let case = format!("change {k}, {how:?}");
    let mut steps = 0;
    if let Ok(store) = open(disk.clone(), dir.path()) {
        ready(&*store).await;
        let mut worked = work(&store, 0).await;
        if let Err((n, StoreError::Full(_))) = worked {
            // Nothing has ended: with room again the same store goes on.
            worked = work(&store, n).await;
        }
        steps = *worked.as_ref().unwrap_or_else(|(n, _)| n);
        let case = format!("{case}, {:?}: {worked:?}", disk.failed());
        assert!(disk.failed().is_some() || worked.is_ok(), "{case}");
        if matches!(worked, Err((_, StoreError::Failed(_)))) {
            has_failed(&store, &disk, &case).await;
        }
    }
    let case = format!("{case}, {:?}, after {steps} steps", disk.failed());
    // What failed may have happened all the same: it was not denied, it was not promised.
    let possible = &after[steps..after.len().min(steps + 2)];
    survives(dir.path(), possible, &case).await;
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    survives(dir.path(), possible, &format!("{case}, without its index")).await;
    disk.failed().is_some()
}

/// A restart on a good disk finds one of these.
async fn survives(dir: &Path, possible: &[Kept], case: &str) {
    let store = open(LocalDisk, dir).unwrap();
    ready(&*store).await;
    let found = kept(&store, case).await;
    assert!(possible.contains(&found), "{case}: {found:#?}");
    assert_eq!(store.stats().await.unwrap().quarantined, 0, "{case}");
}

/// What disks say: broken, full, over quota, remounted, taken away, and a process without descriptors.
const SAID: [Errno; 7] =
    [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS, Errno::NOENT, Errno::MFILE];

/// FA1 to FA4: each of these, short writes and forgotten ones, at every change of the disk there is.
#[test]
fn no_failed_write_or_sync_is_answered_ok() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let after = runtime().block_on(undisturbed());
    let short = [Errno::IO, Errno::NOSPC, Errno::DQUOT].map(How::Short);
    let ways: Vec<How> = SAID.map(How::With).into_iter().chain(short).chain([How::Forgotten]).collect();
    let (next, days) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let runtime = runtime();
        while let Some(how) = ways.get(next.fetch_add(1, Ordering::Relaxed)) {
            let reached = (0..).take_while(|k| runtime.block_on(day(*k, *how, &after))).count();
            assert!(reached > 40, "{how:?}: only {reached} changes of the disk");
            days.fetch_add(reached, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().unwrap().get()).for_each(|_| drop(scope.spawn(work)));
    });
    println!("{} failures, none of them answered Ok", days.into_inner());
}

/// Whether the index came up, and what was kept if it did; a body may be called damaged by a disk that cannot read it.
async fn seen(store: &Embedded) -> Result<BTreeMap<Id, Result<Option<u32>, StoreError>>, StoreError> {
    while store.stats().await?.rebuilding {
        tokio::select! {
            () = store.nudged() => {}
            error = store.failed() => return Err(error),
        }
    }
    let mut bodies = BTreeMap::new();
    for entry in store.list(Filter::default(), NOW).await? {
        let read = store.message(entry.leg.id).await;
        bodies.insert(entry.leg.id, read.map(|it| it.map(|message| crc32c::crc32c(&message.body))));
    }
    store.recall(String::new()).await?;
    Ok(bodies)
}

/// One start of this spool with one look that fails. False: it was over before it came to that.
async fn blind(k: usize, error: Errno, spool: &Path, whole: &Kept) -> bool {
    let dir = directory();
    assert!(copy(spool, dir.path()));
    let disk = Faulty::blind_at(k, error);
    let case = format!("look {k}, {error:?}");
    if let Ok(store) = open(disk.clone(), dir.path()) {
        let bodies = seen(&store).await.unwrap_or_default();
        for (id, body) in bodies {
            let right = match &body {
                Ok(crc) => Some(crc) == whole.bodies.get(&id.to_string()),
                Err(_) => error == Errno::IO,
            };
            assert!(right, "{case}, {:?}: {id}: {body:?}", disk.failed());
        }
    }
    let case = format!("{case}, {:?}", disk.failed());
    survives(dir.path(), std::slice::from_ref(whole), &case).await;
    disk.failed().is_some()
}

/// FA3, FA9: what cannot be looked at now is there when it can be. Without a descriptor no message passes for damaged.
#[test]
fn no_failed_look_loses_or_spoils_anything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = directory();
    let whole = runtime.block_on(async {
        let store = open(LocalDisk, dir.path()).unwrap();
        ready(&*store).await;
        // The large body stays.
        for n in (0..STEPS).filter(|n| *n != 12) {
            step(&store, n).await.unwrap();
        }
        let whole = kept(&store, "whole").await;
        store.close().await.unwrap();
        whole
    });
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    for (error, least) in [(Errno::IO, 30), (Errno::MFILE, 5)] {
        let looks = (0..).take_while(|k| runtime.block_on(blind(*k, error, dir.path(), &whole))).count();
        assert!(looks > least, "{error:?}: only {looks} looks at the disk");
    }
}

/// FA1: below the reserve a client hears it at MAIL, and what is queued goes out.
#[test]
fn below_the_reserve_mail_is_put_off_and_the_queue_drains() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    // Discard's port: nobody listens there, and nobody is given it.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let delivery = "retry = [\"1s\"]\n".to_owned();
    let relay =
        Relay::lay_out(dir.path(), &Layout { delivery: delivery.clone(), ..Layout::upstream(nobody) });
    let daemon = relay.start();
    let message = b"From: a@bench.test\r\nSubject: queued\r\n\r\nbody\r\n";
    let mut session = smtp::Session::open(relay.address()).unwrap();
    assert!(session.send("a@bench.test", &["b@dest.test"], message).unwrap().starts_with("250 "));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));

    let tables = "[queue]\ndisk_reserve = \"1000000GiB\"\n".to_owned();
    let relay = Relay::lay_out(dir.path(), &Layout { tables, delivery, ..Layout::upstream(sink.address) });
    let _daemon = relay.start();
    let mut session = smtp::Session::open(relay.address()).unwrap();
    let said = session.say("MAIL FROM:<a@bench.test>").unwrap();
    assert!(said.starts_with("452 4.3.1 "), "{said}");
    assert_eq!(sink.next(), "queued");
}
