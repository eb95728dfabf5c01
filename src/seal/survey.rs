//! Takes a picture of a name: asks DNS what a receiver would ask about our mail. All questions at once, bounded as a whole. What
//! DNS does not answer stays as it was known before.

mod dmarc;
mod spf;

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::facts::{Exchange, KeyAnswer, Known, Picture, Presence, Silence};
use crate::dns::{Failure, Resolver, Said, Zone};
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// The longest that a picture may take.
const WHOLE: Duration = Duration::from_secs(10);
/// A picture is looked at again no sooner and no later than this, whatever the TTL says.
const TTL_MIN: Duration = Duration::from_secs(30);
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Selectors asked about: a domain has two keys, four with Ed25519.
const SELECTORS_MAX: usize = 20;

/// What to ask about a name.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The name.
    pub domain: Domain,
    /// Our keys' selectors there.
    pub selectors: Vec<String>,
    /// The addresses that receivers see our mail come from.
    pub egress: Vec<IpAddr>,
    /// What we say in EHLO.
    pub hostname: Domain,
}

/// Takes the picture; `before` is what was known.
pub async fn survey(resolver: &Resolver, wanted: &Wanted, before: Option<&Picture>, now: Time) -> Picture {
    let ask = Ask { resolver, wanted, now, end: Instant::now() + WHOLE };
    let (presence, exchange, keys, spf, dmarc) =
        tokio::join!(ask.presence(), ask.exchange(), ask.keys(), ask.spf(), ask.dmarc());
    let mut taker = Taker { silence: Vec::new() };
    let old = before.cloned().unwrap_or_else(|| Picture::blank(wanted.domain.clone()));
    let domain = &wanted.domain;
    let keys = keys.into_iter().map(|(selector, answer)| {
        let known = old.keys.get(&selector).cloned().flatten();
        let question = format!("{selector}._domainkey.{domain} TXT");
        let taken = taker.take(question, answer, known);
        (selector, taken)
    });
    let keys = keys.collect();
    Picture {
        domain: domain.clone(),
        presence: taker.take(format!("{domain} SOA"), presence, old.presence),
        exchange: taker.take(format!("{domain} MX"), exchange, old.exchange),
        keys,
        spf: taker.take(format!("{domain} SPF"), spf, old.spf),
        dmarc: taker.take(format!("_dmarc.{domain} TXT"), dmarc, old.dmarc),
        silence: taker.silence,
    }
}

/// Takes what was answered, or leaves what was known.
struct Taker {
    silence: Vec<Silence>,
}

impl Taker {
    fn take<T>(
        &mut self,
        question: String,
        answer: Result<Known<T>, Failure>,
        known: Option<Known<T>>,
    ) -> Option<Known<T>> {
        match answer {
            Ok(new) => Some(new),
            Err(failure) => {
                self.silence.push(Silence { question, why: failure.to_string() });
                known
            }
        }
    }
}

/// The questions about one name.
struct Ask<'a> {
    resolver: &'a Resolver,
    wanted: &'a Wanted,
    now: Time,
    end: Instant,
}

impl Ask<'_> {
    fn known<T>(&self, value: T, ttl: Duration) -> Known<T> {
        Known { value, seen: self.now, until: self.now.after(ttl.clamp(TTL_MIN, TTL_MAX)) }
    }

    /// A question that is part of the whole.
    async fn within<T>(&self, question: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let late = || Failure::Transient("all questions together took too long".to_owned());
        timeout_at(self.end, question).await.unwrap_or_else(|_| Err(late()))
    }

    async fn presence(&self) -> Result<Known<Presence>, Failure> {
        let Said { value, ttl } = self.within(self.resolver.zone(self.wanted.domain.as_str())).await?;
        let presence = match value {
            Zone::In(zone) => Presence::Exists { zone },
            Zone::Nowhere => Presence::Absent,
        };
        Ok(self.known(presence, ttl))
    }

    async fn exchange(&self) -> Result<Known<Exchange>, Failure> {
        let name = self.wanted.domain.as_str();
        let Said { value: hosts, ttl } = self.within(self.resolver.exchangers(name)).await?;
        if hosts.is_empty() {
            let addresses = self.within(self.resolver.addresses_now(name)).await?;
            let exchange = if addresses.value.is_empty() { Exchange::Nowhere } else { Exchange::Implicit };
            return Ok(self.known(exchange, ttl.min(addresses.ttl)));
        }
        // RFC 7505 section 3: a null MX stands alone.
        let null = hosts.iter().all(|(_, host)| host.is_empty());
        let exchange = if null {
            Exchange::Null
        } else {
            Exchange::Hosts(hosts.into_iter().filter(|(_, host)| !host.is_empty()).collect())
        };
        Ok(self.known(exchange, ttl))
    }

    async fn keys(&self) -> Vec<(String, Result<Known<KeyAnswer>, Failure>)> {
        let mut found = Vec::new();
        for selector in self.wanted.selectors.iter().take(SELECTORS_MAX) {
            let name = format!("{selector}._domainkey.{}", self.wanted.domain);
            let said = self.within(self.resolver.texts(&name)).await;
            let answer = said.map(|Said { value, ttl }| {
                self.known(KeyAnswer { alias: value.alias, records: value.records }, ttl)
            });
            found.push((selector.clone(), answer));
        }
        found
    }
}
