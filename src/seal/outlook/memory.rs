//! What an `Outlook` remembers: pictures, verdicts made from them, names below tenants' domains that mail came from.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use tokio::sync::Notify;

use super::Health;
use crate::config::Config;
use crate::mail::address::Domain;
use crate::seal::dmarc;
use crate::seal::facts::{Picture, Walk};
use crate::seal::judge::Verdict;
use crate::seal::keyring::Keyring;
use crate::tenant::{OnFail, OwnedDomain, Tenant};

/// Verdicts kept: a tenant has few From domains, and each but one or two reverse-paths.
const VERDICTS: NonZeroUsize = match NonZeroUsize::new(16_384) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};
/// Names below tenants' domains that mail came from, over all.
const BELOW_MAX: usize = 10_000;
/// Those of one registered domain: no tenant takes the others' places.
const BELOW_EACH_MAX: usize = 100;

#[derive(Default)]
pub(super) struct Memory {
    pub(super) pictures: HashMap<Domain, Arc<Picture>>,
    pub(super) verdicts: Verdicts,
    pub(super) below: Below,
    pub(super) health: HashMap<Domain, Health>,
    /// Names that were forgotten to make room, and of which that is still to be written down.
    pub(super) gone: Vec<Domain>,
}

impl Memory {
    pub(super) fn picture_or_blank(&mut self, name: &Domain) -> Arc<Picture> {
        let blank = || Arc::new(Picture::blank(name.clone()));
        // Kept, so that it is the same one until somebody looks.
        Arc::clone(self.pictures.entry(name.clone()).or_insert_with(blank))
    }

    /// The picture of a name at or below `own`. One that is not there is derived from what is known above it, and asked for,
    /// unless nobody judges the domain.
    pub(super) fn picture_or_ask(
        &mut self,
        name: &Domain,
        own: &OwnedDomain,
        asked: &Notify,
    ) -> Arc<Picture> {
        if let Some(picture) = self.pictures.get(name) {
            return Arc::clone(picture);
        }
        let picture = Arc::new(derived(name, self.pictures.get(&own.name).map(Arc::as_ref)));
        if own.on_fail != OnFail::Off {
            self.pictures.insert(name.clone(), Arc::clone(&picture));
            if *name != own.name && Some(name) != own.return_path.as_ref() {
                self.look_below(name);
            }
            asked.notify_one();
        }
        picture
    }

    /// A name below a tenant's domain is looked at from now on. Where there are too many, the oldest goes.
    pub(super) fn look_below(&mut self, name: &Domain) {
        for old in self.below.add(name) {
            self.pictures.remove(&old);
            self.gone.push(old);
        }
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

/// Names below tenants' domains, the oldest first.
#[derive(Default)]
pub(super) struct Below {
    /// Each with the domain that was registered.
    names: VecDeque<(Box<str>, Domain)>,
}

impl Below {
    pub(super) fn names(&self) -> impl Iterator<Item = &Domain> {
        self.names.iter().map(|(_, name)| name)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Domain) -> bool) {
        self.names.retain(|(_, name)| keep(name));
    }

    /// Adds a name, and answers those that make room for it.
    fn add(&mut self, name: &Domain) -> Vec<Domain> {
        if self.names().any(|known| known == name) {
            return Vec::new();
        }
        let registered = dmarc::registered(name.as_str());
        let siblings = self.names.iter().filter(|(theirs, _)| **theirs == *registered).count();
        let mut gone = Vec::new();
        if siblings >= BELOW_EACH_MAX {
            let oldest = self.names.iter().position(|(theirs, _)| **theirs == *registered);
            gone.extend(oldest.and_then(|at| self.names.remove(at)));
        } else if self.names.len() >= BELOW_MAX {
            gone.extend(self.names.pop_front());
        }
        self.names.push_back((registered.into(), name.clone()));
        gone.into_iter().map(|(_, name)| name).collect()
    }
}

/// Whose mail, from where: tenant, author, reverse-path.
pub(super) type Key = (Arc<str>, Domain, Option<Domain>);

/// A verdict, and all that it was made from: it holds as long as these are still the ones.
struct Made {
    basis: Basis,
    verdict: Arc<Verdict>,
}

#[derive(Clone)]
pub(super) struct Basis {
    pub(super) config: Arc<Config>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) tenant: Arc<Tenant>,
    pub(super) author: Arc<Picture>,
    pub(super) signer: Arc<Picture>,
    pub(super) sender: Arc<Picture>,
}

impl Basis {
    fn is(&self, other: &Self) -> bool {
        self.is_in_force_with(other)
            && Arc::ptr_eq(&self.tenant, &other.tenant)
            && Arc::ptr_eq(&self.author, &other.author)
            && Arc::ptr_eq(&self.signer, &other.signer)
            && Arc::ptr_eq(&self.sender, &other.sender)
    }

    fn is_in_force_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && Arc::ptr_eq(&self.keyring, &other.keyring)
    }
}

/// Verdicts by one configuration and one set of keys. With others in force all are forgotten: each would keep the private
/// keys that it was made with.
#[derive(Default)]
pub(super) struct Verdicts {
    made: Option<LruCache<Key, Made>>,
}

impl Verdicts {
    pub(super) fn get(&mut self, key: &Key, basis: &Basis) -> Option<Arc<Verdict>> {
        let made = self.of(basis).get(key).filter(|made| made.basis.is(basis))?;
        Some(Arc::clone(&made.verdict))
    }

    pub(super) fn put(&mut self, key: Key, basis: Basis, verdict: Arc<Verdict>) {
        self.of(&basis).put(key, Made { basis, verdict });
    }

    fn of(&mut self, basis: &Basis) -> &mut LruCache<Key, Made> {
        let made = self.made.get_or_insert_with(|| LruCache::new(VERDICTS));
        if made.peek_mru().is_some_and(|(_, last)| !last.basis.is_in_force_with(basis)) {
            made.clear();
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn has(below: &Below, name: &str) -> bool {
        below.names().any(|known| known.as_str() == name)
    }

    #[test]
    fn a_domain_with_many_names_below_it_loses_its_own_oldest_and_nobody_elses() {
        let mut below = Below::default();
        assert!(below.add(&domain("news.quiet.example")).is_empty());
        for number in 0..BELOW_EACH_MAX {
            assert!(below.add(&domain(&format!("n{number}.loud.example"))).is_empty(), "{number}");
        }
        assert!(below.add(&domain("n0.loud.example")).is_empty(), "it is there already");
        assert_eq!(below.add(&domain("more.loud.example")), [domain("n0.loud.example")]);
        assert!(has(&below, "news.quiet.example") && has(&below, "more.loud.example"));
        assert!(!has(&below, "n0.loud.example"));
    }

    #[test]
    fn over_all_the_oldest_goes() {
        let mut below = Below::default();
        for number in 0..BELOW_MAX {
            assert!(below.add(&domain(&format!("news.n{number}.example"))).is_empty(), "{number}");
        }
        assert_eq!(below.add(&domain("news.last.example")), [domain("news.n0.example")]);
        assert_eq!(below.names().count(), BELOW_MAX);
    }

    #[test]
    fn the_picture_of_a_name_that_goes_goes_too() {
        let own = OwnedDomain {
            name: domain("acme.example"),
            on_fail: OnFail::Reject,
            return_path: None,
            subdomains: true,
        };
        let (mut memory, asked) = (Memory::default(), Notify::new());
        for number in 0..=BELOW_EACH_MAX {
            memory.picture_or_ask(&domain(&format!("n{number}.acme.example")), &own, &asked);
        }
        assert_eq!(memory.pictures.len(), BELOW_EACH_MAX);
        assert_eq!(memory.gone, [domain("n0.acme.example")], "and is forgotten on disk");
        let unjudged = OwnedDomain { on_fail: OnFail::Off, ..own };
        memory.picture_or_ask(&domain("other.acme.example"), &unjudged, &asked);
        assert!(!has(&memory.below, "other.acme.example"), "nobody judges it, so nobody asks");
    }
}
