//! The events of what comes back: bounces after the next hop took the mail, complaints; and what became of a signature that a
//! platform's own server had put on its mail.

use std::net::IpAddr;

use super::MailLog;
use super::auth::Auth;
use super::events::{DsnKind, Seal};
use super::kind::Type;
use crate::mail::address::Address;
use crate::mail::attempt::TlsFacts;
use crate::mail::id::Id;
use crate::mail::meaning::Meaning;
use crate::mail::message::Facts;
use crate::mail::reply::PeerReply;

/// What another server reports of one recipient.
#[derive(Clone, Debug)]
pub struct RemoteBounce<'a> {
    /// The message, as the return path names it.
    pub id: Id,
    /// Whose it is.
    pub tenant: Option<&'a str>,
    /// The recipient, if it can be told.
    pub to: Option<&'a Address>,
    /// What became of it, in RFC 3464's words.
    pub action: &'a str,
    /// What was said.
    pub reply: &'a PeerReply,
    /// The server that said it, or that reports.
    pub host: Option<&'a str>,
    /// Who brought the report.
    pub ip: IpAddr,
    /// What that called itself.
    pub helo: &'a str,
    /// Its TLS session.
    pub tls: Option<&'a TlsFacts>,
    /// Whether it is a failure.
    pub failed: bool,
    /// Why nobody is told of the failure, if so.
    pub untold: Option<&'a str>,
}

/// A recipient called a message spam.
#[derive(Clone, Debug)]
pub struct Complained<'a> {
    /// The message, as the return path names it.
    pub id: Id,
    /// Whose it is.
    pub tenant: Option<&'a str>,
    /// Who complains, where that is not hidden.
    pub to: Option<&'a Address>,
    /// Who brought the report.
    pub ip: IpAddr,
    /// What that called itself.
    pub helo: &'a str,
    /// Its TLS session.
    pub tls: Option<&'a TlsFacts>,
    /// `abuse`, `fraud`, ...
    pub kind: &'a str,
    /// Who reports.
    pub host: Option<&'a str>,
}

impl MailLog {
    /// Another server reports what became of a recipient.
    pub fn remote_bounce(&self, what: &RemoteBounce<'_>) {
        let mut record = self.record(Type::RemoteBounce);
        record.id = Some(what.id);
        record.tenant = what.tenant;
        record.action = Some(what.action);
        if what.failed {
            record.blame(Meaning::of_reply(what.host, what.reply));
        }
        record.reply = Some(what.reply.into());
        record.host = what.host;
        record.ip = Some(what.ip);
        record.helo = Some(what.helo).filter(|name| !name.is_empty());
        record.tls = what.tls;
        record.dsn = (what.failed && what.untold.is_none()).then_some(DsnKind::Failed);
        record.reason = what.untold;
        self.say(&record.naming_address(what.to));
    }

    /// A recipient called a message spam.
    pub fn complaint(&self, what: &Complained<'_>) {
        let mut record = self.record(Type::Complaint);
        record.id = Some(what.id);
        record.tenant = what.tenant;
        record.reason = Some(what.kind);
        record.host = what.host;
        record.ip = Some(what.ip);
        record.helo = Some(what.helo).filter(|name| !name.is_empty());
        record.tls = what.tls;
        self.say(&record.naming_address(what.to));
    }

    /// Signatures that the platform's own server had put on a message verified as they came, and do not as the message leaves,
    /// because of these repairs.
    pub fn platform_seal(&self, facts: &Facts, broken: &[Seal], repairs: &[&str]) {
        let mut record = self.record(Type::PlatformSeal).with(facts);
        record.auth = Some(Auth::of(broken));
        record.repairs = repairs;
        record.reason = Some(
            "the platform's own DKIM signature was good as it came, and the relay's repairs broke it; ours is the one that counts",
        );
        self.say(&record);
    }
}
