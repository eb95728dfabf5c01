//! The format of the mail log, all of it: the fields, their order, their types, and how a line is escaped.
//! A field is absent where it does not apply; none is ever null. docs/log.md says what each one means.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::answered::Answered;
use super::auth::Auth;
use super::escape::Plain;
use super::events::DsnKind;
use super::kind::Type;
use crate::mail::address::Address;
use crate::mail::attempt::{Timings, TlsFacts};
use crate::mail::id::Id;
use crate::mail::meaning::{Meaning, Whose};
use crate::mail::message::Facts;
use crate::mail::time::Time;

/// The format's version, in every line: raised when a field changes its meaning or type.
pub const VERSION: u8 = 1;
/// Octets usually enough for a line, so that it is allocated once.
const LINE: usize = 768;
/// Recipients named in one line at most; `rcpts` says how many there are.
const NAMED_MAX: usize = 100;

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    v: u8,
    #[serde(serialize_with = "stamp")]
    pub(super) ts: Time,
    #[serde(rename = "type")]
    pub(super) kind: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) class_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i8>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reverse_path")]
    pub(super) from: Option<Option<&'a Address>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_from: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "To::is_none")]
    to: To<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcpt: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcpts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) site: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) helo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<&'a TlsFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_need: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_stamp")]
    deliver_by: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mechanism: Option<&'a str>,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) exposed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth: Option<Auth<'a>>,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    pub(super) repairs: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reply: Option<Answered<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason_class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whose: Option<Whose>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) life: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_stamp")]
    pub(super) next_attempt: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_stamp")]
    pub(super) rests_until: Option<Time>,
    #[serde(skip_serializing_if = "no_timings", serialize_with = "timings")]
    pub(super) ms: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dsn: Option<DsnKind>,
    #[serde(skip_serializing_if = "<[Id]>::is_empty")]
    pub(super) about: &'a [Id],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) action: Option<&'a str>,
}

/// Recipients: one, where the line is about one; a list, where it is about the message.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum To<'a> {
    None,
    One(&'a Address),
    Many(Vec<&'a Address>),
}

impl<'a> Record<'a> {
    pub(super) fn new(kind: Type, ts: Time) -> Self {
        Self {
            v: VERSION,
            ts,
            kind,
            id: None,
            tenant: None,
            login: None,
            class: None,
            class_by: None,
            priority: None,
            from: None,
            header_from: None,
            to: To::None,
            to_domain: None,
            rcpt: None,
            rcpts: None,
            size: None,
            message_id: None,
            route: None,
            host: None,
            site: None,
            ip: None,
            source: None,
            helo: None,
            tls: None,
            tls_need: None,
            deliver_by: None,
            by_mode: None,
            mechanism: None,
            exposed: false,
            auth: None,
            repairs: &[],
            attempt: None,
            reply: None,
            reason_class: None,
            whose: None,
            advice: None,
            reason: None,
            life: None,
            next_attempt: None,
            rests_until: None,
            ms: Timings::default(),
            dsn: None,
            about: &[],
            domain: None,
            provider: None,
            count: None,
            health: None,
            before: None,
            actor: None,
            action: None,
        }
    }

    /// Fills in what is known of a message.
    pub(super) fn with(mut self, facts: &'a Facts) -> Self {
        self.id = Some(facts.id);
        self.tenant = Some(&facts.tenant);
        self.login = facts.login.as_deref();
        self.class = facts.class.as_ref().map(|classed| &*classed.name);
        self.priority = Some(facts.priority.number()).filter(|number| *number != 0);
        self.from = Some(facts.envelope.from.as_ref());
        self.header_from = facts.header_from.as_ref().map(|from| Cow::Owned(from.to_string()));
        self.size = Some(facts.size);
        self.tls_need = facts.needs.tls.name();
        self.deliver_by = facts.deliver_by.map(|by| by.at);
        self.by_mode = facts.deliver_by.map(|by| by.letters());
        self
    }

    /// Names every recipient of the message.
    pub(super) fn naming_all(mut self, facts: &'a Facts) -> Self {
        let all = facts.envelope.rcpts.iter().map(|rcpt| &rcpt.address);
        self.name(all.clone().count(), all);
        self
    }

    /// Names these recipients of the message.
    pub(super) fn naming_some(mut self, facts: &'a Facts, rcpts: &[u16]) -> Self {
        let some = rcpts.iter().filter_map(|rcpt| facts.envelope.rcpts.get(usize::from(*rcpt)));
        self.name(rcpts.len(), some.map(|rcpt| &rcpt.address));
        self
    }

    /// Names addresses that belong to no message.
    pub(super) fn naming_addresses(mut self, addresses: &'a [Address]) -> Self {
        if !addresses.is_empty() {
            self.name(addresses.len(), addresses.iter());
        }
        self
    }

    /// Names an address that is no recipient of a message at hand.
    pub(super) fn naming_address(mut self, address: Option<&'a Address>) -> Self {
        if let Some(address) = address {
            self.to = To::One(address);
            self.to_domain = Some(address.domain().as_str());
        }
        self
    }

    /// Names the one recipient that the line is about.
    pub(super) fn naming_one(mut self, facts: &'a Facts, rcpt: u16) -> Self {
        if let Some(recipient) = facts.envelope.rcpts.get(usize::from(rcpt)) {
            self.to = To::One(&recipient.address);
            self.to_domain = Some(recipient.address.domain().as_str());
        }
        self.rcpt = Some(rcpt);
        self
    }

    fn name(&mut self, count: usize, addresses: impl Iterator<Item = &'a Address>) {
        self.rcpts = Some(count);
        self.to = To::Many(addresses.take(NAMED_MAX).collect());
    }

    /// Why it was no success, whose job it is, and what to do.
    pub(super) fn blame(&mut self, meaning: Meaning) {
        self.reason_class = Some(meaning.reason.name());
        self.whose = Some(meaning.whose);
        self.advice = Some(meaning.advice);
    }

    /// The line, with its line end.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(LINE);
        let mut to = serde_json::Serializer::with_formatter(&mut line, Plain);
        // Writing to memory cannot fail, and no map here has keys that are not text.
        let _ = self.serialize(&mut to);
        line.push(b'\n');
        line
    }
}

impl To<'_> {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn no_timings(ms: &Timings) -> bool {
    *ms == Timings::default()
}

fn stamp<S: Serializer>(at: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&at.utc())
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn maybe_stamp<S: Serializer>(at: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => stamp(at, to),
        None => to.serialize_none(),
    }
}

/// The null reverse-path is the empty text, so that `from=<>` stays `from=<>` in the human view.
#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn reverse_path<S: Serializer>(from: &Option<Option<&Address>>, to: S) -> Result<S::Ok, S::Error> {
    match from.as_ref().and_then(|from| from.as_ref()) {
        Some(address) => to.collect_str(address),
        None => to.serialize_str(""),
    }
}

fn timings<S: Serializer>(ms: &Timings, to: S) -> Result<S::Ok, S::Error> {
    let steps = [
        ("queue", ms.queue),
        ("dns", ms.dns),
        ("connect", ms.connect),
        ("tls", ms.tls),
        ("smtp", ms.smtp),
        ("total", ms.total),
    ];
    to.collect_map(steps.into_iter().filter_map(|(name, ms)| ms.map(|ms| (name, ms))))
}
