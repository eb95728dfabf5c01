//! The names that tenants' mail depends on, and what to ask about each.

use std::collections::{BTreeMap, HashSet};

use super::{Force, egress};
use crate::mail::address::Domain;
use crate::seal::survey::Wanted;
use crate::tenant::{Directory, OnFail, OwnedDomain};

/// The names that tenants' mail depends on, each with the selectors to look at. A domain that nobody judges (`on_fail = "off"`)
/// costs no lookup.
#[must_use]
pub fn names(directory: &Directory, force: Force<'_>, below: &[Domain]) -> Vec<Wanted> {
    let mut names: BTreeMap<Domain, Wanted> = BTreeMap::new();
    let mut add = |name: &Domain| {
        names.entry(name.clone()).or_insert_with(|| wanted(name, force));
    };
    let judged: Vec<&OwnedDomain> = judged(directory).collect();
    for own in &judged {
        add(&own.name);
        own.return_path.iter().for_each(&mut add);
    }
    if !judged.is_empty() {
        add(&force.config.hostname);
        // Its keys move along by what is seen of them, as a tenant's do.
        Some(&force.config.relay.domain)
            .filter(|own| !force.keyring.keys(own).is_empty())
            .into_iter()
            .for_each(&mut add);
    }
    let tops: HashSet<&str> = judged.iter().map(|own| own.name.as_str()).collect();
    below.iter().filter(|name| lies_below(name, |above| tops.contains(above))).for_each(add);
    names.into_values().collect()
}

/// Says of a name whether it lies below a judged domain, and is looked at for no other reason.
pub fn below(directory: &Directory, force: Force<'_>) -> impl Fn(&Domain) -> bool + use<> {
    let others: HashSet<Domain> =
        names(directory, force, &[]).into_iter().map(|wanted| wanted.domain).collect();
    let judged: HashSet<String> = judged(directory).map(|own| own.name.to_string()).collect();
    move |name| !others.contains(name) && lies_below(name, |above| judged.contains(above))
}

/// Whether this holds for a name above it.
fn lies_below(name: &Domain, holds: impl Fn(&str) -> bool) -> bool {
    let mut rest = name.as_str();
    while let Some((_, above)) = rest.split_once('.') {
        if holds(above) {
            return true;
        }
        rest = above;
    }
    false
}

fn judged(directory: &Directory) -> impl Iterator<Item = &OwnedDomain> {
    let all = directory.tenants().flat_map(|tenant| tenant.domains.iter());
    all.filter(|own| own.on_fail != OnFail::Off)
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
