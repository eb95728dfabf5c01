//! Damage to a spool (FA7): octets flip, sectors change places or are zeroed, files are cut short or go. Whatever it is,
//! the store opens, no body is ever handed out that is not the one accepted, nothing but what was hit is touched, and what
//! was is counted. Hit is a message with a record in the damaged octets: it may be lost, or, where the record was a word on it, be as it
//! was before that word (an attempt made once more, a failure told of once more).
//!
//! `WAXSEAL_DAMAGE_SEED=n` repeats one spool with all that is done to it; `WAXSEAL_DAMAGES=n` says how much there is in all.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use waxseal::mail::id::Id;
use waxseal::queue::store::*;

use crate::power::cut::all_of;
use crate::power::disk::{Image, Lie, Memory};
use crate::power::work::{Day, Kept, directory, kept, open};
use crate::store_model::copy;

/// Damages to one spool.
const EACH: u64 = 50;
/// Damages in all, outside of a soak.
const ALL: u64 = 400;
const SECTOR: usize = 512;
const HEADER: usize = 56;
/// Kinds of records, as src/queue/embedded/record.rs numbers them.
const ACCEPT: u8 = 2;
const COPY: u8 = 3;
const MEMO: u8 = 9;
/// The flag of the first record of a group.
const FIRST: u8 = 1;

/// A spool at rest, and what was in it.
struct Spool {
    day: Day,
    image: Image,
    kept: Kept,
    index: PathBuf,
}

impl Spool {
    /// A day, a power cut behind its last Ok at which everything came to the disk, a recovery, a tidy close: there are records
    /// of every kind.
    async fn filled(seed: u64) -> Self {
        let day = Day::lived(seed, Lie::Nothing).await;
        let done = day.bursts.last().unwrap().jobs.iter().map(|job| job.acked).max().unwrap();
        let image = all_of(&day.disk.deeds()[..done]);
        let disk = Memory::holding(&image, Lie::Nothing);
        let dir = day.dir.path().join("again");
        let store = open(&disk, &dir).unwrap();
        let kept = kept(&store).await.unwrap();
        store.close().await.unwrap();
        Self { day, image: disk.image(), kept, index: dir.join("index") }
    }
}

/// What was done, and where.
#[derive(Debug, Default)]
struct Damage {
    what: String,
    hit: Vec<(String, Range<usize>)>,
}

fn damage(image: &mut Image, chance: &mut StdRng) -> Damage {
    let names: Vec<String> = image.keys().cloned().collect();
    let mut pick = || {
        let name = names[chance.random_range(0..names.len())].clone();
        let length = image[&name].len().max(1);
        (name, chance.random_range(0..length), chance.random_range(0..100))
    };
    let ((name, at, how), (other, to, _)) = (pick(), pick());
    let content = image.get_mut(&name).unwrap();
    let length = content.len();
    if length == 0 {
        return Damage::default();
    }
    let sector = |at: usize, length: usize| at / SECTOR * SECTOR..(at / SECTOR * SECTOR + SECTOR).min(length);
    match how {
        0..40 => {
            content[at] ^= 1 << (to % 8);
            Damage { what: format!("bit {} of octet {at} of {name}", to % 8), hit: vec![(name, at..at + 1)] }
        }
        40..60 => {
            let left = if how == 40 { 0 } else { at };
            content.truncate(left);
            Damage { what: format!("{name} cut at {left}"), hit: vec![(name, left..length)] }
        }
        60..65 => {
            image.remove(&name);
            Damage { what: format!("{name} gone"), hit: vec![(name, 0..length)] }
        }
        65..80 => {
            let range = sector(at, length);
            content[range.clone()].fill(0);
            Damage { what: format!("{name} zeroed at {range:?}"), hit: vec![(name, range)] }
        }
        _ => {
            let (one, two) = (sector(at, length), sector(to, image[&other].len()));
            let (first, second) = (image[&name][one.clone()].to_vec(), image[&other][two.clone()].to_vec());
            let both = first.len().min(second.len());
            image.get_mut(&name).unwrap()[one.start..one.start + both].copy_from_slice(&second[..both]);
            image.get_mut(&other).unwrap()[two.start..two.start + both].copy_from_slice(&first[..both]);
            Damage {
                what: format!("{name} {one:?} for {other} {two:?}"),
                hit: vec![(name, one), (other, two)],
            }
        }
    }
}

/// What was hit.
#[derive(Default)]
struct Hit {
    /// Messages and memos with a record in the damaged octets.
    any: BTreeSet<String>,
    /// Messages of which that is a full record, or the body.
    whole: BTreeSet<String>,
}

impl Hit {
    fn by(spool: &Spool, done: &Damage) -> Self {
        let mut hit = Self::default();
        done.hit.iter().for_each(|(name, range)| hit.add(spool, name, range));
        hit.add_last_group(spool, done);
        // What tells of a failure ends it.
        let told = spool.day.bursts.iter().flat_map(|burst| &burst.jobs).filter(|job| job.keys.len() == 2);
        let told = told.filter(|job| hit.any.contains(&job.keys[0])).map(|job| job.keys[1].clone());
        hit.any.extend(told.collect::<Vec<_>>());
        hit
    }

    /// With the mark hit that closes the journal, the group before it may not have been synced for all anybody knows: behind
    /// damage in it, what says that a message has ended does not count, for it may rest on what is lost.
    fn add_last_group(&mut self, spool: &Spool, done: &Damage) {
        let Some((last, content)) = spool.image.iter().rfind(|(name, _)| name.starts_with("seg-")) else {
            return;
        };
        let all = records(content);
        let hit = |record: &Range<usize>| {
            done.hit
                .iter()
                .any(|(name, range)| name == last && record.start < range.end && range.start < record.end)
        };
        let Some((mark, before)) = all.split_last().filter(|((mark, ..), _)| hit(mark)) else { return };
        let from = before.iter().rposition(|(at, ..)| content[at.start + 13] & FIRST != 0).unwrap_or(0);
        let behind = before[from..].iter().skip_while(|(at, ..)| !hit(at)).chain([mark]);
        self.any.extend(behind.map(|(_, _, id)| id.clone()));
    }

    fn add(&mut self, spool: &Spool, name: &str, range: &Range<usize>) {
        if let Some(id) = name.strip_prefix("body-").and_then(|rest| rest.strip_suffix(".bin")) {
            self.any.insert(id.to_owned());
            self.whole.insert(id.to_owned());
            return;
        }
        for (record, kind, id) in records(&spool.image[name]) {
            if record.start >= range.end || range.start >= record.end {
                continue;
            }
            self.any.insert(id.clone());
            if matches!(kind, ACCEPT | COPY) {
                self.whole.insert(id);
            }
            if kind == MEMO {
                self.any.extend(spool.kept.what.keys().filter(|key| key.starts_with("memo/")).cloned());
                self.any.extend((0..7).map(|n| format!("memo/{n}")));
            }
        }
    }
}

/// The records of a segment: where, of which kind, about which message.
fn records(content: &[u8]) -> Vec<(Range<usize>, u8, String)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while content[at..].starts_with(b"WXS\x01") {
        let word = |from: usize| u32::from_le_bytes(content[from..from + 4].try_into().unwrap()) as usize;
        let end = at + HEADER + word(at + 32) + word(at + 36);
        let id = Id::from_bytes(content[at + 16..at + 32].try_into().unwrap());
        found.push((at..end, content[at + 12], id.to_string()));
        at = end;
    }
    found
}

/// Recipients that are to be tried or told of yet.
fn open_ends(kept: &Kept) -> BTreeSet<(String, u16)> {
    let legs = kept.legs.iter().flat_map(|leg| leg.rcpts.iter().map(|rcpt| (leg.id.to_string(), *rcpt)));
    legs.chain(kept.owed.iter().map(|owed| (owed.id.to_string(), owed.rcpt))).collect()
}

/// Does this, and answers what it said in the log of warnings.
fn listening<T>(work: impl FnOnce() -> T) -> (T, String) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = {
        let log = Arc::clone(&log);
        move || Log(Arc::clone(&log))
    };
    let said = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(writer).finish();
    let worked = tracing::subscriber::with_default(said, work);
    let log = String::from_utf8(std::mem::take(&mut *log.lock().unwrap())).unwrap();
    (worked, log)
}

struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn survives(spool: &Spool, seed: u64, n: u64) -> Result<(), String> {
    let mut chance = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(n));
    let mut image = spool.image.clone();
    let done = damage(&mut image, &mut chance);
    let (indexed, dir) = (chance.random_bool(0.5), directory());
    if indexed {
        std::fs::create_dir(dir.path().join("index")).unwrap();
        assert!(copy(&spool.index, &dir.path().join("index")));
    }
    let what = format!("{}, index {indexed}", done.what);
    let disk = Memory::holding(&image, Lie::Nothing);
    let (opened, log) = listening(|| open(&disk, dir.path()));
    let store = opened.map_err(|error| format!("{what}: {error}"))?;
    let found = kept(&store).await.map_err(|error| format!("{what}: {error}"))?;
    let hit = Hit::by(spool, &done);

    for (key, is) in &found.what {
        let body = spool.day.bodies.get(key).map(|crc| format!("Ok(Some({crc}))"));
        let right = body.is_none_or(|body| is.starts_with(&body) || is.starts_with("Err(Damaged"));
        if !right {
            return Err(format!("{what}: {key} has a body that was never accepted: {is}"));
        }
    }
    let keys: BTreeSet<_> = spool.kept.what.keys().chain(found.what.keys()).collect();
    let changed: Vec<_> =
        keys.into_iter().filter(|key| spool.kept.what.get(*key) != found.what.get(*key)).collect();
    if let Some(key) = changed.iter().find(|key| !hit.any.contains(**key)) {
        let (was, is) = (spool.kept.what.get(*key), found.what.get(*key));
        return Err(format!("{what}: {key} was not hit:\n{was:?}\n{is:?}"));
    }
    let after = open_ends(&found);
    let before = open_ends(&spool.kept);
    if let Some((id, rcpt)) = before.difference(&after).find(|(id, _)| !hit.whole.contains(id)) {
        let (was, is) = (spool.kept.what.get(id), found.what.get(id));
        return Err(format!(
            "{what}: recipient {rcpt} of {id} is forgotten, which is there:\n{was:?}\n{is:?}"
        ));
    }
    let stats = store.stats().await.map_err(|error| format!("{what}: {error}"))?;
    // Damage in what may have been under way when the process ended cannot be told from a power cut: it is said, and is no alarm.
    let told = stats.quarantined + stats.set_aside > 0 || log.contains("is cut off");
    let unknowable = !indexed && done.hit.iter().all(|hit| is_an_end(spool, &done, hit));
    // Who asks for a message that is damaged is told so.
    let answered = |key: &&String| found.what.get(*key).is_some_and(|is| is.starts_with("Err(Damaged"));
    let changed: Vec<_> = changed.into_iter().filter(|key| !answered(key)).collect();
    if !(changed.is_empty() || told || unknowable) {
        return Err(format!("{what}: nothing was said of {changed:?}: {stats:?}"));
    }
    Ok(())
}

/// The journal may begin and end anywhere: without an index, nobody knows that it began earlier or ended later. With nothing left
/// of the last segment, the one before it may have been the last.
fn is_an_end(spool: &Spool, done: &Damage, (name, range): &(String, Range<usize>)) -> bool {
    let mut segments = spool.image.keys().filter(|name| name.starts_with("seg-"));
    let (first, last, before) = (segments.clone().next(), segments.next_back(), segments.next_back());
    let bare = done.hit.iter().any(|(name, range)| Some(name) == last && range.start == 0);
    let lasts = Some(name) == last || bare && Some(name) == before;
    range.end == spool.image[name].len() && (lasts || Some(name) == first && range.start == 0)
}

fn damages(seed: u64) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spool = Spool::filled(seed).await;
        for n in 0..EACH {
            survives(&spool, seed, n).await.map_err(|why| format!("damage {n}: {why}"))?;
        }
        Ok(())
    })
}

#[test]
fn damage_sends_no_wrong_body_costs_what_it_hit_and_is_told() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let first = number("WAXSEAL_DAMAGE_SEED");
    let spools = first.map_or_else(|| number("WAXSEAL_DAMAGES").unwrap_or(ALL).div_ceil(EACH), |_| 1);
    let from = first.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= spools {
                return;
            }
            let seed = from.wrapping_add(n);
            if let Err(why) = damages(seed) {
                panic!("WAXSEAL_DAMAGE_SEED={seed}, {why}");
            }
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().unwrap().get()).for_each(|_| drop(scope.spawn(work)));
    });
    println!("WAXSEAL_DAMAGE_SEED={from}: {} damages, no wrong body", spools * EACH);
}
