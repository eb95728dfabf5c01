//! Minutes and days of a message's life with the real scheduler, the real deliverer and real exchangers, the clock in the
//! test's hand: a receiver that greylists and limits (RM9), and one that cannot be reached until the queue gives up (RM12).

use std::sync::Arc;
use std::time::Duration;

use waxseal::deliver::Deliverer;
use waxseal::dns::Resolver;
use waxseal::queue::store::{Entry, State, StateName, Turns};
use waxseal::sandbox::exchanger::Exchanger as Inbox;
use waxseal::sandbox::zone::Zone;

use crate::exchanger::{Exchanger, Script, script, street};
use crate::rig::{DAY, HOUR, MINUTE, Rig, patiently, report};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };
/// example.test at 127.0.0.2, acme.test (the sender's) at 127.0.0.3, other.test at 127.0.0.4.
const ZONE: &str = "example.test. 60 IN MX 10 mx.example.test.\nmx.example.test. 60 IN A 127.0.0.2\n\
                    acme.test. 60 IN MX 10 mx.acme.test.\nmx.acme.test. 60 IN A 127.0.0.3\n\
                    other.test. 60 IN MX 10 mx.other.test.\nmx.other.test. 60 IN A 127.0.0.4\n";

/// A rig whose mail goes by this zone to exchangers on this port; every attempt makes a connection of its own.
async fn rig(port: u16) -> (Rig, Zone) {
    let mut rig = Rig::new(TURNS);
    let zone = Zone::start(ZONE).await.unwrap();
    rig.configure(|config| {
        config.delivery.port = port;
        config.delivery.allow_private_destinations = true;
        config.delivery.idle = Duration::ZERO;
        config.dns.servers = vec![zone.address()];
    });
    let config = rig.config.load_full();
    let resolver = Resolver::new(&config.dns).unwrap();
    rig.start_with(Arc::new(Deliverer::new(&config, resolver, Vec::new(), rig.with_clock())));
    (rig, zone)
}

fn due(entry: &Entry) -> u64 {
    match entry.leg.state {
        State::Due(at) => at.0,
        State::Held { .. } => panic!("held: {entry:?}"),
    }
}

/// Waits until the only leg has had so many attempts; answers when it is tried again.
async fn attempted(rig: &Rig, attempts: u32) -> u64 {
    rig.until(|all| {
        all.iter().any(|entry| entry.leg.attempts == attempts && entry.state == StateName::Deferred)
    })
    .await;
    due(&rig.list().await[0])
}

/// Moves the clock to this moment.
fn go_to(rig: &Rig, moment: u64) {
    rig.pass(moment - rig.now().0);
}

/// A message to others goes out: so the scheduler has had a look at the queue at this time, and what did not move was not due.
async fn look(rig: &Rig) {
    let waiting = rig.list().await.len();
    rig.accept("acme", &["b@other.test"]).await;
    rig.until(|all| all.len() == waiting).await;
}

fn taking() -> Script {
    script(
        "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence",
    )
}

/// A tenth to either side: the schedule's jitter.
#[track_caller]
fn about(wait: u64, minutes: u64) {
    let nominal = minutes * MINUTE;
    let near = nominal - nominal / 10..=nominal + nominal / 10;
    assert!(near.contains(&wait), "{wait} ms, not about {minutes} min");
}

#[tokio::test(flavor = "multi_thread")]
async fn rm9_a_greylisting_then_rate_limiting_receiver_is_tried_by_the_schedule() {
    let grey = script(
        "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 450 4.7.1 greylisted\n-- silence",
    );
    let limited = script("<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 421 4.7.28 rate limited\n-- reset");
    let at_greeting = script("<- 421 4.7.0 too many connections\n-- silence");
    let (exchangers, port) =
        street(vec![vec![grey, limited, at_greeting, taking()], vec![], vec![taking()]]).await;
    let (mut rig, _zone) = rig(port).await;
    let hers: &Exchanger = &exchangers[0];
    rig.accept("acme", &["b@example.test"]).await;
    for (attempts, minutes, code) in [(1, 5, 450), (2, 15, 421), (3, 30, 421)] {
        let next = attempted(&rig, attempts).await;
        about(next - rig.now().0, minutes);
        let last = rig.list().await[0].leg.last.clone().unwrap();
        assert_eq!(last.code, code);
        // A moment before, nothing is tried.
        go_to(&rig, next - 1);
        look(&rig).await;
        assert_eq!(hers.connections(), usize::try_from(attempts).unwrap());
        go_to(&rig, next);
    }
    rig.until(<[_]>::is_empty).await;
    rig.drain().await;
    assert_eq!((hers.connections(), hers.bodies().len()), (4, 1));
    let codes: Vec<_> = rig.logged("deferred").iter().map(|event| event["reply"]["code"].clone()).collect();
    assert_eq!(codes, [450, 421, 421]);
    assert_eq!(rig.logged("dsn").len(), 0, "nobody is bothered with a delay of minutes");
}

#[tokio::test(flavor = "multi_thread")]
async fn rm12_an_unreachable_receiver_means_a_notice_after_4_hours_and_a_failure_after_5_days() {
    // Nobody listens at 127.0.0.2; 127.0.0.3's place is taken by an exchanger that verifies.
    let (_exchangers, port) = street(vec![vec![], vec![], vec![taking()]]).await;
    let (mut rig, zone) = rig(port).await;
    let dns = waxseal::config::Dns { servers: vec![zone.address()], ..Default::default() };
    let verifier = Resolver::new(&dns).unwrap().hickory().clone();
    let mut inbox = Inbox::start(([127, 0, 0, 3], port).into(), "mx.acme.test", verifier).await.unwrap();
    let accepted = rig.now().0;
    rig.accept("acme", &["b@example.test"]).await;

    // Notifications pass through the same queue; this is about the message.
    let own = |all: &[Entry]| all.iter().find(|entry| &*entry.leg.tenant == "acme").cloned();
    let (mut attempts, mut told) = (1, Vec::new());
    loop {
        rig.until(|all| {
            own(all).is_none_or(|own| own.leg.attempts == attempts && own.state == StateName::Deferred)
        })
        .await;
        let (leg, age) = (own(&rig.list().await), rig.now().0 - accepted);
        let notices = usize::from(age >= 4 * HOUR) + usize::from(leg.is_none());
        while told.len() < notices {
            let arrival = patiently(inbox.arrival()).await.unwrap();
            assert_eq!(arrival.to, ["noreply@acme.test"]);
            told.push((age, report(&arrival.message)));
        }
        // The event is written after the notification is queued.
        rig.until(|_| rig.logged("dsn").len() >= notices).await;
        assert_eq!(rig.logged("dsn").len(), notices, "at {age} ms");
        let Some(leg) = leg else { break };
        let next = due(&leg);
        // RFC 5321 section 4.5.4.1: at least every few hours; a tenth for the jitter.
        assert!(next > rig.now().0 && next - rig.now().0 <= 4 * HOUR + 24 * MINUTE, "{next}");
        go_to(&rig, next);
        attempts += 1;
    }
    rig.drain().await;
    let [(delayed, notice), (failed, bounce)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(*delayed, 4 * HOUR);
    assert!(notice.contains("Action: delayed\n") && notice.contains("Status: 4.4.1\n"), "{notice}");
    assert!(notice.contains("Will-Retry-Until: "), "{notice}");
    assert_eq!(*failed, 5 * DAY);
    assert!(bounce.contains("Action: failed\n") && bounce.contains("Status: 4.4.7\n"), "{bounce}");
    assert!(attempts > 5 * 24 / 5, "{attempts} attempts in five days");
    assert_eq!(rig.logged("expired").len(), 1);
}
