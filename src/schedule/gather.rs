//! Which failures share a notification, and when it is written. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::verdict::asks;
use crate::deliver::bounce::{Action, Audience, Told, audience, wanted};
use crate::mail::address::Address;
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::tenant::Directory;

/// Recipients that one notification tells of, at most: a notification must stay a mail that somebody reads.
const MOST: usize = 500;

/// A notification to be.
#[derive(Debug)]
pub(super) struct Group {
    /// Who is told.
    pub(super) to: Vec<Address>,
    /// Whether that is the sender of every message told of.
    pub(super) sender: bool,
    /// Of which recipients, those of a message together.
    pub(super) told: Vec<Told>,
}

/// What becomes of recipients that somebody may have to be told of.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// Those told now.
    pub(super) ready: Vec<Group>,
    /// Those that wait for more of their kind.
    pub(super) waiting: Vec<Told>,
    /// Those that nobody is told of, and why.
    pub(super) silent: Vec<(Told, &'static str)>,
    /// When the first of those that wait is told.
    pub(super) next: Option<Time>,
}

/// Who shares a notification: the same tenant and audience. A message that asked for reports in its own words (ENVID,
/// ORCPT, NOTIFY, RET) has one of its own: RFC 3461 section 6 has fields for one message only.
type Key = (std::sync::Arc<str>, Vec<Address>, Option<Id>);

/// Sorts what is to be told. A group waits until its oldest has waited for `patience`.
pub(super) fn sort(
    told: Vec<Told>,
    action: Action,
    tenants: &Directory,
    now: Time,
    patience: Duration,
) -> Sorted {
    let mut sorted = Sorted::default();
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    for one in told {
        match who(&one, action, tenants) {
            Audience::Nobody(why) => sorted.silent.push((one, why)),
            Audience::Told { to, sender } => {
                let own = asks(&one.facts).then_some(one.facts.id);
                let key = (one.facts.tenant.clone(), to.clone(), own);
                groups.entry(key).or_insert_with(|| Group { to, sender, told: Vec::new() }).told.push(one);
            }
        }
    }
    for group in groups.into_values() {
        match due(&group, patience) {
            Some(at) if at > now && at <= now.after(patience) => {
                sorted.next = Some(sorted.next.map_or(at, |next| next.min(at)));
                sorted.waiting.extend(group.told);
            }
            _ => sorted.ready.extend(portions(group)),
        }
    }
    sorted
}

fn who(one: &Told, action: Action, tenants: &Directory) -> Audience {
    let asked = one.facts.envelope.rcpts.get(usize::from(one.rcpt));
    // Whether this server's hand-over is one that RFC 2852 has the sender told of, the verdict knew.
    let by = action == Action::Relayed && one.facts.deliver_by.is_some();
    if !asked.is_some_and(|rcpt| wanted(rcpt.notify, action) || (by && rcpt.notify.ever())) {
        return Audience::Nobody("its sender asked not to be told");
    }
    audience(tenants.tenant(&one.facts.tenant).map(std::sync::Arc::as_ref), &one.facts)
}

/// When the group's oldest has waited long enough. A date ahead of the clock waits no longer than any other.
fn due(group: &Group, patience: Duration) -> Option<Time> {
    group.told.iter().map(|one| one.last.at.after(patience)).min()
}

/// A group in notifications of bearable length, in the order of the messages.
fn portions(mut group: Group) -> Vec<Group> {
    group.told.sort_by_key(|one| (one.facts.id, one.rcpt));
    let (to, sender) = (group.to, group.sender);
    let portion = |told: &[Told]| Group { to: to.clone(), sender, told: told.to_vec() };
    group.told.chunks(MOST).map(portion).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::deliver::bounce::fixture;
    use crate::mail::envelope::Notify;
    use crate::mail::meaning::Reason;
    use crate::mail::message::Facts;
    use crate::queue::store::Last;

    const PATIENCE: Duration = Duration::from_secs(300);

    fn told(facts: Facts, random: u128, rcpt: u16, at: u64) -> Told {
        let (text, reason) = ("no".to_owned(), Reason::Policy);
        let last = Last { at: Time(at), code: 550, enhanced: None, text, host: None, reason, lost: None };
        Told { facts: Arc::new(Facts { id: Id::new(Time(1_000), random), ..facts }), rcpt, last }
    }

    fn mail(tenant: &str, from: &str) -> Facts {
        fixture::facts(tenant, Some(from), &["bob@example.test", "eve@example.test"])
    }

    fn directory() -> Directory {
        Directory::new([
            fixture::tenant("acme", "acme.test", &[]),
            fixture::tenant("blue", "blue.test", &["desk@help.test"]),
        ])
    }

    #[test]
    fn one_notification_for_many_once_the_oldest_has_waited() {
        let owed = || {
            vec![
                told(mail("acme", "noreply@acme.test"), 2, 0, 60_000),
                told(mail("acme", "noreply@acme.test"), 1, 1, 1_000),
                told(mail("acme", "noreply@acme.test"), 1, 0, 90_000),
            ]
        };
        let early = sort(owed(), Action::Failed, &directory(), Time(100_000), PATIENCE);
        assert!(early.ready.is_empty());
        assert_eq!((early.waiting.len(), early.next), (3, Some(Time(301_000))));
        let late = sort(owed(), Action::Failed, &directory(), Time(301_000), PATIENCE);
        assert_eq!((late.ready.len(), late.waiting.len(), late.next), (1, 0, None));
        let order: Vec<(u128, u16)> = late.ready[0]
            .told
            .iter()
            .map(|one| (u128::from_be_bytes(one.facts.id.to_bytes()) & 0xff, one.rcpt))
            .collect();
        assert_eq!(order, [(1, 0), (1, 1), (2, 0)], "those of a message stand together");
    }

    #[test]
    fn what_is_not_shared() {
        let mut asked = mail("acme", "noreply@acme.test");
        asked.envelope.envid = Some("mine".to_owned());
        let owed = vec![
            told(mail("acme", "noreply@acme.test"), 1, 0, 0),
            told(mail("acme", "billing@acme.test"), 2, 0, 0),
            told(mail("blue", "noreply@blue.test"), 3, 0, 0),
            told(asked, 4, 0, 0),
        ];
        let sorted = sort(owed, Action::Failed, &directory(), Time(400_000), PATIENCE);
        assert_eq!(
            sorted.ready.len(),
            4,
            "another sender, another tenant, a client that asked in its own words"
        );
    }

    #[test]
    fn nobody_is_told_without_a_reason_in_the_log() {
        let mut never = mail("acme", "noreply@acme.test");
        never.envelope.rcpts[0].notify =
            Notify { failure: false, delay: false, success: false, stated: true };
        let owed = vec![
            told(never, 1, 0, 0),
            told(mail("acme", "who@elsewhere.test"), 2, 0, 0),
            told(mail("gone", "noreply@gone.test"), 3, 0, 0),
        ];
        let sorted = sort(owed, Action::Failed, &directory(), Time(400_000), PATIENCE);
        let why: Vec<&str> = sorted.silent.iter().map(|(_, why)| *why).collect();
        assert!(sorted.ready.is_empty());
        assert_eq!(why.len(), 3);
        assert_eq!(why[0], "its sender asked not to be told");
    }

    #[test]
    fn a_flood_is_told_in_portions_and_a_clock_set_back_delays_nothing() {
        let flood = (0..1100).map(|n| told(mail("acme", "noreply@acme.test"), n, 0, 0)).collect();
        let sorted = sort(flood, Action::Failed, &directory(), Time(400_000), PATIENCE);
        assert_eq!(sorted.ready.iter().map(|group| group.told.len()).collect::<Vec<_>>(), [500, 500, 100]);
        let ahead = vec![told(mail("acme", "noreply@acme.test"), 1, 0, 999_000_000)];
        assert_eq!(sort(ahead, Action::Failed, &directory(), Time(400_000), PATIENCE).ready.len(), 1);
    }
}
