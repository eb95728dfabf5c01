//! What receivers would make of our mail: pictures of DNS kept fresh in memory, and verdicts made from them. Who accepts or
//! sends mail reads from memory and never waits for DNS; `look` is what asks it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::facts::{Picture, Walk};
use super::judge::{Believed, Candidate, Case, Verdict, judge};
use super::keyring::Keyring;
use super::records::{self, Setting};
use super::survey::{Wanted, survey};
use super::volume::Volumes;
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::tenant::{Directory, OnFail, OwnedDomain, Route, Tenant};

/// Verdicts kept: a tenant has few From domains, and each but one or two reverse-paths.
const VERDICTS: NonZeroUsize = match NonZeroUsize::new(16_384) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};
/// Names below tenants' domains that mail came from, beyond which no more are looked at: their parents' pictures serve.
const BELOW_MAX: usize = 1_000;

/// Pictures and verdicts.
pub struct Outlook {
    resolver: Resolver,
    clock: Clock,
    memory: Mutex<Memory>,
    /// One look at a name at a time: who comes meanwhile takes what that one finds.
    looking: Mutex<HashMap<Domain, Arc<tokio::sync::Mutex<()>>>>,
    /// A name was asked for that nobody has looked at.
    pub(crate) asked: Notify,
    /// What reached providers that count.
    pub volumes: Volumes,
}

#[derive(Default)]
struct Memory {
    pictures: HashMap<Domain, Arc<Picture>>,
    verdicts: Option<LruCache<Key, Made>>,
    /// Names below tenants' domains that mail came from.
    below: Vec<Domain>,
    health: HashMap<Domain, Health>,
}

/// How a From domain stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether its mail is believed.
    pub believed: Believed,
    /// Since when.
    pub since: Time,
}

type Key = (Arc<str>, Domain, Option<Domain>);

/// A verdict, and all that it was made from: it holds as long as these are still the ones.
struct Made {
    basis: Basis,
    verdict: Arc<Verdict>,
}

#[derive(Clone)]
struct Basis {
    config: Arc<Config>,
    keyring: Arc<Keyring>,
    tenant: Arc<Tenant>,
    author: Arc<Picture>,
    signer: Arc<Picture>,
    sender: Arc<Picture>,
}

impl Basis {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
            && Arc::ptr_eq(&self.keyring, &other.keyring)
            && Arc::ptr_eq(&self.tenant, &other.tenant)
            && Arc::ptr_eq(&self.author, &other.author)
            && Arc::ptr_eq(&self.signer, &other.signer)
            && Arc::ptr_eq(&self.sender, &other.sender)
    }
}

/// Whose mail is judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its tenant: the route says whether the last hop is ours.
    pub tenant: &'a Arc<Tenant>,
    /// The From domain of the tenant that covers the author.
    pub own: &'a OwnedDomain,
    /// The author's domain: that one, or a name below it.
    pub author: &'a Domain,
    /// The domain of the reverse-path as next hops see it; `None`: the null one.
    pub sender: Option<&'a Domain>,
}

/// What is in force at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Force<'a> {
    /// The configuration.
    pub config: &'a Arc<Config>,
    /// The keys.
    pub keyring: &'a Arc<Keyring>,
}

/// What a look brought.
pub struct Looked {
    /// The picture now.
    pub picture: Arc<Picture>,
    /// Whether DNS says something else than before.
    pub changed: bool,
}

impl Outlook {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(resolver: Resolver, clock: Clock) -> Self {
        let (memory, looking) = (Mutex::default(), Mutex::default());
        Self { resolver, clock, memory, looking, asked: Notify::new(), volumes: Volumes::default() }
    }

    /// Takes pictures from before a restart; what has been heard since stays.
    pub fn recall(&self, pictures: impl IntoIterator<Item = Picture>) {
        self.with(|memory| {
            for old in pictures {
                let name = old.domain.clone();
                let known = match memory.pictures.get(&name) {
                    Some(new) => Picture::clone(new).or(old),
                    None => old,
                };
                memory.pictures.insert(name, Arc::new(known));
            }
        });
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Whom DNS is asked.
    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// What is known of a name.
    #[must_use]
    pub fn picture(&self, name: &Domain) -> Option<Arc<Picture>> {
        self.with(|memory| memory.pictures.get(name).cloned())
    }

    /// Names below tenants' domains that mail came from.
    #[must_use]
    pub fn below(&self) -> Vec<Domain> {
        self.with(|memory| memory.below.clone())
    }

    /// Resolves when a name was asked for that nobody has looked at.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Forgets names that are no longer anybody's, and answers which.
    pub fn keep_only(&self, names: &[Wanted]) -> Vec<Domain> {
        let kept: HashSet<&Domain> = names.iter().map(|wanted| &wanted.domain).collect();
        self.with(|memory| {
            let gone = memory.pictures.extract_if(|name, _| !kept.contains(name)).map(|(name, _)| name);
            let gone: Vec<Domain> = gone.collect();
            memory.below.retain(|name| kept.contains(name));
            gone
        })
    }

    /// Asks DNS about a name now. Two who ask at once share the answer.
    pub async fn look(&self, wanted: &Wanted) -> Looked {
        let before = self.picture(&wanted.domain);
        let turn = {
            let mut looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
            looking.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(looking.entry(wanted.domain.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let current = self.picture(&wanted.domain);
        if let (Some(was), Some(now)) = (&before, &current)
            && !Arc::ptr_eq(was, now)
            && wanted.selectors.iter().all(|selector| now.keys.contains_key(selector))
        {
            return Looked { changed: !was.says_what(now), picture: Arc::clone(now) };
        }
        let now = self.clock.now();
        let found = Box::pin(survey(&self.resolver, wanted, current.as_deref(), now)).await;
        let changed = !current.is_some_and(|current| current.says_what(&found));
        let picture = Arc::new(found);
        self.with(|memory| {
            memory.pictures.insert(wanted.domain.clone(), Arc::clone(&picture));
        });
        Looked { picture, changed }
    }

    /// What receivers would find, from memory. A name that nobody has looked at yet is asked for, and judged meanwhile by
    /// what is known of the names above it.
    #[must_use]
    pub fn verdict(&self, subject: &Subject<'_>, force: Force<'_>) -> Arc<Verdict> {
        let signer = signer(subject, force.keyring);
        let sender = subject.sender.unwrap_or(&force.config.hostname);
        let key = (Arc::clone(&subject.tenant.name), subject.author.clone(), subject.sender.cloned());
        let (basis, known) = self.with(|memory| {
            let basis = Basis {
                config: Arc::clone(force.config),
                keyring: Arc::clone(force.keyring),
                tenant: Arc::clone(subject.tenant),
                author: memory.picture_or_ask(subject.author, &subject.own.name, &self.asked),
                signer: memory.picture_or_blank(signer),
                sender: memory.picture_or_ask(sender, &subject.own.name, &self.asked),
            };
            let verdicts = memory.verdicts.get_or_insert_with(|| LruCache::new(VERDICTS));
            let made = verdicts.get(&key).filter(|made| made.basis.is(&basis));
            let known = made.map(|made| Arc::clone(&made.verdict));
            (basis, known)
        });
        known.unwrap_or_else(|| {
            let verdict = Arc::new(judged(&basis, subject, signer));
            let made = Made { basis, verdict: Arc::clone(&verdict) };
            self.with(|memory| {
                if let Some(verdicts) = &mut memory.verdicts {
                    verdicts.put(key, made);
                }
            });
            verdict
        })
    }

    /// Takes note of how a From domain stands now. Answers how it stood before, if that is something else.
    pub fn note(&self, domain: &Domain, believed: Believed) -> Option<Option<Health>> {
        let now = Health { believed, since: self.clock.now() };
        self.with(|memory| match memory.health.get(domain) {
            Some(before) if before.believed == believed => None,
            _ => Some(memory.health.insert(domain.clone(), now)),
        })
    }

    /// Takes over how a domain stood before a restart.
    pub fn recall_health(&self, domain: Domain, health: Health) {
        self.with(|memory| {
            memory.health.entry(domain).or_insert(health);
        });
    }

    /// How a From domain stands.
    #[must_use]
    pub fn health(&self, domain: &Domain) -> Option<Health> {
        self.with(|memory| memory.health.get(domain).cloned())
    }

    /// Since when mail of this From domain has not been believed.
    #[must_use]
    pub fn failing_since(&self, domain: &Domain) -> Option<Time> {
        self.health(domain).filter(|health| !health.believed.passes()).map(|health| health.since)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Memory) -> T) -> T {
        work(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    fn picture_or_blank(&mut self, name: &Domain) -> Arc<Picture> {
        let blank = || Arc::new(Picture::blank(name.clone()));
        // Kept, so that it is the same one until somebody looks.
        Arc::clone(self.pictures.entry(name.clone()).or_insert_with(blank))
    }

    /// The picture of a name at or below `own`. One that is not there is derived from what is known above it, and asked for.
    fn picture_or_ask(&mut self, name: &Domain, own: &Domain, asked: &Notify) -> Arc<Picture> {
        if let Some(picture) = self.pictures.get(name) {
            return Arc::clone(picture);
        }
        if self.below.len() >= BELOW_MAX {
            return Arc::new(derived(name, self.pictures.get(own).map(Arc::as_ref)));
        }
        let picture = Arc::new(derived(name, self.pictures.get(own).map(Arc::as_ref)));
        self.below.push(name.clone());
        self.pictures.insert(name.clone(), Arc::clone(&picture));
        asked.notify_one();
        picture
    }
}

/// What can be said of a name below one that is known: its mail is under the policy above it.
fn derived(name: &Domain, above: Option<&Picture>) -> Picture {
    let mut picture = Picture::blank(name.clone());
    let above = above.filter(|above| name.is_within(&above.domain));
    picture.dmarc = above.and_then(|above| above.dmarc.clone()).map(|mut known| {
        let mut steps = vec![(name.to_string(), Vec::new())];
        steps.append(&mut known.value.steps);
        known.value = Walk { steps, exists: true, reports: known.value.reports };
        known
    });
    picture
}

fn judged(basis: &Basis, subject: &Subject<'_>, signer: &Domain) -> Verdict {
    let Basis { config, keyring, .. } = basis;
    let keys: Vec<_> = keyring
        .signing(signer)
        .map(|key| Candidate { selector: &key.selector, public: &key.public })
        .collect();
    let egress = egress(config);
    let direct = matches!(*subject.tenant.route, Route::Mx);
    let wanted = wanted_records(config, keyring, subject, signer);
    judge(&Case {
        author: &basis.author,
        signer: &basis.signer,
        keys: &keys,
        sender: &basis.sender,
        direct,
        egress,
        wanted: &wanted,
    })
}

/// The domain in `d=`: the author's own where it has keys, else the tenant's domain above it.
#[must_use]
pub fn signer<'a>(subject: &Subject<'a>, keyring: &Keyring) -> &'a Domain {
    if keyring.keys(subject.author).is_empty() { &subject.own.name } else { subject.author }
}

/// The addresses that receivers see; empty: not known.
#[must_use]
pub fn egress(config: &Config) -> &[IpAddr] {
    let delivery = &config.delivery;
    if delivery.public_addresses.is_empty() { &delivery.sources } else { &delivery.public_addresses }
}

/// What the domain of a subject publishes when all is right.
fn wanted_records(
    config: &Config,
    keyring: &Keyring,
    subject: &Subject<'_>,
    signer: &Domain,
) -> Vec<records::Record> {
    let setting = Setting {
        hostname: &config.hostname,
        dkim_zone: config.relay.dkim_zone.as_ref().filter(|_| *signer != config.relay.domain),
        public_addresses: egress(config),
        return_path: subject.sender.filter(|sender| *sender != signer),
        bounce_host: config.relay.bounce_host.as_ref(),
        upstream: !matches!(*subject.tenant.route, Route::Mx),
    };
    records::for_domain(signer, keyring, &setting)
}

/// The names that tenants' mail depends on, each with the selectors to look at. A domain that nobody judges (`on_fail = "off"`)
/// costs no lookup.
#[must_use]
pub fn names(directory: &Directory, force: Force<'_>, below: &[Domain]) -> Vec<Wanted> {
    let mut names: BTreeMap<Domain, Wanted> = BTreeMap::new();
    let mut add = |name: &Domain| {
        names.entry(name.clone()).or_insert_with(|| wanted(name, force));
    };
    let judged: Vec<&OwnedDomain> = directory
        .tenants()
        .flat_map(|tenant| tenant.domains.iter())
        .filter(|own| own.on_fail != OnFail::Off)
        .collect();
    for own in &judged {
        add(&own.name);
        own.return_path.iter().for_each(&mut add);
    }
    if !judged.is_empty() {
        add(&force.config.hostname);
    }
    below.iter().filter(|name| judged.iter().any(|own| name.is_within(&own.name))).for_each(add);
    names.into_values().collect()
}

/// What to ask about one name.
#[must_use]
pub fn wanted(name: &Domain, force: Force<'_>) -> Wanted {
    Wanted {
        domain: name.clone(),
        selectors: force.keyring.keys(name).iter().map(|key| key.selector.clone()).collect(),
        egress: egress(force.config).to_vec(),
        hostname: force.config.hostname.clone(),
    }
}
