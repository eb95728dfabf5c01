//! Which older mail a delivered message supersedes. Messages that ask for it bear marks, a hash for each recipient, by which
//! they are found without a search: in sled beside their rows, and in memory while the row is there. A mark only leads to a
//! message; whether it is superseded the message itself tells. Marks follow from the facts, so a rebuilt index has them again.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};

use super::Reply;
use super::desk::{Desk, last_word};
use super::row::Row;
use crate::mail::attempt::Fate;
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind};
use crate::queue::store::{Last, Settlement, Superseded, Then};

/// Messages that bear one mark and are looked at in one call.
const LOOKED_AT: usize = 1_000;
/// First octet of a mark's key.
const FIRST: u8 = b'p';

/// The marks of a message, one a recipient; none for one that does not ask.
pub(super) fn marks(facts: &Facts) -> Vec<u64> {
    let count = if facts.asked.supersede { facts.envelope.rcpts.len() } else { 0 };
    let marks: BTreeSet<u64> = (0..count).filter_map(|rcpt| mark(facts, rcpt)).collect();
    marks.into_iter().collect()
}

/// What leads to mail of this tenant, From, class and recipient.
fn mark(facts: &Facts, rcpt: usize) -> Option<u64> {
    let class = &facts.class.as_ref()?.name;
    let (from, to) = (facts.header_from.as_ref()?, &facts.envelope.rcpts.get(rcpt)?.address);
    // No name holds a line end.
    let hash = digest(&SHA256, format!("{}\n{class}\n{from}\n{to}", facts.tenant).as_bytes());
    hash.as_ref().first_chunk().map(|first| u64::from_be_bytes(*first))
}

/// The key of a message's mark.
pub(super) fn mark_key(mark: u64, id: Id) -> Vec<u8> {
    [&prefix(mark)[..], &id.to_bytes()].concat()
}

/// What all keys of a mark begin with.
pub(super) fn prefix(mark: u64) -> Vec<u8> {
    [&[FIRST][..], &mark.to_be_bytes()].concat()
}

impl Desk {
    /// `Store::supersede`.
    pub(super) fn supersede(
        &mut self,
        newer: &Facts,
        rcpts: &[u16],
        last: &Last,
        reply: Reply<Superseded>,
    ) -> sled::Result<()> {
        let (mut out, mut records, mut files) = (Superseded::default(), Vec::new(), Vec::new());
        let now = self.clock.now();
        for (rcpt, id) in self.marked(newer, rcpts)? {
            let Some(row) = self.rows.look(id)? else { continue };
            for (leg, older) in older(&row, newer, rcpt) {
                if self.claimed.contains_key(&(id, leg)) {
                    out.busy.push((id, leg));
                    continue;
                }
                let fates = vec![(older, Fate::Failed, last.clone())];
                let settlement = Settlement { id, leg, fates, owe: true, then: Then::Continue };
                let was = self.rows.look(id)?.map(|row| (self.grave(&row), row.place.file.is_some()));
                let (note, ended) =
                    self.change(id, &[], |row| row.as_mut().and_then(|row| row.settle(&settlement, now)))?;
                let Some(note) = note else { continue };
                self.pend(id)?;
                if ended {
                    self.cache.remove(id);
                }
                let was = was.filter(|_| ended);
                files.extend(was.as_ref().filter(|(_, file)| *file).map(|_| id));
                records.push(last_word(id, was.map(|(grave, _)| grave), &note)?);
                out.ended.push((row.facts.clone(), older));
            }
        }
        self.submit(records, files, out, reply);
        Ok(())
    }

    /// The messages that bear a mark of these recipients, but the newer one itself.
    fn marked(&self, newer: &Facts, rcpts: &[u16]) -> sled::Result<Vec<(u16, Id)>> {
        let mut found = Vec::new();
        for rcpt in rcpts {
            let Some(mark) = mark(newer, usize::from(*rcpt)) else { continue };
            let ids = self.rows.marked(mark, LOOKED_AT)?;
            found.extend(ids.into_iter().filter(|id| *id != newer.id).map(|id| (*rcpt, id)));
        }
        Ok(found)
    }
}

/// The open recipients of a message, with their legs, that the newer one supersedes by this recipient of its own.
fn older(row: &Row, newer: &Facts, rcpt: u16) -> Vec<(u16, u16)> {
    let facts = &*row.facts;
    let to = newer.envelope.rcpts.get(usize::from(rcpt)).map(|rcpt| &rcpt.address);
    let class = |facts: &Facts| facts.class.as_ref().map(|class| class.name.clone());
    let same = facts.asked.supersede
        && facts.kind == Kind::Mail
        && facts.tenant == newer.tenant
        && facts.header_from == newer.header_from
        && class(facts) == class(newer)
        && facts.received < newer.received;
    let legs = row.standing.legs.iter().filter(|_| same);
    let open = legs.flat_map(|open| open.rcpts.iter().map(|older| (open.leg, *older)));
    open.filter(|(_, older)| facts.envelope.rcpts.get(usize::from(*older)).map(|rcpt| &rcpt.address) == to)
        .collect()
}
