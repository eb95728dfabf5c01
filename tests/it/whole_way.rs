//! MT-PRIORITY and DELIVERBY through the real program: asked for at its socket, kept over a restart, seen by who looks after the queue,
//! and passed on to a peer that offers both; handed to none that does not.

use rustix::process::Signal;
use serde_json::Value;
use waxseal::sandbox::zone::Zone;

use crate::exchanger::{Exchanger, Script, script, street};
use crate::follow;
use crate::relay::{Layout, Relay, Running, smtp};
use crate::rig::report;
use crate::verbs::{act, until};

/// A peer's words up to MAIL.
const BOTH: &str = "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250-MT-PRIORITY\n<- 250 DELIVERBY 60\n-> MAIL FROM:<a@bench.test>*\n<- 250 ok\n";

fn later() -> Script {
    script(&format!("{BOTH}-> RCPT*\n<- 450 4.2.1 later\n-- silence"))
}

fn taking() -> Script {
    script(&format!("{BOTH}-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence"))
}

/// It offers neither.
fn plain() -> Script {
    script("<- 220 mx\n-> EHLO*\n<- 250 mx\n-> QUIT\n<- 221 bye")
}

/// It takes a notification to the sender.
fn told() -> Script {
    script(
        "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL FROM:<>*\n<- 250 ok\n-> RCPT TO:<a@bench.test>*\n<- 250 ok\n-> DATA\n\
         <- 354 go\n-- body\n<- 250 ok\n-- silence",
    )
}

/// The real program, and a peer that plays these scripts: the tenant's upstream, and the exchanger of its domain.
struct Place {
    relay: Relay,
    peer: Exchanger,
    _zone: Zone,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new(scripts: Vec<Script>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let peer = street(vec![scripts]).await.0.remove(0);
        let records =
            format!("bench.test. 60 IN MX 10 mx.bench.test.\nmx.bench.test. 60 IN A {}\n", peer.address.ip());
        let zone = Zone::start(&records).await.unwrap();
        let layout = Layout {
            tables: format!("[dns]\nservers = [\"{}\"]", zone.address()),
            delivery: format!(
                "port = {}\nretry = [\"1h\"]\ngather = \"0s\"\nidle = \"0s\"\n",
                peer.address.port()
            ),
            ..Layout::upstream(peer.address)
        };
        let relay = Relay::lay_out(dir.path(), &layout);
        Self { relay, peer, _zone: zone, _dir: dir }
    }

    /// The one notification about this message, once it has arrived.
    async fn notification(&self, id: &str) -> String {
        let told = logged(&self.relay, "dsn", id).await;
        logged(&self.relay, "delivered", told["id"].as_str().unwrap()).await;
        report(self.peer.bodies().last().unwrap())
    }
}

/// Submits a message with these parameters of MAIL; answers its queue id.
fn submit(relay: &Relay, parameters: &str) -> String {
    let mut session = smtp::Session::open(relay.address()).unwrap();
    for command in [&format!("MAIL FROM:<a@bench.test> {parameters}"), "RCPT TO:<b@dest.test>"] {
        let reply = session.say(command).unwrap();
        assert!(reply.starts_with("250"), "{command}: {reply}");
    }
    assert!(session.say("DATA").unwrap().starts_with("354"));
    let reply = session.say("From: a@bench.test\r\nSubject: s\r\n\r\nbody\r\n.").unwrap();
    reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// The event of this type about this message, once it is in the log.
async fn logged(relay: &Relay, kind: &str, id: &str) -> Value {
    follow::logged(&relay.dir.join("data/mail.jsonl"), kind, id).await
}

/// The seconds of `BY=` and the number of `MT-PRIORITY=` in each MAIL that a peer heard.
fn asked(peer: &Exchanger) -> Vec<(i64, i8)> {
    let lines = peer.lines();
    let mails = lines.iter().filter(|line| line.starts_with("MAIL FROM:<a@"));
    let word = |line: &str, name: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
    };
    let read = |line: &String| {
        let by = word(line, "BY=");
        let seconds = by.strip_suffix(";RT").unwrap_or_else(|| panic!("{line}"));
        (seconds.parse().unwrap(), word(line, "MT-PRIORITY=").parse().unwrap())
    };
    mails.map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_at_the_socket_arrives_at_the_peer_over_a_restart() {
    let place = Place::new(vec![later(), taking(), told()]).await;
    let relay = &place.relay;
    let running = relay.start();
    let id = submit(relay, "MT-PRIORITY=6 BY=3600;RT");
    let received = logged(relay, "received", &id).await;
    assert_eq!((&received["priority"], &received["by_mode"]), (&6.into(), &"RT".into()), "{received}");
    let date = received["deliver_by"].as_str().unwrap();
    logged(relay, "deferred", &id).await;

    stop(running);
    let running = relay.start();
    let legs = until(relay, &[], |legs| !legs.is_empty());
    assert_eq!((&legs[0]["id"], &legs[0]["priority"]), (&id.as_str().into(), &6.into()), "{legs:?}");
    assert_eq!(legs[0]["deliver_by"].as_str(), Some(&*format!("{date};RT")), "{legs:?}");
    act(relay, &["queue", "retry", &id]);
    let relayed = logged(relay, "relayed", &id).await;
    assert_eq!((&relayed["priority"], relayed["deliver_by"].as_str()), (&6.into(), Some(date)), "{relayed}");

    let [first, second] = asked(&place.peer).try_into().unwrap();
    assert_eq!((first.1, second.1), (6, 6));
    assert!((3000..=3600).contains(&second.0) && second.0 <= first.0, "what is left: {first:?}, {second:?}");
    let body = String::from_utf8_lossy(&place.peer.bodies()[0]).into_owned();
    assert!(body.contains("\r\nMT-Priority: 6\r\n"), "for hops behind the peer (RFC 6758): {body}");
    let words = place.notification(&id).await;
    assert!(words.contains("Action: relayed\n") && words.contains("Deliver-By-Date: "), "T: {words}");
    stop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_come_late_is_returned_where_the_peer_promises_nothing() {
    let place = Place::new(vec![plain(), told()]).await;
    let running = place.relay.start();
    let id = submit(&place.relay, "BY=3600;R");
    let bounced = logged(&place.relay, "bounced", &id).await;
    assert_eq!(bounced["reply"]["enhanced"], "5.4.7", "{bounced}");
    let words = place.notification(&id).await;
    assert!(words.contains("Status: 5.4.7\n") && words.contains("b@dest.test"), "{words}");
    stop(running);
}

fn stop(running: Running) {
    running.signal(Signal::TERM);
    assert!(running.end().success());
}
