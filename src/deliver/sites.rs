//! The sites that mail goes to, each with its pace: who asks for a connection is told whether and when. Domains whose best
//! exchangers have the same names are one site, for it is hosts that have limits, not recipient domains.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::outcome::{Scope, Trouble};
use super::pace::{Bounds, Leave, Pace, Sign, Why};
use crate::clock::Clock;
use crate::mail::address::Domain;
use crate::mail::reply::{Enhanced, PeerReply};
use crate::mail::time::Time;
use crate::metrics::{Metrics, ReasonLabel};

/// Sites remembered beside those in use; the ones used least lately are forgotten, and probed again.
const SITES_MAX: usize = 10_000;
/// Names that are known to answer; beyond that they are learnt anew.
const ANSWERED_MAX: usize = 10_000;
/// Exchangers that name a site; more of the best preference are as good as any.
const NAMES_MAX: usize = 8;

/// What the scheduler is told of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub site: Arc<str>,
    /// Attempts it may have at once.
    pub slots: usize,
    /// How long nobody need ask.
    pub shut: Option<Duration>,
}

/// A site as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub site: Arc<str>,
    /// Attempts under way.
    pub active: usize,
    /// Attempts it may have at once.
    pub slots: usize,
    /// Until when it rests, and why.
    pub rest: Option<(Time, Why)>,
    /// What it said when it was last closed.
    pub said: Option<String>,
}

/// The answer to who asks for a connection.
pub(super) enum Answer {
    /// Go ahead.
    Go(Turn),
    /// Not now.
    Later,
    /// Out of order until then at least: this is what the attempt would find.
    OutOfOrder(Trouble, Time),
}

/// All sites.
pub(super) struct Sites {
    // A std mutex: held for a few map operations, never across an await.
    known: Mutex<Known>,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// A seat has become free at some site.
    left: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    sites: HashMap<Arc<str>, Entry>,
    asked: u64,
    /// Exchangers below a roof that have answered us.
    answered: HashSet<String>,
}

#[derive(Default)]
struct Entry {
    pace: Pace,
    /// The number of the question that last concerned it.
    used: u64,
    /// What was found when it was last closed.
    said: Option<Trouble>,
    /// Connections that are open to it: in use, kept, or saying goodbye.
    seats: usize,
}

impl Entry {
    /// Connections that may be open to it: as many as it is given, and no fewer than have a turn already.
    fn room(&self, bounds: Bounds) -> usize {
        self.pace.slots(bounds).max(self.pace.active())
    }
}

/// A connection's place among those open to a site; dropped with it.
pub(super) struct Seat {
    sites: Arc<Sites>,
    site: Arc<str>,
}

/// A turn at a site. Dropped, it ends without a word about the site.
pub(super) struct Turn {
    sites: Arc<Sites>,
    site: Arc<str>,
    began: Duration,
    bounds: Bounds,
    ended: bool,
}

impl Sites {
    pub(super) fn new(clock: Clock, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), clock, metrics, left: Arc::default() })
    }

    /// The site of a domain whose best exchangers have these names, and whose it is: the one of `roofs` that all of them stand below,
    /// or the names themselves. Whoever has a domain may name `www.google.com` as its exchanger, or what does not exist: until each
    /// name has answered us they are a site of their own, so that what fails there closes nothing for those who send to Gmail.
    pub(super) fn name<'a>(
        &self,
        best: impl Iterator<Item = &'a str>,
        roofs: &[Domain],
    ) -> (Arc<str>, Arc<str>) {
        let mut names: Vec<&str> = best.collect();
        names.sort_unstable();
        names.dedup();
        let below = |roof: &&Domain| !names.is_empty() && names.iter().all(|name| is_below(name, roof));
        let roof = roofs.iter().find(below);
        let answer = roof.is_some() && {
            let known = self.known();
            names.iter().all(|name| known.answered.contains(*name))
        };
        names.truncate(NAMES_MAX);
        let own: Arc<str> = names.join(",").into();
        let whose = roof.map_or_else(|| Arc::clone(&own), |roof| roof.as_str().into());
        (if answer { Arc::clone(&whose) } else { own }, whose)
    }

    /// An exchanger of this name has answered us.
    pub(super) fn answered(&self, name: &str, roofs: &[Domain]) {
        if !roofs.iter().any(|roof| is_below(name, roof)) {
            return;
        }
        let mut known = self.known();
        if known.answered.contains(name) {
            return;
        }
        if known.answered.len() >= ANSWERED_MAX {
            known.answered.clear();
        }
        known.answered.insert(name.to_owned());
    }

    /// Asks for a turn at the site.
    pub(super) fn ask(self: &Arc<Self>, site: &Arc<str>, urgent: bool, bounds: Bounds) -> (Answer, Standing) {
        let now = self.clock.ticks();
        let mut known = self.known();
        let entry = known.entry(site);
        let leave = entry.pace.ask(urgent, now, bounds);
        let standing = standing(site, &entry.pace, now, bounds);
        let answer = match leave {
            Leave::Go => Answer::Go(Turn {
                sites: Arc::clone(self),
                site: Arc::clone(site),
                began: now,
                bounds,
                ended: false,
            }),
            Leave::Full | Leave::Resting(_) => Answer::Later,
            Leave::OutOfOrder(until) => {
                let until = self.clock.now().after(until.saturating_sub(now));
                Answer::OutOfOrder(out_of_order(site, until, entry.said.as_ref()), until)
            }
        };
        (answer, standing)
    }

    /// Sites in use or at rest, those at rest first; at most `most`.
    pub(super) fn seen(&self, most: usize, bounds: Bounds) -> Vec<Seen> {
        let (ticks, now) = (self.clock.ticks(), self.clock.now());
        let known = self.known();
        let mut seen: Vec<Seen> = known
            .sites
            .iter()
            .filter_map(|(site, entry)| {
                let rest = entry.pace.rests(ticks);
                (rest.is_some() || entry.pace.active() > 0).then(|| Seen {
                    site: Arc::clone(site),
                    active: entry.pace.active(),
                    slots: entry.pace.slots(bounds),
                    rest: rest.map(|(until, why)| (now.after(until.saturating_sub(ticks)), why)),
                    said: entry.said.as_ref().map(|said| said.reply.escaped()),
                })
            })
            .collect();
        seen.sort_by_key(|seen| (seen.rest.is_none(), usize::MAX - seen.active, Arc::clone(&seen.site)));
        seen.truncate(most);
        seen
    }

    /// How many are open, probed and at rest.
    pub(super) fn count(&self, bounds: Bounds) -> [usize; 3] {
        let now = self.clock.ticks();
        let mut counts = [0; 3];
        for entry in self.known().sites.values() {
            let (rests, probed) = (entry.pace.rests(now).is_some(), entry.pace.slots(bounds) == 1);
            let [open, probing, resting] = &mut counts;
            let state = if rests {
                resting
            } else if probed {
                probing
            } else {
                open
            };
            *state += 1;
        }
        counts
    }

    /// How many connections are open to the site beyond what it is given.
    pub(super) fn excess(&self, site: &str, bounds: Bounds) -> usize {
        let known = self.known();
        known.sites.get(site).map_or(0, |entry| entry.seats.saturating_sub(entry.room(bounds)))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn entry(&mut self, site: &Arc<str>) -> &mut Entry {
        self.asked += 1;
        let asked = self.asked;
        if self.sites.len() >= SITES_MAX && !self.sites.contains_key(site) {
            // Each question has its own number, so at most half of the sites were used since this one.
            let since = asked.saturating_sub(SITES_MAX as u64 / 2);
            self.sites.retain(|_, entry| entry.pace.active() + entry.seats > 0 || entry.used > since);
        }
        let entry = self.sites.entry(Arc::clone(site)).or_default();
        entry.used = asked;
        entry
    }
}

impl Turn {
    /// Where it is.
    pub(super) fn site(&self) -> &Arc<str> {
        &self.site
    }

    /// A seat for one more connection, if there is one.
    pub(super) fn sit(&self) -> Option<Seat> {
        let mut known = self.sites.known();
        let entry = known.entry(&self.site);
        let free = entry.seats < entry.room(self.bounds);
        free.then(|| self.take_seat(entry))
    }

    /// One seat more than there are.
    pub(super) fn squeeze_in(&self) -> Seat {
        self.take_seat(self.sites.known().entry(&self.site))
    }

    fn take_seat(&self, entry: &mut Entry) -> Seat {
        entry.seats += 1;
        Seat { sites: Arc::clone(&self.sites), site: Arc::clone(&self.site) }
    }

    /// Resolves when a seat becomes free, perhaps at another site, from now on.
    pub(super) fn left(&self) -> OwnedNotified {
        Arc::clone(&self.sites.left).notified_owned()
    }

    /// The attempt has ended with this sign, and with this trouble if it did. Answers how the site stands now, and until when
    /// it rests.
    pub(super) fn end(mut self, sign: Sign, trouble: Option<&Trouble>) -> (Standing, Option<Time>) {
        self.ended = true;
        let sites = &self.sites;
        let now = sites.clock.ticks();
        let mut known = sites.known();
        let entry = known.entry(&self.site);
        let chance = rand::random_range(-1.0..=1.0);
        let rest = entry.pace.end(sign, (self.began, now), chance, self.bounds);
        if matches!(sign, Sign::Busy | Sign::Limited | Sign::Dead) {
            entry.said = trouble.map(for_everybody);
        }
        if let Some(why) = rest {
            sites.metrics.site_rests.get_or_create(&ReasonLabel { reason: why.name() }).inc();
        }
        let until = entry.pace.rests(now).map(|(until, _)| until.saturating_sub(now));
        let until = until.map(|left| sites.clock.now().after(left));
        (standing(&self.site, &entry.pace, now, self.bounds), until)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.ended {
            self.sites.known().entry(&self.site).pace.give_back();
        }
    }
}

impl Seat {
    /// Where it is.
    pub(super) fn site(&self) -> &str {
        &self.site
    }
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.site)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(entry) = self.sites.known().sites.get_mut(&self.site) {
            entry.seats = entry.seats.saturating_sub(1);
        }
        self.sites.left.notify_waiters();
    }
}

fn standing(site: &Arc<str>, pace: &Pace, now: Duration, bounds: Bounds) -> Standing {
    let shut = pace.shut(now).map(|until| until.saturating_sub(now));
    Standing { site: Arc::clone(site), slots: pace.slots(bounds), shut }
}

/// What may be shown to whoever comes to the site. What a server says before MAIL it says to anybody; later it may quote one tenant's
/// recipient, or a link of its mail.
fn for_everybody(trouble: &Trouble) -> Trouble {
    let mut shown = trouble.clone();
    let PeerReply { code, enhanced, text } = &mut shown.reply;
    match trouble.scope {
        Scope::Host | Scope::Destination => {}
        Scope::Session | Scope::Message | Scope::Recipient if *code == 0 => {}
        Scope::Session | Scope::Message | Scope::Recipient => {
            let enhanced = enhanced.map(|enhanced| format!(" {enhanced}")).unwrap_or_default();
            *text = format!("{code}{enhanced}").into_bytes();
        }
    }
    shown
}

/// What was found when somebody last looked holds for those who come meanwhile.
fn out_of_order(site: &str, until: Time, said: Option<&Trouble>) -> Trouble {
    let last = said.map(|said| said.reply.escaped()).unwrap_or_default();
    let enhanced = said.and_then(|said| said.reply.enhanced).filter(|code| code.0 == 4);
    let text = format!("not tried: {site} rests until {}; last: {last}", until.utc());
    Trouble::transient(Scope::Destination, enhanced.unwrap_or(Enhanced(4, 4, 1)), text)
}

fn is_below(name: &str, roof: &Domain) -> bool {
    name.strip_suffix(roof.as_str()).is_some_and(|head| head.is_empty() || head.ends_with('.'))
}

#[cfg(test)]
mod tests;
