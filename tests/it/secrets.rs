//! No secret in what is written or shown (AU9): passwords right and wrong, what AUTH makes of them, keys, and the relay's own
//! secrets are looked for in every file and answer of the real program, at its most talkative.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use waxseal::config::Config;
use waxseal::tenant;

use crate::relay::{LOGIN, Layout, Relay, smtp};

const WRONG: &str = "a guess that nobody may read";

fn plain(password: &str) -> String {
    STANDARD.encode(format!("\0{}\0{password}", LOGIN.0))
}

/// Every file below the state directory but the spool, which holds mail as it is, and the secrets themselves.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["spool", "secrets"].contains(&name.as_str()) {
            files(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

#[test]
fn no_secret_is_logged_shown_or_kept_where_it_may_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout {
        tables: "[dns]\nservers = [\"127.0.0.1:9\"]\n".to_owned(),
        ..Layout::upstream("127.0.0.1:9".parse().unwrap())
    };
    let relay = Relay::lay_out(dir.path(), &layout);
    let mut daemon = relay.start_with(Path::new("/usr/bin/env"), &["WAXSEAL_LOG=trace"]);
    let mut session = smtp::Session::open(relay.address()).unwrap();
    for password in [WRONG, LOGIN.1] {
        session.say(&format!("AUTH PLAIN {}", plain(password))).unwrap();
    }
    let mut session = smtp::Session::open(relay.address()).unwrap();
    let sent = session.send("a@bench.test", &["b@dest.test"], b"From: a@bench.test\r\n\r\nbody\r\n").unwrap();
    assert!(sent.starts_with("250 "), "{sent}");
    let mut shown = Vec::new();
    for args in [
        &["status", "--json"][..],
        &["queue", "list", "--json"],
        &["tenant", "list", "--json"],
        &["config", "check"],
    ] {
        let output = relay.run(args);
        shown.push((format!("{args:?}"), [output.stdout, output.stderr].concat()));
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let mut written = Vec::new();
    files(&relay.dir.join("data"), &mut written);
    written.push(relay.dir.join("serve.log"));
    assert!(written.iter().any(|path| path.ends_with("mail.jsonl")), "{written:?}");
    shown.extend(written.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    // What a panic or a debug line would print of all that was configured.
    let config = Config::load_with(Some(&relay.dir.join("config/waxseal.toml")), &|_| None).unwrap();
    shown.push(("Debug".to_owned(), format!("{config:?} {:?}", tenant::load(&config).unwrap()).into_bytes()));

    let key = include_str!("data/rsa2048.pem").lines().nth(1).unwrap();
    let mut secrets =
        vec![WRONG.into(), LOGIN.1.into(), plain(WRONG), plain(LOGIN.1), key.to_owned(), "$argon2".into()];
    secrets.extend([WRONG, LOGIN.1].map(|password| STANDARD.encode(password)));
    let own: Vec<Vec<u8>> = ["bounce", "control"]
        .iter()
        .filter_map(|name| std::fs::read(relay.dir.join("data/secrets").join(name)).ok())
        .collect();
    assert!(!own.is_empty(), "the relay has secrets of its own");
    let secrets = secrets.into_iter().map(String::into_bytes).chain(own);
    for secret in secrets {
        for (place, octets) in &shown {
            let found = memchr::memmem::find(octets, &secret);
            assert!(found.is_none(), "{place} holds {:?}", String::from_utf8_lossy(&secret));
        }
    }
}
