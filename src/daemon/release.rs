//! Mail that was held because receivers would not believe it: what they would believe now may leave.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::watch::Watch;
use crate::mail::id::Id;
use crate::mail::message::Facts;
use crate::mail::time::Time;
use crate::queue::store::{Action, Cause, Entry, Filter, StateName};
use crate::seal::enforce::Ruling;
use crate::seal::outlook::{Force, Subject};
use crate::tenant::Directory;

/// How often held mail is looked through although nothing changed: what was held in the moment of a change is not forgotten.
const RELEASE: Duration = Duration::from_secs(5 * 60);
/// Held legs looked at between two looks at what else is to be done.
const PAGE: usize = 1_000;

impl Watch {
    /// Going through the whole queue is dear: it is done when something changed, and now and then besides.
    pub(super) fn may_release(&self, news: bool) -> bool {
        let now = self.clock.now();
        let due = news || due(Time(self.released.load(Ordering::Relaxed)), now);
        if due {
            self.released.store(now.0, Ordering::Relaxed);
        }
        due
    }

    /// Releases every message that would be believed as it is: its author, its reverse-path, its tenant's route. Each is
    /// judged once more when it leaves.
    pub(super) async fn release(&self) {
        if !self.store.stats().await.is_ok_and(|stats| stats.held > 0) {
            return;
        }
        let mut after = None;
        loop {
            let page = match self.store.list(held(PAGE, after), self.clock.now()).await {
                Ok(page) => page,
                Err(error) => return tracing::warn!(%error, "held mail could not be looked through"),
            };
            self.let_go(self.believed(&page)).await;
            after = page.last().map(|entry| entry.leg.id);
            if page.len() < PAGE {
                return;
            }
        }
    }

    /// The messages of these legs that would be believed now.
    fn believed(&self, page: &[Entry]) -> Vec<Id> {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let tenants = self.tenants.load_full();
        let mut ids: Vec<Id> = page
            .iter()
            .filter(|entry| self.is_believed(&tenants, &entry.facts, force))
            .map(|entry| entry.leg.id)
            .collect();
        ids.dedup();
        ids
    }

    fn is_believed(&self, tenants: &Directory, facts: &Facts, force: Force<'_>) -> bool {
        let Some(tenant) = tenants.tenant(&facts.tenant) else { return false };
        let Some(subject) = Subject::of(tenant, facts) else { return false };
        match self.outlook.rule(&subject, force).ruling {
            Ruling::Send | Ruling::SendUnjudged => true,
            Ruling::Hold | Ruling::Refuse => false,
        }
    }

    async fn let_go(&self, ids: Vec<Id>) {
        if ids.is_empty() {
            return;
        }
        let filter = Filter { ids, limit: None, ..held(0, None) };
        match self.store.act(filter, Action::Release, self.clock.now()).await {
            Ok(released) => {
                for Entry { leg, facts, .. } in released {
                    self.log.released(&facts, &leg.rcpts, "seal", "receivers believe it now");
                }
            }
            Err(error) => tracing::warn!(%error, "held mail could not be released"),
        }
    }
}

fn held(limit: usize, after: Option<Id>) -> Filter {
    let (state, cause) = (Some(StateName::Held), Some(Cause::Seal));
    Filter { after, state, cause, limit: Some(limit), ..Filter::default() }
}

/// Whether the last time was long ago, or lies ahead because the clock was set back.
fn due(last: Time, now: Time) -> bool {
    last > now || now.since(last) >= RELEASE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_mail_is_looked_through_now_and_then_whatever_the_clock_does() {
        let now = Time(1_000_000_000);
        let rows = [
            (Time(0), true, "never yet"),
            (now, false, "just now"),
            (Time(now.0 - 299_000), false, "not five minutes ago"),
            (Time(now.0 - 300_000), true, "five minutes ago"),
            (now.after(Duration::from_secs(3_600)), true, "the clock was set back by an hour"),
        ];
        for (last, is_due, why) in rows {
            assert_eq!(due(last, now), is_due, "{why}");
        }
    }
}
