//! Which of a tenant's two ways an attempt takes. Pure.
//!
//! The second way is for mail that the first one puts off, time and again, in so many words: the last thing heard must be a
//! reply of 4yz. What failed for good is told, not tried elsewhere; and mail whose connection was lost after its last dot, at this
//! attempt or any before, may have arrived and goes by that way only, where the receiver may know it again.

use std::time::Duration;

use crate::mail::attempt::Way;
use crate::queue::store::Leg;
use crate::tenant::Fallback;

/// Why the second way is taken now, for the log; `None`: the first one is. Once the second is in use the two take turns, so that
/// neither is given up.
pub(super) fn second(fallback: &Fallback, leg: &Leg, age: Duration) -> Option<String> {
    let last = leg.last.as_ref()?;
    let host = last.host.as_deref().unwrap_or("a server");
    match last.lost {
        Some(Way::First) => return None,
        Some(Way::Second) => return Some(format!("fallback: it may have arrived by this way ({host})")),
        None => {}
    }
    let put_off = (400..500).contains(&last.code);
    let since = leg.attempts.checked_sub(fallback.attempts)?;
    let due = age >= fallback.after && since.is_multiple_of(2);
    let why = || {
        format!(
            "fallback: {host} put it off {} times, last with {} ({})",
            leg.attempts,
            last.code,
            last.reason.name()
        )
    };
    (put_off && due).then(why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::deliver::bounce::fixture;
    use crate::mail::meaning::Reason;
    use crate::mail::time::Time;
    use crate::queue::store::Last;
    use crate::tenant::Route;

    #[test]
    fn table() {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let fallback =
            Fallback { classes: Vec::new(), route: Arc::new(Route::Mx), attempts: 3, after: minutes(15) };
        let rows = [
            (451, None, 3, 20, true, "put off three times and long enough"),
            (421, None, 3, 20, true, "any 4yz"),
            (451, None, 2, 20, false, "not often enough"),
            (451, None, 3, 14, false, "not long enough"),
            (451, None, 4, 20, false, "the first way has its turn"),
            (451, None, 5, 20, true, "and the second"),
            (0, None, 3, 20, false, "no connection, DNS: nothing was said"),
            (550, None, 3, 20, false, "5yz is final"),
            (535, None, 3, 20, false, "and a password that is refused is for a person"),
            (451, Some(Way::First), 3, 20, false, "it may have arrived by the first way"),
            (
                451,
                Some(Way::Second),
                4,
                20,
                true,
                "it may have arrived by the second: the first has no turn any more",
            ),
            (0, Some(Way::Second), 1, 1, true, "nor if nothing is said"),
        ];
        for (code, lost, attempts, age, expected, why) in rows {
            let last = Last {
                at: Time(1),
                code,
                enhanced: None,
                text: "no".into(),
                host: None,
                reason: Reason::Busy,
                lost,
            };
            let leg = Leg {
                attempts,
                last: Some(last),
                ..fixture::leg(&fixture::facts("acme", None, &["b@b.test"]))
            };
            assert_eq!(second(&fallback, &leg, minutes(age)).is_some(), expected, "{why}");
        }
        let fresh = fixture::leg(&fixture::facts("acme", None, &["b@b.test"]));
        assert_eq!(second(&fallback, &fresh, minutes(20)), None, "nothing was heard yet");
    }
}
