//! The events: what each one is told, and the method that says it.

use std::net::IpAddr;

use serde::Serialize;

use super::MailLog;
use super::auth::Auth;
use super::kind::Type;
use super::record::Record;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::{Decided, Fate, TlsFacts};
use crate::mail::id::Id;
use crate::mail::meaning::{Meaning, Reason};
use crate::mail::message::Facts;
use crate::mail::reply::Reply;
use crate::mail::time::Time;
use crate::metrics::{ByLabel, ReasonLabel};

/// How an accepted message came in, and what was done to it.
#[derive(Clone, Debug, Default)]
pub struct Arrival<'a> {
    /// The client; `None` for what the relay writes itself.
    pub ip: Option<IpAddr>,
    /// What it called itself in EHLO.
    pub helo: &'a str,
    /// The client's TLS session.
    pub tls: Option<&'a TlsFacts>,
    /// The Message-ID header, without brackets.
    pub message_id: Option<&'a str>,
    /// The signatures put on it.
    pub seals: &'a [Seal],
    /// Why there are none: `route` (the upstream signs), `held` (sealed at release), `unseen` (no key of ours was seen in DNS).
    pub unsigned: Option<&'a str>,
    /// What receivers will find; `None`: nobody judged it.
    pub expected: Option<Expected>,
    /// What was repaired before sealing, a word each (`date`, `message-id`, `bcc`, ...).
    pub repairs: &'a [&'a str],
    /// Milliseconds from the end of the data to the decision.
    pub took: Option<u64>,
}

/// What receivers will find, as far as DNS tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// SPF, aligned: `pass`, `fail`, `unknown`.
    pub spf: &'static str,
    /// `pass`, `fail`, `unknown`.
    pub dmarc: &'static str,
    /// By what it aligns: `both`, `dkim`, `spf`.
    pub aligned_by: Option<&'static str>,
}

/// One DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seal {
    /// `d=`.
    pub domain: Domain,
    /// `s=`.
    pub selector: String,
    /// `a=`.
    pub algorithm: &'static str,
}

/// A command, credential or message that was refused.
#[derive(Clone, Debug)]
pub struct Rejected<'a> {
    /// The id made for it, if it came so far.
    pub id: Option<Id>,
    /// Whose it would have been, where that is known.
    pub tenant: Option<&'a str>,
    /// The login; for a refused AUTH the user name that was tried.
    pub login: Option<&'a str>,
    /// The client.
    pub ip: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The client's TLS session.
    pub tls: Option<&'a TlsFacts>,
    /// The envelope sender: `None` before MAIL, `Some(None)` for the null reverse-path.
    pub from: Option<Option<&'a Address>>,
    /// The recipients named so far, or the one refused.
    pub to: &'a [Address],
    /// The From header, as far as it could be read.
    pub header_from: Option<&'a str>,
    /// What was answered.
    pub reply: &'a Reply,
    /// Why, a word from a closed list kept by the caller (`auth`, `from`, `limit`, `syntax`, `size`, ...).
    pub reason: &'static str,
}

/// A session that ended without MAIL although it authenticated or tried TLS: a platform's connection test.
#[derive(Clone, Debug)]
pub struct Probe<'a> {
    /// Whose login it used.
    pub tenant: Option<&'a str>,
    /// The login.
    pub login: Option<&'a str>,
    /// The client.
    pub ip: IpAddr,
    /// What it called itself.
    pub helo: &'a str,
    /// The TLS session.
    pub tls: Option<&'a TlsFacts>,
    /// `PLAIN` or `LOGIN`, if AUTH succeeded.
    pub mechanism: Option<&'a str>,
    /// Whether a password travelled in clear text: it should be replaced.
    pub exposed: bool,
    /// What to change in the platform's form, if anything.
    pub advice: Option<&'a str>,
}

/// An attempt begins.
#[derive(Clone, Debug)]
pub struct AttemptStart<'a> {
    /// Open recipients, as indices.
    pub rcpts: &'a [u16],
    /// Which attempt, from 1.
    pub attempt: u32,
    /// `mx` or `upstream`.
    pub route: &'static str,
    /// Where to: a domain, or an upstream's host and port.
    pub destination: &'a str,
    /// Why it goes by the tenant's second way, if it does.
    pub why: Option<&'a str>,
}

/// The queue gives up on a recipient.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    /// Attempts made.
    pub attempts: u32,
    /// Which life is over: that of the `queue`, the useful one of the `class`, a `hold`'s, or the sender's time (`deliver_by`).
    pub life: &'static str,
    /// How long it was tried, and what was heard last.
    pub heard: &'a str,
    /// What kept it from being delivered.
    pub reason: Reason,
}

/// A notification is put into the queue.
#[derive(Clone, Debug)]
pub struct Dsn<'a> {
    /// What it tells.
    pub kind: DsnKind,
    /// The messages it tells of.
    pub about: &'a [Id],
}

/// What a notification tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DsnKind {
    /// Recipients failed for good.
    Failed,
    /// Not delivered yet.
    Delayed,
    /// Delivered or relayed, as the sender asked (RFC 3461 NOTIFY=SUCCESS).
    Success,
}

/// By which of an administrator's rules a recipient ended without an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposal {
    /// It is on the tenant's suppression list.
    Suppressed,
    /// It stands in no To or Cc, and its class drops such recipients.
    Dropped,
}

/// Something an administrator did.
#[derive(Clone, Debug)]
pub struct Audit<'a> {
    /// Who: `uid 0 (root)`, or `signal`.
    pub actor: &'a str,
    /// What: `reload`, `queue.hold`, ...
    pub action: &'a str,
    /// On what and with what result.
    pub detail: &'a str,
    /// Whose mail it concerns.
    pub tenant: Option<&'a str>,
}

impl MailLog {
    /// A message was accepted: said once it is durable.
    pub fn received(&self, facts: &Facts, arrival: &Arrival<'_>) {
        let mut record = self.about(Type::Received, facts);
        // Not when it is said: by then its first attempt may have begun.
        record.ts = facts.received;
        record.ip = arrival.ip;
        record.helo = Some(arrival.helo).filter(|name| !name.is_empty());
        record.tls = arrival.tls;
        record.message_id = arrival.message_id;
        record.class_by = facts.class.as_ref().map(|classed| classed.by.name());
        let by = record.class_by.unwrap_or("none");
        self.metrics.classed.get_or_create(&ByLabel { by }).inc();
        record.auth = Some(Auth::new(arrival));
        record.repairs = arrival.repairs;
        record.ms.total = arrival.took;
        self.say(&record.naming_all(facts));
    }

    /// A command, credential or message was refused.
    pub fn rejected(&self, what: &Rejected<'_>) {
        let mut record = self.record(Type::Rejected);
        record.id = what.id;
        record.tenant = what.tenant;
        record.login = what.login;
        record.ip = Some(what.ip);
        record.helo = Some(what.helo).filter(|name| !name.is_empty());
        record.tls = what.tls;
        record.from = what.from;
        record.header_from = what.header_from.map(Into::into);
        record.reason_class = Some(what.reason);
        record.reply = Some(what.reply.into());
        self.say(&record.naming_addresses(what.to));
    }

    /// A connection test.
    pub fn probe(&self, what: &Probe<'_>) {
        let mut record = self.record(Type::Probe);
        record.tenant = what.tenant;
        record.login = what.login;
        record.ip = Some(what.ip);
        record.helo = Some(what.helo).filter(|name| !name.is_empty());
        record.tls = what.tls;
        record.mechanism = what.mechanism;
        record.exposed = what.exposed;
        record.reason = what.advice;
        self.say(&record);
    }

    /// Recipients were parked.
    pub fn held(&self, facts: &Facts, rcpts: &[u16], actor: &str, reason: &str) {
        self.acted(Type::Held, facts, rcpts, (actor, reason));
    }

    /// Parked recipients are due again.
    pub fn released(&self, facts: &Facts, rcpts: &[u16], actor: &str, reason: &str) {
        self.acted(Type::Released, facts, rcpts, (actor, reason));
    }

    /// Recipients were ended without anybody being told.
    pub fn dropped(&self, facts: &Facts, rcpts: &[u16], actor: &str, reason: &str) {
        self.acted(Type::Dropped, facts, rcpts, (actor, reason));
    }

    /// A recipient that a message came with and that is nobody: a control address which proves nothing.
    pub fn stray(&self, facts: &Facts, recipient: &Address, why: &str) {
        let mut record = self.about(Type::Dropped, facts);
        record.actor = Some("admit");
        record.reason = Some(why);
        self.say(&record.naming_address(Some(recipient)));
    }

    /// An administrator failed these recipients: the tenant is told.
    pub fn bounced_by(&self, facts: &Facts, rcpts: &[u16], actor: &str, reason: &str) {
        self.acted(Type::Bounced, facts, rcpts, (actor, reason));
    }

    /// An attempt begins.
    pub fn attempt(&self, facts: &Facts, start: &AttemptStart<'_>) {
        let mut record = self.about(Type::Attempt, facts);
        record.attempt = Some(start.attempt);
        record.route = Some(start.route);
        record.host = Some(start.destination);
        record.reason = start.why;
        self.say(&record.naming_some(facts, start.rcpts));
    }

    /// One recipient's fate: `delivered` (or `relayed`, by an upstream), `deferred` or `bounced`.
    pub fn decided(&self, facts: &Facts, decided: &Decided, attempt: u32, next: Option<Time>) {
        match decided.fate {
            Fate::Delivered if decided.hop.route == "upstream" => self.relayed(facts, decided, attempt),
            Fate::Delivered => self.delivered(facts, decided, attempt),
            Fate::Deferred => self.deferred(facts, decided, attempt, next),
            Fate::Failed => self.bounced(facts, decided, attempt),
        }
    }

    /// The recipient's exchanger took it.
    pub fn delivered(&self, facts: &Facts, decided: &Decided, attempt: u32) {
        self.outcome(Type::Delivered, facts, decided, (attempt, None));
    }

    /// The tenant's upstream took it; what became of it then is in that server's log.
    pub fn relayed(&self, facts: &Facts, decided: &Decided, attempt: u32) {
        self.outcome(Type::Relayed, facts, decided, (attempt, None));
    }

    /// Not now.
    pub fn deferred(&self, facts: &Facts, decided: &Decided, attempt: u32, next: Option<Time>) {
        self.outcome(Type::Deferred, facts, decided, (attempt, next));
    }

    /// Never.
    pub fn bounced(&self, facts: &Facts, decided: &Decided, attempt: u32) {
        self.outcome(Type::Bounced, facts, decided, (attempt, None));
    }

    /// The queue gave up on this recipient.
    pub fn expired(&self, facts: &Facts, rcpt: u16, expiry: &Expiry<'_>) {
        let mut record = self.about(Type::Expired, facts);
        record.attempt = Some(expiry.attempts);
        record.life = Some(expiry.life);
        record.reason = Some(expiry.heard);
        record.blame(Meaning::of(expiry.reason));
        self.say(&record.naming_one(facts, rcpt));
    }

    /// A recipient ended without an attempt, as an administrator's rule has it; the tenant is told.
    pub fn disposed(&self, facts: &Facts, rcpt: u16, how: Disposal, reason: &str) {
        let kind = match how {
            Disposal::Suppressed => Type::Suppressed,
            Disposal::Dropped => Type::Dropped,
        };
        let mut record = self.about(kind, facts);
        record.class_by = facts.class.as_ref().map(|classed| classed.by.name());
        record.reason = Some(reason);
        self.say(&record.naming_one(facts, rcpt));
    }

    /// A newer mail took this one's place before it was delivered; the tenant is told.
    pub fn superseded(&self, facts: &Facts, rcpt: u16, newer: Id, reason: &str) {
        let mut record = self.about(Type::Superseded, facts);
        let about = [newer];
        record.class_by = facts.class.as_ref().map(|classed| classed.by.name());
        record.reason = Some(reason);
        record.about = &about;
        self.say(&record.naming_one(facts, rcpt));
    }

    /// A notification was put into the queue; `facts` are its own.
    pub fn dsn(&self, facts: &Facts, dsn: &Dsn<'_>) {
        let mut record = self.about(Type::Dsn, facts);
        record.dsn = Some(dsn.kind);
        record.about = dsn.about;
        self.say(&record.naming_all(facts));
    }

    /// Nobody is told of what became of this recipient, and why not.
    pub fn untold(&self, facts: &Facts, rcpt: u16, kind: DsnKind, why: &str) {
        let mut record = self.about(Type::Dsn, facts);
        record.dsn = Some(kind);
        record.reason = Some(why);
        self.say(&record.naming_one(facts, rcpt));
    }

    /// An administrator did something.
    pub fn audit(&self, what: &Audit<'_>) {
        let mut record = self.record(Type::Audit);
        record.tenant = what.tenant;
        record.actor = Some(what.actor);
        record.action = Some(what.action);
        record.reason = Some(what.detail);
        self.say(&record);
    }

    fn about<'a>(&self, kind: Type, facts: &'a Facts) -> Record<'a> {
        self.record(kind).with(facts)
    }

    fn acted(&self, kind: Type, facts: &Facts, rcpts: &[u16], (actor, reason): (&str, &str)) {
        for rcpt in rcpts {
            let mut record = self.about(kind, facts);
            record.actor = Some(actor);
            record.reason = Some(reason);
            self.say(&record.naming_one(facts, *rcpt));
        }
    }

    fn outcome(&self, kind: Type, facts: &Facts, decided: &Decided, (attempt, next): (u32, Option<Time>)) {
        let mut record = self.about(kind, facts);
        record.attempt = Some(attempt);
        record.next_attempt = next;
        record.route = Some(decided.hop.route);
        record.host = decided.hop.host.as_deref();
        record.site = decided.hop.site.as_deref();
        record.rests_until = decided.hop.rests;
        record.ip = decided.hop.ip;
        record.source = decided.hop.source;
        record.tls = decided.hop.tls.as_ref();
        record.ms = decided.ms;
        match decided.fate {
            Fate::Delivered => record.reason_class = Some("ok"),
            Fate::Deferred | Fate::Failed => {
                let meaning = decided.meaning();
                record.blame(meaning);
                self.metrics.undelivered.get_or_create(&ReasonLabel { reason: meaning.reason.name() }).inc();
            }
        }
        record.reply = Some((&decided.reply).into());
        self.say(&record.naming_one(facts, decided.rcpt));
    }
}
