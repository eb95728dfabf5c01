//! What the journal says, taken in: records just made durable, and, after a start, records read back.

use std::sync::Arc;

use super::super::inbox::{Done, Request};
use super::super::record::{
    AGAIN, ALONE, Accepted, AcceptedRef, BodyFile, Copied, Grave, Header, Kind, MemoHead, Note, Position,
    Record, Standing,
};
use super::super::spool::{Entered, Fed, Said};
use super::Reply;
use super::desk::Desk;
use super::keys;
use super::row::{Place, Row};
use super::rows::doubt;
use crate::failpoint::{self, Failpoint};
use crate::mail::id::Id;
use crate::queue::store::{Accept, StoreError};

impl Desk {
    /// Takes in what became durable.
    pub(super) fn take_in(&mut self, fed: Vec<Fed>, end: Position) -> sled::Result<()> {
        let records = fed.len();
        let mut fresh = false;
        for Fed { at, header, said } in fed {
            match said {
                Said::Accept(accept, file, graves) => {
                    fresh = true;
                    self.accepted(at, &header, *accept, file)?;
                    graves.iter().for_each(|grave| self.usage.bury(at.segment, header.length(), grave));
                }
                Said::Own(graves) => {
                    self.own(at, &header)?;
                    graves.iter().for_each(|grave| self.usage.bury(at.segment, header.length(), grave));
                }
                Said::Memo(head, moved) => self.memo_durable(at, &header, (&head, moved))?,
            }
        }
        self.end = end;
        failpoint::pass(Failpoint::IndexTaken);
        self.unpaid += records;
        self.compaction.look();
        if fresh {
            self.nudge.notify_one();
        }
        Ok(())
    }

    fn accepted(
        &mut self,
        at: Position,
        header: &Header,
        entered: Entered,
        file: Option<BodyFile>,
    ) -> sled::Result<()> {
        let Entered { facts, legs, held, tells } = entered;
        let place = Place::new(at, header, file);
        let row = Row::accepted(at, place, facts, legs, held.as_ref());
        self.change(header.id, &[], |old| *old = Some(row))?;
        for id in told_messages(&tells) {
            self.arrived(id, |row| row.noted(at, header.length()))?;
        }
        Ok(())
    }

    /// A record of ours is durable: the row has known what it says since it was decided.
    fn own(&mut self, at: Position, header: &Header) -> sled::Result<()> {
        let length = header.length();
        if header.kind == Kind::Copy {
            self.compaction.copied();
        }
        self.arrived(header.id, |row| match header.kind {
            Kind::Copy => row.moved(at, Place::new(at, header, row.place.file)),
            Kind::Stand => row.stood(at, length),
            Kind::Note => row.noted(at, length),
            Kind::Schema | Kind::Accept | Kind::Done | Kind::Mark | Kind::Forwarded | Kind::Memo => {}
        })
    }

    fn arrived(&mut self, id: Id, change: impl FnOnce(&mut Row)) -> sled::Result<()> {
        self.change(id, &[], |row| row.as_mut().map(change))?;
        let slot = self.rows.slot(id)?;
        slot.pending = slot.pending.saturating_sub(1);
        Ok(())
    }

    /// Accepts a message that tells of failures: they stop being owed in the record that accepts it.
    pub(super) fn tell(
        &mut self,
        accept: Arc<Accept>,
        file: Option<BodyFile>,
        done: Done,
    ) -> sled::Result<()> {
        let (mut ended, mut files) = (Vec::new(), Vec::new());
        for id in told_messages(&accept.tells) {
            let filed = self.rows.look(id)?.is_some_and(|row| row.place.file.is_some());
            let grave = self.end_owed(id, &accept.tells)?;
            files.extend((filed && grave.is_some()).then_some(id));
            ended.extend(grave);
            self.pend(id)?;
        }
        let (body, crc) = inline(&accept, file);
        let payload = AcceptedRef::new(&accept, &ended, file);
        let record = Record::with_body(Kind::Accept, accept.message.facts.id, &payload, body, crc)
            .map_err(|_| doubt("a notification cannot be written"))?;
        let said = Said::Accept(Entered::new(&accept), file, ended);
        let spool = Arc::clone(&self.spool);
        let done = Box::new(move |durable: Result<(), StoreError>| {
            if durable.is_ok() {
                files.into_iter().for_each(|id| drop(spool.disk.remove(&spool.body_path(id))));
            }
            done(durable);
        });
        self.spool.inbox.submit(Request { records: vec![(record, said)], essential: true, done });
        Ok(())
    }

    /// Takes away what is owed of a message; answers its grave if it ends by that.
    fn end_owed(&mut self, id: Id, tells: &[(Id, u16)]) -> sled::Result<Option<Grave>> {
        let grave = self.rows.slot(id)?.row.take().map(|row| {
            let grave = row.grave(|segment| self.spool.segment(segment).is_some());
            (grave, row)
        });
        let Some((grave, row)) = grave else { return Ok(None) };
        self.rows.slot(id)?.row = Some(row);
        let told = tells.iter().filter(|(told, _)| *told == id).map(|(_, rcpt)| *rcpt);
        let (_, ended) = self.change(id, &[], |row| {
            if let Some(row) = row {
                told.for_each(|rcpt| row.told(rcpt));
            }
        })?;
        Ok(ended.then_some(grave))
    }

    /// `Store::waive`.
    pub(super) fn waive(&mut self, owed: &[(Id, u16)], reply: Reply<()>) -> sled::Result<()> {
        let mut records = Vec::new();
        let mut files = Vec::new();
        for id in told_messages(owed) {
            let Some(file) = self.rows.look(id)?.map(|row| row.place.file.is_some()) else { continue };
            let grave = self.end_owed(id, owed)?;
            let standing =
                self.rows.slot(id)?.row.as_ref().map(|row| row.standing.clone()).unwrap_or_default();
            self.pend(id)?;
            files.extend((file && grave.is_some()).then_some(id));
            let record = match &grave {
                Some(grave) => Record::new(Kind::Done, id, grave),
                None => Record::new(Kind::Stand, id, &standing),
            };
            let said = Said::Own(grave.into_iter().collect());
            records.push((record.map_err(|_| doubt("a waiver cannot be written"))?, said));
        }
        self.submit(records, files, (), reply);
        Ok(())
    }

    /// Takes in a record that was read back. What a row already knows is passed over, so replaying twice changes nothing.
    pub(super) fn replay(&mut self, at: Position, header: &Header, payload: &[u8]) -> sled::Result<()> {
        let id = header.id;
        let taken = match header.kind {
            Kind::Accept => postcard::from_bytes(payload).map(|it| self.replay_accept(at, header, it)),
            Kind::Copy => postcard::from_bytes::<Copied>(payload).map(|it| self.replay_copy(at, header, it)),
            Kind::Stand => postcard::from_bytes::<Standing>(payload).map(|standing| {
                self.advance(id, at, |row| {
                    row.standing = standing;
                    row.stood(at, header.length());
                })
            }),
            Kind::Note => postcard::from_bytes::<Note>(payload).map(|note| {
                self.advance(id, at, |row| {
                    row.note(note);
                    row.noted(at, header.length());
                })
            }),
            Kind::Done => {
                postcard::from_bytes::<Grave>(payload).map(|grave| self.replay_done(at, header, &grave))
            }
            Kind::Memo => {
                postcard::from_bytes::<MemoHead>(payload).map(|head| self.memo_at(at, header, &head))
            }
            Kind::Schema | Kind::Mark | Kind::Forwarded => Ok(Ok(())),
        };
        taken.unwrap_or_else(|_| self.quarantine(at, "its payload cannot be read"))
    }

    fn replay_accept(&mut self, at: Position, header: &Header, accepted: Accepted) -> sled::Result<()> {
        let Accepted { facts, legs, held, tells, ended, file } = accepted;
        let known = self.rows.slot(header.id)?.row.as_ref().map(|row| row.at);
        if known.is_some_and(|known| known < at) && header.flags & AGAIN == 0 {
            return self.quarantine(at, "its id was seen before");
        }
        let place = Place::new(at, header, file);
        let row = Row::accepted(at, place, Arc::new(facts), legs, held.as_ref());
        self.renew(header.id, at, |old| *old = Some(row))?;
        for (id, rcpt) in tells {
            self.advance(id, at, |row| row.told(rcpt))?;
        }
        // Another word on which their ends rest may be lost: those of whom nothing is left end by what was told of them.
        let ended = if header.flags & ALONE == 0 { ended } else { Vec::new() };
        for grave in ended {
            self.renew(grave.id, at, |row| *row = None)?;
            self.usage.bury(at.segment, header.length(), &grave);
        }
        Ok(())
    }

    /// Standing alone, a copy counts only where the message is not to be had without it: the original is there until the copy
    /// is durable, with every word that is.
    fn replay_copy(&mut self, at: Position, header: &Header, copied: Copied) -> sled::Result<()> {
        let place = Place::new(at, header, copied.file);
        let spool = Arc::clone(&self.spool);
        let there =
            |at: Position| spool.segment(at.segment).is_some_and(|its| u64::from(at.offset) < its.size);
        let alone = header.flags & ALONE != 0;
        self.renew(header.id, at, |row| {
            if !(alone && row.as_ref().is_some_and(|row| there(row.place.at))) {
                *row = Some(Row::copied(at, place, copied));
            }
        })
    }

    fn replay_done(&mut self, at: Position, header: &Header, grave: &Grave) -> sled::Result<()> {
        self.renew(header.id, at, |row| *row = None)?;
        self.usage.bury(at.segment, header.length(), grave);
        Ok(())
    }

    /// Changes a row that does not know of this record yet.
    fn advance(&mut self, id: Id, at: Position, change: impl FnOnce(&mut Row)) -> sled::Result<()> {
        self.renew(id, at, |row| {
            if let Some(row) = row {
                change(row);
            }
        })
    }

    fn renew(&mut self, id: Id, at: Position, change: impl FnOnce(&mut Option<Row>)) -> sled::Result<()> {
        let known = self.rows.slot(id)?.row.as_ref().map(|row| row.at);
        if known.is_none_or(|known| known < at) {
            self.change(id, &[], change)?;
        } else {
            self.rows.rest(id);
        }
        Ok(())
    }

    /// Counts a damaged record. sled keeps that there was one: a later start begins behind it.
    pub(super) fn quarantine(&self, at: Position, why: &str) -> sled::Result<()> {
        self.spool.quarantined.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (segment, offset) = (at.segment, at.offset);
        tracing::error!(segment, offset, why, "a record of the spool is damaged; the rest goes on");
        let tree = self.rows.tree();
        let mut segments: Vec<u32> = keys::take(tree, keys::DAMAGED)?.unwrap_or_default();
        if segments.contains(&segment) {
            return Ok(());
        }
        segments.push(segment);
        keys::put(tree, keys::DAMAGED, &segments)
    }
}

/// The messages among these, each once.
fn told_messages(tells: &[(Id, u16)]) -> Vec<Id> {
    let mut ids: Vec<Id> = tells.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The octets that go into the journal itself, and their checksum.
pub(in super::super) fn inline(accept: &Accept, file: Option<BodyFile>) -> (bytes::Bytes, u32) {
    match file {
        Some(_) => (bytes::Bytes::new(), 0),
        None => (accept.message.body.clone(), crc32c::crc32c(&accept.message.body)),
    }
}
