//! What waits for the committer: requests, and when they become a group.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::store::StoreError;
use super::record::Record;
use super::spool::Said;

/// Records that the index may be behind before the committer waits for it: some milliseconds' worth, for what one tenant sends
/// in a burst stands before everybody's mail here.
const BEHIND_MAX: usize = 256;
/// How long the word of how mail went waits for mail that comes in, to be synced with it: until then a kill has such mail
/// sent once more.
const PATIENCE: Duration = Duration::from_millis(1);

/// Called when the records of a request are durable, or never will be.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Records to be written, all in one group.
pub(super) struct Request {
    pub(super) records: Vec<(Record, Said)>,
    /// It ends mail, or moves it: it is written even when the disk is below its reserve, and can wait a moment.
    pub(super) essential: bool,
    pub(super) done: Done,
}

/// What the committer rests for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    /// Nothing: it looks at what waits when it has done what it does.
    #[default]
    None,
    /// Any request.
    Any,
    /// New mail; what is there can wait a little.
    Mail,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    /// Those among them that are new mail.
    mail: usize,
    rest: Rest,
    closing: bool,
    failed: Option<StoreError>,
}

impl State {
    /// Whether the committer has to be woken for this.
    fn put(&mut self, request: Request) -> bool {
        let ring = match self.rest {
            Rest::None => false,
            Rest::Any => true,
            Rest::Mail => !request.essential,
        };
        if ring {
            self.rest = Rest::None;
        }
        self.mail += usize::from(!request.essential);
        self.waiting.push_back(request);
        ring
    }

    /// The oldest requests, up to this many octets, and one in any case.
    fn take(&mut self, octets_max: u64) -> Vec<Request> {
        let mut octets = 0;
        let mut group = Vec::new();
        while octets < octets_max {
            let Some(request) = self.waiting.pop_front() else { break };
            octets += request.records.iter().map(|(record, _)| record.header.length()).sum::<u64>();
            self.mail -= usize::from(!request.essential);
            group.push(request);
        }
        group
    }
}

/// The inbox of the committer.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
    behind: AtomicUsize,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request before the committer. It answers through `done`, at once if nothing can be written any more.
    pub(super) fn submit(&self, request: Request) {
        let taken = {
            let mut state = self.state();
            match (&state.failed, state.closing) {
                (None, false) => Ok(state.put(request)),
                (Some(failed), _) => Err((request, failed.clone())),
                (None, true) => Err((request, StoreError::Failed("the store is closed".into()))),
            }
        };
        match taken {
            Err((request, error)) => (request.done)(Err(error)),
            Ok(true) => self.bell.notify_all(),
            Ok(false) => {}
        }
    }

    /// The next group: everything that waits, up to this many octets. `None`: the store is closed.
    ///
    /// What only says how mail went waits up to `PATIENCE` for mail that comes in, and is synced with it.
    pub(super) fn collect(&self, octets_max: u64) -> Option<Vec<Request>> {
        // Whoever is about to put something in does so first: under load groups grow, and nobody has to be woken.
        std::thread::yield_now();
        let mut state = self.state();
        let mut waited = false;
        loop {
            if state.closing && state.waiting.is_empty() {
                return None;
            }
            // Once the store closes the index takes in whatever comes, and waits for the last of it: nothing waits for the index.
            let room = state.closing || self.behind.load(Ordering::Acquire) <= BEHIND_MAX;
            let ready = !state.waiting.is_empty() && room;
            if ready && (waited || state.mail > 0 || state.closing) {
                return Some(state.take(octets_max));
            }
            state.rest = if ready { Rest::Mail } else { Rest::Any };
            state = if ready {
                self.bell.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.bell.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
            (state.rest, waited) = (Rest::None, ready);
        }
    }

    /// Takes no more requests; those that wait are still written.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.bell.notify_all();
    }

    /// Nothing will be written any more. Answers what waited.
    pub(super) fn fail(&self, error: &StoreError) {
        let waiting = {
            let mut state = self.state();
            state.failed.get_or_insert_with(|| error.clone());
            state.mail = 0;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(|request| (request.done)(Err(error.clone())));
    }

    /// Whether nothing can be written any more.
    pub(super) fn has_failed(&self) -> bool {
        self.state().failed.is_some()
    }

    /// The index has so many records more to take in.
    pub(super) fn fed(&self, records: usize) {
        self.behind.fetch_add(records, Ordering::AcqRel);
    }

    /// Nothing is written until this is dropped, but what is being written already and what a closing store still takes in.
    pub(super) fn pause(&self) -> Pause<'_> {
        self.fed(BEHIND_MAX + 1);
        Pause(self)
    }

    /// The index has taken so many records in.
    pub(super) fn caught_up(&self, records: usize) {
        let was = self.behind.fetch_sub(records, Ordering::AcqRel);
        if was > BEHIND_MAX && was - records <= BEHIND_MAX {
            // The committer looks at the number under the lock: taking it means that it cannot miss the bell.
            drop(self.state());
            self.bell.notify_all();
        }
    }
}

/// The committer waits.
pub(super) struct Pause<'a>(&'a Inbox);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.caught_up(BEHIND_MAX + 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn inbox(behind: usize) -> Arc<Inbox> {
        let inbox = Arc::new(Inbox::default());
        inbox.fed(behind);
        inbox.submit(Request { records: Vec::new(), essential: false, done: Box::new(drop) });
        inbox
    }

    fn collect(inbox: &Arc<Inbox>) -> thread::JoinHandle<usize> {
        let inbox = Arc::clone(inbox);
        thread::spawn(move || inbox.collect(u64::MAX).map_or(0, |group| group.len()))
    }

    /// A group is given out when this is done, and not before.
    fn comes_with(inbox: &Arc<Inbox>, release: impl FnOnce()) {
        let group = collect(inbox);
        while !group.is_finished() && inbox.state().rest == Rest::None {
            thread::yield_now();
        }
        assert!(!group.is_finished(), "it did not wait");
        release();
        assert_eq!(group.join().unwrap(), 1);
    }

    #[test]
    fn a_group_waits_until_the_index_has_caught_up() {
        let inbox = inbox(BEHIND_MAX + 2);
        inbox.caught_up(1);
        comes_with(&inbox, || inbox.caught_up(1));
    }

    #[test]
    fn a_group_waits_while_the_committer_pauses() {
        let inbox = inbox(0);
        let pause = inbox.pause();
        comes_with(&inbox, || drop(pause));
    }

    #[test]
    fn a_store_that_closes_waits_for_no_index() {
        let inbox = inbox(BEHIND_MAX + 1);
        let group = collect(&inbox);
        inbox.close();
        assert_eq!(group.join().unwrap(), 1);
        assert_eq!(collect(&inbox).join().unwrap(), 0, "closed, and nothing is left");
    }
}
