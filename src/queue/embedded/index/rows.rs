//! Every message of the queue: what changed lately in memory, the rest in sled.
//!
//! Changes gather in memory and go to sled oldest first once there are many, or when nothing else is to be done. Most mail
//! is delivered before its turn to be written comes, and then never touches sled. `applied` says up to where the journal
//! is contained in sled; a restart replays from there. Per message, keys are written in the order due keys, row, stale
//! due keys: whatever prefix of the writes a killed process leaves behind, no open leg is without its due key.
//!
//! Keys: `m` id chunk → the row, cut into pieces; `d` (held: `h`) lane tenant 0 destination 0 due id leg → nothing; `o` id → nothing,
//! for messages with owed failures; `p` mark id → nothing, for messages that may be superseded; `k` key → where a memo lies; `applied`, `sizes`, `boot`, `broken`, `live`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::record::Position;
use super::keys::{self, due_key, owed_key};
use super::lanes::{Item, LOAD, Loaded, StreamKey};
use super::row::{Row, row_key};
use super::supersede::{self, mark_key};
use super::tree::{Site, Tree};
use crate::failpoint::{self, Failpoint};
use crate::mail::id::Id;

/// sled keeps small values well and large ones badly: a row is cut into pieces of this size.
const PIECE: usize = 3000;
/// Changed messages kept in memory before the oldest is written to sled.
const DIRTY_MAX: usize = 8192;
/// About how many octets of them.
const DIRTY_OCTETS: usize = 24 << 20;
/// Writes of rows between two writes of `applied`.
const APPLIED_EVERY: usize = 256;

/// A message in memory.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None`: it has ended.
    pub(super) row: Option<Row>,
    /// Records on their way to the journal. Until they are there, sled must not know what they say.
    pub(super) pending: u32,
    /// Pieces of it in sled; 0: none.
    pieces: u16,
    /// Due keys of it in sled.
    dues: Vec<(StreamKey, Item)>,
    owed_key: bool,
    /// What leads to it as mail that may be superseded, and whether that is in sled.
    marks: Vec<u64>,
    marked: bool,
    dirty: bool,
    size: usize,
}

impl Slot {
    fn is_ending(&self) -> bool {
        self.row.is_none() && self.pending > 0
    }
}

/// The rows.
pub(super) struct Rows {
    tree: Tree,
    slots: BTreeMap<Id, Slot>,
    /// Dirty slots in the order in which they became so, with the journal's end as it was then.
    order: VecDeque<(Id, Position)>,
    octets: usize,
    /// The marks of changed messages: those that are written have theirs in sled.
    marks: BTreeSet<(u64, Id)>,
    since_applied: usize,
}

impl Rows {
    /// Opens sled's directory.
    pub(super) fn open(site: Site) -> sled::Result<Self> {
        let (tree, slots, order) = (Tree::open(site)?, BTreeMap::new(), VecDeque::new());
        Ok(Self { tree, slots, order, octets: 0, marks: BTreeSet::new(), since_applied: 0 })
    }

    /// The tree, for what is not about one message.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes sled's files smaller where they have grown too large, a little at a time.
    pub(super) fn renew(&mut self, spare: &dyn Fn() -> u64) {
        self.tree.renew(spare);
    }

    /// A message as it stands; brought into memory if it is not there. An absent one gives an empty slot.
    pub(super) fn slot(&mut self, id: Id) -> sled::Result<&mut Slot> {
        if !self.slots.contains_key(&id) {
            let slot = self.read(id)?.map(clean).unwrap_or_default();
            self.octets += slot.size;
            self.slots.insert(id, slot);
        }
        Ok(self.slots.entry(id).or_default())
    }

    /// A message as it stands, left where it is.
    pub(super) fn look(&self, id: Id) -> sled::Result<Option<Row>> {
        match self.slots.get(&id) {
            Some(slot) => Ok(slot.row.clone()),
            None => Ok(self.read(id)?.map(|(row, _)| row)),
        }
    }

    fn read(&self, id: Id) -> sled::Result<Option<(Row, u16)>> {
        let mut octets = Vec::new();
        let mut pieces = 0;
        for piece in self.tree.read().scan_prefix(row_key(id)) {
            octets.extend_from_slice(&piece?.1);
            pieces += 1;
        }
        if pieces == 0 {
            return Ok(None);
        }
        let row = Row::decode(&octets).ok_or_else(|| doubt("a row cannot be read"))?;
        Ok(Some((row, pieces)))
    }

    /// Notes that a slot was changed; `end` is how far the journal was applied before the change.
    pub(super) fn touch(&mut self, id: Id, end: Position) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let size = slot.row.as_ref().map_or(100, Row::size);
        self.octets = self.octets.saturating_sub(slot.size) + size;
        slot.size = size;
        if let Some(row) = slot.row.as_ref().filter(|_| slot.marks.is_empty()) {
            slot.marks = supersede::marks(&row.facts);
        }
        if !slot.dirty {
            slot.dirty = true;
            self.order.push_back((id, end));
        }
        self.marks.extend(slot.marks.iter().map(|mark| (*mark, id)));
    }

    /// Messages that bear this mark, at most so many; those that have ended do not count, though their marks are still there.
    pub(super) fn marked(&self, mark: u64, most: usize) -> sled::Result<Vec<Id>> {
        let [first, end] = [[0; 16], [0xff; 16]].map(|octets| (mark, Id::from_bytes(octets)));
        let lives = |id: &Id| self.slots.get(id).is_none_or(|slot| slot.row.is_some());
        let fresh = self.marks.range(first..=end).map(|(_, id)| *id);
        let mut ids: Vec<Id> = fresh.filter(lives).take(most).collect();
        let prefix = supersede::prefix(mark);
        let id = |key: sled::IVec| Some(Id::from_bytes(*key.get(prefix.len()..)?.first_chunk()?));
        let keys = self.tree.read().scan_prefix(&prefix).keys();
        let written = keys.filter_map(|key| key.map(id).transpose());
        let living = written.filter(|id| id.as_ref().map_or(true, lives));
        for id in living.take(most) {
            ids.push(id?);
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    fn unmark(&mut self, id: Id, slot: &Slot) {
        for mark in &slot.marks {
            self.marks.remove(&(*mark, id));
        }
    }

    /// Whether a message has ended, and the record that says so is still on its way to the journal.
    pub(super) fn is_ending(&self, id: Id) -> bool {
        self.slots.get(&id).is_some_and(Slot::is_ending)
    }

    /// Whether any has.
    pub(super) fn any_ending(&self) -> bool {
        self.slots.values().any(Slot::is_ending)
    }

    /// Forgets a slot that nothing was changed in.
    pub(super) fn rest(&mut self, id: Id) {
        if self.slots.get(&id).is_some_and(|slot| !slot.dirty && slot.pending == 0) {
            self.octets -= self.slots.remove(&id).map_or(0, |slot| slot.size);
        }
    }

    /// Puts a leg's due key into sled ahead of its row: there is no room for it in the window.
    pub(super) fn put_due(&mut self, key: &StreamKey, item: Item) -> sled::Result<()> {
        self.tree.insert(&due_key(key, &item), &[])?;
        if let Some(slot) = self.slots.get_mut(&item.id) {
            let due = (key.clone(), item);
            if !slot.dues.contains(&due) {
                slot.dues.push(due);
            }
        }
        Ok(())
    }

    /// Messages with a change that sled does not know.
    pub(super) fn unindexed(&self) -> usize {
        self.order.len()
    }

    /// Whether so much has changed that some of it should be written.
    pub(super) fn heavy(&self) -> bool {
        self.order.len() > DIRTY_MAX || self.octets > DIRTY_OCTETS
    }

    /// Whether there is any.
    pub(super) fn dirty(&self) -> bool {
        !self.order.is_empty()
    }

    /// Writes the message that was changed longest ago. False: there is none, or its records are not yet durable.
    pub(super) fn spill(&mut self, end: Position) -> sled::Result<bool> {
        let Some((id, _)) = self.order.front().copied() else { return Ok(false) };
        if self.slots.get(&id).is_some_and(|slot| slot.pending > 0) {
            return Ok(false);
        }
        self.order.pop_front();
        if let Some(slot) = self.slots.remove(&id) {
            self.octets = self.octets.saturating_sub(slot.size);
            self.unmark(id, &slot);
            write(&self.tree, id, slot)?;
            failpoint::pass(Failpoint::IndexSpilled);
        }
        self.since_applied += 1;
        if self.since_applied >= APPLIED_EVERY || self.order.is_empty() {
            self.since_applied = 0;
            self.set_applied(end)?;
        }
        Ok(true)
    }

    /// Brings sled past this segment: when this answers true, no replay after a kill begins in it or before it. Writes
    /// so many rows at most; false: there are more, or one of them is still on its way to the journal.
    pub(super) fn pass(&mut self, segment: u32, end: Position, most: usize) -> sled::Result<bool> {
        for _ in 0..most {
            if self.order.front().is_none_or(|(_, since)| since.segment > segment) {
                self.set_applied(end)?;
                self.tree.flush()?;
                return Ok(true);
            }
            if !self.spill(end)? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Whether the message that was changed longest ago is still on its way to the journal.
    pub(super) fn blocked(&self) -> bool {
        let front = self.order.front().and_then(|(id, _)| self.slots.get(id));
        front.is_some_and(|slot| slot.pending > 0)
    }

    fn set_applied(&self, end: Position) -> sled::Result<()> {
        let applied = self.order.front().map_or(end, |(_, since)| *since);
        self.tree.note_live()?;
        keys::put(&self.tree, keys::APPLIED, &applied)
    }

    /// The next legs of a stream on disk, from this one on, and where the rest begins. Keys that no longer say the truth
    /// are taken away.
    pub(super) fn load(
        &self,
        key: &StreamKey,
        from: Item,
        skip: &dyn Fn(&Item) -> bool,
    ) -> sled::Result<Loaded> {
        let mut items = Vec::new();
        let prefix = keys::stream_prefix(key);
        for (seen, entry) in self.tree.read().range(due_key(key, &from)..).enumerate() {
            let entry = entry?.0;
            let Some(item) = entry.strip_prefix(prefix.as_slice()).and_then(keys::item) else { break };
            if seen >= LOAD {
                return Ok((items, Some(item)));
            }
            if skip(&item) {
                continue;
            }
            if self.waits(key, &item)? {
                items.push(item);
            } else {
                self.tree.remove(&entry)?;
            }
        }
        Ok((items, None))
    }

    fn waits(&self, key: &StreamKey, item: &Item) -> sled::Result<bool> {
        let waits = |row: &Row| row.leg(item.leg).is_some_and(|leg| row.turn(leg) == (key.clone(), *item));
        match self.slots.get(&item.id) {
            Some(slot) => Ok(slot.row.as_ref().is_some_and(waits)),
            None => Ok(self.read(item.id)?.is_some_and(|(row, _)| waits(&row))),
        }
    }

    /// Messages with ids from this one on, in order, and where to go on; `None`: these were all. Of the ids that sled has so
    /// many are looked at, and those of messages that have ended since do not count.
    pub(super) fn range(&self, from: Id, most: usize) -> sled::Result<(Vec<Row>, Option<Id>)> {
        let ids = keys::ids(self.tree.read(), b'm', from, most)?;
        let next = ids.last().filter(|_| ids.len() >= most).copied().and_then(keys::successor);
        Ok((self.merge(from, ids, most, |_| true)?, next))
    }

    /// Messages that have owed failures, oldest first, at most so many.
    pub(super) fn owing(&self, most: usize) -> sled::Result<Vec<Row>> {
        let mut from = Id::from_bytes([0; 16]);
        let mut rows = Vec::new();
        loop {
            let ids = keys::ids(self.tree.read(), b'o', from, most)?;
            let last = ids.last().copied().filter(|_| ids.len() >= most);
            rows.extend(self.merge(from, ids, most, |row| !row.standing.owed.is_empty())?);
            match last.and_then(keys::successor).filter(|_| rows.len() < most) {
                Some(next) => from = next,
                None => return Ok(rows),
            }
        }
    }

    /// What sled has among these ids and what memory has from `from` on, up to the last of the ids if there may be more.
    fn merge(
        &self,
        from: Id,
        mut ids: Vec<Id>,
        most: usize,
        want: impl Fn(&Row) -> bool,
    ) -> sled::Result<Vec<Row>> {
        let last = ids.last().copied().filter(|_| ids.len() >= most);
        let fresh = self.slots.range(from..).map(|(id, _)| *id);
        ids.extend(fresh.take_while(|id| last.is_none_or(|last| *id <= last)));
        ids.sort_unstable();
        ids.dedup();
        let mut rows = Vec::new();
        for id in ids {
            rows.extend(self.look(id)?.filter(&want));
        }
        Ok(rows)
    }
}

/// An error that means: rebuild.
pub(super) fn doubt(what: &str) -> sled::Error {
    sled::Error::Unsupported(what.to_owned())
}

fn clean((row, pieces): (Row, u16)) -> Slot {
    let dues = row.standing.legs.iter().map(|leg| row.turn(leg)).collect();
    let (owed_key, size) = (!row.standing.owed.is_empty(), row.size());
    let marks = supersede::marks(&row.facts);
    let marked = !marks.is_empty();
    Slot { row: Some(row), pieces, dues, owed_key, marks, marked, size, ..Slot::default() }
}

fn write(db: &Tree, id: Id, slot: Slot) -> sled::Result<()> {
    let Some(row) = slot.row else { return erase(db, id, &slot) };
    let dues: Vec<_> = row.standing.legs.iter().map(|leg| row.turn(leg)).collect();
    for (key, item) in dues.iter().filter(|due| !slot.dues.contains(due)) {
        db.insert(&due_key(key, item), &[])?;
    }
    let owes = !row.standing.owed.is_empty();
    if owes && !slot.owed_key {
        db.insert(&owed_key(id), &[])?;
    }
    for mark in slot.marks.iter().filter(|_| !slot.marked) {
        db.insert(&mark_key(*mark, id), &[])?;
    }
    let octets = row.encode().ok_or_else(|| doubt("a row cannot be written"))?;
    let mut pieces = 0u16;
    for piece in octets.chunks(PIECE) {
        db.insert(&keys::piece_key(id, pieces), piece)?;
        pieces = pieces.saturating_add(1);
    }
    for piece in pieces..slot.pieces {
        db.remove(&keys::piece_key(id, piece))?;
    }
    for (key, item) in slot.dues.iter().filter(|due| !dues.contains(due)) {
        db.remove(&due_key(key, item))?;
    }
    if slot.owed_key && !owes {
        db.remove(&owed_key(id))?;
    }
    Ok(())
}

fn erase(db: &Tree, id: Id, slot: &Slot) -> sled::Result<()> {
    for piece in (0..slot.pieces).rev() {
        db.remove(&keys::piece_key(id, piece))?;
    }
    for (key, item) in &slot.dues {
        db.remove(&due_key(key, item))?;
    }
    if slot.owed_key {
        db.remove(&owed_key(id))?;
    }
    for mark in slot.marks.iter().filter(|_| slot.marked) {
        db.remove(&mark_key(*mark, id))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
