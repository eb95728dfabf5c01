//! What the recipient's domain asks of whoever sends mail to it, and what that makes of a host: TLSA records (DANE), and its
//! MTA-STS policy.

use std::net::IpAddr;
use std::sync::Arc;

use super::dane::Dane;
use super::hosts::Host;
use super::https::Https;
use super::outcome::{Scope, Trouble};
use super::protect::{By, Protection, Start, Trust};
use super::sts::{Found, Mode, Policy};
use super::{Attempt, Deliverer};
use crate::dns::Failure;
use crate::mail::address::Domain;
use crate::mail::message::TlsNeed;
use crate::mail::reply::Enhanced;
use crate::tenant::Route;

/// A host that is not spoken to, and who will not have it.
pub(super) type Refused = (By, Trouble);

/// What the recipient's domain asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// Its MTA-STS policy, if it has one in force.
    pub(super) sts: Option<Arc<Policy>>,
    /// It may have one that is not known now.
    pub(super) unsure: bool,
    /// The domain, where sessions with its exchangers are counted.
    pub(super) domain: Option<Domain>,
}

impl Attempt<'_> {
    /// How the web is asked, by what deliveries go by.
    pub(super) fn https(&self) -> Https<'_> {
        let Deliverer { resolver, metrics, .. } = self.deliverer;
        Https { resolver, settings: self.settings, metrics }
    }

    /// Asks what the domain asks for. An upstream is the tenant's choice, and its domain is asked nothing.
    pub(super) async fn rules(&self) -> Rules {
        let domain = match (&*self.job.route, self.first_recipient()) {
            (Route::Mx, Some(address)) => address.domain(),
            (Route::Mx | Route::Upstream(_), _) => return Rules::default(),
        };
        let found = if self.settings.mta_sts {
            Box::pin(self.deliverer.policies.of(domain, self.https(), self.job.started)).await
        } else {
            Found::default()
        };
        // Reports themselves, which leave whatever the policies say, are not reported (RFC 8460 section 5.3).
        let counted = self.settings.tls_reports && self.job.message.facts.needs.tls != TlsNeed::Waived;
        let unsure = found.is_unsure();
        let rules = Rules { sts: found.policy, unsure, domain: counted.then(|| domain.clone()) };
        if let Some(fault) = &found.fault {
            self.tally_fault(&rules, fault);
        }
        rules
    }

    /// What protects the message on its way to this host.
    ///
    /// # Errors
    /// The host is none that the domain vouches for, or the route cannot give what the message needs.
    pub(super) async fn protection(&self, host: &Host, rules: &Rules) -> Result<Protection, Refused> {
        let facts = &self.job.message.facts;
        let asked = facts.needs.tls;
        // RFC 8689 section 5: a notification is not thrown away because the way back is not as good as the way there.
        let lenient = asked == TlsNeed::RequireTls && facts.envelope.from.is_none();
        let need = if lenient { TlsNeed::Usual } else { asked };
        let upstream = matches!(&*self.job.route, Route::Upstream(_));
        let dane = if need == TlsNeed::Waived { Dane::Silent } else { self.dane(host).await? };
        let made = rules.protect(self.access.usual(), need, (host, dane))?;
        let vouched = upstream || host.proven || made.by == By::Sts;
        if need != TlsNeed::RequireTls || vouched {
            return Ok(made);
        }
        Err((By::Sender, if rules.unsure { unsure(host) } else { unvouched(host) }))
    }

    /// In which order hosts of one preference are tried, the least first: those to which a connection is kept, others, and those
    /// that are reached from an address of ours that receivers may not want.
    pub(super) fn rank(&self, host: &Host, rules: &Rules) -> u8 {
        if self.is_doubtful(host) { 2 } else { u8::from(!self.is_kept(host, rules)) }
    }

    /// Whether we would come from an IPv6 address that does not lead back to itself, or that the sender's SPF does not name.
    fn is_doubtful(&self, host: &Host) -> bool {
        let by_mx = matches!(*self.job.route, Route::Mx);
        let ours = self.source(host).ok().and_then(|source| source.address);
        let Some(ours) = ours.filter(|ours| ours.is_ipv6() && by_mx) else { return false };
        let Deliverer { resolver, reverse, .. } = self.deliverer;
        self.job.unnamed.contains(&ours) || reverse.leads_back(resolver, ours) == Some(false)
    }

    /// Whether a connection is kept that will do for this host, as far as that is known without asking DNS.
    fn is_kept(&self, host: &Host, rules: &Rules) -> bool {
        let need = self.job.message.facts.needs.tls;
        let made = rules.protect(self.access.usual(), need, (host, Dane::Silent));
        let Ok(source) = self.source(host) else { return false };
        made.is_ok_and(|made| self.deliverer.pool.has(&self.access.key(host, &made, source.address)))
    }

    /// The host's TLSA records, where DNSSEC proves the way to them (RFC 7672 section 2.2): elsewhere nobody publishes any,
    /// and asking for them would only find broken name servers. Of an alias those at the name that it stands for come first
    /// (section 2.2.2).
    async fn dane(&self, host: &Host) -> Result<Dane, Refused> {
        if !host.proven {
            return Ok(Dane::Silent);
        }
        let next_hop = self.first_recipient().map(|address| address.domain().as_str());
        for base in host.alias_of.iter().chain([&host.name]) {
            let found = self.deliverer.resolver.tlsa(base).await;
            let records = found.map_err(|failure| (By::Dane, uncertain(host, &failure)))?;
            if !records.is_empty() {
                let names = [Some(&**base), Some(&*host.name), next_hop];
                return Ok(Dane::new(records, names.into_iter().flatten()));
            }
        }
        Ok(Dane::Silent)
    }
}

impl Deliverer {
    /// Whether an address of ours is known to lead back to itself by its reverse record, or not to; it is looked up meanwhile.
    #[must_use]
    pub fn leads_back(&self, address: IpAddr) -> Option<bool> {
        self.reverse.leads_back(&self.resolver, address)
    }
}

impl Rules {
    /// The strictest of what the route, the domain and the message ask for. DANE comes first (RFC 8461 section 2): what it
    /// says of a host MTA-STS does not overrule.
    fn protect(
        &self,
        usual: Protection,
        need: TlsNeed,
        (host, dane): (&Host, Dane),
    ) -> Result<Protection, Refused> {
        let encrypted = match dane {
            Dane::Records(records) => {
                return Ok(Protection { start: Start::Starttls, trust: Trust::Dane(records), by: By::Dane });
            }
            Dane::Unusable => {
                Protection { start: Start::Starttls, trust: Trust::Opportunistic, by: By::Dane }
            }
            Dane::Silent => usual.clone(),
        };
        match &self.sts {
            Some(_) if need == TlsNeed::Waived => Ok(usual),
            Some(policy) if policy.mode == Mode::Enforce => {
                if policy.names(&host.name) {
                    Ok(Protection::verified(By::Sts))
                } else {
                    Err((By::Sts, unnamed(host)))
                }
            }
            Some(_) | None if encrypted.by == By::Dane && need <= TlsNeed::Required => Ok(encrypted),
            Some(_) | None => {
                let by = if need == TlsNeed::RequireTls { By::Sender } else { By::Class };
                usual.strengthened(need).map_err(|trouble| (by, trouble))
            }
        }
    }
}

/// RFC 7672 section 2.1.2: whether there are TLSA records must be known.
fn uncertain(host: &Host, failure: &Failure) -> Trouble {
    let text = format!(
        "{}: whether it has TLSA records (DANE) is not certain: {failure}; nothing was sent",
        host.name
    );
    Trouble::transient(Scope::Host, Enhanced(4, 7, 5), text)
}

/// RFC 8461 section 5: such a host is passed over.
fn unnamed(host: &Host) -> Trouble {
    let text = format!(
        "{} is not among the exchangers that the domain's MTA-STS policy names{}",
        host.name,
        By::Sts.advice()
    );
    Trouble::transient(Scope::Host, Enhanced(4, 7, 5), text)
}

/// The same, where the domain's word could not be had: it is asked again.
fn unsure(host: &Host) -> Trouble {
    let text = format!(
        "nobody vouches that {} is the recipient's exchanger: no DNSSEC, and whether an MTA-STS policy names it cannot be learned \
         now; nothing was sent",
        host.name
    );
    Trouble::transient(Scope::Host, Enhanced(4, 7, 10), text)
}

/// RFC 8689 section 4.2.1: a name out of DNS alone may be anybody's.
fn unvouched(host: &Host) -> Trouble {
    let text = format!(
        "nobody vouches that {} is the recipient's exchanger: no DNSSEC, and no MTA-STS policy in force{}",
        host.name,
        By::Sender.advice()
    );
    Trouble::permanent(Scope::Host, Enhanced(5, 7, 10), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            alias_of: None,
            address: "192.0.2.1:25".parse().unwrap(),
            proven: false,
        }
    }

    #[test]
    fn what_a_policy_makes_of_a_host() {
        let policy = |mode| Policy { mode, mx: vec!["mx.test".to_owned()], max_age: 1 };
        let rows = [
            (
                Some(Mode::Enforce),
                "other.test",
                TlsNeed::Waived,
                Some((Start::IfOffered, By::Nobody)),
                "TLS-Required: No",
            ),
            (None, "mx.test", TlsNeed::Usual, Some((Start::IfOffered, By::Nobody)), "no policy"),
            (Some(Mode::Enforce), "mx.test", TlsNeed::Usual, Some((Start::Starttls, By::Sts)), "named"),
            (
                Some(Mode::Enforce),
                "MX.test",
                TlsNeed::Required,
                Some((Start::Starttls, By::Sts)),
                "stricter than the class",
            ),
            (Some(Mode::Enforce), "other.test", TlsNeed::Usual, None, "not named"),
            (
                Some(Mode::Testing),
                "other.test",
                TlsNeed::Usual,
                Some((Start::IfOffered, By::Nobody)),
                "only told",
            ),
            (
                Some(Mode::None),
                "mx.test",
                TlsNeed::Usual,
                Some((Start::IfOffered, By::Nobody)),
                "as if there were none",
            ),
            (
                Some(Mode::Testing),
                "mx.test",
                TlsNeed::Verified,
                Some((Start::Starttls, By::Class)),
                "the class's word",
            ),
        ];
        for (mode, name, need, expected, why) in rows {
            let rules = Rules { sts: mode.map(policy).map(Arc::new), ..Rules::default() };
            let made = rules.protect(Protection::OPPORTUNISTIC, need, (&host(name), Dane::Silent));
            if let Ok(made) = &made {
                assert_eq!(
                    made.trust == Trust::Verified(None),
                    made.by == By::Sts || need == TlsNeed::Verified,
                    "{why}"
                );
            }
            assert_eq!(made.ok().map(|made| (made.start, made.by)), expected, "{why}");
        }
    }
}
