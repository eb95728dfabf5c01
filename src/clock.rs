//! Wall time, so that tests own it. Intervals in memory use tokio's `Instant`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::mail::time::Time;

/// Where wall time comes from: the system, or a hand that a test turns.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    System,
    /// Milliseconds since the epoch, set by a test.
    Set(Arc<AtomicU64>),
}

impl Clock {
    /// The time now.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn now(&self) -> Time {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Time::default().after(since)
            }
            Self::Set(at) => Time(at.load(Ordering::Relaxed)),
        }
    }

    /// Time that only goes forward, since some point of this process: tells time that passed from a clock that was set.
    /// In a test's hand time passes exactly as it is turned.
    #[must_use]
    pub fn ticks(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        match self {
            Self::System => START.get_or_init(Instant::now).elapsed(),
            Self::Set(at) => Duration::from_millis(at.load(Ordering::Relaxed)),
        }
    }
}
