//! A domain's health: DNS asked now, judged as its mail would be, for `domain check` and for the daemon's own watch.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::doctor::{DomainCase, Us, homes, of_domain};
use super::facts::{Picture, Silence};
use super::judge::{Believed, Finding, Finds, Policy, Verdict};
use super::outlook::{Force, Outlook, Subject, egress, wanted};
use crate::config::Role;
use crate::mail::address::Domain;
use crate::tenant::{OnFail, OwnedDomain, SignWith, Tenant};

/// What was found of a From domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form: 1.
    pub v: u8,
    /// The From domain, or the name below it that was asked about.
    pub domain: Domain,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// What happens to mail that is not believed.
    pub on_fail: OnFail,
    /// Whether receivers believe its mail, and by what.
    pub believed: Believed,
    /// Our signature, aligned.
    pub dkim: Finds,
    /// SPF, aligned.
    pub spf: Finds,
    /// Its DMARC policy as it applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Since when it has stood like this, as far as the daemon has seen; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The tenant's upstream signs (`signatures = "none"`): what receivers find only `domain probe` can tell.
    #[serde(default)]
    pub upstream_signs: bool,
    /// Everything noticed, the worst first.
    pub findings: Vec<Finding>,
    /// What DNS did not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silence: Vec<Silence>,
    /// SPF's lookups, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spf_tree: Vec<String>,
}

/// What mail of a From domain, or of a name below it, normally looks like: that author in it, the reverse-path there or at the
/// domain's return path.
#[must_use]
pub fn usual<'a>(tenant: &'a Arc<Tenant>, own: &'a OwnedDomain, author: &'a Domain) -> Subject<'a> {
    let sender = own.return_path.as_ref().unwrap_or(author);
    Subject { tenant, own, author, sender: Some(sender) }
}

/// The names that the verdict on such mail rests on, the reverse-path's last.
#[must_use]
pub fn rests_on<'a>(subject: &Subject<'a>) -> Vec<&'a Domain> {
    let mut names = vec![&subject.own.name, subject.author];
    names.extend(subject.sender);
    names.dedup();
    names
}

/// Asks DNS now about all that the verdict rests on.
pub async fn look(outlook: &Arc<Outlook>, subject: &Subject<'_>, force: Force<'_>) -> Vec<Arc<Picture>> {
    let mut looks = tokio::task::JoinSet::new();
    outlook.take_in(subject);
    for name in rests_on(subject) {
        let (outlook, wanted) = (Arc::clone(outlook), wanted(name, force));
        looks.spawn(async move { Box::pin(outlook.look(&wanted)).await.picture });
    }
    looks.join_all().await
}

/// What is known of such mail, from memory.
#[must_use]
pub fn report(outlook: &Outlook, subject: &Subject<'_>, force: Force<'_>) -> Report {
    let Subject { tenant, own, author, sender: _ } = *subject;
    let verdict = outlook.verdict(subject, force);
    let Verdict { dkim, spf, dmarc, policy, findings, verified: _ } = &*verdict;
    let pictures: Vec<_> = rests_on(subject).into_iter().filter_map(|name| outlook.picture(name)).collect();
    let tree = pictures.last().and_then(|picture| picture.spf.as_ref()).map(|spf| spf.value.tree.clone());
    let volumes = outlook.volumes.findings(&own.name, outlook.now());
    let health = outlook.health(author).filter(|health| health.believed == *dmarc);
    Report {
        v: 1,
        domain: author.clone(),
        tenant: Arc::clone(&tenant.name),
        on_fail: own.on_fail,
        believed: *dmarc,
        dkim: *dkim,
        spf: *spf,
        policy: *policy,
        since: health.map(|health| health.since.utc().to_string()),
        upstream_signs: tenant.signing.keys == SignWith::None,
        findings: findings.iter().cloned().chain(volumes).collect(),
        silence: pictures.iter().flat_map(|picture| picture.silence.clone()).collect(),
        spf_tree: tree.unwrap_or_default(),
    }
}

/// What the verdict leaves out: where replies and bounces go, who is told, what a policy asks. Looks the exchangers up.
pub async fn beyond(
    outlook: &Outlook,
    subject: &Subject<'_>,
    force: Force<'_>,
    policy: Option<Policy>,
) -> Vec<Finding> {
    let Subject { tenant, own, author, sender } = *subject;
    let known =
        |name: &Domain| outlook.picture(name).unwrap_or_else(|| Arc::new(Picture::blank(name.clone())));
    let (author, sender) = (known(author), known(sender.unwrap_or(author)));
    let Force { config, .. } = force;
    let resolver = outlook.resolver();
    let homes = homes(resolver, &[&author, &sender]).await;
    let mut addresses = egress(config).to_vec();
    if addresses.is_empty() {
        addresses = resolver.addresses(config.hostname.as_str()).await.unwrap_or_default();
    }
    let inbound = config.listeners.iter().any(|listener| listener.role == Role::Inbound);
    let bounce_host = config.relay.bounce_host.as_ref();
    let us = Us { hostname: &config.hostname, addresses: &addresses, bounce_host, inbound };
    let (author, sender) = (&*author, &*sender);
    let omit = &tenant.signing.omit;
    of_domain(&DomainCase { tenant, own, omit, author, sender, policy, homes: &homes, us: &us })
}

impl Report {
    /// With what the verdict leaves out, the worst first.
    #[must_use]
    pub fn with(mut self, more: Vec<Finding>) -> Self {
        self.findings.extend(more);
        self.findings.sort_by_key(|finding| finding.level);
        self
    }

    /// Whether mail of the domain would pass, as far as we have a part in it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.believed.passes() || self.upstream_signs
    }
}
