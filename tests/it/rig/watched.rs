//! A store that tells when anything in it may have changed, so that a test waits for that and not for time to pass.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Notify;
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Message};
use waxseal::mail::time::Time;
use waxseal::queue::store::{
    Accept, Action, Answer, Claimed, Entry, Filter, Last, Memo, Owed, Pacing, Settlement, Stats, Store,
    StoreError, Superseded,
};

/// For mail to addresses that begin like this there is no room.
pub const NO_ROOM: &str = "no-room@";

pub struct Watched {
    pub store: Arc<dyn Store>,
    /// Told after every call that changes something.
    pub changed: Arc<Notify>,
}

impl Watched {
    fn telling<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            let answer = answer.await;
            self.changed.notify_waiters();
            answer
        })
    }
}

impl Store for Watched {
    fn accept(&self, accept: Accept) -> Answer<'_, ()> {
        let mut rcpts = accept.message.facts.envelope.rcpts.iter();
        if rcpts.any(|rcpt| rcpt.address.to_string().starts_with(NO_ROOM)) {
            return Box::pin(std::future::ready(Err(StoreError::Full("no room for this one".into()))));
        }
        self.telling(self.store.accept(accept))
    }
    fn has_room(&self) -> bool {
        self.store.has_room()
    }
    fn claim(&self, now: Time, most: usize) -> Answer<'_, Claimed> {
        self.telling(self.store.claim(now, most))
    }
    fn pace(&self, pacing: Pacing) {
        self.store.pace(pacing);
    }
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.store.nudged().await;
            self.changed.notify_waiters();
        })
    }
    fn message(&self, id: Id) -> Answer<'_, Option<Arc<Message>>> {
        self.store.message(id)
    }
    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        self.telling(self.store.settle(settlements))
    }
    fn supersede(&self, newer: Arc<Facts>, rcpts: Vec<u16>, last: Last) -> Answer<'_, Superseded> {
        self.telling(self.store.supersede(newer, rcpts, last))
    }
    fn list(&self, filter: Filter, now: Time) -> Answer<'_, Vec<Entry>> {
        self.store.list(filter, now)
    }
    fn act(&self, filter: Filter, action: Action, now: Time) -> Answer<'_, Vec<Entry>> {
        self.telling(self.store.act(filter, action, now))
    }
    fn owed(&self, most: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        self.store.owed(most)
    }
    fn waive(&self, owed: Vec<(Id, u16)>) -> Answer<'_, ()> {
        self.telling(self.store.waive(owed))
    }
    fn remember(&self, memos: Vec<Memo>) -> Answer<'_, ()> {
        self.telling(self.store.remember(memos))
    }
    fn recall(&self, prefix: String) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        self.store.recall(prefix)
    }
    fn stats(&self) -> Answer<'_, Stats> {
        self.store.stats()
    }
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        self.store.failed()
    }
    fn close(&self) -> Answer<'_, ()> {
        self.telling(self.store.close())
    }
}
