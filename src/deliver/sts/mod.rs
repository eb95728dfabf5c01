//! MTA-STS (RFC 8461): a domain says over HTTPS which exchangers are its own, and that they have good certificates. What it
//! once said holds for as long as it said, whatever DNS says meanwhile: that is what an attacker on the line cannot undo.
//!
//! In memory here; the daemon remembers it over a restart (`changed`, `recall`) and asks again before it runs out (`refresh`).

mod policy;

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::policy::POLICY_MAX;
pub use self::policy::{Invalid, Mode, Policy};
use super::https::{Asked, Https, Unanswered};
use super::protect::Trust;
use crate::dns::{Resolver, Silent};
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::metrics::ResultLabel;

/// Policies kept; the one that was used longest ago goes first.
const KEPT: NonZeroUsize = match NonZeroUsize::new(20_000) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};
/// Domains whose policy could not be had, kept so that not every message waits for it again.
const FAILED: NonZeroUsize = match NonZeroUsize::new(2_000) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};
/// How long that is (RFC 8461 section 3.3 suggests five minutes).
const FAILED_FOR: Duration = Duration::from_secs(5 * 60);
/// A policy is asked for again after a day (section 3.3), or half its life if that is shorter.
const REFRESH: Duration = Duration::from_secs(24 * 60 * 60);
/// How soon again where that failed.
const REFRESH_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Where the policy is (section 3.2).
const PATH: &str = "/.well-known/mta-sts.txt";

/// A policy as it was fetched; what is remembered over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose.
    pub domain: Domain,
    /// The id under which it was published.
    pub id: String,
    /// What it says.
    pub policy: Policy,
    /// When it was fetched.
    pub fetched: Time,
}

impl Kept {
    /// Until when it holds.
    #[must_use]
    pub fn until(&self) -> Time {
        self.fetched.after(Duration::from_secs(self.policy.max_age))
    }
}

/// Why a policy could not be had. RFC 8460 section 4.3 tells these three apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Nothing came, or not what was asked for.
    #[error("{0}")]
    Unfetched(String),
    /// The host's certificate is not good.
    #[error("{0}")]
    Certificate(String),
    /// It came, and is no policy.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What is known of a domain's policy when mail is to go there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The policy in force.
    pub(super) policy: Option<Arc<Policy>>,
    /// Why the published one could not be had.
    pub(super) fault: Option<Fault>,
    /// DNS did not say whether one is published.
    silent: bool,
}

impl Found {
    /// There may be a policy in force that is not known: one that was not found out about, or could not be fetched. One that is
    /// kept and enforces goes on to hold.
    pub(super) fn is_unsure(&self) -> bool {
        let unfetched = matches!(self.fault, Some(Fault::Unfetched(_) | Fault::Certificate(_)));
        let enforces = self.policy.as_ref().is_some_and(|policy| policy.mode == Mode::Enforce);
        !enforces && (self.silent || unfetched)
    }
}

/// All that is known of policies.
pub struct Policies {
    memory: Mutex<Memory>,
    /// One fetch for a domain at a time: who comes meanwhile takes what that one finds.
    fetching: Mutex<HashMap<Domain, Arc<tokio::sync::Mutex<()>>>>,
    news: Notify,
}

struct Memory {
    kept: LruCache<Domain, Entry>,
    failed: LruCache<Domain, Failure>,
    /// Not yet remembered.
    changed: BTreeSet<Domain>,
}

struct Entry {
    kept: Arc<Kept>,
    policy: Arc<Policy>,
    /// When mail last went there.
    used: Time,
    /// When it is to be asked for again.
    refresh: Time,
}

struct Failure {
    id: String,
    at: Time,
    fault: Fault,
}

impl Default for Policies {
    fn default() -> Self {
        let memory =
            Memory { kept: LruCache::new(KEPT), failed: LruCache::new(FAILED), changed: BTreeSet::new() };
        Self { memory: Mutex::new(memory), fetching: Mutex::default(), news: Notify::new() }
    }
}

impl Policies {
    /// Takes policies from before a restart; what has been heard since stays.
    pub fn recall(&self, kept: impl IntoIterator<Item = Kept>) {
        self.with(|memory| {
            for old in kept {
                if !memory.kept.contains(&old.domain) {
                    let used = old.fetched;
                    memory.put(old, used);
                }
            }
        });
    }

    /// Resolves when there is something to remember.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is to be remembered now, and what forgotten (`None`); it is then taken for remembered.
    pub fn changed(&self) -> Vec<(Domain, Option<Arc<Kept>>)> {
        self.with(|memory| {
            let changed = std::mem::take(&mut memory.changed);
            let kept = |domain: &Domain| memory.kept.peek(domain).map(|entry| Arc::clone(&entry.kept));
            changed.into_iter().map(|domain| (domain.clone(), kept(&domain))).collect()
        })
    }

    /// Every policy that holds, by domain.
    #[must_use]
    pub fn list(&self, now: Time) -> Vec<Arc<Kept>> {
        let mut all: Vec<Arc<Kept>> = self.with(|memory| {
            memory
                .kept
                .iter()
                .map(|(_, entry)| Arc::clone(&entry.kept))
                .filter(|kept| kept.until() > now)
                .collect()
        });
        all.sort_by(|one, other| one.domain.cmp(&other.domain));
        all
    }

    /// When the next policy is to be asked for again; `None`: there is none.
    #[must_use]
    pub fn next_refresh(&self) -> Option<Time> {
        self.with(|memory| memory.kept.iter().map(|(_, entry)| entry.refresh).min())
    }

    /// The policy for mail to this domain, now. DNS and the domain's host are asked where something may be new; what they do
    /// not say changes nothing (section 3.3, section 10.2).
    pub(super) async fn of(&self, domain: &Domain, https: Https<'_>, now: Time) -> Found {
        let published = published(https.resolver, domain).await;
        let Ok(Some(id)) = published else {
            let policy = self.valid(domain, now);
            return Found { policy, silent: published.is_err(), ..Found::default() };
        };
        if let Some(found) = self.known(domain, &id, now) {
            return found;
        }
        let lock = self.lock(domain);
        let _one = lock.lock().await;
        if let Some(found) = self.known(domain, &id, now) {
            return found;
        }
        let fetched = fetch(domain, https).await;
        let found = self.take(domain, id, fetched, now);
        self.unlock(domain);
        found
    }

    /// Asks again for policies that mail went by lately, well before they run out; answers how many were renewed. What
    /// cannot be had leaves the old one as it is.
    pub(super) async fn refresh(&self, https: Https<'_>, now: Time) -> usize {
        let mut renewed = 0;
        for (domain, id) in self.due(now) {
            let id = published(https.resolver, &domain).await.ok().flatten().unwrap_or(id);
            match fetch(&domain, https).await {
                Ok(policy) => {
                    self.with(|memory| {
                        let used = memory.kept.peek(&domain).map_or(now, |entry| entry.used);
                        memory.put(Kept { domain: domain.clone(), id, policy, fetched: now }, used);
                        memory.changed.insert(domain.clone());
                    });
                    renewed += 1;
                }
                Err(fault) => {
                    tracing::warn!(%domain, %fault, "the MTA-STS policy cannot be renewed; the old one holds");
                    self.with(|memory| memory.later(&domain, now.after(REFRESH_AGAIN)));
                }
            }
        }
        self.news.notify_one();
        renewed
    }

    /// Those to be asked for again. What ran out, or was not used for as long as it holds, is let go.
    fn due(&self, now: Time) -> Vec<(Domain, String)> {
        self.with(|memory| {
            let mut due = Vec::new();
            for (domain, entry) in &memory.kept {
                if entry.refresh <= now {
                    due.push((domain.clone(), entry.kept.id.clone()));
                }
            }
            due.retain(|(domain, _)| memory.keep(domain, now));
            due
        })
    }

    /// The one in force, whatever is published.
    fn valid(&self, domain: &Domain, now: Time) -> Option<Arc<Policy>> {
        self.with(|memory| {
            let entry = memory.kept.get_mut(domain)?;
            entry.used = now;
            (entry.kept.until() > now).then(|| Arc::clone(&entry.policy))
        })
    }

    /// What is known while this id is published; `None`: it must be fetched.
    fn known(&self, domain: &Domain, id: &str, now: Time) -> Option<Found> {
        let current = self.with(|memory| memory.kept.peek(domain).is_some_and(|entry| entry.kept.id == id));
        let policy = self.valid(domain, now);
        if current && policy.is_some() {
            return Some(Found { policy, ..Found::default() });
        }
        let fault = self.with(|memory| {
            let failed = memory.failed.peek(domain)?;
            let fresh = failed.id == id && now.since(failed.at) < FAILED_FOR;
            fresh.then(|| failed.fault.clone())
        })?;
        Some(Found { policy, fault: Some(fault), silent: false })
    }

    fn take(&self, domain: &Domain, id: String, fetched: Result<Policy, Fault>, now: Time) -> Found {
        match fetched {
            Ok(policy) => {
                let found = Found { policy: Some(Arc::new(policy.clone())), ..Found::default() };
                self.with(|memory| {
                    memory.failed.pop(domain);
                    memory.put(Kept { domain: domain.clone(), id, policy, fetched: now }, now);
                    memory.changed.insert(domain.clone());
                });
                self.news.notify_one();
                found
            }
            Err(fault) => {
                tracing::info!(%domain, %fault, "the domain publishes an MTA-STS policy that cannot be had");
                self.with(|memory| {
                    memory.failed.put(domain.clone(), Failure { id, at: now, fault: fault.clone() });
                });
                Found { policy: self.valid(domain, now), fault: Some(fault), silent: false }
            }
        }
    }

    fn lock(&self, domain: &Domain) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fetching.entry(domain.clone()).or_default())
    }

    fn unlock(&self, domain: &Domain) {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(domain);
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    fn put(&mut self, kept: Kept, used: Time) {
        let life = Duration::from_secs(kept.policy.max_age);
        let refresh = kept.fetched.after(REFRESH.min(life / 2));
        let policy = Arc::new(kept.policy.clone());
        let entry = Entry { kept: Arc::new(kept), policy, used, refresh };
        if let Some((domain, _)) = self.kept.push(entry.kept.domain.clone(), entry) {
            self.changed.insert(domain);
        }
    }

    fn later(&mut self, domain: &Domain, refresh: Time) {
        if let Some(entry) = self.kept.peek_mut(domain) {
            entry.refresh = refresh;
        }
    }

    /// Whether a policy is worth asking for again; else it is let go once it has run out.
    fn keep(&mut self, domain: &Domain, now: Time) -> bool {
        let Some(entry) = self.kept.peek_mut(domain) else { return false };
        let until = entry.kept.until();
        let lately = entry.used.after(Duration::from_secs(entry.kept.policy.max_age)) > now;
        if until > now && lately {
            return true;
        }
        if until > now {
            entry.refresh = until;
        } else {
            self.kept.pop(domain);
            self.changed.insert(domain.clone());
        }
        false
    }
}

/// The id that DNS gives the domain's policy, if it has one.
///
/// # Errors
/// DNS is silent, which is no word either way.
async fn published(resolver: &Resolver, domain: &Domain) -> Result<Option<String>, Silent> {
    let text = resolver.text(&format!("_mta-sts.{domain}")).await?;
    Ok(policy::id(&text.value.records).map(str::to_owned))
}

/// RFC 8461 section 3.3: status 200 and nothing else, text/plain, no redirect.
async fn fetch(domain: &Domain, https: Https<'_>) -> Result<Policy, Fault> {
    let fetched = get(domain, https).await;
    let result = if fetched.is_ok() { "ok" } else { "failed" };
    https.metrics.sts_fetches.get_or_create(&ResultLabel { result }).inc();
    fetched
}

async fn get(domain: &Domain, https: Https<'_>) -> Result<Policy, Fault> {
    let host = format!("mta-sts.{domain}");
    let port = https.settings.sts_port;
    let asked = Asked {
        method: Method::GET,
        host: &host,
        port,
        path: PATH,
        accept: "text/plain",
        body: None,
        most: POLICY_MAX,
        trust: &Trust::Verified(None),
    };
    let answered = https.ask(asked).await.map_err(|unanswered| match unanswered {
        Unanswered::Tls(why) => Fault::Certificate(why),
        other @ (Unanswered::Nobody(..)
        | Unanswered::Inside(_)
        | Unanswered::Connect(..)
        | Unanswered::Slow(_)
        | Unanswered::TooLong
        | Unanswered::Broken(_)) => Fault::Unfetched(other.to_string()),
    })?;
    if answered.status != 200 {
        return Err(Fault::Unfetched(format!("{host} answers {}", answered.status)));
    }
    if answered.kind != "text/plain" {
        return Err(Fault::Unfetched(format!("{host} answers {:?} instead of text/plain", answered.kind)));
    }
    Ok(Policy::parse(&answered.body)?)
}
