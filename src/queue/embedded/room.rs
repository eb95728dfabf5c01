//! The memory of bodies that were read back from the disk: each keeps its part of one bound until nobody has it any more. Who
//! finds none left waits, in turn. That cannot stand still: nobody who has one waits for another, and mail that has its 250
//! can wait.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this are not counted: the attempts that may be under way bound them, and they are not to wait behind large ones.
const SMALL: u64 = 64 * 1024;
/// What the bound is counted in, octets.
const UNIT: u64 = 1024;

/// The bound.
pub(super) struct Room {
    units: Arc<Semaphore>,
    most: u32,
}

/// One body's part of it.
pub(super) struct Part(Option<OwnedSemaphorePermit>);

/// A body and its part.
struct Kept {
    body: Vec<u8>,
    _part: OwnedSemaphorePermit,
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
        Self { units: Arc::new(Semaphore::new(most as usize)), most }
    }

    /// A larger body than the whole bound takes all of it, and is read when it is the only one.
    fn units(&self, octets: u64) -> u32 {
        u32::try_from(octets.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.most)
    }

    /// A part, if it is there at once.
    pub(super) fn try_take(&self, octets: u64) -> Option<Part> {
        if octets <= SMALL {
            return Some(Part(None));
        }
        let part = Arc::clone(&self.units).try_acquire_many_owned(self.units(octets)).ok()?;
        Some(Part(Some(part)))
    }

    /// Waits for a part.
    pub(super) async fn take(&self, octets: u64) -> Part {
        // An error would say that it was closed, which it never is.
        Part(Arc::clone(&self.units).acquire_many_owned(self.units(octets)).await.ok())
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
