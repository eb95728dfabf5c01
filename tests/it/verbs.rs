//! The queue's verbs against the real daemon and the real store: what an administrator does to waiting mail, and that it lasts.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::follow::logged;
use crate::relay::{Layout, Relay, secret, smtp};

/// `queue list --json`, a value a leg. READY does not wait for the index: until it is there, the daemon says so.
fn list(relay: &Relay, args: &[&str]) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    let output = loop {
        let output = relay.run(&[&["queue", "list", "--json"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            break output;
        }
        assert!(said.contains("the index is being rebuilt") && Instant::now() < deadline, "{said}");
        std::thread::park_timeout(Duration::from_millis(20));
    };
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asks until the list is as wanted: attempts end when the operating system says so.
#[track_caller]
pub fn until(relay: &Relay, args: &[&str], wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let legs = list(relay, args);
        if wanted(&legs) {
            return legs;
        }
        let log = || std::fs::read_to_string(relay.dir.join("data/mail.jsonl"));
        assert!(Instant::now() < deadline, "still {legs:?}\n{}", log().unwrap_or_default());
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn act(relay: &Relay, args: &[&str]) {
    let output = relay.run(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
}

#[allow(clippy::cognitive_complexity, reason = "one story, told in order")]
#[tokio::test]
async fn hold_release_bounce_and_drop_do_what_they_say_and_last() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens there, and the next attempt is far away: what moves is what the verbs move.
    let layout = Layout {
        delivery: "retry = [\"1h\"]\ngather = \"0s\"\n".to_owned(),
        // No name server answers either, so the notification waits too.
        tables: "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"1s\"".to_owned(),
        ..Layout::upstream("127.0.0.1:9".parse().unwrap())
    };
    let relay = Relay::lay_out(dir.path(), &layout);
    let mut daemon = relay.start();
    let mut session = smtp::Session::open(relay.address()).unwrap();
    let reply =
        session.send("a@bench.test", &["b@dest.test"], b"From: a@bench.test\r\n\r\nbody\r\n").unwrap();
    let id = reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap().to_owned();
    until(&relay, &["--state", "deferred"], |legs| legs.len() == 1);

    let policies = relay.run(&["tls", "list", "--json"]);
    assert!(policies.status.success() && policies.stdout.is_empty(), "no mail went by MX: {policies:?}");

    act(&relay, &["queue", "hold", &id, "--because", "asked by phone"]);
    let held = list(&relay, &["--state", "held"]);
    assert!(held.len() == 1 && held[0].to_string().contains("asked by phone"), "{held:?}");
    assert_eq!(held[0]["cause"], "operator", "{held:?}");
    let mine = ["--from-domain", "Bench.test", "--cause", "operator"];
    assert_eq!(list(&relay, &mine).len(), 1);
    assert!(list(&relay, &["--from-domain", "test"]).is_empty(), "the domain itself, not those below");
    assert!(list(&relay, &["--cause", "seal"]).is_empty());
    let log = relay.dir.join("data/mail.jsonl");
    logged(&log, "held", &id).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    daemon = relay.start();
    until(&relay, &["--state", "held"], |legs| legs.len() == 1 && legs[0]["id"] == id.as_str());

    act(&relay, &["queue", "release", &id]);
    let waiting = until(&relay, &["--state", "deferred"], |legs| legs.len() == 1);
    // A hold once moved the scheduler's time to the held mail's end.
    let next: jiff::Timestamp = waiting[0]["next_attempt"].as_str().unwrap().parse().unwrap();
    assert!(next < jiff::Timestamp::now() + Duration::from_secs(2 * 3600), "{waiting:?}");
    let shown = relay.run(&["queue", "show", &id]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("b@dest.test"));
    let raw = relay.run(&["queue", "cat", &id]);
    assert!(String::from_utf8_lossy(&raw.stdout).contains("DKIM-Signature:"));

    // The tenant is told: its own message ends, and one of the relay's to the sender takes its place.
    act(&relay, &["queue", "bounce", &id]);
    let told = until(&relay, &[], |legs| legs.len() == 1 && legs[0]["id"] != id.as_str());
    assert_eq!((told[0]["tenant"].as_str(), told[0]["from"].as_str()), (Some("relay"), Some("")), "{told:?}");
    assert!(told[0].to_string().contains("a@bench.test"), "{told:?}");

    assert_eq!(relay.run(&["queue", "drop"]).status.code(), Some(2), "no selector on a destructive verb");
    until(&relay, &["--state", "deferred"], |legs| legs.len() == 1);
    act(&relay, &["queue", "drop", "--all"]);
    assert!(list(&relay, &[]).is_empty());
    assert_eq!(relay.run(&["queue", "show", &id]).status.code(), Some(4));

    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.wait().unwrap().success(), "SIGTERM drains and ends with 0");
    for (kind, id) in [("received", &*id), ("held", &*id), ("released", &*id), ("bounced", &*id)] {
        logged(&log, kind, id).await;
    }
    logged(&log, "dropped", told[0]["id"].as_str().unwrap()).await;
}

/// Four messages of 900 legs each, held because DNS says nothing.
fn many_held(relay: &Relay) {
    let mut session = smtp::Session::open(relay.address()).unwrap();
    let rcpts: Vec<String> = (0..900).map(|n| format!("b@d{n}.test")).collect();
    let rcpts: Vec<&str> = rcpts.iter().map(String::as_str).collect();
    for _ in 0..4 {
        let reply = session.send("a@bench.test", &rcpts, b"From: a@bench.test\r\n\r\nbody\r\n").unwrap();
        assert!(reply.starts_with("250 "), "{reply}");
    }
    until(relay, &["--state", "held", "--limit", "10000"], |legs| legs.len() == 4 * 900);
}

#[test]
fn a_command_over_a_large_queue_goes_a_page_at_a_time_and_leaves_no_leg_out() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout {
        tables: "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"1s\"".to_owned(),
        route: String::new(),
        ..Layout::upstream("127.0.0.1:9".parse().unwrap())
    };
    let relay = Relay::lay_out(dir.path(), &layout);
    let tenant = relay.dir.join("config/tenants/bench.toml");
    let text = std::fs::read_to_string(&tenant).unwrap().replace("on_fail = \"off\"", "on_fail = \"hold\"");
    secret(&tenant, &text);
    let daemon = relay.start();
    many_held(&relay);

    let output = relay.run(&["queue", "drop", "--all", "--limit", "3000", "--json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("3000 done"), "{output:?}");
    let legs: Vec<Value> = output
        .stdout
        .split(|octet| *octet == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let mut once: Vec<_> = legs.iter().map(|leg| (leg["id"].to_string(), leg["leg"].as_u64())).collect();
    once.sort();
    once.dedup();
    assert_eq!((legs.len(), once.len()), (3000, 3000), "each leg once");
    let left = list(&relay, &["--limit", "10000"]);
    assert!(left.len() == 600 && left.iter().all(|leg| leg["id"] == left[0]["id"]), "{} left", left.len());
    act(&relay, &["queue", "drop", "--all"]);
    assert!(list(&relay, &[]).is_empty());

    daemon.signal(rustix::process::Signal::TERM);
    daemon.end();
    let log = std::fs::read_to_string(relay.dir.join("data/mail.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let audits = events.filter(|event| event["action"] == "queue.drop");
    let told: Vec<String> = audits
        .map(|event| event["reason"].as_str().unwrap().split(" legs").next().unwrap().to_owned())
        .collect();
    assert_eq!(told, ["2700", "300", "600"], "a page ends with a whole message, and a limit where it says");
}
