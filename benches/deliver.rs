//! Messages a second over one connection to a local sink: `cargo bench --bench deliver`. 4 KiB each, one recipient, MAIL, RCPT and
//! DATA pipelined; the next message begins when the one before has its 250, as the scheduler does it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its figures and stops where it cannot go on"
)]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use waxseal::config::Config;
use waxseal::deliver::{Deliverer, Job};
use waxseal::dns::Resolver;
use waxseal::mail::attempt::{Decided, Fate};
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Message, Needs};
use waxseal::mail::time::Time;
use waxseal::queue::store::{Destination, Leg, State};
use waxseal::sandbox::zone::Zone;
use waxseal::tenant::Route;

#[path = "load/sink.rs"]
mod sink;
use sink::Sink;

const COUNT: u32 = 40_000;

fn main() {
    let sink = Sink::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&sink));
}

fn job(n: u32, body: &Bytes) -> Job {
    let rcpt = Recipient { address: "b@dest.test".parse().unwrap(), orcpt: None, notify: Notify::default() };
    let facts = Facts {
        id: Id::new(Time(1), u128::from(n)),
        tenant: "acme".into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope {
            from: Some("a@acme.test".parse().unwrap()),
            rcpts: vec![rcpt],
            ret: None,
            envid: None,
        },
        received: Time(1),
        expires: Time(u64::MAX),
        return_path: None,
        unsealed: None,
        asked: waxseal::mail::message::Asked::default(),
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: None,
        needs: Needs::default(),
        size: body.len() as u64,
    };
    let leg = Leg {
        id: facts.id,
        leg: 0,
        tenant: "acme".into(),
        destination: Destination("dest.test".into()),
        lane: Lane::Normal,
        rcpts: vec![0],
        attempts: 0,
        state: State::Due(Time(1)),
        last: None,
        delay_told: false,
        received: Time(1),
        expires: Time(u64::MAX),
    };
    let message = Arc::new(Message { facts, body: body.clone() });
    Job {
        message,
        leg,
        route: Arc::new(Route::Mx),
        tenant: "acme".into(),
        unnamed: Vec::new(),
        started: Time(1),
    }
}

async fn measure(sink: &Sink) {
    let zone = "dest.test. 600 IN MX 10 sink.test.\nsink.test. 600 IN A 127.0.0.1\n";
    let zone = Zone::start(zone).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
    config.dns.servers = vec![zone.address()];
    config.delivery.port = sink.address.port();
    config.delivery.allow_private_destinations = true;
    config.delivery.messages_per_connection = u32::MAX;
    let resolver = Resolver::new(&config.dns).unwrap();
    let deliverer = Deliverer::new(&config, resolver, Vec::new(), Default::default());
    let line = b"One line of a template, as long as lines usually are in a mail, and its end.\r\n";
    let head = b"From: a@acme.test\r\nTo: b@dest.test\r\nSubject: hello\r\n\r\n";
    let body: Bytes = head.iter().chain(line.iter().cycle().take(4096 - head.len())).copied().collect();
    let mut taken = 0;
    let started = Instant::now();
    for n in 0..COUNT {
        let mut witness = |decided: Vec<Decided>| {
            taken += decided.iter().filter(|one| one.fate == Fate::Delivered).count();
        };
        deliverer.attempt(&job(n, &body), &mut witness).await;
    }
    let rate = f64::from(COUNT) / started.elapsed().as_secs_f64();
    assert_eq!((taken, sink.taken()), (COUNT as usize, u64::from(COUNT)));
    println!("4 KiB over one connection: {rate:.0} messages/s");
    deliverer.close_idle().await;
}
