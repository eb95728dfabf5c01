//! How many legs may be under way at once, over all: a lane leaves slots to the more urgent, a tenant leaves slots to the
//! others, however much either has waiting.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CEILINGS, LANES, at, count};

/// Of a lane's slots, in quarters, how many one tenant may fill.
const TENANT_CEILING: usize = 3;

/// All slots, and who holds them.
#[derive(Debug)]
pub(super) struct Shares {
    total: usize,
    lanes: [usize; LANES],
    tenants: HashMap<Arc<str>, usize>,
}

impl Shares {
    pub(super) fn new(total: usize) -> Self {
        Self { total: total.max(1), lanes: [0; LANES], tenants: HashMap::new() }
    }

    /// Whether no slot is free.
    pub(super) fn are_full(&self) -> bool {
        self.lanes.iter().sum::<usize>() >= self.total
    }

    /// Whether the lane has room below its ceiling.
    pub(super) fn has_room(&self, lane: usize) -> bool {
        !self.are_full() && at(&self.lanes, lane) < self.ceiling(lane)
    }

    /// Whether the tenant has room in the lane. It holds more than half of all slots if not: never two have none at once.
    pub(super) fn has_room_for(&self, lane: usize, tenant: &str) -> bool {
        let most = (self.ceiling(lane) * TENANT_CEILING).div_ceil(4);
        self.tenants.get(tenant).is_none_or(|active| *active < most)
    }

    /// Whether a leg of the tenant's in this lane may have a turn, wherever it goes.
    pub(super) fn may(&self, lane: usize, tenant: &str) -> bool {
        self.has_room(lane) && self.has_room_for(lane, tenant)
    }

    pub(super) fn take(&mut self, lane: usize, tenant: &Arc<str>) {
        count(&mut self.lanes, lane, 1);
        *self.tenants.entry(Arc::clone(tenant)).or_default() += 1;
    }

    pub(super) fn release(&mut self, lane: usize, tenant: &Arc<str>) {
        count(&mut self.lanes, lane, -1);
        if let Some(active) = self.tenants.get_mut(tenant) {
            *active -= 1;
            if *active == 0 {
                self.tenants.remove(tenant);
            }
        }
    }

    fn ceiling(&self, lane: usize) -> usize {
        (self.total * at(&CEILINGS, lane)).div_ceil(8)
    }

    /// Whether nothing is held and nobody remembered.
    #[cfg(test)]
    pub(super) fn are_empty(&self) -> bool {
        self.lanes.iter().all(|active| *active == 0) && self.tenants.is_empty()
    }
}
