//! Debian's Sendmail, which keeps DELIVERBY (RFC 2852): what it is asked for by us, and asks of us, reaches a peer behind it.

use std::net::SocketAddr;

use crate::exchanger::{Exchanger, Script, script, street};
use crate::follow::logged;
use crate::hops::{Hop, Software};
use crate::relay::{Layout, Relay, free_address, smtp};
use crate::strangers;

/// A peer that keeps it, and takes a message.
fn taking() -> Script {
    script(
        "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 DELIVERBY\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n\
         -- body\n<- 250 ok\n-- silence",
    )
}

/// Submits a message with this BY.
fn submit(to: SocketAddr, by: &str) -> String {
    let mut session = smtp::Session::open(to).unwrap();
    for command in [&format!("MAIL FROM:<a@bench.test> BY={by}"), "RCPT TO:<b@dest.test>"] {
        let reply = session.say(command).unwrap();
        assert!(reply.starts_with("250"), "{command}: {reply}");
    }
    assert!(session.say("DATA").unwrap().starts_with("354"));
    session.say("From: a@bench.test\r\nSubject: s\r\n\r\nbody\r\n.").unwrap()
}

/// What the peer was asked for: the seconds, and the mode.
fn asked(peer: &Exchanger) -> (i64, String) {
    let lines = peer.lines();
    let by = lines.iter().find_map(|line| line.split_once(" BY=")).unwrap_or_else(|| panic!("{lines:?}")).1;
    let (seconds, mode) = by.split(' ').next().unwrap().split_once(';').unwrap();
    (seconds.parse().unwrap(), mode.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn sendmail_keeps_the_time_that_it_is_given_by_us() {
    if strangers::absent("sendmail") {
        return;
    }
    let (dir, hop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let peer = street(vec![vec![taking()]]).await.0.remove(0);
    let sendmail = Hop::start(Software::Sendmail, hop.path(), free_address(), peer.address);
    let relay = Relay::lay_out(dir.path(), &Layout::upstream(sendmail.address));
    let _running = relay.start();
    let log = dir.path().join("data/mail.jsonl");

    let reply = submit(relay.address(), "30;R");
    let bounced = logged(&log, "bounced", reply.rsplit(' ').next().unwrap()).await;
    let why = "the server delivers within 60 seconds";
    assert!(bounced["reply"]["text"].as_str().unwrap().contains(why), "its minimum is read: {bounced}");

    let reply = submit(relay.address(), "3600;R");
    logged(&log, "relayed", reply.rsplit(' ').next().unwrap()).await;
    peer.hears(1).await;
    let (seconds, mode) = asked(&peer);
    assert!((3000..=3600).contains(&seconds) && mode == "R", "{seconds};{mode}\n{}", sendmail.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_sendmail_gives_us_is_kept() {
    if strangers::absent("sendmail") {
        return;
    }
    let (dir, hop) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let peer = street(vec![vec![taking()]]).await.0.remove(0);
    let relay = Relay::lay_out(dir.path(), &Layout::upstream(peer.address));
    let _running = relay.start();
    let sendmail = Hop::start(Software::Sendmail, hop.path(), free_address(), relay.address());
    let reply = submit(sendmail.address, "3600;N");
    assert!(reply.starts_with("250"), "{reply}");
    peer.hears(1).await;
    let (seconds, mode) = asked(&peer);
    assert!((3000..=3600).contains(&seconds) && mode == "N", "{seconds};{mode}\n{}", sendmail.log());
}
