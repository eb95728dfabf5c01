//! Clients that others wrote submit by all three methods of the platform's form, and what they sent arrives sealed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use waxseal::sandbox::exchanger::Exchanger;
use waxseal::sandbox::zone::Zone;

use crate::relay::{LOGIN, Layout, Relay};
use crate::strangers;

/// The key in tests/it/data as the record that publishes it.
const RECORD: &str = include_str!("data/rsa2048.txt");

/// What each client is asked to do, by listener.
const METHODS: [&str; 3] = ["none", "starttls", "implicit"];

const PYTHON: &str = r#"
import smtplib, ssl, sys
method, host, port, cert, user, password, subject = sys.argv[1:]
tls = ssl.create_default_context(cafile=cert)
if method == "implicit":
    s = smtplib.SMTP_SSL(host, int(port), context=tls)
else:
    s = smtplib.SMTP(host, int(port))
    if method == "starttls":
        s.starttls(context=tls)
if method != "none":
    s.login(user, password)
refused = s.sendmail("a@bench.test", ["b@dest.test"], f"From: a@bench.test\r\nTo: b@dest.test\r\nSubject: {subject}\r\n\r\nHello.\r\n")
assert not refused, refused
s.quit()
"#;

/// One client, one method: the command that sends a message with this subject.
fn client(name: &str, method: &str, relay: &Relay, listener: usize, subject: &str) -> Command {
    let address = relay.addresses[listener];
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    match name {
        "swaks" => swaks(method, &format!("{host}:{port}"), subject),
        "smtplib" => {
            let mut command = Command::new(strangers::program("python3"));
            let certificate = relay.certificate.to_str().unwrap();
            command.args(["-c", PYTHON, method, &host, &port, certificate, LOGIN.0, LOGIN.1, subject]);
            command
        }
        "curl" => curl(method, &format!("{host}:{port}"), relay, subject),
        other => panic!("no client {other}"),
    }
}

fn swaks(method: &str, server: &str, subject: &str) -> Command {
    let mut command = strangers::command("swaks");
    command.args(["--server", server, "--from", "a@bench.test", "--to", "b@dest.test"]);
    command.args(["--header", &format!("Subject: {subject}"), "--body", "Hello."]);
    match method {
        "starttls" => command.arg("--tls"),
        "implicit" => command.arg("--tls-on-connect"),
        _ => return command,
    };
    command.args(["--auth", "LOGIN", "--auth-user", LOGIN.0, "--auth-password", LOGIN.1]);
    command
}

fn curl(method: &str, server: &str, relay: &Relay, subject: &str) -> Command {
    let mail = relay.dir.join(format!("{subject}.eml"));
    let text = format!("From: a@bench.test\r\nTo: b@dest.test\r\nSubject: {subject}\r\n\r\nHello.\r\n");
    std::fs::write(&mail, text).unwrap();
    let scheme = if method == "implicit" { "smtps" } else { "smtp" };
    let mut command = Command::new(strangers::program("curl"));
    command.args([
        "-sS",
        &format!("{scheme}://{server}/platform.test"),
        "--cacert",
        relay.certificate.to_str().unwrap(),
    ]);
    command.args([
        "--mail-from",
        "a@bench.test",
        "--mail-rcpt",
        "b@dest.test",
        "--upload-file",
        mail.to_str().unwrap(),
    ]);
    if method != "none" {
        command.args(["--ssl-reqd", "--user", &format!("{}:{}", LOGIN.0, LOGIN.1)]);
    }
    command
}

/// A zone in which bench.test publishes the tests' key and lets 127.0.0.1 send, and dest.test's exchanger is at `next`.
pub async fn zone(next: IpAddr) -> Zone {
    let text = format!(
        "bench.test. 60 IN TXT \"v=spf1 ip4:127.0.0.1 -all\"\n_dmarc.bench.test. 60 IN TXT \"v=DMARC1; p=reject\"\n\
         s1._domainkey.bench.test. 60 IN TXT {RECORD}\ndest.test. 60 IN MX 10 next.test.\nnext.test. 60 IN A {next}\n"
    );
    Zone::start(&text).await.unwrap()
}

/// A resolver that asks this zone, for an exchanger.
pub fn resolver(zone: &Zone) -> hickory_resolver::TokioResolver {
    let mut dns = waxseal::config::Config::new("test.test".parse().unwrap(), Path::new("/nonexistent")).dns;
    dns.servers = vec![zone.address()];
    waxseal::dns::Resolver::new(&dns).unwrap().hickory().clone()
}

/// The Subject of a message.
pub fn subject(message: &[u8]) -> String {
    let parsed = mail_parser::MessageParser::default().parse_headers(message).unwrap();
    parsed.subject().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_smtplib_and_curl_submit_by_all_three_methods() {
    let zone = zone(Ipv4Addr::LOCALHOST.into()).await;
    let mut exchanger =
        Exchanger::start("127.0.0.1:0".parse().unwrap(), "next.test", resolver(&zone)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout { listeners: &METHODS, ..Layout::upstream(exchanger.address()) };
    let relay = Relay::lay_out(dir.path(), &layout);
    let mut daemon = relay.start();

    let mut sent = BTreeSet::new();
    for name in ["swaks", "smtplib", "curl"] {
        if strangers::absent(name) {
            continue;
        }
        for (listener, method) in METHODS.iter().enumerate() {
            let subject = format!("{name}-{method}");
            let output = client(name, method, &relay, listener, &subject).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{subject}: {}\n{said}", output.status);
            sent.insert(subject);
        }
    }
    let mut arrived = BTreeSet::new();
    while arrived.len() < sent.len() {
        let arrival = exchanger.arrival().await.unwrap();
        assert!(
            arrival.verdict.passes(),
            "{:?}\n{}",
            arrival.verdict,
            String::from_utf8_lossy(&arrival.message)
        );
        arrived.insert(subject(&arrival.message));
    }
    assert_eq!(arrived, sent);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}
