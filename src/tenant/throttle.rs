//! How many wrong passwords are looked at: buckets per address, per account, and per pair of both. Pure: time comes in.
//!
//! An address that lately logged in well to an account stands outside the account's and the address's buckets and has one of
//! its own with that account, so that strangers' guesses, even by the thousand, do not lock the tenant out (AU2). A guesser
//! cannot earn that: it takes the password, or an address of the tenant's own networks.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// A user name or a user name with an address, as a keyed hash: bounded, and of no use in a core dump.
pub(super) type Tag = [u8; 32];

/// Wrong passwords that come in a row by mistake: a person at a form, a forgotten cron job.
const ADDRESS: Rate = Rate { burst: 10, every: Duration::from_secs(60) };
/// More than one address's, so that the tenant's own mistakes rarely meet it.
const ACCOUNT: Rate = Rate { burst: 30, every: Duration::from_secs(30) };
/// A known address: its own mistakes only, sooner forgiven.
const PAIR: Rate = Rate { burst: 20, every: Duration::from_secs(10) };
/// Entries of each table, about 100 octets each; the longest unused gives way. A guesser who would push an entry out pays
/// one argon2id hash for each of so many other names or networks first.
const ENTRIES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// How long an address is known after a good login.
const KNOWN: Duration = Duration::from_secs(30 * 86_400);

/// A bucket that holds `burst` tries and gets one back `every` so often.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    every: Duration,
}

/// When a bucket is full again (the generic cell rate algorithm: one instant says it all).
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

impl Rate {
    /// How long until there is a try again; zero: now.
    fn wait(self, bucket: Option<&Bucket>, now: Instant) -> Duration {
        let used = bucket.map_or(Duration::ZERO, |Bucket(full)| full.saturating_duration_since(now));
        (used + self.every).saturating_sub(self.every * self.burst)
    }

    fn take(self, bucket: &mut Bucket, now: Instant) {
        bucket.0 = bucket.0.max(now) + self.every;
    }

    fn give_back(self, bucket: &mut Bucket) {
        bucket.0 = bucket.0.checked_sub(self.every).unwrap_or(bucket.0);
    }
}

/// Who tries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    /// The peer's address, or its /64.
    pub(super) network: IpAddr,
    /// The user name's tag.
    pub(super) account: Tag,
    /// The tag of user name and network together.
    pub(super) pair: Tag,
    /// The address is one of the tenant's own networks.
    pub(super) own: bool,
}

/// A try that was let through; a right password gives it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    of: Try,
    /// Whether it came from a known address.
    pub(super) known: bool,
}

/// The buckets.
pub(super) struct Throttle {
    addresses: LruCache<IpAddr, Bucket>,
    accounts: LruCache<Tag, Bucket>,
    pairs: LruCache<Tag, Bucket>,
    /// Pairs that logged in well, and when.
    known: LruCache<Tag, Instant>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            addresses: LruCache::new(ENTRIES),
            accounts: LruCache::new(ENTRIES),
            pairs: LruCache::new(ENTRIES),
            known: LruCache::new(ENTRIES),
        }
    }

    fn is_known(&self, who: &Try, now: Instant) -> bool {
        who.own || self.known.peek(&who.pair).is_some_and(|at| now.saturating_duration_since(*at) < KNOWN)
    }

    /// Takes a try from each bucket that concerns this one, so that many guesses at once are not all let through.
    ///
    /// # Errors
    /// How long to wait where a bucket is empty; nothing is then taken.
    pub(super) fn admit(&mut self, who: Try, now: Instant) -> Result<Pass, Duration> {
        let known = self.is_known(&who, now);
        let wait = if known {
            PAIR.wait(self.pairs.get(&who.pair), now)
        } else {
            let address = ADDRESS.wait(self.addresses.get(&who.network), now);
            address.max(ACCOUNT.wait(self.accounts.get(&who.account), now))
        };
        if !wait.is_zero() {
            return Err(wait);
        }
        let pass = Pass { of: who, known };
        self.each(&pass, |rate, bucket| rate.take(bucket, now), now);
        Ok(pass)
    }

    /// The password was right: it was no guess.
    pub(super) fn give_back(&mut self, pass: &Pass, now: Instant) {
        self.each(pass, Rate::give_back, now);
    }

    /// A good login came from here.
    pub(super) fn remember(&mut self, who: &Try, now: Instant) {
        self.known.put(who.pair, now);
    }

    fn each(&mut self, pass: &Pass, change: impl Fn(Rate, &mut Bucket), now: Instant) {
        let fresh = || Bucket(now);
        if pass.known {
            change(PAIR, self.pairs.get_or_insert_mut(pass.of.pair, fresh));
        } else {
            change(ADDRESS, self.addresses.get_or_insert_mut(pass.of.network, fresh));
            change(ACCOUNT, self.accounts.get_or_insert_mut(pass.of.account, fresh));
        }
    }
}

/// One subscriber has a whole /64 of IPv6 (RFC 6177 section 2), so guesses are counted per /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(address: u8, account: u8, own: bool) -> Try {
        let mut pair = [address; 32];
        pair[0] = account;
        Try { network: IpAddr::from([192, 0, 2, address]), account: [account; 32], pair, own }
    }

    /// Tries until one is refused.
    fn exhaust(throttle: &mut Throttle, who: Try, now: Instant) -> u32 {
        (0..1000).take_while(|_| throttle.admit(who, now).is_ok()).count().try_into().unwrap()
    }

    #[test]
    fn an_address_has_so_many_tries_and_gets_them_back() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        assert_eq!(exhaust(&mut throttle, who(1, 1, false), now), ADDRESS.burst);
        let wait = throttle.admit(who(1, 2, false), now).unwrap_err();
        assert_eq!(wait, ADDRESS.every, "another account does not help the address");
        assert!(throttle.admit(who(2, 2, false), now).is_ok(), "another address and account is free");
        assert!(throttle.admit(who(1, 1, false), now + wait).is_ok(), "one is back after the wait");
        assert!(throttle.admit(who(1, 1, false), now + wait).is_err(), "but one only");
    }

    #[test]
    fn guesses_from_many_addresses_meet_the_accounts_bucket_and_not_the_tenant() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        let tenant = who(200, 1, false);
        let pass = throttle.admit(tenant, now).unwrap();
        throttle.give_back(&pass, now);
        throttle.remember(&tenant, now);
        let through = (1..=100).filter(|n| throttle.admit(who(*n, 1, false), now).is_ok()).count();
        assert_eq!(through, ACCOUNT.burst as usize, "the good login took none away");
        assert!(throttle.admit(who(150, 2, false), now).is_ok(), "another account is unaffected");
        assert!(throttle.admit(tenant, now).is_ok(), "the tenant's address gets in");
        assert!(throttle.admit(who(151, 1, true), now).is_ok(), "an address of its own networks gets in");
    }

    #[test]
    fn a_known_address_is_bounded_too() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        let tenant = who(1, 1, false);
        throttle.remember(&tenant, now);
        assert_eq!(exhaust(&mut throttle, tenant, now), PAIR.burst);
        assert!(throttle.admit(who(1, 2, false), now).is_ok(), "its other accounts are not concerned");
    }

    #[test]
    fn a_known_address_is_forgotten_after_its_time() {
        let (mut throttle, now) = (Throttle::new(), Instant::now());
        let tenant = who(1, 1, false);
        throttle.remember(&tenant, now);
        assert!(throttle.admit(tenant, now).unwrap().known);
        assert!(!throttle.admit(tenant, now + KNOWN).unwrap().known);
    }

    #[test]
    fn a_subscriber_with_a_64_is_one_address() {
        let one = network("2001:db8:1:2:3::4".parse().unwrap());
        assert_eq!(one, network("2001:db8:1:2::9".parse().unwrap()));
        assert_ne!(one, network("2001:db8:1:3::9".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), IpAddr::from([192, 0, 2, 1]));
    }
}
