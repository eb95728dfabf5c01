//! The store that lives in this process: a synced journal that is the truth, and an index that can be rebuilt from it.

mod accept;
mod cache;
mod commit;
#[doc(hidden)]
pub mod examine;
mod inbox;
mod index;
mod reader;
mod record;
mod recover;
mod room;
mod scan;
mod spool;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, oneshot};

use self::accept::put;
use self::cache::Cache;
use self::index::{Ask, Parts, Reply, Sweep};
use self::reader::{INLINE_MAX, Task, answer};
use self::room::Room;
use self::spool::{SEGMENT, Spool};
use super::store::{
    Accept, Action, Answer, Claimed, Entry, Filter, Last, MEMO_KEY_MAX, MEMO_VALUE_MAX, Memo, Owed, Pacing,
    Settlement, Stats, Store, StoreError, Superseded, Turns,
};
use crate::clock::Clock;
use crate::fsx::{Disk, LocalDisk, Lock, create_dir};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Message};
use crate::mail::time::Time;

/// How often what compaction moves under the reader's hands is looked up anew.
const READS_MAX: usize = 5;

/// How large the store may grow, and whose time it keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// How turns are shared.
    pub turns: Turns,
    /// Legs known in memory that are due or soon will be; the rest waits in the index.
    pub window: usize,
    /// Octets of fresh bodies kept in memory, so that the first attempt does not read the disk.
    pub body_cache: u64,
    /// Octets of bodies read back from the disk that may be in memory at once; more wait.
    pub read_memory: u64,
    /// Octets the index may cache.
    pub index_cache: u64,
    /// Octets that the index's files may take before it is asked how much of them still lives.
    pub index_slack: u64,
    /// Free octets below which mail is refused (`StoreError::Full`); 0: never.
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
    /// Written by a version from before the first release; nothing was changed.
    #[error(
        "{0} has format {1}, and this program reads format {2} only: let the program that wrote it deliver what is queued, \
         then move the directories `spool` and `index` away and start again"
    )]
    Older(PathBuf, u32, u32),
    /// The disk said no.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The embedded store.
pub struct Embedded {
    spool: Arc<Spool>,
    asks: Mutex<Option<Sender<Ask>>>,
    tasks: Mutex<Option<Sender<Task>>>,
    cache: Arc<Cache>,
    room: Room,
    nudge: Arc<Notify>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

impl Embedded {
    /// Opens the queue in this directory, or makes it: `spool/` with the journal and `index/`. Blocks for as long as the
    /// end of the journal takes to read; the index is read, or rebuilt, behind it.
    ///
    /// # Errors
    /// Another process holds it, another version's format is in it, or the disk refuses.
    pub fn open(dir: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        Self::open_on(Arc::new(LocalDisk), dir, options)
    }

    /// The same on another disk than the machine's own.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        Self::open_with(disk, dir, options, SEGMENT)
    }

    /// The same with segments of another size, so that a test need not write gigabytes to see segments end.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        segment: u64,
    ) -> Result<Arc<Self>, OpenError> {
        let fail = |error: io::Error| OpenError::Io(dir.to_owned(), error);
        let spool_dir = dir.join("spool");
        create_dir(dir).and_then(|()| create_dir(&spool_dir)).map_err(fail)?;
        let lock = Lock::take(&dir.join("lock")).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                OpenError::Locked(dir.to_owned())
            } else {
                fail(error)
            }
        })?;
        let spool = Arc::new(Spool::new(spool_dir, disk, options.disk_reserve, segment));
        let head = recover::open(&spool)?;
        spool.count_damaged().map_err(fail)?;
        // So that MAIL is refused from the start, not after a first body travelled for nothing.
        spool.look_for_room().map_err(fail)?;
        spool.publish(Vec::new(), head.end());
        let (asks, inbox) = channel();
        let (nudge, cache) = (Arc::new(Notify::new()), Arc::new(Cache::new(options.body_cache)));
        let parts = Parts {
            spool: Arc::clone(&spool),
            dir: dir.to_owned(),
            sled_cache: options.index_cache,
            sled_slack: options.index_slack,
            turns: options.turns,
            window: options.window,
            clock: options.clock,
            nudge: Arc::clone(&nudge),
            cache: Arc::clone(&cache),
            bodies: spool.bodies().map_err(fail)?,
            feed: asks.clone(),
        };
        let (tasks, mut threads) = reader::start().map_err(fail)?;
        let journal = Arc::clone(&spool);
        threads.push(named("spool-commit", move || commit::guarded(&journal, head)).map_err(fail)?);
        threads.push(named("spool-index", move || index::run(parts, &inbox)).map_err(fail)?);
        Ok(Arc::new(Self {
            spool,
            asks: Mutex::new(Some(asks)),
            tasks: Mutex::new(Some(tasks)),
            cache,
            room: Room::new(options.read_memory),
            nudge,
            threads: Mutex::new(threads),
            lock: Mutex::new(Some(lock)),
        }))
    }

    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Answer<'_, T> {
        let (reply, later) = oneshot::channel();
        self.send(ask(reply));
        Box::pin(answer(later))
    }

    /// What is not taken is dropped, and whoever waits for its answer learns by that.
    fn send(&self, ask: Ask) {
        if let Some(asks) = &*self.asks.lock().unwrap_or_else(PoisonError::into_inner) {
            drop(asks.send(ask));
        }
    }

    fn work(&self, task: Task) {
        if let Some(tasks) = &*self.tasks.lock().unwrap_or_else(PoisonError::into_inner) {
            drop(tasks.send(task));
        }
    }

    /// Ends the threads; the lock goes last.
    fn stop(&self) {
        self.spool.inbox.close();
        self.spool.deafen();
        drop(self.asks.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().for_each(|thread| drop(thread.join()));
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn named(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Store for Embedded {
    fn accept(&self, accept: Accept) -> Answer<'_, ()> {
        let (reply, later) = oneshot::channel();
        if accept.message.body.len() > INLINE_MAX {
            self.accept_large(accept, reply);
            return Box::pin(answer(later));
        }
        let done = Box::new(|durable| drop(reply.send(durable)));
        if accept.tells.is_empty() {
            put(&self.spool, Arc::clone(&self.cache), accept, None, done);
        } else {
            self.send(Ask::Tell(Arc::new(accept), None, done));
        }
        Box::pin(answer(later))
    }

    fn has_room(&self) -> bool {
        self.spool.has_room()
    }

    fn claim(&self, now: Time, most: usize) -> Answer<'_, Claimed> {
        self.ask(|reply| Ask::Claim(now, most, reply))
    }

    fn pace(&self, pacing: Pacing) {
        self.send(Ask::Pace(pacing));
    }

    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.nudge.notified())
    }

    fn message(&self, id: Id) -> Answer<'_, Option<Arc<Message>>> {
        Box::pin(self.read(id))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Vec<bool>> {
        self.ask(|reply| Ask::Settle(settlements, reply))
    }

    fn supersede(&self, newer: Arc<Facts>, rcpts: Vec<u16>, last: Last) -> Answer<'_, Superseded> {
        self.ask(|reply| Ask::Supersede(newer, rcpts, last, reply))
    }

    fn list(&self, filter: Filter, now: Time) -> Answer<'_, Vec<Entry>> {
        self.ask(|reply| Ask::Sweep(Sweep::new(filter, None, now, reply)))
    }

    fn act(&self, filter: Filter, action: Action, now: Time) -> Answer<'_, Vec<Entry>> {
        self.ask(|reply| Ask::Sweep(Sweep::new(filter, Some(action), now, reply)))
    }

    fn owed(&self, most: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>> {
        self.ask(|reply| Ask::Owed(most, reply))
    }

    fn waive(&self, owed: Vec<(Id, u16)>) -> Answer<'_, ()> {
        self.ask(|reply| Ask::Waive(owed, reply))
    }

    fn remember(&self, memos: Vec<Memo>) -> Answer<'_, ()> {
        let fits = |memo: &&Memo| {
            memo.key.len() <= MEMO_KEY_MAX
                && memo.value.as_ref().is_none_or(|value| value.len() <= MEMO_VALUE_MAX)
        };
        match memos.iter().find(|memo| !fits(memo)) {
            Some(memo) => {
                let start: String = memo.key.chars().take(MEMO_KEY_MAX).collect();
                Box::pin(std::future::ready(Err(StoreError::TooLarge(start.into()))))
            }
            None => self.ask(|reply| Ask::Remember(memos, reply)),
        }
    }

    fn recall(&self, prefix: String) -> Answer<'_, Vec<(String, Vec<u8>)>> {
        Box::pin(async move {
            let mut found = reader::Memos::default();
            for _ in 0..READS_MAX {
                let places = self.ask(|reply| Ask::Recall(prefix.clone(), reply)).await?;
                let (reply, later) = oneshot::channel();
                let spool = Arc::clone(&self.spool);
                self.work(Box::new(move || drop(reply.send(Ok(reader::memos(&spool, places))))));
                found = answer(later).await?;
                if found.gone.is_empty() {
                    break;
                }
            }
            for key in &found.gone {
                self.spool.quarantine(format_args!("the segment in which the memo {key} lay is missing"));
            }
            Ok(found.read)
        })
    }

    fn stats(&self) -> Answer<'_, Stats> {
        self.ask(Ask::Stats)
    }

    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>> {
        let mut failure = self.spool.failure();
        Box::pin(async move {
            match failure.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone()) {
                Some(failure) => failure,
                None => std::future::pending().await,
            }
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        let closed = self.ask(Ask::Close);
        Box::pin(async move {
            let closed = closed.await;
            self.stop();
            closed
        })
    }
}

#[cfg(test)]
mod compaction_tests;
#[cfg(test)]
mod memo_tests;
#[cfg(test)]
mod read_tests;
#[cfg(test)]
mod tests;
