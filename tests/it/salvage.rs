//! A damaged segment: what can be read of it is saved, the rest is set aside, and compaction goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waxseal::clock::Clock;
use waxseal::mail::attempt::Fate;
use waxseal::mail::id::Id;
use waxseal::mail::message::Lane;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::Embedded;
use waxseal::queue::store::*;

use crate::disk::Faulty;
use crate::store_model::{last, message, options, ready};

const NOW: Time = Time(1_800_000_000_000);
const LATER: Time = Time(NOW.0 + 86_400_000);
const SEGMENT: u64 = 32 << 10;
/// Messages that wait, all in the first segment.
const STUCK: u64 = 5;

async fn open(disk: &Faulty, dir: &Path) -> Arc<Embedded> {
    let store = Embedded::open_with(Arc::new(disk.clone()), dir, options(&Clock::System), SEGMENT).unwrap();
    ready(&*store).await;
    store
}

fn mail(serial: u64) -> Accept {
    message(serial, NOW, "t1", Lane::Normal, &[(1, 1)], 2000)
}

fn id(serial: u64) -> Id {
    mail(serial).message.facts.id
}

/// Accepts a message, and delivers it or puts it off.
async fn pass(store: &Embedded, serial: u64, fate: Fate) {
    store.accept(mail(serial)).await.unwrap();
    let claimed = store.claim(NOW, 1).await.unwrap();
    assert_eq!(claimed.legs[0].id, id(serial));
    let then = Then::Due { at: LATER, delay_told: false };
    let fates = vec![(0, fate, last("said", NOW))];
    store.settle(vec![Settlement { id: id(serial), leg: 0, fates, owe: false, then }]).await.unwrap();
}

/// A spool, closed, whose first segment holds the stuck messages and a memo.
async fn filled(dir: &Path) -> PathBuf {
    let store = open(&Faulty::default(), dir).await;
    for serial in 1..=STUCK {
        pass(&store, serial, Fate::Deferred).await;
    }
    store.remember(vec![Memo { key: "known".into(), value: Some(vec![7; 1000]) }]).await.unwrap();
    store.close().await.unwrap();
    dir.join("spool/seg-00000001.log")
}

/// Lets mail through until the first segment has been set aside and the journal is small behind it.
async fn until_set_aside(store: &Embedded, dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut serial = 1000;
    loop {
        let stats = store.stats().await.unwrap();
        if stats.set_aside == 1 && serial > 1100 && stats.journal_bytes < 5 * SEGMENT {
            break;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        pass(store, serial, Fate::Delivered).await;
        serial += 1;
    }
    assert!(dir.join("spool/damaged-seg-00000001.log").exists());
    assert!(!dir.join("spool/seg-00000001.log").exists());
}

/// The stuck messages that are listed, each with its body or what was answered instead.
async fn stuck(store: &Embedded) -> Vec<Result<Id, Id>> {
    let mut found = Vec::new();
    for entry in store.list(Filter::default(), NOW).await.unwrap() {
        let id = entry.leg.id;
        found.push(match store.message(id).await {
            Ok(read) => {
                assert!((1..=STUCK).any(|serial| read.as_ref() == Some(&mail(serial).message)));
                Ok(id)
            }
            Err(StoreError::Damaged(damaged)) => Err(damaged),
            Err(other) => panic!("{other}"),
        });
    }
    found
}

/// Kinds of records, as src/queue/embedded/record.rs numbers them.
const ACCEPT: u8 = 2;
const NOTE: u8 = 5;

/// Spoils the header of the n-th record of a kind in a segment.
fn spoil_header(segment: &Path, kind: u8, n: usize) {
    let mut octets = std::fs::read(segment).unwrap();
    let wanted = |at: &usize| octets[*at..].starts_with(b"WXS\x01") && octets.get(at + 12) == Some(&kind);
    let at = (0..octets.len()).filter(wanted).nth(n).unwrap();
    octets[at + 20] ^= 1;
    std::fs::write(segment, octets).unwrap();
}

#[tokio::test]
async fn what_the_index_knows_of_a_damaged_segment_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    spoil_header(&segment, ACCEPT, 2);
    let all: Vec<_> = (1..=STUCK).map(|serial| Ok(id(serial))).collect();
    let store = open(&Faulty::default(), dir.path()).await;
    until_set_aside(&store, dir.path()).await;
    let memo = [("known".to_owned(), vec![7; 1000])];
    assert_eq!(
        (stuck(&store).await, store.recall("known".into()).await.unwrap()),
        (all.clone(), memo.to_vec())
    );
    store.close().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    assert_eq!((stuck(&store).await, store.recall("known".into()).await.unwrap()), (all, memo.to_vec()));
    let stats = store.stats().await.unwrap();
    assert_eq!(
        (stats.quarantined, stats.set_aside),
        (0, 1),
        "the journal is whole again; the file still waits"
    );
}

#[tokio::test]
async fn without_an_index_only_the_damaged_record_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    spoil_header(&segment, ACCEPT, 2);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    assert_eq!(store.stats().await.unwrap().quarantined, 1);
    until_set_aside(&store, dir.path()).await;
    let rest: Vec<_> = [1, 2, 4, 5].into_iter().map(|serial| Ok(id(serial))).collect();
    assert_eq!((stuck(&store).await, store.recall("known".into()).await.unwrap().len()), (rest, 1));
}

/// Bug: a single sector that could not be read stopped the start, and every start after it.
#[tokio::test]
async fn a_sector_that_cannot_be_read_costs_what_stands_in_it_alone() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    let octets = std::fs::read(&segment).unwrap();
    let place = |serial| {
        let body = mail(serial).message.body.clone();
        octets.windows(body.len()).position(|window| window == &body[..]).unwrap() as u64
    };
    let all: Vec<_> = (1..=STUCK).map(|serial| Ok(id(serial))).collect();
    // The last segment is another matter: what cannot be read there stops the start, for nothing may be cut off behind it.
    let store = open(&Faulty::default(), dir.path()).await;
    pass(&store, 100, Fate::Delivered).await;
    store.close().await.unwrap();
    for (at, what) in [(0, "its first"), (place(3), "one in the middle")] {
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        let disk = Faulty::default();
        disk.spoil_at(&segment, at..at + 1);
        let store = open(&disk, dir.path()).await;
        let listed = store.list(Filter::default(), NOW).await.unwrap().len();
        assert!((2..5).contains(&listed), "{what}: {listed}");
        assert!(store.stats().await.unwrap().quarantined > 0, "{what}");
        store.close().await.unwrap();
        // What was not known then is not known by itself, also where the disk is well again: another start may know more than it reads.
        let store = open(&disk, dir.path()).await;
        assert_eq!(store.list(Filter::default(), NOW).await.unwrap().len(), listed, "{what}");
        store.close().await.unwrap();
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        let store = open(&Faulty::default(), dir.path()).await;
        assert_eq!(stuck(&store).await, all, "{what}: an index made anew has all that can be read again");
        assert_eq!(store.stats().await.unwrap().quarantined, 0);
        store.close().await.unwrap();
    }
}

/// Bug: its copy, the last thing in the journal, was taken at the next start for one that was being written, and cut off.
#[tokio::test]
async fn a_message_with_a_damaged_body_outlives_compaction_and_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    let mut octets = std::fs::read(&segment).unwrap();
    let body = &mail(3).message.body;
    let at = octets.windows(body.len()).position(|window| window == &body[..]).unwrap();
    octets[at + 1000] ^= 1;
    std::fs::write(&segment, octets).unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    // Each time it is seen whether the segment goes now: then its copies are the last thing that was written.
    let mut serial = 1000;
    while segment.exists() {
        pass(&store, serial, Fate::Delivered).await;
        serial += 1;
        let patience = Instant::now() + Duration::from_millis(100);
        while segment.exists() && Instant::now() < patience {
            tokio::task::yield_now().await;
        }
        assert!(serial < 1200, "it never goes");
    }
    let found: Vec<_> = [Ok(1), Ok(2), Err(3), Ok(4), Ok(5)].map(|one| one.map(id).map_err(id)).into();
    assert_eq!(stuck(&store).await, found);
    // As a kill leaves it: a tidy end would write behind them.
    let killed = tempfile::tempdir().unwrap();
    std::fs::create_dir(killed.path().join("spool")).unwrap();
    for entry in std::fs::read_dir(dir.path().join("spool")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, killed.path().join("spool").join(path.file_name().unwrap())).unwrap();
    }
    let store = open(&Faulty::default(), killed.path()).await;
    assert_eq!(stuck(&store).await, found);
}

/// The files of bodies in the spool.
fn bodies(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("spool")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| !name.to_str().unwrap().contains("seg-")).count()
}

/// Bug: the second start, which begins behind the damage, took the body for one that a kill had left behind.
#[tokio::test]
async fn the_body_of_a_message_whose_record_is_lost_stays_at_every_start() {
    for (damaged, left) in [(true, 1), (false, 0)] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&Faulty::default(), dir.path()).await;
        store.accept(message(1, NOW, "t1", Lane::Normal, &[(1, 1)], (1 << 20) + 1)).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(bodies(dir.path()), 1);
        let segment = dir.path().join("spool/seg-00000001.log");
        match damaged {
            true => spoil_header(&segment, ACCEPT, 0),
            // As a kill leaves it between the body and its record.
            false => std::fs::remove_file(&segment).unwrap(),
        }
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        for (start, quarantined) in [u64::from(damaged), 0, 0].into_iter().enumerate() {
            let store = open(&Faulty::default(), dir.path()).await;
            assert_eq!(store.stats().await.unwrap().quarantined, quarantined);
            pass(&store, 2 + start as u64, Fate::Delivered).await;
            store.close().await.unwrap();
            assert_eq!(bodies(dir.path()), left, "start {start}, damaged: {damaged}");
        }
    }
}

/// Bug: the disk read again what it could not at a start, and compaction took the segment for one of which nothing lives.
#[tokio::test]
async fn what_a_start_could_not_read_is_not_removed_when_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    let store = open(&Faulty::default(), dir.path()).await;
    pass(&store, 100, Fate::Delivered).await;
    store.close().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let disk = Faulty::default();
    disk.spoil_at(&segment, 9000..9001);
    let store = open(&disk, dir.path()).await;
    assert!(store.list(Filter::default(), NOW).await.unwrap().len() < STUCK as usize);
    // That they were put off stood there too.
    store.act(Filter::default(), Action::Hold { reason: "aside".into() }, NOW).await.unwrap();
    store.close().await.unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    until_set_aside(&store, dir.path()).await;
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_at_all_keeps_nothing_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path()).await;
    let disk = Faulty::default();
    let store = open(&disk, dir.path()).await;
    disk.spoil(&segment);
    until_set_aside(&store, dir.path()).await;
    let lost: Vec<_> = (1..=STUCK).map(|serial| Err(id(serial))).collect();
    assert_eq!(store.stats().await.unwrap().quarantined, STUCK + 1);
    assert_eq!(stuck(&store).await, lost, "listed, so that a person can decide");
    assert_eq!(store.recall(String::new()).await.unwrap(), []);
    store.close().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    assert_eq!(stuck(&store).await, lost, "by an index that was made again, too");
    store.act(Filter::default(), Action::Drop, NOW).await.unwrap();
    assert_eq!(stuck(&store).await, []);
}

/// Bug: a later word on the leg hid that one before it was lost, and with it the failure of a recipient who was never told of.
#[tokio::test]
async fn whoever_ended_in_a_word_that_is_lost_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    store.accept(message(1, NOW, "t1", Lane::Normal, &[(1, 3)], 2000)).await.unwrap();
    store.claim(NOW, 1).await.unwrap();
    for (rcpt, fate) in [(0, Fate::Failed), (1, Fate::Delivered)] {
        let fates = vec![(rcpt, fate, last("said", NOW))];
        let settled = Settlement { id: id(1), leg: 0, fates, owe: true, then: Then::Continue };
        store.settle(vec![settled]).await.unwrap();
    }
    store.close().await.unwrap();
    spoil_header(&dir.path().join("spool/seg-00000001.log"), NOTE, 0);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(&Faulty::default(), dir.path()).await;
    let open: Vec<_> =
        store.list(Filter::default(), NOW).await.unwrap().into_iter().map(|it| it.leg.rcpts).collect();
    assert_eq!(open, [[2, 0]], "the first is not delivered, and nobody was told");
    assert_eq!(store.stats().await.unwrap().quarantined, 1);
}
