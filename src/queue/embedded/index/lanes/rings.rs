//! Turns within a lane and between lanes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{LANES, at};

/// Turns a lane gets while all four have legs waiting, urgent first. The least gets one of 27.
const WEIGHTS: [i64; LANES] = [16, 6, 4, 1];

/// Who is ready in one lane: tenants in turn, and each one's streams in turn.
#[derive(Debug, Default)]
pub(super) struct Ring {
    order: VecDeque<Arc<str>>,
    streams: HashMap<Arc<str>, VecDeque<u64>>,
}

impl Ring {
    pub(super) fn push(&mut self, tenant: &Arc<str>, stream: u64, first: bool) {
        let streams = self.streams.entry(Arc::clone(tenant)).or_default();
        if streams.is_empty() {
            if first {
                self.order.push_front(Arc::clone(tenant))
            } else {
                self.order.push_back(Arc::clone(tenant))
            }
        }
        if first { streams.push_front(stream) } else { streams.push_back(stream) }
    }

    /// The stream whose turn it is, of the tenants that may have one; its tenant goes to the back if it has others.
    pub(super) fn pop(&mut self, may: impl Fn(&str) -> bool) -> Option<u64> {
        let turn = self.order.iter().position(|tenant| may(tenant))?;
        let tenant = self.order.remove(turn)?;
        let streams = self.streams.get_mut(&tenant)?;
        let stream = streams.pop_front();
        if streams.is_empty() {
            self.streams.remove(&tenant);
        } else {
            self.order.push_back(tenant);
        }
        stream
    }

    /// All streams, of each tenant in their order.
    pub(super) fn into_streams(self) -> impl Iterator<Item = u64> {
        self.streams.into_values().flatten()
    }

    /// Whether a tenant that may have a turn has a stream.
    pub(super) fn is_ready(&self, may: impl Fn(&str) -> bool) -> bool {
        self.order.iter().any(|tenant| may(tenant))
    }
}

/// Smooth weighted turns: over any 27 turns each of the ready gets its share, spread out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit([i64; LANES]);

impl Credit {
    pub(super) fn turn(&mut self, ready: [bool; LANES]) -> Option<usize> {
        // Where all slots are taken nobody has a turn, and nobody's share may be lost: the urgent lane would begin anew each time.
        if !ready.contains(&true) {
            return None;
        }
        let mut total = 0;
        for ((credit, weight), ready) in self.0.iter_mut().zip(WEIGHTS).zip(ready) {
            *credit = if ready { *credit + weight } else { 0 };
            total += if ready { weight } else { 0 };
        }
        let best = (0..LANES).rev().filter(|lane| at(&ready, *lane)).max_by_key(|lane| at(&self.0, *lane))?;
        if let Some(credit) = self.0.get_mut(best) {
            *credit -= total;
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look while all slots were taken began everybody's share anew: a full relay gave every turn to the urgent lane.
    #[test]
    fn a_look_while_all_is_taken_costs_no_lane_its_share() {
        let mut credit = Credit::default();
        let mut turns = [0; LANES];
        for _ in 0..27 {
            turns[credit.turn([true; LANES]).unwrap()] += 1;
            assert_eq!(credit.turn([false; LANES]), None);
        }
        assert_eq!(turns.map(i64::from), WEIGHTS);
    }
}
