//! The committer: the one thread that writes the journal. While one group is being synced the next one gathers; there is
//! no timer. One write, one sync, then everybody is answered. After a failed write or sync nothing is tried again:
//! the kernel may have dropped what it could not write and report the next sync as good.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::store::StoreError;
use super::inbox::Request;
use super::record::{FIRST, FORMAT, HEADER, Kind, Origin, Position, Record, Schema};
use super::spool::{Fed, Segment, Spool};
use crate::failpoint::{self, Failpoint};
use crate::fsx::DiskFile;
use crate::mail::id::Id;

/// Octets after which a group is closed: a bound for the time that the first in it waits.
const GROUP_MAX: u64 = 8 << 20;

/// The segment that is being written.
pub(super) struct Head {
    number: u32,
    nonce: u64,
    file: Arc<dyn DiskFile>,
    offset: u64,
    /// Where the segment before it ended.
    previous: u64,

    /// The directory entry is not synced yet.
    fresh: bool,
}

impl Head {
    /// Makes the next segment; `previous` is where the one before it ends.
    pub(super) fn create(spool: &Spool, number: u32, previous: u64) -> io::Result<Self> {
        let file: Arc<dyn DiskFile> = Arc::from(spool.disk.create(&spool.path(number), spool.room_each)?);
        spool.add_segment(number, Segment { file: Arc::clone(&file), size: spool.room_each, end: None });
        Ok(Self { number, nonce: rand::random(), file, offset: 0, previous, fresh: true })
    }

    fn origin(&self) -> Origin {
        Origin { nonce: self.nonce, segment: self.number }
    }

    /// Where the next record goes.
    pub(super) fn end(&self) -> Position {
        Position { segment: self.number, offset: u32::try_from(self.offset).unwrap_or(u32::MAX) }
    }

    /// Whether this many octets more fit into the segment.
    fn fits(&self, spool: &Spool, octets: u64) -> bool {
        self.offset + octets + 1024 <= spool.room_each
    }

    /// Writes these records as one group and syncs them; answers where each lies.
    pub(super) fn write(&mut self, spool: &Spool, records: &mut [&mut Record]) -> io::Result<Vec<Position>> {
        let positions = self.append(records)?;
        failpoint::pass(Failpoint::CommitWritten);
        self.file.sync()?;
        failpoint::pass(Failpoint::CommitSynced);
        if std::mem::take(&mut self.fresh) {
            spool.disk.sync_dir(&spool.dir)?;
        }
        failpoint::pass(Failpoint::CommitNamed);
        spool.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(positions)
    }

    fn append(&mut self, records: &mut [&mut Record]) -> io::Result<Vec<Position>> {
        let schema = if self.offset == 0 { Some(schema(self.number, self.previous)?) } else { None };
        if let Some(first) = records.first_mut() {
            first.header.flags |= if schema.is_none() { FIRST } else { 0 };
        }
        let all: Vec<&Record> = schema.iter().chain(records.iter().map(|record| &**record)).collect();
        let mut heads = Vec::<[u8; HEADER]>::with_capacity(all.len());
        let mut at = self.offset;
        for record in &all {
            heads.push(record.header.encode(self.origin(), at));
            at += record.header.length();
        }
        let mut slices = Vec::with_capacity(all.len() * 3);
        for (head, record) in heads.iter().zip(&all) {
            let parts: [&[u8]; 3] = [head, &record.payload, &record.body];
            slices.extend(parts.into_iter().filter(|part| !part.is_empty()).map(IoSlice::new));
        }
        self.file.write_at(&mut slices, self.offset)?;
        let mut positions = Vec::with_capacity(all.len());
        for record in &all {
            positions.push(self.end());
            self.offset += record.header.length();
        }
        positions.drain(..usize::from(schema.is_some()));
        Ok(positions)
    }
}

fn schema(segment: u32, previous: u64) -> io::Result<Record> {
    let none = Id::from_bytes([0; 16]);
    let schema = Schema { format: FORMAT, segment, previous: u32::try_from(previous).unwrap_or(0) };
    let mut record = Record::new(Kind::Schema, none, &schema).map_err(io::Error::other)?;
    record.header.flags = FIRST;
    Ok(record)
}

/// A record that says nothing but that all before it was synced.
pub(super) fn bare(kind: Kind) -> io::Result<Record> {
    Record::new(kind, Id::from_bytes([0; 16]), &()).map_err(io::Error::other)
}

/// A defect in the committer ends the store like a failed disk does: nobody may wait for an answer for ever.
pub(super) fn guarded(spool: &Spool, head: Head) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(spool, head))).is_err() {
        spool.fail(&StoreError::Failed(Arc::from("a defect in the committer")));
    }
}

/// Writes groups until the store is closed or fails.
fn run(spool: &Spool, mut head: Head) {
    while let Some(group) = spool.inbox.collect(GROUP_MAX) {
        failpoint::pass(Failpoint::CommitGathered);
        let group = admit(spool, group);
        if group.is_empty() {
            continue;
        }
        if let Err((group, error)) = commit(spool, &mut head, group) {
            tracing::error!(%error, "the spool failed: nothing more is accepted, and this process must end");
            let error = StoreError::Failed(Arc::from(error.to_string()));
            spool.fail(&error);
            group.into_iter().for_each(|request| (request.done)(Err(error.clone())));
            return;
        }
    }
    // What was written is synced; the mark lets the next start know.
    let marked = bare(Kind::Mark).and_then(|mut mark| head.write(spool, &mut [&mut mark]));
    let cut = marked.and_then(|_| head.file.cut(head.offset));
    if let Err(error) = cut {
        tracing::warn!(%error, "the spool could not be closed tidily; nothing is lost");
    }
}

/// Turns away new mail while the disk is below its reserve.
fn admit(spool: &Spool, group: Vec<Request>) -> Vec<Request> {
    let room = spool.look_for_room();
    if matches!(room, Ok(true)) {
        return group;
    }
    let why =
        room.err().map_or_else(|| "the disk is below its reserve".to_owned(), |error| error.to_string());
    let (keep, refuse): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| request.essential);
    let error = StoreError::Full(Arc::from(why));
    refuse.into_iter().for_each(|request| (request.done)(Err(error.clone())));
    keep
}

/// Writes and syncs a group, tells the index, answers everybody.
fn commit(spool: &Spool, head: &mut Head, mut group: Vec<Request>) -> Result<(), (Vec<Request>, io::Error)> {
    let octets = group.iter().flat_map(|request| &request.records).map(|(record, _)| record.header.length());
    if !head.fits(spool, octets.sum()) {
        match roll(spool, head) {
            Ok(next) => *head = next,
            Err(error) => group = full(group, error)?,
        }
    }
    let mut records: Vec<_> =
        group.iter_mut().flat_map(|request| &mut request.records).map(|(record, _)| record).collect();
    if records.is_empty() {
        group.into_iter().for_each(|request| (request.done)(Ok(())));
        return Ok(());
    }
    let positions = match head.write(spool, &mut records) {
        Ok(positions) => positions,
        Err(error) => return Err((group, error)),
    };
    let mut fed = Vec::with_capacity(positions.len());
    let mut dones = Vec::with_capacity(group.len());
    let mut positions = positions.into_iter();
    for request in group {
        let said = request.records.into_iter().zip(positions.by_ref());
        fed.extend(said.map(|((record, said), at)| Fed { at, header: record.header, said }));
        dones.push(request.done);
    }
    spool.publish(fed, head.end());
    failpoint::pass(Failpoint::CommitPublished);
    dones.into_iter().for_each(|done| done(Ok(())));
    failpoint::pass(Failpoint::CommitAnswered);
    Ok(())
}

/// A full disk at the making of a segment has written nothing: new mail is turned away and may be tried again, but what
/// ends mail cannot wait.
fn full(group: Vec<Request>, error: io::Error) -> Result<Vec<Request>, (Vec<Request>, io::Error)> {
    let no_room = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if !no_room || group.iter().any(|request| request.essential) {
        return Err((group, error));
    }
    let refusal = StoreError::Full(Arc::from(error.to_string()));
    group.into_iter().for_each(|request| (request.done)(Err(refusal.clone())));
    Ok(Vec::new())
}

/// Closes a full segment and makes the next.
fn roll(spool: &Spool, head: &Head) -> io::Result<Head> {
    let next =
        Head::create(spool, head.number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?, head.offset)?;
    failpoint::pass(Failpoint::SegmentMade);
    // The cut only gives room back: what is left unwritten in a segment says nothing.
    let size = match head.file.cut(head.offset) {
        Ok(()) => head.offset,
        Err(error) => {
            tracing::warn!(%error, segment = head.number, "a full segment could not be cut");
            spool.room_each
        }
    };
    spool.add_segment(head.number, Segment { file: Arc::clone(&head.file), size, end: Some(head.offset) });
    failpoint::pass(Failpoint::SegmentCut);
    Ok(next)
}
