//! FA9: no descriptors left. Accepting pauses and does not spin, who has a session is served, and when sessions end everything
//! goes on.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::relay::{Layout, Relay, smtp};
use crate::sink::Sink;

/// Descriptors that the relay may have: what it needs for itself, and a few dozen connections.
const DESCRIPTORS: usize = 64;
/// While nothing can be accepted: the pauses double from 20 ms to a second, so a handful of failures is what this brings.
const STARVED: Duration = Duration::from_secs(2);
/// 20, 40 … 640 ms and then every second: at most this many a listener, and as many again for a busy machine.
const FAILURES_MAX: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn fa9_without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Sink::start();
    let layout = Layout { delivery: "retry = [\"1s\"]\n".to_owned(), ..Layout::upstream(sink.address) };
    let relay = Relay::lay_out(dir.path(), &layout);
    let limited = format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\"");
    let daemon = relay.start_with(Path::new("/bin/sh"), &["-c", &limited]);
    let mut session = smtp::Session::open(relay.address()).unwrap();

    // As many as it may have descriptors in all: not all of them can be let in, and the last cannot.
    let mut crowd: Vec<TcpStream> = (0..DESCRIPTORS).map(|_| smtp::dial(relay.address()).unwrap()).collect();
    let waiting = crowd.pop().unwrap();
    waiting.set_read_timeout(Some(STARVED)).unwrap();
    let silent = (&waiting).read(&mut [0; 1]).unwrap_err();
    assert!(matches!(silent.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silent}");
    // Who is in is served, even now that no connection to the exchanger can be made.
    let message = b"From: a@bench.test\r\nSubject: starved\r\n\r\nbody\r\n";
    let reply = session.send("a@bench.test", &["b@dest.test"], message).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");

    drop(crowd);
    waiting.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut greeting = String::new();
    BufReader::new(&waiting).read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("220 "), "who waited is greeted: {greeting}");
    assert_eq!(sink.next(), "starved", "and what was accepted goes out");
    let failures = relay.counted("waxseal_connections_refused_total{reason=\"descriptors\"}").await;
    assert!((1..=FAILURES_MAX).contains(&failures), "{failures} failed accepts");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().code(), Some(0));
}
