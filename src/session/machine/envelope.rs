//! Who sends and who receives: MAIL and RCPT.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Login, Machine, Note, Phase, Step, Transaction, replies};
use crate::config::ListenerTls;
use crate::mail::address::{Address, BadAddress};
use crate::mail::deliver_by::Mode;
use crate::mail::envelope::Recipient;
use crate::mail::reply::Reply;
use crate::mail::time::Time;
use crate::memory::Full;
use crate::session::params::{self, BadParam, MailParams, RcptParams};
use crate::session::path::{self, BadPath};
use crate::tenant::Tenant;

/// The most that a recipient takes: its address twice, and an ORCPT of 500 octets.
const RECIPIENT: u64 = 1024;
/// Recipients that are not counted.
const FEW: u64 = 16;

impl Machine {
    pub(super) fn mail(&mut self, rest: &str) -> Option<Step> {
        self.reached_mail = true;
        if let Some((reply, reason)) = self.mail_out_of_place() {
            self.reject(reply, reason, None);
            return None;
        }
        match self.read_mail(rest) {
            Ok(mail) => {
                self.pending = Some(mail);
                self.phase = Phase::Waiting;
                Some(Step::CheckMail)
            }
            Err((reply, reason)) => {
                self.reject(reply, reason, None);
                None
            }
        }
    }

    fn mail_out_of_place(&self) -> Option<(Reply, &'static str)> {
        if self.transaction.is_some() {
            return Some((replies::mail_twice(), "sequence"));
        }
        if !self.hello.greeted && self.login.is_none() {
            return Some((replies::hello_first(), "sequence"));
        }
        (!self.is_inbound() && self.sender().is_none()).then(|| (self.who_are_you(), "auth"))
    }

    /// 530, with what to change in the platform's form.
    pub(super) fn who_are_you(&self) -> Reply {
        let shown = self.exposed.is_none();
        match (self.tls.is_some(), self.setting.listener.tls) {
            (true, _) => replies::auth_required(),
            (false, ListenerTls::Starttls) if shown => replies::auth_after_tls(),
            (false, ListenerTls::Starttls) => replies::auth_after_tls_exposed(),
            (false, ListenerTls::None | ListenerTls::Implicit) => replies::auth_elsewhere(),
        }
    }

    fn read_mail(&self, rest: &str) -> Result<(Option<Address>, MailParams), (Reply, &'static str)> {
        let syntax = |bad| (replies::bad_sender(bad), "syntax");
        let text = keyword(rest, "FROM:").ok_or_else(|| (replies::mail_syntax(), "syntax"))?;
        let (mailbox, rest) = path::split(text).map_err(syntax)?;
        let params = params::mail(rest).map_err(|bad| (replies::bad_param(bad), "syntax"))?;
        if !mailbox.is_ascii() && !params.smtputf8 {
            return Err((replies::needs_smtputf8(), "smtputf8"));
        }
        if params.require_tls && (self.tls.is_none() || self.is_inbound()) {
            return Err((replies::require_tls_in_clear(), "requiretls"));
        }
        if self.is_inbound() && (params.priority.is_some() || params.deliver_by.is_some()) {
            return Err((replies::bad_param(BadParam::Unknown), "syntax"));
        }
        let least = self.setting.config.limits.deliver_by.as_secs();
        if params.deliver_by.is_some_and(|by| by.mode == Mode::Return && by.seconds < least.cast_signed()) {
            return Err((replies::by_too_soon(least), "deliver_by"));
        }
        let from = if mailbox.is_empty() { None } else { Some(path::mailbox(mailbox).map_err(syntax)?) };
        if params.size.is_some_and(|size| size > self.size_limit()) {
            return Err((replies::too_big(self.size_limit()), "size"));
        }
        if !self.has_memory(params.size) {
            return Err((replies::no_memory(), "memory"));
        }
        Ok((from, params))
    }

    /// RFC 1870: the server's bound, or the tenant's if it is lower.
    pub(super) fn size_limit(&self) -> u64 {
        let bound = self.setting.config.limits.message_size;
        let own = self.sender().and_then(|tenant| tenant.limits.message_size);
        own.map_or(bound, |own| own.min(bound))
    }

    /// What comes back is about one message, so it comes to one address at a time.
    fn recipients_limit(&self) -> usize {
        if self.is_inbound() {
            return 1;
        }
        let bound = self.setting.config.limits.recipients.min(usize::from(u16::MAX));
        let own = self.sender().and_then(|tenant| tenant.limits.recipients);
        own.map_or(bound, |own| own.min(bound))
    }

    /// The answer to `Step::CheckMail`: the tenant as it is now, or the refusal.
    pub fn mail_checked(&mut self, verdict: Result<Option<Arc<Tenant>>, (Reply, &'static str)>, now: Time) {
        self.phase = Phase::Command;
        let Some((from, params)) = self.pending.take() else { return };
        match verdict {
            Ok(tenant) => {
                self.refresh(tenant);
                let held = self.memory(0).unwrap_or_default();
                self.transaction = Some(Box::new(Transaction {
                    from,
                    // RFC 2852 section 4: from MAIL on, however long the message takes to come.
                    deliver_by: params.deliver_by.map(|by| by.from(now)),
                    params,
                    rcpts: Vec::new(),
                    named: HashSet::new(),
                    refused: false,
                    chunks: None,
                    held,
                }));
                self.say(replies::SENDER_OK);
            }
            Err((reply, reason)) => {
                self.fail(&reply);
                self.notes.push(Note::Rejected { to: None, from: Some(from), login: None, reply, reason });
            }
        }
    }

    /// A reload may have changed the tenant since it authenticated.
    fn refresh(&mut self, tenant: Option<Arc<Tenant>>) {
        let Some(tenant) = tenant else { return };
        match &mut self.login {
            Some(login) => login.tenant = tenant,
            None => self.setting.network = Some(tenant),
        }
    }

    /// The login is no longer one (it was revoked): the session is nobody's from here on.
    pub fn forget_login(&mut self) -> Option<Login> {
        self.login.take()
    }

    /// The network is no longer listed, or listed for another tenant.
    pub fn set_network(&mut self, tenant: Option<Arc<Tenant>>) {
        self.setting.network = tenant;
    }

    pub(super) fn rcpt(&mut self, rest: &str) {
        if !self.is_inbound() && self.sender().is_none() {
            return self.fail(self.who_are_you());
        }
        let Some(transaction) = &self.transaction else {
            return self.fail(replies::mail_first());
        };
        if transaction.chunks.is_some() {
            return self.fail(replies::in_chunks());
        }
        match self.read_rcpt(rest, transaction) {
            Ok((address, _)) if self.is_inbound() && !self.comes_back(&address) => {
                self.refuse_rcpt((replies::not_a_relay(), "relay", Some(address)));
            }
            Ok((address, params)) => self.add_rcpt(address, params),
            Err((reply, reason)) => self.refuse_rcpt((reply, reason, None)),
        }
    }

    /// Whether the address is one of our own making, the only kind that an inbound listener takes.
    fn comes_back(&self, address: &Address) -> bool {
        self.setting.returns.as_ref().is_some_and(|returns| returns.token(address).is_some())
    }

    fn refuse_rcpt(&mut self, (reply, reason, to): (Reply, &'static str, Option<Address>)) {
        if let Some(transaction) = &mut self.transaction {
            transaction.refused = true;
        }
        self.reject(reply, reason, to);
    }

    fn read_rcpt(
        &self,
        rest: &str,
        transaction: &Transaction,
    ) -> Result<(Address, RcptParams), (Reply, &'static str)> {
        let syntax = |bad| match bad {
            BadPath::Mailbox(BadAddress::Literal) => (replies::no_literals(), "destination"),
            BadPath::Brackets | BadPath::TooLong | BadPath::Mailbox(_) => {
                (replies::bad_recipient(bad), "syntax")
            }
        };
        let text = keyword(rest, "TO:").ok_or_else(|| (replies::rcpt_syntax(), "syntax"))?;
        let (mailbox, rest) = path::split(text).map_err(syntax)?;
        let params = params::rcpt(rest).map_err(|bad| (replies::bad_param(bad), "syntax"))?;
        if !mailbox.is_ascii() && !transaction.params.smtputf8 {
            return Err((replies::needs_smtputf8(), "smtputf8"));
        }
        // RFC 5321 section 4.5.1: the one mailbox that needs no domain.
        let address = if mailbox.eq_ignore_ascii_case("postmaster") {
            path::mailbox(&format!("{mailbox}@{}", self.setting.config.hostname)).map_err(syntax)?
        } else {
            path::mailbox(mailbox).map_err(syntax)?
        };
        if path::is_localhost(address.domain()) {
            return Err((replies::no_literals(), "destination"));
        }
        Ok((address, params))
    }

    /// The same recipient twice is one delivery (CM6); both get 250.
    fn add_rcpt(&mut self, address: Address, params: RcptParams) {
        let limit = self.recipients_limit();
        let Some(transaction) = &mut self.transaction else { return };
        let known = transaction.named.contains(&address);
        if !known && transaction.rcpts.len() >= limit {
            return self.reject(replies::too_many_recipients(limit), "recipients", Some(address));
        }
        if !known && transaction.make_room().is_err() {
            // As with too many: the rest may come in another transaction (RFC 5321 section 4.5.3.1.10).
            return self.reject(replies::no_memory(), "memory", Some(address));
        }
        if !known {
            transaction.named.insert(address.clone());
            transaction.rcpts.push(Recipient { address, orcpt: params.orcpt, notify: params.notify });
        }
        self.say(replies::RECIPIENT_OK);
    }
}

impl Transaction {
    /// Room for one more recipient. The few that mail usually has are not counted.
    fn make_room(&mut self) -> Result<(), Full> {
        let count = self.rcpts.len() as u64 + 1;
        let octets = count.saturating_mul(RECIPIENT);
        if count <= FEW || octets <= self.held.octets() {
            return Ok(());
        }
        self.held.grow_to(octets.saturating_add(FEW * RECIPIENT))
    }
}

/// What follows `FROM:` or `TO:`, in any case.
fn keyword<'a>(rest: &'a str, word: &str) -> Option<&'a str> {
    let (head, tail) = rest.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(tail)
}
