//! How many sessions there may be at once, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Role;
use crate::tenant::throttle;

/// One place in so many stays free for tenants: strangers, who reach inbound listeners only, cannot take the last ones.
const KEPT: usize = 4;

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
    /// By IPv4 address, or /64: whoever has one IPv6 address has all of its network.
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

/// How many of all places a listener of this role may see taken, and still take one.
pub(super) fn places(total: usize, role: Role) -> usize {
    match role {
        Role::Submission => total,
        Role::Inbound => total - total / KEPT,
    }
}

impl Permits {
    /// A place, if there is one.
    pub(super) fn take(&self, ip: IpAddr, total: usize, by_address: usize) -> Result<Permit, Full> {
        let ip = throttle::network(ip);
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
    #[test]
    fn an_ipv6_network_has_the_places_of_one_address() {
        let permits = Permits::default();
        let [a, b, other] = ["2001:db8:1:2::3", "2001:db8:1:2:ffff::9", "2001:db8:1:3::3"];
        let first = permits.take(a.parse().unwrap(), 9, 1).unwrap();
        assert_eq!(permits.take(b.parse().unwrap(), 9, 1).unwrap_err(), Full::Address);
        let second = permits.take(other.parse().unwrap(), 9, 1).unwrap();
        drop((first, second));
        assert!(permits.lock().by_address.is_empty(), "what was counted is given back");
    }

    #[test]
    fn strangers_leave_places_for_tenants() {
        let permits = Permits::default();
        let take = |role| permits.take(IpAddr::from([127, 0, 0, 1]), places(8, role), 99);
        let strangers: Vec<_> = std::iter::from_fn(|| take(Role::Inbound).ok()).take(9).collect();
        assert_eq!(strangers.len(), 6);
        let tenants: Vec<_> = std::iter::from_fn(|| take(Role::Submission).ok()).take(9).collect();
        assert_eq!(tenants.len(), 2);
        assert_eq!((places(1, Role::Inbound), places(2000, Role::Inbound)), (1, 1500), "never none");
    }
}
