//! Takes the picture of a name: everything is asked of DNS afresh, at once and within a bound. What gets no answer keeps
//! what was known before, and is written down as silence.

mod asker;
mod dmarc;
mod due;
mod spf;

pub(super) use asker::Asker;
pub use due::due;

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::facts::{Exchange, KeyAnswer, Known, Picture, Presence, Silence};
use crate::dns::{Family, Mx, Resolver, Standing};
use crate::mail::address::Domain;
use crate::mail::time::Time;

/// The whole of a survey; the daemon starts with one of each domain, side by side.
pub const SURVEY_MAX: Duration = Duration::from_secs(10);
/// An answer holds at least so long, whatever its TTL.
pub const HOLDS_MIN: Duration = Duration::from_secs(30);
/// And at most so long.
pub const HOLDS_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// That there is nothing holds no longer than this: somebody may be about to publish it.
pub const NOTHING_HOLDS_MAX: Duration = Duration::from_secs(5 * 60);
/// How soon to ask again what got no answer, at first.
pub const SILENCE_MIN: Duration = Duration::from_secs(30);
/// And at last: DNS may be silent about a name for days.
pub const SILENCE_MAX: Duration = Duration::from_secs(10 * 60);
/// A silence is broken after another such part of the time that it has lasted.
const SILENCE_PART: u32 = 10;
/// Records kept of one name; two are a mistake already.
const RECORDS_MAX: usize = 8;
/// Octets kept of a record; the key record of RSA-4096 has fewer than 800.
const RECORD_MAX: usize = 8_192;

/// What to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name.
    pub domain: Domain,
    /// Selectors of the keys we have for it.
    pub selectors: Vec<String>,
    /// The addresses that our mail leaves from; empty: not known, and SPF is read but not evaluated.
    pub egress: Vec<IpAddr>,
    /// Our EHLO name.
    pub hostname: Domain,
}

/// What one question brought: an answer, unless DNS kept it back, and for how long it holds.
struct Asked<T> {
    value: Option<T>,
    holds: Duration,
    silence: Vec<Silence>,
}

/// Asks DNS now. Never longer than `SURVEY_MAX`; `before` is the last picture of the same name.
pub async fn survey(resolver: &Resolver, wanted: &Wanted, before: Option<&Picture>, now: Time) -> Picture {
    // On the heap: all questions under way at once make a large future.
    Box::pin(take(resolver, wanted, before, now)).await
}

async fn take(resolver: &Resolver, wanted: &Wanted, before: Option<&Picture>, now: Time) -> Picture {
    let blank = Picture::blank(wanted.domain.clone());
    let before = before.filter(|picture| picture.domain == wanted.domain).unwrap_or(&blank);
    let fresh = match resolver.afresh() {
        Ok(fresh) => fresh,
        Err(error) => return unasked(wanted, before, &error.to_string(), now),
    };
    let deadline = Instant::now() + SURVEY_MAX;
    let name = &wanted.domain;
    let (presence, exchange, keys, spf, dmarc) = tokio::join!(
        bounded(deadline, format!("{name} SOA"), presence(Asker::new(&fresh), name)),
        bounded(deadline, format!("{name} MX"), exchange(Asker::new(&fresh), name)),
        keys(&fresh, wanted, deadline),
        bounded(deadline, format!("{name} SPF"), spf::ask(&fresh, wanted)),
        bounded(deadline, format!("{name} DMARC"), dmarc::ask(&fresh, name)),
    );
    let mut picture = Picture { looked: now, ..blank.clone() };
    let silence = &mut picture.silence;
    picture.presence = settle(presence, before.presence.as_ref(), now, silence);
    picture.exchange = settle(exchange, before.exchange.as_ref(), now, silence);
    for (selector, asked) in keys {
        let last = before.keys.get(&selector).and_then(Option::as_ref);
        let key = settle(asked, last, now, silence);
        picture.keys.insert(selector, key);
    }
    picture.spf = settle(spf, before.spf.as_ref(), now, silence);
    let last = before.dmarc.as_ref();
    picture.dmarc =
        settle(dmarc.map(|walk| walk.completed(last.map(|known| &known.value))), last, now, silence);
    picture
}

/// There is no resolver to ask: everything stays as it was.
fn unasked(wanted: &Wanted, before: &Picture, why: &str, now: Time) -> Picture {
    let key = |selector: &String| {
        let last = before.keys.get(selector).and_then(Option::as_ref);
        (selector.clone(), last.map(|known| unanswered(known, now)))
    };
    Picture {
        presence: before.presence.as_ref().map(|known| unanswered(known, now)),
        exchange: before.exchange.as_ref().map(|known| unanswered(known, now)),
        keys: wanted.selectors.iter().map(key).collect(),
        spf: before.spf.as_ref().map(|known| unanswered(known, now)),
        dmarc: before.dmarc.as_ref().map(|known| unanswered(known, now)),
        silence: vec![Silence { question: "every question".into(), why: why.to_owned() }],
        looked: now,
        ..before.clone()
    }
}

impl<T> Asked<T> {
    fn map<U>(self, with: impl FnOnce(T) -> U) -> Asked<U> {
        Asked { value: self.value.map(with), holds: self.holds, silence: self.silence }
    }
}

/// What was said replaces what was known; silence does not.
fn settle<T: Clone>(
    asked: Asked<T>,
    before: Option<&Known<T>>,
    now: Time,
    silence: &mut Vec<Silence>,
) -> Option<Known<T>> {
    for silent in asked.silence {
        if !silence.contains(&silent) {
            silence.push(silent);
        }
    }
    match asked.value {
        Some(value) => {
            Some(Known { value, seen: now, until: now.after(asked.holds.clamp(HOLDS_MIN, HOLDS_MAX)) })
        }
        None => before.map(|known| unanswered(known, now)),
    }
}

/// What was known stays so when nothing is heard; the longer ago it was heard, the longer until it is asked again.
fn unanswered<T: Clone>(known: &Known<T>, now: Time) -> Known<T> {
    let wait = (now.since(known.seen) / SILENCE_PART).clamp(SILENCE_MIN, SILENCE_MAX);
    // What holds longer than anything can was seen before the clock was set back.
    let until = Some(known.until).filter(|until| *until <= now.after(HOLDS_MAX)).unwrap_or(now);
    Known { until: until.max(now.after(wait)), ..known.clone() }
}

async fn bounded<T>(deadline: Instant, question: String, asked: impl Future<Output = Asked<T>>) -> Asked<T> {
    timeout_at(deadline, asked).await.unwrap_or_else(|_| {
        let why = format!("no answer within {} s", SURVEY_MAX.as_secs());
        Asked { value: None, holds: HOLDS_MIN, silence: vec![Silence { question, why }] }
    })
}

async fn presence(mut asker: Asker, name: &Domain) -> Asked<Presence> {
    let value = asker.standing(name.as_str()).await.map(|standing| match standing {
        Standing::Exists { zone } => Presence::Exists { zone },
        Standing::Absent => Presence::Absent,
    });
    asker.done(value)
}

/// RFC 5321 section 5.1: without MX, the name's own addresses.
async fn exchange(mut asker: Asker, name: &Domain) -> Asked<Exchange> {
    let value = match asker.exchange(name.as_str()).await {
        None => None,
        Some(Mx::Null) => Some(Exchange::Null),
        Some(Mx::Exchangers(list)) => {
            let hosts = list.into_iter().map(|exchanger| (exchanger.preference, exchanger.host));
            Some(Exchange::Hosts(hosts.collect()))
        }
        Some(Mx::Implicit) => implicit(&mut asker, name.as_str()).await,
    };
    asker.done(value)
}

async fn implicit(asker: &mut Asker, name: &str) -> Option<Exchange> {
    let four = asker.hosts(name, Family::V4).await;
    if four.as_ref().is_some_and(|found| !found.is_empty()) {
        return Some(Exchange::Implicit);
    }
    let six = asker.hosts(name, Family::V6).await?;
    if !six.is_empty() {
        return Some(Exchange::Implicit);
    }
    four.map(|_| Exchange::Nowhere)
}

/// Each selector on its own: one that is silent hides no other.
async fn keys(fresh: &Resolver, wanted: &Wanted, deadline: Instant) -> Vec<(String, Asked<KeyAnswer>)> {
    let mut tasks = JoinSet::new();
    for selector in wanted.selectors.clone() {
        let mut asker = Asker::new(fresh);
        let name = format!("{selector}._domainkey.{}", wanted.domain);
        tasks.spawn(async move {
            let question = format!("{name} TXT");
            let asked = async {
                let text = asker.text_or_alias(&name).await;
                let value = text.map(|text| KeyAnswer { alias: text.alias, records: kept(text.records) });
                asker.done(value)
            };
            (selector, bounded(deadline, question, asked).await)
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// As much of the records as is worth keeping.
pub(super) fn kept(records: Vec<String>) -> Vec<String> {
    let cut = |mut record: String| {
        record.truncate(record.floor_char_boundary(RECORD_MAX));
        record
    };
    records.into_iter().take(RECORDS_MAX).map(cut).collect()
}
