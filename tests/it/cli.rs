//! The command line as operators' scripts meet it: exit codes, what is data and what is progress, JSON, filters.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const ID: &str = "01JD7K2M8A9ZP0Q3R5T7V9X1Y3";
const OTHER: &str = "01JD7K2M8A9ZP0Q3R5T7V9X1Y4";

/// A configuration without a daemon, and a mail log with a rotated part.
fn lay_out() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = "hostname = \"relay.test\"\nstate = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n\
                  [log]\npath = \"mail.jsonl\"\n[admin]\nsocket = \"admin.sock\"\n";
    std::fs::write(dir.path().join("waxseal.toml"), config).unwrap();
    std::fs::create_dir(dir.path().join("tenants")).unwrap();
    let event = |kind: &str, id: &str, minute: u32, to: &str, rest: &str| {
        format!(
            "{{\"v\":1,\"ts\":\"2026-01-31T12:{minute:02}:00.000Z\",\"type\":\"{kind}\",\"id\":\"{id}\",\
             \"tenant\":\"acme\",\"from\":\"a@acme.test\",\"to\":{to}{rest}}}\n"
        )
    };
    let old = event("received", ID, 0, "[\"b@there.test\"]", "");
    let new = event(
        "deferred",
        ID,
        1,
        "\"b@there.test\"",
        ",\"reply\":{\"code\":451,\"text\":\"later\\u001b[2J\"}",
    ) + &event(
        "delivered",
        ID,
        2,
        "\"b@there.test\"",
        ",\"reply\":{\"code\":250,\"enhanced\":\"2.0.0\",\"text\":\"ok\"}",
    ) + &event("bounced", OTHER, 3, "\"c@elsewhere.test\"", "")
        + &event("dsn", OTHER, 4, "[\"a@acme.test\"]", &format!(",\"about\":[\"{ID}\"]"));
    std::fs::write(dir.path().join("mail.jsonl.1"), old).unwrap();
    std::fs::write(dir.path().join("mail.jsonl"), new).unwrap();
    dir
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
    command.env_remove("WAXSEAL_CONFIG").current_dir(dir).stdin(Stdio::null());
    command.arg("--config").arg(dir.join("waxseal.toml")).args(args);
    command
}

fn run(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_is() {
    let dir = lay_out();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["queue", "drop"], 2, "nothing selected is not everything"),
        (&["queue", "bounce", "--limit", "3"], 2, "a limit alone selects nothing"),
        (&["queue", "hold", "--all", "--tenant", "acme"], 2, "either all, or some"),
        (&["queue", "show", "not-an-id"], 2, "no id"),
        (&["queue", "list", "--older-than", "5"], 2, "an age without a unit"),
        (&["no-such-verb"], 2, "no such verb"),
        (&["queue", "list"], 3, "no daemon"),
        (&["queue", "drop", "--all"], 3, "no daemon"),
        (&["status"], 3, "no daemon"),
        (&["tls", "list"], 3, "the policies are the daemon's"),
        (&["reload"], 3, "no daemon"),
        (&["drain"], 3, "no daemon"),
        (&["queue", "show", ID], 3, "no daemon"),
        (&["trace", "01JD7K2M8A9ZP0Q3R5T7V9X1ZZ"], 4, "no such message in log and queue"),
        (&["man", "no-such-verb"], 4, "no such page"),
        (&["trace", ID], 0, "the log alone can tell"),
        (&["log", "search", "--to", "nobody@there.test"], 0, "nothing found is an answer"),
        (&["completions", "bash"], 0, "a script"),
        (&["man"], 0, "a page"),
        (&["man", "queue", "list"], 0, "a verb's page"),
    ];
    for (args, code, why) in cases {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(*code), "{args:?}: {why}\n{output:?}");
        if *code != 0 {
            assert!(output.stdout.is_empty(), "{args:?}: what goes wrong is told on standard error");
        }
        if *code > 2 {
            assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1, "{args:?}: one line");
        }
    }
}

#[test]
fn a_bad_configuration_is_one_line_with_its_place_and_78() {
    let dir = lay_out();
    std::fs::write(dir.path().join("waxseal.toml"), "hostname = \"relay.test\"\n[limits]\nrecipient = 5\n")
        .unwrap();
    for args in [&["serve"][..], &["queue", "list"], &["log", "search"]] {
        let output = run(dir.path(), args);
        assert_eq!(output.status.code(), Some(78), "{args:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("waxseal.toml:3:1"), "{said}");
        assert!(said.contains("recipients"), "and what was perhaps meant: {said}");
    }
}

#[test]
fn search_filters_and_reads_rotated_files() {
    let dir = lay_out();
    let count = |args: &[&str]| {
        let output = run(dir.path(), &[&["log", "search"], args].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        out(&output).lines().count()
    };
    assert_eq!(count(&[]), 5, "everything, the rotated file too");
    assert_eq!(count(&["--id", ID]), 3, "by id");
    assert_eq!(count(&[ID]), 3, "an id may stand alone");
    assert_eq!(count(&["--type", "delivered", "--type", "deferred"]), 2, "types add up");
    assert_eq!(count(&["--domain", "THERE.test"]), 3, "domains have no case; a list of recipients counts");
    assert_eq!(count(&["--to", "c@elsewhere.test"]), 1, "by recipient");
    assert_eq!(count(&["--reason", "later"]), 1, "by what was heard");
    assert_eq!(count(&["--tenant", "other"]), 0, "by tenant");
    assert_eq!(count(&["--limit", "2"]), 2, "at most");
    assert_eq!(
        count(&["--type", "deferred", "--tenant", "acme", "--from", "a@acme.test"]),
        1,
        "all must hold"
    );
}

#[test]
fn a_person_and_a_program_read_the_same_events() {
    let dir = lay_out();
    let human = run(dir.path(), &["trace", ID]);
    let lines: Vec<&str> = out(&human).lines().collect();
    assert_eq!(lines.len(), 4, "received, deferred, delivered, and the notification about it: {lines:#?}");
    assert!(lines[1].contains("to=<b@there.test> status=deferred (451 later\\u{1b}[2J)"), "{}", lines[1]);
    assert!(lines[2].contains("dsn=2.0.0 status=sent (250 ok)"), "{}", lines[2]);
    assert!(
        !out(&human).contains('\u{1b}'),
        "no escape sequence, ours or a stranger's, where no terminal is"
    );
    let json = run(dir.path(), &["--json", "trace", ID]);
    let types: Vec<String> = out(&json)
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(types, ["received", "deferred", "delivered", "dsn"]);
    let tail = run(dir.path(), &["log", "tail", "--no-follow", "-n", "2"]);
    assert_eq!(out(&tail).lines().count(), 2);
}

#[test]
fn tail_follows_across_a_rotation() {
    let dir = lay_out();
    let log = dir.path().join("mail.jsonl");
    let mut child =
        command(dir.path(), &["log", "tail", "-n", "1", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().contains("\"dsn\""));
    std::fs::rename(&log, dir.path().join("mail.jsonl.2")).unwrap();
    std::fs::write(&log, "{\"v\":1,\"type\":\"audit\",\"action\":\"after\"}\n").unwrap();
    assert!(next().contains("\"after\""));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = lay_out();
    let line = std::fs::read_to_string(dir.path().join("mail.jsonl")).unwrap();
    std::fs::write(dir.path().join("mail.jsonl"), line.repeat(5_000)).unwrap();
    for args in [&["log", "search"][..], &["--json", "log", "search"]] {
        let mut child =
            command(dir.path(), args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn every_verb_that_an_operator_meets_first_has_an_example() {
    let dir = lay_out();
    let verbs: &[&[&str]] = &[
        &["serve"],
        &["doctor"],
        &["send"],
        &["status"],
        &["reload"],
        &["drain"],
        &["trace"],
        &["completions"],
        &["man"],
        &["queue", "list"],
        &["queue", "show"],
        &["queue", "cat"],
        &["queue", "summary"],
        &["queue", "retry"],
        &["queue", "hold"],
        &["queue", "release"],
        &["queue", "bounce"],
        &["queue", "drop"],
        &["log", "tail"],
        &["log", "search"],
    ];
    for verb in verbs {
        let output = run(dir.path(), &[verb, &["--help"][..]].concat());
        assert!(out(&output).contains("Example"), "{verb:?}");
    }
}
