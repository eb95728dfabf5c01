//! What a class does to its mail. A guess may speed a mail up; it never slows one down: what a class recognised from a link or a
//! subject would worsen, and what must protect it, stays as it is for mail of the tenant's default.
//!
//! What disposes of mail asks only for a class that is certain (`certain`). Mail whose class is a guess, or told by From or by the
//! default, is treated as if nothing had told its class: a guess neither brings about such an end nor averts it.

use std::time::Duration;

use super::{Class, ClassTls, Classes, Hide, Suppression};
use crate::mail::class::Classed;
use crate::mail::message::{Lane, TlsNeed};
use crate::mail::priority::Priority;

/// What logs, listings and notifications must not show of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hides {
    /// Its subject.
    pub subject: bool,
    /// What follows the host in links.
    pub link: bool,
}

impl Hides {
    /// Whether anything is hidden.
    #[must_use]
    pub fn any(self) -> bool {
        self.subject || self.link
    }
}

/// The class, where whoever sent the mail told it: by login, header or control address.
#[must_use]
pub fn certain(classed: Option<&Classed>) -> Option<&Classed> {
    classed.filter(|classed| classed.by.is_certain())
}

impl Classes {
    /// Which entries of the suppression list count for its mail: as its class says if that is certain, else as the tenant has it
    /// for all its mail (`usual`).
    #[must_use]
    pub fn suppression(&self, classed: Option<&Classed>, usual: Suppression) -> Suppression {
        self.certain(classed).and_then(|class| class.suppression).unwrap_or(usual)
    }

    /// The class of its mail, where it is certain and still configured: only that may be asked what disposes of mail.
    #[must_use]
    pub fn certain(&self, classed: Option<&Classed>) -> Option<&Class> {
        self.find(&certain(classed)?.name)
    }

    /// How mail of this class takes turns.
    #[must_use]
    pub fn lane(&self, classed: Option<&Classed>) -> Lane {
        let usual = self.default_class().map(|class| class.lane).unwrap_or_default();
        let Some(classed) = classed else { return usual };
        let own = self.find(&classed.name).map_or(usual, |class| class.lane);
        if classed.by.is_guess() { own.min(usual) } else { own }
    }

    /// How urgent mail of this class is to the servers behind us, where its sender does not say.
    #[must_use]
    pub fn priority(&self, classed: Option<&Classed>) -> Priority {
        let usual = self.default_class().map(|class| class.priority).unwrap_or_default();
        let Some(classed) = classed else { return usual };
        let own = self.find(&classed.name).map_or(usual, |class| class.priority);
        if classed.by.is_guess() { own.max(usual) } else { own }
    }

    /// The waits between its attempts, the last of which repeats: the class's first ones, then the server's from there on.
    #[must_use]
    pub fn waits(&self, classed: Option<&Classed>, server: &[Duration]) -> Vec<Duration> {
        let Some(classed) = classed else { return server.to_vec() };
        let Some(class) = self.find(&classed.name) else { return server.to_vec() };
        let own = schedule(class, server);
        if !classed.by.is_guess() {
            return own;
        }
        let usual = self.default_class().map_or_else(|| server.to_vec(), |class| schedule(class, server));
        shorter(&own, &usual)
    }

    /// What must protect mail of this class. A guess neither adds to that nor takes from it: such mail needs what the tenant's
    /// default needs.
    #[must_use]
    pub fn tls(&self, classed: Option<&Classed>) -> TlsNeed {
        let own =
            classed.filter(|classed| !classed.by.is_guess()).and_then(|classed| self.find(&classed.name));
        match own.or_else(|| self.default_class()).map(|class| class.tls).unwrap_or_default() {
            ClassTls::Opportunistic => TlsNeed::Usual,
            ClassTls::Required => TlsNeed::Required,
            ClassTls::Verified => TlsNeed::Verified,
        }
    }

    /// What must not be shown. A class that is configured no longer hides all it could.
    #[must_use]
    pub fn hides(&self, classed: Option<&Classed>) -> Hides {
        let Some(classed) = classed else { return Hides::default() };
        let Some(class) = self.find(&classed.name) else { return Hides { subject: true, link: true } };
        Hides { subject: class.hide.contains(&Hide::Subject), link: class.hide.contains(&Hide::Link) }
    }

    /// What must not be shown of mail whose class nobody knows any more: what any class hides.
    #[must_use]
    pub fn hides_of_any(&self) -> Hides {
        let any = |what| self.iter().any(|class| class.hide.contains(&what));
        Hides { subject: any(Hide::Subject), link: any(Hide::Link) }
    }
}

/// The class's first waits, then those of the server's that are longer, or at least its last.
fn schedule(class: &Class, server: &[Duration]) -> Vec<Duration> {
    let mut waits = class.retry.clone();
    let reached = waits.last().copied().unwrap_or_default();
    waits.extend(server.iter().filter(|wait| **wait > reached));
    if waits.len() == class.retry.len() {
        waits.extend(server.last());
    }
    waits
}

/// The shorter of each two waits.
fn shorter(one: &[Duration], other: &[Duration]) -> Vec<Duration> {
    let nth = |waits: &[Duration], at: usize| waits.get(at).or(waits.last()).copied();
    (0..one.len().max(other.len()))
        .filter_map(|at| match (nth(one, at), nth(other, at)) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::class::By;

    fn server() -> Vec<Duration> {
        [5, 15, 30, 60, 120, 240].map(|minutes| Duration::from_secs(60 * minutes)).to_vec()
    }

    fn classed(name: &str, by: By) -> Classed {
        Classed { name: name.into(), by }
    }

    fn seconds(name: &str, by: By, default: Option<&str>) -> Vec<u64> {
        let classes = Classes::default().with_default(default);
        classes.waits(Some(&classed(name, by)), &server()).iter().map(Duration::as_secs).collect()
    }

    #[test]
    fn first_retries_are_the_classs_and_the_rest_the_servers() {
        assert_eq!(
            seconds("password_reset", By::Login, None),
            [5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400]
        );
        assert_eq!(seconds("program_email", By::Default, None), [900, 3600, 7200, 14400]);
        assert_eq!(
            seconds("gone", By::Login, None),
            [300, 900, 1800, 3600, 7200, 14400],
            "no such class now"
        );
        let long = Class {
            retry: vec![Duration::from_secs(90_000)],
            ..Classes::default().find("w9").unwrap().clone()
        };
        let waits: Vec<_> = schedule(&long, &server()).iter().map(Duration::as_secs).collect();
        assert_eq!(waits, [90_000, 14_400], "a wait of a day is not repeated for five");
    }

    #[test]
    fn a_guess_is_never_slower_than_no_guess() {
        assert_eq!(seconds("program_email", By::Subject, None), [300, 900, 1800, 3600, 7200, 14400]);
        assert_eq!(seconds("payout_reminder", By::Subject, None)[0], 300);
        assert_eq!(seconds("password_reset", By::Link, None)[..3], [5, 15, 30], "faster it may be");
        assert_eq!(seconds("reward", By::Link, Some("program_email"))[0], 300);
        let classes = Classes::default();
        let lane = |name: &str, by: By| classes.lane(Some(&classed(name, by)));
        assert_eq!(lane("program_email", By::Login), Lane::Bulk);
        assert_eq!(lane("program_email", By::From), Lane::Bulk, "an administrator's own rule");
        assert_eq!(lane("program_email", By::Subject), Lane::Normal);
        assert_eq!(lane("password_reset", By::Subject), Lane::Urgent);
        assert_eq!(classes.lane(None), Lane::Normal);
        let bulk = Classes::default().with_default(Some("program_email"));
        assert_eq!(
            bulk.lane(Some(&classed("reward", By::Subject))),
            Lane::Normal,
            "raised above the default"
        );
    }

    #[test]
    fn a_guess_may_raise_a_priority_and_never_lowers_one() {
        let classes = Classes::default();
        let priority = |name: &str, by: By| classes.priority(Some(&classed(name, by))).number();
        assert_eq!((priority("program_email", By::From), priority("program_email", By::Subject)), (-3, 0));
        assert_eq!((priority("password_reset", By::Subject), priority("gone", By::Login)), (4, 0));
        assert_eq!(classes.with_default(Some("w9")).priority(None).number(), 2, "the tenant's default");
    }

    #[test]
    fn a_guess_neither_suppresses_nor_spares() {
        let mut all = Classes::default().all.to_vec();
        for (name, rule) in [("program_email", Suppression::All), ("password_reset", Suppression::Off)] {
            all.iter_mut().find(|class| *class.name == *name).unwrap().suppression = Some(rule);
        }
        let classes = Classes { all: all.into(), default: None };
        for by in By::ALL {
            let rule = |name: &str, usual| classes.suppression(Some(&classed(name, by)), usual);
            let expected = |class, usual| if by.is_certain() { class } else { usual };
            for usual in [Suppression::All, Suppression::NoComplaints, Suppression::Off] {
                assert_eq!(
                    rule("program_email", usual),
                    expected(Suppression::All, usual),
                    "{by}: not by a guess"
                );
                assert_eq!(
                    rule("password_reset", usual),
                    expected(Suppression::Off, usual),
                    "{by}: nor spared"
                );
                assert_eq!(rule("w9", usual), usual, "{by}: a class that says nothing");
            }
        }
        assert_eq!(classes.suppression(None, Suppression::All), Suppression::All);
    }

    #[test]
    fn what_is_hidden() {
        let classes = Classes::default();
        let hides = |name: &str| classes.hides(Some(&classed(name, By::Link)));
        assert_eq!(hides("password_reset"), Hides { subject: true, link: true });
        assert_eq!(hides("w9"), Hides { subject: true, link: false });
        assert!(!hides("reward").any() && !classes.hides(None).any());
        assert!(hides("gone").any(), "nobody says any more what may be shown");
        assert_eq!(classes.hides_of_any(), Hides { subject: true, link: true }, "it may have been a reset");
    }

    proptest! {
        #[test]
        fn a_guess_waits_no_longer_at_any_attempt(at in 0usize..40, name in 0usize..6, default in 0usize..7) {
            let all = Classes::default();
            let names: Vec<String> = all.names().iter().map(ToString::to_string).collect();
            let classes = all.with_default(names.get(default).map(String::as_str));
            let guess = classes.waits(Some(&classed(&names[name], By::Subject)), &server());
            let usual = names.get(default).map(|name| classed(name, By::Default));
            let usual = classes.waits(usual.as_ref(), &server());
            let nth = |waits: &[Duration]| *waits.get(at).or(waits.last()).unwrap();
            prop_assert!(nth(&guess) <= nth(&usual));
        }
    }
}
