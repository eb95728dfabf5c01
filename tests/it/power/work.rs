//! A seeded day of a queue on a disk in memory: mail is accepted, settled, held, told of and forgotten, a few at once, with
//! a tidy restart now and then. The ledger says for each of them before and behind which deed of the disk it got its Ok.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use waxseal::clock::Clock;
use waxseal::mail::attempt::Fate;
use waxseal::mail::id::Id;
use waxseal::mail::message::Lane;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, OpenError};
use waxseal::queue::store::*;

use super::disk::{Image, Lie, Memory};
use crate::disk::unlocked;
use crate::store_model::{copy, last, message, options, ready};

pub const NOW: Time = Time(1_800_000_000_000);
/// So small that the work ends segments and has them compacted.
const SEGMENT: u64 = 8 << 10;
/// Things done at once, or nearly.
const BURSTS: usize = 24;

/// All that the store promises to keep, by what it belongs to: a message's id, or a memo's key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    pub what: BTreeMap<String, String>,
    pub legs: Vec<Leg>,
    pub owed: Vec<Owed>,
}

/// Opens the queue in this directory, whose journal is on this disk.
pub fn open(disk: &Memory, dir: &Path) -> Result<Arc<Embedded>, OpenError> {
    unlocked(|| Embedded::open_with(Arc::new(disk.clone()), dir, options(&Clock::System), SEGMENT))
}

/// What the store says that it has.
pub async fn kept(store: &Embedded) -> Result<Kept, StoreError> {
    ready(store).await;
    let legs: Vec<Leg> =
        store.list(Filter::default(), NOW).await?.into_iter().map(|entry| entry.leg).collect();
    let owed: Vec<Owed> = store.owed(1000).await?.into_iter().map(|(owed, _)| owed).collect();
    let mut what = BTreeMap::new();
    let ids: BTreeSet<Id> = legs.iter().map(|leg| leg.id).chain(owed.iter().map(|owed| owed.id)).collect();
    for id in ids {
        let body = store.message(id).await.map(|message| message.map(|it| crc32c::crc32c(&it.body)));
        let body = format!("{body:?}");
        let legs: Vec<&Leg> = legs.iter().filter(|leg| leg.id == id).collect();
        let owed: Vec<&Owed> = owed.iter().filter(|owed| owed.id == id).collect();
        what.insert(id.to_string(), format!("{body} {legs:?} {owed:?}"));
    }
    for (key, value) in store.recall(String::new()).await? {
        what.insert(key, format!("{value:?}"));
    }
    Ok(Kept { what, legs, owed })
}

/// Something that was asked of the store: all of it happens or nothing.
pub struct Job {
    /// What it is about.
    pub keys: Vec<String>,
    /// Deeds of the disk until its Ok.
    pub acked: usize,
}

/// Jobs that were asked for together.
pub struct Burst {
    pub began: usize,
    pub before: Kept,
    pub after: Kept,
    pub jobs: Vec<Job>,
}

impl Burst {
    /// Whether this may be found after a power cut behind so many deeds of the disk.
    pub fn allows(&self, deeds: usize, found: &Kept) -> Result<(), String> {
        let all: BTreeSet<&String> =
            [&self.before, &self.after, found].iter().flat_map(|kept| kept.what.keys()).collect();
        let same = |key: &&String, other: &Kept| found.what.get(*key) == other.what.get(*key);
        let touched: BTreeSet<&String> = self.jobs.iter().flat_map(|job| &job.keys).collect();
        if let Some(key) = all.difference(&touched).find(|key| !same(key, &self.before)) {
            let (was, is) = (self.before.what.get(*key), found.what.get(*key));
            return Err(format!("nobody asked anything about {key}:\n{was:?}\n{is:?}"));
        }
        for job in &self.jobs {
            let done = job.keys.iter().all(|key| same(&key, &self.after));
            let undone = job.keys.iter().all(|key| same(&key, &self.before));
            if !(done || undone && job.acked > deeds) {
                let acked = if job.acked > deeds { "not answered" } else { "answered Ok" };
                let three = [&self.before, &self.after, found];
                let of = |key: &String| three.map(|kept| kept.what.get(key).cloned());
                let told: Vec<_> = job.keys.iter().map(|key| (key, of(key))).collect();
                return Err(format!(
                    "{acked}, and by half or not at all there (before, after, found): {told:#?}"
                ));
            }
        }
        Ok(())
    }
}

/// A day, and what is known of it.
pub struct Day {
    pub disk: Memory,
    pub bursts: Vec<Burst>,
    /// sled's directory as it was after a tidy close, and how many deeds of the journal's disk it has seen.
    pub closed: Vec<(usize, PathBuf)>,
    pub dir: tempfile::TempDir,
    /// The checksum of every body there ever was, by its message.
    pub bodies: BTreeMap<String, u32>,
    chance: StdRng,
    serial: u64,
}

pub type Asked<'a> = (Vec<String>, Answer<'a, ()>);

fn done<'a, T: Send + 'a>(answer: Answer<'a, T>) -> Answer<'a, ()> {
    Box::pin(async move { answer.await.map(drop) })
}

/// A directory in memory if there is one: what is durable is the model's own affair.
pub fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

impl Day {
    pub async fn lived(seed: u64, lie: Lie) -> Self {
        let disk = Memory::holding(&Image::new(), lie);
        let chance = StdRng::seed_from_u64(seed);
        let (bursts, closed, bodies) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut day = Self { disk, bursts, closed, dir: directory(), bodies, chance, serial: 0 };
        let mut store = open(&day.disk, &day.dir.path().join("queue")).unwrap();
        let mut before = kept(&store).await.unwrap();
        for _ in 0..BURSTS {
            before = day.burst(&store, before).await;
            if day.chance.random_ratio(1, 10) {
                store = day.reopened(store).await;
            }
        }
        day
    }

    /// The burst that was under way, or the last one before it, behind so many deeds.
    pub fn at(&self, deeds: usize) -> &Burst {
        self.bursts.iter().rev().find(|burst| burst.began <= deeds).unwrap_or(&self.bursts[0])
    }

    async fn reopened(&mut self, store: Arc<Embedded>) -> Arc<Embedded> {
        store.close().await.unwrap();
        drop(store);
        let to = self.dir.path().join(format!("closed-{}", self.closed.len()));
        std::fs::create_dir(&to).unwrap();
        assert!(copy(&self.dir.path().join("queue/index"), &to), "nothing changes it meanwhile");
        self.closed.push((self.disk.done(), to));
        let store = open(&self.disk, &self.dir.path().join("queue")).unwrap();
        ready(&*store).await;
        store
    }

    async fn burst(&mut self, store: &Arc<Embedded>, before: Kept) -> Kept {
        let began = self.disk.done();
        let mut free = before.clone();
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for _ in 0..self.chance.random_range(1..=4) {
            let job = self.job(store, &free);
            // Each is about something of its own, so that their order among themselves does not matter.
            free.legs.retain(|leg| !job.0.contains(&leg.id.to_string()));
            free.owed.retain(|owed| !job.0.contains(&owed.id.to_string()));
            free.what.retain(|key, _| !job.0.contains(key));
            asked.push(job);
        }
        let mut jobs = Vec::new();
        for (keys, answer) in asked {
            answer.await.unwrap();
            jobs.push(Job { keys, acked: self.disk.done() });
        }
        let after = kept(store).await.unwrap();
        self.bursts.push(Burst { began, before, after: after.clone(), jobs });
        after
    }

    fn mail(&mut self) -> Accept {
        self.serial += 1;
        let legs = [(self.chance.random_range(1..4), 1), (5, self.chance.random_range(1..3))];
        let size = match self.chance.random_range(0..40) {
            0 => (1 << 20) + 100,
            1..30 => self.chance.random_range(0..1500),
            _ => self.chance.random_range(1500..6000),
        };
        let legs = &legs[..self.chance.random_range(1..3)];
        let mut mail = message(self.serial, NOW, "t1", Lane::Normal, legs, size);
        let hold = Hold { reason: "waits".into(), cause: Cause::Seal, until: None };
        mail.held = Some(hold).filter(|_| self.chance.random_ratio(1, 5));
        self.bodies.insert(mail.message.facts.id.to_string(), crc32c::crc32c(&mail.message.body));
        mail
    }

    fn job<'a>(&mut self, store: &'a Embedded, free: &Kept) -> Asked<'a> {
        let leg = free.legs.get(self.chance.random_range(0..free.legs.len().max(1))).cloned();
        let owed = free.owed.get(self.chance.random_range(0..free.owed.len().max(1))).cloned();
        match (self.chance.random_range(0..16), leg, owed) {
            (0..6, Some(leg), _) => {
                (vec![leg.id.to_string()], done(store.settle(vec![self.settlement(&leg)])))
            }
            // A command on several legs is a record for each: cut off unanswered, it may have come to some of them.
            (6..8, Some(leg), _) if free.legs.iter().filter(|other| other.id == leg.id).count() == 1 => {
                let filter = Filter { ids: vec![leg.id], ..Filter::default() };
                (vec![leg.id.to_string()], done(store.act(filter, self.action(), NOW)))
            }
            (8..10, _, Some(owed)) => {
                let mail = Accept { tells: vec![(owed.id, owed.rcpt)], ..self.mail() };
                let keys = vec![mail.message.facts.id.to_string(), owed.id.to_string()];
                (keys, store.accept(mail))
            }
            (10, _, Some(owed)) => (vec![owed.id.to_string()], store.waive(vec![(owed.id, owed.rcpt)])),
            (11..13, ..) => self.memo(store),
            _ => {
                let mail = self.mail();
                (vec![mail.message.facts.id.to_string()], store.accept(mail))
            }
        }
    }

    /// Keys come in turn, so that those of one burst differ.
    fn memo<'a>(&mut self, store: &'a Embedded) -> Asked<'a> {
        self.serial += 1;
        let key = format!("memo/{}", self.serial % 7);
        let value = vec![self.serial as u8; self.chance.random_range(0..2000)];
        let memo = Memo { key: key.clone(), value: Some(value).filter(|_| self.chance.random_ratio(3, 4)) };
        (vec![key], store.remember(vec![memo]))
    }

    fn settlement(&mut self, leg: &Leg) -> Settlement {
        let mut fates = Vec::new();
        for rcpt in &leg.rcpts {
            let fate = [Fate::Delivered, Fate::Delivered, Fate::Failed, Fate::Deferred]
                [self.chance.random_range(0..4)];
            fates.push((*rcpt, fate, last("said", NOW)));
        }
        let then = Then::Due { at: Time(NOW.0 + self.chance.random_range(0..1000)), delay_told: false };
        Settlement { id: leg.id, leg: leg.leg, fates, owe: true, then }
    }

    fn action(&mut self) -> Action {
        match self.chance.random_range(0..5) {
            0 => Action::Retry,
            1 => Action::Hold { reason: "asked".into() },
            2 => Action::Release,
            3 => Action::Bounce { reason: "given up".into() },
            _ => Action::Drop,
        }
    }
}

/// One more message, after a recovery.
pub fn late(serial: u64) -> (String, Accept) {
    let mail = message(1_000_000 + serial, NOW, "t1", Lane::Normal, &[(1, 1)], 700);
    (mail.message.facts.id.to_string(), mail)
}

impl Job {
    pub fn of(key: String, acked: usize) -> Self {
        Self { keys: vec![key], acked }
    }
}
