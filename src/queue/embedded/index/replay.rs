//! From a start to a working index: sled is opened, or thrown away where there is doubt, and the journal is replayed
//! from where sled has it up to its end, while new mail is already written behind that end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use tokio::sync::Notify;

use super::super::cache::Cache;
use super::super::record::{AGAIN, FIRST, Kind, Position};
use super::super::scan::{Found, Scan, Step};
use super::super::spool::Spool;
use super::compact::Compaction;
use super::desk::Desk;
use super::lanes::Lanes;
use super::memos::Pending;
use super::rows::Rows;
use super::tree::{Site, clear};
use super::usage::Usage;
use super::{Ask, keys};
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};
use crate::mail::id::Id;
use crate::queue::store::{Stats, StoreError, Turns};

/// Tells a power cut from a killed process: sled's files are trusted after the latter only.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT: &[u8] = b"boot";
/// Rounds of catching up with what is written meanwhile, before the committer waits for one.
const ROUNDS: usize = 3;
/// Rows counted at once.
const COUNT: usize = 1000;

/// What an index is built of.
pub(in super::super) struct Parts {
    pub(in super::super) spool: Arc<Spool>,
    /// Holds sled's directory.
    pub(in super::super) dir: PathBuf,
    pub(in super::super) sled_cache: u64,
    pub(in super::super) sled_slack: u64,
    pub(in super::super) turns: Turns,
    pub(in super::super) window: usize,
    pub(in super::super) clock: Clock,
    pub(in super::super) nudge: Arc<Notify>,
    pub(in super::super) cache: Arc<Cache>,
    /// Bodies that had files of their own at the start.
    pub(in super::super) bodies: Vec<Id>,
    /// Where the feed is to send.
    pub(in super::super) feed: Sender<Ask>,
}

impl Parts {
    fn site(&self) -> Site {
        Site { dir: self.dir.join("index"), cache: self.sled_cache, slack: self.sled_slack }
    }

    /// A file that says that sled's directory is not to be trusted.
    pub(in super::super) fn doubt(&self) -> PathBuf {
        self.dir.join("index.doubt")
    }
}

/// Builds the index. `None`: the store was closed meanwhile.
pub(super) fn build(parts: Parts, inbox: &Receiver<Ask>) -> sled::Result<Option<Desk>> {
    let (rows, sizes) = open(&parts)?;
    let applied: Position = keys::take(rows.tree(), keys::APPLIED)?.unwrap_or_default();
    note_damage(&parts.spool, &rows)?;
    let Parts { spool, turns, window, clock, nudge, cache, bodies, feed, .. } = parts;
    let empty = applied == Position::default();
    let (stats, usage) = sizes.clone().unwrap_or_default();
    let desk = Desk {
        spool,
        rows,
        lanes: Lanes::new(turns, window),
        claimed: HashMap::new(),
        stats,
        usage,
        end: applied,
        clock,
        nudge,
        cache,
        sweeps: std::collections::VecDeque::new(),
        replaying: true,
        compaction: Compaction::default(),
        memos: Pending::default(),
        unpaid: 0,
    };
    let counted = sizes.is_some() || empty;
    let mut replay = Replay { desk, inbox, closed: false };
    // What takes long comes before the index listens: once it does, mail waits for it.
    let mut end = replay.catch_up()?;
    if !counted {
        replay.recount()?;
    }
    // What was given up half way knows of too few messages to say whose body is nobody's.
    if replay.is_given_up() {
        return Ok(None);
    }
    replay.desk.remove_orphans(bodies)?;
    let spool = Arc::clone(&replay.desk.spool);
    let (mut round, mut pause) = (0, None);
    while !spool.listen(end, &feed) {
        // Each round has less to replay than the one before. Under steady load something always comes in meanwhile: then it waits.
        round += 1;
        if round > ROUNDS {
            pause.get_or_insert_with(|| spool.inbox.pause());
        }
        end = replay.catch_up()?;
        if replay.is_given_up() {
            return Ok(None);
        }
    }
    drop(pause);
    let mut desk = replay.desk;
    failpoint::pass(Failpoint::ReplayDone);
    for (key, first) in keys::streams(desk.rows.tree().read())? {
        desk.lanes.restore(key, first);
    }
    desk.replaying = false;
    desk.nudge.notify_one();
    Ok(Some(desk))
}

/// Keeps that damage was found at the opening, and says so where it was found at an earlier one.
fn note_damage(spool: &Spool, rows: &Rows) -> sled::Result<()> {
    let known: Option<Vec<u32>> = keys::take(rows.tree(), keys::DAMAGED)?;
    if spool.is_damaged() {
        keys::put(rows.tree(), keys::DAMAGED, &known.unwrap_or_default())?;
    } else if known.is_some() {
        tracing::error!(
            "an earlier start found damage in the journal: once the disk is well, an index made anew finds what can be read again (docs/queue.md)"
        );
    }
    Ok(())
}

/// What cannot be answered yet. True: the store is being closed.
fn refuse(inbox: &Receiver<Ask>) -> bool {
    while let Ok(ask) = inbox.try_recv() {
        match ask {
            Ask::Claim(_, _, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Settle(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Supersede(_, _, _, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Waive(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Where(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Sweep(sweep) => sweep.refuse(StoreError::Rebuilding),
            Ask::Owed(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Remember(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Recall(_, reply) => drop(reply.send(Err(StoreError::Rebuilding))),
            Ask::Tell(_, _, done) => done(Err(StoreError::Rebuilding)),
            Ask::Stats(reply) => drop(reply.send(Ok(Stats { rebuilding: true, ..Stats::default() }))),
            Ask::Fed(..) | Ask::Pace(_) => {}
            Ask::Close(reply) => {
                drop(reply.send(Ok(())));
                return true;
            }
        }
    }
    false
}

type Sizes = Option<(Stats, Usage)>;

/// Opens sled if it can be trusted, and a new one if not. Its sizes are there if it was closed tidily.
fn open(parts: &Parts) -> sled::Result<(Rows, Sizes)> {
    let site = parts.site();
    let doubtful = parts.doubt();
    if doubtful.exists() {
        clear(&site.dir)?;
        std::fs::remove_file(&doubtful)?;
    }
    if let Some(opened) = trusted(parts, &site)? {
        return Ok(opened);
    }
    tracing::warn!("the index is rebuilt from the journal");
    clear(&site.dir)?;
    let rows = Rows::open(site)?;
    rows.tree().insert(BOOT, boot().as_bytes())?;
    Ok((rows, None))
}

fn trusted(parts: &Parts, site: &Site) -> sled::Result<Option<(Rows, Sizes)>> {
    let site = site.clone();
    let Ok(Ok(rows)) = std::panic::catch_unwind(move || Rows::open(site)) else { return Ok(None) };
    let sizes: Sizes = keys::take(rows.tree(), keys::SIZES)?;
    let same = same_boot(&rows)?;
    let applied: Option<Position> = keys::take(rows.tree(), keys::APPLIED)?;
    // Killed before it had said for the first time how far it was: what it holds was counted by nobody.
    if applied.is_none() && rows.tree().read().iter().keys().any(|key| !key.is_ok_and(|key| key == BOOT)) {
        return Ok(None);
    }
    let applied = applied.unwrap_or_default();
    // What stood in segments that are gone has been copied, or had ended: sled must have known it before they went.
    let gap = parts.spool.oldest().is_some_and(|(oldest, _)| oldest > 1 && applied.segment < oldest);
    // What the index knows was durable once.
    let missing = applied > parts.spool.end()
        || parts.spool.segment(applied.segment).is_some_and(|its| its.size < u64::from(applied.offset));
    if missing {
        let Position { segment, offset } = applied;
        parts.spool.quarantine(format_args!("segment {segment} once reached to {offset}, or beyond"));
    }
    if gap || applied > parts.spool.end() || (sizes.is_none() && !same) {
        return Ok(None);
    }
    if sizes.is_some() {
        // After a power cut they would speak for what was written since.
        rows.tree().remove(keys::SIZES)?;
        rows.tree().sync()?;
    }
    Ok(Some((rows, sizes)))
}

/// Whether the machine has run on since sled was written, as far as can be told.
fn same_boot(rows: &Rows) -> sled::Result<bool> {
    let boot = boot();
    let last = rows.tree().insert(BOOT, boot.as_bytes())?;
    if boot.is_empty() {
        tracing::warn!("{BOOT_ID} cannot be read: an index that was not closed tidily is not trusted");
        return Ok(false);
    }
    Ok(last.is_none_or(|last| last == boot.as_bytes()))
}

/// Empty where the system does not say (a sandbox that hides /proc/sys).
fn boot() -> String {
    std::fs::read_to_string(BOOT_ID).unwrap_or_default()
}

/// An index that is being built.
struct Replay<'a> {
    desk: Desk,
    inbox: &'a Receiver<Ask>,
    /// The store is being closed: what is built is thrown away.
    closed: bool,
}

impl Replay<'_> {
    /// Answers whoever asked meanwhile. True: the store is being closed.
    fn is_closed(&mut self) -> bool {
        self.closed = self.closed || refuse(self.inbox);
        self.is_given_up()
    }

    fn is_given_up(&self) -> bool {
        self.closed || self.desk.spool.is_over()
    }

    /// Replays the journal from where the index has it up to where it ends now, and answers that end.
    fn catch_up(&mut self) -> sled::Result<Position> {
        let end = self.desk.spool.end();
        let numbers: Vec<u32> =
            self.desk.spool.segments().into_keys().filter(|number| *number <= end.segment).collect();
        let start = self.desk.end;
        for number in numbers.into_iter().filter(|number| *number >= start.segment) {
            let from = if number == start.segment { start.offset } else { 0 };
            let to = if number == end.segment { u64::from(end.offset) } else { u64::MAX };
            self.segment(Position { segment: number, offset: from }, to)?;
        }
        if self.closed {
            return Ok(end);
        }
        self.desk.end = end;
        while self.desk.rows.dirty() && self.desk.spill(super::SPILL_AT_ONCE)? && !self.is_closed() {}
        Ok(end)
    }

    /// What stands in one segment from an offset on. Records that recovery copied count once their batch is complete.
    fn segment(&mut self, from: Position, to: u64) -> sled::Result<()> {
        let number = from.segment;
        let Some(segment) = self.desk.spool.segment(number) else { return Ok(()) };
        let mut scan = Scan::lenient(&*segment.file, number, u64::from(from.offset))?;
        let mut again: Vec<Found> = Vec::new();
        while scan.offset() < to && !self.is_closed() {
            match scan.next()? {
                Step::Record(found) if found.header.flags & AGAIN != 0 => again.push(found),
                Step::Record(found) => {
                    // With its last record damaged the batch was complete all the same, if anything was written after it.
                    let complete = found.header.kind == Kind::Forwarded || found.header.flags & FIRST != 0;
                    let copied = if complete { std::mem::take(&mut again) } else { Vec::new() };
                    for found in copied.iter().chain([&found]) {
                        self.take(number, found)?;
                    }
                }
                Step::Bad { from } => {
                    self.desk.quarantine(position(number, from), "its octets are not a record")?;
                }
                Step::End { at, torn } => {
                    if torn || segment.is_short(at) {
                        self.desk.quarantine(position(number, at), "its end is damaged, or missing")?;
                    }
                    break;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, segment: u32, found: &Found) -> sled::Result<()> {
        let at = position(segment, found.offset);
        self.desk.replay(at, &found.header, &found.payload)?;
        failpoint::pass(Failpoint::ReplayRecord);
        while self.desk.rows.heavy() && self.desk.spill(super::SPILL_AT_ONCE)? {}
        self.desk.end = at;
        Ok(())
    }

    /// Counts everything anew: after a crash the sizes were not written.
    fn recount(&mut self) -> sled::Result<()> {
        self.desk.stats = Stats::default();
        self.desk.usage.recount();
        let mut from = Some(Id::from_bytes([0; 16]));
        while let Some(id) = from.filter(|_| !self.is_closed()) {
            let (rows, next) = self.desk.rows.range(id, COUNT)?;
            rows.iter().for_each(|row| self.desk.count(row));
            from = next;
        }
        self.desk.count_memos()
    }
}

fn position(segment: u32, offset: u64) -> Position {
    Position { segment, offset: u32::try_from(offset).unwrap_or(u32::MAX) }
}
