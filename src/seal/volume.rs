//! How much mail of an organization reached personal accounts at Gmail and Microsoft today. Both hold who sends 5,000 a day to
//! their rules for bulk senders, and Gmail never takes that back: who comes near is told in time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::dmarc::registered;
use super::judge::Finding;
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// Delivered recipients a day at which it is said: halfway, and where the rules begin (Google's "Email sender guidelines",
/// Microsoft's "Strengthening Email Ecosystem").
const NEAR: u32 = 2_500;
const BULK: u32 = 5_000;
/// Organizations counted; beyond, new ones are not.
const ORGANIZATIONS_MAX: usize = 10_000;
const DAY: u64 = 86_400_000;

/// Names of personal accounts at Microsoft end in these, below a country's or a general suffix.
const MICROSOFT: [&str; 4] = ["outlook", "hotmail", "live", "windowslive"];
/// What stands behind them.
const MICROSOFT_SUFFIXES: [&str; 47] = [
    "com", "at", "be", "ca", "cl", "cn", "cz", "de", "dk", "es", "fi", "fr", "hu", "ie", "in", "it", "jp",
    "kr", "lv", "my", "nl", "no", "ph", "pt", "ru", "sa", "se", "sg", "sk", "co.id", "co.il", "co.in",
    "co.jp", "co.kr", "co.nz", "co.th", "co.uk", "co.za", "com.ar", "com.au", "com.br", "com.gr", "com.mx",
    "com.pe", "com.tr", "com.vn", "hk",
];

/// A provider that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// gmail.com, googlemail.com.
    Gmail,
    /// outlook.com, hotmail.com, live.com, msn.com and their like.
    Microsoft,
}

impl Provider {
    /// As the log has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gmail => "gmail",
            Self::Microsoft => "microsoft",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Gmail, Self::Microsoft].into_iter().find(|provider| provider.name() == name)
    }

    /// Whose personal account an address with this domain is.
    #[must_use]
    pub fn of(domain: &Domain) -> Option<Self> {
        match domain.as_str() {
            "gmail.com" | "googlemail.com" => return Some(Self::Gmail),
            "msn.com" | "passport.com" => return Some(Self::Microsoft),
            _ => {}
        }
        let (name, suffix) = domain.as_str().split_once('.')?;
        let microsoft = MICROSOFT.contains(&name) && MICROSOFT_SUFFIXES.contains(&suffix);
        microsoft.then_some(Self::Microsoft)
    }
}

/// A mark that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The organizational domain.
    pub organization: String,
    /// Towards whom.
    pub provider: Provider,
    /// Recipients today.
    pub count: u32,
}

/// What is kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Days since 1970, UTC.
    pub day: u64,
    /// Recipients.
    pub count: u32,
}

#[derive(Debug)]
struct Tally {
    count: Count,
    /// Not yet kept.
    fresh: bool,
}

/// The counts of today.
#[derive(Debug, Default)]
pub struct Volumes {
    tallies: Mutex<HashMap<(String, Provider), Tally>>,
}

impl Volumes {
    /// A recipient took a message of this author. Answers the mark that it reached.
    pub fn count(&self, author: &Domain, recipient: &Domain, now: Time) -> Option<Reached> {
        let provider = Provider::of(recipient)?;
        let (organization, day) = (registered(author.as_str()), now.0 / DAY);
        let count = self.with(|tallies| {
            let key = (organization.to_owned(), provider);
            if tallies.len() >= ORGANIZATIONS_MAX && !tallies.contains_key(&key) {
                tallies.retain(|_, tally| tally.count.day == day);
            }
            if tallies.len() >= ORGANIZATIONS_MAX && !tallies.contains_key(&key) {
                return None;
            }
            let tally = tallies.entry(key).or_insert(Tally { count: Count { day, count: 0 }, fresh: true });
            // A clock that was set back does not begin the day anew.
            if tally.count.day < day {
                tally.count = Count { day, count: 0 };
            }
            tally.count.count += 1;
            tally.fresh = true;
            Some(tally.count.count)
        })?;
        let organization = organization.to_owned();
        [NEAR, BULK].contains(&count).then_some(Reached { organization, provider, count })
    }

    /// Today's count.
    #[must_use]
    pub fn today(&self, author: &Domain, provider: Provider, now: Time) -> u32 {
        let key = (registered(author.as_str()).to_owned(), provider);
        let today = now.0 / DAY;
        self.with(|tallies| {
            tallies.get(&key).filter(|tally| tally.count.day == today).map_or(0, |tally| tally.count.count)
        })
    }

    /// What is to be said of an organization today, once it is halfway to where the rules begin.
    #[must_use]
    pub fn findings(&self, author: &Domain, now: Time) -> Vec<Finding> {
        let near = |provider| {
            Some((provider, self.today(author, provider, now))).filter(|(_, count)| *count >= NEAR)
        };
        let said = [Provider::Gmail, Provider::Microsoft].into_iter().filter_map(near).map(|(provider, count)| {
            let says = format!(
                "{count} recipients at {} took mail of {} today; from about {} a day its rules for bulk senders apply",
                provider.name(),
                registered(author.as_str()),
                BULK
            );
            Finding::warning("volume", says, "see that SPF and DKIM both pass, that there is a DMARC record, and that what was \
                subscribed to has one-click unsubscription")
        });
        said.collect()
    }

    /// Takes over what was counted before a restart; what has been counted since is added.
    pub fn recall(&self, organization: String, provider: Provider, before: Count) {
        self.with(|tallies| {
            let tally =
                tallies.entry((organization, provider)).or_insert(Tally { count: before, fresh: false });
            if tally.fresh && tally.count.day == before.day {
                tally.count.count += before.count;
            }
        });
    }

    /// What has not been kept yet.
    #[must_use]
    pub fn fresh(&self) -> Vec<(String, Provider, Count)> {
        self.with(|tallies| {
            let fresh = tallies.iter_mut().filter_map(|((organization, provider), tally)| {
                std::mem::take(&mut tally.fresh).then(|| (organization.clone(), *provider, tally.count))
            });
            fresh.collect()
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(String, Provider), Tally>) -> T) -> T {
        work(&mut self.tallies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    #[test]
    fn whose_personal_accounts_they_are() {
        for (name, provider, why) in [
            ("gmail.com", Some(Provider::Gmail), "the usual one"),
            ("googlemail.com", Some(Provider::Gmail), "its older name"),
            ("google.com", None, "the rules do not cover Workspace"),
            ("mail.gmail.com", None, "nobody's address"),
            ("hotmail.co.uk", Some(Provider::Microsoft), "a country's"),
            ("outlook.com", Some(Provider::Microsoft), "the usual one"),
            ("msn.com", Some(Provider::Microsoft), "an older one"),
            ("live.example", None, "no suffix of theirs"),
            ("outlook.com.br", Some(Provider::Microsoft), "two labels behind it"),
        ] {
            assert_eq!(Provider::of(&domain(name)), provider, "{name}: {why}");
        }
    }

    #[test]
    fn marks_are_said_once_a_day_for_the_whole_organization() {
        let volumes = Volumes::default();
        let (gmail, day) = (domain("gmail.com"), Time(20_000 * DAY + 5));
        let mut said = Vec::new();
        for n in 0..6_000 {
            let author = if n % 2 == 0 { domain("acme.com") } else { domain("news.acme.com") };
            said.extend(volumes.count(&author, &gmail, day));
        }
        let counts: Vec<_> = said.iter().map(|reached| (&*reached.organization, reached.count)).collect();
        assert_eq!(counts, [("acme.com", 2_500), ("acme.com", 5_000)]);
        assert_eq!(volumes.today(&domain("x.acme.com"), Provider::Gmail, day), 6_000);
        assert_eq!(volumes.today(&domain("acme.com"), Provider::Microsoft, day), 0);
        let next = day.after(std::time::Duration::from_millis(DAY));
        assert_eq!(volumes.today(&domain("acme.com"), Provider::Gmail, next), 0);
        assert_eq!(volumes.count(&domain("acme.com"), &gmail, next), None);
        assert_eq!(volumes.today(&domain("acme.com"), Provider::Gmail, next), 1);
        assert_eq!(volumes.count(&domain("acme.com"), &gmail, day), None, "the clock was set back");
        assert_eq!(volumes.today(&domain("acme.com"), Provider::Gmail, next), 2);
    }

    #[test]
    fn counts_outlive_a_restart() {
        let (before, now) = (Volumes::default(), Time(20_000 * DAY));
        for _ in 0..3 {
            assert_eq!(before.count(&domain("acme.com"), &domain("gmail.com"), now), None);
        }
        let kept = before.fresh();
        assert_eq!(kept.len(), 1);
        assert!(before.fresh().is_empty(), "kept once");
        let after = Volumes::default();
        assert_eq!(after.count(&domain("acme.com"), &domain("gmail.com"), now), None);
        for (organization, provider, count) in kept {
            after.recall(organization, provider, count);
        }
        assert_eq!(after.today(&domain("acme.com"), Provider::Gmail, now), 4);
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let volumes = Volumes::default();
        let gmail = domain("gmail.com");
        for n in 0..ORGANIZATIONS_MAX + 10 {
            assert_eq!(volumes.count(&domain(&format!("d{n}.example")), &gmail, Time(DAY)), None);
        }
        assert_eq!(volumes.fresh().len(), ORGANIZATIONS_MAX);
        assert_eq!(
            volumes.count(&domain("new.example"), &gmail, Time(2 * DAY)),
            None,
            "the next day has room"
        );
        assert_eq!(volumes.today(&domain("new.example"), Provider::Gmail, Time(2 * DAY)), 1);
    }
}
