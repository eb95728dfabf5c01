//! The scheduler on a store of its own, with time in the test's hand and a courier that does as it is told.

use std::collections::VecDeque;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::follow::events;
use super::intake::unasked;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore, mpsc};
use waxseal::clock::Clock;
use waxseal::config::Config;
use waxseal::deliver::{Job, Witness};
use waxseal::mail::attempt::{Decided, Fate, Hop, Timings};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Message};
use waxseal::mail::reply::{Enhanced, PeerReply};
use waxseal::mail::time::Time;
use waxseal::maillog::MailLog;
use waxseal::metrics::Metrics;
use waxseal::queue::embedded::{Embedded, Options};
use waxseal::queue::store::{Accept, Destination, Store, Turns};
use waxseal::schedule::{Courier, Parts, Scheduler};
use waxseal::seal::Keyring;
use waxseal::suppress::List;
use waxseal::tenant::{Directory, Route};

/// Where tests begin: 1 January 2026.
pub const START: u64 = 1_767_225_600_000;
pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;
/// Longest wait for anything: only a test that has failed comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the courier does with an attempt.
#[derive(Clone, Debug)]
pub enum Plan {
    /// All open recipients get this code.
    All(u16),
    /// Each open recipient, by its local part's beginning, gets the code it names: `d` 250, `t` 451, `f` 550.
    Named,
    /// Nothing, until the gate opens; then 250.
    Gate,
    /// Nothing, until the gate opens; then this code.
    Late(u16),
    /// The first recipient gets 250, and then a panic.
    Panic,
}

/// An attempt as the courier saw it.
#[derive(Debug)]
pub struct Seen {
    pub id: Id,
    pub tenant: Arc<str>,
    pub destination: String,
    pub rcpts: usize,
    pub from_upstream: bool,
    pub message: Arc<Message>,
}

/// A courier that follows plans, the last of which repeats, and tells what it was asked to carry.
pub struct Script {
    plans: Mutex<VecDeque<Plan>>,
    /// Destinations that are stuck until the gate opens.
    pub slow: Mutex<Vec<String>>,
    pub gate: Semaphore,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Script {
    pub fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        *self.plans.lock().unwrap() = plans.into_iter().collect();
    }

    fn next(&self, job: &Job) -> Plan {
        if self.slow.lock().unwrap().iter().any(|slow| **slow == *job.leg.destination.0) {
            return Plan::Gate;
        }
        let mut plans = self.plans.lock().unwrap();
        if plans.len() > 1 { plans.pop_front().unwrap() } else { plans.front().unwrap().clone() }
    }

    async fn run(&self, job: &Job, witness: Witness<'_>) {
        let plan = self.next(job);
        witness.begins();
        let _ = self.seen.send(Seen {
            id: job.leg.id,
            tenant: Arc::clone(&job.tenant),
            destination: job.leg.destination.0.to_string(),
            rcpts: job.leg.rcpts.len(),
            from_upstream: matches!(&*job.route, Route::Upstream(_)),
            message: Arc::clone(&job.message),
        });
        let open = &job.leg.rcpts;
        match plan {
            Plan::All(code) => witness.decided(open.iter().map(|rcpt| decided(*rcpt, code)).collect()),
            Plan::Named => {
                // One at a time, as replies come.
                for rcpt in open {
                    let address = &job.message.facts.envelope.rcpts[usize::from(*rcpt)].address;
                    let code = match &address.local()[..1] {
                        "d" => 250,
                        "t" => 451,
                        "f" => 550,
                        // Notifications arrive.
                        _ => 250,
                    };
                    witness.decided(vec![decided(*rcpt, code)]);
                    tokio::task::yield_now().await;
                }
            }
            Plan::Gate | Plan::Late(_) => {
                self.gate.acquire().await.unwrap().forget();
                let code = if let Plan::Late(code) = plan { code } else { 250 };
                witness.decided(open.iter().map(|rcpt| decided(*rcpt, code)).collect());
            }
            Plan::Panic => {
                witness.decided(vec![decided(open[0], 250)]);
                panic!("a courier fell over");
            }
        }
    }
}

impl Courier for Script {
    fn attempt<'a>(
        &'a self,
        job: &'a Job,
        witness: Witness<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.run(job, witness))
    }
}

fn decided(rcpt: u16, code: u16) -> Decided {
    let (fate, enhanced, text) = match code {
        250 => (Fate::Delivered, Enhanced(2, 0, 0), "2.0.0 ok"),
        451 => (Fate::Deferred, Enhanced(4, 7, 1), "4.7.1 try later"),
        _ => (Fate::Failed, Enhanced(5, 1, 1), "5.1.1 no such user"),
    };
    let hop = Hop { route: "mx", host: Some("mx.example.test".to_owned()), ..Hop::default() };
    let reply = PeerReply { code, enhanced: Some(enhanced), text: text.into() };
    Decided { rcpt, fate, reply, hop, ms: Timings::default() }
}

/// A scheduler and what it stands on.
pub struct Rig {
    dir: tempfile::TempDir,
    pub hand: Arc<AtomicU64>,
    pub config: Arc<ArcSwap<Config>>,
    pub tenants: Arc<ArcSwap<Directory>>,
    pub keyring: Arc<ArcSwap<Keyring>>,
    pub script: Arc<Script>,
    seen: tokio::sync::Mutex<mpsc::UnboundedReceiver<Seen>>,
    pub store: Arc<dyn Store>,
    pub suppressions: Arc<List>,
    log: Arc<MailLog>,
    turns: Turns,
    scheduler: Option<Scheduler>,
    /// Something in the store may have changed.
    changed: Arc<Notify>,
}

impl Rig {
    /// Two tenants, the relay's key in place, failures told at once, nothing running yet.
    pub fn new(turns: Turns) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hand = Arc::new(AtomicU64::new(START));
        let clock = Clock::Set(Arc::clone(&hand));
        let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
        config.delivery.gather = Duration::ZERO;
        config.delivery.concurrency = turns.total;
        config.delivery.drain = PATIENCE;
        let keyring = keyring(dir.path());
        let (sender, seen) = mpsc::unbounded_channel();
        let script = Arc::new(Script {
            plans: Mutex::new([Plan::All(250)].into()),
            slow: Mutex::default(),
            gate: Semaphore::new(0),
            seen: sender,
        });
        let log = MailLog::open(&dir.path().join("mail.jsonl"), clock.clone()).unwrap();
        let changed = Arc::default();
        let store = open(dir.path(), &clock, turns, &changed);
        let directory = Directory::new([tenant("acme", &[]), tenant("blue", &["desk@help.test"])]);
        Self {
            hand,
            config: Arc::new(ArcSwap::from_pointee(config)),
            tenants: Arc::new(ArcSwap::from_pointee(directory)),
            keyring: Arc::new(ArcSwap::from_pointee(keyring)),
            script,
            seen: tokio::sync::Mutex::new(seen),
            suppressions: Arc::new(List::new(Arc::clone(&store), Arc::default())),
            store,
            log,
            turns,
            scheduler: None,
            changed,
            dir,
        }
    }

    /// Changes the configuration.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.config.load());
        change(&mut config);
        self.config.store(Arc::new(config));
    }

    pub fn parts(&self, courier: Arc<dyn Courier>) -> Parts {
        Parts {
            store: Arc::clone(&self.store),
            courier,
            config: Arc::clone(&self.config),
            tenants: Arc::clone(&self.tenants),
            keyring: Arc::clone(&self.keyring),
            outlook: unasked(&Clock::Set(Arc::clone(&self.hand))),
            suppressions: Arc::clone(&self.suppressions),
            log: Arc::clone(&self.log),
            metrics: Arc::new(Metrics::new()),
            clock: Clock::Set(Arc::clone(&self.hand)),
        }
    }

    pub fn start(&mut self) {
        let courier: Arc<dyn Courier> = Arc::clone(&self.script) as _;
        self.start_with(courier);
    }

    pub fn start_with(&mut self, courier: Arc<dyn Courier>) {
        self.scheduler = Some(Scheduler::start(self.parts(courier)));
    }

    pub fn scheduler(&self) -> &Scheduler {
        self.scheduler.as_ref().unwrap()
    }

    /// Lets time pass, and the scheduler see it.
    pub fn pass(&self, milliseconds: u64) {
        self.hand.fetch_add(milliseconds, Ordering::Relaxed);
        self.scheduler().nudge();
    }

    /// Moves to the machine's time: verifiers ask the machine whether a signature has expired.
    pub fn go_to_present(&self) {
        self.hand.store(Clock::System.now().0, Ordering::Relaxed);
    }

    pub fn now(&self) -> Time {
        Time(self.hand.load(Ordering::Relaxed))
    }

    /// Ends the scheduler; all that was decided is then durable.
    pub async fn drain(&mut self) {
        let scheduler = self.scheduler.take().unwrap();
        patiently(scheduler.drain()).await.unwrap();
    }

    /// Closes the store and opens it again, as a restart does.
    pub async fn restart(&mut self) {
        self.drain().await;
        self.restart_drained().await;
    }

    /// The same after a drain.
    pub async fn restart_drained(&mut self) {
        self.store.close().await.unwrap();
        self.store = Arc::new(Closed);
        self.suppressions = Arc::new(List::new(Arc::clone(&self.store), Arc::default()));
        self.store = self.open();
        self.suppressions = Arc::new(List::new(Arc::clone(&self.store), Arc::default()));
        self.start();
    }

    /// The same with another courier.
    pub async fn restart_with(&mut self, courier: Arc<dyn Courier>) {
        self.store.close().await.unwrap();
        self.store = Arc::new(Closed);
        self.store = self.open();
        self.start_with(courier);
    }

    fn open(&self) -> Arc<dyn Store> {
        open(self.dir.path(), &Clock::Set(Arc::clone(&self.hand)), self.turns, &self.changed)
    }

    /// Where the journal lies.
    pub fn spool(&self) -> PathBuf {
        self.dir.path().join("queue/spool")
    }

    /// From now on the disk is gone.
    pub fn fail_store(&mut self) {
        self.store = Arc::new(Closed);
        self.suppressions = Arc::new(List::new(Arc::clone(&self.store), Arc::default()));
    }

    /// The next attempt that the courier is asked for.
    pub async fn seen(&self) -> Seen {
        patiently(async { self.seen.lock().await.recv().await.unwrap() }).await
    }

    /// Waits for the next notification to be attempted.
    pub async fn notification(&self) -> Seen {
        loop {
            let seen = self.seen().await;
            if &*seen.tenant == "relay" {
                return seen;
            }
        }
    }

    /// What a deliverer needs beside its configuration: numbers of its own, and the rig's time.
    pub fn with_clock(&self) -> (Arc<Metrics>, Clock) {
        (Arc::default(), Clock::Set(Arc::clone(&self.hand)))
    }

    /// The mail log so far, a line each.
    pub fn log(&self) -> Vec<serde_json::Value> {
        self.log.flush();
        let text = std::fs::read_to_string(self.dir.path().join("mail.jsonl")).unwrap();
        events(&text).collect()
    }

    /// The log's lines of this type.
    pub fn logged(&self, kind: &str) -> Vec<serde_json::Value> {
        self.log().into_iter().filter(|line| line["type"] == kind).collect()
    }

    /// Puts a mail of this tenant into the queue, a leg for each domain.
    pub async fn accept(&self, tenant: &str, rcpts: &[&str]) -> Id {
        self.accept_with(tenant, rcpts, |_| ()).await
    }

    pub async fn accept_with(&self, tenant: &str, rcpts: &[&str], change: impl FnOnce(&mut Facts)) -> Id {
        let mut facts = facts(tenant, rcpts, self.now());
        change(&mut facts);
        let id = facts.id;
        let mut legs: Vec<(Destination, Vec<u16>)> = Vec::new();
        for (at, rcpt) in (0_u16..).zip(&facts.envelope.rcpts) {
            let destination = Destination(rcpt.address.domain().as_str().into());
            match legs.iter_mut().find(|(known, _)| *known == destination) {
                Some((_, rcpts)) => rcpts.push(at),
                None => legs.push((destination, vec![at])),
            }
        }
        let body = format!("From: noreply@{tenant}.test\r\nSubject: hello\r\n\r\nsecret {id}\r\n").into();
        let message = Arc::new(Message { facts, body });
        self.store.accept(Accept { message, legs, held: None, tells: Vec::new() }).await.unwrap();
        id
    }
}

/// The store of a rig that is between two stores.
struct Closed;

mod closed;
mod made;
mod wait;
pub mod watched;

use watched::Watched;

pub use made::{classes, facts, keyring, report, tenant};
pub use wait::patiently;

fn open(dir: &Path, clock: &Clock, turns: Turns, changed: &Arc<Notify>) -> Arc<dyn Store> {
    let options = Options {
        turns,
        window: 1000,
        body_cache: 1 << 20,
        index_cache: 1 << 20,
        read_memory: 64 << 20,
        index_slack: 0,
        disk_reserve: 0,
        clock: clock.clone(),
    };
    let store = Embedded::open(&dir.join("queue"), options).unwrap();
    Arc::new(Watched { store, changed: Arc::clone(changed) })
}
