//! Whose turn it is. Pure: no disk, no clock.
//!
//! A stream is what one tenant has waiting in one lane for one destination, in order of due time; held legs have streams of
//! their own, in order of their ends, so that the next due time and the next end are known apart. Lanes share by weight,
//! tenants within a lane take turns, a tenant's destinations take turns, and a destination has so many slots over all.
//! A stream keeps its next legs in memory and knows where the rest begins (`horizon`); the rest is on disk and is loaded
//! when the stream gets there. So memory grows with destinations and tenants and by the window, not with the backlog.

mod rings;
mod shares;
mod slots;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use self::rings::{Credit, Ring};
use self::shares::Shares;
use self::slots::Slots;
use crate::mail::id::Id;
use crate::mail::message::Lane;
use crate::mail::time::Time;
use crate::queue::store::{Destination, Pacing, Turns};

const LANES: usize = 4;
/// Of all slots, in eighths, how many a lane may fill: slow bulk mail never takes the last slot from a password reset.
const CEILINGS: [usize; LANES] = [8, 7, 7, 6];
/// Legs that a stream may keep in memory although the window is full, so that each can move.
const STREAM_MIN: usize = 4;
/// Legs loaded from disk at once.
pub(in super::super) const LOAD: usize = 64;

/// A leg in its stream's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Item {
    pub(in super::super) due: Time,
    pub(in super::super) id: Id,
    pub(in super::super) leg: u16,
}

/// A stream's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in super::super) struct StreamKey {
    pub(in super::super) lane: Lane,
    /// Its legs are held, and wait for the ends of their holds.
    pub(in super::super) held: bool,
    pub(in super::super) tenant: Arc<str>,
    pub(in super::super) destination: Destination,
}

/// What a load from disk found: the next legs, and where those begin that it did not take.
pub(in super::super) type Loaded = (Vec<Item>, Option<Item>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting(Time),
    Ready,
    Blocked,
}

#[derive(Debug)]
struct Stream {
    key: StreamKey,
    memory: BTreeSet<Item>,
    horizon: Option<Item>,
    place: Place,
}

impl Stream {
    fn due(&self) -> Option<Time> {
        self.memory.first().or(self.horizon.as_ref()).map(|item| item.due)
    }
}

fn at<T: Copy + Default>(of: &[T; LANES], lane: usize) -> T {
    of.get(lane).copied().unwrap_or_default()
}

fn count(of: &mut [usize; LANES], lane: usize, by: isize) {
    if let Some(active) = of.get_mut(lane) {
        *active = active.saturating_add_signed(by);
    }
}

/// All streams and their turns.
#[derive(Debug)]
pub(in super::super) struct Lanes {
    window: usize,
    loaded: usize,
    serial: u64,
    names: HashMap<StreamKey, u64>,
    streams: HashMap<u64, Stream>,
    /// By whether they are held, then by time.
    waiting: BTreeSet<(bool, Time, u64)>,
    ready: [Ring; LANES],
    credit: Credit,
    slots: Slots,
    shares: Shares,
}

impl Lanes {
    pub(in super::super) fn new(turns: Turns, window: usize) -> Self {
        Self {
            window,
            loaded: 0,
            serial: 0,
            names: HashMap::new(),
            streams: HashMap::new(),
            waiting: BTreeSet::new(),
            ready: Default::default(),
            credit: Credit::default(),
            slots: Slots::new(turns.per_destination),
            shares: Shares::new(turns.total),
        }
    }

    /// Makes a stream known whose legs are all on disk, the first of them this one.
    pub(in super::super) fn restore(&mut self, key: StreamKey, first: Item) {
        let stream = self.stream(key, first.due);
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.horizon = Some(first);
        }
    }

    /// Adds a leg. Answers the one, if any, that finds no room in memory and so must be on disk: this one or another.
    pub(in super::super) fn push(&mut self, key: StreamKey, item: Item) -> Option<Item> {
        let number = self.stream(key, item.due);
        let stream = self.streams.get_mut(&number)?;
        if stream.horizon.is_some_and(|horizon| item >= horizon) {
            return Some(item);
        }
        if stream.memory.insert(item) {
            self.loaded += 1;
        }
        let full = self.loaded > self.window && stream.memory.len() > STREAM_MIN;
        let over = if full { stream.memory.pop_last() } else { None };
        if over.is_some() {
            self.loaded -= 1;
            stream.horizon = over;
        }
        self.wait(number);
        over
    }

    /// Takes a leg out that is not under way: it is held, or ends, or its due time changes.
    pub(in super::super) fn remove(&mut self, key: &StreamKey, item: &Item) {
        let Some(number) = self.names.get(key).copied() else { return };
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if stream.memory.remove(item) {
            self.loaded -= 1;
        }
        self.wait(number);
    }

    /// The next leg that is due and whose turn it is; it then holds a slot of its destination.
    pub(in super::super) fn claim(
        &mut self,
        now: Time,
        load: &mut dyn FnMut(&StreamKey, Item) -> Loaded,
    ) -> Option<(StreamKey, Item)> {
        self.promote(now);
        while let Some(lane) = self.credit.turn(self.open()) {
            let shares = &self.shares;
            let may = |tenant: &str| shares.has_room_for(lane, tenant);
            let Some(number) = self.ready.get_mut(lane).and_then(|ring| ring.pop(may)) else { continue };
            if let Some(claimed) = self.take(number, now, load) {
                return Some(claimed);
            }
        }
        None
    }

    /// Gives back the slot of a claimed leg.
    pub(in super::super) fn release(&mut self, key: &StreamKey) {
        self.shares.release(key.lane as usize, &key.tenant);
        self.slots.release(&key.destination, key.lane as usize);
        self.unblock(&key.destination);
    }

    /// Takes over what is said of the site that a destination belongs to. Answers whether a leg may now have its turn.
    pub(in super::super) fn pace(&mut self, pacing: &Pacing) -> bool {
        let shares = &self.shares;
        let again = self.slots.pace(pacing, &|lane, tenant| shares.may(lane, tenant));
        self.retry(&again);
        !again.is_empty()
    }

    /// When the next leg that no limit holds back falls due, and when the next hold ends.
    pub(in super::super) fn next(&self, now: Time) -> (Option<Time>, Option<Time>) {
        if self.open().contains(&true) {
            return (Some(now), self.first(true));
        }
        if self.shares.are_full() {
            return (None, None);
        }
        (self.first(false).into_iter().chain(self.slots.wakes()).min(), self.first(true))
    }

    /// When the first of the streams that wait asks for a turn.
    fn first(&self, held: bool) -> Option<Time> {
        let from = (held, Time(0), 0);
        self.waiting.range(from..).next().filter(|(its, ..)| *its == held).map(|(_, due, _)| *due)
    }

    /// Lanes that have a ready stream of a tenant that has room in them.
    fn open(&self) -> [bool; LANES] {
        let mut open = [false; LANES];
        for ((lane, ring), open) in self.ready.iter().enumerate().zip(&mut open) {
            let may = |tenant: &str| self.shares.has_room_for(lane, tenant);
            *open = self.shares.has_room(lane) && ring.is_ready(may);
        }
        open
    }

    fn stream(&mut self, key: StreamKey, due: Time) -> u64 {
        if let Some(number) = self.names.get(&key) {
            return *number;
        }
        self.serial += 1;
        let number = self.serial;
        let stream =
            Stream { key: key.clone(), memory: BTreeSet::new(), horizon: None, place: Place::Waiting(due) };
        self.waiting.insert((key.held, due, number));
        self.slots.join(&key.destination);
        self.streams.insert(number, stream);
        self.names.insert(key, number);
        number
    }

    fn promote(&mut self, now: Time) {
        let shares = &self.shares;
        let again = self.slots.wake(now, &|lane, tenant| shares.may(lane, tenant));
        self.retry(&again);
        for held in [false, true] {
            let from = (held, Time(0), 0);
            let ripe = |next: &&(bool, Time, u64)| next.0 == held && next.1 <= now;
            while let Some(next) = self.waiting.range(from..).next().filter(ripe).copied() {
                self.waiting.remove(&next);
                self.make_ready(next.2, false);
            }
        }
    }

    fn make_ready(&mut self, number: u64, first: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.place = Place::Ready;
        if let Some(ring) = self.ready.get_mut(stream.key.lane as usize) {
            ring.push(&stream.key.tenant, number, first);
        }
    }

    /// Moves a waiting stream to where its first leg puts it now, and forgets one that is empty.
    fn wait(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let Place::Waiting(was) = stream.place else { return };
        let due = stream.due();
        if due == Some(was) {
            return;
        }
        self.waiting.remove(&(stream.key.held, was, number));
        match due {
            Some(due) => {
                stream.place = Place::Waiting(due);
                self.waiting.insert((stream.key.held, due, number));
            }
            None => self.forget(number),
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some(stream) = self.streams.remove(&number) {
            self.loaded -= stream.memory.len();
            self.names.remove(&stream.key);
            self.slots.leave(&stream.key.destination);
        }
    }

    /// The first leg of a stream that was popped from its ring; puts the stream where it belongs next.
    fn take(
        &mut self,
        number: u64,
        now: Time,
        load: &mut dyn FnMut(&StreamKey, Item) -> Loaded,
    ) -> Option<(StreamKey, Item)> {
        let stream = self.streams.get_mut(&number)?;
        let key = stream.key.clone();
        if !self.slots.take(&key.destination, key.lane as usize) {
            stream.place = Place::Blocked;
            self.slots.block(&key, number);
            return None;
        }
        self.loaded += refill(stream, load);
        let item = stream.memory.first().copied().filter(|item| item.due <= now);
        if item.is_some() {
            stream.memory.pop_first();
            self.loaded -= 1;
            self.shares.take(key.lane as usize, &key.tenant);
        }
        self.replace(number, now);
        if item.is_none() {
            self.slots.release(&key.destination, key.lane as usize);
            self.unblock(&key.destination);
        }
        item.map(|item| (key, item))
    }

    fn replace(&mut self, number: u64, now: Time) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        match stream.due() {
            Some(due) if due <= now => self.make_ready(number, false),
            Some(due) => {
                stream.place = Place::Waiting(due);
                self.waiting.insert((stream.key.held, due, number));
            }
            None => self.forget(number),
        }
    }

    /// Lets one stream that waits for a slot of this destination's site try again, before others.
    fn unblock(&mut self, destination: &Destination) {
        let shares = &self.shares;
        let again = self.slots.unblock(destination, &|lane, tenant| shares.may(lane, tenant));
        self.retry(&again);
    }

    /// The first of these is the first to try.
    fn retry(&mut self, again: &[u64]) {
        for number in again.iter().rev() {
            self.make_ready(*number, true);
        }
    }
}

/// Fills an empty stream from disk; answers how many were loaded.
fn refill(stream: &mut Stream, load: &mut dyn FnMut(&StreamKey, Item) -> Loaded) -> usize {
    let Some(horizon) = stream.horizon.filter(|_| stream.memory.is_empty()) else { return 0 };
    let (items, more) = load(&stream.key, horizon);
    stream.memory.extend(items);
    stream.horizon = more;
    stream.memory.len()
}

#[cfg(test)]
mod tests;
