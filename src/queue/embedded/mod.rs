//! The store that lives in this process: a synced journal that is the truth, and an index that can be rebuilt from it.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use super::store::{
    Accept, Action, Answer, Claimed, Entry, Filter, Owed, Settlement, Stats, Store, StoreError, Turns,
};
use crate::clock::Clock;
use crate::mail::id::Id;
use crate::mail::message::{Facts, Message};
use crate::mail::time::Time;

/// How large the store may grow, and whose time it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// How turns are shared.
    pub turns: Turns,
    /// Legs known in memory that are due or soon will be; the rest waits in the index.
    pub window: usize,
    /// Octets of fresh bodies kept in memory, so that the first attempt does not read the disk.
    pub body_cache: u64,
    /// Octets the index may cache.
    pub index_cache: u64,
    /// Free octets below which mail is refused (`StoreError::Full`).
    pub disk_reserve: u64,
    /// Wall time.
    pub clock: Clock,
}

/// Why a queue directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Two processes may not share a spool.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// Written by a later version of the program; nothing was changed.
    #[error("{0} has format {1}, and this program knows formats up to {2}")]
    Newer(PathBuf, u32, u32),
    /// The disk said no.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The embedded store.
#[derive(Debug)]
pub struct Embedded {}

impl Embedded {
    /// Opens the queue in this directory, or makes it: `spool/` with the journal and `index/`. Blocks for as long as the
    /// end of the journal takes to read; the index is read, or rebuilt, behind it.
    ///
    /// # Errors
    /// Another process holds it, a later version wrote it, or the disk refuses.
    pub fn open(_dir: &Path, _options: Options) -> Result<Arc<Self>, OpenError> {
        todo!()
    }
}

impl Store for Embedded {
    fn accept(&self, _accept: Accept) -> Answer<'_, ()> {
        todo!()
    }
    fn has_room(&self) -> bool {
        todo!()
    }
    fn claim(&self, _now: Time, _most: usize) -> Answer<'_, Claimed> {
        todo!()
    }
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        todo!()
    }
    fn message(&self, _id: Id) -> Answer<'_, Option<Arc<Message>>> {
        todo!()
    }
    fn settle(&self, _settlements: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        todo!()
    }
    fn list(&self, _filter: Filter, _now: Time) -> Answer<'_, Vec<Entry>> {
        todo!()
    }
    fn act(&self, _filter: Filter, _action: Action, _now: Time) -> Answer<'_, Vec<Entry>> {
        todo!()
    }
    fn owed(&self, _most: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        todo!()
    }
    fn waive(&self, _owed: Vec<(Id, u16)>) -> Answer<'_, ()> {
        todo!()
    }
    fn stats(&self) -> Answer<'_, Stats> {
        todo!()
    }
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        todo!()
    }
    fn close(&self) -> Answer<'_, ()> {
        todo!()
    }
}
