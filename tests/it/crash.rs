//! The promise of the 250, with the real binary: killed with SIGKILL at random under load, again and again, on one spool.
//! A ledger of every 250 stands on one side, what the exchanger took on the other. After each restart, before anything
//! leaves, the queue is listed: what got its 250 has been taken or is queued, what had ended stays ended, and what was
//! taken and is queued all the same was in flight at the kill. Only those may come again, and each only once.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::relay::{Layout, Relay, Running, smtp};

mod points;
mod sink;
use sink::{REFUSED, Sink};

/// Kills under load; each is a start, a burst, a SIGKILL. `WAXSEAL_CRASH_ROUNDS` raises it for a soak.
const ROUNDS: usize = 300;
/// Sessions that submit at once.
const WRITERS: usize = 8;
/// Attempts at once, as configured.
const CONCURRENCY: usize = 20;
/// The longest burst, in milliseconds.
const BURST: u64 = 600;
/// Mails that a session submits in one burst at most: the backlog stays such that listing it is quick.
const MAILS: usize = 40;
/// The journal is one sequence: what the relay had heard before a session began so many mails, each of which then got its
/// 250, is durable too. Many, because hearing a reply and settling it are two things, with three threads between them that a busy
/// machine runs when it likes.
const LATER: usize = 24;

/// A 250: the queue id, and when its session began to send the message.
struct Entry {
    id: String,
    began: Instant,
}

/// By mark, the local part of a message's recipient: those that may not have ended.
type Ledger = HashMap<String, Entry>;

/// Submits until the relay is gone; every 250 goes into the ledger.
fn submit(relay: SocketAddr, writer: usize, round: usize, ledger: &Mutex<Ledger>) {
    let Ok(mut session) = smtp::Session::open(relay) else { return };
    for n in 0..MAILS {
        let mark = format!("m-{round}-{writer}-{n}");
        // Some above the size at which a body stands in a file of its own.
        let filler = if n % 40 == 39 { 18_000 } else { n % 50 };
        let to = format!("{mark}@dest.test");
        let body = format!(
            "From: a@bench.test\r\nTo: {to}\r\nSubject: {mark}\r\n\r\n{}",
            "0123456789 0123456789 0123456789 0123456789 0123456789 0123456\r\n".repeat(filler)
        );
        let began = Instant::now();
        let Ok(reply) = session.send("a@bench.test", &[&to], body.as_bytes()) else { return };
        if let Some(id) = reply.strip_prefix("250 2.0.0 Ok: queued as ") {
            ledger.lock().unwrap().insert(mark, Entry { id: id.trim().to_owned(), began });
        }
    }
}

fn rest_until(end: Instant) {
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// The marks of all that is queued, as `queue list` says once the index is there; READY does not wait for it.
fn queued(relay: &Relay) -> HashSet<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let listed = relay.run(&["queue", "list", "--json", "--limit", "100000"]);
        if listed.status.success() {
            let text = String::from_utf8(listed.stdout).unwrap();
            return text.lines().flat_map(recipients).collect();
        }
        assert!(Instant::now() < deadline, "the index is not there after a minute");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn recipients(row: &str) -> Vec<String> {
    let row: serde_json::Value = serde_json::from_str(row).unwrap();
    let to = row["to"].as_array().unwrap().iter().filter_map(|to| to.as_str());
    to.filter_map(|to| to.strip_suffix("@dest.test")).map(str::to_owned).collect()
}

/// The time before which whatever the relay had heard must be durable: some session got so many 250s for mails it began
/// after it.
fn horizon(round: usize, ledger: &Ledger) -> Option<Instant> {
    let begun = |writer: usize| {
        let ours = format!("m-{round}-{writer}-");
        let mut begun: Vec<_> =
            ledger.iter().filter(|(mark, _)| mark.starts_with(&ours)).map(|(_, entry)| entry.began).collect();
        begun.sort_unstable();
        begun.len().checked_sub(LATER).map(|at| begun[at])
    };
    (0..WRITERS).filter_map(begun).max()
}

/// What the rounds came to.
#[derive(Debug, Default)]
struct Sum {
    ended: usize,
    in_flight: usize,
    most: usize,
    compared: usize,
    /// Of those compared, the kills at which something was in flight that later mail proves durable.
    early: usize,
}

struct Trial<'a> {
    relay: &'a Relay,
    sink: &'a Sink,
    ledger: Mutex<Ledger>,
    chance: StdRng,
    sum: Sum,
}

impl Trial<'_> {
    /// A burst: writers submit while the exchanger takes, and the relay is killed at random.
    fn burst(&mut self, relay: Running, round: usize) {
        let moment = Duration::from_millis(self.chance.random_range(0..BURST));
        self.sink.open(round);
        std::thread::scope(|burst| {
            for writer in 0..WRITERS {
                let (address, ledger) = (self.relay.address(), &self.ledger);
                burst.spawn(move || submit(address, writer, round, ledger));
            }
            rest_until(Instant::now() + moment);
            drop(relay);
        });
        self.sink.close();
    }

    /// Starts the relay again, now and then once more because it is killed while it recovers, and compares.
    fn restart(&mut self, round: usize) -> Running {
        // The log of the round before is all that a failed test needs; a soak would fill the disk with it.
        let log = self.relay.dir.join("data/mail.jsonl");
        std::fs::rename(&log, log.with_extension("before")).unwrap();
        while self.chance.random_ratio(1, 4) {
            let _relay = self.relay.start();
            rest_until(Instant::now() + Duration::from_millis(self.chance.random_range(0..20)));
        }
        let relay = self.relay.start();
        let queued = queued(self.relay);
        let mut ledger = self.ledger.lock().unwrap();
        let lost = self.sink.missing(ledger.keys().filter(|mark| !queued.contains(*mark)));
        let lost: Vec<_> = lost.iter().map(|mark| (mark, &ledger[mark].id)).collect();
        assert!(lost.is_empty(), "acknowledged, not taken, and not queued after kill {round}: {lost:?}");
        let left = self.sink.compare(&queued);
        if let (Some(horizon), Some(oldest)) = (horizon(round, &ledger), left.oldest) {
            self.sum.compared += 1;
            if let Some(ago) = horizon.checked_duration_since(oldest) {
                self.sum.early += 1;
                println!("kill {round}: taken {ago:?} before what later mail proves to be durable");
            }
        }
        let known = ledger.len();
        ledger.retain(|mark, _| queued.contains(mark));
        self.sum.ended += known - ledger.len();
        self.sum.in_flight += left.count;
        self.sum.most = self.sum.most.max(left.count);
        relay
    }

    /// Everything acknowledged is taken in the end, and the relay knows it: of all of it nothing is queued any more.
    fn drain(&self, rounds: usize) {
        self.sink.be_kind();
        self.sink.open(rounds);
        assert!(self.relay.run(&["queue", "retry", "--all"]).status.success());
        let deadline = Instant::now() + Duration::from_secs(60);
        let missing = || self.sink.missing(self.ledger.lock().unwrap().keys());
        while !missing().is_empty() && Instant::now() < deadline {
            self.sink.news(500, Duration::from_millis(200));
        }
        assert_eq!(missing(), Vec::<String>::new(), "queued, but never delivered");
        while !queued(self.relay).is_empty() {
            assert!(Instant::now() < deadline, "taken, and still queued: {:?}", queued(self.relay));
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

#[test]
fn sigkill_under_load_loses_nothing_that_got_its_250() {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let rounds = number("WAXSEAL_CRASH_ROUNDS").map_or(ROUNDS, |n| n as usize);
    let seed = number("WAXSEAL_CRASH_SEED").unwrap_or_else(rand::random);
    let dir = tempfile::tempdir().unwrap().keep();
    println!("WAXSEAL_CRASH_SEED={seed}, in {}", dir.display());
    let sink = Sink::start();
    let delivery = format!(
        "retry = [\"1s\"]\nconcurrency_per_destination = {CONCURRENCY}\ndata_done_timeout = \"60s\"\n"
    );
    let relay = Relay::lay_out(&dir, &Layout { delivery, ..Layout::upstream(sink.address) });
    let (ledger, chance) = (Mutex::default(), StdRng::seed_from_u64(seed));
    let mut trial = Trial { relay: &relay, sink: &sink, ledger, chance, sum: Sum::default() };
    let mut running = relay.start();
    for round in 0..rounds {
        trial.burst(running, round);
        running = trial.restart(round);
    }
    trial.drain(rounds);
    drop(running);

    let (again, wrong) = sink.again();
    let Trial { ledger, sum, .. } = trial;
    let acknowledged = sum.ended + ledger.into_inner().unwrap().len();
    let report = format!(
        "{rounds} kills, {acknowledged} acknowledged, 0 lost, {again} arrived again of {} in flight at a kill (at most {} \
         at one; {} kills with mail that proves the rest durable)",
        sum.in_flight, sum.most, sum.compared
    );
    println!("{report}");
    // Between hearing a reply and settling it the relay's threads run when the machine lets them: one that was kept from running
    // looks like a reply that was not kept. A relay that settles late does so at every kill.
    assert!(sum.early * 50 <= sum.compared, "{} kills with mail in flight for too long: {report}", sum.early);
    assert!(acknowledged > rounds && sum.in_flight > 0, "too little happened to prove anything: {report}");
    assert!(wrong.is_empty() && again <= sum.in_flight, "{report}: {wrong:?}");
    std::fs::remove_dir_all(dir).unwrap();
}
