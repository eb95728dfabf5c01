//! The failed-sync path: whatever write or sync of a small day's work fails, and however, nothing is answered Ok that a
//! restart does not find, the store says that it has failed, and it never tries again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use waxseal::clock::Clock;
use waxseal::fsx::{Disk, LocalDisk};
use waxseal::mail::attempt::Fate;
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

/// One step of the work; what it answers is what the house would rely on.
async fn step(store: &Embedded, n: usize) -> Result<(), StoreError> {
    let mail = |serial, legs: &[(u8, u8)], size| message(serial, NOW, "t1", Lane::Normal, legs, size);
    let ids = |serial: u64| vec![mail(serial, &[(1, 1)], 0).message.facts.id];
    let only = |serial| Filter { ids: ids(serial), ..Filter::default() };
    let memo = |key: &str, value: Option<Vec<u8>>| vec![Memo { key: key.to_owned(), value }];
    match n {
        0 => store.accept(mail(1, &[(1, 2), (2, 1)], 3000)).await,
        1 => store.remember(memo("dns/a", Some(vec![1; 4000]))).await,
        2 => store.accept(mail(2, &[(1, 1)], 1_100_000)).await,
        3 => {
            let claimed = store.claim(NOW, 10).await?;
            assert_eq!(claimed.legs.len(), 3);
            Ok(())
        }
        4 => {
            let fates = vec![(0, Fate::Delivered, last("taken", NOW)), (1, Fate::Failed, last("no", NOW))];
            let id = ids(1)[0];
            store
                .settle(vec![Settlement { id, leg: 0, fates, owe: true, then: Then::Continue }])
                .await
                .map(drop)
        }
        5 => store.accept(mail(3, &[(3, 1)], 5000)).await,
        6 => store.act(only(3), Action::Hold { reason: "asked".into() }, NOW).await.map(drop),
        7 => store.remember(memo("dns/a", None)).await,
        8 => store.accept(mail(4, &[(3, 1)], 6000)).await,
        9 => {
            let tells = vec![(ids(1)[0], 1)];
            store.accept(Accept { tells, ..mail(5, &[(4, 1)], 500) }).await
        }
        10 => store.act(only(4), Action::Drop, NOW).await.map(drop),
        11 => store.act(only(3), Action::Release, NOW).await.map(drop),
        12 => {
            let fates = vec![(0, Fate::Delivered, last("taken", NOW))];
            let id = ids(2)[0];
            store
                .settle(vec![Settlement { id, leg: 0, fates, owe: true, then: Then::Continue }])
                .await
                .map(drop)
        }
        _ => store.accept(mail(n as u64, &[(3, 1)], 4000)).await,
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
    let mut done = 0;
    if let Ok(store) = open(disk.clone(), dir.path()) {
        let worked = work(&store).await;
        done = *worked.as_ref().unwrap_or_else(|(n, _)| n);
        let hit = disk.failed();
        let case = format!("{case}, {hit:?}: {worked:?}");
        assert!(hit.is_some() || worked.is_ok(), "{case}");
        if let Err((_, StoreError::Failed(_))) = worked {
            has_failed(&store, &disk, &case).await;
        }
    }
    for index in [true, false] {
        if !index {
            std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let store = open(LocalDisk, dir.path()).unwrap();
        ready(&*store).await;
        let found = kept(&store, &case).await;
        // What failed may have happened all the same: it was not denied, it was not promised.
        let good = found == after[done] || after.get(done + 1) == Some(&found);
        assert!(good, "{case}, {:?}, index kept: {index}, {done} steps: {found:#?}", disk.failed());
        assert_eq!(store.stats().await.unwrap().quarantined, 0, "{case}");
    }
    disk.failed().is_some()
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
