//! The minimum rate of a transfer: a client that sends an octet now and then does not hold a session for days.

use std::time::Duration;

use tokio::time::Instant;

/// Counts one message's octets.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    octets: u64,
    minimum: u64,
    window: Duration,
}

impl Pace {
    /// `minimum` octets a second, averaged over `window`.
    pub(super) fn new(now: Instant, minimum: u64, window: Duration) -> Self {
        Self { since: now, octets: 0, minimum, window }
    }

    /// Counts what came; whether it still comes fast enough.
    pub(super) fn keeps_up(&mut self, octets: usize, now: Instant) -> bool {
        self.octets = self.octets.saturating_add(octets as u64);
        let past = now.saturating_duration_since(self.since);
        if past < self.window {
            return true;
        }
        let least = u128::from(self.minimum).saturating_mul(past.as_millis()) / 1000;
        let enough = u128::from(self.octets) >= least;
        *self = Self::new(now, self.minimum, self.window);
        enough
    }

    /// When a silent client has been too slow.
    pub(super) fn deadline(&self) -> Instant {
        self.since + self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_at_the_minimum_is_enough_and_an_octet_less_is_not() {
        const WINDOW: Duration = Duration::from_secs(60);
        let start = Instant::now();
        for (octets, enough) in [(30_000, true), (29_999, false)] {
            let mut pace = Pace::new(start, 500, WINDOW);
            assert!(
                pace.keeps_up(octets, start + Duration::from_secs(59)),
                "nothing is judged before a minute"
            );
            assert_eq!(pace.keeps_up(0, start + WINDOW), enough, "{octets}");
        }
    }
}
