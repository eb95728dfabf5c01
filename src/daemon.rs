//! Builds every part from `Config` and joins them. The only file that knows all the others.
//!
//! Start: configuration and keys are read before anything is touched; then mail log, store (with the lock on
//! the state directory), sockets, scheduler, admin API, and last the listeners accept. End: the listeners stop, what is in flight finishes or stays queued, the store
//! closes. When the store fails everything ends at once, because nothing it says is certain any more; the next start recovers.

mod keys;
mod memos;
mod open;
mod policies;
mod probe;
mod release;
mod reload;
mod reports;
mod steer;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::open::{Files, Opened, Page};
use self::watch::Watch;
use crate::admit::Admit;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::control::{self, Doors, Reloaded};
use crate::deliver::Deliverer;
use crate::dns::{Resolver, SetupError};
use crate::inbound::Inbound;
use crate::listen::certs::{BadCertificate, Certificates};
use crate::listen::{self, Listeners};
use crate::mail::return_path::Secret;
use crate::mail::time::Time;
use crate::maillog::MailLog;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::queue::embedded::OpenError;
use crate::queue::store::{Store, StoreError};
use crate::schedule::Scheduler;
use crate::seal::{KeyError, Keyring};
use crate::session::{self, Waits};
use crate::suppress::List;
use crate::tenant::Tenants;
use crate::tenant::auth::Gate;
use crate::unsubscribe;

/// Longest wait for the admin API's last answers.
const CONTROL_END: Duration = Duration::from_secs(2);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file says what cannot be: nothing was touched.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A DKIM key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A listener's certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// rustls refuses the certificates.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system's resolver configuration cannot be read.
    #[error(transparent)]
    Dns(#[from] SetupError),
    /// The queue cannot be opened.
    #[error("the queue: {0}")]
    Queue(#[from] OpenError),
    /// A file or socket.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

impl StartError {
    /// Whether a file must be changed before a start can succeed.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self, Self::Config(_) | Self::Key(_) | Self::Certificate(_) | Self::Tls(_) | Self::Dns(_))
    }

    fn io(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |error| Self::Io(what, error)
    }
}

/// A running relay.
pub struct Daemon {
    house: Arc<House>,
    accepting: JoinHandle<()>,
    answering: JoinHandle<()>,
    watching: JoinHandle<()>,
    remembering: JoinHandle<()>,
    reporting: JoinHandle<()>,
}

/// The parts that are alive together; a reload changes what the swaps hold.
struct House {
    config: Arc<ArcSwap<Config>>,
    tenants: Arc<Tenants>,
    keyring: Arc<ArcSwap<Keyring>>,
    certificates: Option<Arc<Certificates>>,
    gate: Arc<Gate>,
    resolver: Resolver,
    deliverer: Arc<Deliverer>,
    scheduler: Scheduler,
    watch: Arc<Watch>,
    store: Arc<dyn Store>,
    suppressions: Arc<List>,
    log: Arc<MailLog>,
    secret: Arc<Secret>,
    admit: Arc<Admit>,
    inbound: Arc<Inbound>,
    metrics: Arc<Metrics>,
    clock: Clock,
    bound: Bound,
    phase: Phase,
    reloading: tokio::sync::Mutex<()>,
    reload_error: Mutex<Option<String>>,
    last_look: steer::LastLook,
}

/// Where it can be reached.
struct Bound {
    listeners: Vec<SocketAddr>,
    /// Those that a message of ours must never be sent to.
    own: Vec<SocketAddr>,
    http: Option<SocketAddr>,
    unsubscribe: Option<SocketAddr>,
    started: Time,
    /// Whether the configuration came from a file that a reload reads again.
    from_file: bool,
}

/// How far its life has gone.
#[derive(Default)]
struct Phase {
    /// Somebody asked for the end.
    asked: CancellationToken,
    /// The listeners stop.
    accept: CancellationToken,
    /// The admin API stops.
    answer: CancellationToken,
}

impl Daemon {
    /// Starts a relay by the machine's clock; when this answers, every listener accepts.
    ///
    /// # Errors
    /// What stands in the way, for one line on standard error.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_at(config, Clock::System).await
    }

    /// Starts a relay by this clock.
    ///
    /// # Errors
    /// What stands in the way, for one line on standard error.
    pub async fn start_at(config: Config, clock: Clock) -> Result<Self, StartError> {
        let mut files = Files::read(&config)?;
        let listeners = Listeners::bind(&config.listeners).map_err(StartError::io("listener"))?;
        let opened = Opened::open(&config, clock).await?;
        files.resolver = files.resolver.counted(&opened.metrics);
        let doors = Doors::bind(&config.admin).await.map_err(StartError::io("admin"))?;
        let page = Box::pin(open::page(&config, &files, &opened)).await?;
        let daemon = Box::pin(join(config, files, opened, (listeners, doors, page))).await;
        let tenants = daemon.house.tenants.load_full();
        daemon.house.deliverer.tidy_tokens(&tenants, daemon.house.clock.now()).await;
        Ok(daemon)
    }

    /// Where it listens for mail, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.house.bound.listeners.clone()
    }

    /// Where it serves metrics and health by TCP.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.house.bound.http
    }

    /// Where readers unsubscribe.
    #[must_use]
    pub fn unsubscribe(&self) -> Option<SocketAddr> {
        self.house.bound.unsubscribe
    }

    /// The mail log.
    #[must_use]
    pub fn log(&self) -> &Arc<MailLog> {
        &self.house.log
    }

    /// The queue.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.house.store
    }

    /// The numbers.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.house.metrics
    }

    /// Has a look at the queue at once; for tests that turned the clock.
    pub fn nudge(&self) {
        self.house.scheduler.nudge();
    }

    /// Reports the TLS of days that are over at once; for tests that turned the clock.
    pub async fn report_tls(&self) {
        self.house.reports().report(self.house.clock.now()).await;
    }

    /// Takes over changed files: configuration, tenants, keys, certificates; opens the mail log again. Answers which
    /// changed settings need a restart.
    ///
    /// # Errors
    /// What is wrong with which file; everything then stays as it was.
    pub async fn reload(&self) -> Result<Reloaded, String> {
        self.house.reload().await
    }

    /// Resolves when somebody asked over the admin API that it end.
    pub async fn drain_asked(&self) {
        self.house.phase.asked.cancelled().await;
    }

    /// Resolves when the store has failed: the process must end with a code that is not 0.
    pub async fn failed(&self) -> StoreError {
        tokio::select! {
            error = self.house.store.failed() => error,
            error = self.house.scheduler.failed() => error,
        }
    }

    /// Ends: no new connections, sessions end between two commands, attempts in flight get `delivery.drain`, the rest stays
    /// queued, the store closes.
    ///
    /// # Errors
    /// The store failed, now or before.
    pub async fn drain(self) -> Result<(), StoreError> {
        let Self { house, accepting, answering, watching, remembering, reporting } = self;
        house.phase.asked.cancel();
        house.phase.accept.cancel();
        let (sessions, scheduled) = tokio::join!(accepting, house.scheduler.drain());
        if let Err(error) = sessions {
            tracing::error!(%error, "the listeners ended badly");
        }
        house.deliverer.close_idle().await;
        watching.abort();
        // It ends with the listeners, and writes down what it still has.
        let _ = remembering.await;
        reporting.abort();
        let closed = house.store.close().await;
        house.phase.answer.cancel();
        if tokio::time::timeout(CONTROL_END, answering).await.is_err() {
            tracing::warn!("the admin API was still answering");
        }
        let log = Arc::clone(&house.log);
        // The writer's last lines go to disk on a thread that may wait.
        let _ = tokio::task::spawn_blocking(move || log.close()).await;
        scheduled.and(closed)
    }
}

/// Joins the parts and lets them run: the scheduler at once, the listeners when DNS has been asked about every From domain.
async fn join(
    config: Config,
    files: Files,
    opened: Opened,
    sockets: (Listeners, Doors, Option<Page>),
) -> Daemon {
    let (listeners, doors, page) = sockets;
    let bound = Bound {
        listeners: listeners.addresses(),
        own: listeners.submission(),
        http: doors.http(),
        unsubscribe: page.as_ref().and_then(|(door, _)| door.address()),
        started: opened.clock.now(),
        from_file: config.file.is_file(),
    };
    let deliverer = Arc::new(Deliverer::new(
        &config,
        files.resolver.clone(),
        bound.own.clone(),
        (Arc::clone(&opened.metrics), opened.clock.clone()),
    ));
    let config = Arc::new(ArcSwap::from_pointee(config));
    let watch = Watch::new(&config, &files, &opened);
    let (admit, inbound) = open::rooms(&config, &files, &opened, &watch.outlook);
    let memory = policies::Memory::new(&deliverer, &opened.store, &opened.clock);
    Box::pin(memory.first()).await;
    let scheduler = open::scheduler(&config, &files, &opened, &watch.outlook, Arc::clone(&deliverer));
    watch.first().await;
    let Opened { log, secret, control: _, links: _, store, suppressions, metrics, clock } = opened;
    let gate = Arc::new(Gate::new(Arc::clone(&files.tenants)));
    let house = Arc::new(House {
        config,
        tenants: files.tenants,
        keyring: files.keyring,
        certificates: files.certificates,
        gate,
        resolver: files.resolver,
        deliverer,
        scheduler,
        watch,
        store,
        suppressions,
        log,
        secret,
        admit,
        inbound,
        metrics,
        clock,
        bound,
        phase: Phase::default(),
        reloading: tokio::sync::Mutex::default(),
        reload_error: Mutex::default(),
        last_look: steer::LastLook::default(),
    });
    if let Some((door, parts)) = page {
        tokio::spawn(unsubscribe::serve(door, parts, house.phase.accept.clone()));
    }
    let accepting =
        tokio::spawn(listen::serve(listeners, house.session(files.tls), house.phase.accept.clone()));
    let answering = tokio::spawn(control::serve(doors, house.control(), house.phase.answer.clone()));
    let watching = tokio::spawn(Arc::clone(&house.watch).run(house.phase.accept.clone()));
    let remembering = tokio::spawn(memory.run(house.phase.accept.clone()));
    let reporting = tokio::spawn(house.reports().run(house.phase.accept.clone()));
    Daemon { house, accepting, answering, watching, remembering, reporting }
}

impl House {
    /// What every session uses.
    fn session(&self, tls: Option<Arc<rustls::ServerConfig>>) -> Arc<session::Shared> {
        Arc::new(session::Shared {
            config: Arc::clone(&self.config),
            tenants: Arc::clone(&self.tenants),
            gate: Arc::clone(&self.gate),
            meter: Arc::default(),
            admit: Arc::clone(&self.admit),
            inbound: Arc::clone(&self.inbound),
            store: Arc::clone(&self.store),
            memory: Arc::new(Budget::new(self.metrics.body_memory.clone())),
            log: Arc::clone(&self.log),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
            tls,
            waits: Waits::default(),
        })
    }

    /// What tells domains how their TLS works.
    fn reports(&self) -> reports::Reports {
        reports::Reports {
            deliverer: Arc::clone(&self.deliverer),
            config: Arc::clone(&self.config),
            keyring: Arc::clone(&self.keyring),
            store: Arc::clone(&self.store),
            log: Arc::clone(&self.log),
            clock: self.clock.clone(),
        }
    }

    /// What the admin API works on.
    fn control(self: &Arc<Self>) -> Arc<control::State> {
        Arc::new(control::State {
            store: Arc::clone(&self.store),
            tenants: Arc::clone(&self.tenants),
            suppressions: Arc::clone(&self.suppressions),
            log: Arc::clone(&self.log),
            metrics: Arc::clone(&self.metrics),
            clock: self.clock.clone(),
            steer: Arc::clone(self) as Arc<dyn control::Steer>,
        })
    }

    fn last_reload_error(&self) -> Option<String> {
        self.reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
