//! Compaction: the oldest segment goes once what lives in it stands elsewhere too.
//!
//! Always the oldest. Then everything a segment says is about messages whose full records are in it or were in segments
//! that have gone, so three steps are enough: each message that lives in it is written anew at the journal's end with all
//! that became of it (`Kind::Copy`), and each memo whose last word it has; once those are synced and sled is past the segment, the file is removed; the
//! directory is synced before the next. A kill between any two of these leaves a journal that says the same: a copy
//! says all that the records before it say, and takes their place when both are read.
//!
//! It works in pieces between two looks at the inbox, and its copies ride the groups of the committer. A segment that
//! cannot be read from end to end is salvaged (`salvage.rs`) and set aside.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::super::inbox::Request;
use super::super::record::{Copied, Kind, MemoHead, Position, Record};
use super::super::scan::{Found, Scan, Step};
use super::super::spool::{Said, Segment};
use super::desk::Desk;
use super::keys;
use super::memos::Fate;
use super::row::Row;
use crate::failpoint::{self, Failpoint};
use crate::fsx::read_exact_at;
use crate::mail::id::Id;

/// The oldest segment is compacted when less than one part in so many of it lives: a copy costs at most a third of
/// what it frees, and one stuck message does not keep a segment.
const LIVE_SHARE: u64 = 4;
/// It is compacted whatever lives in it when the journal is larger than so many times what lives, and `SLACK` segments:
/// behind an old segment that lives, dead ones would wait for days.
const GROWTH: u64 = 2;
/// One segment is being written, and one may be half dead.
const SLACK: u64 = 2;
/// Copying starts only with room for so many segments: a full disk must not end the store.
const ROOM: u64 = 2;
/// Records looked at between two looks at the inbox: about a millisecond.
pub(super) const PIECE: usize = 256;
/// Octets copied at once, so that a group with copies in it is synced about as soon as one without.
pub(super) const COPY_MAX: u64 = 1 << 20;
/// Rows written to sled between two looks at the inbox.
const ROWS: usize = 64;

/// How far compaction is.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    pub(super) work: Option<Work>,
    /// Nothing can be done before something becomes durable.
    pub(super) waits: bool,
    /// Something went wrong: no segment is removed until the next start.
    stopped: bool,
    /// Copies that are not durable yet.
    copies: usize,
}

/// A segment on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) segment: u32,
    pub(super) stage: Stage,
    /// It is set aside, not removed.
    pub(super) damaged: bool,
}

/// How much of a segment was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stage {
    /// All records before this offset.
    Records(u64),
    /// It is damaged: every message of the queue before this one, wherever it lies.
    Messages(Id),
    /// The same, and all messages: memos are left.
    Memos,
    /// All of it.
    Seen,
}

impl Compaction {
    /// Whether there is something to do now.
    pub(super) fn busy(&self) -> bool {
        !self.stopped && !self.waits
    }

    /// Something became durable.
    pub(super) fn look(&mut self) {
        self.waits = false;
    }

    /// A copy became durable.
    pub(super) fn copied(&mut self) {
        self.copies = self.copies.saturating_sub(1);
    }
}

/// Something in a segment that may have to be copied.
enum Thing {
    Message(Id),
    Memo(MemoHead),
}

/// The things in a piece of a segment, and where the next piece begins; `None`: there is none.
type Piece = (Vec<(Thing, u64)>, Option<u64>);

/// What compaction makes of a thing.
enum Copy {
    /// It does not live here.
    Nothing,
    /// It cannot be told before what is under way is durable.
    Later,
    /// Its copy.
    Record(Record, Said),
    /// It cannot be read.
    Unreadable(io::Error),
}

impl Desk {
    /// Does a piece of what there is to do.
    pub(super) fn compact(&mut self) -> sled::Result<()> {
        if !self.compaction.busy() {
            return Ok(());
        }
        match self.compaction.work {
            None => {
                self.compaction.work = self.candidate();
                self.compaction.waits = self.compaction.work.is_none();
                if self.compaction.work.is_some() {
                    failpoint::pass(Failpoint::CompactChosen);
                }
                Ok(())
            }
            Some(work) => match work.stage {
                Stage::Records(from) => self.copy_piece(work, from),
                Stage::Messages(_) | Stage::Memos | Stage::Seen if self.compaction.copies > 0 => {
                    self.compaction.waits = true;
                    Ok(())
                }
                Stage::Messages(from) => self.salvage_messages(work, from),
                Stage::Memos => self.salvage_memos(work),
                Stage::Seen => self.remove(work),
            },
        }
    }

    /// The oldest segment, if it is worth it.
    fn candidate(&self) -> Option<Work> {
        let (segment, size) = self.spool.oldest()?;
        // What lies before the end of what was taken in is sealed, and the index knows all of it.
        if segment >= self.end.segment {
            return None;
        }
        let (live, each) = (self.usage.live_in(segment), self.spool.room_each);
        let large = || self.spool.size() > GROWTH * self.usage.live() + SLACK * each;
        let worth = live == 0 || live.saturating_mul(LIVE_SHARE) < size || large();
        let room = || self.spool.disk.free(&self.spool.dir).is_ok_and(|free| free >= ROOM * each);
        let work = || Work { segment, stage: Stage::Records(0), damaged: self.was_damaged(segment) };
        (worth && (live == 0 || room())).then(work)
    }

    /// Whether a start found damage in it. It is set aside then, also if it can be read by now: what could not be read at that start the
    /// index does not know.
    fn was_damaged(&self, segment: u32) -> bool {
        let known = keys::take::<Vec<u32>>(self.rows.tree(), keys::DAMAGED).ok().flatten();
        known.is_some_and(|segments| segments.contains(&segment))
    }

    /// Writes anew what lives in a piece of the segment.
    fn copy_piece(&mut self, mut work: Work, from: u64) -> sled::Result<()> {
        let Some(segment) = self.segment_of(work) else { return Ok(()) };
        let (found, next) = match piece(&segment, work.segment, from) {
            Ok(piece) => piece,
            Err(error) => return self.salvage(work, &error),
        };
        work.stage = next.map_or(Stage::Seen, Stage::Records);
        let (mut records, mut octets, mut failed) = (Vec::new(), 0, None);
        for (thing, offset) in found {
            let at = Position { segment: work.segment, offset: u32::try_from(offset).unwrap_or(u32::MAX) };
            let copy = if octets > COPY_MAX { Copy::Later } else { self.copy(&segment, at, thing)? };
            match copy {
                Copy::Nothing => continue,
                Copy::Record(record, said) => {
                    octets += record.header.length();
                    records.push((record, said));
                    continue;
                }
                Copy::Later => self.compaction.waits = true,
                Copy::Unreadable(error) => failed = Some(error),
            }
            work.stage = Stage::Records(offset);
            break;
        }
        self.compaction.work = Some(work);
        self.submit_copies(records);
        failed.map_or(Ok(()), |error| self.salvage(work, &error))
    }

    /// Looks at one thing. Everything decided so far is before its copy in the journal, everything decided later behind it.
    fn copy(&mut self, segment: &Segment, at: Position, thing: Thing) -> sled::Result<Copy> {
        let copied = match thing {
            Thing::Message(id) => {
                // It has ended in memory, and the word of that is not durable: until it is, this record is all there is of it.
                if self.rows.is_ending(id) {
                    return Ok(Copy::Later);
                }
                let Some(row) = self.rows.look(id)?.filter(|row| row.place.at == at) else {
                    return Ok(Copy::Nothing);
                };
                self.copy_message(segment, &row)?
            }
            Thing::Memo(head) => match self.memo_fate(at, &head)? {
                Fate::Dead => return Ok(Copy::Nothing),
                Fate::Waits => return Ok(Copy::Later),
                Fate::Lives(place) => self.copy_memo(segment, head, &place),
            },
        };
        Ok(copied.map_or_else(Copy::Unreadable, |(record, said)| Copy::Record(record, said)))
    }

    /// A full record of a message as it stands. A damaged body stays one: its checksum goes with it.
    pub(super) fn copy_message(
        &mut self,
        segment: &Segment,
        row: &Row,
    ) -> sled::Result<io::Result<(Record, Said)>> {
        let mut body = vec![0; row.place.body as usize];
        match read_exact_at(&*segment.file, &mut body, row.place.body_at) {
            Ok(()) => self.full_record(row, body.into(), row.place.crc),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The full record of a message with this body, on its way to the journal.
    pub(super) fn full_record(
        &mut self,
        row: &Row,
        body: Bytes,
        body_crc: u32,
    ) -> sled::Result<io::Result<(Record, Said)>> {
        let copied = Copied {
            facts: Arc::clone(&row.facts),
            standing: row.standing.clone(),
            homes: self.grave(row).homes,
            file: row.place.file,
        };
        let (id, spool) = (row.facts.id, Arc::clone(&self.spool));
        let record = match Record::with_body(Kind::Copy, id, &copied, body, 0) {
            Ok(record) => record.accepted_as(body_crc),
            Err(error) => return Ok(Err(io::Error::other(error))),
        };
        if let Some(row) = &mut self.rows.slot(id)?.row {
            row.homes.retain(|home| spool.segment(*home).is_some());
        }
        self.pend(id)?;
        Ok(Ok((record, Said::Own(Vec::new()))))
    }

    pub(super) fn submit_copies(&mut self, records: Vec<(Record, Said)>) {
        if records.is_empty() {
            return;
        }
        self.compaction.copies += records.len();
        self.compaction.waits = true;
        self.spool.inbox.submit(Request { records, essential: true, done: Box::new(drop) });
        failpoint::pass(Failpoint::CompactCopied);
    }

    /// Nothing lives in the segment any more: removes it as soon as sled needs nothing of it either.
    fn remove(&mut self, work: Work) -> sled::Result<()> {
        // What was salvaged was found by the index, which does not know where messages lay that have ended.
        if work.damaged && self.rows.any_ending() {
            self.compaction.waits = true;
            return Ok(());
        }
        if !self.rows.pass(work.segment, self.end, ROWS)? {
            self.compaction.waits = self.rows.blocked();
            return Ok(());
        }
        failpoint::pass(Failpoint::CompactPassed);
        let gone = match work.damaged {
            false => self.spool.remove_segment(work.segment),
            true => self.spool.set_aside(work.segment),
        };
        if let Err(error) = gone {
            return self.stop(work.segment, &error);
        }
        failpoint::pass(Failpoint::CompactGone);
        self.usage.forget(work.segment);
        self.compaction.work = None;
        tracing::debug!(segment = work.segment, damaged = work.damaged, "a segment of the spool went");
        Ok(())
    }

    /// Segments go in their order, so what keeps one keeps all behind it.
    fn stop(&mut self, segment: u32, error: &io::Error) -> sled::Result<()> {
        tracing::error!(segment, %error, "a segment of the spool cannot be removed: the spool grows from here on");
        self.compaction.stopped = true;
        Ok(())
    }

    /// Removes bodies that no message has: their messages ended, or were never accepted. Where records are damaged
    /// they stay: a body may be all that is left of a message.
    pub(super) fn remove_orphans(&self, bodies: Vec<Id>) -> sled::Result<()> {
        if self.spool.is_damaged() || self.rows.tree().read().contains_key(keys::DAMAGED)? {
            return Ok(());
        }
        for id in bodies {
            if self.rows.look(id)?.is_none() {
                drop(self.spool.disk.remove(&self.spool.body_path(id)));
            }
        }
        Ok(())
    }
}

/// Looks at so many records. Damage is an error: what a scan cannot find may still be known to the index.
fn piece(segment: &Segment, number: u32, from: u64) -> io::Result<Piece> {
    let mut scan = Scan::sparse(&*segment.file, number, from)?;
    let mut found = Vec::new();
    for _ in 0..PIECE {
        match scan.next()? {
            Step::Record(record) => {
                let offset = record.offset;
                found.extend(thing(record)?.map(|thing| (thing, offset)));
            }
            Step::End { torn: false, at } if !segment.is_short(at) => return Ok((found, None)),
            Step::Bad { from: at } | Step::End { at, .. } => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("damaged at {at}")));
            }
        }
    }
    Ok((found, Some(scan.offset())))
}

fn thing(found: Found) -> io::Result<Option<Thing>> {
    Ok(match found.header.kind {
        Kind::Accept | Kind::Copy => Some(Thing::Message(found.header.id)),
        Kind::Memo => Some(Thing::Memo(postcard::from_bytes(&found.payload).map_err(io::Error::other)?)),
        Kind::Schema | Kind::Stand | Kind::Note | Kind::Done | Kind::Mark | Kind::Forwarded => None,
    })
}
