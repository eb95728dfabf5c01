//! The model test of the queue's seam: random work, restarts and crashes, against a model that is nothing but maps. It is
//! generic over the store: another one needs only a `Bench` of its own.

#![allow(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    clippy::wildcard_enum_match_arm,
    clippy::cognitive_complexity,
    clippy::excessive_nesting,
    reason = "a model reads best as one match over what can happen"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use waxseal::clock::Clock;
use waxseal::fsx::LocalDisk;
use waxseal::mail::attempt::Fate;
use waxseal::mail::id::Id;
use waxseal::mail::message::Lane;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, Options};
use waxseal::queue::store::*;

use crate::disk::unlocked;

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

mod made;
mod model;
mod ops;
pub use made::{last, message};
use model::Model;
use ops::{Op, op};

pub const TURNS: Turns = Turns { per_destination: 3, total: 40 };
const START: u64 = 1_800_000_000_000;
const DAY: u64 = 86_400_000;

pub fn options(clock: &Clock) -> Options {
    Options {
        turns: TURNS,
        window: 6,
        body_cache: 20_000,
        index_cache: 1 << 20,
        read_memory: 64 << 20,
        index_slack: 0, // it is made anew after every start
        disk_reserve: 0,
        clock: clock.clone(),
    }
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
        let open = || Embedded::open_with(disk.clone(), self.dir.path(), options.clone(), self.segment);
        self.store = Some(unlocked(open).unwrap());
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
        3 => Then::Hold(hold(
            Some(u64::from(*pick as u16) * 600_000).filter(|_| pick % 2 == 0),
            Cause::Route,
            now,
        )),
        4 => Then::Told,
        code => Then::Due { at: Time(now.0 + u64::from(*code) * 600_000), delay_told: *code == 7 },
    };
    Some(Settlement { id: key.0, leg: key.1, fates: fates.collect(), owe: *owe, then })
}

fn hold(until: Option<u64>, cause: Cause, now: Time) -> Hold {
    Hold { reason: "parked".into(), cause, until: until.map(|ms| Time(now.0 + ms)) }
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

fn fits(memo: &Memo) -> bool {
    memo.key.len() <= MEMO_KEY_MAX && memo.value.as_ref().is_none_or(|value| value.len() <= MEMO_VALUE_MAX)
}

async fn step(bench: &mut impl Bench, model: &mut Model, clock: &AtomicU64, op: &Op) {
    let store = bench.store();
    let now = Time(clock.load(Ordering::Relaxed));
    match op {
        Op::Accept { tenant, lane: number, legs, held, size } => {
            model.serial += 1;
            let legs: Vec<_> = legs.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect();
            let mut accept = message(model.serial, now, &format!("t{tenant}"), lane(*number), &legs, *size);
            accept.held = held.map(|until| hold(until, Cause::Seal, now));
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
        Op::Act { action: code, tenant, from_domain, cause, picks: (pick, after) } => {
            let all: Vec<Id> = model.messages.keys().copied().collect();
            let one =
                |pick: &Option<usize>| pick.filter(|_| !all.is_empty()).map(|pick| all[pick % all.len()]);
            let filter = Filter {
                ids: one(pick).into_iter().collect(),
                after: one(after),
                tenant: tenant.map(|tenant| format!("t{tenant}")),
                from_domain: from_domain.map(|tenant| format!("T{tenant}.example")),
                cause: *cause,
                ..Filter::default()
            };
            let acted = store.act(filter.clone(), action(*code), now).await.unwrap();
            let acted: Vec<Leg> = acted.into_iter().map(|entry| entry.leg).collect();
            assert_eq!(acted, model.act(&filter, &action(*code), now));
        }
        Op::Supersede { pick } => {
            let ids: Vec<Id> = model.messages.keys().copied().collect();
            if let Some(id) = ids.get(pick % ids.len().max(1)) {
                let facts = Arc::new(model.messages[id].facts.clone());
                let rcpts: Vec<u16> = (0..facts.envelope.rcpts.len() as u16).collect();
                let said = last("a newer one is there", now);
                let found = store.supersede(Arc::clone(&facts), rcpts, said.clone()).await.unwrap();
                let ended = found.ended.iter().map(|(facts, rcpt)| (facts.id, *rcpt)).collect();
                assert_eq!((ended, found.busy.into_iter().collect()), model.supersede(&facts, &said));
            }
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
        Op::Remember { memos } => {
            let kept = store.remember(memos.clone()).await;
            if memos.iter().all(fits) {
                kept.unwrap();
                model.remember(memos);
            } else {
                assert!(matches!(kept, Err(StoreError::TooLarge(_))));
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
