//! Fresh messages in memory, so that the first attempt reads nothing from disk. Bounded by octets. What is there stays
//! until it ends or is put off; new mail finds room only as that happens, or in place of what has lain here too long:
//! mail leaves in the order it came, so evicting the oldest for the newest would miss every time under a backlog.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::mail::id::Id;
use crate::mail::message::Message;

/// After this long without an attempt a message waits for something else than its turn.
const STALE: Duration = Duration::from_secs(10);

/// Names of what has gone that are not worth looking for.
const NAMES: usize = 64;

#[derive(Default)]
struct Inner {
    octets: u64,
    messages: HashMap<Id, Arc<Message>>,
    order: VecDeque<(Id, Instant)>,
}

/// The cache.
pub(super) struct Cache {
    most: u64,
    inner: Mutex<Inner>,
}

impl Cache {
    pub(super) fn new(most: u64) -> Self {
        Self { most, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message if there is room.
    pub(super) fn put(&self, message: &Arc<Message>) {
        let size = message.body.len() as u64;
        let mut inner = self.inner();
        while inner.octets + size > self.most {
            let stale = inner
                .order
                .front()
                .filter(|(id, at)| at.elapsed() > STALE || !inner.messages.contains_key(id));
            let Some((id, _)) = stale.copied() else { return };
            inner.order.pop_front();
            inner.remove(id);
        }
        inner.octets += size;
        inner.order.push_back((message.facts.id, Instant::now()));
        inner.messages.insert(message.facts.id, Arc::clone(message));
        inner.tidy();
    }

    pub(super) fn of(&self, id: Id) -> Option<Arc<Message>> {
        self.inner().messages.get(&id).cloned()
    }

    pub(super) fn remove(&self, id: Id) {
        self.inner().remove(id);
    }
}

impl Inner {
    /// Drops the names of what has gone meanwhile: at the front, and everywhere once they are the most.
    fn tidy(&mut self) {
        while self.order.front().is_some_and(|(id, _)| !self.messages.contains_key(id)) {
            self.order.pop_front();
        }
        if self.order.len() > 2 * self.messages.len() + NAMES {
            self.order.retain(|(id, _)| self.messages.contains_key(id));
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(message) = self.messages.remove(&id) {
            self.octets -= message.body.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    #[test]
    fn a_message_that_stays_keeps_no_names_of_those_that_go() {
        let cache = Cache::new(1 << 20);
        cache.put(&message(0).message);
        for serial in 1..10_000 {
            let message = message(serial).message;
            cache.put(&message);
            cache.remove(message.facts.id);
        }
        assert!(cache.of(message(0).message.facts.id).is_some());
        let names = cache.inner().order.len();
        assert!(names <= 2 + NAMES + 1, "{names}");
    }
}
