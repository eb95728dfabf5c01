//! Power cuts (FA4, FA6), in an in-process model of a disk. A seeded day of the real store runs on it; then, behind a deed of
//! the disk drawn at random, the power is cut, what the disk may have kept of the unsynced is drawn too, and the store
//! opens that. Whatever got its Ok is there as it was; whatever did not is there whole or not at all; nothing is damaged.
//! Every other time the power fails again while the store recovers, or just after.
//!
//! The journal is all that counts, so it alone is on the modelled disk. sled is on a real one, and what a power cut
//! leaves of it is one of two things: nothing that is trusted (the machine's boot id is another; the test deletes the
//! directory), or the index of the last tidy close, in case nothing written to it since has come to the disk.
//!
//! `WAXSEAL_POWER_SEED=n` repeats one day and all its cuts; `WAXSEAL_POWER_STATES=n` says how many there are in all.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use waxseal::queue::store::Store;

use crate::store_model::copy;

pub mod cut;
pub mod disk;
pub mod work;
use cut::power_cut;
use disk::{Image, Lie, Memory};
use work::{Burst, Day, Job, Kept, directory, kept, late, open};

/// Power cuts in one day.
const CUTS: u64 = 50;
/// Power cuts in all, outside of a soak.
const STATES: u64 = 2000;
/// Days on which a loss was found once.
const FOUND: [u64; 3] = [1_349_560_427, 1_349_560_442, 3_894_451_186];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

/// What the store finds on a disk like this.
struct Found {
    kept: Kept,
    disk: Memory,
    /// Deeds until it was open.
    opened: usize,
    /// One more message, and the deeds until its Ok.
    late: Option<(String, usize, Kept)>,
}

async fn find(image: &Image, index: Option<&Path>, more: Option<u64>) -> Result<Found, String> {
    let dir = directory();
    if let Some(index) = index {
        std::fs::create_dir(dir.path().join("index")).unwrap();
        assert!(copy(index, &dir.path().join("index")));
    }
    let disk = Memory::holding(image, Lie::Nothing);
    let store = open(&disk, dir.path()).map_err(|error| format!("cannot be opened: {error}"))?;
    let opened = disk.done();
    let found = kept(&store).await.map_err(|error| error.to_string())?;
    let stats = store.stats().await.map_err(|error| error.to_string())?;
    if (stats.quarantined, stats.set_aside) != (0, 0) {
        return Err(format!("taken for damage: {stats:?}"));
    }
    let mut later = None;
    if let Some(serial) = more {
        let (key, mail) = late(serial);
        store.accept(mail).await.map_err(|error| error.to_string())?;
        later = Some((key, disk.done(), kept(&store).await.map_err(|error| error.to_string())?));
    }
    drop(store);
    Ok(Found { kept: found, disk, opened, late: later })
}

/// One power cut, or two. Deterministic but for what the day was.
async fn state(day: &Day, seed: u64, n: u64) -> Result<(), (String, Image)> {
    let mut chance = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(n));
    let deeds = day.disk.deeds();
    let at = chance.random_range(0..=deeds.len());
    let image = power_cut(&Image::new(), &deeds[..at], &mut chance);
    let index = day.closed.iter().rev().find(|(seen, _)| *seen <= at).map(|(_, path)| path.as_path());
    let index = index.filter(|_| chance.random_bool(0.5));
    let again = chance.random_bool(0.5);
    let case =
        |why: String| format!("cut behind deed {at} of {}, index {}: {why}", deeds.len(), index.is_some());
    let found = find(&image, index, again.then_some(n)).await.map_err(|why| (case(why), image.clone()))?;
    day.at(at).allows(at, &found.kept).map_err(|why| (case(why), image.clone()))?;
    let Some((key, acked, after)) = found.late else { return Ok(()) };

    let deeds = found.disk.deeds();
    let second = chance.random_range(0..=deeds.len());
    let twice = power_cut(&image, &deeds[..second], &mut chance);
    let case = |why: String| case(format!("again behind {second} of {}: {why}", deeds.len()));
    let last = find(&twice, None, None).await.map_err(|why| (case(why), twice.clone()))?;
    let burst = Burst { began: found.opened, before: found.kept, after, jobs: vec![Job::of(key, acked)] };
    let allowed = if second < found.opened {
        day.at(at).allows(at, &last.kept)
    } else {
        burst.allows(second, &last.kept)
    };
    allowed.map_err(|why| (case(why), twice))
}

/// A day with all its power cuts; answers how many went well before the first that did not.
fn day(seed: u64, lie: Lie, cuts: u64) -> Result<u64, (u64, String, Image)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let day = Day::lived(seed, lie).await;
        for n in 0..cuts {
            state(&day, seed, n).await.map_err(|(why, image)| (n, why, image))?;
        }
        Ok(cuts)
    })
}

/// Writes the disk down, so that it can be looked at and opened again whatever a second run of its day does.
fn evidence(image: &Image) -> std::path::PathBuf {
    let dir = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir(dir.join("spool")).unwrap();
    image.iter().for_each(|(name, octets)| std::fs::write(dir.join("spool").join(name), octets).unwrap());
    dir
}

#[test]
fn a_power_cut_loses_nothing_that_was_answered_ok() {
    let first = number("WAXSEAL_POWER_SEED");
    for seed in FOUND.into_iter().filter(|_| first.is_none()) {
        day(seed, Lie::Nothing, CUTS)
            .map_err(|(state, why, _)| format!("{seed}, state {state}: {why}"))
            .unwrap();
    }
    let days = first.map_or_else(|| number("WAXSEAL_POWER_STATES").unwrap_or(STATES).div_ceil(CUTS), |_| 1);
    let from = first.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= days {
                return;
            }
            let seed = from.wrapping_add(n);
            if let Err((state, why, image)) = day(seed, Lie::Nothing, CUTS) {
                let kept = evidence(&image);
                panic!("WAXSEAL_POWER_SEED={seed}, state {state}, disk in {}: {why}", kept.display());
            }
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().unwrap().get()).for_each(|_| drop(scope.spawn(work)));
    });
    println!("WAXSEAL_POWER_SEED={from}: {days} days, {} power cuts, nothing lost", days * CUTS);
}

#[test]
fn a_disk_that_only_pretends_to_sync_is_found_out_within_50_power_cuts() {
    for lie in [Lie::Files, Lie::Names] {
        let caught = day(7, lie, 50);
        let (state, why, _) = caught.expect_err("the test must be able to fail");
        println!("{lie:?}: found out at state {state}: {why}");
    }
}
