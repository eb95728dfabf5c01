//! What DMARC says of mail of an author: the record that applies, its policy and the organizational domain, by RFC 9989's
//! tree walk and by the older reading with the public suffix list (RFC 7489). Receivers follow either.

use super::dmarc_record::{Mode, Psd, Record, Standing};
use super::facts::Walk;
use super::judge::Policy;
use crate::mail::address::Domain;

/// RFC 9989 section 4.10: with more labels than this, all but so many less one are skipped after the first query.
pub(super) const LABELS_MAX: usize = 8;

/// The record that applies to an author, as one kind of receiver finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The organizational domain of the author.
    pub organization: String,
    /// The name whose record applies; `None`: DMARC says nothing of this author.
    pub source: Option<String>,
    /// What it says of this author's mail.
    pub policy: Option<Policy>,
    /// How d= must align.
    pub adkim: Mode,
    /// How the reverse-path must align.
    pub aspf: Mode,
}

/// Both readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// RFC 9989.
    pub walk: Reading,
    /// RFC 7489.
    pub suffix: Reading,
}

/// The names of the walk: the start, then upwards to the top, at most eight.
pub(super) fn names(start: &str) -> Vec<&str> {
    let labels: Vec<&str> = start.split('.').collect();
    let first = if labels.len() >= LABELS_MAX { labels.len() - (LABELS_MAX - 1) } else { 1 };
    let above = (first..labels.len()).map(|skipped| {
        let cut: usize = labels.iter().take(skipped).map(|label| label.len() + 1).sum();
        start.get(cut..).unwrap_or_default()
    });
    std::iter::once(start).chain(above).collect()
}

/// Both readings of what was found from the author upwards.
#[must_use]
pub fn readings(author: &Domain, walk: &Walk) -> Readings {
    let steps = steps(walk);
    Readings { walk: by_walk(author, walk.exists, &steps), suffix: by_suffix(author, &steps) }
}

/// The organizational domain of a name by RFC 9989 section 4.10.2.
#[must_use]
pub fn organization(start: &Domain, walk: &Walk) -> String {
    organization_in(start.as_str(), reachable(&steps(walk)))
}

/// The organizational domain of a name by the public suffix list (RFC 7489 section 3.2); a public suffix is its own.
#[must_use]
pub fn registered(name: &str) -> &str {
    psl::domain_str(name).unwrap_or(name)
}

type Step<'w> = (&'w str, Standing);

fn steps(walk: &Walk) -> Vec<Step<'_>> {
    walk.steps.iter().map(|(name, records)| (name.as_str(), Standing::of(records))).collect()
}

/// RFC 9989 section 4.10: the walk ends at a record with `psd=y` or `psd=n`; whoever asked further is not followed.
fn reachable<'s, 'w>(steps: &'s [Step<'w>]) -> &'s [Step<'w>] {
    let end = steps
        .iter()
        .position(|(_, standing)| standing.record().is_some_and(|record| record.psd != Psd::Unsaid));
    end.and_then(|end| steps.get(..=end)).unwrap_or(steps)
}

/// RFC 9989 section 4.10.2.
fn organization_in(start: &str, steps: &[Step<'_>]) -> String {
    let valid = || steps.iter().filter_map(|(name, standing)| Some((*name, standing.record()?)));
    if let Some((name, _)) = valid().find(|(_, record)| record.psd == Psd::No) {
        return name.to_owned();
    }
    if let Some((name, _)) = valid().find(|(name, record)| record.psd == Psd::Yes && *name != start) {
        return below(start, name).to_owned();
    }
    let shortest = valid().min_by_key(|(name, _)| name.split('.').count());
    shortest.map_or(start, |(name, _)| name).to_owned()
}

/// The name one label below `above`, towards `start`.
fn below<'n>(start: &'n str, above: &str) -> &'n str {
    let Some(head) = start.strip_suffix(above).and_then(|head| head.strip_suffix('.')) else { return start };
    let cut = head.rfind('.').map_or(0, |dot| dot + 1);
    start.get(cut..).unwrap_or(start)
}

/// RFC 9989 section 4.10.1.
fn by_walk(author: &Domain, exists: bool, steps: &[Step<'_>]) -> Reading {
    let steps = reachable(steps);
    let organization = organization_in(author.as_str(), steps);
    let at = |wanted: &str| steps.iter().find(|(name, _)| *name == wanted).and_then(found);
    let suffix = || steps.last().and_then(found).filter(|(_, record)| record.psd == Psd::Yes);
    let record = at(author.as_str()).or_else(|| at(&organization)).or_else(suffix);
    let stated = record.and_then(|(name, record)| {
        // Without a usable p= the record counts as p=none if somebody wants reports, and else not at all.
        let Some(p) = record.p.filter(|_| !record.policy_broken()) else {
            return (!record.rua.is_empty()).then_some(Policy::None);
        };
        if name == author.as_str() {
            return Some(p);
        }
        let sp = record.sp.unwrap_or(p);
        Some(if exists { sp } else { record.np.unwrap_or(sp) })
    });
    let testing = record.is_some_and(|(_, record)| record.testing);
    reading(organization, record, stated.map(|policy| if testing { lowered(policy) } else { policy }))
}

/// RFC 7489 sections 6.6.3: the author's record, else the organizational domain's; no walk, no np=, no t=.
fn by_suffix(author: &Domain, steps: &[Step<'_>]) -> Reading {
    let organization = registered(author.as_str()).to_owned();
    let at = |wanted: &str| steps.iter().find(|(name, _)| *name == wanted);
    let record = match at(author.as_str()) {
        // Two records end the discovery; they do not send it to the organizational domain.
        Some((_, Standing::Several(_))) => None,
        Some((name, Standing::One(record))) => Some((*name, record.as_ref())),
        Some((_, Standing::None)) | None => at(&organization).and_then(found),
    };
    let stated = record.and_then(|(name, record)| {
        let Some(p) = record.p.filter(|_| !record.policy_broken()) else {
            return (!record.rua.is_empty()).then_some(Policy::None);
        };
        Some(if name == author.as_str() { p } else { record.sp.unwrap_or(p) })
    });
    reading(organization, record, stated)
}

fn found<'s>((name, standing): &'s Step<'_>) -> Option<(&'s str, &'s Record)> {
    standing.record().map(|record| (*name, record))
}

fn reading(organization: String, record: Option<(&str, &Record)>, policy: Option<Policy>) -> Reading {
    let applied = record.filter(|_| policy.is_some());
    Reading {
        organization,
        source: applied.map(|(name, _)| name.to_owned()),
        policy,
        adkim: applied.map_or(Mode::Relaxed, |(_, record)| record.adkim),
        aspf: applied.map_or(Mode::Relaxed, |(_, record)| record.aspf),
    }
}

/// RFC 9989 section 4.7, `t=y`.
fn lowered(policy: Policy) -> Policy {
    match policy {
        Policy::Reject => Policy::Quarantine,
        Policy::Quarantine | Policy::None => Policy::None,
    }
}

#[cfg(test)]
#[path = "tables/dmarc.rs"]
mod tests;
