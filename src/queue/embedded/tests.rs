//! What the model test cannot reach: damage, a full disk, a second process.

use std::os::unix::fs::FileExt;

use super::record::{Kind, Record};
use super::*;
use crate::fsx::DiskFile;
use crate::mail::attempt::Fate;
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::meaning::Reason;
use crate::mail::message::{Kind as Whose, Lane, Needs};
use crate::queue::store::{Cause, Destination, Hold, Last, Leg, Settlement, Then};

pub(super) fn options() -> Options {
    let turns = Turns { per_destination: 5, total: 50 };
    let clock = Clock::System;
    Options {
        turns,
        window: 100,
        body_cache: 0,
        read_memory: 64 << 20,
        index_cache: 1 << 20,
        index_slack: 0,
        disk_reserve: 0,
        clock,
    }
}

pub(super) fn message(serial: u128) -> Accept {
    let rcpt = Recipient { address: "a@b.example".parse().unwrap(), orcpt: None, notify: Notify::default() };
    let facts = Facts {
        id: Id::new(Time(1), serial),
        tenant: "t".into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Whose::Mail,
        envelope: Envelope { from: None, rcpts: vec![rcpt], ret: None, envid: None },
        received: Time(1),
        expires: Time(u64::MAX),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: crate::mail::message::Asked::default(),
        priority: crate::mail::priority::Priority::default(),
        deliver_by: None,
        size: 3000,
    };
    let body = vec![serial as u8; 3000].into();
    let legs = vec![(Destination("b.example".into()), vec![0])];
    Accept { message: Arc::new(Message { facts, body }), legs, held: None, tells: vec![] }
}

/// What a test has to say of a disk; all else is the machine's own.
pub(super) trait Attends: Send + Sync {
    /// Before a file is opened.
    fn opening(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Just before a file is removed and just after.
    fn removal(&self) {}
}

/// The machine's disk, attended.
#[derive(Default)]
pub(super) struct Attended<T>(pub(super) T);

impl<T: Attends + 'static> Disk for Attended<T> {
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn DiskFile>> {
        LocalDisk.create(path, room)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.opening(path)?;
        LocalDisk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        LocalDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.removal();
        LocalDisk.remove(path)?;
        self.0.removal();
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        LocalDisk.sync_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        LocalDisk.list(dir)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        LocalDisk.free(path)
    }
}

pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(super) fn ready(store: &Embedded) -> Stats {
    wait(async {
        loop {
            let stats = store.stats().await.unwrap();
            if !stats.rebuilding {
                return stats;
            }
            store.nudged().await;
        }
    })
}

/// Opens, accepts this many, closes. Answers the segment they are in.
pub(super) fn filled(dir: &Path, count: u128) -> PathBuf {
    let store = Embedded::open(dir, options()).unwrap();
    for serial in 0..count {
        wait(store.accept(message(serial))).unwrap();
    }
    wait(store.close()).unwrap();
    dir.join("spool").join(spool::segment_name(1))
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = Embedded::open(dir.path(), options()).unwrap();
    assert!(matches!(Embedded::open(dir.path(), options()), Err(OpenError::Locked(_))));
    drop(first);
    Embedded::open(dir.path(), options()).unwrap();
}

#[test]
fn below_the_reserve_mail_is_refused_and_the_queue_drains() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), 2);
    let full = Options { disk_reserve: u64::MAX, ..options() };
    let store = Embedded::open(dir.path(), full).unwrap();
    ready(&store);
    assert!(matches!(wait(store.accept(message(9))), Err(StoreError::Full(_))));
    assert!(!store.has_room());
    let dropped = wait(store.act(Filter::default(), Action::Drop, Time(2))).unwrap();
    assert_eq!(dropped.len(), 2);
    assert_eq!(ready(&store).messages, 0);
}

/// A large body is written before anybody knows that there is no room: it does not stay.
#[test]
fn a_large_message_that_is_refused_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Options { disk_reserve: u64::MAX, ..options() }).unwrap();
    let Message { facts, .. } = (*message(1).message).clone();
    let body = vec![b'x'; INLINE_MAX + 1].into();
    let large = Accept { message: Arc::new(Message { facts, body }), ..message(1) };
    // As if the room had gone while the body was written.
    store.spool.room.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(wait(store.accept(large)), Err(StoreError::Full(_))));
    let names = std::fs::read_dir(dir.path().join("spool")).unwrap().map(|entry| entry.unwrap().file_name());
    let bodies: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("body-")).collect();
    assert!(bodies.is_empty(), "{bodies:?}");
}

/// However fast mail comes in, and much of it at once: what is kept of it in memory is bounded.
#[test]
fn a_backlog_that_comes_in_fast_does_not_stay_in_memory() {
    const AT_ONCE: u128 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    ready(&store);
    let mut most = 0;
    for batch in 0..40 {
        wait(async {
            let mut accepts = tokio::task::JoinSet::new();
            for serial in batch * AT_ONCE..(batch + 1) * AT_ONCE {
                let store = Arc::clone(&store);
                accepts.spawn(async move { store.accept(message(serial)).await.unwrap() });
            }
            accepts.join_all().await;
        });
        most = most.max(ready(&store).unindexed);
    }
    assert_eq!(ready(&store).messages, 40_000);
    assert!((8192..8192 + 2 * AT_ONCE as u64).contains(&most), "{most}");
}

#[test]
fn a_torn_end_is_cut_and_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path(), 3);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let file = std::fs::OpenOptions::new().append(true).open(&segment).unwrap();
    std::io::Write::write_all(&mut &file, &[7; 500]).unwrap();
    let stats = ready(&Embedded::open(dir.path(), options()).unwrap());
    assert_eq!((stats.messages, stats.quarantined), (3, 0));
}

/// Every bit of a record matters to that record only: flip one in each eighth of the segment, rebuild, and count.
#[test]
fn a_flipped_bit_costs_one_message_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path(), 20);
    let size = std::fs::metadata(&segment).unwrap().len();
    for part in 1..8 {
        std::fs::remove_dir_all(dir.path().join("index")).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
        let (at, mut octet) = (size * part / 8, [0]);
        FileExt::read_exact_at(&file, &mut octet, at).unwrap();
        file.write_all_at(&[octet[0] ^ 4], at).unwrap();
        let store = Embedded::open(dir.path(), options()).unwrap();
        let lost = 20 - ready(&store).messages;
        let bad = (0..20).filter(|serial| wait(store.message(Id::new(Time(1), *serial))).is_err()).count();
        assert!(lost as usize + bad == 1, "lost {lost}, damaged {bad}");
        assert_eq!(ready(&store).quarantined, 1);
        wait(store.close()).unwrap();
        file.write_all_at(&octet, at).unwrap();
    }
}

/// A spool whose only segment says that it has this format: it is refused, and nothing in it is touched.
fn refused(format: u32) -> OpenError {
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path(), 1);
    let schema = record::Schema { format, segment: 1, previous: 0 };
    let record = Record::new(Kind::Schema, Id::from_bytes([0; 16]), &schema).unwrap();
    let octets =
        [&record.header.encode(record::Origin { nonce: 1, segment: 1 }, 0)[..], &record.payload].concat();
    std::fs::write(&segment, &octets).unwrap();
    let error = Embedded::open(dir.path(), options()).err().unwrap();
    assert_eq!(std::fs::read(&segment).unwrap(), octets);
    assert_eq!(std::fs::read_dir(dir.path().join("spool")).unwrap().count(), 1);
    error
}

#[test]
fn a_format_of_another_version_is_left_alone() {
    let next = record::FORMAT + 1;
    assert!(matches!(refused(next), OpenError::Newer(_, newer, record::FORMAT) if newer == next));
    let older = refused(1);
    assert!(matches!(older, OpenError::Older(_, 1, record::FORMAT)));
    assert!(older.to_string().contains("move the directories `spool` and `index` away"), "{older}");
}

#[test]
fn what_is_due_and_what_ends_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    ready(&store);
    let hold = |until| Hold { reason: "waits".into(), cause: Cause::Seal, until };
    for (serial, until) in [(1, None), (2, Some(Time(900))), (3, Some(Time(700)))] {
        wait(store.accept(Accept { held: Some(hold(until)), ..message(serial) })).unwrap();
    }
    let claimed = wait(store.claim(Time(5), 10)).unwrap();
    assert_eq!((claimed.legs.len(), claimed.next, claimed.ends), (0, None, Some(Time(700))));
    let seal = Filter { cause: Some(Cause::Seal), limit: Some(1), ..Filter::default() };
    assert_eq!(wait(store.act(seal, Action::Release, Time(6))).unwrap().len(), 1);
    let claimed = wait(store.claim(Time(6), 10)).unwrap();
    assert_eq!((claimed.legs.len(), claimed.next, claimed.ends), (1, None, Some(Time(700))));
    let later = Then::Due { at: Time(5000), delay_told: false };
    let settlement =
        Settlement { id: claimed.legs[0].id, leg: 0, fates: Vec::new(), owe: false, then: later };
    wait(store.settle(vec![settlement])).unwrap();
    let claimed = wait(store.claim(Time(700), 10)).unwrap();
    assert_eq!((claimed.next, claimed.ends), (Some(Time(5000)), Some(Time(900))));
    let [leg] = claimed.legs.as_slice() else { panic!("{claimed:?}") };
    assert_eq!((leg.id, &leg.state), (Id::new(Time(1), 3), &hold(Some(Time(700))).since(Time(1))));
}

/// Two recipients, of whom the first takes the message and the second puts it off.
fn half(leg: &Leg) -> Settlement {
    let last = |fate| {
        let code = if fate == Fate::Delivered { 250 } else { 451 };
        let (text, reason) = (String::new(), Reason::Other);
        (fate, Last { at: Time(2), code, enhanced: None, text, host: None, reason, lost: None })
    };
    let fates = [Fate::Delivered, Fate::Deferred].map(last);
    let fates = (0..).zip(fates).map(|(rcpt, (fate, last))| (rcpt, fate, last)).collect();
    let then = Then::Due { at: Time(u64::MAX), delay_told: false };
    Settlement { id: leg.id, leg: leg.leg, fates, owe: true, then }
}

/// A command over many messages takes a while. What becomes of the first of them meanwhile stands in the journal behind what the
/// command did to them: whoever has had the mail does not get it again.
#[test]
fn what_mail_does_during_a_long_command_is_not_undone_by_it() {
    const MANY: u128 = 10_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    ready(&store);
    wait(async {
        for serial in 0..MANY {
            let mut accept = message(serial);
            let mut facts = accept.message.facts.clone();
            facts.envelope.rcpts.push(facts.envelope.rcpts[0].clone());
            accept.message = Arc::new(Message { facts, body: b"x".to_vec().into() });
            accept.legs = vec![(Destination("b.example".into()), vec![0, 1])];
            accept.held = Some(Hold { reason: "test".into(), cause: Cause::Operator, until: None });
            let accepted = store.accept(accept);
            if serial % 1000 == 999 {
                accepted.await.unwrap();
            }
        }
    });
    let settled = wait(async {
        let releasing = store.act(Filter::default(), Action::Release, Time(2));
        let first = loop {
            match store.claim(Time(3), 1).await.unwrap().legs.pop() {
                Some(leg) => break leg,
                None => store.nudged().await,
            }
        };
        store.settle(vec![half(&first)]).await.unwrap();
        assert_eq!(releasing.await.unwrap().len(), MANY as usize);
        first.id
    });
    // Not closed: what comes back is what the journal says, as after a kill.
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    assert_eq!(ready(&store).messages, MANY as u64);
    let filter = Filter { ids: vec![settled], ..Filter::default() };
    let entries = wait(store.list(filter, Time(3))).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.leg.rcpts.clone()).collect::<Vec<_>>(), [vec![1]]);
}

/// Building an index of a large queue takes a while: who asks meanwhile is told so, and does not wait.
#[test]
fn who_asks_while_the_index_is_built_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    wait(async {
        for serial in 0..20_000 {
            let accepted = store.accept(message(serial));
            if serial % 1000 == 999 {
                accepted.await.unwrap();
            }
        }
        store.close().await.unwrap();
    });
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    let (mut told, mut stats) = (0, wait(store.stats()).unwrap());
    while stats.rebuilding {
        told += 1;
        stats = wait(store.stats()).unwrap();
    }
    assert_eq!(stats.messages, 20_000);
    // Were they answered between two rounds of it only, it would be some dozens.
    assert!(told > 100, "asked and answered {told} times");
}

/// A command over many messages is cut short by a close, which does not wait for it: what it has done is durable.
#[test]
fn a_close_ends_a_long_command() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    ready(&store);
    let answered = wait(async {
        for serial in 0..20_000 {
            let accepted = store.accept(message(serial));
            if serial % 1000 == 999 {
                accepted.await.unwrap();
            }
        }
        let dropping = store.act(Filter::default(), Action::Drop, Time(2));
        store.close().await.unwrap();
        dropping.await
    });
    drop(store);
    let left = ready(&Embedded::open(dir.path(), options()).unwrap()).messages;
    match answered {
        Ok(dropped) => assert_eq!((dropped.len(), left), (20_000, 0)),
        Err(error) => assert!(left > 0, "{error}"),
    }
}
