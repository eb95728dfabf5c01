//! The memory of bodies that were read back from the disk: each keeps its part of one bound until nobody has it any more. Who
//! finds none left waits, in turn. That cannot stand still: nobody who has one waits for another, and mail that has its 250
//! can wait. One tenant's have half of it at most, so that receivers who take its mail slowly hold up its own only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this are not counted: the attempts that may be under way bound them, and they are not to wait behind large ones.
const SMALL: u64 = 64 * 1024;
/// What the bound is counted in, octets.
const UNIT: u64 = 1024;

/// Tenants that are kept in mind although nobody reads for them, before they are looked for.
const FORGOTTEN: usize = 64;

/// The bound.
pub(super) struct Room {
    units: Arc<Semaphore>,
    most: u32,
    /// What is left to each tenant for which somebody has a part, or waits for one.
    shares: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// One body's part of it.
pub(super) struct Part(Option<Held>);

/// Of its tenant's share, and of the whole: in this order, so that who waits for the whole takes nothing of another tenant's.
struct Held {
    _share: OwnedSemaphorePermit,
    _whole: OwnedSemaphorePermit,
}

/// A body and its part.
struct Kept {
    body: Vec<u8>,
    _part: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Room {
    /// So many octets.
    pub(super) fn new(octets: u64) -> Self {
        let most = u32::try_from(octets / UNIT).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3);
        Self { units: Arc::new(Semaphore::new(most as usize)), most, shares: Mutex::default() }
    }

    /// What a body takes of its tenant's share and of the whole. One that is larger takes all, and is read when it is the only one.
    fn units(&self, octets: u64) -> (u32, u32) {
        let units = u32::try_from(octets.div_ceil(UNIT)).unwrap_or(u32::MAX);
        (units.min(self.half()), units.min(self.most))
    }

    fn half(&self) -> u32 {
        self.most.div_ceil(2)
    }

    fn share(&self, tenant: &Arc<str>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(tenant).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() >= FORGOTTEN {
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::new(Semaphore::new(self.half() as usize));
        shares.insert(Arc::clone(tenant), Arc::downgrade(&share));
        share
    }

    /// A part, if it is there at once.
    pub(super) fn try_take(&self, tenant: &Arc<str>, octets: u64) -> Option<Part> {
        if octets <= SMALL {
            return Some(Part(None));
        }
        let (of_share, of_whole) = self.units(octets);
        let share = self.share(tenant).try_acquire_many_owned(of_share).ok()?;
        let whole = Arc::clone(&self.units).try_acquire_many_owned(of_whole).ok()?;
        Some(Part(Some(Held { _share: share, _whole: whole })))
    }

    /// Waits for a part.
    pub(super) async fn take(&self, tenant: &Arc<str>, octets: u64) -> Part {
        let (of_share, of_whole) = self.units(octets);
        // An error would say that one was closed, which they never are.
        let Ok(share) = self.share(tenant).acquire_many_owned(of_share).await else { return Part(None) };
        let Ok(whole) = Arc::clone(&self.units).acquire_many_owned(of_whole).await else { return Part(None) };
        Part(Some(Held { _share: share, _whole: whole }))
    }
}

impl Part {
    /// The body with its part, which is given back with the last copy.
    pub(super) fn keep(self, body: Vec<u8>) -> Bytes {
        match self.0 {
            Some(part) => Bytes::from_owner(Kept { body, _part: part }),
            None => body.into(),
        }
    }
}
