//! Which hosts an attempt may try, in which order: exchangers by preference (RFC 5321 section 5.1), or the addresses of an
//! upstream. Looked up as far as the attempt gets, every address checked before it is given out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::guard::{Guard, Refusal};
use super::outcome::{Permanence, Scope, Trouble};
use crate::dns::{Addresses, Exchanger, Failure, Mx, Proven, Resolver};
use crate::mail::address::Domain;
use crate::mail::reply::Enhanced;

/// Addresses tried in one attempt (DN6); RFC 5321 section 5.1 asks for at least two.
pub(super) const ADDRESSES_PER_ATTEMPT: usize = 20;
/// That many are tried however long it takes.
const ADDRESSES_MIN: usize = 2;
/// How long after the first another one is begun with. A host may take five minutes for each reply (RFC 5321 section 4.5.3.2): so
/// long does one take at worst, and twenty of them would keep a slot for most of a day. The next attempt begins anew.
const HOSTS_TIME: Duration = Duration::from_secs(30 * 60);

/// A host to try: the address that was checked is the one to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: String,
    /// The name that it is an alias for.
    pub(super) alias_of: Option<String>,
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// DNSSEC proves that it is the destination's, and that this is its address.
    pub(super) proven: bool,
}

/// The hosts of an attempt, best first.
pub(super) struct Hosts<'a> {
    resolver: &'a Resolver,
    guard: &'a Guard,
    port: u16,
    /// Hosts not yet looked up, by preference.
    exchangers: VecDeque<Exchanger>,
    ready: VecDeque<Host>,
    budget: usize,
    /// When no other one is begun with, from the first one on.
    until: Option<Instant>,
    /// Named by the tenant's file and not by DNS: it may be an address, and what is wrong with it can be mended.
    upstream: bool,
    /// DNSSEC proves who the exchangers are.
    proven: bool,
    faults: Faults,
}

/// Why hosts fell away.
struct Faults {
    /// DNS said nothing about one of them.
    silent: Option<Trouble>,
    /// One of them is ourselves.
    looping: Option<Trouble>,
    /// One of them has no address at all.
    nameless: bool,
    /// One of them is an inside address.
    inside: Option<Trouble>,
    /// What it means if none has an address.
    nobody: Trouble,
}

impl<'a> Hosts<'a> {
    /// The exchangers of a domain.
    ///
    /// # Errors
    /// The domain takes no mail, or DNS does not say.
    pub(super) async fn of_domain(
        resolver: &'a Resolver,
        guard: &'a Guard,
        domain: &Domain,
        port: u16,
    ) -> Result<Self, Trouble> {
        let implicit = || vec![Exchanger { preference: 0, host: domain.as_str().to_owned() }];
        let mx = resolver.mx_proven(domain).await;
        let proven = mx.as_ref().is_ok_and(|mx| mx.secure);
        let (exchangers, nobody) = match mx.map(|mx| mx.value) {
            Ok(Mx::Exchangers(list)) => (list, no_address(domain)),
            Ok(Mx::Implicit) => (implicit(), nowhere(domain)),
            Ok(Mx::Null) => {
                // RFC 7505 section 4.1.
                let text = format!("{domain} takes no mail: it publishes a null MX");
                return Err(Trouble::permanent(Scope::Destination, Enhanced(5, 1, 10), text));
            }
            Err(Failure::NoSuchName | Failure::NoRecords) => {
                let text = format!("the domain {domain} does not exist");
                return Err(Trouble::permanent(Scope::Destination, Enhanced(5, 1, 2), text));
            }
            Err(Failure::Transient(why)) => return Err(silence(domain.as_str(), &why)),
        };
        let hosts = Self::new(resolver, guard, shuffled(exchangers), nobody).at(port, false);
        Ok(Self { proven, ..hosts })
    }

    /// The addresses of an upstream.
    #[must_use]
    pub(super) fn of_upstream(resolver: &'a Resolver, guard: &'a Guard, host: &str, port: u16) -> Self {
        let text = format!("the upstream {host} has no address: check its name in the tenant's route");
        let nobody = Trouble::transient(Scope::Destination, Enhanced(4, 4, 4), text);
        let only = vec![Exchanger { preference: 0, host: host.to_owned() }];
        Self::new(resolver, guard, only, nobody).at(port, true)
    }

    fn new(resolver: &'a Resolver, guard: &'a Guard, exchangers: Vec<Exchanger>, nobody: Trouble) -> Self {
        let faults = Faults { silent: None, looping: None, nameless: false, inside: None, nobody };
        Self {
            resolver,
            guard,
            port: 0,
            exchangers: exchangers.into(),
            ready: VecDeque::new(),
            budget: ADDRESSES_PER_ATTEMPT,
            until: None,
            upstream: false,
            proven: false,
            faults,
        }
    }

    fn at(self, port: u16, upstream: bool) -> Self {
        Self { port, upstream, ..self }
    }

    /// The names of the best exchangers, before the first of them is tried.
    pub(super) fn best(&self) -> impl Iterator<Item = &str> {
        let best = self.exchangers.front().map(|best| best.preference);
        let best = self.exchangers.iter().take_while(move |next| Some(next.preference) == best);
        best.map(|exchanger| exchanger.host.as_str())
    }

    /// The next host to try: of those of the same preference the first of the least rank.
    pub(super) async fn next(&mut self, rank: &(dyn Fn(&Host) -> u8 + Sync)) -> Option<Host> {
        if self.is_late(Instant::now()) {
            return None;
        }
        while self.ready.is_empty() && self.budget > 0 && !self.exchangers.is_empty() {
            self.look_up_group().await;
        }
        // The one for which there is no budget stays, and has not been seen.
        self.budget = self.budget.checked_sub(1)?;
        let (at, _) = self.ready.iter().enumerate().min_by_key(|(_, host)| rank(host))?;
        self.ready.remove(at)
    }

    fn is_late(&mut self, now: Instant) -> bool {
        let until = *self.until.get_or_insert(now + HOSTS_TIME);
        let tried = ADDRESSES_PER_ATTEMPT.saturating_sub(self.budget);
        tried >= ADDRESSES_MIN && now >= until
    }

    /// Whether every host was tried: none is left, none was without an address, and DNS was silent about none.
    pub(super) fn saw_all(&self) -> bool {
        let left = !self.exchangers.is_empty() || !self.ready.is_empty();
        !left && !self.faults.nameless && self.faults.silent.is_none()
    }

    /// Why there was no host at all; the explanation that gives most hope.
    #[must_use]
    pub(super) fn verdict(self) -> Trouble {
        let Faults { silent, looping, nameless, inside, nobody } = self.faults;
        let inside = inside.filter(|_| !nameless);
        let verdict = silent.or(looping).or(inside).unwrap_or(nobody);
        if self.upstream { Trouble { permanence: Permanence::Transient, ..verdict } } else { verdict }
    }

    /// Looks up all exchangers of the best preference left. If one of them is ourselves, neither they nor any worse one
    /// may be tried: that would be a loop (RFC 5321 section 5.1).
    async fn look_up_group(&mut self) {
        let Some(preference) = self.exchangers.front().map(|best| best.preference) else { return };
        let mut group = Vec::new();
        while let Some(exchanger) = self.exchangers.pop_front_if(|next| next.preference == preference) {
            match self.addresses(&exchanger.host).await {
                Ok(addresses) => group.extend(addresses.value.ips.into_iter().map(|ip| Host {
                    name: exchanger.host.clone(),
                    alias_of: addresses.value.alias_of.clone(),
                    address: SocketAddr::new(ip, self.port),
                    proven: self.proven && addresses.secure,
                })),
                Err(Failure::Transient(why)) => self.faults.silent = Some(silence(&exchanger.host, &why)),
                Err(Failure::NoSuchName | Failure::NoRecords) => self.faults.nameless = true,
            }
        }
        for host in group {
            match self.guard.check(host.address) {
                Ok(()) => self.ready.push_back(host),
                Err(Refusal::Ourselves) => self.faults.looping = Some(looping(&host)),
                Err(Refusal::Inside) => self.faults.inside = Some(inside(&host)),
            }
        }
        if self.faults.looping.is_some() {
            self.exchangers.clear();
            self.ready.clear();
        }
    }

    /// A host's addresses; an upstream may be given as its address.
    async fn addresses(&self, host: &str) -> Result<Proven<Addresses>, Failure> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse() {
            Ok(ip) if self.upstream => {
                Ok(Proven { value: Addresses { ips: vec![ip], alias_of: None }, secure: false })
            }
            Ok(_) | Err(_) => self.resolver.addresses_proven(host).await,
        }
    }
}

/// Exchangers of the same preference in random order (RFC 5321 section 5.1).
fn shuffled(mut exchangers: Vec<Exchanger>) -> Vec<Exchanger> {
    exchangers.shuffle(&mut rand::rng());
    exchangers.sort_by_key(|exchanger| exchanger.preference);
    exchangers
}

fn silence(name: &str, why: &str) -> Trouble {
    Trouble::transient(
        Scope::Destination,
        Enhanced(4, 4, 3),
        format!("DNS said nothing certain of {name}: {why}"),
    )
}

/// It names exchangers, but none has an address: a mistake of theirs that may be mended (DN7).
fn no_address(domain: &Domain) -> Trouble {
    let text = format!("no exchanger of {domain} has an address");
    Trouble::transient(Scope::Destination, Enhanced(4, 4, 4), text)
}

fn nowhere(domain: &Domain) -> Trouble {
    let text = format!("the domain {domain} has neither MX nor address records");
    Trouble::permanent(Scope::Destination, Enhanced(5, 1, 2), text)
}

fn inside(host: &Host) -> Trouble {
    let text = format!("{} has the address {}, which mail is never sent to", host.name, host.address.ip());
    Trouble::permanent(Scope::Destination, Enhanced(5, 4, 4), text)
}

fn looping(host: &Host) -> Trouble {
    let text = format!("mail loops back to us: we listen on {} ({}) ourselves", host.address, host.name);
    Trouble::permanent(Scope::Destination, Enhanced(5, 4, 6), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// Answers that each come just in time must not hold a slot for as long as all hosts together could take.
    #[tokio::test]
    async fn no_other_host_is_begun_with_after_half_an_hour() {
        let config = Config::new("relay.test".parse().unwrap(), std::path::Path::new("/nowhere"));
        let resolver = Resolver::new(&config.dns).unwrap();
        let guard = Guard::new(&config.delivery, Vec::new());
        let host = Host {
            name: "mx.test".to_owned(),
            alias_of: None,
            address: "192.0.2.1:25".parse().unwrap(),
            proven: false,
        };
        let mut hosts = Hosts::of_upstream(&resolver, &guard, "192.0.2.1", 25);
        hosts.exchangers.clear();
        hosts.ready.extend(vec![host; 4]);
        let any = |_: &Host| 0;
        assert!(hosts.next(&any).await.is_some(), "the first");
        assert!(hosts.until.is_some_and(|until| until > Instant::now()));
        hosts.until = Some(Instant::now());
        assert!(hosts.next(&any).await.is_some(), "RFC 5321 5.1: two at least");
        assert!(hosts.next(&any).await.is_none(), "it is late");
        assert!(!hosts.saw_all(), "and two are left that may do");
        hosts.until = None;
        assert!(hosts.next(&any).await.is_some(), "in time it would have been tried");
    }
}
