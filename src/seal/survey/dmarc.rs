//! DMARC's tree walk (RFC 9989 section 4.10), and whether those who are to get reports agreed to (RFC 9990 section 4, RFC
//! 7489 section 7.1). Every name is asked, also above a `psd=` that ends the walk: receivers of the older reading look there.

use tokio::task::JoinSet;

use super::{Asked, Asker, kept};
use crate::dns::{Resolver, Standing as Name};
use crate::mail::address::Domain;
use crate::seal::dmarc;
use crate::seal::dmarc_record::{Record, Standing, is_dmarc};
use crate::seal::facts::Walk;

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
    reports(fresh, &mut asker, (start, &mut found)).await;
    asker.done(Some(found))
}

/// All at once, in the walk's order.
async fn steps(fresh: &Resolver, start: &str) -> Vec<(String, Option<Vec<String>>, Asker)> {
    let mut tasks = JoinSet::new();
    for (at, name) in dmarc::names(start).into_iter().enumerate() {
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
    (standing.map(|standing| standing != Name::Absent), asker)
}

/// Asks each domain that reports go to.
async fn reports(fresh: &Resolver, asker: &mut Asker, (start, found): (&Domain, &mut Found)) {
    let mut tasks = JoinSet::new();
    for (owner, domain) in foreign(start, &found.walk) {
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
fn foreign(start: &Domain, walk: &Walk) -> Vec<(String, String)> {
    let organization = dmarc::organization(start, walk);
    let mut asked: Vec<(String, String)> = Vec::new();
    for (owner, records) in
        walk.steps.iter().filter(|(name, _)| name == start.as_str() || *name == organization)
    {
        let standing = Standing::of(records);
        for domain in standing.record().into_iter().flat_map(destinations) {
            let head = domain.strip_suffix(&*organization);
            let within = head.is_some_and(|head| head.is_empty() || head.ends_with('.'));
            let known = asked.iter().any(|(_, known)| *known == domain);
            if !within && !known && asked.len() < REPORTS_MAX {
                asked.push((owner.clone(), domain));
            }
        }
    }
    asked
}

/// The domains of `rua=` and `ruf=`; a size behind `!` is the older form (RFC 7489 section 6.2).
fn destinations(record: &Record) -> Vec<String> {
    let domain = |uri: &String| {
        let (_, domain) = uri.split('!').next()?.rsplit_once('@')?;
        domain.parse::<Domain>().ok().map(|domain| domain.as_str().to_owned())
    };
    record.rua.iter().chain(&record.ruf).filter_map(domain).collect()
}

#[cfg(test)]
#[path = "../tables/dmarc_walk.rs"]
mod tests;
