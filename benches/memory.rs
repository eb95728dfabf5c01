//! Whether memory is bounded by what the configuration says: `cargo bench --bench memory` has `WAXSEAL_SESSIONS` (200) clients send
//! messages of 10 MiB to the real program, half of them without saying how large they are, until the clock ends it; each comes again
//! when it is put off. The sink takes what goes out. Printed are the most that was resident (VmHWM), before and after, and
//! the bound; it fails where that is broken, or where nothing was taken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its figures and stops where it cannot go on; what it uses of the tests' is not all of it"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use load::client::Client;
use load::{Scene, Tally, kib, message, quit};

mod load;
#[path = "../tests/it/relay.rs"]
mod relay;

const SIZE: usize = 10 << 20;
const LASTS: Duration = Duration::from_secs(30);
/// How long what was taken may take to go out.
const DRAIN: Duration = Duration::from_secs(120);
/// MiB, as in `SMALL_MACHINE`.
const BODIES: u64 = 32;
const READ: u64 = 16;
const CACHES: u64 = 12;
/// A machine of 128 MiB: what docs/running.md advises there.
const SMALL_MACHINE: &str = "message_size = \"11MiB\"\nbody_memory = \"32MiB\"\n\
                             [queue]\nread_memory = \"16MiB\"\nbody_cache = \"4MiB\"\nindex_cache = \"8MiB\"";
/// KiB of a session: its buffers, and what reads past a message that was refused.
const SESSION: u64 = 64;
/// MiB for the rest: the journal's groups, a message on its way through admission, what the allocator keeps.
const REST: u64 = 16;

fn main() -> ExitCode {
    let sessions = std::env::var("WAXSEAL_SESSIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_usize);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(sessions))
}

async fn run(sessions: usize) -> ExitCode {
    let scene = Scene::open(&["none"], SMALL_MACHINE);
    let mib = || kib(scene.daemon.id(), "VmHWM:") >> 10;
    let before = mib();
    let tally = Arc::new(Tally::default());
    send(&scene, sessions, &tally).await;
    let received = mib();
    let until = Instant::now() + DRAIN;
    while scene.sink.taken() < tally.taken() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (most, bound) = (mib(), before + BODIES + READ + CACHES + ((sessions as u64 * SESSION) >> 10) + REST);
    let count = |which: &std::sync::atomic::AtomicU64| which.load(Ordering::Relaxed);
    println!("messages of 10 MiB taken from {sessions} sessions         {}", tally.taken());
    println!(
        "put off (452), and otherwise ended              {}, {}",
        count(&tally.later),
        count(&tally.other)
    );
    println!("gone out                                        {}", scene.sink.taken());
    println!("VmHWM at the start, after that, at the end      {before}, {received}, {most} MiB");
    println!(
        "without a bound it could have been              {} MiB",
        before + ((sessions as u64 * SIZE as u64) >> 20)
    );
    println!("bound                                           {bound} MiB");
    if most <= bound && tally.taken() > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn send(scene: &Scene, sessions: usize, tally: &Arc<Tally>) {
    let (way, body, until) = (scene.way(false), message(SIZE), Instant::now() + LASTS);
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..sessions {
        let (way, tally, body) = (way.clone(), Arc::clone(tally), Arc::clone(&body));
        sending.spawn(async move {
            let mut open: Option<Client> = None;
            while Instant::now() < until {
                if open.is_none() {
                    open = way.open(n).await.ok().and_then(Result::ok);
                }
                let Some(client) = &mut open else { continue };
                client.announces = n.is_multiple_of(2).then_some(body.len());
                let said = client.send(&body).await;
                tally.count(&said);
                if !matches!(said, Ok(load::client::Said::Taken)) {
                    quit(open.take()).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            quit(open).await;
        });
    }
    sending.join_all().await;
}
