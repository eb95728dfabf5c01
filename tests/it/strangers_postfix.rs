//! Debian's Postfix takes what we deliver, as the exchanger an MX names and as a tenant's upstream with SASL over STARTTLS, and
//! what it passes on still verifies.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use waxseal::sandbox::exchanger::Exchanger;

use crate::postfix::{Postfix, Taking};
use crate::relay::{Layout, Relay, free_address, secret, smtp};
use crate::strangers;
use crate::strangers_submit::{resolver, subject, zone};

/// Bodies that a careless hop would change: dots, long lines, trailing blanks, 8-bit, nothing at all. None ends in lines of white
/// space only: mail-auth, which judges here, hashes those against RFC 6376; strangers_dkim has them judged by others.
const BODIES: &[(&str, &str)] = &[
    ("empty", ""),
    ("dots", ".\r\n..\r\n.x\r\n...\r\n"),
    ("blanks", "a \t \r\n   \r\n\t\r\n\r\nz \r\n"),
    ("long", LONG),
    ("utf8", "Gr\u{fc}\u{df}e, \u{20ac} 5\r\n"),
    ("no-final-crlf", "the end"),
];

/// One line of 2,000 octets.
const LONG: &str = concat!(include_str!("data/line-1000.txt"), include_str!("data/line-1000.txt"), "\r\n");

/// Submits every body; answers the subjects.
fn submit(relay: &Relay) -> BTreeSet<String> {
    let mut session = smtp::Session::open(relay.address()).unwrap();
    for (name, body) in BODIES {
        let end = if body.is_empty() || body.ends_with("\r\n") { "" } else { "\r\n" };
        let stuffed: String = body
            .split_inclusive("\r\n")
            .map(|line| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() })
            .collect();
        let message = format!(
            "From: a@bench.test\r\nTo: b@dest.test\r\nSubject: {name}\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{stuffed}{end}"
        );
        let reply = session.send("a@bench.test", &["b@dest.test"], message.as_bytes()).unwrap();
        assert!(reply.starts_with("250 "), "{name}: {reply}");
    }
    BODIES.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Waits until each has come through, and was verified on the far side.
async fn collect(exchanger: &mut Exchanger, postfix: &Postfix, wanted: &BTreeSet<String>) {
    let mut arrived = BTreeSet::new();
    while arrived.len() < wanted.len() {
        let limit = std::time::Duration::from_secs(60);
        let next = tokio::time::timeout(limit, exchanger.arrival()).await;
        let arrival =
            next.unwrap_or_else(|_| panic!("only {arrived:?} came through:\n{}", postfix.log())).unwrap();
        let text = String::from_utf8_lossy(&arrival.message);
        assert_eq!((&*arrival.verdict.dkim, &*arrival.verdict.dmarc), ("pass", "pass"), "{text}");
        assert!(text.contains("(Postfix)"), "it did not come through Postfix:\n{text}");
        arrived.insert(subject(&arrival.message));
    }
    assert_eq!(&arrived, wanted);
}

/// Postfix between the relay and an exchanger that verifies. `layout` says how mail gets to it; what it logged is answered,
/// and the relay's mail log.
async fn through(taking: Taking, layout: impl FnOnce(&Postfix, SocketAddr) -> Layout) -> (String, String) {
    let address = free_address();
    let zone = zone(address.ip()).await;
    let mut exchanger =
        Exchanger::start("127.0.0.1:0".parse().unwrap(), "far.test", resolver(&zone)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let postfix = Postfix::start(dir.path(), address, taking, exchanger.address());
    let relay = Relay::lay_out(dir.path(), &layout(&postfix, zone.address()));
    secret(&dir.path().join("config/tenants/acme.upstream"), "secret\n");
    let daemon = relay.start();
    let sent = submit(&relay);
    collect(&mut exchanger, &postfix, &sent).await;
    // Its last words are in the mail log then.
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.end().success());
    (postfix.log(), std::fs::read_to_string(dir.path().join("data/mail.jsonl")).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_our_mail_as_the_exchanger_of_an_mx() {
    if strangers::absent("postfix") {
        return;
    }
    let layout = |postfix: &Postfix, zone| Layout {
        tables: format!("[dns]\nservers = [\"{zone}\"]"),
        delivery: format!("port = {}", postfix.address.port()),
        route: "[route]\nvia = \"mx\"\n".to_owned(),
        ..Layout::upstream(postfix.address)
    };
    let (_, log) = through(Taking::Exchanger, layout).await;
    assert!(log.contains("TLSv1.3"), "opportunistic STARTTLS was taken: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_takes_our_mail_as_an_upstream_with_sasl_over_starttls() {
    if strangers::absent("postfix") {
        return;
    }
    let layout = |postfix: &Postfix, _| {
        let route = format!(
            "[route]\nvia = \"upstream\"\n[route.upstream]\nhost = \"{}\"\nport = {}\ntls = \"starttls\"\n\
             username = \"acme\"\npassword_file = \"acme.upstream\"\nca_file = \"{}\"\n",
            postfix.address.ip(),
            postfix.address.port(),
            postfix.certificate.display()
        );
        Layout { route, ..Layout::upstream(postfix.address) }
    };
    let (said, _) = through(Taking::Submission, layout).await;
    assert!(said.contains("sasl_username=acme@next.test"), "{said}");
}
