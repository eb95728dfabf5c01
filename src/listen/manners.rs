//! The forgiving ClientHello: what is remembered of an address, so that a client set to SSL works on any port that has a
//! certificate, and one that waits for the banner gets it at once.
//!
//! | remembered | waits for a ClientHello | seen then | becomes |
//! |---|---|---|---|
//! | nothing | the configured moment (300 ms) | none | `Waits` |
//! | `Waits` | not at all | one after the banner | `Late` |
//! | `Late` | 3 s | none | `Both` |
//! | `Both` | the configured moment | one after the banner | `Late` |
//!
//! `Both` is what many platforms behind one address look like.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

/// Addresses remembered; the one not seen for longest is forgotten first. About 100 octets each.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// For an address whose ClientHello once came after the banner: it certainly comes.
const LATE_WAIT: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Waits,
    Late,
    Both,
}

/// What is remembered, by address and listener.
#[derive(Debug)]
pub(super) struct Manners {
    known: Mutex<LruCache<(IpAddr, u16), Manner>>,
}

impl Default for Manners {
    fn default() -> Self {
        Self { known: Mutex::new(LruCache::new(REMEMBERED)) }
    }
}

impl Manners {
    /// How long to wait for a ClientHello before the banner.
    pub(super) fn wait(&self, who: (IpAddr, u16), moment: Duration) -> Duration {
        match self.get(who) {
            Some(Manner::Waits) => Duration::ZERO,
            Some(Manner::Late) => LATE_WAIT,
            Some(Manner::Both) | None => moment,
        }
    }

    /// It was waited for, and none came.
    pub(super) fn silent(&self, who: (IpAddr, u16)) {
        let now = match self.get(who) {
            None | Some(Manner::Waits) => Manner::Waits,
            Some(Manner::Late | Manner::Both) => Manner::Both,
        };
        self.set(who, now);
    }

    /// It came after the banner.
    pub(super) fn late(&self, who: (IpAddr, u16)) {
        self.set(who, Manner::Late);
    }

    fn get(&self, who: (IpAddr, u16)) -> Option<Manner> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&who).copied()
    }

    fn set(&self, who: (IpAddr, u16), manner: Manner) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).put(who, manner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(300);

    #[test]
    fn an_address_is_learned_and_corrected() {
        let (manners, who) = (Manners::default(), (IpAddr::from([127, 0, 0, 1]), 587));
        assert_eq!(manners.wait(who, MOMENT), MOMENT, "not yet known");
        manners.silent(who);
        assert_eq!(manners.wait(who, MOMENT), Duration::ZERO, "it waits for the banner");
        assert_eq!(manners.wait((who.0, 2525), MOMENT), MOMENT, "another port may be meant differently");
        manners.late(who);
        assert_eq!(manners.wait(who, MOMENT), LATE_WAIT, "the next press of Connect works");
        manners.silent(who);
        assert_eq!(manners.wait(who, MOMENT), MOMENT, "two clients behind one address");
    }

    #[test]
    fn memory_is_bounded() {
        let manners = Manners::default();
        for n in 0..10_000u32 {
            manners.silent((IpAddr::from(n.to_be_bytes()), 587));
        }
        assert_eq!(manners.known.lock().unwrap().len(), REMEMBERED.get());
    }
}
