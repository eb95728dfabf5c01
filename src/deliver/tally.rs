//! How sessions with exchangers went under TLS, counted by domain and day, for the reports that domains ask for (RFC 8460). In
//! memory here; the daemon remembers it over a restart, and reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::sts::Policy;
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// Domains counted in one day; of more nothing is told.
const DOMAINS_MAX: usize = 20_000;
/// Different failures of one domain in one day.
const FAILURES_MAX: usize = 50;
/// Milliseconds of a day.
const DAY: u64 = 86_400_000;
/// Reports of one day go out within so many milliseconds after it, each at a time of its own, so that nobody who collects them gets
/// all of them at midnight (RFC 8460 section 4.1).
const SPREAD: u64 = 4 * 3_600_000;
/// One that nobody took is tried again after so many milliseconds, then after twice as many, and so on.
const FIRST_WAIT: u64 = 15 * 60_000;
/// Until it is a day old (section 5.5).
const TRIED: u64 = DAY;

/// Which policy a session was held against (RFC 8460 section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// TLSA records.
    Tlsa,
    /// An MTA-STS policy.
    Sts,
    /// None was found.
    Nothing,
}

/// What went wrong (RFC 8460 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// STARTTLS is not offered, or refused.
    NotSupported,
    /// The certificate is of another name.
    OtherName,
    /// Its time is over, or has not begun.
    Expired,
    /// Nobody we know vouches for it.
    NotTrusted,
    /// The handshake failed, or the host is none of the policy's.
    Failed,
    /// No TLSA record fits.
    Tlsa,
    /// DNSSEC proves the contrary, or nothing.
    Dnssec,
    /// The policy could not be fetched.
    StsFetch,
    /// It is no policy.
    StsInvalid,
    /// The certificate of the policy's host is not good.
    StsCertificate,
}

/// A domain's sessions of one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The policy domain.
    pub domain: Domain,
    /// Days since 1 January 1970, UTC.
    pub day: u64,
    /// By what they were held against.
    pub counts: BTreeMap<Against, Count>,
}

/// Sessions held against one kind of policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The MTA-STS policy, as far as it matters: its lines.
    pub policy: Vec<String>,
    /// The exchangers that it names.
    pub exchangers: Vec<String>,
    /// Sessions as they should be.
    pub good: u32,
    /// The others.
    pub failures: Vec<Failure>,
}

/// Sessions that failed alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// How.
    pub problem: Problem,
    /// The exchanger.
    pub host: Option<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// How many.
    pub count: u32,
}

impl Tally {
    /// Adds what was counted earlier. The policy stays that of the later sessions.
    fn take(&mut self, against: Against, earlier: Count) {
        let count = self.counts.entry(against).or_default();
        count.good = count.good.saturating_add(earlier.good);
        if count.policy.is_empty() {
            (count.policy, count.exchangers) = (earlier.policy, earlier.exchangers);
        }
        earlier.failures.into_iter().for_each(|failure| count.fail(failure));
    }
}

impl Count {
    /// Adds sessions that failed; of more than so many kinds nothing is told.
    fn fail(&mut self, more: Failure) {
        let same = |failure: &&mut Failure| {
            (failure.problem, &failure.host, failure.ip) == (more.problem, &more.host, more.ip)
        };
        let room = self.failures.len() < FAILURES_MAX;
        match self.failures.iter_mut().find(same) {
            Some(failure) => failure.count = failure.count.saturating_add(more.count),
            None if room => self.failures.push(more),
            None => {}
        }
    }

    /// All sessions that failed.
    #[must_use]
    pub fn bad(&self) -> u32 {
        self.failures.iter().fold(0, |sum, failure| sum.saturating_add(failure.count))
    }
}

/// What a session came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session<'a> {
    /// The recipients' domain.
    pub(super) domain: &'a Domain,
    /// When.
    pub(super) at: Time,
    /// Held against what.
    pub(super) against: Against,
    /// The MTA-STS policy, if that is it.
    pub(super) policy: Option<&'a Policy>,
    /// `None`: as it should be.
    pub(super) problem: Option<Problem>,
    /// With whom; `None`: it did not come so far.
    pub(super) host: Option<(&'a str, IpAddr)>,
}

/// The tallies of all domains.
#[derive(Debug, Default)]
pub struct Tallies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By day and domain.
    all: BTreeMap<(u64, Domain), Tally>,
    /// Not yet remembered.
    changed: BTreeSet<(u64, Domain)>,
    /// Those that could not be handed in: how often they were tried, and when they are tried again. A restart forgets it, and
    /// tries at once.
    tried: BTreeMap<(u64, Domain), (u32, Time)>,
}

/// The day of a time.
#[must_use]
pub fn day(at: Time) -> u64 {
    at.0 / DAY
}

/// When the report of this tally is due for the first time; `salt` is our own name, so that relays differ.
fn due(tally: &Tally, salt: &str) -> Time {
    let over = tally.day.saturating_add(1).saturating_mul(DAY);
    let spread = crc32c::crc32c(format!("{salt}/{}/{}", tally.day, tally.domain).as_bytes());
    Time(over.saturating_add(u64::from(spread) % SPREAD))
}

/// Whether it is too old to be told of.
#[must_use]
pub fn is_late(tally: &Tally, now: Time) -> bool {
    now.0 >= tally.day.saturating_add(1).saturating_mul(DAY).saturating_add(SPREAD + TRIED)
}

impl Tallies {
    /// Counts a session.
    pub(super) fn count(&self, session: &Session<'_>) {
        let key = (day(session.at), session.domain.clone());
        self.with(|inner| {
            let full = inner.all.len() >= DOMAINS_MAX && !inner.all.contains_key(&key);
            if full {
                return;
            }
            inner.changed.insert(key.clone());
            let tally = inner.all.entry(key).or_insert_with_key(|(day, domain)| Tally {
                domain: domain.clone(),
                day: *day,
                counts: BTreeMap::new(),
            });
            add(tally.counts.entry(session.against).or_default(), session);
        });
    }

    /// Takes tallies from before a restart: what was counted since is added.
    pub fn recall(&self, tallies: impl IntoIterator<Item = Tally>) {
        self.with(|inner| {
            for old in tallies {
                let key = (old.day, old.domain.clone());
                match inner.all.get_mut(&key) {
                    Some(tally) => {
                        old.counts.into_iter().for_each(|(against, count)| tally.take(against, count));
                        inner.changed.insert(key);
                    }
                    None => drop(inner.all.insert(key, old)),
                }
            }
        });
    }

    /// What is to be remembered now; it is then taken for remembered.
    pub fn changed(&self) -> Vec<Tally> {
        self.with(|inner| {
            let changed = std::mem::take(&mut inner.changed);
            changed.iter().filter_map(|key| inner.all.get(key).cloned()).collect()
        })
    }

    /// Those of days that are over, whose report is due now.
    #[must_use]
    pub fn due(&self, now: Time, salt: &str) -> Vec<Tally> {
        self.with(|inner| {
            let over = inner.all.iter().take_while(|((day_of, _), _)| *day_of < day(now));
            let ready = over.filter(|(key, tally)| {
                let again = inner.tried.get(key).map_or(Time(0), |(_, again)| *again);
                due(tally, salt).max(again) <= now
            });
            ready.map(|(_, tally)| tally.clone()).collect()
        })
    }

    /// Nobody took the report: it is tried again later.
    pub fn not_taken(&self, tally: &Tally, now: Time) {
        self.with(|inner| {
            let tried = inner.tried.entry((tally.day, tally.domain.clone())).or_insert((0, now));
            let wait = FIRST_WAIT.saturating_mul(2u64.saturating_pow(tried.0));
            *tried = (tried.0.saturating_add(1), Time(now.0.saturating_add(wait)));
        });
    }

    /// It has been reported, or nobody asked for it.
    pub fn forget(&self, tally: &Tally) {
        self.with(|inner| {
            let key = (tally.day, tally.domain.clone());
            inner.all.remove(&key);
            inner.changed.remove(&key);
            inner.tried.remove(&key);
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn add(count: &mut Count, session: &Session<'_>) {
    if let Some(policy) = session.policy {
        count.policy = policy.lines();
        count.exchangers.clone_from(&policy.mx);
    }
    let Some(problem) = session.problem else {
        count.good = count.good.saturating_add(1);
        return;
    };
    let (host, ip) = session.host.map(|(host, ip)| (host.to_owned(), ip)).unzip();
    count.fail(Failure { problem, host, ip, count: 1 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_day_domain_and_policy() {
        let tallies = Tallies::default();
        let domain: Domain = "b.test".parse().unwrap();
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let session = |at, against, problem| Session {
            domain: &domain,
            at: Time(at),
            against,
            policy: None,
            problem,
            host: Some(("mx.test", ip)),
        };
        for session in [
            session(1, Against::Sts, None),
            session(2, Against::Sts, Some(Problem::Expired)),
            session(3, Against::Sts, Some(Problem::Expired)),
            session(4, Against::Nothing, None),
            session(DAY, Against::Sts, None),
        ] {
            tallies.count(&session);
        }
        assert_eq!(tallies.changed().len(), 2);
        assert_eq!(tallies.changed().len(), 0, "taken for remembered");
        let over = |days: u64| tallies.due(Time(days * DAY + SPREAD), "relay.test");
        let first = over(1);
        assert_eq!(first.len(), 1, "today is not over");
        let sts = &first[0].counts[&Against::Sts];
        assert_eq!((sts.good, sts.bad(), sts.failures.len()), (1, 2, 1));
        tallies.forget(&first[0]);
        assert_eq!(over(2).len(), 1);
        for at in 0..100 {
            let name = format!("mx{at}.test");
            tallies.count(&Session {
                host: Some((&name, ip)),
                ..session(1, Against::Sts, Some(Problem::Failed))
            });
        }
        assert_eq!(over(1)[0].counts[&Against::Sts].failures.len(), FAILURES_MAX, "bounded");
    }

    #[test]
    fn what_was_counted_before_a_late_recall_is_added_to_what_was_remembered() {
        let domain: Domain = "b.test".parse().unwrap();
        let counted = |problems: &[Option<Problem>]| {
            let tallies = Tallies::default();
            for problem in problems.iter().copied() {
                let (at, against, policy) = (Time(1), Against::Sts, None);
                let host = Some(("mx.test", "192.0.2.1".parse().unwrap()));
                tallies.count(&Session { domain: &domain, at, against, policy, problem, host });
            }
            tallies
        };
        let remembered = counted(&[None, Some(Problem::Expired), Some(Problem::Failed)]).changed();
        let tallies = counted(&[None, Some(Problem::Expired)]);
        assert_eq!(tallies.changed().len(), 1);
        tallies.recall(remembered.clone());
        let changed = tallies.changed();
        let sum = &changed.first().expect("the sum is to be remembered").counts[&Against::Sts];
        let failures: Vec<_> = sum.failures.iter().map(|it| (it.problem, it.count)).collect();
        assert_eq!((sum.good, failures), (2, vec![(Problem::Expired, 2), (Problem::Failed, 1)]));
        let fresh = Tallies::default();
        fresh.recall(remembered);
        assert!(fresh.changed().is_empty(), "nothing new in it");
    }

    #[test]
    fn reports_go_out_at_their_own_time_and_are_tried_for_a_day() {
        let tallies = Tallies::default();
        for n in 0..200 {
            let domain: Domain = format!("d{n}.test").parse().unwrap();
            let at = Time(1);
            let (against, policy, problem, host) = (Against::Nothing, None, None, None);
            tallies.count(&Session { domain: &domain, at, against, policy, problem, host });
        }
        let due = |now: u64| tallies.due(Time(now), "relay.test").len();
        assert_eq!(due(DAY - 1), 0, "the day is not over");
        for quarter in 1..4 {
            let out = u64::try_from(due(DAY + quarter * SPREAD / 4)).unwrap();
            assert!((20 * quarter..80 * quarter).contains(&out), "spread over the hours: {out} of 200");
        }
        let all = tallies.due(Time(DAY + SPREAD), "relay.test");
        assert_eq!(all.len(), 200);
        assert_ne!(
            tallies.due(Time(DAY + SPREAD / 2), "other.test"),
            tallies.due(Time(DAY + SPREAD / 2), "relay.test")
        );
        let one = &all[0];
        all.iter().skip(1).for_each(|tally| tallies.forget(tally));
        let (mut now, mut tries) = (DAY + SPREAD, 0);
        while !is_late(one, Time(now)) {
            assert_eq!(due(now), 1);
            tallies.not_taken(one, Time(now));
            assert_eq!(due(now + FIRST_WAIT - 1), 0, "not at once");
            now += FIRST_WAIT << tries;
            tries += 1;
        }
        assert_eq!(tries, 7, "at 0, 1/4, 3/4, 7/4, 15/4, 31/4 and 63/4 hours");
    }
}
