//! No secret in what is written or shown (AU9): passwords right and wrong, what AUTH makes of them on either side, access tokens,
//! keys, and the relay's own secrets are looked for in every file and answer of the real program, at its most talkative.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustix::process::Signal;
use waxseal::config::Config;
use waxseal::tenant;

use crate::deliver::words;
use crate::oauth;
use crate::relay::{LOGIN, Layout, Relay, secret, smtp};

const WRONG: &str = "a guess that nobody may read";
const UPSTREAMS: &str = "the tenant's word at its upstream";
/// What came where AUTH is not taken.
const EXPOSED: &str = "said in clear text to everybody";

fn plain(name: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{name}\0{password}"))
}

/// Every file below a directory but the spool, which holds mail as it is, and the secrets themselves.
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

/// An upstream that quotes every line that it does not like, AUTH before all. Tells when it has done so.
fn quoting_upstream() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (quoted, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut out = stream.try_clone().unwrap();
            out.write_all(b"220 up ESMTP\r\n").unwrap();
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let answer = match line.get(..4) {
                    Some("EHLO") => "250-up\r\n250 AUTH PLAIN\r\n".to_owned(),
                    Some("QUIT") => "221 bye\r\n".to_owned(),
                    _ => format!("535 5.7.8 I do not like {line}, by which you mean {UPSTREAMS}\r\n"),
                };
                out.write_all(answer.as_bytes()).unwrap();
                if line.starts_with("AUTH") {
                    quoted.send(line).unwrap();
                }
            }
        }
    });
    (address, heard)
}

fn lay_out(dir: &Path, upstream: SocketAddr) -> Relay {
    let mut layout = Layout {
        listeners: &["none", "none"],
        tables: "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"1s\"\n".to_owned(),
        ..Layout::upstream(upstream)
    };
    layout.route += "username = \"t\"\npassword_file = \"up\"\ncleartext_auth = true\n";
    let relay = Relay::lay_out(dir, &layout);
    secret(&dir.join("config/tenants/up"), UPSTREAMS);
    // The first listener takes passwords, the second one only sees them.
    let file = dir.join("config/waxseal.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replacen("tls = \"none\"\n", "tls = \"none\"\ncleartext_auth = \"allow\"\n", 1),
    )
    .unwrap();
    relay
}

/// Everything that a client may do with a password, right or wrong, and what it is answered.
fn log_in(relay: &Relay) {
    let session = || smtp::Session::open(relay.addresses[0]).unwrap();
    for (password, code) in [(WRONG, "535"), (LOGIN.1, "235")] {
        let answer = session().say(&format!("AUTH PLAIN {}", plain(LOGIN.0, password))).unwrap();
        assert!(answer.starts_with(code), "{answer}");
        let mut asked = session();
        let said = ["AUTH LOGIN", &STANDARD.encode(LOGIN.0), &STANDARD.encode(password)];
        let answers = said.map(|line| asked.say(line).unwrap());
        assert!(answers[1].starts_with("334") && answers[2].starts_with(code), "{answers:?}");
    }
    // A client that does not hear the refusal and goes on.
    let mut deaf = smtp::Session::open(relay.addresses[1]).unwrap();
    for line in [
        &format!("AUTH PLAIN {}", plain(LOGIN.0, EXPOSED)),
        "AUTH LOGIN",
        &STANDARD.encode(LOGIN.0),
        &STANDARD.encode(EXPOSED),
        EXPOSED,
    ] {
        let answer = deaf.say(line).unwrap();
        assert!(answer.starts_with('5'), "{line}: {answer}");
    }
}

#[test]
fn no_secret_is_logged_shown_or_kept_where_it_may_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (upstream, quoted) = quoting_upstream();
    let relay = lay_out(dir.path(), upstream);
    let daemon = relay.start_with(Path::new("/usr/bin/env"), &["WAXSEAL_LOG=trace"]);
    log_in(&relay);
    let mut session = smtp::Session::open(relay.address()).unwrap();
    let sent = session.send("a@bench.test", &["b@dest.test"], b"From: a@bench.test\r\n\r\nbody\r\n").unwrap();
    let id = sent.rsplit_once(' ').unwrap().1;
    assert!(sent.starts_with("250 "), "{sent}");
    let line = quoted.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(line, format!("AUTH PLAIN {}", plain("t", UPSTREAMS)), "it has got the password");

    let mut shown = Vec::new();
    for args in [
        "status --json",
        "queue list --json",
        &format!("queue show {id} --json"),
        "queue summary",
        "tenant list --json",
        "tenant show bench",
        "tenant login list bench --json",
        "key list --json",
        "domain list --json",
        "domain dns bench.test",
        "config check",
        "doctor",
    ] {
        let output = relay.run(&args.split(' ').collect::<Vec<_>>());
        assert_ne!(output.status.code(), Some(2), "{args}: {output:?}");
        shown.push((args.to_owned(), [output.stdout, output.stderr].concat()));
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.end().success());
    for args in [&format!("trace {id}"), "log search --all", "log report"] {
        let output = relay.run(&args.split(' ').collect::<Vec<_>>());
        shown.push((args.to_owned(), [output.stdout, output.stderr].concat()));
    }

    let mut written = Vec::new();
    files(&relay.dir.join("data"), &mut written);
    written.push(relay.dir.join("serve.log"));
    assert!(written.iter().any(|path| path.ends_with("mail.jsonl")), "{written:?}");
    shown.extend(written.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    let said =
        |what: &str| shown.iter().any(|(_, octets)| memchr::memmem::find(octets, what.as_bytes()).is_some());
    assert!(said("I do not like AUTH PLAIN"), "what the upstream said is told");
    // What a panic or a debug line would print of all that was configured.
    let config = Config::load_with(Some(&relay.dir.join("config/waxseal.toml")), &|_| None).unwrap();
    shown.push(("Debug".to_owned(), format!("{config:?} {:?}", tenant::load(&config).unwrap()).into_bytes()));
    look(&relay, &shown);
}

fn look(relay: &Relay, shown: &[(String, Vec<u8>)]) {
    let key = include_str!("data/rsa2048.pem").lines().nth(1).unwrap();
    let mut secrets = vec![key.to_owned(), "$argon2".into(), plain("t", UPSTREAMS)];
    secrets.extend([WRONG, LOGIN.1, EXPOSED].map(|password| plain(LOGIN.0, password)));
    for password in [WRONG, LOGIN.1, EXPOSED, UPSTREAMS] {
        secrets.extend([password.to_owned(), STANDARD.encode(password)]);
    }
    let mut own = Vec::new();
    files(&relay.dir.join("data/secrets"), &mut own);
    assert!(own.len() >= 3, "the relay has secrets of its own: {own:?}");
    let mut secrets: Vec<_> = secrets.into_iter().map(String::into_bytes).collect();
    for own in own.iter().map(|path| std::fs::read(path).unwrap()) {
        let hex: String = own.iter().map(|octet| format!("{octet:02x}")).collect();
        let debug = format!("{own:?}");
        let written = [STANDARD.encode(&own), URL_SAFE_NO_PAD.encode(&own), hex.to_uppercase(), hex, debug];
        secrets.extend(written.map(String::into_bytes));
        secrets.push(own);
    }
    for secret in secrets {
        for (place, octets) in shown {
            let found = memchr::memmem::find(octets, &secret);
            assert!(found.is_none(), "{place} holds {:?}", String::from_utf8_lossy(&secret));
        }
    }
}

/// Keeps what is traced.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Access tokens, refresh tokens and the client's secret: in no reply, no trace, and no file but their own. The upstream quotes them.
#[tokio::test]
async fn no_token_is_traced_or_told() {
    let kept = Kept::default();
    let writer = {
        let kept = kept.clone();
        move || kept.clone()
    };
    let traced = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(writer).finish();
    // All of it is on this thread.
    let _kept = tracing::subscriber::set_default(traced);
    let (decided, debug) = oauth::refused_and_quoted().await;
    tracing::trace!("the end");
    let traced = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
    assert!(traced.contains("the end"));
    assert!(words(&decided).contains("I do not like AUTH XOAUTH2"), "{}", words(&decided));
    let shown = format!("{traced}{}{debug}{decided:?}", words(&decided));
    let encoded = oauth::bearer("the-access-token");
    for secret in ["the-access-token", "the-next-refresh", "once agreed to", "hush", &encoded] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}
