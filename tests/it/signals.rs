//! The real program and real signals, under load: what SIGTERM, a second one and SIGHUP mean (FA13), and what systemd is told.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::relay::{Layout, Relay, Running, secret, smtp};
use crate::sink::Sink;

/// Attempts at once, as configured: what is in flight while the exchanger keeps its answers back.
const CONCURRENCY: usize = 4;
/// Messages that arrive before, one after the other: only where some have is more than one tried at once.
const WARM: usize = 20;
/// Sessions that submit at once.
const WRITERS: usize = 8;
/// Acknowledged messages before the signal: some in flight, the rest queued.
const BACKLOG: usize = 60;

/// The socket of a service manager.
pub struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    pub fn in_dir(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, path }
    }

    /// Starts the relay as this manager's service, and hears that it is ready.
    pub fn start(&self, relay: &Relay) -> Running {
        let daemon = relay.start_as_service(&self.path);
        assert_eq!(self.hear(), ["READY=1"]);
        daemon
    }

    /// The lines of the next datagram.
    pub fn hear(&self) -> Vec<String> {
        let mut octets = [0; 1024];
        let length = self.socket.recv(&mut octets).expect("systemd is told nothing");
        String::from_utf8_lossy(&octets[..length]).lines().map(str::to_owned).collect()
    }

    /// SIGHUP, and the words around the reload.
    pub fn reload(&self, daemon: &Running) {
        daemon.signal(Signal::HUP);
        let reloading = self.hear();
        assert_eq!(reloading[0], "RELOADING=1");
        // systemd wants to know when, by its own clock (sd_notify(3)).
        let since = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(since.parse::<u64>().unwrap() > 0);
        assert_eq!(self.hear(), ["READY=1"]);
    }
}

fn message(from: &str, subject: &str) -> String {
    format!("From: {from}\r\nTo: b@dest.test\r\nSubject: {subject}\r\n\r\nbody\r\n")
}

/// Submits one message; answers the reply to its dot.
fn submit(session: &mut smtp::Session, from: &str, subject: &str) -> std::io::Result<String> {
    session.send(from, &["b@dest.test"], message(from, subject).as_bytes())
}

/// Submits until the relay will not; tells of each 250.
fn keep_submitting(relay: SocketAddr, writer: usize, acknowledged: &Sender<String>) {
    let Ok(mut session) = smtp::Session::open(relay) else { return };
    for n in 0.. {
        let subject = format!("{writer}-{n}");
        match submit(&mut session, "a@bench.test", &subject) {
            Ok(reply) if reply.starts_with("250 ") => acknowledged.send(subject).unwrap(),
            _ => return,
        }
    }
}

fn relay(dir: &Path, sink: &Sink, delivery: &str) -> Relay {
    let delivery = format!("retry = [\"1s\"]\nconcurrency_per_destination = {CONCURRENCY}\n{delivery}");
    Relay::lay_out(dir, &Layout { delivery, ..Layout::upstream(sink.address) })
}

fn each_once<'a>(subjects: impl IntoIterator<Item = &'a String>) -> HashMap<String, usize> {
    subjects.into_iter().map(|subject| (subject.clone(), 1)).collect()
}

/// Waits until nothing new is taken: a writer may hear of the end before the listener is closed.
fn refuses(door: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused =
        || TcpStream::connect(door).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
    while !refused() {
        assert!(Instant::now() < deadline, "something new is taken");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn sigterm_under_load_finishes_what_is_in_flight_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let relay = relay(dir.path(), &sink, "");
    let manager = Manager::in_dir(dir.path());
    let mut daemon = manager.start(&relay);
    let warm: Vec<String> = (0..WARM).map(|n| format!("warm-{n}")).collect();
    let mut session = smtp::Session::open(relay.address()).unwrap();
    for subject in &warm {
        assert!(submit(&mut session, "a@bench.test", subject).unwrap().starts_with("250 "));
        sink.next();
    }
    drop(session);
    sink.wait_until_taken(WARM);
    sink.hold();
    let (acknowledged, told) = channel();
    let mut ledger = Vec::new();
    let mut flying = Vec::new();
    std::thread::scope(|load| {
        for writer in 0..WRITERS {
            let (acknowledged, door) = (acknowledged.clone(), relay.address());
            load.spawn(move || keep_submitting(door, writer, &acknowledged));
        }
        ledger.extend((0..BACKLOG).map(|_| told.recv_timeout(Duration::from_secs(60)).unwrap()));
        flying.extend((0..CONCURRENCY).map(|_| sink.next()));
        daemon.signal(Signal::TERM);
        // The scope ends when every writer has been told that the relay is closing.
    });
    drop(acknowledged);
    ledger.extend(told.iter());
    assert_eq!(manager.hear(), ["STOPPING=1"]);
    refuses(relay.address());
    assert!(daemon.try_wait().unwrap().is_none(), "what is in flight is waited for");

    sink.release();
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(
        sink.taken(),
        each_once(warm.iter().chain(&flying)),
        "what was in flight was finished, and nothing else begun"
    );

    let daemon = relay.start();
    for _ in CONCURRENCY..ledger.len() {
        sink.next();
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(sink.taken(), each_once(warm.iter().chain(&ledger)), "every 250 was kept, once");
}

#[test]
fn a_second_sigterm_ends_it_at_once_and_what_was_in_flight_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    sink.hold();
    // So long that only the second signal can end it.
    let relay = relay(dir.path(), &sink, "drain = \"1h\"\n");
    let manager = Manager::in_dir(dir.path());
    let daemon = manager.start(&relay);
    let mut session = smtp::Session::open(relay.address()).unwrap();
    assert!(submit(&mut session, "a@bench.test", "one").unwrap().starts_with("250 "));
    assert_eq!(sink.next(), "one");
    daemon.signal(Signal::TERM);
    assert_eq!(manager.hear(), ["STOPPING=1"]);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));

    let daemon = manager.start(&relay);
    assert_eq!(sink.next(), "one", "it is still queued");
    sink.release();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
}

#[test]
fn what_is_in_flight_when_the_drain_is_over_stays_queued() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    sink.hold();
    let relay = relay(dir.path(), &sink, "drain = \"1s\"\n");
    let daemon = relay.start();
    let mut session = smtp::Session::open(relay.address()).unwrap();
    assert!(submit(&mut session, "a@bench.test", "one").unwrap().starts_with("250 "));
    assert_eq!(sink.next(), "one");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));

    let daemon = relay.start();
    assert_eq!(sink.next(), "one");
    sink.release();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
}

/// Subjects of the messages that this mail log says were received.
fn received(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events
        .filter(|event| event["type"] == "received")
        .map(|event| event["from"].as_str().unwrap().to_owned())
        .collect()
}

/// Gives the tenant another domain, with a key.
fn add_domain(dir: &Path, name: &str) {
    let keys = dir.join("config/keys");
    std::fs::create_dir_all(keys.join(name)).unwrap();
    secret(&keys.join(name).join("s1.pem"), include_str!("data/rsa2048.pem"));
    let tenant = dir.join("config/tenants/bench.toml");
    let text = std::fs::read_to_string(&tenant).unwrap();
    secret(&tenant, &format!("{text}\n[[domain]]\nname = \"{name}\"\non_fail = \"off\"\n"));
}

#[test]
fn sighup_takes_over_a_tenants_file_and_reopens_the_log_while_sessions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let relay = relay(dir.path(), &sink, "");
    let manager = Manager::in_dir(dir.path());
    let daemon = manager.start(&relay);
    let mut session = smtp::Session::open(relay.address()).unwrap();
    assert!(submit(&mut session, "a@bench.test", "before").unwrap().starts_with("250 "));
    let refused = submit(&mut session, "a@new.test", "early").unwrap();
    assert!(refused.starts_with("550 5.7.1 "), "{refused}");

    // As logrotate does: rename, then a signal.
    let (log, old) = (dir.path().join("data/mail.jsonl"), dir.path().join("data/mail.jsonl.1"));
    std::fs::rename(&log, &old).unwrap();
    add_domain(dir.path(), "new.test");
    manager.reload(&daemon);
    let taken = submit(&mut session, "a@new.test", "after").unwrap();
    assert!(taken.starts_with("250 "), "the session goes on, with the new domain: {taken}");

    // A file that is wrong changes nothing.
    let tenant = dir.path().join("config/tenants/bench.toml");
    secret(&tenant, "name = \"bench\"\nsurprise = 1\n");
    manager.reload(&daemon);
    let taken = submit(&mut session, "a@new.test", "still").unwrap();
    assert!(taken.starts_with("250 "), "the old tenant stays: {taken}");
    let status = String::from_utf8(relay.run(&["status"]).stdout).unwrap();
    assert!(status.contains("bench.toml") && status.contains("surprise"), "the error is shown: {status}");

    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(received(&old), ["a@bench.test"], "what came before is in the file that was renamed");
    assert_eq!(received(&log), ["a@new.test"; 2], "what came after is in the new one");
}

/// Submits over one session, a hundred messages and more until it is enough; each must be taken. Answers how many.
fn submit_until(relay: SocketAddr, writer: usize, enough: &AtomicBool) -> usize {
    let mut session = smtp::Session::open(relay).unwrap();
    let mut sent = 0;
    while sent < 100 || !enough.load(Ordering::Relaxed) {
        let reply = submit(&mut session, "a@bench.test", &format!("{writer}-{sent}")).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
        sent += 1;
    }
    sent
}

/// Reloads one after the other while mail flows: no session is cut, nothing is refused (FA14).
#[tokio::test(flavor = "multi_thread")]
async fn reloads_under_load_cut_no_session() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let relay = relay(dir.path(), &sink, "");
    let daemon = relay.start();
    let (taken, refused) = ("{result=\"ok\"}", "{result=\"refused\"}");
    let enough = Arc::new(AtomicBool::new(false));
    let writers = [0, 1].map(|writer| {
        let (door, enough) = (relay.address(), Arc::clone(&enough));
        std::thread::spawn(move || submit_until(door, writer, &enough))
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while !writers.iter().all(JoinHandle::is_finished) {
        daemon.signal(Signal::HUP);
        let reloads = relay.counted(&format!("waxseal_reloads_total{taken}")).await;
        enough.store(reloads > 1 || Instant::now() > deadline, Ordering::Relaxed);
    }
    let sent: usize = writers.map(|writer| writer.join().unwrap()).iter().sum();
    for _ in 0..sent {
        sink.next();
    }
    assert!(
        relay.counted(&format!("waxseal_reloads_total{taken}")).await > 1,
        "signals were obeyed meanwhile"
    );
    assert_eq!(relay.counted(&format!("waxseal_reloads_total{refused}")).await, 0);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
    assert_eq!(sink.taken().len(), sent);
}
