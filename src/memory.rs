//! How much memory messages may take while they are taken in: from DATA or BDAT until the final reply each holds a `Permit`, and
//! a `Budget` holds them all to one bound. Nobody ever waits for memory: what finds none is refused, and what it had is free at
//! once, so that sessions can never wait for one another.
//!
//! Two rules decide who finds room. A message of up to `SMALL` octets does as long as there is any. A larger one does only while
//! its sender then holds no more than is left free: one tenant alone gets half, two a third each, and there is
//! always something left for the next ("dynamic thresholds", Choudhury and Hahne 1998). A message that is alone may take all.

mod given;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

pub use self::given::given;

/// Octets up to which a message counts as small.
pub const SMALL: u64 = 256 * 1024;
/// What a message takes beside its octets: the room that it is read through.
pub const READING: u64 = 32 * 1024;
/// What a message takes at its beginning if its size was not announced.
pub const START: u64 = 2 * READING;

/// Whose messages they are: a tenant's, or, as `None`, nobody's (what comes back to an inbound listener).
pub type Holder = Option<Arc<str>>;

/// There is no room for it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Debug, Default)]
struct Counts {
    held: u64,
    by_holder: HashMap<Holder, u64>,
}

impl Counts {
    /// Whether there is room for so many octets more, of a message that holds `own` already.
    fn fits(&self, holder: &Holder, (own, more): (u64, u64), most: u64) -> bool {
        let after = self.held.saturating_add(more);
        let theirs = self.by_holder.get(holder).copied().unwrap_or(0).saturating_add(more);
        let small = own.saturating_add(more) <= SMALL;
        after <= most && (small || self.held == own || theirs <= most - after)
    }

    fn add(&mut self, holder: &Holder, octets: u64) {
        self.held += octets;
        match self.by_holder.get_mut(holder) {
            Some(theirs) => *theirs += octets,
            None => drop(self.by_holder.insert(holder.clone(), octets)),
        }
    }

    fn give_back(&mut self, holder: &Holder, octets: u64) {
        self.held = self.held.saturating_sub(octets);
        if let Some(theirs) = self.by_holder.get_mut(holder) {
            *theirs = theirs.saturating_sub(octets);
            if *theirs == 0 {
                self.by_holder.remove(holder);
            }
        }
    }
}

/// All that messages hold. The bound comes with each question, so that a reload needs to tell nobody.
#[derive(Debug, Default)]
pub struct Budget {
    counts: Mutex<Counts>,
    gauge: Gauge,
}

impl Budget {
    /// Nothing is held yet; `gauge` always shows how much is.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        Self { counts: Mutex::default(), gauge }
    }

    /// Whether a message of so many octets would find room now.
    #[must_use]
    pub fn has_room(&self, holder: &Holder, octets: u64, most: u64) -> bool {
        self.counts().fits(holder, (0, octets), most)
    }

    /// Room for so many octets, to begin with.
    ///
    /// # Errors
    /// There is none.
    pub fn take(self: &Arc<Self>, holder: Holder, octets: u64, most: u64) -> Result<Permit, Full> {
        let mut permit = Permit { account: Some((Arc::clone(self), holder, most)), octets: 0 };
        permit.grow_to(octets)?;
        Ok(permit)
    }

    /// Octets held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.counts().held
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts();
        change(&mut counts);
        self.gauge.set(i64::try_from(counts.held).unwrap_or(i64::MAX));
    }
}

/// One message's part; given back when dropped. The default is of no budget, and has no bound: for what we write ourselves.
#[derive(Debug, Default)]
pub struct Permit {
    account: Option<(Arc<Budget>, Holder, u64)>,
    octets: u64,
}

impl Permit {
    /// Octets it stands for.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// Stands for so many octets from here on, if they are more.
    ///
    /// # Errors
    /// There is no room for them; it stands for what it did.
    pub fn grow_to(&mut self, octets: u64) -> Result<(), Full> {
        let more = octets.saturating_sub(self.octets);
        if let (Some((budget, holder, most)), true) = (&self.account, more > 0) {
            let mut fits = false;
            budget.change(|counts| {
                fits = counts.fits(holder, (self.octets, more), *most);
                if fits {
                    counts.add(holder, more);
                }
            });
            if !fits {
                return Err(Full);
            }
        }
        self.octets += more;
        Ok(())
    }

    /// Stands for exactly so many octets from here on, whether or not there is room: they are taken already.
    pub fn settle_at(&mut self, octets: u64) {
        if let Some((budget, holder, _)) = self.account.as_ref().filter(|_| octets != self.octets) {
            budget.change(|counts| match octets.checked_sub(self.octets) {
                Some(more) => counts.add(holder, more),
                None => counts.give_back(holder, self.octets - octets),
            });
        }
        self.octets = octets;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.settle_at(0);
    }
}

#[cfg(test)]
mod tests;
