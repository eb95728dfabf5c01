//! What others' trouble costs a small tenant: `cargo bench --bench fairness` prints its time from accept to delivery, at the median
//! and at one in a hundred, alone, beside a stuck destination with a backlog (`WAXSEAL_BACKLOG`, default 500,000), and beside one
//! tenant's burst (`WAXSEAL_BURST`, default 100,000), with the memory that is resident. The store, the scheduler and the
//! disk are real; the courier answers after a tenth of a second, as an exchanger not far away, or for the stuck destination never.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its figures and stops where it cannot go on; what it uses of the tests' is not all of it"
)]

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use waxseal::clock::Clock;
use waxseal::config::Config;
use waxseal::deliver::{Job, Witness};
use waxseal::mail::attempt::{Decided, Fate, Hop, Timings};
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Message, Needs};
use waxseal::mail::reply::PeerReply;
use waxseal::maillog::MailLog;
use waxseal::queue::embedded::{Embedded, Options};
use waxseal::queue::store::{Accept, Destination, Store, Turns};
use waxseal::schedule::{Courier, Parts, Scheduler};
use waxseal::seal::Keyring;
use waxseal::suppress::List;
use waxseal::tenant::Directory;

#[path = "../tests/it/intake.rs"]
mod intake;
#[path = "load/process.rs"]
mod process;

/// Messages of small tenants in a measurement, one every two milliseconds.
const PROBES: usize = 3000;
const TENANTS: usize = 10;
const STUCK: &str = "stuck.test";
/// What a delivery takes.
const DELIVERY: Duration = Duration::from_millis(100);

/// Delivers after `DELIVERY`, or never.
#[derive(Default)]
struct Script {
    begun: Mutex<HashMap<Id, Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl Courier for Script {
    fn attempt<'a>(
        &'a self,
        job: &'a Job,
        witness: Witness<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            if *job.leg.destination.0 == *STUCK {
                return std::future::pending().await;
            }
            tokio::time::sleep(DELIVERY).await;
            if let Some(begun) = self.begun.lock().unwrap().remove(&job.leg.id) {
                self.took.lock().unwrap().push(begun.elapsed());
            }
            let taken = |rcpt: &u16| Decided {
                rcpt: *rcpt,
                fate: Fate::Delivered,
                reply: PeerReply { code: 250, enhanced: None, text: b"2.0.0 taken".to_vec() },
                hop: Hop { route: "mx", ..Hop::default() },
                ms: Timings::default(),
            };
            witness.decided(job.leg.rcpts.iter().map(taken).collect());
        })
    }
}

struct World {
    store: Arc<Embedded>,
    script: Arc<Script>,
    scheduler: Option<Scheduler>,
    _dir: tempfile::TempDir,
}

fn open(dir: &Path) -> Arc<Embedded> {
    let options = Options {
        turns: Turns { per_destination: 20, total: 500 },
        window: 100_000,
        body_cache: 32 << 20,
        index_cache: 32 << 20,
        read_memory: 64 << 20,
        index_slack: 64 << 20,
        disk_reserve: 0,
        clock: Clock::System,
    };
    Embedded::open(dir, options).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(".").unwrap();
        Self { store: open(&dir.path().join("queue")), script: Arc::default(), scheduler: None, _dir: dir }
    }

    fn start(&mut self) {
        let path = self._dir.path();
        let mut config = Config::new("relay.test".parse().unwrap(), path);
        config.delivery.drain = Duration::ZERO;
        let names = (0..TENANTS).map(|n| format!("small{n}")).chain(["big".to_owned()]);
        let tenants = names.map(|name| intake::tenant(&name, &[]));
        std::fs::create_dir_all(path.join("keys")).unwrap();
        let clock = Clock::System;
        self.scheduler = Some(Scheduler::start(Parts {
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            courier: Arc::clone(&self.script) as Arc<dyn Courier>,
            config: Arc::new(ArcSwap::from_pointee(config)),
            tenants: Arc::new(ArcSwap::from_pointee(Directory::new(tenants))),
            keyring: Arc::new(ArcSwap::from_pointee(Keyring::load(&path.join("keys")).unwrap())),
            outlook: intake::unasked(&clock),
            log: MailLog::open(&path.join("mail.jsonl"), clock.clone()).unwrap(),
            suppressions: Arc::new(List::new(Arc::clone(&self.store) as Arc<dyn Store>, Arc::default())),
            metrics: Arc::default(),
            clock,
        }));
    }

    async fn accept(&self, tenant: &str, domain: &str, timed: bool) {
        let id = Id::new(Clock::System.now(), rand::random());
        if timed {
            self.script.begun.lock().unwrap().insert(id, Instant::now());
        }
        self.store.accept(message(id, tenant, domain)).await.unwrap();
    }

    /// Accepts so many from 64 writers.
    async fn fill(self: &Arc<Self>, count: usize, tenant: &'static str, domains: Option<usize>) {
        let writers: Vec<_> = (0..64)
            .map(|writer| {
                let world = Arc::clone(self);
                tokio::spawn(async move {
                    for n in (writer..count).step_by(64) {
                        let domain =
                            domains.map_or(STUCK.to_owned(), |domains| format!("d{}.test", n % domains));
                        world.accept(tenant, &domain, false).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    }

    /// The small tenants send, and what it took is printed.
    async fn probe(self: &Arc<Self>, beside: &str) -> Duration {
        let mut every = tokio::time::interval(Duration::from_millis(2));
        let mut sending = tokio::task::JoinSet::new();
        for n in 0..PROBES {
            every.tick().await;
            let world = Arc::clone(self);
            sending.spawn(async move {
                world.accept(&format!("small{}", n % TENANTS), &format!("s{}.test", n % 97), true).await;
            });
        }
        sending.join_all().await;
        while self.script.took.lock().unwrap().len() < PROBES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut took = std::mem::take(&mut *self.script.took.lock().unwrap());
        took.sort_unstable();
        let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
        println!(
            "{beside}: p50 {:?}, p99 {:?}, {} MiB resident",
            at(50),
            at(99),
            process::kib(std::process::id(), "VmRSS:") >> 10
        );
        at(99)
    }
}

fn message(id: Id, tenant: &str, domain: &str) -> Accept {
    let now = Clock::System.now();
    let address = format!("someone@{domain}").parse().unwrap();
    let rcpts = vec![Recipient { address, orcpt: None, notify: Notify::default() }];
    let body = Bytes::from(vec![b'x'; 1024]);
    let facts = Facts {
        id,
        tenant: tenant.into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope { from: Some("a@acme.test".parse().unwrap()), rcpts, ret: None, envid: None },
        received: now,
        expires: now.after(Duration::from_secs(5 * 86_400)),
        return_path: None,
        unsealed: None,
        asked: waxseal::mail::message::Asked::default(),
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: None,
        needs: Needs::default(),
        size: body.len() as u64,
    };
    let message = Arc::new(Message { facts, body });
    Accept { message, legs: vec![(Destination(domain.into()), vec![0])], held: None, tells: Vec::new() }
}

/// One situation in a world of its own.
async fn situation(name: &str, backlog: usize, burst: usize) -> Duration {
    let mut world = World::new();
    world.start();
    let world = Arc::new(world);
    // What begins with a store's first mail is not what is measured.
    world.fill(1000, "big", Some(100)).await;
    while world.store.stats().await.unwrap().messages > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if backlog > 0 {
        world.fill(backlog, "big", None).await;
    }
    let bursting = (burst > 0).then(|| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.fill(burst, "big", Some(1000)).await })
    });
    let p99 = world.probe(name).await;
    if let Some(bursting) = bursting {
        bursting.abort();
    }
    p99
}

/// Beside so many messages for a destination that never answers (faults.md QU8).
async fn stuck(backlog: usize) -> Duration {
    situation(&format!("beside {backlog} for a stuck destination"), backlog, 0).await
}

/// Beside so many that one tenant sends at once.
async fn flood(burst: usize) -> Duration {
    situation(&format!("beside a burst of {burst} of one tenant"), 0, burst).await
}

fn main() {
    let number = |name: &str, usual| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (backlog, burst) = (number("WAXSEAL_BACKLOG", 500_000), number("WAXSEAL_BURST", 100_000));
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let alone = runtime().block_on(situation("alone", 0, 0));
    let (stuck, flood) = (runtime().block_on(stuck(backlog)), runtime().block_on(flood(burst)));
    let change = |p99: Duration| 100.0 * (p99.as_secs_f64() / alone.as_secs_f64() - 1.0);
    println!("p99 changes by {:.0} % and {:.0} %", change(stuck), change(flood));
}
