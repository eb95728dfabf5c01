//! What many sessions cost: `cargo bench --bench sessions` runs the real program and prints, beside what was aimed at,
//! - the memory of an idle session after EHLO, in clear text and under TLS, with `WAXSEAL_SESSIONS` of them (15,000, or what the
//!   limit on descriptors allows);
//! - messages taken a second while 5,000 sessions send an octet now and then, against none of them;
//! - messages taken a second when twice as many are offered as can be taken, against the most that can.
//!
//! `-- idle`, `-- slow` and `-- twice` measure one of these alone. Clients, sink and relay share the machine, so rates are what is left to the relay.
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

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use load::client::{Client, Way};
use load::{Done, Load, Scene, Tally, closed, message, one, processor, quit};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod load;
#[path = "../tests/it/relay.rs"]
mod relay;

/// Descriptors beside the sessions': the store's, the log, the sink's connections.
const BESIDE: u64 = 600;
/// Sessions opened side by side.
const OPENING: usize = 64;
const SLOW: usize = 5_000;
/// Milliseconds between two octets: slowloris' own pause is fifteen seconds.
const PAUSES: std::ops::Range<u64> = 5_000..25_000;
const SIZE: usize = 4 << 10;
const BUSY: Load = Load { sessions: 20, each_its_own: false, lasts: Duration::from_secs(8) };
const PEAK: Load = Load { sessions: 50, each_its_own: true, lasts: Duration::from_secs(8) };
/// Until the sessions that are allowed are there, and for what is measured after that.
const FILLING: Duration = Duration::from_secs(5);
const OVERLOAD: Duration = Duration::from_secs(10);
/// As many sessions as there are descriptors.
const ROOM: &str = "connections = 100000\nconnections_per_address = 100000";

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    // The relay is a process of its own, with the same limit.
    let allowed = limit.maximum.map_or(usize::MAX, |most| most.saturating_sub(BESIDE) as usize);
    let asked = std::env::var("WAXSEAL_SESSIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(15_000);
    let sessions = allowed.min(asked);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    row("", "measured", "aimed at");
    runtime.block_on(async {
        if wanted("idle") {
            idle(sessions, false).await;
            idle(sessions, true).await;
        }
        if wanted("slow") {
            slow(SLOW.min(sessions)).await;
        }
        if wanted("twice") {
            twice().await;
        }
    });
}

/// Whether a part is to be measured: those that are named, or all. Cargo itself gives options only.
fn wanted(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|word| !word.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

fn row(what: &str, measured: &str, aim: &str) {
    println!("{what:<62} {measured:>24}   {aim}");
}

/// Opens so many sessions, past EHLO.
async fn crowd(way: &Way, count: usize) -> Vec<Client> {
    let openers: Vec<_> = (0..OPENING)
        .map(|opener| {
            let way = way.clone();
            tokio::spawn(async move {
                let mut open = Vec::new();
                for n in (opener..count).step_by(OPENING) {
                    open.push(way.open(n).await.unwrap().unwrap_or_else(|said| panic!("{said:?}")));
                }
                open
            })
        })
        .collect();
    let mut all = Vec::with_capacity(count);
    for opener in openers {
        all.append(&mut opener.await.unwrap());
    }
    all
}

/// What a session holds while its client says nothing.
async fn idle(count: usize, tls: bool) {
    let scene = Scene::open(if tls { &["implicit"] } else { &["none"] }, ROOM);
    let way = scene.way(tls);
    // What is made once is there before.
    drop(crowd(&way, OPENING).await);
    let before = scene.resident();
    let crowd = crowd(&way, count).await;
    let each = scene.resident().saturating_sub(before) as f64 / count as f64;
    let (layer, aim) = if tls { ("TLS", "<= 60 KiB") } else { ("clear text", "<= 25 KiB") };
    row(&format!("{count} idle sessions, {layer}: resident for each"), &format!("{each:.1} KiB"), aim);
    drop(crowd);
}

/// Messages taken beside clients that send an octet now and then: half within a command, half within a message.
async fn slow(count: usize) {
    let scene = Scene::open(&["none"], ROOM);
    let way = scene.way(false);
    let before = closed(&scene, BUSY, SIZE).await;
    let lingering: Vec<_> = crowd(&way, count).await.into_iter().enumerate().map(linger).collect();
    let used = scene.processor();
    tokio::time::sleep(BUSY.lasts).await;
    let share = (scene.processor() - used).as_secs_f64() / BUSY.lasts.as_secs_f64();
    let beside = closed(&scene, BUSY, SIZE).await;
    let open = lingering.iter().filter(|slow| !slow.is_finished()).count();
    for slow in lingering {
        slow.abort();
    }
    let after = closed(&scene, BUSY, SIZE).await;
    let alone = mean(before, after);
    row("messages/s alone, before and after", &format!("{:.0}, {:.0}", before.rate, after.rate), "");
    row(&format!("messages/s beside {open} slow sessions"), &format!("{:.0}", beside.rate), "");
    row("share of it", &percent(beside.rate / alone.rate), ">= 90 %");
    row("processor time a message, alone and beside them", &costs(alone, beside), "");
    row("one core's share that they take while nothing else happens", &percent(share), "");
}

fn mean(one: Done, other: Done) -> Done {
    Done { rate: f64::midpoint(one.rate, other.rate), cost: f64::midpoint(one.cost, other.cost) }
}

fn costs(one: Done, other: Done) -> String {
    format!("{:.2}, {:.2} ms", one.cost, other.cost)
}

fn linger((n, mut client): (usize, Client)) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let begun = if n % 2 == 0 { client.write(b"NOOP ").await } else { client.begin().await.map(|_| ()) };
        let mut going = begun.is_ok();
        while going {
            tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSES))).await;
            going = client.write(b"x").await.is_ok();
        }
    })
}

/// Messages taken when twice as many come as can be taken, each on a connection of its own, with the limits as they are.
async fn twice() {
    let scene = Scene::open(&["none"], "");
    let way = scene.way(false);
    let before = closed(&scene, PEAK, SIZE).await;
    let used = || [scene.processor(), processor(std::process::id())];
    let (started, first) = (std::time::Instant::now(), used());
    let (offered, taken, tally) = offer(&way, 2.0 * before.rate).await;
    let lasted = started.elapsed().as_secs_f64();
    let [relay, others] = std::array::from_fn(|at| (used()[at] - first[at]).as_secs_f64());
    let cost = 1000.0 * relay / tally.taken().max(1) as f64;
    let after = closed(&scene, PEAK, SIZE).await;
    let peak = mean(before, after);
    let number = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    row("messages/s at most, before and after", &format!("{:.0}, {:.0}", before.rate, after.rate), "");
    row(&format!("messages/s taken of {offered:.0} offered"), &format!("{taken:.0}"), "");
    row("share of it", &percent(taken / peak.rate), ">= 90 %");
    let answers = format!("{} and {}", number(&tally.later), number(&tally.other));
    row("processor time a message, at most and with twice as many", &costs(peak, Done { cost, ..peak }), "");
    let cores = format!("{:.2}, {:.2}", relay / lasted, others / lasted);
    row("cores that the relay had meanwhile, and clients and sink", &cores, "");
    row("not taken: told to come again (421, 45x), and otherwise", &answers, "all the former");
}

/// So many a second, whatever becomes of them: offered and taken a second once sessions have filled up, and the whole count.
async fn offer(way: &Way, rate: f64) -> (f64, f64, Arc<Tally>) {
    let (tally, body) = (Arc::new(Tally::default()), message(SIZE));
    let mut sending = tokio::task::JoinSet::new();
    let mut every = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let started = tokio::time::Instant::now();
    let (mut n, mut filled) = (0, None);
    while started.elapsed() < FILLING + OVERLOAD {
        every.tick().await;
        if filled.is_none() && started.elapsed() >= FILLING {
            filled = Some((n, tally.taken()));
        }
        let (way, tally, body, at) = (way.clone(), Arc::clone(&tally), Arc::clone(&body), n);
        sending.spawn(async move {
            let mut open = None;
            let said = one(&way, at, &mut open, &body).await;
            quit(open).await;
            tally.count(&said);
        });
        n += 1;
    }
    let taken = tally.taken();
    let (first, early) = filled.unwrap_or_default();
    sending.join_all().await;
    let a_second = |count: u64| count as f64 / OVERLOAD.as_secs_f64();
    (a_second((n - first) as u64), a_second(taken - early), tally)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}
