//! The events of how From domains stand with receivers: their health, the check of our own signatures, and how much of their
//! mail goes to providers that count; and of what domains are told of their TLS.

use super::MailLog;
use super::auth::Auth;
use super::events::Seal;
use super::kind::Type;
use crate::mail::message::Facts;

/// A From domain came to stand otherwise with receivers.
#[derive(Clone, Debug)]
pub struct HealthChange<'a> {
    /// Whose domain.
    pub tenant: &'a str,
    /// The From domain.
    pub domain: &'a str,
    /// How it stands now: `both`, `dkim_only`, `spf_only`, `fail`, `unknown`.
    pub now: &'static str,
    /// How it stood; `None`: nobody had looked.
    pub before: Option<&'static str>,
    /// Why, in one line.
    pub reason: &'a str,
}

/// So many recipients of an organization's mail are at one provider today.
#[derive(Clone, Debug)]
pub struct Volume<'a> {
    /// Whose message was the last of them.
    pub tenant: &'a str,
    /// The organizational domain.
    pub domain: &'a str,
    /// The provider: `gmail`, `microsoft`.
    pub provider: &'static str,
    /// Recipients.
    pub count: u32,
}

/// A domain was told how sessions with its exchangers went (RFC 8460).
#[derive(Clone, Debug)]
pub struct TlsReported<'a> {
    /// The domain.
    pub domain: &'a str,
    /// Where the report went.
    pub place: &'a str,
    /// Sessions as they should be.
    pub good: u32,
    /// The others.
    pub bad: u32,
    /// Why the place did not take it.
    pub failed: Option<&'a str>,
}

impl MailLog {
    /// A domain was told how its TLS works, or could not be.
    pub fn tls_report(&self, what: &TlsReported<'_>) {
        let mut record = self.record(Type::TlsReport);
        let TlsReported { place, good, bad, .. } = what;
        let said = match what.failed {
            None => format!("to {place}: {good} sessions good, {bad} failed"),
            Some(why) => format!("not taken by {place}: {why}"),
        };
        record.domain = Some(what.domain);
        record.count = Some(*bad);
        record.reason = Some(&said);
        self.say(&record);
    }

    /// A tenant is told that its mail waits for a person; `facts` are those of the mail that tells it.
    pub fn alert(&self, facts: &Facts, tenant: &str, why: &str) {
        let mut record = self.record(Type::Alert).with(facts);
        record.tenant = Some(tenant);
        record.reason = Some(why);
        self.say(&record.naming_all(facts));
    }

    /// A From domain came to stand otherwise with receivers.
    pub fn health(&self, what: &HealthChange<'_>) {
        let mut record = self.record(Type::Health);
        record.tenant = Some(what.tenant);
        record.domain = Some(what.domain);
        record.health = Some(what.now);
        record.before = what.before;
        record.reason = Some(what.reason).filter(|reason| !reason.is_empty());
        self.say(&record);
    }

    /// So many recipients of an organization's mail are at one provider today.
    pub fn volume(&self, what: &Volume<'_>) {
        let mut record = self.record(Type::Volume);
        record.tenant = Some(what.tenant);
        record.domain = Some(what.domain);
        record.provider = Some(what.provider);
        record.count = Some(what.count);
        self.say(&record);
    }

    /// Signatures of ours do not verify as receivers would verify them; why, in words.
    pub fn seal_check(&self, facts: &Facts, broken: &[Seal], repairs: &[&str], why: &str) {
        let mut record = self.record(Type::SealCheck).with(facts);
        record.auth = Some(Auth::of(broken));
        record.repairs = repairs;
        record.reason = Some(why);
        self.say(&record);
    }
}
