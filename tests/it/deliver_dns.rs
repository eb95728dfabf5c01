//! Name servers that lie, loop and stammer (DN3), say too much (DN6) or something else each time (DN10): a scripted one on UDP,
//! nobody on TCP. Mail to a domain of the first kind is put off within the time that a lookup may take, and mail to others goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::RecordType;
use tokio::net::{TcpListener, UdpSocket};
use waxseal::config::Config;
use waxseal::dns::{EXCHANGERS_MAX, Mx, Resolver};
use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::sandbox::zone::Zone;

use crate::deliver::{fates, words, world, world_at, world_with};
use crate::exchanger::script;
use crate::pki::alone;

const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;
/// Response, recursion available; no error.
const FINE: u16 = 0x8180;
const NXDOMAIN: u16 = 0x8183;
const TRUNCATED: u16 = 0x8380;
/// Longest wait for a lookup, as configured.
const LOOKUP: Duration = Duration::from_secs(3);
/// An attempt asks for MX and then for addresses: a few lookups, and room for a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A query for `<label>.test`.
struct Query {
    octets: Vec<u8>,
    label: String,
    kind: u16,
}

impl Query {
    fn read(octets: &[u8]) -> Self {
        let length = usize::from(octets[12]);
        let label = String::from_utf8_lossy(&octets[13..13 + length]).to_lowercase();
        // Behind the label: `test`, the root, type and class.
        let end = 13 + length + 6;
        let kind = u16::from_be_bytes([octets[end], octets[end + 1]]);
        Self { octets: octets[..end + 4].to_vec(), label, kind }
    }

    /// `<label>.test`, the end of it by a pointer into the question.
    fn name(&self, label: &str) -> Vec<u8> {
        let test = u8::try_from(13 + self.label.len()).unwrap();
        [&[u8::try_from(label.len()).unwrap()], label.as_bytes(), &[0xc0, test]].concat()
    }

    fn record(&self, owner: &str, kind: u16, data: &[u8]) -> Vec<u8> {
        self.kept(owner, kind, data, 60)
    }

    /// With this TTL.
    fn kept(&self, owner: &str, kind: u16, data: &[u8], ttl: u32) -> Vec<u8> {
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        let (kind, ttl) = (kind.to_be_bytes(), ttl.to_be_bytes());
        [&self.name(owner), &kind[..], &[0, 1], &ttl, &length, data].concat()
    }

    fn cname(&self, owner: &str, to: &str) -> Vec<u8> {
        self.record(owner, CNAME, &self.name(to))
    }

    /// An MX record of this owner that leads to a host that works.
    fn mx(&self, owner: &str) -> Vec<u8> {
        self.record(owner, MX, &[&[0, 10], self.name("mx2").as_slice()].concat())
    }

    /// The whole answer.
    fn answer(&self, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let id = &self.octets[..2];
        let header = [id, &flags.to_be_bytes(), &[0, 1], &count, &[0, 0, 0, 0]].concat();
        [header.as_slice(), &self.octets[12..], &records.concat()].concat()
    }
}

const HOPS: usize = 50;

/// The script: what each name gets.
fn reply(query: &Query) -> Vec<u8> {
    let own = query.label.as_str();
    match (own, query.kind) {
        ("good", MX) => query.answer(FINE, &[query.mx("good")]),
        ("mx2", A) => query.answer(FINE, &[query.record("mx2", A, &[127, 0, 0, 2])]),
        // Fifty hops, one an answer, and mail could be delivered at their end.
        ("hop50", MX) => query.answer(FINE, &[query.mx("hop50")]),
        (hop, _) if hop.starts_with("hop") => {
            let n: usize = hop[3..].parse().unwrap();
            query.answer(FINE, &[query.cname(hop, &format!("hop{}", n + 1))])
        }
        // A chain that never ends: every answer names a new name.
        (hop, _) if hop.starts_with("far") => {
            let n: usize = hop[3..].parse().unwrap();
            query.answer(FINE, &[query.cname(hop, &format!("far{}", n + 1))])
        }
        // Fifty hops in one answer, and the last of them leads to fifty more.
        ("long", _) => query.answer(FINE, &[query.cname("long", "l0")]),
        (hop, _) if hop.starts_with('l') => {
            let n: usize = hop[1..].parse().unwrap();
            let hops = (n..n + HOPS).map(|n| query.cname(&format!("l{n}"), &format!("l{}", n + 1)));
            query.answer(FINE, &hops.collect::<Vec<_>>())
        }
        ("wrong", MX) => query.answer(FINE, &[query.mx("other")]),
        // The answer to another question.
        ("question", _) => {
            let mut other = Query { octets: query.octets.clone(), label: "quest10n".into(), kind: MX };
            other.octets[12 + 6] = b'1';
            other.octets[12 + 7] = b'0';
            other.answer(FINE, &[other.mx("quest10n")])
        }
        ("cut", _) => query.answer(TRUNCATED, &[]),
        ("empty", _) => Vec::new(),
        ("short", _) => query.octets[..7].to_vec(),
        // An owner whose pointer points at itself, and one that points behind itself.
        ("circle", _) | ("ahead", _) => {
            let at = u16::try_from(query.octets.len()).unwrap() + if own == "ahead" { 40 } else { 0 };
            let pointer = (0xc000 | at).to_be_bytes();
            query.answer(FINE, &[[&pointer, &[0, 15, 0, 1, 0, 0, 0, 60, 0, 2, 0, 10][..]].concat()])
        }
        _ => query.answer(NXDOMAIN, &[]),
    }
}

/// A name server on a port whose TCP side refuses.
async fn scripted(script: impl Fn(&Query) -> Vec<u8> + Send + 'static) -> SocketAddr {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        // Free for a moment, and nobody's afterwards: connections to it are refused.
        if TcpListener::bind(address).await.is_err() {
            continue;
        }
        tokio::spawn(async move {
            let mut octets = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut octets).await {
                let answer = script(&Query::read(&octets[..length]));
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        return address;
    }
}

/// An exchanger that takes a message.
const TAKING: &str = "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n\
    <- 250 ok\n-- silence";

#[tokio::test(flavor = "multi_thread")]
async fn dn3_what_is_no_answer_defers_in_bounded_time_and_others_are_served() {
    let rows = [
        ("hop0", "a chain of 50 hops, an answer each"),
        ("far0", "a chain without end"),
        ("long", "50 hops an answer, without end"),
        ("wrong", "an MX record of a name that was not asked for"),
        ("question", "an answer to another question"),
        ("cut", "cut short, and TCP is refused"),
        ("empty", "a datagram without octets"),
        ("short", "a datagram that ends within the header"),
        ("circle", "a compression pointer that points at itself"),
        ("ahead", "a compression pointer that points beyond the end"),
    ];
    let server = scripted(reply).await;
    let world = world_with("", vec![vec![script(TAKING)]], |config, _| {
        config.dns.servers = vec![server];
        config.dns.timeout = LOOKUP;
        config.delivery.idle = Duration::ZERO;
        Vec::new()
    })
    .await;
    for (at, (label, why)) in rows.into_iter().enumerate() {
        let address = format!("b@{label}.test");
        let decided = tokio::time::timeout(BOUND, world.mx(&[&address])).await;
        let decided = decided.unwrap_or_else(|_| panic!("{why}: it takes too long"));
        assert_eq!(decided[0].fate, Deferred, "{why}: {}", words(&decided));
        assert!(words(&decided).starts_with("4.4.3"), "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), at, "{why}: nobody is connected to");
        // The same deliverer and resolver serve the next one.
        let good = world.mx(&["b@good.test"]).await;
        assert_eq!(fates(&good), [(Delivered, 250)], "after {why}: {}", words(&good));
    }
}

/// The resolver of a relay that asks this server.
fn resolver(server: SocketAddr) -> Resolver {
    let mut config = Config::new("relay.test".parse().unwrap(), std::path::Path::new("/nowhere"));
    config.dns.servers = vec![server];
    Resolver::new(&config.dns).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dn6_answers_are_kept_half_a_minute_at_least_and_a_day_at_most() {
    let server = scripted(|query| {
        let ttl = query.label[3..].parse().unwrap();
        query.answer(FINE, &[query.kept(&query.label, A, &[127, 0, 0, 2], ttl)])
    })
    .await;
    let resolver = resolver(server);
    let (half_a_minute, a_day) = (Duration::from_secs(30), Duration::from_secs(24 * 60 * 60));
    let rows = [
        (0_u32, half_a_minute, "one destination would be a query a message"),
        (1, half_a_minute, "the same"),
        (600, Duration::from_secs(600), "its own"),
        (2_147_483_647, a_day, "68 years: an exchanger that moves is found again"),
        // RFC 2181 section 8 has these taken for 0; too long would be worse than too short.
        (2_147_483_648, a_day, "the highest bit"),
        (4_294_967_295, a_day, "all bits"),
    ];
    for (ttl, most, why) in rows {
        let before = Instant::now();
        let found = resolver.hickory().lookup(format!("ttl{ttl}.test."), RecordType::A).await.unwrap();
        let kept = found.valid_until() - before;
        // Asked at this moment and answered at that one.
        let late = before.elapsed() + Duration::from_secs(1);
        assert!(kept >= half_a_minute && kept <= most + late, "{ttl}, {why}: {kept:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dn6_of_a_thousand_addresses_and_a_hundred_exchangers_the_first_twenty_are_tried() {
    // Nobody listens at 127.1: the best exchanger's addresses all refuse, and the next one takes mail.
    let addresses = |host: &str, count: u16| -> String {
        let each = |n: u16| format!("{host}. 60 IN A 127.1.{}.{}\n", n >> 8, n & 255);
        (1..=count).map(each).collect()
    };
    for (count, fate) in [(19, (Delivered, 250)), (1000, (Deferred, 0))] {
        let zone = format!(
            "{}b.test. 60 IN MX 5 many.test.\nb.test. 60 IN MX 10 mx2.test.\n",
            addresses("many.test", count)
        );
        let world = world(&zone, vec![vec![script(TAKING)]]).await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [fate], "{count}: {}", words(&decided));
    }
    let list: String = (1..=100).rev().map(|n| format!("b.test. 60 IN MX {n} mx{n}.test.\n")).collect();
    let zone = Zone::start(&format!("{list}{}", addresses("many.test", 1000))).await.unwrap();
    let resolver = resolver(zone.address());
    let Mx::Exchangers(found) = resolver.mx(&"b.test".parse().unwrap()).await.unwrap() else {
        panic!("none")
    };
    let preferences: Vec<usize> = found.iter().map(|one| usize::from(one.preference)).collect();
    assert_eq!(preferences, (1..=EXCHANGERS_MAX).collect::<Vec<_>>(), "the best ones, whatever their order");
    assert_eq!(resolver.addresses("many.test").await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn dn10_whoever_answers_something_else_each_time_is_connected_to_where_it_was_checked() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let server = scripted(move |query| match (query.label.as_str(), query.kind) {
        ("b", MX) => {
            query.answer(FINE, &[query.kept("b", MX, &[&[0, 10], query.name("turn").as_slice()].concat(), 0)])
        }
        // The first answer passes the check; all later ones are where another server listens.
        ("turn", A) => {
            let last = if counter.fetch_add(1, Ordering::Relaxed) == 0 { 2 } else { 3 };
            query.answer(FINE, &[query.kept("turn", A, &[127, 0, 0, last], 0)])
        }
        _ => query.answer(NXDOMAIN, &[]),
    })
    .await;
    // A handshake that fails has the host connected to once more, in clear text.
    let breaks = "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- reset";
    let scripts = vec![vec![script(breaks), script(TAKING)], vec![script(TAKING)]];
    let world = world_at(server, scripts, |_| alone(&["turn.test"]), |_| ()).await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    let connections: Vec<usize> = world.exchangers.iter().map(|one| one.connections()).collect();
    assert_eq!(connections, [2, 0], "both times to the address that was checked");
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the name is asked for once");
}
