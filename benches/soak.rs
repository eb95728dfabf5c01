//! Whether anything grows: `scripts/soak-load HOURS` runs the real program under a steady load and looks at it once a minute. It
//! prints what each look shows, in the end the slopes (least squares, without the first tenth, in which caches fill), and
//! fails where one is over its bound, or where what was taken and what arrived differ.
//! `WAXSEAL_RATE`: messages a second (20). `WAXSEAL_SAMPLE`: seconds between two looks (60).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "it prints its figures and stops where it cannot go on; what it uses of the tests' is not all of it"
)]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use load::client::{Client, Way};
use load::process::descriptors;
use load::{Scene, Tally, message, octets, one, quit};

mod load;
#[path = "../tests/it/relay.rs"]
mod relay;

const SESSIONS: usize = 10;
const SIZE: usize = 4 << 10;
/// A session ends after so many messages, so that connections come and go too.
const MESSAGES_EACH: u64 = 100;
/// How long what was taken last may take to arrive.
const DRAIN: Duration = Duration::from_secs(60);

/// What is looked at.
struct Gauge {
    name: &'static str,
    unit: &'static str,
    /// The most it may grow by in an hour.
    hourly: f64,
    /// What it goes up and down by in any case: a rise of no more is no growth, however short the run.
    swing: f64,
}

const GAUGES: [Gauge; 3] = [
    Gauge { name: "resident memory", unit: "MiB", hourly: 2.0, swing: 12.0 },
    Gauge { name: "descriptors", unit: "", hourly: 1.0, swing: 12.0 },
    // A segment is 64 MiB, and compaction waits for two of them.
    Gauge { name: "spool and index", unit: "MiB", hourly: 16.0, swing: 192.0 },
];

fn number(name: &str, usual: f64) -> f64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn main() -> ExitCode {
    let (hours, rate) = (number("WAXSEAL_HOURS", 8.0), number("WAXSEAL_RATE", 20.0));
    let every = Duration::from_secs_f64(number("WAXSEAL_SAMPLE", 60.0));
    let lasts = Duration::from_secs_f64(hours * 3600.0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{rate} messages a second for {hours} hours, a look every {every:?}");
    let good = runtime.block_on(async {
        let scene = Scene::open(&["none"], "");
        let tally = Arc::new(Tally::default());
        let sending = steady(&scene.way(false), (rate, lasts), &tally);
        let looks = watch(&scene, &tally, (every, lasts)).await;
        sending.join_all().await;
        let arrived = arrived(&scene, &tally).await;
        judge(&looks) & arrived
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sessions that together send so many messages a second for so long.
fn steady(way: &Way, (rate, lasts): (f64, Duration), tally: &Arc<Tally>) -> tokio::task::JoinSet<()> {
    let body = message(SIZE);
    let until = Instant::now() + lasts;
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..SESSIONS {
        let (way, tally, body) = (way.clone(), Arc::clone(tally), Arc::clone(&body));
        sending.spawn(async move {
            let mut every = tokio::time::interval(Duration::from_secs_f64(SESSIONS as f64 / rate));
            let (mut open, mut sent): (Option<Client>, u64) = (None, 0);
            while Instant::now() < until {
                every.tick().await;
                let said = one(&way, n, &mut open, &body).await;
                sent += 1;
                if said.is_err() || sent.is_multiple_of(MESSAGES_EACH) {
                    quit(open.take()).await;
                }
                tally.count(&said);
            }
            quit(open).await;
        });
    }
    sending
}

/// Hours since the start, and each gauge.
type Look = (f64, [f64; 3]);

async fn watch(scene: &Scene, tally: &Tally, (every, lasts): (Duration, Duration)) -> Vec<Look> {
    let (started, mut looks) = (Instant::now(), Vec::new());
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    while started.elapsed() + every <= lasts + Duration::from_secs(1) {
        ticks.tick().await;
        let data = scene.dir.path().join("data");
        // The log grows by what happens, and is turned by who reads it.
        let log = std::fs::metadata(data.join("mail.jsonl")).map_or(0, |log| log.len());
        let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
        let look = [
            mib(scene.resident() << 10),
            descriptors(scene.daemon.id()) as f64,
            mib(octets(&data).saturating_sub(log)),
        ];
        let hours = started.elapsed().as_secs_f64() / 3600.0;
        println!(
            "{hours:7.3} h: {:.1} MiB resident, {} descriptors, {:.1} MiB of spool and index; {} taken, {} arrived",
            look[0],
            look[1],
            look[2],
            tally.taken(),
            scene.sink.taken()
        );
        looks.push((hours, look));
    }
    looks
}

/// Whether all that was taken arrives, once each.
async fn arrived(scene: &Scene, tally: &Tally) -> bool {
    let deadline = Instant::now() + DRAIN;
    while scene.sink.taken() < tally.taken() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (taken, arrived) = (tally.taken(), scene.sink.taken());
    let (later, other) = (tally.later.load(Ordering::Relaxed), tally.other.load(Ordering::Relaxed));
    println!("{taken} taken, {arrived} arrived; {later} told to come again, {other} otherwise not taken");
    taken == arrived && other == 0
}

/// Prints the slopes; whether all are within their bounds.
fn judge(looks: &[Look]) -> bool {
    let settled = &looks[looks.len() / 10..];
    let length = settled.last().map_or(0.0, |last| last.0) - settled.first().map_or(0.0, |first| first.0);
    let one = |(at, gauge): (usize, &Gauge)| {
        let slope = slope(settled.iter().map(|(hours, look)| (*hours, look[at])));
        let good = slope <= gauge.hourly || slope * length <= gauge.swing;
        let verdict = if good { "good" } else { "GROWS" };
        let Gauge { name, unit, hourly, swing } = gauge;
        println!("{name}: {slope:+.2} {unit}/h (bound {hourly}, or a rise of {swing} in all): {verdict}");
        good
    };
    GAUGES.iter().enumerate().map(one).fold(true, |all, good| all & good)
}

/// Least squares.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count().max(1) as f64;
    let mean = |of: fn((f64, f64)) -> f64| points.clone().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|(x, _)| x), mean(|(_, y)| y));
    let (above, below) = points.fold((0.0, 0.0), |(above, below), (px, py)| {
        ((px - x).mul_add(py - y, above), (px - x).mul_add(px - x, below))
    });
    if below > 0.0 { above / below } else { 0.0 }
}
