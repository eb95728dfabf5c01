//! When a leg is tried again, and when the queue gives up on it. Pure: time and chance come in as arguments.

use std::time::Duration;

use crate::mail::time::Time;

/// Waits vary by a tenth to either side, so that what failed together does not come back together.
const JITTER: f64 = 0.1;
/// No wait is shorter: a schedule of zeros must not become a busy loop.
const SHORTEST: Duration = Duration::from_secs(1);
/// No wait is longer: RFC 5321 section 4.5.4.1 wants a try at least every few hours, and a typing error must not park mail.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// What an empty schedule means: RFC 5321 section 4.5.4.1's "at least 30 minutes".
const FALLBACK: Duration = Duration::from_secs(30 * 60);

/// What becomes of recipients that were deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt at this time.
    Try(Time),
    /// The message's life is over: they fail.
    GiveUp,
}

/// How much of its life a message has left when an attempt at it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How old it is.
    pub age: Duration,
    /// How old it may become.
    pub most: Duration,
}

/// What follows an attempt that deferred something, when `made` attempts had been made before it. `chance` lies between -1
/// and 1.
///
/// The last attempt falls on the end of the message's life, and only an attempt ends it: mail that sat out an outage is
/// tried once before it expires (RFC 5321 section 4.5.4.1 counts tries, not days off).
#[must_use]
pub fn next(waits: &[Duration], made: u32, chance: f64, now: Time, life: Life) -> Next {
    if life.age >= life.most {
        return Next::GiveUp;
    }
    let nominal = nth(waits, made);
    let wait = nominal.mul_f64(1.0 + JITTER * chance.clamp(-1.0, 1.0));
    let left = life.most.saturating_sub(life.age);
    Next::Try(now.after(wait.min(left).clamp(SHORTEST, LONGEST)))
}

/// The wait after the attempt of this number, counted from 0; the last one repeats.
fn nth(waits: &[Duration], made: u32) -> Duration {
    let at = usize::try_from(made).unwrap_or(usize::MAX);
    let wait = waits.get(at).or_else(|| waits.last()).copied().unwrap_or(FALLBACK);
    wait.clamp(SHORTEST, LONGEST)
}

/// How long `made` attempts take by the schedule alone: the age of a message whose date of arrival cannot be believed.
#[must_use]
pub fn spent(waits: &[Duration], made: u32) -> Duration {
    let listed = made.min(u32::try_from(waits.len()).unwrap_or(u32::MAX));
    let head = (0..listed).fold(Duration::ZERO, |sum, at| sum.saturating_add(nth(waits, at)));
    head.saturating_add(nth(waits, u32::MAX).saturating_mul(made - listed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000;

    fn waits() -> Vec<Duration> {
        [5, 15, 60].map(|minutes| Duration::from_secs(minutes * 60)).to_vec()
    }

    fn life(age_minutes: u64) -> Life {
        Life { age: Duration::from_secs(age_minutes * 60), most: Duration::from_secs(5 * 24 * 3600) }
    }

    #[test]
    fn table() {
        let now = Time(1_000_000);
        let at = |minutes: u64| Next::Try(Time(now.0 + minutes * MINUTE));
        let rows: &[(u32, u64, Next, &str)] = &[
            (0, 0, at(5), "the first wait follows the first attempt"),
            (1, 5, at(15), "the second"),
            (2, 20, at(60), "the last of the list"),
            (9, 600, at(60), "the last repeats"),
            (u32::MAX, 600, at(60), "a count that overflowed the list is no reason to stop"),
            (9, 5 * 24 * 60 - 10, at(10), "the last attempt falls on the end of its life, not after it"),
            (9, 5 * 24 * 60, Next::GiveUp, "old enough"),
            (0, 10 * 24 * 60, Next::GiveUp, "QU7: after an outage the one attempt that was made decides"),
        ];
        for (made, age, expected, why) in rows {
            assert_eq!(next(&waits(), *made, 0.0, now, life(*age)), *expected, "{why}");
        }
    }

    #[test]
    fn jitter_moves_a_wait_by_a_tenth_at_most() {
        let now = Time(0);
        assert_eq!(next(&waits(), 2, 1.0, now, life(0)), Next::Try(Time(66 * MINUTE)));
        assert_eq!(next(&waits(), 2, -1.0, now, life(0)), Next::Try(Time(54 * MINUTE)));
        assert_eq!(next(&waits(), 2, 99.0, now, life(0)), Next::Try(Time(66 * MINUTE)), "chance is clamped");
    }

    #[test]
    fn an_absurd_schedule_neither_spins_nor_parks() {
        let now = Time(0);
        let year = [Duration::from_secs(365 * 24 * 3600)];
        assert_eq!(next(&[Duration::ZERO], 3, 0.0, now, life(0)), Next::Try(Time(1_000)));
        assert_eq!(next(&year, 3, 1.0, now, life(0)), Next::Try(Time(24 * 60 * MINUTE)));
        assert_eq!(next(&[], 3, 0.0, now, life(0)), Next::Try(Time(30 * MINUTE)));
    }

    #[test]
    fn what_attempts_take_by_the_schedule_alone() {
        let rows: &[(u32, u64, &str)] = &[
            (0, 0, "nothing was waited for before the first"),
            (1, 5, "one wait"),
            (3, 80, "the whole list"),
            (5, 200, "the last repeats"),
        ];
        for (made, minutes, why) in rows {
            assert_eq!(spent(&waits(), *made), Duration::from_secs(minutes * 60), "{why}");
        }
        assert!(spent(&waits(), u32::MAX) > Duration::from_secs(3600), "and does not overflow");
    }

    proptest! {
        #[test]
        fn the_next_attempt_lies_ahead_and_within_reach(
            waits in prop::collection::vec(0u64..10_000_000, 0..12),
            made in any::<u32>(), chance in -2.0f64..2.0, now in 0u64..u64::MAX / 2,
            age in 0u64..1_000_000, most in 0u64..1_000_000,
        ) {
            let waits: Vec<Duration> = waits.into_iter().map(Duration::from_secs).collect();
            let life = Life { age: Duration::from_secs(age), most: Duration::from_secs(most) };
            match next(&waits, made, chance, Time(now), life) {
                Next::GiveUp => prop_assert!(age >= most),
                Next::Try(at) => {
                    prop_assert!(age < most);
                    prop_assert!(at >= Time(now).after(SHORTEST));
                    prop_assert!(at <= Time(now).after(LONGEST));
                    let end = Time(now).after(life.most - life.age).max(Time(now).after(SHORTEST));
                    prop_assert!(at <= end, "no attempt is put off beyond the message's life");
                }
            }
        }
    }
}
