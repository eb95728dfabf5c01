//! How many connections a site is given at once, and when it is left alone. Pure: time and chance come in as arguments.
//!
//! | state   | at once     | what leads on                                                                     |
//! |---------|-------------|-----------------------------------------------------------------------------------|
//! | probing | one         | a message taken opens it                                                          |
//! | open    | up to `most`| each message taken opens it further; 421, 4yz to a connection, a loss halve it     |
//! | resting | none        | its end leads to probing; every further failure makes the next rest longer        |
//!
//! It opens as TCP does (RFC 5681): doubling until it was first closed, then by one a round. It doubles only what it was seen
//! to bear: beyond twice as many as were ever in use at once, also messages one after the other open it by one a round.
//! What an attempt found that began before the last closing is no news: twenty connections that are refused together close it once.

use std::time::Duration;

/// The first rest; each further one is `REST_GROWTH` times as long.
const REST_FIRST: Duration = Duration::from_secs(5);
const REST_GROWTH: u32 = 3;
/// A rest varies by a tenth to either side, so that sites that failed together are not asked again together.
const JITTER: f64 = 0.1;
/// The rest after a word that we send too much: Gmail's 4.7.28 asks for ten minutes, then one connection.
pub(super) const REST_LIMITED: Duration = Duration::from_secs(10 * 60);
/// Rests in a row after which the site counts as out of order, and what falls due for it is deferred by its own schedule with
/// what was found: else mail behind a dead site would neither be reported as late nor ever expire.
const OUT_OF_ORDER: u32 = 3;
/// Unused for so long, a site is probed again before it is given a flood.
const STALE: Duration = Duration::from_secs(10 * 60);

/// What the configuration says about sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once to one site, at least one.
    pub most: usize,
    /// The longest rest after a failure; zero: no site ever rests.
    pub rest: Duration,
}

/// What an attempt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// A message was taken.
    Taken,
    /// The server spoke, and took nothing: it works, but is not known to want more.
    Spoke,
    /// It has too much: 421, a 4yz greeting, a connection lost.
    Busy,
    /// It says that we send too much.
    Limited,
    /// None of its hosts serves us.
    Dead,
    /// It was not asked: what was wrong is on this side.
    Unasked,
}

/// What a site rests for, as metrics and `status` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `busy`.
    Busy,
    /// `limited`.
    Limited,
    /// `unreachable`.
    Dead,
}

impl Why {
    /// Its name in metrics, logs and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Limited => "limited",
            Self::Dead => "unreachable",
        }
    }
}

/// The answer to who asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may have one, and must say how it ended.
    Go,
    /// All are in use.
    Full,
    /// The site rests until then.
    Resting(Duration),
    /// The site is out of order until then at least: what it said last holds for this one too.
    OutOfOrder(Duration),
}

/// A rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rest {
    until: Duration,
    why: Why,
}

/// A site's pace. Times are durations since any fixed point; they never go back.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    limit: usize,
    /// Where doubling ends: half of what was too much; `None` until something was.
    knee: Option<usize>,
    /// Messages taken since it was last opened by one.
    taken: usize,
    active: usize,
    /// The most that were in use since it was last closed: twice as many are tried soon, more only by one a round.
    peak: usize,
    /// Rests without a message or an answer between them.
    strikes: u32,
    rest: Option<Rest>,
    /// When it was last closed.
    closed: Option<Duration>,
    /// When something was last heard of it.
    heard: Duration,
}

impl Pace {
    /// Asks for a connection. `urgent` mail may look whether a site that is out of order has come back, one at a time.
    pub fn ask(&mut self, urgent: bool, now: Duration, bounds: Bounds) -> Leave {
        if let Some(rest) = self.rest.filter(|rest| now < rest.until) {
            let probes = urgent && self.active == 0 && rest.why != Why::Limited;
            if self.strikes < OUT_OF_ORDER {
                return Leave::Resting(rest.until);
            }
            return if probes { self.go() } else { Leave::OutOfOrder(rest.until) };
        }
        if self.active == 0 && now.saturating_sub(self.heard) >= STALE {
            (self.limit, self.knee, self.taken, self.peak) = (1, None, 0, 0);
        }
        if self.active < self.slots(bounds) { self.go() } else { Leave::Full }
    }

    fn go(&mut self) -> Leave {
        self.active += 1;
        self.peak = self.peak.max(self.active);
        Leave::Go
    }

    /// A connection was given back without a word about the site.
    pub fn give_back(&mut self) {
        self.active = self.active.saturating_sub(1);
    }

    /// An attempt that began at `began` has ended. Answers the rest that follows from it. `chance` lies between -1 and 1.
    pub fn end(
        &mut self,
        sign: Sign,
        (began, now): (Duration, Duration),
        chance: f64,
        bounds: Bounds,
    ) -> Option<Why> {
        self.give_back();
        if sign != Sign::Unasked {
            self.heard = now;
        }
        if self.closed.is_some_and(|closed| began < closed) {
            return None;
        }
        match sign {
            Sign::Taken => {
                self.works();
                self.open(bounds);
                None
            }
            Sign::Spoke => {
                self.works();
                None
            }
            Sign::Unasked => None,
            Sign::Busy if self.limit > 1 => {
                self.close(self.limit / 2, now);
                None
            }
            Sign::Busy => self.strike(Why::Busy, now, chance, bounds),
            Sign::Limited => self.strike(Why::Limited, now, chance, bounds),
            Sign::Dead => self.strike(Why::Dead, now, chance, bounds),
        }
    }

    /// Connections that it may have at once, apart from rests.
    #[must_use]
    pub fn slots(&self, bounds: Bounds) -> usize {
        if self.rest.is_some() { 1 } else { self.limit.clamp(1, bounds.most.max(1)) }
    }

    /// Until when it rests, and why.
    #[must_use]
    pub fn rests(&self, now: Duration) -> Option<(Duration, Why)> {
        self.rest.filter(|rest| now < rest.until).map(|rest| (rest.until, rest.why))
    }

    /// Until when nobody need ask. One that is out of order is asked all the same: the answer is a deferral.
    #[must_use]
    pub fn shut(&self, now: Duration) -> Option<Duration> {
        let (until, _) = self.rests(now)?;
        (self.strikes < OUT_OF_ORDER).then_some(until)
    }

    /// Connections in use.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    fn works(&mut self) {
        self.rest = None;
        self.strikes = 0;
    }

    fn open(&mut self, bounds: Bounds) {
        self.taken += 1;
        let seen = self.limit < self.peak.saturating_mul(2);
        let doubling = seen && self.knee.is_none_or(|knee| self.limit < knee);
        if doubling || self.taken >= self.limit {
            self.taken = 0;
            self.limit = (self.limit.max(1) + 1).min(bounds.most.max(1));
        }
    }

    fn close(&mut self, limit: usize, now: Duration) {
        self.knee = Some(limit.max(1));
        (self.limit, self.taken, self.closed) = (limit.max(1), 0, Some(now));
        self.peak = self.active;
    }

    fn strike(&mut self, why: Why, now: Duration, chance: f64, bounds: Bounds) -> Option<Why> {
        self.close(self.limit / 2, now);
        self.limit = 1;
        if bounds.rest.is_zero() {
            return None;
        }
        let length = match why {
            Why::Limited => REST_LIMITED,
            Why::Busy | Why::Dead => {
                REST_FIRST.saturating_mul(REST_GROWTH.saturating_pow(self.strikes)).min(bounds.rest)
            }
        };
        self.strikes = self.strikes.saturating_add(1);
        let length = length.mul_f64(1.0 + JITTER * chance.clamp(-1.0, 1.0));
        self.rest = Some(Rest { until: now.saturating_add(length), why });
        Some(why)
    }
}

#[cfg(test)]
mod tests;
