//! Compaction: the spool stays small, one message keeps nothing, and a kill at any of its steps loses and revives nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::tests::{Attended, Attends, message, options, ready, wait};
use super::*;
use crate::mail::attempt::Fate;
use crate::mail::meaning::Reason;
use crate::queue::store::{Last, Leg, State, StateName, Then};

pub(super) const SEGMENT: u64 = 64 << 10;

pub(super) fn open(dir: &Path) -> Arc<Embedded> {
    let store = Embedded::open_with(Arc::new(LocalDisk), dir, options(), SEGMENT).unwrap();
    ready(&store);
    store
}

fn last() -> Last {
    Last {
        at: Time(3),
        code: 451,
        enhanced: None,
        text: "later".into(),
        host: None,
        reason: Reason::Busy,
        lost: None,
    }
}

fn settle(store: &Embedded, leg: &Leg, fate: Fate, then: Then) {
    let fates = vec![(0, fate, last())];
    let settlement = Settlement { id: leg.id, leg: leg.leg, fates, owe: false, then };
    wait(store.settle(vec![settlement])).unwrap();
}

/// Accepts and delivers so many messages, all but those that `sticks` names: they are put off.
pub(super) fn pass_through(
    store: &Embedded,
    serials: std::ops::Range<u128>,
    sticks: impl Fn(u128) -> bool,
    ended: &AtomicU64,
) {
    for serial in serials {
        wait(store.accept(message(serial))).unwrap();
        // What is durable may not have reached the index yet; claims follow.
        let leg = loop {
            if let Some(leg) = wait(store.claim(Time(2), 1)).unwrap().legs.pop() {
                break leg;
            }
        };
        assert_eq!(leg.id, Id::new(Time(1), serial));
        if sticks(serial) {
            settle(store, &leg, Fate::Deferred, Then::Due { at: Time(u64::MAX / 2), delay_told: true });
        } else {
            settle(store, &leg, Fate::Delivered, Then::Unclaim);
            ended.store(serial as u64, Ordering::SeqCst);
        }
    }
}

/// Waits until the journal is no larger than this.
pub(super) fn shrinks(store: &Embedded, octets: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while ready(store).journal_bytes > octets {
        assert!(Instant::now() < deadline, "{:?}", ready(store));
        std::thread::yield_now();
    }
}

fn queue(store: &Embedded) -> Vec<Leg> {
    wait(store.list(Filter::default(), Time(2))).unwrap().into_iter().map(|entry| entry.leg).collect()
}

/// The stuck messages are there as they were left, with their bodies.
fn holds(store: &Embedded, serials: &[u128]) {
    for serial in serials {
        let id = Id::new(Time(1), *serial);
        let filter = Filter { ids: vec![id], ..Filter::default() };
        let found = wait(store.list(filter, Time(2))).unwrap();
        let [entry] = found.as_slice() else { panic!("{serial} is in the queue {} times", found.len()) };
        assert_eq!((entry.state, entry.leg.attempts, entry.leg.delay_told), (StateName::Deferred, 1, true));
        assert_eq!((&entry.leg.state, &entry.leg.last), (&State::Due(Time(u64::MAX / 2)), &Some(last())));
        assert_eq!(wait(store.message(id)).unwrap().unwrap().body, message(*serial).message.body);
    }
}

/// 6 MiB go through segments of 64 KiB.
#[test]
fn the_spool_stays_small_and_one_stuck_message_keeps_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ended = AtomicU64::new(0);
    for round in 0..4u128 {
        pass_through(&store, round * 500..(round + 1) * 500, |serial| serial == 5, &ended);
        shrinks(&store, 4 * SEGMENT);
    }
    assert!(!dir.path().join("spool").join(spool::segment_name(1)).exists());
    holds(&store, &[5]);
    let before = queue(&store);
    assert_eq!(before.len(), 1);
    wait(store.close()).unwrap();
    let store = open(dir.path());
    assert_eq!(queue(&store), before);
    wait(store.close()).unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert_eq!(queue(&store), before);
    holds(&store, &[5]);
    assert_eq!(ready(&store).quarantined, 0);
}

/// Ended messages that sled still has once hid all that stood behind them from listings and commands.
#[test]
fn a_listing_goes_on_behind_messages_that_have_just_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for serial in 0..300 {
        wait(store.accept(message(serial))).unwrap();
    }
    wait(store.close()).unwrap();
    let store = open(dir.path());
    let mut ended = 0;
    while ended < 250 {
        for leg in wait(store.claim(Time(2), 5)).unwrap().legs {
            settle(&store, &leg, Fate::Delivered, Then::Unclaim);
            ended += 1;
        }
    }
    assert_eq!(queue(&store).len(), 300 - ended);
    wait(store.close()).unwrap();
}

/// Everything lives, then everything but every tenth: what is left is moved, more than once.
#[test]
fn a_spool_that_was_large_shrinks_to_what_lives() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ended = AtomicU64::new(0);
    pass_through(&store, 0..1000, |_| true, &ended);
    let live = ready(&store).live_bytes;
    assert!(live > 40 * SEGMENT, "{live}");
    let ids = (0..1000).filter(|serial| serial % 10 != 0).map(|serial| Id::new(Time(1), serial)).collect();
    wait(store.act(Filter { ids, ..Filter::default() }, Action::Drop, Time(2))).unwrap();
    let left = queue(&store);
    assert_eq!(left.len(), 100);
    shrinks(&store, 2 * (live / 10) + 4 * SEGMENT);
    let kept: Vec<u128> = (0..1000).step_by(10).collect();
    holds(&store, &kept);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert_eq!(queue(&store), left);
    holds(&store, &kept);
}

#[test]
fn an_index_from_before_segments_went_is_not_trusted() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let ended = AtomicU64::new(0);
    pass_through(&store, 0..10, |_| true, &ended);
    wait(store.close()).unwrap();
    copy(&dir.path().join("index"), &old.path().join("index"));
    let store = open(dir.path());
    wait(store.act(Filter::default(), Action::Drop, Time(2))).unwrap();
    pass_through(&store, 10..100, |_| false, &ended);
    shrinks(&store, 2 * SEGMENT);
    wait(store.close()).unwrap();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    copy(&old.path().join("index"), &dir.path().join("index"));
    assert_eq!(queue(&open(dir.path())), []);
}

#[test]
fn bodies_that_no_message_has_are_removed_at_the_start_and_others_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut large = message(1);
    let body: bytes::Bytes = vec![9; INLINE_MAX + 1].into();
    large.message = Arc::new(Message { facts: large.message.facts.clone(), body: body.clone() });
    wait(store.accept(large)).unwrap();
    let ended = AtomicU64::new(0);
    assert_eq!(wait(store.claim(Time(2), 1)).unwrap().legs.len(), 1);
    pass_through(&store, 2..300, |_| false, &ended);
    shrinks(&store, 3 * SEGMENT);
    wait(store.close()).unwrap();
    let path = |serial| dir.path().join("spool").join(format!("body-{}.bin", Id::new(Time(1), serial)));
    std::fs::write(path(7), b"nobody's").unwrap();
    let store = open(dir.path());
    assert_eq!((path(1).exists(), path(7).exists()), (true, false));
    assert_eq!(wait(store.message(Id::new(Time(1), 1))).unwrap().unwrap().body, body);
    wait(store.act(Filter::default(), Action::Drop, Time(2))).unwrap();
    assert!(!path(1).exists());
}

/// A disk that keeps what a kill would leave, just before a segment goes and just after.
pub(super) struct Watched {
    dir: PathBuf,
    ended: Arc<AtomicU64>,
    pub(super) kept: Mutex<Vec<(u64, tempfile::TempDir)>>,
}

impl Watched {
    pub(super) fn new(dir: &Path, ended: &Arc<AtomicU64>) -> Arc<Attended<Self>> {
        let watched = Self { dir: dir.to_owned(), ended: Arc::clone(ended), kept: Mutex::default() };
        Arc::new(Attended(watched))
    }
}

impl Attends for Watched {
    fn removal(&self) {
        let (ended, to) = (self.ended.load(Ordering::SeqCst), tempfile::tempdir().unwrap());
        copy(&self.dir, to.path());
        self.kept.lock().unwrap().push((ended, to));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_kill_around_the_removal_of_a_segment_loses_and_revives_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ended = Arc::new(AtomicU64::new(0));
    let disk = Watched::new(dir.path(), &ended);
    let store =
        Embedded::open_with(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), options(), SEGMENT).unwrap();
    ready(&store);
    let stuck = [0, 1, 30];
    pass_through(&store, 0..600, |serial| stuck.contains(&serial), &ended);
    shrinks(&store, 4 * SEGMENT);
    drop(store);
    let kept = std::mem::take(&mut *disk.0.kept.lock().unwrap());
    assert!(kept.len() > 20, "{}", kept.len());
    for (ended, left) in kept.iter().skip_while(|(ended, _)| *ended < 40) {
        let check = || {
            let store = open(left.path());
            holds(&store, &stuck);
            let ids = queue(&store).into_iter().map(|leg| leg.id);
            let revived = ids.filter(|id| *id <= Id::new(Time(1), u128::from(*ended))).count();
            assert_eq!((revived, ready(&store).quarantined), (stuck.len(), 0));
        };
        check();
        std::fs::remove_dir_all(left.path().join("index")).unwrap();
        check();
    }
}
