//! What a daemon is made of before its parts are joined: what files say, and what the state directory holds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::StartError;
use crate::admit::classify::ControlKey;
use crate::admit::{self, Admit};
use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::Deliverer;
use crate::dns::Resolver;
use crate::fsx;
use crate::inbound::{self, Inbound};
use crate::listen::certs::Certificates;
use crate::mail::return_path::Secret;
use crate::maillog::MailLog;
use crate::metrics::Metrics;
use crate::queue::embedded::{Embedded, Options};
use crate::queue::store::{Store, Turns};
use crate::schedule::{self, Scheduler};
use crate::seal::Keyring;
use crate::seal::outlook::Outlook;
use crate::suppress::{Links, List};
use crate::tenant::{self, Tenants};
use crate::unsubscribe;

/// What is read from files, before anything is touched.
pub(super) struct Files {
    pub(super) tenants: Arc<Tenants>,
    pub(super) keyring: Arc<ArcSwap<Keyring>>,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) resolver: Resolver,
}

/// What is opened below the state directory.
pub(super) struct Opened {
    pub(super) log: Arc<MailLog>,
    pub(super) secret: Arc<Secret>,
    pub(super) control: ControlKey,
    pub(super) store: Arc<dyn Store>,
    pub(super) suppressions: Arc<List>,
    pub(super) links: Links,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

impl Files {
    /// Reads and checks them.
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let directory = tenant::load(config)?;
        let keyring = Keyring::load(&config.keys)?;
        warn_of_keys(&keyring, config);
        let certificates = config.tls.as_ref().map(Certificates::load).transpose()?;
        let tls = certificates.as_ref().map(Certificates::server_config).transpose()?;
        Ok(Self {
            tenants: Arc::new(Tenants::from_pointee(directory)),
            keyring: Arc::new(ArcSwap::from_pointee(keyring)),
            certificates,
            tls,
            resolver: Resolver::new(&config.dns)?,
        })
    }
}

/// Says at a start and at a reload what is not a mistake, and yet keeps mail from leaving.
pub(super) fn warn_of_keys(keyring: &Keyring, config: &Config) {
    if let Some(warning) = keyring.without_seal(&config.relay.domain) {
        tracing::warn!("{warning}");
    }
}

impl Opened {
    /// Opens it; the store locks the directory.
    pub(super) async fn open(config: &Config, clock: Clock) -> Result<Self, StartError> {
        fsx::create_dir(&config.state).map_err(StartError::io(config.state.display()))?;
        let metrics = Arc::new(Metrics::new());
        metrics.started.set(Duration::from_millis(clock.now().0).as_secs_f64());
        let log = MailLog::open_with(&config.log.path, clock.clone(), Arc::clone(&metrics))
            .map_err(StartError::io(config.log.path.display()))?;
        let (dir, options) = (config.state.clone(), options(config, clock.clone()));
        let opening = tokio::task::spawn_blocking(move || Embedded::open(&dir, options)).await;
        let store =
            opening.map_err(|error| StartError::Io("the queue".into(), io::Error::other(error)))??;
        let store: Arc<dyn Store> = store;
        let suppressions = Arc::new(List::new(Arc::clone(&store), Arc::clone(&metrics)));
        let path = config.bounce_secret();
        let octets = fsx::secret(&path).map_err(StartError::io(path.display()))?;
        let control =
            ControlKey::open(&config.state).map_err(StartError::io("the key of control addresses"))?;
        let secret = Arc::new(Secret::new(&octets));
        let links =
            Links::open(&config.state).map_err(StartError::io("the key of links to unsubscribe by"))?;
        Ok(Self { log, secret, control, store, suppressions, links, metrics, clock })
    }
}

/// Octets that a large day may leave behind in the index's files: as much as a segment of the journal.
const INDEX_SLACK: u64 = 64 << 20;

fn options(config: &Config, clock: Clock) -> Options {
    Options {
        turns: Turns {
            per_destination: config.delivery.concurrency_per_destination,
            total: config.delivery.concurrency,
        },
        window: config.queue.window,
        body_cache: config.queue.body_cache,
        read_memory: config.queue.read_memory,
        index_cache: config.queue.index_cache,
        index_slack: INDEX_SLACK,
        disk_reserve: config.queue.disk_reserve,
        clock,
    }
}

/// Where mail is taken, by the front door and by the one for what comes back.
pub(super) fn rooms(
    config: &Arc<ArcSwap<Config>>,
    files: &Files,
    opened: &Opened,
    outlook: &Arc<Outlook>,
) -> (Arc<Admit>, Arc<Inbound>) {
    let admit = Admit::new(admit::Parts {
        config: Arc::clone(config),
        tenants: Arc::clone(&files.tenants),
        store: Arc::clone(&opened.store),
        keyring: Arc::clone(&files.keyring),
        outlook: Arc::clone(outlook),
        resolver: files.resolver.clone(),
        log: Arc::clone(&opened.log),
        metrics: Arc::clone(&opened.metrics),
        secret: Arc::clone(&opened.secret),
        clock: opened.clock.clone(),
        control: opened.control.clone(),
        links: opened.links.clone(),
    });
    let inbound = Inbound::new(inbound::Parts {
        config: Arc::clone(config),
        tenants: Arc::clone(&files.tenants),
        store: Arc::clone(&opened.store),
        keyring: Arc::clone(&files.keyring),
        log: Arc::clone(&opened.log),
        suppressions: Arc::clone(&opened.suppressions),
        secret: Arc::clone(&opened.secret),
        clock: opened.clock.clone(),
    });
    (Arc::new(admit), Arc::new(inbound))
}

/// What carries mail on, running.
pub(super) fn scheduler(
    config: &Arc<ArcSwap<Config>>,
    files: &Files,
    opened: &Opened,
    outlook: &Arc<Outlook>,
    courier: Arc<Deliverer>,
) -> Scheduler {
    Scheduler::start(schedule::Parts {
        store: Arc::clone(&opened.store),
        courier,
        config: Arc::clone(config),
        tenants: Arc::clone(&files.tenants),
        keyring: Arc::clone(&files.keyring),
        outlook: Arc::clone(outlook),
        suppressions: Arc::clone(&opened.suppressions),
        log: Arc::clone(&opened.log),
        metrics: Arc::clone(&opened.metrics),
        clock: opened.clock.clone(),
    })
}

/// Where readers unsubscribe, and what that works on.
pub(super) type Page = (unsubscribe::Door, Arc<unsubscribe::Parts>);

/// Binds it, where the configuration has one.
pub(super) async fn page(
    config: &Config,
    files: &Files,
    opened: &Opened,
) -> Result<Option<Page>, StartError> {
    let Some(setting) = &config.unsubscribe else { return Ok(None) };
    let door = unsubscribe::Door::bind(setting, files.tls.clone()).await;
    let parts = unsubscribe::Parts {
        tenants: Arc::clone(&files.tenants),
        suppressions: Arc::clone(&opened.suppressions),
        links: opened.links.clone(),
        log: Arc::clone(&opened.log),
        clock: opened.clock.clone(),
    };
    Ok(Some((door.map_err(StartError::io("unsubscribe"))?, Arc::new(parts))))
}
