//! Whom a tenant's mail no longer goes to: hard bounces, complaints, unsubscribes, and what administrators write down.
//!
//! The entries stand in the queue's store, as memos of some kilobytes each (`page`), so they are as durable as mail and survive
//! what mail survives. In memory is a map from a keyed hash to reason and date: a look-up touches no disk, and a million
//! entries take about 60 MB. Which mail the list is asked for is decided elsewhere (`Classes::suppression`): never by a guess.

mod entry;
mod link;
mod page;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

pub use self::entry::{Entry, Listed, NOTE_MAX, Reason, folded, is_gone, is_refused_for_good};
pub use self::link::{Links, Subscription};
pub use self::page::PORTIONS;
use self::page::Pages;
use crate::config::class::Suppression;
use crate::mail::address::Address;
use crate::mail::time::Time;
use crate::metrics::{Metrics, ReasonLabel};
use crate::queue::store::{Memo, Store, StoreError};

/// Entries there may be in all: some 120 MB of memory.
pub const ENTRIES_MAX: usize = 2_000_000;

/// The list of every tenant.
pub struct List {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    known: RwLock<Known>,
    /// Held while pages are written: one writer at a time. `None`: not read from the store yet.
    pages: tokio::sync::Mutex<Option<Pages>>,
}

/// What is in memory. The hash is keyed by the process, so that nobody can choose an address that means another's.
#[derive(Default)]
struct Known {
    slots: HashMap<u64, Slot>,
    counts: HashMap<Reason, i64>,
    hasher: RandomState,
}

/// An entry in memory.
#[derive(Clone, Copy, Debug)]
struct Slot {
    page: u32,
    /// Seconds since the epoch: half the octets, until 2106.
    since: u32,
    reason: Reason,
}

/// Why an entry was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There are as many as there may be.
    #[error("the suppression lists hold {ENTRIES_MAX} addresses, and that is all they may")]
    Full,
}

/// Whom mail of a class is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose mail.
    pub tenant: &'a str,
    /// Its class, where that is certain.
    pub class: Option<&'a str>,
    /// Which entries count.
    pub rule: Suppression,
}

impl List {
    /// The lists in this store; they are read by the first who needs them.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, known: RwLock::default(), pages: tokio::sync::Mutex::new(None) }
    }

    /// Reads the lists from the store, once.
    ///
    /// # Errors
    /// The store cannot answer, or not yet.
    pub async fn load(&self) -> Result<(), StoreError> {
        let mut pages = self.pages.lock().await;
        self.loaded(&mut pages).await.map(drop)
    }

    async fn loaded<'a>(&self, pages: &'a mut Option<Pages>) -> Result<&'a mut Pages, StoreError> {
        if pages.is_none() {
            *pages = Some(self.read().await?);
            self.count();
        }
        Ok(pages.get_or_insert_default())
    }

    async fn read(&self) -> Result<Pages, StoreError> {
        let mut read = Pages::default();
        for portion in 0..PORTIONS {
            for (key, value) in self.store.recall(page::portion(portion)).await? {
                let Some((tenant, number, entries)) = page::read(&key, &value) else {
                    tracing::error!(key, "a page of a suppression list cannot be read; the rest goes on");
                    continue;
                };
                self.known(|known| entries.iter().for_each(|entry| known.put(&tenant, entry, number)));
                read.seen(&tenant, number);
            }
        }
        Ok(read)
    }

    /// Whether mail of this kind to this address is suppressed, and why. Asks memory alone; nothing is known before `load`.
    #[must_use]
    pub fn find(&self, question: &Question<'_>, address: &Address) -> Option<Listed> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.slots.is_empty() {
            return None;
        }
        let address = folded(address);
        let all = known.get(question.tenant, &address, None).filter(|slot| slot.reason.counts(question.rule));
        let own = || known.get(question.tenant, &address, Some(question.class?));
        all.or_else(own)
            .map(|slot| Listed { reason: slot.reason, since: Time(u64::from(slot.since) * 1_000) })
    }

    /// Puts these on the tenant's list; answers those that were not there. Durable when it answers. What is there stays as it is,
    /// but that any other reason takes the place of a complaint: some mail ignores complaints.
    ///
    /// # Errors
    /// The store does not take them, or the lists are full.
    pub async fn add(&self, tenant: &str, entries: Vec<Entry>) -> Result<Vec<Entry>, ListError> {
        let mut guard = self.pages.lock().await;
        let pages = self.loaded(&mut guard).await?;
        let (fresh, gone) = self.known(|known| known.news(tenant, entries));
        if fresh.is_empty() {
            return Ok(Vec::new());
        }
        if self.known(|known| known.slots.len()) + fresh.len() > ENTRIES_MAX {
            return Err(ListError::Full);
        }
        let mut memos = self.without(pages, tenant, &gone).await?;
        let placed = pages.place(tenant, fresh, &mut memos);
        if let Err(error) = self.store.remember(memos).await {
            // What the open page holds was not kept: begin another.
            pages.doubt(tenant);
            return Err(error.into());
        }
        self.known(|known| placed.iter().for_each(|(entry, number)| known.put(tenant, entry, *number)));
        self.count();
        Ok(placed.into_iter().map(|(entry, _)| entry).collect())
    }

    /// Takes these addresses off the tenant's list, each for the class given with it; answers how many were there.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn remove(&self, tenant: &str, gone: &[(String, Option<String>)]) -> Result<usize, ListError> {
        let mut guard = self.pages.lock().await;
        let pages = self.loaded(&mut guard).await?;
        let there = |known: &mut Known| {
            gone.iter()
                .filter_map(|(address, class)| {
                    let slot = known.get(tenant, address, class.as_deref())?;
                    Some((address.clone(), class.clone(), slot.page))
                })
                .collect::<Vec<_>>()
        };
        let found = self.known(there);
        if found.is_empty() {
            return Ok(0);
        }
        let memos = self.without(pages, tenant, &found).await?;
        if let Err(error) = self.store.remember(memos).await {
            pages.doubt(tenant);
            return Err(error.into());
        }
        self.known(|known| {
            found.iter().for_each(|(address, class, _)| known.drop(tenant, address, class.as_deref()))
        });
        self.count();
        Ok(found.len())
    }

    /// A sixteenth of the tenant's list, in no order.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn portion(&self, tenant: &str, portion: u32) -> Result<Vec<Entry>, StoreError> {
        let found = self.store.recall(page::of_tenant(portion, tenant)).await?;
        Ok(found
            .iter()
            .filter_map(|(key, value)| page::read(key, value))
            .flat_map(|(_, _, all)| all)
            .collect())
    }

    /// The pages that these stand in, without them.
    async fn without(
        &self,
        pages: &mut Pages,
        tenant: &str,
        gone: &[(String, Option<String>, u32)],
    ) -> Result<Vec<Memo>, StoreError> {
        let mut numbers: Vec<u32> = gone.iter().map(|(_, _, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut memos = Vec::new();
        for number in numbers {
            let key = page::key(tenant, number);
            let found = self.store.recall(key.clone()).await?;
            let mut entries = found
                .iter()
                .find_map(|(key, value)| page::read(key, value))
                .map_or(Vec::new(), |(_, _, all)| all);
            entries.retain(|entry| {
                !gone.iter().any(|(address, class, _)| entry.address == *address && entry.class == *class)
            });
            pages.rewritten(tenant, number, &entries);
            memos.push(page::memo(key, &entries));
        }
        Ok(memos)
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        for reason in Reason::ALL {
            let count = known.counts.get(&reason).copied().unwrap_or_default();
            let label = ReasonLabel { reason: reason.name() };
            self.metrics.suppressions.get_or_create(&label).set(count);
        }
    }
}

/// An address, its class, and the page it stands in.
type Place = (String, Option<String>, u32);

impl Known {
    fn hash(&self, tenant: &str, address: &str, class: Option<&str>) -> u64 {
        self.hasher.hash_one((tenant, address, class))
    }

    fn get(&self, tenant: &str, address: &str, class: Option<&str>) -> Option<Slot> {
        self.slots.get(&self.hash(tenant, address, class)).copied()
    }

    fn put(&mut self, tenant: &str, entry: &Entry, page: u32) {
        let since = u32::try_from(Duration::from_millis(entry.since.0).as_secs()).unwrap_or(u32::MAX);
        let hash = self.hash(tenant, &entry.address, entry.class.as_deref());
        let old = self.slots.insert(hash, Slot { page, since, reason: entry.reason });
        self.recount(old, Some(entry.reason));
    }

    fn drop(&mut self, tenant: &str, address: &str, class: Option<&str>) {
        let hash = self.hash(tenant, address, class);
        let old = self.slots.remove(&hash);
        self.recount(old, None);
    }

    fn recount(&mut self, old: Option<Slot>, new: Option<Reason>) {
        if let Some(old) = old {
            *self.counts.entry(old.reason).or_default() -= 1;
        }
        if let Some(new) = new {
            *self.counts.entry(new).or_default() += 1;
        }
    }

    /// Those that are not there, each once; and the complaints whose place they take.
    fn news(&self, tenant: &str, entries: Vec<Entry>) -> (Vec<Entry>, Vec<Place>) {
        let (mut fresh, mut gone) = (HashMap::new(), Vec::new());
        for entry in entries {
            let hash = self.hash(tenant, &entry.address, entry.class.as_deref());
            match self.slots.get(&hash) {
                Some(slot) if slot.reason != Reason::Complaint || entry.reason == Reason::Complaint => {
                    continue;
                }
                Some(slot) => gone.push((entry.address.clone(), entry.class.clone(), slot.page)),
                None => {}
            }
            fresh.entry(hash).or_insert(entry);
        }
        (fresh.into_values().collect(), gone)
    }
}

#[cfg(test)]
mod tests;
