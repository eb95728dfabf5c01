//! The daemon's watch over From domains: asks DNS again when what it said runs out, moves keys along, says when a domain's
//! health changes, and releases what was held for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::open::{Files, Opened};
use crate::clock::Clock;
use crate::config::Config;
use crate::maillog::{HealthChange, MailLog};
use crate::metrics::{HealthLabel, Metrics};
use crate::queue::store::{Memo, Store};
use crate::seal::Keyring;
use crate::seal::check::{self, Report};
use crate::seal::enforce::Ruling;
use crate::seal::judge::{Believed, Verdict};
use crate::seal::outlook::{Force, Outlook, Subject, names};
use crate::seal::refusal::hold_reason;
use crate::seal::survey::{Wanted, due};
use crate::tenant::{OwnedDomain, Tenant, Tenants};

/// Longest wait for DNS at a start, before the listeners accept (contract: 10 s).
const FIRST: Duration = Duration::from_secs(10);
/// Longest wait for what was known before the restart, while the index is being rebuilt.
const RECALL: Duration = Duration::from_secs(3);
/// Names asked about at once.
const AT_ONCE: usize = 32;
/// The longest sleep: a clock that was set shows within a minute, and so does a name that DNS was silent about.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// The shortest: many names that run out together are asked about together.
const BREATH: Duration = Duration::from_secs(1);
/// The health of a domain that nobody judges, in the metrics.
const UNJUDGED: &str = "unjudged";

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
    /// Held by whoever reads keys from their files and puts them into force.
    pub(super) rings: tokio::sync::Mutex<()>,
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
            rings: tokio::sync::Mutex::default(),
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

    /// Asks DNS about mail of one From domain, or of a name below it, now, takes over what it says, and reports.
    pub(super) async fn check(&self, subject: &Subject<'_>) -> Report {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let pictures = check::look(&self.outlook, subject, force).await;
        self.keep(&pictures).await;
        self.follow(true).await;
        let keyring = self.keyring.load_full();
        let force = Force { config: &config, keyring: &keyring };
        let report = check::report(&self.outlook, subject, force);
        let more = check::beyond(&self.outlook, subject, force, report.policy).await;
        report.with(more)
    }

    /// What is known of every From domain, by name.
    pub(super) fn reports(&self) -> Vec<Report> {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let directory = self.tenants.load_full();
        let owned =
            directory.tenants().flat_map(|tenant| tenant.domains.iter().map(move |own| (tenant, own)));
        let report =
            |(tenant, own)| check::report(&self.outlook, &check::usual(tenant, own, &own.name), force);
        let mut reports: Vec<_> = owned.map(report).collect();
        reports.sort_by(|one, other| one.domain.cmp(&other.domain));
        reports
    }

    pub(super) fn names(&self) -> Vec<Wanted> {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        names(&self.tenants.load(), force, &self.outlook.below())
    }

    /// The names whose facts have run out, or that miss something.
    fn due(&self) -> Vec<Wanted> {
        let now = self.clock.now();
        let mut names = self.names();
        names.retain(|wanted| due(self.outlook.picture(&wanted.domain).as_deref(), wanted, now) <= now);
        names
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let names = self.names();
        let next =
            names.iter().map(|wanted| due(self.outlook.picture(&wanted.domain).as_deref(), wanted, now));
        next.min().map_or(HEARTBEAT, |next| next.since(now).clamp(BREATH, HEARTBEAT))
    }

    /// Asks about these names. Answers whether DNS says anything new. What comes is kept as it comes: whoever waits for the
    /// rest may give up.
    async fn look(&self, mut names: Vec<Wanted>) -> bool {
        let mut looks = JoinSet::new();
        let mut any = false;
        while !names.is_empty() || !looks.is_empty() {
            while looks.len() < AT_ONCE
                && let Some(wanted) = names.pop()
            {
                let outlook = Arc::clone(&self.outlook);
                looks.spawn(async move { Box::pin(outlook.look(&wanted)).await });
            }
            let mut came: Vec<_> = looks.join_next().await.into_iter().collect();
            came.extend(std::iter::from_fn(|| looks.try_join_next()));
            let changed: Vec<_> = came
                .into_iter()
                .flatten()
                .filter(|looked| looked.changed)
                .map(|looked| looked.picture)
                .collect();
            any |= !changed.is_empty();
            self.keep(&changed).await;
        }
        any
    }

    /// Draws the consequences of what is known now; `news` if something changed.
    async fn follow(&self, news: bool) {
        self.move_keys().await;
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let directory = self.tenants.load_full();
        let (mut memos, mut counts) = (Vec::new(), BTreeMap::new());
        for tenant in directory.tenants() {
            for own in &tenant.domains {
                let ruled = self.outlook.rule(&check::usual(tenant, own, &own.name), force);
                let health = if ruled.ruling == Ruling::SendUnjudged {
                    UNJUDGED
                } else {
                    memos.extend(self.note(tenant, own, &ruled.verdict));
                    name(ruled.verdict.dmarc)
                };
                *counts.entry(health).or_insert(0) += 1;
            }
        }
        self.count(&counts);
        memos.extend(self.volumes());
        self.remember(memos).await;
        self.forget_below().await;
        if self.may_release(news) {
            self.release().await;
        }
    }

    fn count(&self, counts: &BTreeMap<&'static str, i64>) {
        for health in ["both", "dkim_only", "spf_only", "fail", "unknown", UNJUDGED] {
            let count = counts.get(health).copied().unwrap_or(0);
            self.metrics.domains.get_or_create(&HealthLabel { health }).set(count);
        }
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
        self.health_memo(&own.name)
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
