//! Every failpoint, one after the other, on one spool: the real program under load dies exactly there, and the same accounts
//! are kept as for kills at random. Some recipients are refused for good: their senders are told, whatever happens meanwhile.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use waxseal::clock::Clock;
use waxseal::failpoint::Failpoint;
use waxseal::mail::time::Time;
use waxseal::queue::embedded::Embedded;
use waxseal::queue::store::{Filter, Store};

use super::*;
use crate::store_model::{options, ready};

/// Attempts at reaching one failpoint.
const TRIES: usize = 8;
/// Mails that a session submits in a round.
const MAILS: usize = 24;
/// Octets of a body that has a file of its own, and of one that fills a segment with its like.
const LARGE: usize = 18_000;
const HEAVY: usize = 14_000;
/// Of those, so many from each session fill two segments and begin a third: what is dead outweighs what is kept.
const HEAVY_MAILS: usize = 20;

/// Those that are passed many times in a round die at one of the first passings, the others at the first.
fn passings(place: Failpoint, chance: &mut StdRng) -> u64 {
    let busy = ["accept.", "reply.", "commit.", "index.taken", "turn.", "attempt.", "settle."];
    if busy.iter().any(|busy| place.name().starts_with(busy)) { chance.random_range(1..12) } else { 1 }
}

/// A line of a body, which is that many lines.
const LINE: &str = "0123456789 0123456789 0123456789 0123456789 0123456789 0123456\r\n";

/// Submits until all is said or the relay is gone; every 250 goes into the ledger.
fn submit(relay: SocketAddr, mark: &str, heavy: bool, ledger: &Mutex<Ledger>) {
    let Ok(mut session) = smtp::Session::open(relay) else { return };
    for n in 0..if heavy { HEAVY_MAILS } else { MAILS } {
        let mark = if n % 8 == 7 { format!("{REFUSED}{mark}-{n}") } else { format!("m-{mark}-{n}") };
        let lines = match n % 24 {
            _ if heavy => HEAVY,
            11 => LARGE,
            n => n,
        };
        let to = format!("{mark}@dest.test");
        let body = format!("From: a@bench.test\r\nTo: {to}\r\nSubject: {mark}\r\n\r\n{}", LINE.repeat(lines));
        let began = Instant::now();
        let Ok(reply) = session.send("a@bench.test", &[&to], body.as_bytes()) else { return };
        if let Some(id) = reply.strip_prefix("250 2.0.0 Ok: queued as ") {
            ledger.lock().unwrap().insert(mark, Entry { id: id.trim().to_owned(), began });
        }
    }
}

impl Trial<'_> {
    /// One round of load with a failpoint armed: true if the relay died there. What it does in any case, so that every place is
    /// passed: it starts, takes and delivers mail, reloads, and ends tidily.
    fn die_at(&mut self, place: Failpoint, round: usize) -> bool {
        let armed = format!("{}:{}", place.name(), passings(place, &mut self.chance));
        self.sink.open(round);
        let Some(mut relay) = self.relay.start_to_die(&armed) else {
            self.sink.close();
            return true;
        };
        // Notifications, which stay, are a good part of a small round: compaction finds enough that is dead only in a large one.
        let heavy = ["segment.", "compact."].iter().any(|name| place.name().starts_with(name));
        let (address, ledger) = (self.relay.address(), &self.ledger);
        std::thread::scope(|burst| {
            for writer in 0..WRITERS {
                burst.spawn(move || submit(address, &format!("{round}-{writer}"), heavy, ledger));
            }
            relay.signal(Signal::HUP);
        });
        if heavy {
            self.delivered(&mut relay);
        }
        // Once it is known to have died there is nobody to send a signal to.
        if relay.try_wait().unwrap().is_none() {
            relay.signal(Signal::TERM);
        }
        let status = relay.end();
        self.sink.close();
        match status.signal() {
            Some(signal) => assert_eq!(signal, Signal::KILL.as_raw(), "{armed}"),
            None => assert!(status.success(), "{armed}: {status}"),
        }
        status.signal().is_some()
    }

    /// Waits until the relay has died, or has delivered everything: a segment goes once what it holds has been delivered.
    fn delivered(&self, relay: &mut Running) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let missing = || !self.sink.missing(self.ledger.lock().unwrap().keys()).is_empty();
        while relay.try_wait().unwrap().is_none() && missing() && Instant::now() < deadline {
            self.sink.news(500, Duration::from_millis(200));
        }
    }

    /// Waits until no failure is owed: the exchanger's refusal comes before the relay has written of it.
    fn owes_nothing(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let owed = || runtime.block_on(self.relay.counted("waxseal_queue_owed"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while owed() > 0 {
            assert!(Instant::now() < deadline, "{} failures are still owed", owed());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// All of whom the relay's notifications tell, and how many failures are still owed.
    fn told(&self) -> (HashSet<String>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = self.relay.dir.join("data");
            let store = Embedded::open(&dir, options(&Clock::System)).unwrap();
            ready(&*store).await;
            let mut told = HashSet::new();
            for entry in store.list(Filter::default(), Time(0)).await.unwrap() {
                let message = store.message(entry.leg.id).await.unwrap().unwrap();
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let marks = text.split("rfc822;").skip(1).filter_map(|rest| rest.split('@').next());
                told.extend(marks.map(|mark| mark.trim().to_owned()));
            }
            (told, store.owed(1_000_000).await.unwrap().len())
        })
    }
}

/// FA5. Several rounds a failpoint by `WAXSEAL_FAILPOINT_ROUNDS`.
#[test]
fn a_death_at_any_failpoint_loses_nothing_that_got_its_250() {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let laps = number("WAXSEAL_FAILPOINT_ROUNDS").unwrap_or(1) as usize;
    let seed = number("WAXSEAL_CRASH_SEED").unwrap_or_else(rand::random);
    let dir = tempfile::tempdir().unwrap().keep();
    println!("WAXSEAL_CRASH_SEED={seed}, in {}", dir.display());
    let sink = Sink::start();
    let delivery = format!(
        "retry = [\"1s\"]\nconcurrency_per_destination = {CONCURRENCY}\ndata_done_timeout = \"60s\"\ngather = \"0s\"\n"
    );
    // Notifications go by DNS, which is silent here: they stay in the queue, where the test reads them.
    let tables = "[dns]\nservers = [\"127.0.0.1:9\"]\n".to_owned();
    let relay = Relay::lay_out(&dir, &Layout { delivery, tables, ..Layout::upstream(sink.address) });
    let (ledger, chance) = (Mutex::default(), StdRng::seed_from_u64(seed));
    let mut trial = Trial { relay: &relay, sink: &sink, ledger, chance, sum: Sum::default() };
    drop(relay.start());
    let mut round = 0;
    for _ in 0..laps {
        for place in Failpoint::ALL {
            let began = Instant::now();
            let reached = (0..TRIES).any(|_| {
                round += 1;
                let died = trial.die_at(*place, round);
                drop(trial.restart(round));
                died
            });
            println!("{}: {:?}", place.name(), began.elapsed());
            assert!(reached, "{} was not passed in {TRIES} rounds", place.name());
        }
    }
    let running = relay.start();
    trial.drain(round + 1);
    trial.owes_nothing();
    drop(running);
    let (again, wrong) = sink.again();
    assert!(wrong.is_empty() && again <= trial.sum.in_flight, "{again} again: {wrong:?}");
    let (told, owed) = trial.told();
    let untold: Vec<_> = sink.refused().difference(&told).cloned().collect();
    assert!(untold.is_empty() && owed == 0, "refused, and nobody was told: {untold:?}; {owed} owed");
    println!(
        "{} failpoints, {round} rounds, {} told of, 0 lost, {again} arrived again",
        Failpoint::ALL.len(),
        told.len()
    );
    std::fs::remove_dir_all(dir).unwrap();
}
