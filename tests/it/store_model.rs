//! The model test of the queue's seam: random work, restarts and crashes, against a model that is nothing but maps. It is
//! generic over the store: another one needs only a `Bench` of its own.

#![allow(
    clippy::too_many_arguments,
    clippy::wildcard_enum_match_arm,
    clippy::cognitive_complexity,
    clippy::excessive_nesting,
    reason = "a model reads best as one match over what can happen"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use waxseal::clock::Clock;
use waxseal::fsx::LocalDisk;
use waxseal::mail::attempt::Fate;
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Message, Needs};
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, Options};
use waxseal::queue::store::*;

/// A store that can be stopped in every way there is.
#[allow(async_fn_in_trait, reason = "the tests wait for it in one place, on one thread")]
pub trait Bench {
    type Store: Store + 'static;
    fn store(&self) -> Arc<Self::Store>;
    /// Closes it and opens it again.
    async fn reopen(&mut self);
    /// Opens what a killed process would have left.
    async fn crash(&mut self);
    /// The same, with everything lost that the store says it can rebuild.
    async fn rebuild(&mut self);
}

pub const TURNS: Turns = Turns { per_destination: 3, total: 40 };
const START: u64 = 1_800_000_000_000;
const DAY: u64 = 86_400_000;

pub fn options(clock: &Clock) -> Options {
    let (window, body_cache) = (6, 20_000);
    Options { turns: TURNS, window, body_cache, index_cache: 1 << 20, disk_reserve: 0, clock: clock.clone() }
}

/// So small that compaction is never far.
const SEGMENT: u64 = 16 << 10;

struct Local {
    dir: tempfile::TempDir,
    clock: Clock,
    segment: u64,
    store: Option<Arc<Embedded>>,
}

impl Local {
    fn new(clock: &Clock, segment: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut new = Self { dir, clock: clock.clone(), segment, store: None };
        new.open();
        new
    }

    fn open(&mut self) {
        let (disk, options) = (Arc::new(LocalDisk), options(&self.clock));
        self.store = Some(Embedded::open_with(disk, self.dir.path(), options, self.segment).unwrap());
    }

    /// The directory as it is while the process runs is the directory as a kill leaves it.
    fn snapshot(&mut self) {
        let mut before = listing(self.dir.path());
        loop {
            let dir = tempfile::tempdir().unwrap();
            let copied = copy(self.dir.path(), dir.path());
            let after = listing(self.dir.path());
            if copied && before == after {
                self.store = None;
                self.dir = dir;
                return;
            }
            before = after;
        }
    }
}

/// Every file with its length and when it was written: a copy between two equal listings is of one moment.
fn listing(dir: &Path) -> BTreeMap<std::path::PathBuf, Option<(u64, std::time::SystemTime)>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else {
            let facts = path.metadata().and_then(|facts| Ok((facts.len(), facts.modified()?)));
            found.insert(path, facts.ok());
        }
    }
    found
}

/// Copies a directory; false where a file went away meanwhile.
pub fn copy(from: &Path, to: &Path) -> bool {
    let mut whole = true;
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            whole &= copy(&entry.path(), &to);
        } else {
            let mut command = std::process::Command::new("cp");
            command.stderr(std::process::Stdio::null());
            whole &= command.arg("--sparse=always").arg(entry.path()).arg(&to).status().unwrap().success();
        }
    }
    whole
}

pub async fn ready(store: &impl Store) {
    while store.stats().await.unwrap().rebuilding {
        store.nudged().await;
    }
}

impl Bench for Local {
    type Store = Embedded;

    fn store(&self) -> Arc<Embedded> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    async fn reopen(&mut self) {
        self.store().close().await.unwrap();
        self.store = None;
        self.open();
        ready(&*self.store()).await;
    }

    async fn crash(&mut self) {
        self.snapshot();
        self.open();
        ready(&*self.store()).await;
    }

    async fn rebuild(&mut self) {
        self.snapshot();
        std::fs::remove_dir_all(self.dir.path().join("index")).unwrap();
        self.open();
        ready(&*self.store()).await;
    }
}

#[derive(Clone, Debug)]
enum Op {
    Accept { tenant: u8, lane: u8, legs: Vec<(u8, u8)>, held: bool, size: usize },
    Claim { most: usize },
    Settle { pick: usize, fates: Vec<u8>, owe: bool, then: u8 },
    Act { action: u8, tenant: Option<u8>, pick: Option<usize> },
    Tell { most: usize },
    Waive { pick: usize },
    Wait { ms: u64 },
    Reopen,
    Crash,
    Rebuild,
}

fn op() -> impl Strategy<Value = Op> {
    let legs = prop::collection::vec((0u8..5, 1u8..4), 1..4);
    prop_oneof![
        8 => (0u8..3, 0u8..4, legs, prop::bool::weighted(0.1), prop_oneof![9 => 0usize..6000, 1 => 1_100_000usize..1_100_010])
            .prop_map(|(tenant, lane, legs, held, size)| Op::Accept { tenant, lane, legs, held, size }),
        5 => (1usize..12).prop_map(|most| Op::Claim { most }),
        9 => (any::<usize>(), prop::collection::vec(0u8..4, 0..4), any::<bool>(), 0u8..8)
            .prop_map(|(pick, fates, owe, then)| Op::Settle { pick, fates, owe, then }),
        2 => (0u8..5, prop::option::of(0u8..3), prop::option::of(any::<usize>()))
            .prop_map(|(action, tenant, pick)| Op::Act { action, tenant, pick }),
        2 => (1usize..5).prop_map(|most| Op::Tell { most }),
        1 => any::<usize>().prop_map(|pick| Op::Waive { pick }),
        2 => (0u64..DAY).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        1 => Just(Op::Rebuild),
    ]
}

pub fn last(text: &str, at: Time) -> Last {
    Last { at, code: 451, enhanced: None, text: text.into(), host: Some("mx.example".into()) }
}

/// A message to these destinations, with so many recipients each.
pub fn message(serial: u64, now: Time, tenant: &str, lane: Lane, legs: &[(u8, u8)], size: usize) -> Accept {
    let mut rcpts = Vec::new();
    let mut parts = Vec::new();
    for (destination, count) in legs {
        let first = rcpts.len() as u16;
        let domain = format!("d{destination}.example");
        for at in 0..*count {
            let address = format!("r{at}@{domain}").parse().unwrap();
            rcpts.push(Recipient { address, orcpt: None, notify: Notify::default() });
        }
        parts.push((Destination(domain.into()), (first..rcpts.len() as u16).collect()));
    }
    let from = Some(format!("from@{tenant}.example").parse().unwrap());
    let facts = Facts {
        id: Id::new(now, u128::from(serial)),
        tenant: tenant.into(),
        login: None,
        header_from: None,
        class: None,
        lane,
        kind: Kind::Mail,
        envelope: Envelope { from, rcpts, ret: None, envid: None },
        received: now,
        expires: Time(now.0 + 5 * DAY),
        needs: Needs::default(),
        size: size as u64,
    };
    let body: Vec<u8> = (0..size).map(|at| (at as u64 * 31 + serial) as u8).collect();
    Accept {
        message: Arc::new(Message { facts, body: Bytes::from(body) }),
        legs: parts,
        held: None,
        tells: vec![],
    }
}

#[derive(Default)]
struct Model {
    messages: BTreeMap<Id, Arc<Message>>,
    legs: BTreeMap<(Id, u16), Leg>,
    owed: BTreeMap<(Id, u16), Last>,
    claimed: BTreeSet<(Id, u16)>,
    serial: u64,
}

impl Model {
    fn accept(&mut self, accept: &Accept) {
        let facts = &accept.message.facts;
        self.messages.insert(facts.id, Arc::clone(&accept.message));
        for (number, (destination, rcpts)) in accept.legs.iter().enumerate() {
            let state = match &accept.held {
                Some(reason) => State::Held { reason: reason.clone(), since: facts.received },
                None => State::Due(facts.received),
            };
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

    fn tidy(&mut self) {
        let open: BTreeSet<Id> = self.legs.keys().chain(self.owed.keys()).map(|(id, _)| *id).collect();
        self.messages.retain(|id, _| open.contains(id));
        let legs = &self.legs;
        self.claimed.retain(|key| legs.contains_key(key));
    }

    fn due(&self, leg: &Leg, now: Time) -> bool {
        match leg.state {
            State::Due(at) => at <= now,
            State::Held { .. } => leg.expires <= now,
        }
    }

    fn active(&self, destination: &Destination) -> usize {
        self.claimed.iter().filter(|key| self.legs[key].destination == *destination).count()
    }

    fn claim(&mut self, claimed: &Claimed, most: usize, now: Time) {
        assert!(claimed.legs.len() <= most);
        for leg in &claimed.legs {
            let key = (leg.id, leg.leg);
            assert_eq!(Some(leg), self.legs.get(&key), "what is claimed is what is kept");
            assert!(self.due(leg, now), "{leg:?} is not due");
            assert!(self.claimed.insert(key), "{leg:?} was claimed before");
            assert!(self.active(&leg.destination) <= TURNS.per_destination);
        }
        if claimed.legs.len() < most {
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

    fn settle(&mut self, settlement: &Settlement, now: Time) -> bool {
        let key = (settlement.id, settlement.leg);
        if let Some(leg) = self.legs.get_mut(&key) {
            for (rcpt, fate, last) in &settlement.fates {
                if !leg.rcpts.contains(rcpt) {
                    continue;
                }
                leg.last = Some(last.clone());
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
                Then::Hold { reason } => leg.state = State::Held { reason: reason.clone(), since: now },
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

    fn act(&mut self, filter: &Filter, action: &Action, now: Time) -> Vec<Leg> {
        let mut before = Vec::new();
        let keys: Vec<_> = self.legs.keys().copied().filter(|key| !self.claimed.contains(key)).collect();
        for key in keys {
            let leg = self.legs.get_mut(&key).unwrap();
            let other = filter.tenant.as_ref().is_some_and(|tenant| **tenant != *leg.tenant);
            if other || (!filter.ids.is_empty() && !filter.ids.contains(&leg.id)) {
                continue;
            }
            let was = leg.clone();
            let held = matches!(leg.state, State::Held { .. });
            match action {
                Action::Retry if !held => leg.state = State::Due(now),
                Action::Release if held => leg.state = State::Due(now),
                Action::Hold { reason } if !held => {
                    leg.state = State::Held { reason: reason.as_str().into(), since: now };
                }
                Action::Bounce { .. } | Action::Drop => {
                    let leg = self.legs.remove(&key).unwrap();
                    if let Action::Bounce { reason } = action {
                        let enhanced = Some(waxseal::mail::reply::Enhanced(5, 0, 0));
                        let last = Last { at: now, code: 0, enhanced, text: reason.clone(), host: None };
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

    async fn check(&self, store: &impl Store, now: Time) {
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

    async fn bodies(&self, store: &impl Store) {
        for (id, message) in &self.messages {
            assert_eq!(store.message(*id).await.unwrap().as_ref(), Some(message));
        }
    }
}

fn lane(number: u8) -> Lane {
    [Lane::Urgent, Lane::Important, Lane::Normal, Lane::Bulk][usize::from(number % 4)]
}

fn settlement(model: &Model, op: &Op, now: Time) -> Option<Settlement> {
    let Op::Settle { pick, fates, owe, then } = op else { return None };
    let claimed: Vec<_> = model.claimed.iter().collect();
    let key = **claimed.get(pick % claimed.len().max(1))?;
    let leg = &model.legs[&key];
    let fate =
        |code: &u8| [Fate::Delivered, Fate::Failed, Fate::Deferred, Fate::Delivered][usize::from(*code)];
    let fates = leg
        .rcpts
        .iter()
        .zip(fates)
        .map(|(rcpt, code)| (*rcpt, fate(code), last(&format!("said {code}"), now)));
    let then = match then {
        0 | 1 => Then::Continue,
        2 => Then::Unclaim,
        3 => Then::Hold { reason: "parked".into() },
        code => Then::Due { at: Time(now.0 + u64::from(*code) * 600_000), delay_told: *code == 7 },
    };
    Some(Settlement { id: key.0, leg: key.1, fates: fates.collect(), owe: *owe, then })
}

fn action(code: u8) -> Action {
    match code {
        0 => Action::Retry,
        1 => Action::Hold { reason: "by hand".into() },
        2 => Action::Release,
        3 => Action::Bounce { reason: "given up".into() },
        _ => Action::Drop,
    }
}

async fn step(bench: &mut impl Bench, model: &mut Model, clock: &AtomicU64, op: &Op) {
    let store = bench.store();
    let now = Time(clock.load(Ordering::Relaxed));
    match op {
        Op::Accept { tenant, lane: number, legs, held, size } => {
            model.serial += 1;
            let legs: Vec<_> = legs.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect();
            let mut accept = message(model.serial, now, &format!("t{tenant}"), lane(*number), &legs, *size);
            accept.held = held.then(|| "waits".into());
            model.accept(&accept);
            store.accept(accept).await.unwrap();
        }
        Op::Claim { most } => {
            let claimed = store.claim(now, *most).await.unwrap();
            model.claim(&claimed, *most, now);
        }
        Op::Settle { .. } => {
            if let Some(settlement) = settlement(model, op, now) {
                let ended = store.settle(vec![settlement.clone()]).await.unwrap();
                assert_eq!(ended, [model.settle(&settlement, now)]);
            }
        }
        Op::Act { action: code, tenant, pick } => {
            let ids: Vec<Id> = model.messages.keys().copied().collect();
            let ids =
                pick.filter(|_| !ids.is_empty()).map(|pick| ids[pick % ids.len()]).into_iter().collect();
            let filter =
                Filter { ids, tenant: tenant.map(|tenant| format!("t{tenant}")), ..Filter::default() };
            let acted = store.act(filter.clone(), action(*code), now).await.unwrap();
            let acted: Vec<Leg> = acted.into_iter().map(|entry| entry.leg).collect();
            assert_eq!(acted, model.act(&filter, &action(*code), now));
        }
        Op::Tell { most } => {
            let tells: Vec<_> =
                store.owed(*most).await.unwrap().iter().map(|(owed, _)| (owed.id, owed.rcpt)).collect();
            if !tells.is_empty() {
                model.serial += 1;
                let mut accept = message(model.serial, now, "relay", Lane::Normal, &[(4, 1)], 100);
                accept.tells = tells;
                model.accept(&accept);
                store.accept(accept).await.unwrap();
            }
        }
        Op::Waive { pick } => {
            let owed: Vec<_> = model.owed.keys().copied().collect();
            if let Some(key) = owed.get(pick % owed.len().max(1)).copied() {
                model.owed.remove(&key);
                model.tidy();
                store.waive(vec![key]).await.unwrap();
            }
        }
        Op::Wait { ms } => drop(clock.fetch_add(*ms, Ordering::Relaxed)),
        Op::Reopen | Op::Crash | Op::Rebuild => {
            drop(store);
            model.claimed.clear();
            match op {
                Op::Reopen => bench.reopen().await,
                Op::Crash => bench.crash().await,
                _ => bench.rebuild().await,
            }
        }
    }
    if !matches!(op, Op::Wait { .. }) {
        model.check(&*bench.store(), now).await;
    }
}

async fn play(mut bench: impl Bench, clock: Arc<AtomicU64>, ops: Vec<Op>) {
    ready(&*bench.store()).await;
    let mut model = Model::default();
    for op in &ops {
        step(&mut bench, &mut model, &clock, op).await;
    }
    model.bodies(&*bench.store()).await;
    bench.rebuild().await;
    model.claimed.clear();
    model.check(&*bench.store(), Time(clock.load(Ordering::Relaxed))).await;
    model.bodies(&*bench.store()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_embedded_store_does_what_the_model_does(ops in prop::collection::vec(op(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let now = Arc::new(AtomicU64::new(START));
        let clock = Clock::Set(Arc::clone(&now));
        runtime.block_on(play(Local::new(&clock, 64 << 20), now, ops));
    }

    #[test]
    fn the_embedded_store_does_so_while_it_is_compacted(ops in prop::collection::vec(op(), 40..160)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let now = Arc::new(AtomicU64::new(START));
        let clock = Clock::Set(Arc::clone(&now));
        runtime.block_on(play(Local::new(&clock, SEGMENT), now, ops));
    }
}
