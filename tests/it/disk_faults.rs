//! The failed-sync path: whatever write or sync of a small day's work fails, and however, nothing is answered Ok that a
//! restart does not find, the store says that it has failed, and it never tries again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waxseal::clock::Clock;
use waxseal::fsx::{Disk, LocalDisk};
use waxseal::mail::attempt::Fate;
use waxseal::mail::id::Id;
use waxseal::mail::message::Lane;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, OpenError};
use waxseal::queue::store::*;

use crate::disk::{Faulty, How};
use crate::store_model::{last, message, options, ready};

const NOW: Time = Time(1_800_000_000_000);
/// So small that the work ends segments and has them compacted.
const SEGMENT: u64 = 8 << 10;

type Opened = Result<Arc<Embedded>, OpenError>;

fn open(disk: impl Disk, dir: &Path) -> Opened {
    Embedded::open_with(Arc::new(disk), dir, options(&Clock::System), SEGMENT)
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
    let dir = tempfile::tempdir().unwrap();
    let store = open(LocalDisk, dir.path()).unwrap();
    ready(&*store).await;
    let mut after = vec![kept(&store, "undisturbed").await];
    for n in 0..STEPS {
        step(&store, n).await.unwrap();
        after.push(kept(&store, "undisturbed").await);
    }
    after
}

/// Works until something fails. Answers how many steps were answered Ok.
async fn work(store: &Embedded) -> Result<usize, (usize, StoreError)> {
    ready(store).await;
    for n in 0..STEPS {
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
    let dir = tempfile::tempdir().unwrap();
    let disk = Faulty::at(k, how);
    let case = format!("change {k}, {how:?}");
    let mut steps = 0;
    if let Ok(store) = open(disk.clone(), dir.path()) {
        let worked = work(&store).await;
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

/// FA1 to FA3: EIO, a full disk and a short write, at every change of the disk there is.
#[test]
fn no_failed_write_or_sync_is_answered_ok() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let after = runtime.block_on(undisturbed());
    let mut days = 0;
    for how in [How::Error, How::Full, How::Short, How::Forgotten] {
        let reached = (0..).take_while(|k| runtime.block_on(day(*k, how, &after))).count();
        assert!(reached > 40, "{how:?}: only {reached} changes of the disk");
        days += reached;
    }
    println!("{days} failures, none of them answered Ok");
}
