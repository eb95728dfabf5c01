//! What DNS says about a domain, as far as its mail is concerned: a picture, taken at a time and good until another. Data
//! only; `survey` takes it, `judge` reads it, and it survives a restart as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::spf::{LOOKUPS_MAX, VOIDS_MAX};
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// Something that DNS said. Silence (SERVFAIL, a timeout) never makes or replaces one: then the last one stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known<T> {
    /// What it said.
    pub value: T,
    /// When.
    pub seen: Time,
    /// When to ask again: by the records' TTL, within 30 s and a day.
    pub until: Time,
}

/// What is known of a name. `None` anywhere: DNS has not yet said anything that can be relied on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The name.
    pub domain: Domain,
    /// Whether the name exists and in whose zone it lies.
    pub presence: Option<Known<Presence>>,
    /// Where its mail goes.
    pub exchange: Option<Known<Exchange>>,
    /// Key records, by selector: those of the keys we have for the domain.
    pub keys: BTreeMap<String, Option<Known<KeyAnswer>>>,
    /// SPF at the name itself, for the addresses that our mail leaves from.
    pub spf: Option<Known<SpfAnswer>>,
    /// What stands at `_dmarc` of the name and, walking up, of the names above it (RFC 9989 section 4.10).
    pub dmarc: Option<Known<Walk>>,
    /// What DNS did not say at the last look, and why: shown by `domain check`.
    pub silence: Vec<Silence>,
    /// When that look was; 0: there was none.
    #[serde(default)]
    pub looked: Time,
}

/// A question that got no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// What was asked: `wx1._domainkey.acme.com TXT`.
    pub question: String,
    /// What came instead.
    pub why: String,
}

/// Whether a name exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Presence {
    /// It does; the zone that it lies in, as its SOA says.
    Exists {
        /// The zone's name, if an SOA record said it.
        zone: Option<String>,
    },
    /// NXDOMAIN.
    Absent,
}

/// Where a name's mail goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchange {
    /// MX records: preference and host.
    Hosts(Vec<(u16, String)>),
    /// No MX, but an address (RFC 5321 section 5.1).
    Implicit,
    /// RFC 7505: it takes no mail, and receivers refuse mail that it sends.
    Null,
    /// Neither MX nor address: nothing can be sent there.
    Nowhere,
}

/// What stands at `<selector>._domainkey.<domain>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// The name that a CNAME there leads to.
    pub alias: Option<String>,
    /// Every TXT record, its strings joined; empty: there is none.
    pub records: Vec<String>,
}

/// SPF of one name, as receivers evaluate it (RFC 7208).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpfAnswer {
    /// Every TXT record that is SPF's (`v=spf1`), its strings joined.
    pub records: Vec<String>,
    /// What mail-auth computes for each address that our mail leaves from.
    pub results: Vec<(IpAddr, SpfResult)>,
    /// Terms that cost a lookup, over all includes (section 4.6.4: at most 10).
    pub lookups: u32,
    /// Lookups that found nothing (section 4.6.4: at most 2).
    pub voids: u32,
    /// What is wrong with the records, here or in an include: each makes a strict receiver answer permerror.
    pub faults: Vec<SpfFault>,
    /// What works, but is not meant or breaks easily.
    #[serde(default)]
    pub warnings: Vec<SpfFault>,
    /// The tree of lookups, a line each, indented: for a person.
    pub tree: Vec<String>,
}

impl SpfAnswer {
    /// Whether a receiver that counts and reads as strictly as RFC 7208 allows has nothing to complain of.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
            && self.records.len() <= 1
            && self.lookups <= LOOKUPS_MAX
            && self.voids <= VOIDS_MAX
    }
}

/// What SPF says of an address (RFC 7208 section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpfResult {
    /// It may send.
    Pass,
    /// It may not (`-all`).
    Fail,
    /// Probably not (`~all`).
    SoftFail,
    /// Nothing is said (`?all`, or no match).
    Neutral,
    /// No record.
    None,
    /// The record cannot be evaluated.
    PermError,
    /// DNS did not answer.
    TempError,
}

/// Something wrong with an SPF record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpfFault {
    /// The name whose record it is.
    pub name: String,
    /// What is wrong, for a person, with the term in it.
    pub what: String,
}

/// The names that DMARC's tree walk asked, from the name itself upwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// Each name (without `_dmarc.`) with every TXT record found there, strings joined. The walk's order.
    pub steps: Vec<(String, Vec<String>)>,
    /// Whether the name that the walk began at exists: otherwise `np` applies.
    pub exists: bool,
    /// Other organizations' domains that reports go to, and whether those agreed to take them (RFC 9990 section 4).
    pub reports: Vec<(String, bool)>,
}

impl Picture {
    /// Nothing is known yet.
    #[must_use]
    pub fn blank(domain: Domain) -> Self {
        Self {
            domain,
            presence: None,
            exchange: None,
            keys: BTreeMap::new(),
            spf: None,
            dmarc: None,
            silence: Vec::new(),
            looked: Time(0),
        }
    }

    /// Whether another picture says the same, whenever they were taken.
    #[must_use]
    pub fn says_what(&self, other: &Self) -> bool {
        let keys = |picture: &Self| -> Vec<(String, Option<KeyAnswer>)> {
            picture.keys.iter().map(|(name, key)| (name.clone(), said(key.as_ref()).cloned())).collect()
        };
        said(self.presence.as_ref()) == said(other.presence.as_ref())
            && said(self.exchange.as_ref()) == said(other.exchange.as_ref())
            && said(self.spf.as_ref()) == said(other.spf.as_ref())
            && said(self.dmarc.as_ref()) == said(other.dmarc.as_ref())
            && keys(self) == keys(other)
    }

    /// The same, with what only an older picture knows.
    #[must_use]
    pub fn or(mut self, older: Self) -> Self {
        self.presence = self.presence.or(older.presence);
        self.exchange = self.exchange.or(older.exchange);
        self.spf = self.spf.or(older.spf);
        self.dmarc = self.dmarc.or(older.dmarc);
        self.looked = self.looked.max(older.looked);
        for (selector, key) in older.keys {
            let known = self.keys.entry(selector).or_default();
            *known = known.take().or(key);
        }
        self
    }

    /// When the first of what is known should be asked again; `None`: something is not known at all.
    #[must_use]
    pub fn until(&self) -> Option<Time> {
        let keys = self.keys.values().map(|key| key.as_ref().map(|known| known.until));
        let rest = [
            self.presence.as_ref().map(|known| known.until),
            self.exchange.as_ref().map(|known| known.until),
            self.spf.as_ref().map(|known| known.until),
            self.dmarc.as_ref().map(|known| known.until),
        ];
        rest.into_iter().chain(keys).try_fold(Time(u64::MAX), |least, until| Some(least.min(until?)))
    }
}

fn said<T>(known: Option<&Known<T>>) -> Option<&T> {
    known.map(|known| &known.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_survives_a_restart() {
        let known = |value| Some(Known { value, seen: Time(1), until: Time(2) });
        let mut picture = Picture::blank("acme.test".parse().unwrap());
        picture.presence = known(Presence::Exists { zone: Some("acme.test".to_owned()) });
        picture.exchange = Some(Known {
            value: Exchange::Hosts(vec![(10, "mx.test".to_owned())]),
            seen: Time(1),
            until: Time(2),
        });
        let answer = KeyAnswer { alias: None, records: vec!["v=DKIM1; p=".to_owned()] };
        picture.keys.insert("wx1".to_owned(), Some(Known { value: answer, seen: Time(1), until: Time(2) }));
        picture.keys.insert("wx2".to_owned(), None);
        let spf = SpfAnswer {
            results: vec![("192.0.2.1".parse().unwrap(), SpfResult::Pass)],
            ..SpfAnswer::default()
        };
        picture.spf = Some(Known { value: spf, seen: Time(1), until: Time(2) });
        let walk =
            Walk { steps: vec![("acme.test".to_owned(), Vec::new())], exists: true, reports: Vec::new() };
        picture.dmarc = Some(Known { value: walk, seen: Time(1), until: Time(2) });
        let json = serde_json::to_vec(&picture).unwrap();
        assert_eq!(serde_json::from_slice::<Picture>(&json).unwrap(), picture);
    }
}
