//! How many legs may be under way at once to one site. Destinations whose mail goes to the same exchangers are one site, as
//! far as anybody has said so (`Store::pace`); one of which nothing is known is a site of its own.
//!
//! Nothing here outlives what waits or is under way: whoever delivers says again what he knows with every attempt.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::rings::{Credit, Ring};
use super::{CEILINGS, LANES, StreamKey, at, count};
use crate::mail::time::Time;
use crate::queue::store::{Destination, Pacing};

/// A destination that has streams, or legs under way.
#[derive(Debug)]
struct Member {
    site: Arc<str>,
    streams: usize,
    active: [usize; LANES],
}

/// A site's slots, and the streams that wait for one.
#[derive(Debug)]
struct Site {
    members: usize,
    limit: usize,
    /// Until when it rests.
    from: Option<Time>,
    active: [usize; LANES],
    /// Tenants in turn.
    blocked: [Ring; LANES],
    credit: Credit,
}

impl Site {
    fn new(limit: usize) -> Self {
        Self {
            members: 0,
            limit,
            from: None,
            active: [0; LANES],
            blocked: Default::default(),
            credit: Credit::default(),
        }
    }

    /// A lane leaves slots to the more urgent, as it does of all slots.
    fn has_room(&self, lane: usize) -> bool {
        let ceiling = (self.limit * at(&CEILINGS, lane)).div_ceil(8);
        self.from.is_none() && self.free() > 0 && at(&self.active, lane) < ceiling
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.active.iter().sum())
    }

    /// The stream that tries again first, of the lanes and tenants that may have a turn.
    fn pop(&mut self, may: &dyn Fn(usize, &str) -> bool) -> Option<u64> {
        let mut ready = [false; LANES];
        for (lane, ready) in ready.iter_mut().enumerate() {
            let waits = |ring: &Ring| ring.is_ready(|tenant| may(lane, tenant));
            *ready = self.has_room(lane) && self.blocked.get(lane).is_some_and(waits);
        }
        let lane = self.credit.turn(ready)?;
        self.blocked.get_mut(lane)?.pop(|tenant| may(lane, tenant))
    }

    /// As many streams as there is room for now.
    fn pop_all(&mut self, may: &dyn Fn(usize, &str) -> bool) -> Vec<u64> {
        let again: Vec<u64> = (0..self.free()).map_while(|_| self.pop(may)).collect();
        if again.is_empty() { self.pop_some() } else { again }
    }

    /// Where nobody who waits may have a turn: a stream of two tenants in each lane, one of which at most holds all that it may. They
    /// are ready for when they may, or the slot would lie idle until something else ends here.
    fn pop_some(&mut self) -> Vec<u64> {
        if self.from.is_some() || self.free() == 0 {
            return Vec::new();
        }
        self.blocked.iter_mut().flat_map(|ring| [ring.pop(|_| true), ring.pop(|_| true)]).flatten().collect()
    }
}

/// All sites.
#[derive(Debug)]
pub(super) struct Slots {
    usual: usize,
    members: HashMap<Destination, Member>,
    sites: HashMap<Arc<str>, Site>,
    resting: BTreeSet<(Time, Arc<str>)>,
}

impl Slots {
    /// `usual`: of a site of which nothing is known.
    pub(super) fn new(usual: usize) -> Self {
        Self { usual: usual.max(1), members: HashMap::new(), sites: HashMap::new(), resting: BTreeSet::new() }
    }

    /// The destination has one stream more.
    pub(super) fn join(&mut self, destination: &Destination) {
        if let Some(member) = self.members.get_mut(destination) {
            member.streams += 1;
            return;
        }
        let site = Arc::clone(&destination.0);
        self.site(&site).members += 1;
        self.members.insert(destination.clone(), Member { site, streams: 1, active: [0; LANES] });
    }

    /// The destination has one stream less.
    pub(super) fn leave(&mut self, destination: &Destination) {
        if let Some(member) = self.members.get_mut(destination) {
            member.streams = member.streams.saturating_sub(1);
        }
        self.forget(destination);
    }

    /// Takes a slot, if there is one.
    pub(super) fn take(&mut self, destination: &Destination, lane: usize) -> bool {
        let Some(member) = self.members.get_mut(destination) else { return false };
        let Some(site) = self.sites.get_mut(&member.site) else { return false };
        let room = site.has_room(lane);
        if room {
            count(&mut member.active, lane, 1);
            count(&mut site.active, lane, 1);
        }
        room
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, destination: &Destination, lane: usize) {
        let Some(member) = self.members.get_mut(destination) else { return };
        count(&mut member.active, lane, -1);
        if let Some(site) = self.sites.get_mut(&member.site) {
            count(&mut site.active, lane, -1);
        }
    }

    /// The stream waits for a slot of its destination's site.
    pub(super) fn block(&mut self, key: &StreamKey, stream: u64) {
        let site = self.members.get(&key.destination).and_then(|member| self.sites.get_mut(&member.site));
        if let Some(blocked) = site.and_then(|site| site.blocked.get_mut(key.lane as usize)) {
            blocked.push(&key.tenant, stream, false);
        }
    }

    /// The streams that a free slot of this destination's site goes to.
    pub(super) fn unblock(
        &mut self,
        destination: &Destination,
        may: &dyn Fn(usize, &str) -> bool,
    ) -> Vec<u64> {
        let site = self.members.get(destination).and_then(|member| self.sites.get_mut(&member.site));
        let next = site.map(|site| site.pop(may).map_or_else(|| site.pop_some(), |one| vec![one]));
        self.forget(destination);
        next.unwrap_or_default()
    }

    /// Takes over what is said of a site. Answers the streams that may try again.
    pub(super) fn pace(&mut self, pacing: &Pacing, may: &dyn Fn(usize, &str) -> bool) -> Vec<u64> {
        let Pacing { destination, site: name, slots, from } = pacing;
        let mut again = self.regroup(destination, name);
        let Some(site) = self.sites.get_mut(name) else { return again };
        site.limit = (*slots).max(1);
        if let Some(was) = std::mem::replace(&mut site.from, *from) {
            self.resting.remove(&(was, Arc::clone(name)));
        }
        if let Some(from) = from {
            self.resting.insert((*from, Arc::clone(name)));
        }
        again.extend(site.pop_all(may));
        again
    }

    /// Ends the rests that are over. Answers the streams that may try again.
    pub(super) fn wake(&mut self, now: Time, may: &dyn Fn(usize, &str) -> bool) -> Vec<u64> {
        let mut again = Vec::new();
        while self.wakes().is_some_and(|at| at <= now) {
            let Some((_, name)) = self.resting.pop_first() else { break };
            if let Some(site) = self.sites.get_mut(&name) {
                site.from = None;
                again.extend(site.pop_all(may));
            }
        }
        again
    }

    /// When the first rest ends.
    pub(super) fn wakes(&self) -> Option<Time> {
        self.resting.first().map(|(at, _)| *at)
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.sites.is_empty() && self.resting.is_empty()
    }

    fn site(&mut self, name: &Arc<str>) -> &mut Site {
        let usual = self.usual;
        self.sites.entry(Arc::clone(name)).or_insert_with(|| Site::new(usual))
    }

    /// Moves a destination, its legs under way, and whatever waits at its old site, which then looks where it belongs.
    fn regroup(&mut self, destination: &Destination, name: &Arc<str>) -> Vec<u64> {
        let Some(member) = self.members.get_mut(destination) else { return Vec::new() };
        if member.site == *name {
            return Vec::new();
        }
        let was = std::mem::replace(&mut member.site, Arc::clone(name));
        let active = member.active;
        let site = self.site(name);
        site.members += 1;
        add(&mut site.active, &active);
        let Some(old) = self.sites.get_mut(&was) else { return Vec::new() };
        old.members -= 1;
        subtract(&mut old.active, &active);
        let again = std::mem::take(&mut old.blocked).into_iter().flat_map(Ring::into_streams).collect();
        self.drop_empty(&was);
        again
    }

    fn forget(&mut self, destination: &Destination) {
        let over = |member: &Member| member.streams == 0 && member.active.iter().all(|active| *active == 0);
        if !self.members.get(destination).is_some_and(over) {
            return;
        }
        let Some(member) = self.members.remove(destination) else { return };
        if let Some(site) = self.sites.get_mut(&member.site) {
            site.members -= 1;
        }
        self.drop_empty(&member.site);
    }

    fn drop_empty(&mut self, name: &Arc<str>) {
        let empty = self.sites.get(name).is_some_and(|site| site.members == 0);
        let Some(site) = empty.then(|| self.sites.remove(name)).flatten() else { return };
        if let Some(from) = site.from {
            self.resting.remove(&(from, Arc::clone(name)));
        }
    }
}

fn add(to: &mut [usize; LANES], more: &[usize; LANES]) {
    to.iter_mut().zip(more).for_each(|(to, more)| *to += more);
}

fn subtract(from: &mut [usize; LANES], less: &[usize; LANES]) {
    from.iter_mut().zip(less).for_each(|(from, less)| *from = from.saturating_sub(*less));
}
