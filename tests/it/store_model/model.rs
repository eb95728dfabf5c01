//! What any store must do, in the plainest form: maps in memory.

use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Message};

use super::*;

/// Recipients, or legs, of messages.
type Pairs = BTreeSet<(Id, u16)>;

#[derive(Default)]
pub(super) struct Model {
    pub(super) messages: BTreeMap<Id, Arc<Message>>,
    pub(super) legs: BTreeMap<(Id, u16), Leg>,
    pub(super) owed: BTreeMap<(Id, u16), Last>,
    pub(super) claimed: BTreeSet<(Id, u16)>,
    pub(super) memos: BTreeMap<String, Vec<u8>>,
    pub(super) serial: u64,
}

fn held(hold: &Hold, since: Time) -> State {
    let Hold { reason, cause, until } = hold.clone();
    State::Held { reason, since, cause, until }
}

impl Model {
    pub(super) fn accept(&mut self, accept: &Accept) {
        let facts = &accept.message.facts;
        self.messages.insert(facts.id, Arc::clone(&accept.message));
        for (number, (destination, rcpts)) in accept.legs.iter().enumerate() {
            let state =
                accept.held.as_ref().map_or(State::Due(facts.received), |hold| held(hold, facts.received));
            let leg = Leg {
                id: facts.id,
                leg: number as u16,
                tenant: facts.tenant.clone(),
                destination: destination.clone(),
                lane: facts.lane,
                rcpts: rcpts.clone(),
                attempts: 0,
                state,
                last: None,
                delay_told: false,
                received: facts.received,
                expires: facts.expires,
            };
            self.legs.insert((facts.id, number as u16), leg);
        }
        for told in &accept.tells {
            self.owed.remove(told);
        }
        self.tidy();
    }

    pub(super) fn tidy(&mut self) {
        let open: BTreeSet<Id> = self.legs.keys().chain(self.owed.keys()).map(|(id, _)| *id).collect();
        self.messages.retain(|id, _| open.contains(id));
        let legs = &self.legs;
        self.claimed.retain(|key| legs.contains_key(key));
    }

    pub(super) fn due(&self, leg: &Leg, now: Time) -> bool {
        match leg.state {
            State::Due(at) => at <= now,
            State::Held { until, .. } => {
                let told = self.notice(leg).is_some_and(|notice| notice <= now);
                told || leg.expires <= now || until.is_some_and(|until| until <= now)
            }
        }
    }

    /// When the sender wants to hear of the delay of a held leg.
    fn notice(&self, leg: &Leg) -> Option<Time> {
        self.messages[&leg.id].facts.notify_at().filter(|_| !leg.delay_told)
    }

    /// No leg is due before `next`, and no hold ends before `ends`, but those that a limit keeps.
    fn times(&self, claimed: &Claimed, now: Time) {
        for (key, leg) in &self.legs {
            let full =
                self.active(&leg.destination) >= TURNS.per_destination || self.claimed.len() >= TURNS.total;
            if full || self.claimed.contains(key) {
                continue;
            }
            let (said, at) = match leg.state {
                State::Due(at) => (claimed.next, at),
                State::Held { until, .. } => {
                    let ends = until.into_iter().chain(self.notice(leg)).chain([leg.expires]);
                    (claimed.ends, ends.min().unwrap())
                }
            };
            let soon = said.is_some_and(|said| said <= at) || claimed.next == Some(now);
            assert!(soon, "{leg:?} is not told of in {:?} and {:?}", claimed.next, claimed.ends);
        }
    }

    pub(super) fn remember(&mut self, memos: &[Memo]) {
        for Memo { key, value } in memos {
            match value {
                Some(value) => drop(self.memos.insert(key.clone(), value.clone())),
                None => drop(self.memos.remove(key)),
            }
        }
    }

    pub(super) fn active(&self, destination: &Destination) -> usize {
        self.claimed.iter().filter(|key| self.legs[key].destination == *destination).count()
    }

    pub(super) fn claim(&mut self, claimed: &Claimed, most: usize, now: Time) {
        assert!(claimed.legs.len() <= most);
        for leg in &claimed.legs {
            let key = (leg.id, leg.leg);
            assert_eq!(Some(leg), self.legs.get(&key), "what is claimed is what is kept");
            assert!(self.due(leg, now), "{leg:?} is not due");
            assert!(self.claimed.insert(key), "{leg:?} was claimed before");
            assert!(self.active(&leg.destination) <= TURNS.per_destination);
        }
        if claimed.legs.len() < most {
            self.times(claimed, now);
            let left =
                self.legs.iter().filter(|(key, leg)| !self.claimed.contains(key) && self.due(leg, now));
            for (_, leg) in left {
                assert_eq!(
                    self.active(&leg.destination),
                    TURNS.per_destination,
                    "{leg:?} could have been claimed"
                );
            }
        }
    }

    pub(super) fn settle(&mut self, settlement: &Settlement, now: Time) -> bool {
        let key = (settlement.id, settlement.leg);
        if let Some(leg) = self.legs.get_mut(&key) {
            for (rcpt, fate, last) in &settlement.fates {
                if !leg.rcpts.contains(rcpt) {
                    continue;
                }
                let lost = last.lost.or(leg.last.as_ref().and_then(|before| before.lost));
                leg.last = Some(Last { lost, ..last.clone() });
                if *fate != Fate::Deferred {
                    leg.rcpts.retain(|open| open != rcpt);
                }
                if *fate == Fate::Failed && settlement.owe {
                    self.owed.insert((settlement.id, *rcpt), last.clone());
                }
            }
            match &settlement.then {
                Then::Continue | Then::Unclaim => {}
                Then::Due { at, delay_told } => {
                    leg.attempts += 1;
                    leg.state = State::Due(*at);
                    leg.delay_told |= delay_told;
                }
                Then::Hold(hold) => leg.state = held(hold, now),
                Then::Told => leg.delay_told = true,
            }
            if settlement.then != Then::Continue {
                self.claimed.remove(&key);
            }
            if leg.rcpts.is_empty() {
                self.legs.remove(&key);
            }
        }
        self.tidy();
        !self.messages.contains_key(&settlement.id)
    }

    /// Which recipients end, and which legs are left to their attempts.
    pub(super) fn supersede(&mut self, newer: &Facts, said: &Last) -> (Pairs, Pairs) {
        let (mut ended, mut busy) = (BTreeSet::new(), BTreeSet::new());
        for (key, leg) in &mut self.legs {
            let older = &self.messages[&key.0].facts;
            let same = older.asked.supersede
                && newer.asked.supersede
                && older.tenant == newer.tenant
                && older.received < newer.received;
            let named = |rcpt: &u16| {
                let to = &older.envelope.rcpts[usize::from(*rcpt)].address;
                same && newer.envelope.rcpts.iter().any(|rcpt| rcpt.address == *to)
            };
            for rcpt in leg.rcpts.clone().iter().filter(|rcpt| named(rcpt)) {
                if self.claimed.contains(key) {
                    busy.insert(*key);
                    continue;
                }
                leg.rcpts.retain(|open| open != rcpt);
                leg.last = Some(said.clone());
                self.owed.insert((key.0, *rcpt), said.clone());
                ended.insert((key.0, *rcpt));
            }
        }
        self.legs.retain(|_, leg| !leg.rcpts.is_empty());
        self.tidy();
        (ended, busy)
    }

    pub(super) fn act(&mut self, filter: &Filter, action: &Action, now: Time) -> Vec<Leg> {
        let mut before = Vec::new();
        let keys: Vec<_> = self.legs.keys().copied().filter(|key| !self.claimed.contains(key)).collect();
        for key in keys {
            let leg = self.legs.get_mut(&key).unwrap();
            let domain = format!("{}.example", leg.tenant);
            let other = filter.tenant.as_ref().is_some_and(|tenant| **tenant != *leg.tenant)
                || filter.from_domain.as_ref().is_some_and(|from| !from.eq_ignore_ascii_case(&domain));
            let cause = match leg.state {
                State::Held { cause, .. } => Some(cause),
                State::Due(_) => None,
            };
            if other
                || filter.cause.is_some_and(|wanted| cause != Some(wanted))
                || (!filter.ids.is_empty() && !filter.ids.contains(&leg.id))
                || filter.after.is_some_and(|after| leg.id <= after)
            {
                continue;
            }
            let was = leg.clone();
            let held = matches!(leg.state, State::Held { .. });
            match action {
                Action::Retry if !held => leg.state = State::Due(now),
                Action::Release if held => leg.state = State::Due(now),
                Action::Hold { reason } if !held => {
                    let (reason, cause) = (reason.as_str().into(), Cause::Operator);
                    leg.state = State::Held { reason, since: now, cause, until: None };
                }
                Action::Bounce { .. } | Action::Drop => {
                    let leg = self.legs.remove(&key).unwrap();
                    if let Action::Bounce { reason } = action {
                        let enhanced = Some(waxseal::mail::reply::Enhanced(5, 0, 0));
                        let (text, reason) = (reason.clone(), waxseal::mail::meaning::Reason::Command);
                        let last = Last { at: now, code: 0, enhanced, text, host: None, reason, lost: None };
                        self.owed.extend(leg.rcpts.iter().map(|rcpt| ((key.0, *rcpt), last.clone())));
                    }
                }
                _ => continue,
            }
            before.push(was);
        }
        self.tidy();
        before
    }

    pub(super) async fn check(&self, store: &impl Store, now: Time) {
        let listed = store.list(Filter::default(), now).await.unwrap();
        let legs: Vec<&Leg> = listed.iter().map(|entry| &entry.leg).collect();
        assert_eq!(legs, self.legs.values().collect::<Vec<_>>());
        for entry in &listed {
            assert_eq!(*entry.facts, self.messages[&entry.leg.id].facts);
            let active = self.claimed.contains(&(entry.leg.id, entry.leg.leg));
            assert_eq!(entry.state == StateName::Active, active);
        }
        let owed = store.owed(10_000).await.unwrap();
        let owed: Vec<_> = owed.into_iter().map(|(owed, _)| ((owed.id, owed.rcpt), owed.last)).collect();
        assert_eq!(owed, self.owed.clone().into_iter().collect::<Vec<_>>());
        for prefix in ["", "dns/", "dns/a", "dns/ab", "none"] {
            let want = self.memos.iter().filter(|(key, _)| key.starts_with(prefix));
            let want: Vec<_> = want.map(|(key, value)| (key.clone(), value.clone())).collect();
            assert!(store.recall(prefix.to_owned()).await.unwrap() == want, "what begins with {prefix:?}");
        }
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.messages, self.messages.len() as u64);
        assert_eq!(stats.recipients, self.legs.values().map(|leg| leg.rcpts.len() as u64).sum::<u64>());
        assert_eq!(
            stats.held,
            self.legs.values().filter(|leg| matches!(leg.state, State::Held { .. })).count() as u64
        );
        assert_eq!((stats.owed, stats.active), (self.owed.len() as u64, self.claimed.len() as u64));
        assert_eq!(stats.quarantined, 0);
    }

    pub(super) async fn bodies(&self, store: &impl Store) {
        for (id, message) in &self.messages {
            assert_eq!(store.message(*id).await.unwrap().as_ref(), Some(message));
        }
    }
}
