//! When the upstreams that refuse their tenant's password are tried again. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::mail::time::Time;

/// A try that does not tell how it went (its leg met other trouble) is followed by another after this.
const SILENT: Duration = Duration::from_secs(5 * 60);

/// When each shut tenant's upstream is tried again.
#[derive(Debug, Default)]
pub(super) struct Tries(BTreeMap<Arc<str>, Try>);

#[derive(Debug)]
struct Try {
    /// When it was last refused.
    refused: Time,
    /// When it is tried again.
    at: Time,
}

impl Tries {
    /// It was refused, and is not asked before this.
    pub(super) fn refused(&mut self, tenant: &Arc<str>, now: Time, again: Time) {
        self.0.insert(Arc::clone(tenant), Try { refused: now, at: again });
    }

    /// Nothing of it is held: the next message finds out how things stand. Unless it was refused just now, and that leg is about to
    /// be held.
    pub(super) fn nothing_held(&mut self, tenant: &str, now: Time) {
        if self.0.get(tenant).is_some_and(|one| now.since(one.refused) >= SILENT) {
            self.0.remove(tenant);
        }
    }

    /// It is shut no longer; whether it was.
    pub(super) fn open(&mut self, tenant: &str) -> bool {
        self.0.remove(tenant).is_some()
    }

    /// Those whose time has come; each is then left alone until it tells, or for a while.
    pub(super) fn due(&mut self, now: Time) -> Vec<Arc<str>> {
        let mut due = Vec::new();
        for (tenant, one) in self.0.iter_mut().filter(|(_, one)| one.at <= now) {
            one.at = now.after(SILENT);
            due.push(Arc::clone(tenant));
        }
        due
    }

    /// A person has changed something: all are due. Those that log in nowhere any more are answered, and shut no longer.
    pub(super) fn reloaded(&mut self, now: Time, logs_in: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        self.0.values_mut().for_each(|one| one.at = now);
        let gone: Vec<Arc<str>> = self.0.keys().filter(|tenant| !logs_in(tenant)).cloned().collect();
        self.0.retain(|tenant, _| logs_in(tenant));
        gone
    }

    /// How many are shut.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.0.values().map(|one| one.at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_try_at_its_time_and_all_after_a_reload() {
        let (acme, blue): (Arc<str>, Arc<str>) = ("acme".into(), "blue".into());
        let mut tries = Tries::default();
        tries.refused(&acme, Time(0), Time(1_000));
        tries.refused(&blue, Time(0), Time(9_000));
        assert!(tries.due(Time(999)).is_empty(), "not before its time");
        assert_eq!(tries.due(Time(1_000)), [Arc::clone(&acme)]);
        assert!(tries.due(Time(8_000)).is_empty(), "one try at a time: this one has not told yet");
        assert_eq!(tries.next(), Some(Time(9_000)));
        assert_eq!(
            tries.due(Time(1_000).after(SILENT)).len(),
            2,
            "a try that never tells is followed by another"
        );
        let gone = tries.reloaded(Time(500_000), |tenant| tenant == "acme");
        assert_eq!(gone, [Arc::clone(&blue)], "it leaves by another way now");
        assert_eq!(tries.due(Time(500_000)), [Arc::clone(&acme)], "a person has done something");
        assert!(tries.open("acme") && !tries.open("acme"), "opened once");
        assert_eq!(tries.next(), None);
    }

    #[test]
    fn a_refusal_is_not_forgotten_before_its_leg_is_held() {
        let acme: Arc<str> = "acme".into();
        let (heard, later) = (Time(1_000), Time(1_000).after(SILENT));
        let mut tries = Tries::default();
        tries.refused(&acme, heard, later);
        tries.reloaded(heard, |_| true);
        assert_eq!(tries.due(heard), [Arc::clone(&acme)], "a reload in the moment of the refusal");
        tries.nothing_held(&acme, heard);
        assert_eq!(tries.due(later), [Arc::clone(&acme)], "that leg is let go when its time comes");
        tries.nothing_held(&acme, later);
        assert_eq!(tries.next(), None, "it was deleted, or has expired");
    }
}
