//! A store that has failed: every call says so. It stands in for one whose disk is gone.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Message};
use waxseal::mail::time::Time;
use waxseal::queue::store::{
    Accept, Action, Answer, Claimed, Entry, Filter, Last, Memo, Owed, Pacing, Settlement, Stats, Store,
    StoreError, Superseded,
};

use super::Closed;

fn failed<T: Send + 'static>() -> Answer<'static, T> {
    Box::pin(ready(Err(StoreError::Failed("the disk is gone".into()))))
}

impl Store for Closed {
    fn accept(&self, _: Accept) -> Answer<'_, ()> {
        failed()
    }
    fn claim(&self, _: Time, _: usize) -> Answer<'_, Claimed> {
        failed()
    }
    fn pace(&self, _: Pacing) {}
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    fn message(&self, _: Id) -> Answer<'_, Option<Arc<Message>>> {
        failed()
    }
    fn settle(&self, _: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        failed()
    }
    fn supersede(&self, _: Arc<Facts>, _: Vec<u16>, _: Last) -> Answer<'_, Superseded> {
        failed()
    }
    fn list(&self, _: Filter, _: Time) -> Answer<'_, Vec<Entry>> {
        failed()
    }
    fn act(&self, _: Filter, _: Action, _: Time) -> Answer<'_, Vec<Entry>> {
        failed()
    }
    fn owed(&self, _: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        failed()
    }
    fn waive(&self, _: Vec<(Id, u16)>) -> Answer<'_, ()> {
        failed()
    }
    fn remember(&self, _: Vec<Memo>) -> Answer<'_, ()> {
        failed()
    }
    fn recall(&self, _: String) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        failed()
    }
    fn stats(&self) -> Answer<'_, Stats> {
        failed()
    }
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        Box::pin(ready(StoreError::Failed("the disk is gone".into())))
    }
    fn close(&self) -> Answer<'_, ()> {
        failed()
    }
}
