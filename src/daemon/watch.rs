//! The daemon's watch over From domains: asks DNS again when what it said runs out, moves keys along, says when a domain's
//! health changes, and releases what was held for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::open::{Files, Opened};
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::maillog::{HealthChange, MailLog};
use crate::metrics::{HealthLabel, Metrics};
use crate::queue::store::{Action, Cause, Entry, Filter, Memo, StateName, Store, StoreError};
use crate::seal::Keyring;
use crate::seal::check::{self, Report};
use crate::seal::enforce::Ruling;
use crate::seal::facts::Picture;
use crate::seal::judge::{Believed, Verdict};
use crate::seal::outlook::{Force, Health, Outlook, names};
use crate::seal::refusal::hold_reason;
use crate::seal::survey::Wanted;
use crate::seal::volume::{Count, Provider};
use crate::tenant::{OwnedDomain, Tenant, Tenants};

/// Longest wait for DNS at a start, before the listeners accept (contract: 10 s).
const FIRST: Duration = Duration::from_secs(10);
/// Longest wait for what was known before the restart, while the index is being rebuilt.
const RECALL: Duration = Duration::from_secs(3);
/// How soon to ask again while the index is being rebuilt.
const REBUILDING: Duration = Duration::from_millis(50);
/// Names asked about at once.
const AT_ONCE: usize = 32;
/// The longest sleep: a clock that was set shows within a minute, and so does a name that DNS was silent about.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The shortest: many names that run out together are asked about together.
const BREATH: Duration = Duration::from_secs(1);
/// How often held mail is looked through although nothing changed: what was held in the moment of a change is not forgotten.
const RELEASE: Duration = Duration::from_secs(5 * 60);
/// The health of a domain that nobody judges, in the metrics.
const UNJUDGED: &str = "unjudged";
/// Where pictures are remembered.
const FACTS: &str = "seal/facts/";
/// Where the health of domains is.
const HEALTH: &str = "seal/health/";
/// Where counts of what went to providers are: `gmail/acme.com`.
const VOLUME: &str = "seal/volume/";

/// What it works with.
pub(super) struct Watch {
    pub(super) outlook: Arc<Outlook>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) tenants: Arc<Tenants>,
    pub(super) keyring: Arc<ArcSwap<Keyring>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<MailLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    /// Files changed: look at what is new.
    pub(super) changed: Notify,
    /// When held mail was last looked through, by the wall.
    pub(super) released: AtomicU64,
    /// What was known before the restart has been taken in.
    pub(super) recalled: AtomicBool,
}

impl Watch {
    /// Knows nothing yet.
    pub(super) fn new(config: &Arc<ArcSwap<Config>>, files: &Files, opened: &Opened) -> Arc<Self> {
        Arc::new(Self {
            outlook: Arc::new(Outlook::new(files.resolver.clone(), opened.clock.clone())),
            config: Arc::clone(config),
            tenants: Arc::clone(&files.tenants),
            keyring: Arc::clone(&files.keyring),
            store: Arc::clone(&opened.store),
            log: Arc::clone(&opened.log),
            metrics: Arc::clone(&opened.metrics),
            clock: opened.clock.clone(),
            changed: Notify::new(),
            released: AtomicU64::new(0),
            recalled: AtomicBool::new(false),
        })
    }

    /// Before the listeners accept: what was known, and then what DNS says now, as far as it says it in time.
    pub(super) async fn first(&self) {
        if self.names().is_empty() {
            return self.follow(true).await;
        }
        if tokio::time::timeout(RECALL, self.recall_soon()).await.is_err() {
            tracing::warn!("the facts of DNS from before the restart are not at hand yet");
        }
        if tokio::time::timeout(FIRST, self.look(self.names())).await.is_err() {
            tracing::warn!("DNS did not answer for every From domain in time; last known facts count");
        }
        self.follow(true).await;
    }

    /// Runs until stopped.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let sleep = self.sleep();
            let news = tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => true,
                () = self.outlook.asked() => false,
                () = tokio::time::sleep(sleep) => false,
            };
            let looking = async {
                if let Err(error) = self.recall().await {
                    tracing::debug!(%error, "what was known before the restart is not at hand yet");
                }
                if news {
                    self.forget().await;
                }
                let changed = self.look(self.due()).await;
                self.follow(news || changed).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = looking => {}
            }
        }
    }

    /// Asks DNS about one From domain now, takes over what it says, and reports.
    pub(super) async fn check(&self, tenant: &Arc<Tenant>, own: &OwnedDomain) -> Report {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let pictures = check::look(&self.outlook, own, force).await;
        self.keep(&pictures).await;
        self.follow(true).await;
        let keyring = self.keyring.load_full();
        let force = Force { config: &config, keyring: &keyring };
        let report = check::report(&self.outlook, tenant, own, force);
        let more = check::beyond(&self.outlook, tenant, own, force, report.policy).await;
        report.with(more)
    }

    /// What is known of every From domain, by name.
    pub(super) fn reports(&self) -> Vec<Report> {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let directory = self.tenants.load_full();
        let owned =
            directory.tenants().flat_map(|tenant| tenant.domains.iter().map(move |own| (tenant, own)));
        let mut reports: Vec<_> =
            owned.map(|(tenant, own)| check::report(&self.outlook, tenant, own, force)).collect();
        reports.sort_by(|one, other| one.domain.cmp(&other.domain));
        reports
    }

    fn names(&self) -> Vec<Wanted> {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        names(&self.tenants.load(), force, &self.outlook.below())
    }

    /// After a reload: what is nobody's any more is forgotten.
    async fn forget(&self) {
        let gone = self.outlook.keep_only(&self.names());
        let memo = |name: &Domain| Memo { key: format!("{FACTS}{name}"), value: None };
        self.remember(gone.iter().map(memo).collect()).await;
    }

    /// The names whose facts have run out, or that miss something.
    fn due(&self) -> Vec<Wanted> {
        let now = self.clock.now();
        let mut names = self.names();
        names.retain(|wanted| self.until(wanted).is_none_or(|until| until <= now));
        names
    }

    /// Until when all is known of a name; `None`: something is not.
    fn until(&self, wanted: &Wanted) -> Option<Time> {
        let picture = self.outlook.picture(&wanted.domain)?;
        let all = wanted.selectors.iter().all(|selector| picture.keys.contains_key(selector));
        picture.until().filter(|_| all)
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let next = self.names().iter().filter_map(|wanted| self.until(wanted)).min();
        next.map_or(HEARTBEAT, |next| next.since(now).clamp(BREATH, HEARTBEAT))
    }

    /// Asks about these names. Answers whether DNS says anything new.
    async fn look(&self, mut names: Vec<Wanted>) -> bool {
        let mut looks = JoinSet::new();
        let mut changed = Vec::new();
        while !names.is_empty() || !looks.is_empty() {
            while looks.len() < AT_ONCE
                && let Some(wanted) = names.pop()
            {
                let outlook = Arc::clone(&self.outlook);
                looks.spawn(async move { Box::pin(outlook.look(&wanted)).await });
            }
            if let Some(Ok(looked)) = looks.join_next().await
                && looked.changed
            {
                changed.push(looked.picture);
            }
        }
        self.keep(&changed).await;
        !changed.is_empty()
    }

    /// Remembers pictures over a restart.
    async fn keep(&self, pictures: &[Arc<Picture>]) {
        let memo = |picture: &Arc<Picture>| {
            let value = serde_json::to_vec(&**picture).ok()?;
            Some(Memo { key: format!("{FACTS}{}", picture.domain), value: Some(value) })
        };
        self.remember(pictures.iter().filter_map(memo).collect()).await;
    }

    async fn remember(&self, memos: Vec<Memo>) {
        if memos.is_empty() || !self.recalled.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.store.remember(memos).await {
            tracing::warn!(%error, "what DNS says is not remembered over a restart");
        }
    }

    /// Takes what was known before the restart, once the index has it. Until then nothing is written over it.
    async fn recall(&self) -> Result<(), StoreError> {
        if self.recalled.load(Ordering::Acquire) {
            return Ok(());
        }
        let pictures = self.remembered::<Picture>(FACTS).await?;
        let health = self.remembered::<Health>(HEALTH).await?;
        self.outlook.recall(pictures.into_iter().map(|(_, picture)| picture));
        for (name, count) in self.remembered::<Count>(VOLUME).await? {
            if let Some((provider, organization)) = name.split_once('/')
                && let Some(provider) = Provider::named(provider)
            {
                self.outlook.volumes.recall(organization.to_owned(), provider, count);
            }
        }
        for (name, health) in health {
            if let Ok(domain) = name.parse() {
                self.outlook.recall_health(domain, health);
            }
        }
        self.recalled.store(true, Ordering::Release);
        Ok(())
    }

    /// Waits for the index, if it is being rebuilt.
    async fn recall_soon(&self) {
        while let Err(error) = self.recall().await {
            if !matches!(error, StoreError::Rebuilding) {
                tracing::warn!(%error, "what DNS said before the restart cannot be read");
                return;
            }
            tokio::time::sleep(REBUILDING).await;
        }
    }

    /// What was remembered below this prefix, as far as it can be read.
    async fn remembered<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let found = self.store.recall(prefix.to_owned()).await?;
        let read = |(key, value): (String, Vec<u8>)| {
            let name = key.strip_prefix(prefix)?.to_owned();
            Some((name, serde_json::from_slice(&value).ok()?))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// Draws the consequences of what is known now; `news` if something changed.
    async fn follow(&self, news: bool) {
        self.move_keys().await;
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let directory = self.tenants.load_full();
        let (mut memos, mut counts, mut good) = (Vec::new(), BTreeMap::new(), Vec::new());
        for tenant in directory.tenants() {
            for own in &tenant.domains {
                let ruled = self.outlook.rule(&check::usual(tenant, own), force);
                let health = if ruled.ruling == Ruling::SendUnjudged {
                    UNJUDGED
                } else {
                    memos.extend(self.note(tenant, own, &ruled.verdict));
                    name(ruled.verdict.dmarc)
                };
                *counts.entry(health).or_insert(0) += 1;
                if matches!(ruled.ruling, Ruling::Send | Ruling::SendUnjudged) {
                    good.push(own.name.clone());
                }
            }
        }
        self.count(&counts);
        memos.extend(self.volumes());
        self.remember(memos).await;
        if self.may_release(news) {
            self.release(&good).await;
        }
    }

    fn count(&self, counts: &BTreeMap<&'static str, i64>) {
        for health in ["both", "dkim_only", "spf_only", "fail", "unknown", UNJUDGED] {
            let count = counts.get(health).copied().unwrap_or(0);
            self.metrics.domains.get_or_create(&HealthLabel { health }).set(count);
        }
    }

    /// Counts that changed since they were last remembered.
    fn volumes(&self) -> Vec<Memo> {
        let memo = |(organization, provider, count): (String, Provider, Count)| {
            let key = format!("{VOLUME}{}/{organization}", provider.name());
            Some(Memo { key, value: Some(serde_json::to_vec(&count).ok()?) })
        };
        self.outlook.volumes.fresh().into_iter().filter_map(memo).collect()
    }

    /// Going through the whole queue is dear: it is done when something changed, and now and then besides.
    fn may_release(&self, news: bool) -> bool {
        let now = self.clock.now();
        let ago = now.since(Time(self.released.load(Ordering::Relaxed)));
        let due = news || ago >= RELEASE;
        if due {
            self.released.store(now.0, Ordering::Relaxed);
        }
        due
    }

    /// Takes note of a domain's health; says so if it changed.
    fn note(&self, tenant: &Tenant, own: &OwnedDomain, verdict: &Verdict) -> Option<Memo> {
        let before = self.outlook.note(&own.name, verdict.dmarc)?;
        let reason = if verdict.dmarc.passes() { String::new() } else { hold_reason(verdict) };
        self.log.health(&HealthChange {
            tenant: &tenant.name,
            domain: own.name.as_str(),
            now: name(verdict.dmarc),
            before: before.map(|before| name(before.believed)),
            reason: &reason,
        });
        let value = serde_json::to_vec(&self.outlook.health(&own.name)?).ok()?;
        Some(Memo { key: format!("{HEALTH}{}", own.name), value: Some(value) })
    }

    /// What waits for these domains, or names below them, to be believed may leave; each message is judged once more then.
    async fn release(&self, good: &[Domain]) {
        if !self.store.stats().await.is_ok_and(|stats| stats.held > 0) {
            return;
        }
        let below = self.outlook.below();
        let below = below.iter().filter(|name| good.iter().any(|own| name.is_within(own)));
        for name in good.iter().chain(below) {
            let filter = Filter {
                state: Some(StateName::Held),
                cause: Some(Cause::Seal),
                from_domain: Some(name.to_string()),
                ..Filter::default()
            };
            match self.store.act(filter, Action::Release, self.clock.now()).await {
                Ok(released) => self.say_released(&released),
                Err(error) => tracing::warn!(%error, domain = %name, "held mail could not be released"),
            }
        }
    }

    fn say_released(&self, released: &[Entry]) {
        for Entry { leg, facts, .. } in released {
            self.log.released(facts, &leg.rcpts, "seal", "receivers believe it now");
        }
    }
}

/// As the log and the metrics have it.
fn name(believed: Believed) -> &'static str {
    match believed {
        Believed::Both => "both",
        Believed::DkimOnly => "dkim_only",
        Believed::SpfOnly => "spf_only",
        Believed::Fail => "fail",
        Believed::Unknown => "unknown",
    }
}
