//! What the queue costs. `cargo bench --bench store` prints:
//! - accepts a second with 64 writers at 4 and 50 KiB, every one on stable storage before its answer, beside what a plain 4 KiB
//!   append with fdatasync costs on the same disk in the same run;
//! - the same at 4 KiB while mail leaves as fast as it comes, one in ten stays for long, and the spool is compacted all the time;
//! - a backlog (`WAXSEAL_BACKLOG`, default 100,000; 1,000,000 is the size promised for): how long a restart takes until mail is
//!   accepted, until the index answers, and the memory that is resident then;
//! - what a message costs on its way in and out where 100,000 are queued, and where 1,000,000 are: it fails where it is twice as much.
//!
//! `-- accepts`, `-- compacted`, `-- restart` and `-- growth` run one of these.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its figures and stops where it cannot go on; what it uses of the others' is not all of it"
)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use waxseal::clock::Clock;
use waxseal::mail::attempt::Fate;
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Message, Needs};
use waxseal::mail::time::Time;
use waxseal::queue::embedded::{Embedded, Options};
use waxseal::queue::store::{Accept, Destination, Last, Leg, Settlement, Store, StoreError, Then, Turns};

#[path = "load/process.rs"]
mod process;

/// Writers at once: as many sessions end a message at the same time on a busy day.
const WRITERS: u64 = 64;
/// Queues that are compared. Of a much smaller one most never leaves memory.
const QUEUED: [u64; 2] = [100_000, 1_000_000];
/// What a message may cost in the larger, for what it costs in the smaller: the index is a tree on disk, deeper by a level, and less of
/// it is in memory.
const GROWTH: f64 = 2.0;
/// Set for the process that opens what another filled.
const REOPEN: &str = "WAXSEAL_BENCH_REOPEN";
/// When all of it came. Nothing claims it, so nothing but accepting is measured.
const RECEIVED: Time = Time(1_767_225_600_000);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(dir) = std::env::var_os(REOPEN) {
        return runtime.block_on(reopen(Path::new(&dir)));
    }
    let named = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let wanted = |name: &str| named.as_deref().is_none_or(|named| named == name);
    let backlog = std::env::var("WAXSEAL_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(100_000);
    if wanted("accepts") {
        println!("4 KiB append with fdatasync, alone: {:?} each", append_and_sync());
        for (name, size, count) in [("4 KiB", 4 << 10, 100_000), ("50 KiB", 50 << 10, 20_000)] {
            runtime.block_on(accepts(name, size, count));
        }
    }
    if wanted("compacted") {
        runtime.block_on(compacted(400_000));
    }
    if wanted("restart") {
        runtime.block_on(restart(backlog));
    }
    if wanted("growth") {
        runtime.block_on(growth());
    }
}

fn open(dir: &Path) -> Arc<Embedded> {
    let options = Options {
        turns: Turns { per_destination: 20, total: 500 },
        window: 20_000,
        body_cache: 32 << 20,
        index_cache: 64 << 20,
        read_memory: 64 << 20,
        index_slack: 64 << 20,
        disk_reserve: 0,
        clock: Clock::System,
    };
    Embedded::open(dir, options).unwrap()
}

/// What the disk itself takes: the floor under every single message.
fn append_and_sync() -> Duration {
    const TIMES: u32 = 500;
    let dir = tempfile::tempdir_in(".").unwrap();
    let mut file = std::fs::File::create(dir.path().join("append")).unwrap();
    file.set_len(64 << 20).unwrap();
    file.sync_all().unwrap();
    let started = Instant::now();
    for _ in 0..TIMES {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    }
    started.elapsed() / TIMES
}

fn accept(serial: u64, body: &Bytes) -> Accept {
    let to = format!("someone@d{}.example", serial % 1000).parse().unwrap();
    let facts = Facts {
        id: Id::new(RECEIVED, u128::from(serial)),
        tenant: "acme".into(),
        login: None,
        header_from: Some("rewards@acme.example".parse().unwrap()),
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope {
            from: Some("rewards@acme.example".parse().unwrap()),
            rcpts: vec![Recipient { address: to, orcpt: None, notify: Notify::default() }],
            ret: None,
            envid: None,
        },
        received: RECEIVED,
        expires: RECEIVED.after(Duration::from_secs(5 * 86_400)),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: waxseal::mail::message::Asked::default(),
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: None,
        size: body.len() as u64,
    };
    let destination = Destination(format!("d{}.example", serial % 1000).into());
    let message = Arc::new(Message { facts, body: body.clone() });
    Accept { message, legs: vec![(destination, vec![0])], held: None, tells: Vec::new() }
}

/// Accepts `count` messages from 64 writers; answers every latency.
async fn fill(store: &Arc<Embedded>, size: usize, count: u64) -> Vec<Duration> {
    let body = Bytes::from(vec![b'x'; size]);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, body) = (Arc::clone(store), body.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for serial in (writer..count).step_by(usize::try_from(WRITERS).unwrap()) {
                    let started = Instant::now();
                    store.accept(accept(serial, &body)).await.unwrap();
                    times.push(started.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for writer in writers {
        times.extend(writer.await.unwrap());
    }
    times
}

async fn accepts(name: &str, size: usize, count: u64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = open(dir.path());
    let started = Instant::now();
    let mut times = fill(&store, size, count).await;
    let rate = f64::from(u32::try_from(count).unwrap()) / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{name}, {WRITERS} writers: {rate:.0}/s, p50 {:?}, p99 {:?}", at(50), at(99));
    store.close().await.unwrap();
}

/// Ends nine of ten, and puts the tenth off: what compaction finds in a segment that lives in part.
fn settlement(leg: &Leg, n: usize) -> Settlement {
    let (fate, code) = if n.is_multiple_of(10) { (Fate::Deferred, 451) } else { (Fate::Delivered, 250) };
    let (text, reason) = ("2.0.0 taken".into(), waxseal::mail::meaning::Reason::Other);
    let last = Last { at: RECEIVED, code, enhanced: None, text, host: None, reason, lost: None };
    let then = Then::Due { at: RECEIVED.after(Duration::from_secs(86_400)), delay_told: false };
    Settlement { id: leg.id, leg: leg.leg, fates: vec![(0, fate, last)], owe: false, then }
}

/// Claims and settles whatever is due until so much has been settled.
async fn leave(store: Arc<Embedded>, count: u64) {
    let mut done = 0;
    while done < count {
        let legs = store.claim(RECEIVED, 500).await.unwrap().legs;
        if legs.is_empty() {
            store.nudged().await;
            continue;
        }
        done += legs.len() as u64;
        let settlements = legs.iter().enumerate().map(|(n, leg)| settlement(leg, n)).collect();
        store.settle(settlements).await.unwrap();
    }
}

/// Accepts while as much leaves, so that the spool is compacted meanwhile.
async fn compacted(count: u64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = open(dir.path());
    while store.stats().await.unwrap().rebuilding {
        store.nudged().await;
    }
    let started = Instant::now();
    let leaving = tokio::spawn(leave(Arc::clone(&store), count));
    let mut times = fill(&store, 4 << 10, count).await;
    let rate = f64::from(u32::try_from(count).unwrap()) / started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    leaving.await.unwrap();
    let left = f64::from(u32::try_from(count).unwrap()) / started.elapsed().as_secs_f64();
    let stats = store.stats().await.unwrap();
    println!(
        "4 KiB, {WRITERS} writers, while it is compacted: {rate:.0}/s in, p50 {:?}, p99 {:?}; {left:.0}/s out; {} MiB of journal \
         for {} MiB that live, of {} MiB written",
        at(50),
        at(99),
        stats.journal_bytes >> 20,
        stats.live_bytes >> 20,
        (count * (4 << 10)) >> 20
    );
    store.close().await.unwrap();
}

/// Fills a queue, and has a process of its own open it, so that its memory is what a restarted daemon's would be.
async fn restart(backlog: u64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = open(dir.path());
    fill(&store, 1024, backlog).await;
    store.close().await.unwrap();
    drop(store);
    println!("after a tidy close:");
    again(dir.path());
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    println!("without an index:");
    again(dir.path());
}

fn again(dir: &Path) {
    let mut program = std::process::Command::new(std::env::current_exe().unwrap());
    assert!(program.env(REOPEN, dir).status().unwrap().success());
}

async fn reopen(dir: &Path) {
    let started = Instant::now();
    let store = open(dir);
    // No writer has this number, and no other restart.
    let serial = u64::MAX - u64::from(std::process::id());
    store.accept(accept(serial, &Bytes::from_static(b"x"))).await.unwrap();
    let accepting = started.elapsed();
    let messages = loop {
        match store.stats().await {
            Err(StoreError::Rebuilding) => {}
            stats => {
                let stats = stats.unwrap();
                if !stats.rebuilding {
                    break stats.messages;
                }
            }
        }
        store.nudged().await;
    };
    let ready = started.elapsed();
    println!(
        "{messages} queued: accepting {accepting:?} after a restart, index ready after {ready:?}, {} MiB resident",
        process::kib(std::process::id(), "VmRSS:") >> 10
    );
    store.close().await.unwrap();
}

/// The processor's time for a message, in microseconds: to take it in until so many are queued, and to have all of them leave.
async fn cost(queued: u64) -> (f64, f64) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = open(dir.path());
    while store.stats().await.unwrap().rebuilding {
        store.nudged().await;
    }
    let used = || process::processor(std::process::id()).as_secs_f64() * 1e6;
    let number = f64::from(u32::try_from(queued).unwrap());
    let begun = used();
    fill(&store, 1024, queued).await;
    let filled = used();
    leave(Arc::clone(&store), queued).await;
    let (each_in, each_out) = ((filled - begun) / number, (used() - filled) / number);
    println!(
        "{queued} queued: a message costs {each_in:.1} us on its way in, {each_out:.1} us on its way out"
    );
    store.close().await.unwrap();
    (each_in, each_out)
}

/// Whether what a message costs follows the number that is queued.
async fn growth() {
    let [few, many] = QUEUED;
    let ((in_few, out_few), (in_many, out_many)) = (cost(few).await, cost(many).await);
    let (way_in, way_out) = (in_many / in_few, out_many / out_few);
    println!("beside ten times as many it costs {way_in:.2} and {way_out:.2} times as much");
    assert!(way_in <= GROWTH && way_out <= GROWTH, "more than {GROWTH} times as much");
}
