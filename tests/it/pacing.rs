//! Sites of exchangers and their pace, with the real scheduler and deliverer, real sockets, and the clock in the test's hand:
//! who is slow, busy or down holds up only himself, and mail that waits for him has not been attempted (RM8, RM9).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use waxseal::config::Config;
use waxseal::deliver::Deliverer;
use waxseal::deliver::pace::Why;
use waxseal::dns::Resolver;
use waxseal::mail::time::Time;
use waxseal::queue::store::{Entry, StateName, Turns};
use waxseal::sandbox::zone::Zone;

use crate::rig::{MINUTE, Rig, patiently};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };
const SECOND: u64 = 1000;

/// What an exchanger does.
#[derive(Clone, Copy, PartialEq)]
pub enum Manner {
    Takes,
    /// Answers the final dot when it is let.
    Holds,
    /// Greets so, and closes.
    Greets(&'static str),
    /// Answers MAIL so.
    AtMail(&'static str),
    /// Answers RCPT so.
    AtRcpt(&'static str),
}

/// An exchanger that counts.
pub struct Mx {
    manner: Mutex<Manner>,
    pub gate: Semaphore,
    open: AtomicUsize,
    peak: AtomicUsize,
    connections: AtomicUsize,
}

impl Mx {
    fn start(listener: TcpListener, manner: Manner) -> Arc<Self> {
        let mx = Arc::new(Self {
            manner: Mutex::new(manner),
            gate: Semaphore::new(0),
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let state = Arc::clone(&mx);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    state.peak.fetch_max(state.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _ = state.converse(stream).await;
                    state.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        mx
    }

    pub fn is(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        if let Manner::Greets(words) = self.manner() {
            return stream.get_mut().write_all(format!("{words}\r\n").as_bytes()).await;
        }
        stream.get_mut().write_all(b"220 mx ESMTP\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let reply = match (line.get(..4).unwrap_or(""), self.manner()) {
                ("MAIL", Manner::AtMail(words)) | ("RCPT", Manner::AtRcpt(words)) => words,
                ("DATA", manner) => {
                    stream.get_mut().write_all(b"354 go\r\n").await?;
                    while line != ".\r\n" {
                        line.clear();
                        stream.read_line(&mut line).await?;
                    }
                    if manner == Manner::Holds {
                        self.gate.acquire().await.unwrap().forget();
                    }
                    "250 2.0.0 taken"
                }
                ("QUIT", _) => return stream.get_mut().write_all(b"221 bye\r\n").await,
                _ => "250 ok",
            };
            stream.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await?;
            if reply.starts_with("421") {
                return Ok(());
            }
        }
    }
}

/// Exchangers of providers, each of a domain of its own: p0.test and so on.
const PROVIDERS: [&str; 5] = [
    "mta7.am0.yahoodns.net",
    "outlook-com.olc.protection.outlook.com",
    "contoso-com.mail.protection.outlook.com",
    "mx01.mail.icloud.com",
    "gmail-smtp-in.l.google.com",
];

/// d0.test to d49.test have the same two exchangers, at 127.0.0.2, where the providers are too; other.test has its own, at
/// 127.0.0.3.
pub struct World {
    pub rig: Rig,
    pub mx: Arc<Mx>,
    other: Arc<Mx>,
    _zone: Zone,
}

pub async fn world(manner: Manner, change: impl Fn(&mut Config)) -> World {
    let (first, second) = loop {
        let first = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.0.0.3", port)).await {
            break (first, second);
        }
    };
    let port = first.local_addr().unwrap().port();
    let domains: String = (0..50)
        .map(|n| format!("d{n}.test. 60 IN MX 10 a.mx.test.\nd{n}.test. 60 IN MX 10 b.mx.test.\n"))
        .collect();
    let providers: String = (0..)
        .zip(PROVIDERS)
        .map(|(n, host)| format!("p{n}.test. 60 IN MX 10 {host}.\n{host}. 60 IN A 127.0.0.2\n"))
        .collect();
    let zone = Zone::start(&format!(
        "{domains}{providers}a.mx.test. 60 IN A 127.0.0.2\nb.mx.test. 60 IN A 127.0.0.2\n\
         other.test. 60 IN MX 10 mx.other.test.\nmx.other.test. 60 IN A 127.0.0.3\n"
    ))
    .await
    .unwrap();
    let rig = Rig::new(TURNS);
    rig.configure(|config| {
        config.delivery.port = port;
        config.delivery.allow_private_destinations = true;
        config.delivery.concurrency_per_destination = 4;
        config.dns.servers = vec![zone.address()];
        // A machine that stands still for a while closes no connection that a test counts on.
        config.delivery.idle = std::time::Duration::from_secs(3600);
        change(config);
    });
    World { rig, mx: Mx::start(first, manner), other: Mx::start(second, Manner::Takes), _zone: zone }
}

impl World {
    pub fn start(&mut self) -> Arc<Deliverer> {
        let config = self.rig.config.load_full();
        let resolver = Resolver::new(&config.dns).unwrap();
        let clock = self.rig.with_clock();
        let deliverer = Arc::new(Deliverer::new(&config, resolver, Vec::new(), clock));
        self.rig.start_with(Arc::<Deliverer>::clone(&deliverer));
        deliverer
    }

    pub async fn accept(&self, count: usize) {
        for n in 0..count {
            self.rig.accept("acme", &[&format!("r{n}@d{}.test", n % 50)]).await;
        }
    }

    /// A message to others goes out: so the scheduler has looked at the queue at this time.
    async fn look(&self) {
        let id = self.rig.accept("acme", &["b@other.test"]).await;
        self.rig.until(|all| all.iter().all(|entry| entry.leg.id != id)).await;
    }

    /// Attempts made at each leg of the site.
    async fn attempts(&self) -> Vec<u32> {
        self.rig.list().await.iter().map(|entry| entry.leg.attempts).collect()
    }
}

#[tokio::test]
async fn domains_with_the_same_exchangers_share_turns_and_connections() {
    let mut world = world(Manner::Takes, |_| ()).await;
    world.accept(50).await;
    world.start();
    world.rig.until(<[_]>::is_empty).await;
    world.rig.drain().await;
    assert_eq!(world.rig.logged("delivered").len(), 50);
    assert!(
        world.mx.peak() <= 4,
        "four turns, and those kept at either name are of the four: {}",
        world.mx.peak()
    );
    assert!(world.mx.connections() <= 12, "fifty domains, few connections: {}", world.mx.connections());
    let sites: Vec<String> =
        world.rig.logged("delivered").iter().map(|line| line["site"].as_str().unwrap().to_owned()).collect();
    assert!(sites.iter().all(|site| site == "a.mx.test,b.mx.test"), "{sites:?}");
    assert!(world.rig.logged("delivered").iter().all(|line| line["attempt"] == 1), "waiting is no attempt");
}

/// RM8: five hundred messages for a tarpit, in fifty domains.
#[tokio::test]
async fn a_tarpit_of_many_domains_holds_one_probe_and_nobody_else() {
    let mut world = world(Manner::Holds, |_| ()).await;
    world.accept(500).await;
    world.start();
    for _ in 0..20 {
        world.look().await;
    }
    assert_eq!(
        (world.mx.peak(), world.mx.connections()),
        (1, 1),
        "one connection probes; the flood waits for it"
    );
    assert_eq!(world.rig.logged("attempt").len(), 21, "who waits has not been attempted");
    assert_eq!(world.other.connections(), 1, "the others' connection serves all twenty");
    world.mx.gate.add_permits(1000);
    world.rig.until(<[_]>::is_empty).await;
    assert!(world.mx.peak() <= 4, "{}", world.mx.peak());
    world.rig.drain().await;
    assert!(world.rig.logged("delivered").iter().all(|line| line["attempt"] == 1));
}

/// RM9: 421 to every connection for a while.
#[tokio::test]
async fn a_storm_of_421_is_waited_out_without_attempts() {
    let mut world = world(Manner::Greets("421 4.3.2 too busy"), |_| ()).await;
    world.accept(10).await;
    world.start();
    world.rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    world.look().await;
    let mut attempts = world.attempts().await;
    attempts.sort_unstable();
    assert_eq!(attempts, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1], "one was tried, nine wait for the site");
    let deferred = world.rig.logged("deferred");
    assert_eq!(deferred.len(), 1);
    assert!(deferred[0]["rests_until"].is_string(), "{}", deferred[0]);
    let seen = world.mx.connections();
    world.rig.pass(4 * SECOND);
    world.look().await;
    assert_eq!(world.mx.connections(), seen, "it rests");
    world.mx.is(Manner::Takes);
    world.rig.pass(2 * SECOND);
    world.rig.until(|all| all.len() == 1).await;
    world.rig.pass(6 * MINUTE);
    world.rig.until(<[_]>::is_empty).await;
    world.rig.drain().await;
    let late = world.rig.logged("delivered").iter().filter(|line| line["attempt"] == 2).count();
    assert_eq!((late, world.rig.logged("deferred").len()), (1, 1));
}

#[tokio::test]
async fn gmails_flood_word_means_ten_minutes_and_then_one_connection() {
    let mut world = world(Manner::AtMail("421-4.7.28 unusual rate\r\n421 4.7.28 of mail"), |_| ()).await;
    world.accept(10).await;
    world.start();
    world.rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    world.look().await;
    assert_eq!(world.rig.logged("deferred").len(), 1);
    let seen = world.mx.connections();
    world.mx.is(Manner::Holds);
    world.rig.pass(8 * MINUTE);
    world.look().await;
    assert_eq!(
        world.mx.connections(),
        seen,
        "not even what its schedule would have brought after five minutes"
    );
    world.rig.pass(4 * MINUTE);
    patiently(async {
        while world.mx.connections() == seen {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.look().await;
    assert_eq!(world.mx.connections(), seen + 1, "then one looks");
    world.mx.gate.add_permits(100);
    world.rig.until(<[_]>::is_empty).await;
}

/// Google counts by domain too: whose DKIM domain sends too much waits there, and nobody else.
#[tokio::test]
async fn a_quota_of_the_senders_domain_rests_that_senders_mail_alone() {
    let words = "421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating from\r\n\
                 421 4.7.28 your DKIM domain [acme.test 36]. Mail has been temporarily rate limited.";
    let mut world = world(Manner::AtMail(words), |_| ()).await;
    let first = world.rig.accept("acme", &["a@p4.test"]).await;
    world.start();
    let put_off =
        |id| move |all: &[Entry]| all.iter().any(|one| one.leg.id == id && one.state == StateName::Deferred);
    world.rig.until(put_off(first)).await;
    world.mx.is(Manner::Takes);
    let seen = world.mx.connections();
    let second = world.rig.accept("acme", &["b@p4.test"]).await;
    world.rig.until(put_off(second)).await;
    assert_eq!(world.mx.connections(), seen, "it is not tried");
    let log = world.rig.logged("deferred");
    let text = log[1]["reply"]["text"].as_str().unwrap();
    assert!(text.contains("acme.test sends too much") && log[1]["rests_until"].is_string(), "{log:?}");
    assert!(log[0]["rests_until"].is_string(), "{log:?}");
    let other = world.rig.accept("blue", &["c@p4.test"]).await;
    world.rig.until(|all| all.iter().all(|entry| entry.leg.id != other)).await;
    world.rig.pass(11 * MINUTE);
    world.rig.until(<[_]>::is_empty).await;
    world.rig.drain().await;
    assert_eq!(world.rig.logged("delivered").len(), 3);
}

/// Each provider has words of its own for it, also with codes that say nothing of the site (451 in answer to MAIL).
#[tokio::test]
async fn providers_words_for_too_much_mean_ten_minutes_too() {
    let rows = [
        "421 4.7.0 [TSS05] Messages from 127.0.0.1 temporarily deferred due to unexpected volume or user complaints",
        "451 4.7.650 The mail server [127.0.0.1] has been temporarily rate limited due to IP reputation. (S775)",
        "451 4.7.652 The mail server [127.0.0.1] has exceeded the maximum number of connections. (S3115)",
        "421 4.7.1 Messages from 127.0.0.1 deferred due to excessive volume. Try again later",
    ];
    let mut world = world(Manner::Takes, |_| ()).await;
    let deliverer = world.start();
    for (n, words) in (0..).zip(rows) {
        world.mx.is(Manner::Takes);
        world.rig.accept("acme", &[&format!("before@p{n}.test")]).await;
        world.rig.until(|all| all.len() == n).await;
        let seen = world.mx.connections();
        world.mx.is(Manner::AtMail(words));
        world.rig.accept("acme", &[&format!("r@p{n}.test")]).await;
        world.rig.until(|all| all.len() == n + 1 && all.iter().all(|one| one.leg.attempts == 1)).await;
        assert_eq!(
            world.mx.connections(),
            seen,
            "heard over the kept connection, and not asked again: {words}"
        );
        let rests = deliverer.sites(10).iter().filter_map(|seen| seen.rest).collect::<Vec<_>>();
        assert_eq!(rests.len(), n + 1, "{words}");
        let long = Time(world.rig.now().0 + 8 * MINUTE);
        assert!(rests.iter().all(|(until, why)| *why == Why::Limited && *until > long), "{rests:?}");
    }
}

#[tokio::test]
async fn what_falls_due_for_a_dead_site_is_deferred_with_what_was_found() {
    let mut world = world(Manner::Greets("554 5.3.2 go away"), |_| ()).await;
    world.accept(3).await;
    world.start();
    for strikes in 1..=3 {
        world.rig.until(|all| all.iter().filter(|one| one.leg.attempts > 0).count() >= strikes).await;
        world.look().await;
        let pass = if strikes < 3 { 20 * SECOND } else { 0 };
        world.rig.pass(pass);
    }
    let seen = world.mx.connections();
    world.rig.accept("acme", &["late@d7.test"]).await;
    world.rig.until(|all| all.len() == 4 && all.iter().all(|one| one.leg.attempts > 0)).await;
    assert_eq!(world.mx.connections(), seen, "nobody knocks at a door just found shut");
    world.rig.drain().await;
    let last = world.rig.logged("deferred").pop().unwrap();
    let text = last["reply"]["text"].as_str().unwrap();
    assert!(text.starts_with("not tried: a.mx.test,b.mx.test rests until"), "{text}");
    assert!(text.ends_with("go away"), "{text}");
    assert!(last["rests_until"].is_string() && last["host"].is_null() && last["next_attempt"].is_string());
}
