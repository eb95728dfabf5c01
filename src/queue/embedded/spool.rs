//! The journal as its users share it: the segments on disk, the committer's inbox, the feed to the index.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::super::store::{Accept, Destination, Hold, StoreError};
use super::inbox::Inbox;
use super::index::Ask;
use super::record::{BodyFile, Grave, Header, MemoHead, Position};
use crate::failpoint::{self, Failpoint};
use crate::fsx::{Disk, DiskFile};
use crate::mail::id::Id;
use crate::mail::message::Facts;

/// A segment's room: large enough that making one costs nothing, small enough that one can be compacted in a moment.
pub(super) const SEGMENT: u64 = 64 << 20;
/// What the name of a segment that was set aside begins with.
const DAMAGED: &str = "damaged-";
/// What a record says, for the index.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// A new message, and those that end by being told of.
    Accept(Box<Entered>, Option<BodyFile>, Vec<Grave>),
    /// What the index itself decided: it only needs to know where it lies, and whose end it says.
    Own(Vec<Grave>),
    /// A memo, and whether compaction moved it.
    Memo(MemoHead, bool),
}

/// A message as the index sees it. Without its octets: the index may be behind, and they would stay in memory for so long.
#[derive(Clone, Debug)]
pub(super) struct Entered {
    pub(super) facts: Arc<Facts>,
    pub(super) legs: Vec<(Destination, Vec<u16>)>,
    pub(super) held: Option<Hold>,
    pub(super) tells: Vec<(Id, u16)>,
}

impl Entered {
    pub(super) fn new(accept: &Accept) -> Box<Self> {
        let Accept { message, legs, held, tells } = accept;
        let facts = Arc::new(message.facts.clone());
        Box::new(Self { facts, legs: legs.clone(), held: held.clone(), tells: tells.clone() })
    }
}

/// A record that is durable.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) at: Position,
    pub(super) header: Header,
    pub(super) said: Said,
}

/// A segment that exists.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    /// Octets it takes on disk.
    pub(super) size: u64,
    /// Where its last record ends, as the next segment says.
    pub(super) end: Option<u64>,
}

impl Segment {
    /// Whether records are missing behind this offset, where a scan found the last one to end.
    pub(super) fn is_short(&self, at: u64) -> bool {
        self.end.is_some_and(|end| at < end)
    }
}

struct Feed {
    /// All before this is durable.
    end: Position,
    to: Option<Sender<Ask>>,
    /// Nobody will listen any more.
    over: bool,
}

/// The journal.
pub(super) struct Spool {
    pub(super) dir: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) reserve: u64,
    /// A segment's room.
    pub(super) room_each: u64,
    segments: RwLock<BTreeMap<u32, Segment>>,
    pub(super) inbox: Inbox,
    feed: Mutex<Feed>,
    failure: tokio::sync::watch::Sender<Option<StoreError>>,
    pub(super) room: AtomicBool,
    pub(super) syncs: AtomicU64,
    pub(super) quarantined: AtomicU64,
    /// Segments that were set aside, now or before.
    pub(super) set_aside: AtomicU64,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of a segment's file.
pub(super) fn segment_name(number: u32) -> String {
    format!("seg-{number:08}.log")
}

impl Spool {
    pub(super) fn new(dir: PathBuf, disk: Arc<dyn Disk>, reserve: u64, room_each: u64) -> Self {
        Self {
            dir,
            disk,
            reserve,
            room_each,
            segments: RwLock::default(),
            inbox: Inbox::default(),
            feed: Mutex::new(Feed { end: Position::default(), to: None, over: false }),
            failure: tokio::sync::watch::Sender::new(None),
            room: AtomicBool::new(true),
            syncs: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
        }
    }

    /// A segment's path.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.join(segment_name(number))
    }

    /// The path of a body in a file of its own.
    pub(super) fn body_path(&self, id: Id) -> PathBuf {
        self.dir.join(format!("body-{id}.bin"))
    }

    pub(super) fn add_segment(&self, number: u32, segment: Segment) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).insert(number, segment);
    }

    /// Takes a segment away for good. When this answers, no later segment can go and leave this one behind: what a
    /// message's end says must not be lost before the message.
    pub(super) fn remove_segment(&self, number: u32) -> io::Result<()> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.disk.remove(&self.path(number))?;
        failpoint::pass(Failpoint::CompactUnlinked);
        self.disk.sync_dir(&self.dir)
    }

    /// The same for a damaged segment: its file stays, under a name that nothing here reads.
    pub(super) fn set_aside(&self, number: u32) -> io::Result<()> {
        let (from, to) = (self.path(number), self.dir.join(format!("{DAMAGED}{}", segment_name(number))));
        self.segments.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.disk.rename(&from, &to)?;
        self.disk.sync_dir(&self.dir)?;
        self.set_aside.fetch_add(1, Ordering::Relaxed);
        tracing::error!(file = %to.display(), "a damaged segment was set aside: look at the disk, then remove it");
        Ok(())
    }

    /// Counts the segments that were set aside before this start and are still there, and those that are missing: segments
    /// go from the oldest on, so none of a later number than one that is there can be gone rightly.
    pub(super) fn count_damaged(&self) -> io::Result<()> {
        let listed = self.disk.list(&self.dir)?;
        let names = listed.iter().filter_map(|path| path.file_name()?.to_str()?.strip_prefix(DAMAGED));
        let aside: Vec<u32> = names.filter_map(|name| segment_number(Path::new(name))).collect();
        self.set_aside.store(aside.len() as u64, Ordering::Relaxed);
        let there = self.segments();
        let (Some(first), Some(last)) = (there.keys().next(), there.keys().last()) else { return Ok(()) };
        for number in (*first..*last).filter(|number| !there.contains_key(number) && !aside.contains(number))
        {
            let file = self.path(number);
            self.quarantine(format_args!("{} is missing, and what was in it", file.display()));
        }
        Ok(())
    }

    /// Counts something that is damaged or missing, and says what.
    pub(super) fn quarantine(&self, what: std::fmt::Arguments<'_>) {
        self.quarantined.fetch_add(1, Ordering::Relaxed);
        tracing::error!("damage in the spool: {what}");
    }

    /// Whether anything was found to be damaged since the start, or set aside before.
    pub(super) fn is_damaged(&self) -> bool {
        self.quarantined.load(Ordering::Relaxed) > 0 || self.set_aside.load(Ordering::Relaxed) > 0
    }

    /// The oldest segment, and octets of it.
    pub(super) fn oldest(&self) -> Option<(u32, u64)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.first_key_value().map(|(number, segment)| (*number, segment.size))
    }

    /// The bodies that have files of their own.
    pub(super) fn bodies(&self) -> io::Result<Vec<Id>> {
        Ok(self.disk.list(&self.dir)?.iter().filter_map(|path| body_id(path)).collect())
    }

    pub(super) fn segment(&self, number: u32) -> Option<Segment> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    pub(super) fn segments(&self) -> BTreeMap<u32, Segment> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Octets of all segments on disk.
    pub(super) fn size(&self) -> u64 {
        self.segments
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|segment| segment.size)
            .sum()
    }

    /// Nothing will be written any more. Answers what waited.
    pub(super) fn fail(&self, error: &StoreError) {
        self.failure
            .send_if_modified(|failure| failure.is_none() && failure.replace(error.clone()).is_none());
        self.inbox.fail(error);
    }

    /// Sees failures.
    pub(super) fn failure(&self) -> tokio::sync::watch::Receiver<Option<StoreError>> {
        self.failure.subscribe()
    }

    /// All up to here is durable: tells the index, if it listens.
    pub(super) fn publish(&self, fed: Vec<Fed>, end: Position) {
        let mut feed = held(&self.feed);
        feed.end = end;
        if let Some(to) = &feed.to {
            self.inbox.fed(fed.len());
            drop(to.send(Ask::Fed(fed, end)));
        }
    }

    /// Where the durable part of the journal ends.
    pub(super) fn end(&self) -> Position {
        held(&self.feed).end
    }

    /// Listens from here on, if the journal has not gone on meanwhile.
    pub(super) fn listen(&self, from: Position, to: &Sender<Ask>) -> bool {
        let mut feed = held(&self.feed);
        let now = feed.end == from && !feed.over;
        if now {
            feed.to = Some(to.clone());
        }
        now
    }

    /// Stops telling the index, for good.
    pub(super) fn deafen(&self) {
        let mut feed = held(&self.feed);
        (feed.to, feed.over) = (None, true);
    }

    /// Whether the store is being dropped.
    pub(super) fn is_over(&self) -> bool {
        held(&self.feed).over
    }

    /// Whether there is room. Without room nothing is written that would notice room again, so then the disk is asked.
    pub(super) fn has_room(&self) -> bool {
        self.room.load(Ordering::Relaxed) || self.look_for_room().unwrap_or(false)
    }

    /// Octets that the disk has beyond its reserve and two segments, which compaction needs.
    pub(super) fn spare(&self) -> u64 {
        let kept = self.reserve.saturating_add(self.room_each.saturating_mul(2));
        self.disk.free(&self.dir).unwrap_or(0).saturating_sub(kept)
    }

    /// Asks the disk whether it has room, and notes it for `has_room`.
    pub(super) fn look_for_room(&self) -> io::Result<bool> {
        let room = self.reserve == 0 || self.disk.free(&self.dir)? >= self.reserve;
        self.room.store(room, Ordering::Relaxed);
        Ok(room)
    }
}

/// The number in a segment's file name.
pub(super) fn segment_number(path: &Path) -> Option<u32> {
    let digits = path.file_name()?.to_str()?.strip_prefix("seg-")?.strip_suffix(".log")?;
    (digits.len() == 8).then(|| digits.parse().ok()).flatten()
}

/// The message that a body's file is named for.
fn body_id(path: &Path) -> Option<Id> {
    path.file_name()?.to_str()?.strip_prefix("body-")?.strip_suffix(".bin")?.parse().ok()
}
