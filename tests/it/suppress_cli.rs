//! `waxseal suppress` against the real program: what is put on a list stays there over a kill, and a wrong file changes nothing.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::relay::{Layout, Relay};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs a verb once the index is there.
fn verb(relay: &Relay, args: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = relay.run(&[&["suppress"], args].concat());
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        let said = said(&output);
        assert!(said.contains("being rebuilt") && Instant::now() < deadline, "{args:?}: {said}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn listed(relay: &Relay) -> Vec<Value> {
    let lines = verb(relay, &["list", "--tenant", "bench", "--json"]);
    let mut all: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.sort_by_key(|entry| entry["address"].to_string());
    all
}

#[allow(clippy::cognitive_complexity, reason = "one story, told in order")]
#[test]
fn add_list_import_export_and_remove() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::lay_out(dir.path(), &Layout::upstream("127.0.0.1:9".parse().unwrap()));
    let mut daemon = relay.start();
    let added =
        verb(&relay, &["add", "--tenant", "bench", "--note", "by phone", "Bob@There.test", "amy@there.test"]);
    assert_eq!(added, "2 put on the list\n");
    let file = dir.path().join("list.csv");
    std::fs::write(&file, "address,reason\ncat@there.test,complaint\nbob@there.test\n").unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(verb(&relay, &["import", "--tenant", "bench", file]), "1 put on the list\n");
    std::fs::write(file, "dan@there.test\nnobody\n").unwrap();
    let wrong = relay.run(&["suppress", "import", "--tenant", "bench", file]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(said(&wrong).contains("nothing was imported: line 2: `nobody`"), "{}", said(&wrong));

    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let _daemon = relay.start();
    let all = listed(&relay);
    let shown: Vec<_> =
        all.iter().map(|entry| (entry["address"].as_str(), entry["reason"].as_str())).collect();
    let expected = [("amy", "manual"), ("bob", "manual"), ("cat", "complaint")];
    let expected = expected.map(|(name, reason)| (format!("{name}@there.test"), reason));
    assert_eq!(shown, expected.each_ref().map(|(name, reason)| (Some(name.as_str()), Some(*reason))));
    assert_eq!(all[1]["note"], "by phone");
    assert!(
        verb(&relay, &["list", "--tenant", "bench", "--reason", "complaint"])
            .starts_with("cat@there.test complaint since ")
    );

    let exported = verb(&relay, &["export", "--tenant", "bench"]);
    assert!(exported.starts_with("address,reason,since,class,note\n"), "{exported}");
    assert_eq!(verb(&relay, &["remove", "--tenant", "bench", "BOB@there.test"]), "1 taken off the list\n");
    let absent = relay.run(&["suppress", "remove", "--tenant", "bench", "bob@there.test"]);
    assert_eq!(absent.status.code(), Some(4), "{}", said(&absent));
    std::fs::write(file, exported).unwrap();
    assert_eq!(verb(&relay, &["import", "--tenant", "bench", file]), "1 put on the list\n");
    assert_eq!(listed(&relay), all, "what was exported is imported as it was");
    let nobody = relay.run(&["suppress", "list", "--tenant", "nobody"]);
    assert_eq!(nobody.status.code(), Some(4), "{}", said(&nobody));
}
