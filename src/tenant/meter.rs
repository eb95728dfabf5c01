//! Counts a tenant's messages against its limits an hour and a day, over a window that slides.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Tenant;
use crate::mail::time::Time;

/// A limit is reached: 452, and a log event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of {what} is reached")]
pub struct Reached {
    /// Which: `500 messages an hour`.
    pub what: String,
    /// When there is room again.
    pub until: Time,
}

/// The counts, a tenant each; forgotten when the daemon ends.
#[derive(Debug, Default)]
pub struct Meter {
    counts: Mutex<HashMap<Arc<str>, (Window, Window)>>,
}

/// An hour by minutes.
const HOUR: Shape = Shape { slot: 60_000, slots: 60, name: "an hour" };
/// A day by half hours.
const DAY: Shape = Shape { slot: 1_800_000, slots: 48, name: "a day" };

/// How a window is cut; a message leaves it with its slot.
struct Shape {
    slot: u64,
    slots: u64,
    name: &'static str,
}

/// Messages of each slot that had any, oldest first.
#[derive(Debug, Default)]
struct Window {
    slots: VecDeque<(u64, u32)>,
}

impl Window {
    /// Drops what has left the window, and what a clock that was set back has put into the future.
    fn slide(&mut self, shape: &Shape, now: Time) {
        let current = now.0 / shape.slot;
        self.slots.retain(|(slot, _)| *slot <= current && slot + shape.slots > current);
    }

    fn room(&self, shape: &Shape, limit: Option<u32>) -> Result<(), Reached> {
        let Some(limit) = limit else { return Ok(()) };
        let used = self.slots.iter().fold(0u32, |sum, (_, count)| sum.saturating_add(*count));
        match self.slots.front() {
            Some((oldest, _)) if used >= limit => Err(Reached {
                what: format!("{limit} messages {}", shape.name),
                until: Time::default().after(Duration::from_millis((oldest + shape.slots) * shape.slot)),
            }),
            _ => Ok(()),
        }
    }

    fn count(&mut self, shape: &Shape, now: Time) {
        let current = now.0 / shape.slot;
        match self.slots.back_mut() {
            Some((slot, count)) if *slot == current => *count = count.saturating_add(1),
            _ => self.slots.push_back((current, 1)),
        }
    }
}

impl Meter {
    /// Counts one message.
    ///
    /// # Errors
    /// The limit that is reached; the message is then not counted.
    pub fn take(&self, tenant: &Tenant, now: Time) -> Result<(), Reached> {
        let limits = &tenant.limits;
        if limits.per_hour.is_none() && limits.per_day.is_none() {
            return Ok(());
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (hour, day) = counts.entry(Arc::clone(&tenant.name)).or_default();
        hour.slide(&HOUR, now);
        day.slide(&DAY, now);
        hour.room(&HOUR, limits.per_hour)?;
        day.room(&DAY, limits.per_day)?;
        hour.count(&HOUR, now);
        day.count(&DAY, now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BareNewlines, Route, TenantLimits};
    use super::*;

    fn tenant(per_hour: Option<u32>, per_day: Option<u32>) -> Tenant {
        Tenant {
            name: "acme".into(),
            networks: Vec::new(),
            notify: Vec::new(),
            logins: Vec::new(),
            domains: Vec::new(),
            route: Arc::new(Route::Mx),
            fallbacks: Vec::new(),
            signing: crate::tenant::Signing::default(),
            limits: TenantLimits { per_hour, per_day, ..TenantLimits::default() },
            bare_newlines: BareNewlines::Refuse,
            classes: crate::config::Classes::default(),
            suppression: crate::tenant::SuppressionRules::default(),
        }
    }

    const START: Time = Time(1_800_000_000_000);
    const HOURS: Duration = Duration::from_secs(3600);

    #[test]
    fn the_hours_limit_is_met_and_passes() {
        let (meter, acme) = (Meter::default(), tenant(Some(3), None));
        for _ in 0..3 {
            meter.take(&acme, START).unwrap();
        }
        let reached = meter.take(&acme, START.after(HOURS / 2)).unwrap_err();
        assert_eq!(reached.to_string(), "the limit of 3 messages an hour is reached");
        assert_eq!(reached.until, START.after(HOURS));
        meter.take(&acme, reached.until).unwrap();
    }

    #[test]
    fn the_days_limit_holds_where_the_hours_does_not() {
        let (meter, acme) = (Meter::default(), tenant(Some(3), Some(4)));
        for hour in 0..4 {
            meter.take(&acme, START.after(HOURS * hour)).unwrap();
        }
        let reached = meter.take(&acme, START.after(HOURS * 5)).unwrap_err();
        assert_eq!(reached.what, "4 messages a day");
        assert_eq!(reached.until, START.after(HOURS * 24));
    }

    #[test]
    fn a_clock_set_back_ten_years_locks_nobody_out() {
        let (meter, acme) = (Meter::default(), tenant(Some(1), None));
        meter.take(&acme, START).unwrap();
        meter.take(&acme, Time(START.0 - 315_360_000_000)).unwrap();
    }

    #[test]
    fn a_refused_message_is_not_counted() {
        let (meter, acme) = (Meter::default(), tenant(Some(1), None));
        meter.take(&acme, START).unwrap();
        for minute in 1..59 {
            assert!(meter.take(&acme, START.after(Duration::from_secs(60 * minute))).is_err());
        }
        meter.take(&acme, START.after(HOURS)).unwrap();
    }
}
