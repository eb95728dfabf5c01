//! How many requests an address may make. Pure: time comes in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::tenant::throttle::network;

/// Requests of one address a minute. Behind a proxy on this machine all come from loopback, which is not counted.
const A_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses counted at once; beyond that nobody is, and the bound of connections holds.
const ADDRESSES: usize = 10_000;

/// What each address did in its minute.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: HashMap<IpAddr, (Duration, u32)>,
}

impl Pace {
    /// Whether this address may make another request now.
    pub(super) fn may(&mut self, peer: IpAddr, now: Duration) -> bool {
        if peer.is_loopback() {
            return true;
        }
        let over = |began: Duration| now.saturating_sub(began) >= MINUTE;
        let key = network(peer);
        if self.seen.len() >= ADDRESSES && !self.seen.contains_key(&key) {
            self.seen.retain(|_, (began, _)| !over(*began));
            if self.seen.len() >= ADDRESSES {
                return true;
            }
        }
        let (began, count) = self.seen.entry(key).or_insert((now, 0));
        if over(*began) {
            (*began, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= A_MINUTE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_minute_and_others_theirs() {
        let mut pace = Pace::default();
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert!((0..A_MINUTE).all(|_| pace.may(one, Duration::ZERO)));
        assert!(!pace.may(one, Duration::from_secs(59)), "one more in the same minute");
        assert!(pace.may(other, Duration::from_secs(59)), "another address");
        assert!(pace.may(one, Duration::from_secs(60)), "the next minute");
        let (near, far): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert!((0..A_MINUTE).all(|_| pace.may(near, Duration::ZERO)));
        assert!(!pace.may(far, Duration::ZERO), "of the same /64");
        assert!(
            (0..1_000).all(|_| pace.may([127, 0, 0, 1].into(), Duration::ZERO)),
            "a proxy on this machine"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pace = Pace::default();
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            assert!(pace.may(IpAddr::from((0x0100_0000 + number).to_be_bytes()), Duration::ZERO));
        }
        assert_eq!(pace.seen.len(), ADDRESSES);
        assert!(pace.may([9, 9, 9, 9].into(), MINUTE));
        assert_eq!(pace.seen.len(), 1, "those of the last minute are forgotten");
    }
}
