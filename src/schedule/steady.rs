//! Wall time that a stepped clock does not upset (faults FA11): what falls due never moves away, and a message's age counts
//! the time that passed, not the time that the clock skipped.
//!
//! The wall says what time it is; the ticks (monotonic) say how much of it passed. Where the two part by more than
//! `TOLERANCE` the clock was set, or the machine slept, and a new era begins. A message belongs to the era whose dates hold
//! its date of arrival. Eras are forgotten at a restart: then a message is as old as its dates say, and is still tried once
//! before it expires.

use std::time::Duration;

use crate::mail::time::Time;

/// What drift, slewing and a late look may add up to; a bigger difference is a step.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// Steps remembered; beyond that the oldest eras become one.
const ERAS: usize = 16;

/// The time for the queue's decisions.
#[derive(Debug)]
pub(super) struct Steady {
    wall: Time,
    ticks: Duration,
    turn: Time,
    eras: Vec<Era>,
}

/// A stretch between two steps of the clock.
#[derive(Clone, Copy, Debug)]
struct Era {
    /// The wall when it began.
    from: Time,
    /// The wall when it was last looked at.
    to: Time,
    /// How far the wall is ahead of the first era's reckoning, in milliseconds.
    ahead: i128,
}

impl Steady {
    /// Begins with what the clock says.
    #[must_use]
    pub(super) fn new(wall: Time, ticks: Duration) -> Self {
        // Whatever was accepted before this process began belongs to the first era.
        let first = Era { from: Time(0), to: wall, ahead: 0 };
        Self { wall, ticks, turn: wall, eras: vec![first] }
    }

    /// Looks at the clock; answers the size of a step if it was set since the last look.
    pub(super) fn look(&mut self, wall: Time, ticks: Duration) -> Option<i128> {
        let passed = ticks.saturating_sub(self.ticks);
        let step = i128::from(wall.0) - i128::from(self.wall.after(passed).0);
        self.turn = self.turn.after(passed).max(wall);
        (self.wall, self.ticks) = (wall, ticks);
        let stepped = step.unsigned_abs() > TOLERANCE.as_millis();
        if stepped {
            let ahead = self.eras.last().map_or(0, |era| era.ahead) + step;
            self.eras.push(Era { from: wall, to: wall, ahead });
            self.forget();
        } else if let Some(era) = self.eras.last_mut() {
            era.to = era.to.max(wall);
        }
        stepped.then_some(step)
    }

    /// The oldest eras but the first become part of it.
    fn forget(&mut self) {
        if self.eras.len() > ERAS {
            self.eras.remove(1);
        }
    }

    /// The time by which legs fall due. It never goes back: a clock set back does not put off what waits.
    #[must_use]
    pub(super) fn turn(&self) -> Time {
        self.turn
    }

    /// Takes note that the earliest leg falls due at `due`. Further away than any wait can be, it was written by a clock that
    /// was ahead; the turn then moves up, so that it comes within `longest`.
    pub(super) fn reach(&mut self, due: Time, longest: Duration) {
        if due > self.turn.after(longest) {
            self.turn = Time(due.0.saturating_sub(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)));
        }
    }

    /// How old a message received at this date is; `None` if the date lies ahead, written by a clock that was wrong.
    #[must_use]
    pub(super) fn age(&self, received: Time) -> Option<Duration> {
        let current = self.eras.last()?;
        let era =
            self.eras.iter().rev().find(|era| (era.from..=era.to.after(TOLERANCE)).contains(&received))?;
        let then = i128::from(received.0) - era.ahead;
        let now = i128::from(self.wall.0) - current.ahead;
        let age = u64::try_from((now - then).max(0)).unwrap_or(u64::MAX);
        Some(Duration::from_millis(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const YEAR: u64 = 365 * 24 * HOUR;
    const START: u64 = 50 * YEAR;

    fn ticks(hours: u64) -> Duration {
        Duration::from_millis(hours * HOUR)
    }

    fn hours(age: Option<Duration>) -> Option<u64> {
        age.map(|age| age.as_secs() / 3600)
    }

    #[test]
    fn an_undisturbed_clock_is_simply_followed() {
        let mut steady = Steady::new(Time(START), ticks(0));
        assert_eq!(steady.look(Time(START + 2 * HOUR), ticks(2)), None);
        assert_eq!(steady.turn(), Time(START + 2 * HOUR));
        assert_eq!(hours(steady.age(Time(START))), Some(2));
        assert_eq!(hours(steady.age(Time(START - 10 * HOUR))), Some(12), "from before the start");
    }

    #[test]
    fn a_leap_of_ten_years_expires_nothing_and_new_mail_is_young() {
        let mut steady = Steady::new(Time(START), ticks(0));
        let later = START + 10 * YEAR + HOUR;
        assert_eq!(steady.look(Time(later), ticks(1)), Some(i128::from(10 * YEAR)));
        assert_eq!(hours(steady.age(Time(START))), Some(1), "an hour passed, whatever the dates say");
        assert_eq!(steady.look(Time(later + HOUR), ticks(2)), None);
        assert_eq!(hours(steady.age(Time(later))), Some(1), "mail accepted after the leap");
        assert_eq!(steady.turn(), Time(later + HOUR), "new mail is due by its own date");
        assert_eq!(steady.look(Time(START + 3 * HOUR), ticks(3)), Some(-i128::from(10 * YEAR)), "set right");
        assert_eq!(hours(steady.age(Time(START))), Some(3));
        assert_eq!(hours(steady.age(Time(later))), Some(2), "and what was dated in the wrong years ages on");
    }

    #[test]
    fn a_clock_set_back_puts_nothing_off() {
        let mut steady = Steady::new(Time(START), ticks(0));
        assert_eq!(steady.look(Time(START - 10 * YEAR + HOUR), ticks(1)), Some(-i128::from(10 * YEAR)));
        assert_eq!(steady.turn(), Time(START + HOUR), "what was due within the hour is due");
        assert_eq!(hours(steady.age(Time(START))), Some(1));
        assert_eq!(hours(steady.age(Time(START - 10 * YEAR + HOUR))), Some(0), "mail accepted just now");
    }

    #[test]
    fn a_restart_after_the_clock_was_set_back() {
        let mut steady = Steady::new(Time(START), ticks(0));
        steady.reach(Time(START + 10 * YEAR), ticks(4));
        assert_eq!(steady.turn(), Time(START + 10 * YEAR - 4 * HOUR), "within the longest wait");
        assert_eq!(steady.age(Time(START + 10 * YEAR)), None, "its date says nothing");
        let before = steady.turn();
        steady.reach(Time(before.0 + HOUR), ticks(4));
        assert_eq!(steady.turn(), before, "an ordinary wait changes nothing");
    }

    #[test]
    fn many_steps_stay_bounded() {
        let mut steady = Steady::new(Time(START), ticks(0));
        for at in 1..100 {
            steady.look(Time(START + at * YEAR), ticks(at));
        }
        assert!(steady.eras.len() <= ERAS);
        assert!(steady.age(Time(START)).is_some_and(|age| age >= ticks(99)), "never younger than it is");
    }
}
