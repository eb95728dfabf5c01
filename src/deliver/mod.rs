//! One attempt at delivering one leg: route → hosts → for each host converse → outcome. Never touches the store: it tells
//! its witness what was decided about each recipient, as soon as the reply that decides it has arrived.

pub mod body;
pub mod bounce;
pub mod conversation;
mod dial;
mod driver;
pub mod extensions;
pub mod guard;
mod hosts;
mod ledger;
pub mod opening;
pub mod outcome;
mod pool;
pub mod reach;
pub mod redact;
pub mod reply;
mod route;
mod tls;
mod transact;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use self::dial::Dialer;
use self::driver::Connection;
use self::guard::Guard;
use self::hosts::{Host, Hosts};
use self::ledger::{Ledger, millis};
use self::outcome::{Next, Trouble};
use self::pool::{Key, Pool};
use self::route::Access;
use self::tls::Tls;
use self::transact::Ended;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::Address;
use crate::mail::attempt::Decided;
use crate::mail::message::Message;
use crate::mail::time::Time;
use crate::metrics::{Metrics, ResultLabel};
use crate::queue::store::Leg;
use crate::tenant::Route;

/// What is to be attempted.
#[derive(Clone, Debug)]
pub struct Job {
    /// Facts and octets.
    pub message: Arc<Message>,
    /// The recipients still open.
    pub leg: Leg,
    /// How the tenant's mail leaves; `Route::Mx` for the relay's own.
    pub route: Arc<Route>,
    /// Whose connections may be used.
    pub tenant: Arc<str>,
    /// The time now.
    pub started: Time,
}

/// Who hears of every recipient's fate, once, as soon as it is decided.
pub type Witness<'a> = &'a mut (dyn FnMut(Vec<Decided>) + Send);

/// Delivers legs, and keeps connections between them.
pub struct Deliverer {
    resolver: Resolver,
    tls: Tls,
    pool: Arc<Pool>,
    settings: ArcSwap<Settings>,
    metrics: Arc<Metrics>,
}

/// What the configuration says about attempts.
struct Settings {
    hostname: String,
    guard: Guard,
    /// Exchangers' port.
    port: u16,
    sources: Vec<IpAddr>,
    idle: Duration,
    connect: Duration,
    command: Duration,
    data_init: Duration,
    data_block: Duration,
    data_done: Duration,
}

impl Settings {
    fn new(config: &Config, own: Vec<SocketAddr>) -> Self {
        let delivery = &config.delivery;
        Self {
            hostname: config.hostname.as_str().to_owned(),
            guard: Guard::new(delivery, own),
            port: delivery.port,
            sources: delivery.sources.clone(),
            idle: delivery.idle,
            connect: delivery.connect_timeout,
            command: delivery.command_timeout,
            data_init: delivery.data_init_timeout,
            data_block: delivery.data_block_timeout,
            data_done: delivery.data_done_timeout,
        }
    }
}

impl Deliverer {
    /// Makes the deliverer; reads the system's root certificates. `own` are the addresses that we listen on ourselves.
    #[must_use]
    pub fn new(config: &Config, resolver: Resolver, own: Vec<SocketAddr>, metrics: Arc<Metrics>) -> Self {
        let settings = ArcSwap::from_pointee(Settings::new(config, own));
        Self { resolver, tls: Tls::new(), pool: Arc::default(), settings, metrics }
    }

    /// Takes over a reloaded configuration; attempts under way keep the old one.
    pub fn reconfigure(&self, config: &Config, own: Vec<SocketAddr>) {
        self.settings.store(Arc::new(Settings::new(config, own)));
    }

    /// Attempts the leg. Every open recipient is decided exactly once through `witness` before this returns. Dropping the
    /// future leaves the undecided undecided.
    pub async fn attempt(&self, job: &Job, witness: Witness<'_>) {
        let settings = self.settings.load_full();
        let attempt = Attempt {
            deliverer: self,
            settings: &settings,
            job,
            access: Access::new(&job.route, &job.tenant),
        };
        let route = match &*job.route {
            Route::Mx => "mx",
            Route::Upstream(_) => "upstream",
        };
        let mut ledger = Ledger::new(job, route, witness);
        if let Err(trouble) = Box::pin(attempt.run(&mut ledger)).await {
            ledger.close(&trouble);
        }
    }

    /// Says QUIT on every kept connection and closes it; waits at most two seconds.
    pub async fn close_idle(&self) {
        self.pool.close().await;
    }
}

/// One attempt under way.
struct Attempt<'a> {
    deliverer: &'a Deliverer,
    settings: &'a Settings,
    job: &'a Job,
    access: Access,
}

impl Attempt<'_> {
    /// The story: hosts, best first, until nobody is left undecided. The error is what all those left share.
    async fn run(&self, ledger: &mut Ledger<'_>) -> Result<(), Trouble> {
        let began = Instant::now();
        let hosts = self.hosts().await;
        ledger.ms.dns = Some(millis(began.elapsed()));
        let mut hosts = hosts?;
        let mut last = None;
        while let Some(host) = hosts.next().await {
            ledger.at(&host);
            match self.converse(&host, ledger).await {
                Ok(()) => return Ok(()),
                Err(trouble) if trouble.next() == Next::AnotherHost => last = Some(trouble),
                Err(trouble) => return Err(trouble),
            }
        }
        Err(last.unwrap_or_else(|| hosts.verdict()))
    }

    async fn hosts(&self) -> Result<Hosts<'_>, Trouble> {
        let (resolver, guard) = (&self.deliverer.resolver, &self.settings.guard);
        match &*self.job.route {
            Route::Upstream(upstream) => {
                Ok(Hosts::of_upstream(resolver, guard, &upstream.host, upstream.port))
            }
            Route::Mx => match self.first_recipient() {
                Some(address) => {
                    Hosts::of_domain(resolver, guard, address.domain(), self.settings.port).await
                }
                None => Err(Trouble::unaddressed()),
            },
        }
    }

    /// All recipients of a leg share a destination; the first one's domain is everybody's.
    fn first_recipient(&self) -> Option<&Address> {
        let rcpt = self.job.leg.rcpts.first()?;
        self.job.message.facts.envelope.rcpts.get(usize::from(*rcpt)).map(|recipient| &recipient.address)
    }

    /// Over kept connections as long as there are any and they are still there, else over a new one.
    async fn converse(&self, host: &Host, ledger: &mut Ledger<'_>) -> Result<(), Trouble> {
        let key = self.access.key(host);
        while let Some(connection) = self.deliverer.pool.take(&key) {
            match self.transact(connection, &key, ledger).await {
                Ended::Stale => {}
                Ended::Done => {
                    self.count("reused");
                    return Ok(());
                }
                Ended::Trouble(trouble) => {
                    self.count("reused");
                    return Err(trouble);
                }
            }
        }
        let dialer = Dialer { settings: self.settings, tls: &self.deliverer.tls, access: &self.access };
        let opened = dialer.open(host, ledger).await;
        self.count(if opened.is_ok() { "opened" } else { "failed" });
        let connection = opened?;
        match self.transact(connection, &key, ledger).await {
            Ended::Done => Ok(()),
            Ended::Trouble(trouble) => Err(trouble),
            Ended::Stale => Err(Trouble::hung_up()),
        }
    }

    fn count(&self, result: &'static str) {
        self.deliverer.metrics.hops.get_or_create(&ResultLabel { result }).inc();
    }

    /// Keeps the connection for the next message.
    fn keep(&self, connection: Connection, key: &Key) {
        self.deliverer.pool.keep(key.clone(), connection, self.settings.idle);
    }
}
