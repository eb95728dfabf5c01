//! What two tenants cannot both have: a user name, a From domain, a network.

use std::collections::HashMap;

use ipnet::IpNet;
use toml::Spanned;

use super::load::Draft;
use crate::config::ConfigError;
use crate::mail::address::Domain;

/// The first clash between any two tenants, or within one.
pub(super) fn check(drafts: &[Draft]) -> Result<(), ConfigError> {
    usernames(drafts)?;
    domains(drafts)?;
    return_paths(drafts)?;
    networks(drafts)
}

fn usernames(drafts: &[Draft]) -> Result<(), ConfigError> {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for draft in drafts {
        for login in &draft.file.login {
            let name = login.username.get_ref();
            if let Some(other) = seen.insert(name, draft.name()) {
                let what = format!("the user name `{name}` is tenant `{other}`'s already");
                return Err(draft.wrong(&login.username, what));
            }
        }
    }
    Ok(())
}

fn domains(drafts: &[Draft]) -> Result<(), ConfigError> {
    let mut owners: HashMap<&str, (&str, bool)> = HashMap::new();
    for draft in drafts {
        for domain in &draft.file.domain {
            let name = domain.name.get_ref();
            if let Some((other, _)) = owners.insert(name.as_str(), (draft.name(), domain.subdomains)) {
                return Err(draft.wrong(&domain.name, format!("{name} is tenant `{other}`'s already")));
            }
        }
    }
    for draft in drafts {
        for domain in &draft.file.domain {
            covered(draft, &domain.name, &owners)?;
        }
    }
    Ok(())
}

/// A bounce is told to the tenant whose return path it came to.
fn return_paths(drafts: &[Draft]) -> Result<(), ConfigError> {
    let mut owners: HashMap<&Domain, &str> = HashMap::new();
    for draft in drafts {
        for path in draft.file.domain.iter().filter_map(|domain| domain.return_path.as_ref()) {
            let other = *owners.entry(path.get_ref()).or_insert(draft.name());
            if other != draft.name() {
                let what = format!("{} is tenant `{other}`'s return path already", path.get_ref());
                return Err(draft.wrong(path, what));
            }
        }
    }
    Ok(())
}

/// A name below somebody else's domain, where that one covers its subdomains, would have two owners.
fn covered(
    draft: &Draft,
    name: &Spanned<Domain>,
    owners: &HashMap<&str, (&str, bool)>,
) -> Result<(), ConfigError> {
    let mut parent = name.get_ref().as_str();
    while let Some((_, above)) = parent.split_once('.') {
        parent = above;
        if let Some((other, true)) = owners.get(above)
            && *other != draft.name()
        {
            let what = format!(
                "{} is tenant `{other}`'s already: its {above} has subdomains = true",
                name.get_ref()
            );
            return Err(draft.wrong(name, what));
        }
    }
    Ok(())
}

/// Two ranges are apart, or one holds the other. Sorted by first address and then by width, a range that is held stands
/// behind the widest one that holds it, so one pass finds every overlap.
fn networks(drafts: &[Draft]) -> Result<(), ConfigError> {
    let mut all: Vec<(&Draft, &Spanned<IpNet>)> =
        drafts.iter().flat_map(|draft| draft.file.networks.iter().map(move |net| (draft, net))).collect();
    all.sort_by_key(|(_, net)| (net.get_ref().network(), net.get_ref().prefix_len()));
    let mut widest: Option<(&Draft, IpNet)> = None;
    for (draft, net) in all {
        let range = *net.get_ref();
        match widest {
            Some((other, outer)) if outer.contains(&range) => {
                if other.name() != draft.name() {
                    let what = format!("{range} overlaps {outer} of tenant `{}`", other.name());
                    return Err(draft.wrong(net, what));
                }
            }
            _ => widest = Some((draft, range)),
        }
    }
    Ok(())
}
