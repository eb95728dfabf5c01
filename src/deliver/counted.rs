//! What a session with an exchanger counts as in reports (RFC 8460): held against which policy, and what went wrong.

use super::Attempt;
use super::driver::Connection;
use super::hosts::Host;
use super::outcome::Trouble;
use super::protect::{By, Protection};
use super::rules::Rules;
use super::sts::{Fault, Mode};
use super::tally::{Against, Problem, Session};
use crate::mail::reply::Enhanced;

impl Attempt<'_> {
    /// Counts a session that was opened, or was not. One that failed for another reason than TLS tells nothing of it.
    pub(super) fn tally(
        &self,
        host: &Host,
        rules: &Rules,
        protection: &Protection,
        (opened, certificate): (Result<&Connection, &Trouble>, Option<Problem>),
    ) {
        let against = rules.against(protection);
        let problem = match opened {
            Ok(connection) if connection.tls.is_none() => Some(certificate.unwrap_or(Problem::NotSupported)),
            // Testing: nothing was stopped, and the domain wants to know what would have been (RFC 8461 section 5).
            Ok(_) if against == Against::Sts => {
                let named = rules.sts.as_ref().is_some_and(|policy| policy.names(&host.name));
                if named { certificate } else { Some(Problem::Failed) }
            }
            Ok(_) => None,
            Err(trouble) if trouble.is_about_tls() => Some(certificate.unwrap_or_else(|| missing(trouble))),
            Err(_) => return,
        };
        self.note(rules, against, problem, Some(host));
    }

    /// Counts a host that was not even asked.
    pub(super) fn tally_unasked(&self, host: &Host, rules: &Rules, by: By) {
        match by {
            By::Sts => self.note(rules, Against::Sts, Some(Problem::Failed), Some(host)),
            By::Dane => self.note(rules, Against::Tlsa, Some(Problem::Dnssec), Some(host)),
            By::Nobody | By::Route | By::Class | By::Sender => {}
        }
    }

    /// Counts a policy that could not be had.
    pub(super) fn tally_fault(&self, rules: &Rules, fault: &Fault) {
        let problem = match fault {
            Fault::Unfetched(_) => Problem::StsFetch,
            Fault::Certificate(_) => Problem::StsCertificate,
            Fault::Invalid(_) => Problem::StsInvalid,
        };
        self.note(rules, Against::Sts, Some(problem), None);
    }

    fn note(&self, rules: &Rules, against: Against, problem: Option<Problem>, host: Option<&Host>) {
        let Some(domain) = &rules.domain else { return };
        let policy = rules.sts.as_deref().filter(|_| against == Against::Sts);
        self.deliverer.tallies.count(&Session {
            domain,
            at: self.job.started,
            against,
            policy,
            problem,
            host: host.map(|host| (host.name.as_str(), host.address.ip())),
        });
    }
}

impl Rules {
    /// What a session is held against.
    fn against(&self, protection: &Protection) -> Against {
        match &self.sts {
            _ if protection.by == By::Dane => Against::Tlsa,
            Some(policy) if policy.mode != Mode::None => Against::Sts,
            Some(_) | None => Against::Nothing,
        }
    }
}

/// No STARTTLS, where nothing is known of a certificate.
fn missing(trouble: &Trouble) -> Problem {
    let unoffered = matches!(trouble.reply.enhanced, Some(Enhanced(_, 7, 10)));
    if unoffered { Problem::NotSupported } else { Problem::Failed }
}
