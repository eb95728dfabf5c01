//! Senders of whom a site has had enough for now: mail of that From domain rests there, and nobody else's. Google counts by
//! address and by domain, and says in its 4.7.28 which of the two it means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::outcome::{Scope, Trouble};
use super::pace::REST_LIMITED;
use crate::clock::Clock;
use crate::mail::address::Domain;
use crate::mail::message::Facts;
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;

/// Pairs remembered at once. Who finds no room is tried by its own schedule, as if nothing had been said.
const PAIRS_MAX: usize = 10_000;

/// Which sender rests at which site, and until when.
#[derive(Debug)]
pub(super) struct Quotas {
    // A std mutex: held for a map operation, never across an await.
    resting: Mutex<HashMap<(Arc<str>, Domain), Duration>>,
    clock: Clock,
}

impl Quotas {
    pub(super) fn new(clock: Clock) -> Self {
        Self { resting: Mutex::default(), clock }
    }

    /// The site has said that this sender sends too much. Answers until when it rests.
    pub(super) fn rest(&self, site: &Arc<str>, sender: &Domain) -> Time {
        let now = self.clock.ticks();
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.len() >= PAIRS_MAX {
            resting.retain(|_, until| *until > now);
        }
        if resting.len() < PAIRS_MAX {
            resting.insert((Arc::clone(site), sender.clone()), now.saturating_add(REST_LIMITED));
        }
        self.clock.now().after(REST_LIMITED)
    }

    /// Until when this sender rests there, if it does.
    pub(super) fn rests(&self, site: &Arc<str>, sender: &Domain) -> Option<Time> {
        let now = self.clock.ticks();
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if resting.is_empty() {
            return None;
        }
        let pair = (Arc::clone(site), sender.clone());
        let left = resting.get(&pair)?.saturating_sub(now);
        if left.is_zero() {
            resting.remove(&pair);
            return None;
        }
        Some(self.clock.now().after(left))
    }
}

/// Whose mail it is to a receiver that counts: the From domain's, whose signature it bears. Of a notification of ours that is the relay's domain.
pub(super) fn sender(facts: &Facts) -> Option<&Domain> {
    facts.header_from.as_ref().or(facts.envelope.from.as_ref()).map(|from| from.domain())
}

/// What an attempt would find.
pub(super) fn trouble(site: &str, sender: &Domain, until: Time) -> Trouble {
    let text = format!(
        "not tried: {site} has said that {sender} sends too much, and gets no mail of it until {}",
        until.utc()
    );
    Trouble::transient(Scope::Destination, Enhanced(4, 7, 28), text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn one_sender_rests_at_one_site_for_ten_minutes() {
        let hand = Arc::new(AtomicU64::new(1_000));
        let quotas = Quotas::new(Clock::Set(Arc::clone(&hand)));
        let (google, elsewhere): (Arc<str>, Arc<str>) = ("google.com".into(), "mx.test".into());
        let [acme, blue]: [Domain; 2] = ["acme.test", "blue.test"].map(|name| name.parse().unwrap());
        assert_eq!(quotas.rests(&google, &acme), None);
        let until = quotas.rest(&google, &acme);
        assert_eq!(until, Time(601_000));
        assert_eq!(quotas.rests(&google, &acme), Some(until));
        assert_eq!((quotas.rests(&google, &blue), quotas.rests(&elsewhere, &acme)), (None, None));
        hand.store(601_000, Ordering::Relaxed);
        assert_eq!(quotas.rests(&google, &acme), None, "it is over");
    }
}
