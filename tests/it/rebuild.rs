//! The index is only an index: without it the real program has the same queue, rebuilt from the journal.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::relay::{Layout, Relay, smtp};

/// Messages, some of them with a second recipient.
const MESSAGES: usize = 25;

/// The queue as `queue list --json` shows it, without what changes as time goes on.
fn queue(relay: &Relay) -> BTreeSet<String> {
    let output = relay.run(&["queue", "list", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let ids = text.lines().map(|line| {
        let leg: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{} {}", leg["id"], leg["to"])
    });
    ids.collect()
}

/// The queue once that is enough, or after a minute as it is then: READY does not wait for the index.
fn listed(relay: &Relay, enough: impl Fn(&BTreeSet<String>) -> bool) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let queue = queue(relay);
        if enough(&queue) || Instant::now() > deadline {
            return queue;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_deleted_index_is_rebuilt_with_the_same_queue() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens there, and the next attempt is far away: the queue stands still.
    let layout = Layout {
        delivery: "retry = [\"1h\"]\n".to_owned(),
        ..Layout::upstream("127.0.0.1:9".parse().unwrap())
    };
    let relay = Relay::lay_out(dir.path(), &layout);
    let mut daemon = relay.start();
    let mut session = smtp::Session::open(relay.address()).unwrap();
    for n in 0..MESSAGES {
        let message = format!("From: a@bench.test\r\nSubject: {n}\r\n\r\nbody\r\n");
        let to: &[&str] = if n % 3 == 0 { &["b@dest.test", "c@dest.test"] } else { &["b@dest.test"] };
        let reply = session.send("a@bench.test", to, message.as_bytes()).unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    let before = listed(&relay, |queue| queue.len() == MESSAGES);
    assert_eq!(before.len(), MESSAGES, "{before:?}");
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    std::fs::remove_dir_all(dir.path().join("data/index")).unwrap();
    let mut daemon = relay.start();
    assert_eq!(listed(&relay, |queue| *queue == before), before);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
