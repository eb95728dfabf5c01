//! The promise of the 250, with the real binary: killed with SIGKILL at random under load, again and again, on one spool.
//! A ledger of every 250 stands on one side, what the exchanger took on the other; nothing acknowledged may be missing, and
//! nothing may arrive twice but what was in flight at a kill.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::relay::{Layout, Relay, smtp};

/// Kills; each is a start, a burst, a SIGKILL. `WAXSEAL_CRASH_ROUNDS` raises it for a soak.
const ROUNDS: usize = 100;
/// Sessions that submit at once.
const WRITERS: usize = 8;
/// Attempts at once, as configured: what can be in flight at a kill.
const CONCURRENCY: usize = 20;

/// An exchanger that counts what it took, by the message's own mark.
struct Sink {
    address: SocketAddr,
    shared: Arc<SinkState>,
}

struct SinkState {
    taken: Mutex<HashMap<String, usize>>,
    kind: AtomicBool,
    turn: AtomicU64,
    news: Mutex<Sender<()>>,
}

impl Sink {
    fn start() -> (Self, Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (news, heard) = channel();
        let shared = Arc::new(SinkState {
            taken: Mutex::default(),
            kind: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            news: Mutex::new(news),
        });
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || state.converse(stream));
            }
        });
        (Self { address, shared }, heard)
    }

    /// From now on every message is taken; before, 250, 451 and silence come in turn.
    fn be_kind(&self) {
        self.shared.kind.store(true, Ordering::SeqCst);
    }
}

impl SinkState {
    fn converse(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut out = stream.try_clone().unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        if out.write_all(b"220 sink ESMTP\r\n").is_err() {
            return;
        }
        loop {
            line.clear();
            match lines.read_line(&mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            let verb = line.get(..4).unwrap_or("").to_ascii_uppercase();
            let answer = match verb.as_str() {
                "EHLO" => "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
                "DATA" => {
                    if out.write_all(b"354 go\r\n").is_err() {
                        return;
                    }
                    let Some(mark) = read_mark(&mut lines) else { return };
                    match self.judge(&mark) {
                        Some(answer) => answer,
                        None => {
                            // Silence: the client waits until it gives up or is killed.
                            let _ = lines.read(&mut [0; 1]);
                            return;
                        }
                    }
                }
                "QUIT" => {
                    let _ = out.write_all(b"221 bye\r\n");
                    return;
                }
                _ => "250 Ok\r\n",
            };
            if out.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Counts a message as taken before the 250 is written: from here on it may count as delivered.
    fn judge(&self, mark: &str) -> Option<&'static str> {
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        if !self.kind.load(Ordering::SeqCst) {
            match turn % 6 {
                0 => return Some("451 4.3.0 not now\r\n"),
                3 => return None,
                _ => {}
            }
        }
        *self.taken.lock().unwrap().entry(mark.to_owned()).or_default() += 1;
        let _ = self.news.lock().unwrap().send(());
        Some("250 2.0.0 taken\r\n")
    }
}

/// Reads a message to its final dot; answers its `X-Mark`.
fn read_mark(lines: &mut impl BufRead) -> Option<String> {
    let mut mark = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        if line == b".\r\n" {
            return mark;
        }
        if let Some(value) = line.strip_prefix(b"X-Mark: ") {
            mark = Some(String::from_utf8_lossy(value).trim().to_owned());
        }
    }
}

/// Submits until the relay is gone; every 250 goes into the ledger with its mark and queue id.
fn submit(relay: SocketAddr, writer: usize, round: usize, ledger: &Mutex<HashMap<String, String>>) {
    let Ok(mut session) = smtp::Session::open(relay) else { return };
    for n in 0.. {
        let mark = format!("{round}-{writer}-{n}");
        // Some above the size at which a body stands in a file of its own.
        let filler = if n % 40 == 39 { 18_000 } else { n % 50 };
        let body = format!(
            "From: a@bench.test\r\nTo: b@dest.test\r\nSubject: {mark}\r\nX-Mark: {mark}\r\n\r\n{}",
            "0123456789 0123456789 0123456789 0123456789 0123456789 0123456\r\n".repeat(filler)
        );
        let Ok(reply) = session.send("a@bench.test", &["b@dest.test"], body.as_bytes()) else { return };
        if let Some(id) = reply.strip_prefix("250 2.0.0 Ok: queued as ") {
            ledger.lock().unwrap().insert(mark, id.trim().to_owned());
        }
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A burst: writers submit while the exchanger takes; after a while of its own the relay is killed.
fn round(relay: &Relay, n: usize, ledger: &Mutex<HashMap<String, String>>) {
    let child = relay.start();
    std::thread::scope(|burst| {
        for writer in 0..WRITERS {
            burst.spawn(move || submit(relay.address(), writer, n, ledger));
        }
        // Spread over the life of a burst, from the first message to a standing backlog; no two rounds alike.
        let moment = Duration::from_millis(u64::try_from(n * 7919 % 400).unwrap());
        let started = Instant::now();
        while started.elapsed() < moment || ledger.lock().unwrap().is_empty() {
            std::thread::park_timeout(moment.saturating_sub(started.elapsed()));
        }
        kill(child);
    });
}

/// Restarts until everything acknowledged has been taken, or too much time has passed.
fn drain(relay: &Relay, sink: &Sink, heard: &Receiver<()>, ledger: &HashMap<String, String>) -> Vec<String> {
    sink.be_kind();
    let child = relay.start();
    let deadline = Instant::now() + Duration::from_secs(60);
    // READY does not wait for the index: until it is there, commands are refused.
    while !relay.run(&["queue", "retry", "--all"]).status.success() {
        assert!(Instant::now() < deadline, "the index is not there after a minute");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let missing = || -> Vec<String> {
        let taken = sink.shared.taken.lock().unwrap();
        ledger.iter().filter(|(mark, _)| !taken.contains_key(*mark)).map(|(_, id)| id.clone()).collect()
    };
    while !missing().is_empty() && Instant::now() < deadline {
        let _ = heard.recv_timeout(Duration::from_secs(1));
    }
    let left = missing();
    kill(child);
    left
}

#[test]
fn sigkill_under_load_loses_nothing_that_got_its_250() {
    let rounds = std::env::var("WAXSEAL_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let dir = tempfile::tempdir().unwrap().keep();
    let (sink, heard) = Sink::start();
    let delivery = format!(
        "retry = [\"1s\"]\nconcurrency_per_destination = {CONCURRENCY}\ndata_done_timeout = \"2s\"\n"
    );
    let relay = Relay::lay_out(&dir, &Layout { delivery, ..Layout::upstream(sink.address) });
    let ledger = Mutex::new(HashMap::new());
    for n in 0..rounds {
        round(&relay, n, &ledger);
    }
    let ledger = ledger.into_inner().unwrap();
    let missing = drain(&relay, &sink, &heard, &ledger);
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged are lost, see {}: {missing:?}",
        missing.len(),
        ledger.len(),
        dir.display()
    );

    let taken = sink.shared.taken.lock().unwrap();
    let twice: Vec<_> = taken.iter().filter(|(_, times)| **times > 1).collect();
    let again: usize = twice.iter().map(|(_, times)| **times - 1).sum();
    let mut report = String::new();
    write!(report, "{rounds} kills, {} acknowledged, 0 lost, {again} arrived again", ledger.len()).unwrap();
    println!("{report}");
    assert!(ledger.len() > rounds, "too little was acknowledged to prove anything: {report}");
    assert!(again <= rounds * CONCURRENCY, "more duplicates than could be in flight: {report}");
    std::fs::remove_dir_all(dir).unwrap();
}
