//! A tenant's own limits on the real daemon, over SMTP: what is over them is put off or refused, the mail log says so, and time
//! makes room again.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use waxseal::clock::Clock;
use waxseal::daemon::Daemon;
use waxseal::sandbox::world::{Extra, World};

use crate::follow::events;
use crate::front::line;
use crate::rig::{DAY, HOUR, MINUTE};

/// A relay whose clock is in the test's hand, with these lines of `[limits]`.
struct Limited {
    daemon: Daemon,
    hand: Arc<AtomicU64>,
    log: std::path::PathBuf,
    /// What of the world must stay: its zone and exchanger.
    _rest: Box<dyn std::any::Any>,
    _dir: tempfile::TempDir,
}

impl Limited {
    async fn start(limits: &str) -> Self {
        let extra = Extra { tenant: format!("[limits]\n{limits}"), ..Extra::default() };
        let (world, dir) = crate::world::start(&extra).await;
        let World { zone, exchanger, daemon, config, .. } = world;
        daemon.drain().await.unwrap();
        let hand = Arc::new(AtomicU64::new(Clock::System.now().0));
        let log = config.log.path.clone();
        let daemon = Box::pin(Daemon::start_at(config, Clock::Set(Arc::clone(&hand)))).await.unwrap();
        Self { daemon, hand, log, _rest: Box::new((zone, exchanger)), _dir: dir }
    }

    fn pass(&self, milliseconds: u64) {
        self.hand.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn door(&self) -> SocketAddr {
        self.daemon.addresses()[0]
    }

    /// The refusals in the mail log.
    fn rejected(&self) -> Vec<Value> {
        self.daemon.log().flush();
        let text = std::fs::read_to_string(&self.log).unwrap();
        events(&text).filter(|event| event["type"] == "rejected").collect()
    }
}

/// Each command, and the last line of its reply.
fn talk(door: SocketAddr, commands: &[&str]) -> Vec<String> {
    let stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = BufReader::new(stream);
    line(&mut stream);
    let reply = |stream: &mut BufReader<TcpStream>| loop {
        let text = line(stream);
        if text.as_bytes().get(3) != Some(&b'-') {
            return text;
        }
    };
    let mut replies = Vec::new();
    for command in commands {
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        replies.push(reply(&mut stream));
    }
    // Once the goodbye is there, the mail log has been told everything.
    stream.get_mut().write_all(b"QUIT\r\n").unwrap();
    assert!(reply(&mut stream).starts_with("221 "));
    replies
}

const MESSAGE: &str = "From: a@acme.test\r\nTo: b@inbox.test\r\nSubject: s\r\n\r\nbody\r\n.";

/// One message; the reply to its dot.
fn submit(door: SocketAddr) -> String {
    let said = talk(door, &["EHLO c", "MAIL FROM:<a@acme.test>", "RCPT TO:<b@inbox.test>", "DATA", MESSAGE]);
    said.last().unwrap().clone()
}

fn taken(reply: &str) -> bool {
    reply.starts_with("250 2.0.0 Ok: queued as ")
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_an_hour_and_a_day_are_limited_and_time_makes_room() {
    let relay = Limited::start("messages_per_hour = 2\nmessages_per_day = 3\n").await;
    let door = relay.door();
    assert!(taken(&submit(door)) && taken(&submit(door)));
    let over = submit(door);
    assert!(over.starts_with("452 4.7.0 ") && over.contains("2 messages an hour"), "{over}");
    let logged = relay.rejected();
    assert_eq!(logged.len(), 1);
    assert_eq!(
        (&logged[0]["tenant"], &logged[0]["reason_class"]),
        (&"acme".into(), &"limit".into()),
        "{logged:?}"
    );
    assert_eq!((&logged[0]["from"], &logged[0]["to"][0]), (&"a@acme.test".into(), &"b@inbox.test".into()));
    assert_eq!(logged[0]["reply"]["code"], 452);

    relay.pass(HOUR + MINUTE);
    assert!(taken(&submit(door)), "the hour is over; the refused one was not counted");
    let over = submit(door);
    assert!(over.starts_with("452 4.7.0 ") && over.contains("3 messages a day"), "{over}");
    assert_eq!(relay.rejected().len(), 2);

    relay.pass(DAY);
    assert!(taken(&submit(door)), "the day is over");
    relay.daemon.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_and_size_are_limited_by_the_tenant() {
    let relay = Limited::start("recipients = 2\nmessage_size = \"2KiB\"\n").await;
    let door = relay.door();
    let rcpt = "RCPT TO:<b@inbox.test>";
    let third =
        ["EHLO c", "MAIL FROM:<a@acme.test>", rcpt, "RCPT TO:<c@inbox.test>", "RCPT TO:<d@inbox.test>"];
    let said = talk(door, &[third.as_slice(), &["DATA", MESSAGE]].concat());
    assert!(said[3].starts_with("250 ") && said[4].starts_with("452 4.5.3 "), "{said:?}");
    assert!(taken(&said[6]), "those before it get their mail: {said:?}");

    let said = talk(door, &["EHLO c", "MAIL FROM:<a@acme.test> SIZE=2049"]);
    assert!(said[1].starts_with("552 5.3.4 "), "announced: {said:?}");
    let large = format!("From: a@acme.test\r\n\r\n{}\r\n.", "0123456789\r\n".repeat(200));
    let said = talk(door, &["EHLO c", "MAIL FROM:<a@acme.test>", rcpt, "DATA", &large]);
    assert!(said[4].starts_with("552 5.3.4 "), "at its end: {said:?}");
    let reasons: Vec<_> = relay.rejected().iter().map(|event| event["reply"]["code"].clone()).collect();
    assert_eq!(reasons, [452, 552, 552], "each is in the mail log");
    relay.daemon.drain().await.unwrap();
}
