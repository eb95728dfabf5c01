//! How many sessions there may be at once, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Total,
    Address,
}

impl Full {
    /// As the metric's label has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Address => "address",
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Permits {
    counts: Arc<Mutex<Counts>>,
}

/// One session's place; dropped with it.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Permits,
    ip: IpAddr,
}

impl Permits {
    /// A place, if there is one.
    pub(super) fn take(&self, ip: IpAddr, total: usize, by_address: usize) -> Result<Permit, Full> {
        let mut counts = self.lock();
        if counts.total >= total {
            return Err(Full::Total);
        }
        if counts.by_address.get(&ip).is_some_and(|here| *here >= by_address) {
            return Err(Full::Address);
        }
        counts.total += 1;
        *counts.by_address.entry(ip).or_default() += 1;
        drop(counts);
        Ok(Permit { permits: self.clone(), ip })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.permits.lock();
        counts.total = counts.total.saturating_sub(1);
        if let Some(here) = counts.by_address.get_mut(&self.ip) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                counts.by_address.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_places_come_back() {
        let permits = Permits::default();
        let (a, b) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let first = permits.take(a, 2, 1).unwrap();
        assert_eq!(permits.take(a, 2, 1).unwrap_err(), Full::Address);
        let second = permits.take(b, 2, 1).unwrap();
        assert_eq!(permits.take(b, 2, 9).unwrap_err(), Full::Total);
        drop((first, second));
        assert!(permits.lock().by_address.is_empty(), "nothing is kept of addresses that left");
        assert!(permits.take(a, 2, 1).is_ok());
    }
}
