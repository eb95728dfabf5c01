//! What `domain check` says beyond the verdict: what no receiver computes, and still decides whether replies, bounces and
//! reports arrive. Pure over pictures, except for the addresses of the exchangers in them, which `homes` looks up.

use std::net::IpAddr;

use super::facts::{Exchange, Picture, SpfAnswer};
use super::judge::{Change, Finding, Level, Policy};
use super::records::{Kind, Record};
use super::signature::SIGNED;
use crate::dns::{Failure, Resolver};
use crate::mail::address::Domain;
use crate::tenant::{OwnedDomain, Tenant};

/// Exchangers of one name that are looked up.
const HOMES_MAX: usize = 10;
/// RFC 7208 section 4.6.4.
const SPF_LOOKUPS_MAX: u32 = 10;
/// Lookups from which the next provider's include may be one too many.
const SPF_LOOKUPS_TIGHT: u32 = 9;
/// RFC 7208 section 4.6.4.
const SPF_VOIDS_MAX: u32 = 2;

/// A From domain, and all that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct DomainCase<'a> {
    /// Whose it is.
    pub tenant: &'a Tenant,
    /// The domain as its tenant's file has it.
    pub own: &'a OwnedDomain,
    /// Header fields that the tenant's route leaves unsigned.
    pub omit: &'a [String],
    /// Its picture.
    pub author: &'a Picture,
    /// The picture of its return path; without one, its own again.
    pub sender: &'a Picture,
    /// The policy that the judge found.
    pub policy: Option<Policy>,
    /// The exchangers in both pictures.
    pub homes: &'a [Home],
    /// Ourselves.
    pub us: &'a Us<'a>,
}

/// Ourselves, as the world sees us.
#[derive(Clone, Copy, Debug)]
pub struct Us<'a> {
    /// Our name.
    pub hostname: &'a Domain,
    /// Our addresses, if they are known.
    pub addresses: &'a [IpAddr],
    /// The name that return paths point at with a CNAME, if they do.
    pub bounce_host: Option<&'a Domain>,
    /// Whether a listener takes what comes back.
    pub inbound: bool,
}

/// An exchanger and its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The host.
    pub host: String,
    /// What DNS says of it.
    pub addresses: Result<Vec<IpAddr>, Failure>,
}

/// The exchangers in these pictures, looked up at once.
pub async fn homes(resolver: &Resolver, pictures: &[&Picture]) -> Vec<Home> {
    let mut hosts: Vec<String> = pictures.iter().flat_map(|picture| exchangers(picture)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let mut lookups = tokio::task::JoinSet::new();
    for host in hosts {
        let resolver = resolver.clone();
        lookups.spawn(async move {
            let addresses = resolver.addresses(&host).await;
            Home { host, addresses }
        });
    }
    lookups.join_all().await
}

/// Where a picture's mail goes, best first; the name itself where no MX says otherwise.
fn exchangers(picture: &Picture) -> Vec<String> {
    match picture.exchange.as_ref().map(|known| &known.value) {
        Some(Exchange::Hosts(hosts)) => {
            let mut hosts = hosts.clone();
            hosts.sort_unstable();
            hosts.into_iter().map(|(_, host)| host).take(HOMES_MAX).collect()
        }
        Some(Exchange::Implicit) => vec![picture.domain.to_string()],
        Some(Exchange::Null | Exchange::Nowhere) | None => Vec::new(),
    }
}

/// Every check of a domain beyond the verdict, the worst first.
#[must_use]
pub fn of_domain(about: &DomainCase<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(replies(about));
    findings.extend(return_path(about));
    findings.extend(listener(about));
    findings.extend(notify(about));
    findings.extend(lookups(about));
    findings.extend(policy(about));
    findings.push(unsubscribe(about.omit));
    findings.sort_by_key(|finding| finding.level);
    findings
}

/// Whether replies to the From domain arrive anywhere: Microsoft asks for From addresses that can receive.
fn replies(about: &DomainCase<'_>) -> Option<Finding> {
    let name = &about.author.domain;
    let hosts = exchangers(about.author);
    let best = hosts.first()?;
    let found: Vec<&Home> = about.homes.iter().filter(|home| hosts.contains(&home.host)).collect();
    if found.iter().any(|home| home.addresses.is_ok()) {
        return Some(Finding::ok("replies", format!("replies to {name} have a host that exists")));
    }
    if found.is_empty() || found.iter().any(|home| matches!(home.addresses, Err(Failure::Transient(_)))) {
        let says = format!("DNS did not say where {best} is, which takes mail for {name}");
        return Some(Finding::warning("replies", says, "ask again later; nothing is decided by silence"));
    }
    let says = format!(
        "no exchanger of {name} has an address ({}): replies are lost, and some receivers refuse such mail",
        hosts.join(", ")
    );
    let fix = format!("give {best} an A record, or point the MX of {name} at a host that has one");
    Some(Finding::warning("replies", says, fix))
}

/// Whether bounces come back to us.
fn return_path(about: &DomainCase<'_>) -> Option<Finding> {
    const CHECK: &str = "return-path";
    let Some(path) = &about.own.return_path else {
        let says =
            "bounces go to the senders' own mailboxes; with return_path they would come back to the relay";
        return Some(Finding::ok(CHECK, says));
    };
    if about.sender.exchange.is_none() {
        let says = format!("DNS did not say where mail for {path} goes");
        return Some(Finding::warning(CHECK, says, "ask again later; nothing is decided by silence"));
    }
    let hosts = exchangers(about.sender);
    let ours: Vec<Option<bool>> = hosts.iter().map(|host| is_ours(host, about)).collect();
    match ours.first() {
        Some(Some(true)) if ours.iter().all(|ours| *ours == Some(true)) => {
            Some(Finding::ok(CHECK, format!("bounces to {path} come back to the relay")))
        }
        Some(Some(true)) => {
            let says =
                format!("bounces to {path} come back to the relay, or to another host when it is busy");
            let fix = "take the other exchangers away: senders of bounces wait for the relay";
            Some(Finding::warning(CHECK, says, fix).with(mx(about, path, true)))
        }
        Some(None) => {
            let best = hosts.first().cloned().unwrap_or_default();
            let says = format!("it is not known whether {best}, which takes mail for {path}, is this relay");
            let fix = "set delivery.public_addresses to the addresses that others see, and look again";
            Some(Finding::warning(CHECK, says, fix))
        }
        Some(Some(false)) => {
            let best = hosts.first().cloned().unwrap_or_default();
            let says =
                format!("bounces to {path} go to {best}, not to this relay: they are lost to the tenant");
            let fix = "publish this record in place of the MX records there";
            Some(Finding::error(CHECK, says, fix).with(mx(about, path, true)))
        }
        None => {
            let says =
                format!("nobody takes mail for {path}: bounces are lost, and receivers may refuse the mail");
            Some(Finding::error(CHECK, says, "publish this record").with(mx(about, path, false)))
        }
    }
}

/// `None`: we do not know our addresses, or DNS does not say the host's.
fn is_ours(host: &str, about: &DomainCase<'_>) -> Option<bool> {
    if host.eq_ignore_ascii_case(about.us.hostname.as_str()) {
        return Some(true);
    }
    let home = about.homes.iter().find(|home| home.host == host)?;
    match &home.addresses {
        Ok(addresses) if addresses.iter().any(|address| about.us.addresses.contains(address)) => Some(true),
        Ok(_) if about.us.addresses.is_empty() => None,
        Ok(_) | Err(Failure::NoSuchName | Failure::NoRecords) => Some(false),
        Err(Failure::Transient(_)) => None,
    }
}

fn mx(about: &DomainCase<'_>, path: &Domain, something: bool) -> Change {
    let (kind, value) = match about.us.bounce_host {
        // Nothing may stand beside a CNAME (RFC 1034 section 3.6.2): an MX here would break what `domain dns` prints.
        Some(host) => (Kind::Cname, host.to_string()),
        None => (Kind::Mx, format!("10 {}", about.us.hostname)),
    };
    let why = "bounces come back to the relay".to_owned();
    let record = Record { name: path.to_string(), kind, value, why };
    if something { Change::Replace { record, instead_of: String::new() } } else { Change::Publish(record) }
}

/// Bounces that come back need a door of their own.
fn listener(about: &DomainCase<'_>) -> Option<Finding> {
    let path = about.own.return_path.as_ref()?;
    if about.us.inbound {
        return Some(Finding::ok("inbound", "a listener takes what comes back"));
    }
    let says = format!("no listener takes what comes back to {path}");
    let fix = "add to waxseal.toml: [[listener]] address = \"0.0.0.0:25\", role = \"inbound\"; and open port 25 to the world";
    Some(Finding::error("inbound", says, fix))
}

/// A bounce that came back is told to whom `notify` names; without it, to the sender, if it can be seen who that was.
fn notify(about: &DomainCase<'_>) -> Option<Finding> {
    let path = about.own.return_path.as_ref()?;
    if about.tenant.notify.is_empty() {
        let tenant = &about.tenant.name;
        let says = format!(
            "tenant {tenant} names nobody who is told of bounces that come back to {path}: each message's sender is"
        );
        let fix = "set notify = [\"postmaster@...\"] in the tenant's file, if the senders are programs that read no mail";
        return Some(Finding::warning("notify", says, fix));
    }
    let told: Vec<String> = about.tenant.notify.iter().map(ToString::to_string).collect();
    Some(Finding::ok("notify", format!("{} is told of failures", told.join(", "))))
}

/// How near SPF is to its limits; that it is over them is the judge's matter.
fn lookups(about: &DomainCase<'_>) -> Option<Finding> {
    if !about.tenant.is_direct() {
        return None;
    }
    let SpfAnswer { records, lookups, voids, .. } = &about.sender.spf.as_ref()?.value;
    if records.is_empty() || *lookups > SPF_LOOKUPS_MAX || *voids > SPF_VOIDS_MAX {
        return None;
    }
    let name = &about.sender.domain;
    let says = format!(
        "SPF of {name} takes {lookups} of {SPF_LOOKUPS_MAX} lookups, {voids} of {SPF_VOIDS_MAX} find nothing"
    );
    if *lookups >= SPF_LOOKUPS_TIGHT || *voids == SPF_VOIDS_MAX {
        let fix = "take out an include that is no longer needed: the next change, here or at a provider, may be one too many";
        return Some(Finding::warning("spf-lookups", says, fix));
    }
    Some(Finding::ok("spf-lookups", says))
}

/// What the policy does for the domain. None at all is the judge's matter.
fn policy(about: &DomainCase<'_>) -> Vec<Finding> {
    const CHECK: &str = "dmarc-policy";
    let name = &about.author.domain;
    let Some(policy) = about.policy else { return Vec::new() };
    let strength = match policy {
        Policy::None => {
            let mut hint = Finding::ok(CHECK, format!("p=none: anybody may still write as {name}"));
            "when the reports show nothing but your own mail passing, go to p=quarantine, then p=reject"
                .clone_into(&mut hint.fix);
            hint
        }
        Policy::Quarantine => Finding::ok(CHECK, format!("p=quarantine: mail forged as {name} goes to spam")),
        Policy::Reject => Finding::ok(CHECK, format!("p=reject: mail forged as {name} is refused")),
    };
    let mut findings = vec![strength];
    if let Some(walk) = &about.author.dmarc
        && !walk.value.steps.iter().flat_map(|(_, records)| records).any(|record| asks_for_reports(record))
    {
        let mut hint =
            Finding::ok("dmarc-reports", "no rua=: nobody is told what receivers see of the domain");
        "add rua=mailto:... to the DMARC record; Yahoo recommends it".clone_into(&mut hint.fix);
        findings.push(hint);
    }
    findings
}

fn asks_for_reports(record: &str) -> bool {
    record.split(';').any(|tag| {
        tag.split_once('=')
            .is_some_and(|(name, value)| name.trim().eq_ignore_ascii_case("rua") && !value.trim().is_empty())
    })
}

/// RFC 8058 section 4: one-click unsubscription counts only where a signature covers both fields.
fn unsubscribe(omit: &[String]) -> Finding {
    let fields = ["List-Unsubscribe", "List-Unsubscribe-Post"];
    let covered = |field: &&str| {
        SIGNED.contains(field) && !omit.iter().any(|omitted| omitted.eq_ignore_ascii_case(field))
    };
    if fields.iter().all(covered) {
        return Finding::ok(
            "unsubscribe",
            "List-Unsubscribe and List-Unsubscribe-Post are signed where they occur",
        );
    }
    let says =
        "the route leaves List-Unsubscribe unsigned: Gmail and Yahoo then offer no one-click unsubscription";
    Finding::warning(
        "unsubscribe",
        says,
        "take the two fields out of the headers that the route leaves unsigned",
    )
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(check: &str, says: impl Into<String>) -> Self {
        Self::noticed(check, Level::Ok, says.into(), String::new())
    }

    /// Works with most, or breaks on the way; with what to do.
    #[must_use]
    pub fn warning(check: &str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::noticed(check, Level::Warning, says.into(), fix.into())
    }

    /// Does not work; with what to do.
    #[must_use]
    pub fn error(check: &str, says: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::noticed(check, Level::Error, says.into(), fix.into())
    }

    fn noticed(check: &str, level: Level, says: String, fix: String) -> Self {
        Self { check: check.to_owned(), level, says, fix, change: None }
    }

    fn with(mut self, change: Change) -> Self {
        self.change = Some(change);
        self
    }
}

#[cfg(test)]
mod tests;
