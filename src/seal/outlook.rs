//! What receivers would make of our mail: pictures of DNS kept fresh in memory, and verdicts made from them. Who accepts or
//! sends mail reads from memory and never waits for DNS; `look` is what asks it.

mod memory;
mod names;
mod subject;

pub use names::{below, names, wanted};
pub use subject::{Subject, signer};

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use self::memory::{Basis, Memory};
use super::facts::Picture;
use super::judge::{Believed, Candidate, Case, Verdict, judge};
use super::keyring::{Key, Keyring};
use super::records::{self, Setting};
use super::survey::{Wanted, survey};
use super::volume::Volumes;
use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::Domain;
use crate::mail::time::Time;
use crate::tenant::SignWith;

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

/// How a From domain stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether its mail is believed.
    pub believed: Believed,
    /// Since when.
    pub since: Time,
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

/// Names that are no longer anybody's.
pub struct Forgotten {
    /// Of which there was a picture.
    pub pictures: Vec<Domain>,
    /// Of which it was known how they stand.
    pub health: Vec<Domain>,
}

impl Outlook {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(resolver: Resolver, clock: Clock) -> Self {
        let (memory, looking) = (Mutex::default(), Mutex::default());
        Self { resolver, clock, memory, looking, asked: Notify::new(), volumes: Volumes::default() }
    }

    /// Takes pictures from before a restart; what has been heard since stays. Names of which `below` says that they lie below
    /// judged domains are looked at again.
    pub fn recall(&self, pictures: impl IntoIterator<Item = Picture>, below: impl Fn(&Domain) -> bool) {
        self.with(|memory| {
            for old in pictures {
                let name = old.domain.clone();
                let known = match memory.pictures.get(&name) {
                    Some(new) => Picture::clone(new).or(old),
                    None => old,
                };
                memory.pictures.insert(name.clone(), Arc::new(known));
                if below(&name) {
                    memory.look_below(&name);
                }
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
        self.with(|memory| memory.below.names().cloned().collect())
    }

    /// Every picture.
    #[must_use]
    pub fn pictures(&self) -> Vec<Arc<Picture>> {
        self.with(|memory| memory.pictures.values().cloned().collect())
    }

    /// Names that were forgotten since the last call, because others took their place.
    #[must_use]
    pub fn gone(&self) -> Vec<Domain> {
        self.with(|memory| std::mem::take(&mut memory.gone))
    }

    /// Resolves when a name was asked for that nobody has looked at.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Forgets names that are no longer anybody's, and answers which.
    pub fn keep_only(&self, names: &[Wanted]) -> Forgotten {
        let kept: HashSet<&Domain> = names.iter().map(|wanted| &wanted.domain).collect();
        self.with(|memory| {
            memory.below.retain(|name| kept.contains(name));
            Forgotten {
                pictures: memory
                    .pictures
                    .extract_if(|name, _| !kept.contains(name))
                    .map(|(name, _)| name)
                    .collect(),
                health: memory
                    .health
                    .extract_if(|name, _| !kept.contains(name))
                    .map(|(name, _)| name)
                    .collect(),
            }
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
        let changed = !current.as_ref().is_some_and(|current| current.says_what(&found));
        let picture = Arc::new(found);
        self.with(|memory| {
            // A name that was forgotten meanwhile stays so: nobody would ask again.
            if current.is_none() || memory.pictures.contains_key(&wanted.domain) {
                memory.pictures.insert(wanted.domain.clone(), Arc::clone(&picture));
            }
        });
        Looked { picture, changed }
    }

    /// The names that mail of this subject rests on are looked at from now on, as if it had come.
    pub fn take_in(&self, subject: &Subject<'_>) {
        self.with(|memory| {
            for name in [Some(subject.author), subject.sender].into_iter().flatten() {
                memory.picture_or_ask(name, subject.own, &self.asked);
            }
        });
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
                author: memory.picture_or_ask(subject.author, subject.own, &self.asked),
                signer: memory.picture_or_blank(signer),
                sender: memory.picture_or_ask(sender, subject.own, &self.asked),
            };
            let known = memory.verdicts.get(&key, &basis);
            (basis, known)
        });
        known.unwrap_or_else(|| {
            let verdict = Arc::new(judged(&basis, subject, signer));
            self.with(|memory| memory.verdicts.put(key, basis, Arc::clone(&verdict)));
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

fn judged(basis: &Basis, subject: &Subject<'_>, signer: &Domain) -> Verdict {
    let Basis { config, keyring, .. } = basis;
    // Only what the route takes will be there for receivers to find. What an upstream signs with is not ours to judge.
    let takes = |key: &&Key| subject.tenant.signing.keys != SignWith::Rsa || key.public.algorithm.is_rsa();
    let keys: Vec<_> = keyring
        .signing(signer)
        .filter(takes)
        .map(|key| Candidate { selector: &key.selector, public: &key.public })
        .collect();
    let egress = egress(config);
    let direct = subject.tenant.is_direct();
    let wanted = wanted_records(config, keyring, subject, signer);
    judge(&Case {
        author: &basis.author,
        signer: &basis.signer,
        keys: &keys,
        sender: &basis.sender,
        null: subject.sender.is_none(),
        direct,
        egress,
        wanted: &wanted,
    })
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
        // Any other sender is somebody's mailbox, and its MX not ours to change.
        return_path: subject.own.return_path.as_ref().filter(|path| subject.sender == Some(path)),
        bounce_host: config.relay.bounce_host.as_ref(),
        upstream: !subject.tenant.is_direct(),
    };
    records::for_domain(signer, keyring, &setting)
}

#[cfg(test)]
mod tests;
