//! DMARC's tree walk (RFC 9989 section 4.10), and whether those who are to get reports agreed to (RFC 9990 section 4, RFC
//! 7489 section 7.1). Every name is asked, also above a `psd=` that ends the walk: receivers of the older reading look there.

use tokio::task::JoinSet;

use super::{Asked, Asker, kept};
use crate::dns::{Resolver, Standing};
use crate::mail::address::Domain;
use crate::seal::facts::Walk;

/// RFC 9989 section 4.10: with more labels than this, all but so many less one are skipped after the first query.
const LABELS_MAX: usize = 8;
/// Domains of report addresses that are asked about.
const REPORTS_MAX: usize = 10;

/// A walk, and what could not be learnt of those who get reports.
pub(super) struct Found {
    walk: Walk,
    /// Domains that DNS said nothing of.
    unheard: Vec<String>,
}

impl Found {
    /// The walk, with what was known before of domains that are silent now.
    pub(super) fn completed(mut self, before: Option<&Walk>) -> Walk {
        let known = before.into_iter().flat_map(|walk| &walk.reports);
        let kept = known.filter(|(domain, _)| self.unheard.contains(domain)).cloned();
        self.walk.reports.extend(kept);
        self.walk
    }
}

pub(super) async fn ask(fresh: &Resolver, start: &Domain) -> Asked<Found> {
    let mut asker = Asker::new(fresh);
    let (steps, exists) = tokio::join!(steps(fresh, start.as_str()), exists(fresh, start.as_str()));
    asker.joined(exists.1);
    let mut told = Some(Vec::new());
    for (name, text, step) in steps {
        asker.joined(step);
        told = told.zip(text).map(|(mut told, records)| {
            told.push((name, records));
            told
        });
    }
    let (Some(steps), Some(exists)) = (told, exists.0) else { return asker.done(None) };
    let mut found = Found { walk: Walk { steps, exists, reports: Vec::new() }, unheard: Vec::new() };
    reports(fresh, &mut asker, &mut found).await;
    asker.done(Some(found))
}

/// The names of the walk: the start, then upwards to the top, at most eight.
fn names(start: &str) -> Vec<&str> {
    let labels: Vec<&str> = start.split('.').collect();
    let first = if labels.len() >= LABELS_MAX { labels.len() - (LABELS_MAX - 1) } else { 1 };
    let above = (first..labels.len()).map(|skipped| {
        let cut: usize = labels.iter().take(skipped).map(|label| label.len() + 1).sum();
        start.get(cut..).unwrap_or_default()
    });
    std::iter::once(start).chain(above).collect()
}

/// All at once, in the walk's order.
async fn steps(fresh: &Resolver, start: &str) -> Vec<(String, Option<Vec<String>>, Asker)> {
    let mut tasks = JoinSet::new();
    for (at, name) in names(start).into_iter().enumerate() {
        let mut asker = Asker::new(fresh);
        let name = name.to_owned();
        tasks.spawn(async move {
            let text = asker.text(&format!("_dmarc.{name}")).await;
            (at, (name, text.map(|text| kept(text.records)), asker))
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, step)| step).collect()
}

async fn exists(fresh: &Resolver, name: &str) -> (Option<bool>, Asker) {
    let mut asker = Asker::new(fresh);
    let standing = asker.standing(name).await;
    (standing.map(|standing| standing != Standing::Absent), asker)
}

/// Asks each domain that reports go to.
async fn reports(fresh: &Resolver, asker: &mut Asker, found: &mut Found) {
    let mut tasks = JoinSet::new();
    for (owner, domain) in foreign(&found.walk.steps) {
        let mut asker = Asker::new(fresh);
        tasks.spawn(async move {
            let text = asker.text(&format!("{owner}._report._dmarc.{domain}")).await;
            (domain, text.map(|text| text.records.iter().any(|record| is_dmarc(record))), asker)
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by(|one, other| one.0.cmp(&other.0));
    for (domain, agreed, other) in all {
        asker.joined(other);
        match agreed {
            Some(agreed) => found.walk.reports.push((domain, agreed)),
            None => found.unheard.push(domain),
        }
    }
}

/// The report addresses' domains that are not the organization's own, each with the owner of the record that names it. Only
/// two records can be the one that applies: the start's, and its organization's.
fn foreign(steps: &[(String, Vec<String>)]) -> Vec<(String, String)> {
    let Some(organization) = organization(steps) else { return Vec::new() };
    let start = steps.first().map(|(name, _)| name.as_str());
    let mut asked: Vec<(String, String)> = Vec::new();
    for (owner, records) in
        steps.iter().filter(|(name, _)| Some(name.as_str()) == start || name == organization)
    {
        for domain in only(records).into_iter().flat_map(destinations) {
            let head = domain.strip_suffix(organization);
            let within = head.is_some_and(|head| head.is_empty() || head.ends_with('.'));
            let known = asked.iter().any(|(_, known)| *known == domain);
            if !within && !known && asked.len() < REPORTS_MAX {
                asked.push((owner.clone(), domain));
            }
        }
    }
    asked
}

/// The organizational domain of the first step (RFC 9989 section 4.10.2), as far as the walk shows it.
fn organization(steps: &[(String, Vec<String>)]) -> Option<&str> {
    let mut shortest = None;
    let mut below = None;
    for (name, records) in steps {
        if let Some(record) = only(records) {
            let psd = tag(record, "psd").unwrap_or_default().to_ascii_lowercase();
            match (psd.as_str(), below) {
                ("n", _) => return Some(name),
                ("y", Some(_)) => return below,
                _ => shortest = Some(name.as_str()),
            }
        }
        below = Some(name.as_str());
    }
    shortest
}

/// RFC 9989 section 4.10: of several, none counts.
fn only(records: &[String]) -> Option<&str> {
    let mut ours = records.iter().filter(|record| is_dmarc(record));
    ours.next().filter(|_| ours.next().is_none()).map(String::as_str)
}

/// What begins with the version, to the letter of RFC 9989 section 4.8.
fn is_dmarc(record: &str) -> bool {
    let first = record.split(';').next().unwrap_or_default();
    first
        .split_once('=')
        .is_some_and(|(name, value)| name.trim_end().eq_ignore_ascii_case("v") && value.trim() == "DMARC1")
}

fn tag<'r>(record: &'r str, wanted: &str) -> Option<&'r str> {
    let mut tags = record.split(';').filter_map(|tag| tag.split_once('='));
    tags.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
}

/// The domains of `rua=` and `ruf=`; a size behind `!` is the older form (RFC 7489 section 6.2).
fn destinations(record: &str) -> Vec<String> {
    let lists = ["rua", "ruf"].into_iter().filter_map(|name| tag(record, name));
    let uris = lists.flat_map(|list| list.split(','));
    let domains = uris.filter_map(|uri| {
        let (scheme, address) = uri.trim().split_at_checked("mailto:".len())?;
        let address = address.split('!').next().unwrap_or_default();
        let (_, domain) = address.rsplit_once('@').filter(|_| scheme.eq_ignore_ascii_case("mailto:"))?;
        domain.parse::<Domain>().ok().map(|domain| domain.as_str().to_owned())
    });
    domains.collect()
}

#[cfg(test)]
#[path = "../tables/dmarc_walk.rs"]
mod tests;
