//! How much of each segment still matters: what compaction goes by. An estimate: correctness never rests on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::record::Grave;
use super::row::Row;

/// Octets that matter, by segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Usage {
    live: BTreeMap<u32, u64>,
    /// By segment: octets of the words there that messages have ended whose records lie in another segment.
    graves: BTreeMap<u32, BTreeMap<u32, u64>>,
}

impl Usage {
    pub(super) fn add(&mut self, row: &Row) {
        row.uses().for_each(|(segment, octets)| self.put(segment, octets));
    }

    pub(super) fn subtract(&mut self, row: &Row) {
        row.uses().for_each(|(segment, octets)| self.take(segment, octets));
    }

    /// So many octets more matter.
    pub(super) fn put(&mut self, segment: u32, octets: u64) {
        *self.live.entry(segment).or_default() += octets;
    }

    /// So many octets no longer matter.
    pub(super) fn take(&mut self, segment: u32, octets: u64) {
        let left = self.live.get(&segment).copied().unwrap_or_default().saturating_sub(octets);
        if left == 0 {
            self.live.remove(&segment);
        } else {
            self.live.insert(segment, left);
        }
    }

    /// The word that a message has ended was written into this segment.
    pub(super) fn bury(&mut self, segment: u32, length: u64, grave: &Grave) {
        for home in grave.homes.iter().filter(|home| **home != segment) {
            *self.graves.entry(segment).or_default().entry(*home).or_default() += length;
        }
    }

    /// What matters of one segment.
    pub(super) fn live_in(&self, segment: u32) -> u64 {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    /// A segment has gone.
    pub(super) fn forget(&mut self, segment: u32) {
        self.live.remove(&segment);
        self.graves.remove(&segment);
        self.graves.retain(|_, homes| {
            homes.remove(&segment);
            !homes.is_empty()
        });
    }

    /// All that matters.
    pub(super) fn live(&self) -> u64 {
        self.live.values().sum()
    }

    /// Forgets what rows and memos use, to count it anew.
    pub(super) fn recount(&mut self) {
        self.live.clear();
    }
}
