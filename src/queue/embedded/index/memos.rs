//! Memos. The last record of a key is what is remembered under it; sled keeps only where it lies. Values may be 64 KiB and
//! sled keeps large ones badly, the journal has them anyway, and what is asked for by prefix at a start is then read by
//! the threads that read bodies, not by the one that owns the index.
//!
//! sled learns of a memo the moment it is durable, so there is nothing to spill. It may know more than `applied` says:
//! replay then takes the same steps again and ends at the same word. A forgotten key needs no grave: segments go oldest
//! first, so the word that it is forgotten goes after everything that it forgets.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;

use super::super::record::{Header, Kind, MemoHead, Position, Record};
use super::super::spool::{Said, Segment};
use super::Reply;
use super::desk::Desk;
use super::keys::{self, memo_key};
use super::row::Place;
use super::rows::doubt;
use crate::fsx::read_exact_at;
use crate::mail::id::Id;
use crate::queue::store::{Memo, StoreError};

/// How many records of each key are on their way to the journal.
#[derive(Debug, Default)]
pub(super) struct Pending(HashMap<String, u32>);

impl Pending {
    fn add(&mut self, key: &str) {
        *self.0.entry(key.to_owned()).or_default() += 1;
    }

    fn take(&mut self, key: &str) {
        let left = self.0.get(key).copied().unwrap_or_default().saturating_sub(1);
        if left == 0 {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), left);
        }
    }
}

/// What compaction is to do with a memo's record.
pub(super) enum Fate {
    /// It is not the last word on its key.
    Dead,
    /// A later word on its key is on its way, and not durable yet.
    Waits,
    /// It must stand elsewhere before its segment goes.
    Lives(Place),
}

impl Desk {
    /// `Store::remember`.
    pub(super) fn remember(&mut self, memos: Vec<Memo>, reply: Reply<()>) -> sled::Result<()> {
        // Asked here and not of the committer: what it is given here will be durable, or the store has failed.
        if !self.spool.has_room() {
            let error = StoreError::Full("the disk is below its reserve".into());
            drop(reply.send(Err(error)));
            return Ok(());
        }
        let mut records = Vec::with_capacity(memos.len());
        for Memo { key, value } in memos {
            let head = MemoHead { key, kept: value.is_some() };
            let record = self.memo(head, value.unwrap_or_default().into(), false);
            records.push(record.map_err(|_| doubt("a memo cannot be written"))?);
        }
        self.submit(records, Vec::new(), (), reply);
        Ok(())
    }

    /// A memo's record, on its way from here on.
    fn memo(&mut self, head: MemoHead, value: Bytes, moved: bool) -> io::Result<(Record, Said)> {
        let (id, crc) = (Id::from_bytes([0; 16]), crc32c::crc32c(&value));
        let record = Record::with_body(Kind::Memo, id, &head, value, crc).map_err(io::Error::other)?;
        self.memos.add(&head.key);
        Ok((record, Said::Memo(head, moved)))
    }

    /// A memo is durable.
    pub(super) fn memo_durable(
        &mut self,
        at: Position,
        header: &Header,
        (head, moved): (&MemoHead, bool),
    ) -> sled::Result<()> {
        if moved {
            self.compaction.copied();
        }
        self.memos.take(&head.key);
        self.memo_at(at, header, head)
    }

    /// The last word on a memo lies here.
    pub(super) fn memo_at(&mut self, at: Position, header: &Header, head: &MemoHead) -> sled::Result<()> {
        let (key, tree) = (memo_key(&head.key), self.rows.tree());
        if let Some(old) = keys::take::<Place>(tree, &key)? {
            self.usage.take(old.at.segment, old.length);
        }
        if head.kept {
            let place = Place::new(at, header, None);
            self.usage.put(place.at.segment, place.length);
            keys::put(tree, &key, &place)
        } else {
            tree.remove(&key)
        }
    }

    /// Where the memos lie whose keys begin like this, sorted by key.
    pub(super) fn recall(&self, prefix: &str) -> sled::Result<Vec<(String, Place)>> {
        let mut found = Vec::new();
        for entry in self.rows.tree().read().scan_prefix(memo_key(prefix)) {
            let (key, place) = entry?;
            let key = key.get(1..).and_then(|key| std::str::from_utf8(key).ok());
            let key = key.ok_or_else(|| doubt("a memo's key cannot be read"))?.to_owned();
            let place = postcard::from_bytes(&place).map_err(|_| doubt("a memo's place cannot be read"))?;
            found.push((key, place));
        }
        Ok(found)
    }

    /// Counts what the memos use of the journal.
    pub(super) fn count_memos(&mut self) -> sled::Result<()> {
        for (_, place) in self.recall("")? {
            self.usage.put(place.at.segment, place.length);
        }
        Ok(())
    }

    /// What becomes of the memo at this position when its segment goes.
    pub(super) fn memo_fate(&self, at: Position, head: &MemoHead) -> sled::Result<Fate> {
        let place = keys::take::<Place>(self.rows.tree(), &memo_key(&head.key))?;
        Ok(match place.filter(|place| place.at == at) {
            None => Fate::Dead,
            // A copy now would stand behind that later word and take its place.
            Some(_) if self.memos.0.contains_key(&head.key) => Fate::Waits,
            Some(place) => Fate::Lives(place),
        })
    }

    /// A memo's value cannot be read, and its segment goes: it is forgotten.
    pub(super) fn memo_lost(&mut self, head: &MemoHead, error: &io::Error) -> sled::Result<()> {
        self.spool.quarantined.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::error!(key = head.key, %error, "a memo cannot be read from a damaged segment");
        self.rows.tree().remove(&memo_key(&head.key))
    }

    /// The same memo, to be written anew. A damaged value stays one: its checksum goes with it.
    pub(super) fn copy_memo(
        &mut self,
        segment: &Segment,
        head: MemoHead,
        place: &Place,
    ) -> io::Result<(Record, Said)> {
        let mut value = vec![0; place.body as usize];
        read_exact_at(&*segment.file, &mut value, place.body_at)?;
        let (record, said) = self.memo(head, value.into(), true)?;
        Ok((record.accepted_as(place.crc), said))
    }
}
