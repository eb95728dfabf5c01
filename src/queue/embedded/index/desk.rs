//! The index at work: rows, lanes, claims and sizes, changed together.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use tokio::sync::Notify;

use super::super::cache::Cache;
use super::super::inbox::Request;
use super::super::record::{Grave, Kind, Note, Position, Record};
use super::super::spool::{Said, Spool};
use super::compact::Compaction;
use super::keys;
use super::lanes::{Lanes, StreamKey};
use super::memos::Pending;
use super::row::Row;
use super::rows::{Rows, doubt};
use super::usage::Usage;
use super::verbs::Sweep;
use super::{Ask, Reply};
use crate::clock::Clock;
use crate::failpoint::{self, Failpoint};
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::queue::store::{Claimed, Settlement, Stats, StoreError, Then};

/// The index's state.
pub(in super::super) struct Desk {
    pub(super) spool: Arc<Spool>,
    pub(super) rows: Rows,
    pub(super) lanes: Lanes,
    /// Legs under way, and the slots they hold.
    pub(super) claimed: HashMap<(Id, u16), StreamKey>,
    pub(super) stats: Stats,
    pub(super) usage: Usage,
    /// How far the journal is applied.
    pub(super) end: Position,
    pub(super) clock: Clock,
    pub(super) nudge: Arc<Notify>,
    pub(super) cache: Arc<Cache>,
    pub(super) sweeps: VecDeque<Box<Sweep>>,
    /// While the journal is replayed the lanes are left alone: they are read from sled afterwards.
    pub(super) replaying: bool,
    pub(super) compaction: Compaction,
    pub(super) memos: Pending,
    /// Records taken in that the committer still counts as before the index.
    pub(super) unpaid: usize,
}

impl Desk {
    /// Does what is asked; `Close` is the caller's.
    pub(super) fn handle(&mut self, ask: Ask) -> sled::Result<()> {
        match ask {
            Ask::Fed(fed, end) => self.take_in(fed, end),
            Ask::Tell(accept, file, done) => self.tell(accept, file, done),
            Ask::Claim(now, most, reply) => {
                let claimed = self.claim(now, most)?;
                drop(reply.send(Ok(claimed)));
                Ok(())
            }
            Ask::Pace(pacing) => {
                if self.lanes.pace(&pacing) {
                    self.nudge.notify_one();
                }
                Ok(())
            }
            Ask::Settle(settlements, reply) => self.settle(&settlements, reply),
            Ask::Supersede(newer, rcpts, last, reply) => self.supersede(&newer, &rcpts, &last, reply),
            Ask::Waive(owed, reply) => self.waive(&owed, reply),
            Ask::Where(id, reply) => {
                let row = self.rows.look(id)?;
                drop(reply.send(Ok(row.map(|row| (row.facts, row.place)))));
                Ok(())
            }
            Ask::Sweep(sweep) => {
                self.sweeps.push_back(sweep);
                Ok(())
            }
            Ask::Owed(most, reply) => self.owed(most, reply),
            Ask::Remember(memos, reply) => self.remember(memos, reply),
            Ask::Recall(prefix, reply) => {
                let found = self.recall(&prefix)?;
                drop(reply.send(Ok(found)));
                Ok(())
            }
            Ask::Stats(reply) => {
                drop(reply.send(Ok(self.sizes())));
                Ok(())
            }
            Ask::Close(reply) => {
                drop(reply.send(Ok(())));
                Ok(())
            }
        }
    }

    /// Whether there is work that need not wait to be asked for.
    pub(super) fn busy(&self) -> bool {
        // Nor may this thread sleep while the committer waits for it to write.
        let owes = self.unpaid > 0 || self.rows.heavy();
        owes || !self.sweeps.is_empty() || self.rows.tree().busy() || self.compaction.busy()
    }

    /// Changes a message, and with it everything that follows from it: sizes, use of segments, turns. `freed` are its
    /// legs that were under way until now. Answers what the change answered and whether the message has ended.
    pub(super) fn change<R>(
        &mut self,
        id: Id,
        freed: &[u16],
        change: impl FnOnce(&mut Option<Row>) -> R,
    ) -> sled::Result<(R, bool)> {
        let slot = self.rows.slot(id)?;
        let mut turns = Vec::new();
        if let Some(row) = &slot.row {
            shrink(&mut self.stats, &row.weight());
            self.usage.subtract(row);
            turns = row.standing.legs.iter().map(|leg| row.turn(leg)).collect();
        }
        let out = change(&mut slot.row);
        slot.row.take_if(|row| row.ended());
        let mut fresh = Vec::new();
        if let Some(row) = &slot.row {
            grow(&mut self.stats, &row.weight());
            self.usage.add(row);
            fresh = row.standing.legs.iter().map(|leg| row.turn(leg)).collect();
        }
        let ended = slot.row.is_none();
        self.rows.touch(id, self.end);
        if !self.replaying && (turns != fresh || !freed.is_empty()) {
            for (key, item) in turns.iter().filter(|turn| !fresh.contains(turn)) {
                self.lanes.remove(key, item);
            }
            for turn in fresh.into_iter().filter(|turn| !turns.contains(turn) || freed.contains(&turn.1.leg))
            {
                if !self.claimed.contains_key(&(id, turn.1.leg)) {
                    self.enqueue(turn)?;
                }
            }
        }
        Ok((out, ended))
    }

    fn enqueue(&mut self, (key, item): (StreamKey, super::lanes::Item)) -> sled::Result<()> {
        match self.lanes.push(key.clone(), item) {
            Some(over) => self.rows.put_due(&key, over),
            None => Ok(()),
        }
    }

    /// A record about this message is on its way: until it is durable, sled must not know what it says.
    pub(super) fn pend(&mut self, id: Id) -> sled::Result<()> {
        let end = self.end;
        self.rows.slot(id)?.pending += 1;
        self.rows.touch(id, end);
        Ok(())
    }

    /// The word that a message has ended.
    pub(super) fn grave(&self, row: &Row) -> Grave {
        row.grave(|segment| self.spool.segment(segment).is_some())
    }

    fn claim(&mut self, now: Time, most: usize) -> sled::Result<Claimed> {
        let mut legs = Vec::new();
        let mut failed = None;
        while legs.len() < most {
            let (rows, claimed) = (&self.rows, &self.claimed);
            let mut load = |key: &StreamKey, from| {
                let skip = |item: &super::lanes::Item| claimed.contains_key(&(item.id, item.leg));
                rows.load(key, from, &skip).unwrap_or_else(|error| {
                    failed = Some(error);
                    (Vec::new(), None)
                })
            };
            let Some((key, item)) = self.lanes.claim(now, &mut load) else { break };
            let row = self.rows.look(item.id)?;
            let leg =
                row.as_ref().and_then(|row| row.leg(item.leg).map(|leg| (row.turn(leg), row.show(leg))));
            match leg.filter(|(turn, _)| *turn == (key.clone(), item)) {
                Some((_, leg)) => {
                    self.claimed.insert((item.id, item.leg), key);
                    legs.push(leg);
                }
                None => self.lanes.release(&key),
            }
        }
        failed.map_or(Ok(()), Err)?;
        let (next, ends) = self.lanes.next(now);
        Ok(Claimed { legs, next, ends })
    }

    /// Gives a claimed leg back; answers whether it was claimed.
    pub(super) fn unclaim(&mut self, id: Id, leg: u16) -> bool {
        let Some(key) = self.claimed.remove(&(id, leg)) else { return false };
        self.lanes.release(&key);
        true
    }

    fn settle(&mut self, settlements: &[Settlement], reply: Reply<Vec<bool>>) -> sled::Result<()> {
        let mut records = Vec::new();
        let mut ended = Vec::with_capacity(settlements.len());
        let mut files = Vec::new();
        let now = self.clock.now();
        for settlement in settlements {
            let id = settlement.id;
            let goes_on = matches!(settlement.then, Then::Continue);
            let claim = if goes_on { None } else { self.claimed.remove(&(id, settlement.leg)) };
            let freed = claim.iter().map(|_| settlement.leg).collect::<Vec<u16>>();
            let was = self.rows.look(id)?.map(|row| (self.grave(&row), row.place.file.is_some()));
            let (note, end) =
                self.change(id, &freed, |row| row.as_mut().and_then(|row| row.settle(settlement, now)))?;
            // After its leg waits again: what is known of a destination is kept while anything waits for it.
            if let Some(key) = claim {
                self.lanes.release(&key);
            }
            ended.push(end);
            let Some(note) = note else {
                self.rows.rest(id);
                continue;
            };
            if note.leg.rcpts.is_empty() {
                self.unclaim(id, settlement.leg);
            }
            if end || !goes_on {
                self.cache.remove(id);
            }
            self.pend(id)?;
            let was = was.filter(|_| end);
            files.extend(was.as_ref().filter(|(_, file)| *file).map(|_| id));
            records.push(last_word(id, was.map(|(grave, _)| grave), &note)?);
        }
        self.submit(records, files, ended, reply);
        Ok(())
    }

    /// Writes records and answers when they are durable; then the files of bodies that have ended may go.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        records: Vec<(Record, Said)>,
        files: Vec<Id>,
        answer: T,
        reply: Reply<T>,
    ) {
        if records.is_empty() {
            self.nudge.notify_one();
            drop(reply.send(Ok(answer)));
            return;
        }
        self.write(records, files, move |durable| drop(reply.send(durable.map(|()| answer))));
    }

    /// Has records written behind all that were before.
    pub(super) fn write(
        &self,
        records: Vec<(Record, Said)>,
        files: Vec<Id>,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        // In memory it has happened: what it frees can be claimed while it becomes durable.
        self.nudge.notify_one();
        let spool = Arc::clone(&self.spool);
        let done = Box::new(move |durable: Result<(), StoreError>| {
            if durable.is_ok() {
                files.into_iter().for_each(|id| drop(spool.disk.remove(&spool.body_path(id))));
            }
            done(durable);
        });
        self.spool.inbox.submit(Request { records, essential: true, done });
    }

    /// Counts a row that was not counted yet.
    pub(super) fn count(&mut self, row: &Row) {
        grow(&mut self.stats, &row.weight());
        self.usage.add(row);
    }

    /// Sizes as they are.
    pub(super) fn sizes(&self) -> Stats {
        Stats {
            active: self.claimed.len() as u64,
            unindexed: self.rows.unindexed() as u64,
            journal_bytes: self.spool.size(),
            live_bytes: self.usage.live(),
            syncs: self.spool.syncs.load(Ordering::Relaxed),
            quarantined: self.spool.quarantined.load(Ordering::Relaxed),
            set_aside: self.spool.set_aside.load(Ordering::Relaxed),
            rebuilding: false,
            ..self.stats
        }
    }

    /// Writes up to so many rows to sled. True: there may be more to write.
    pub(super) fn spill(&mut self, most: usize) -> sled::Result<bool> {
        for _ in 0..most {
            if !self.rows.spill(self.end)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where more has changed than memory is for, writes up to so many rows, and then lets in as many records as it wrote: mail
    /// waits for that before its 250, and whatever else is asked does not.
    pub(super) fn ease(&mut self, most: usize) -> sled::Result<()> {
        // What waits for its own record to be durable cannot be written, and must not hold up the committer.
        let more = self.rows.heavy() && self.spill(most)? && self.rows.heavy();
        let paid = if more { self.unpaid.min(most) } else { self.unpaid };
        self.unpaid -= paid;
        self.spool.inbox.caught_up(paid);
        Ok(())
    }

    /// Writes everything. What is still on its way to the journal arrives first.
    pub(super) fn close(&mut self, inbox: &Receiver<Ask>) -> sled::Result<()> {
        // What they have done so far is on its way; the rest is not done, and whoever asked is told that the store is closed.
        self.sweeps.clear();
        self.spool.inbox.close();
        while self.rows.dirty() {
            if self.spill(usize::MAX)? || !self.rows.dirty() {
                continue;
            }
            match inbox.recv_timeout(super::IDLE) {
                Ok(Ask::Fed(fed, end)) => self.take_in(fed, end)?,
                Ok(_) => {}
                Err(_) if self.spool.inbox.has_failed() => return Ok(()),
                Err(_) => {}
            }
        }
        while let Ok(ask) = inbox.try_recv() {
            if let Ask::Fed(fed, end) = ask {
                self.take_in(fed, end)?;
            }
        }
        self.spill(usize::MAX)?;
        failpoint::pass(Failpoint::IndexClosing);
        let tree = self.rows.tree();
        keys::put(tree, keys::APPLIED, &self.end)?;
        keys::put(tree, keys::SIZES, &(self.stats, &self.usage))?;
        tree.note_live()?;
        tree.sync()?;
        failpoint::pass(Failpoint::IndexClosed);
        Ok(())
    }
}

/// The record that says what became of a leg, or that its message has ended.
pub(super) fn last_word(id: Id, grave: Option<Grave>, note: &Note) -> sled::Result<(Record, Said)> {
    let record = match &grave {
        Some(grave) => Record::new(Kind::Done, id, grave),
        None => Record::new(Kind::Note, id, note),
    };
    Ok((record.map_err(|_| doubt("a note cannot be written"))?, Said::Own(grave.into_iter().collect())))
}

fn grow(total: &mut Stats, by: &Stats) {
    total.messages += by.messages;
    total.recipients += by.recipients;
    total.held += by.held;
    total.owed += by.owed;
}

fn shrink(total: &mut Stats, by: &Stats) {
    total.messages = total.messages.saturating_sub(by.messages);
    total.recipients = total.recipients.saturating_sub(by.recipients);
    total.held = total.held.saturating_sub(by.held);
    total.owed = total.owed.saturating_sub(by.owed);
}
