//! A notification as it leaves: written, sealed with the relay's own key, and ready for the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Identity, Notice, Unwritten, compose};
use crate::config::Config;
use crate::mail::address::Address;
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind, Lane, Message, Needs, TlsNeed};
use crate::mail::priority::Priority;
use crate::mail::time::Time;
use crate::queue::store::{Accept, Destination};
use crate::seal::{self, Keyring, SealError};

/// The tenant name of what the relay writes itself.
pub const RELAY: &str = "relay";

/// Why there is no notification to send.
#[derive(Debug, thiserror::Error)]
pub enum Unsent {
    /// It could not be written.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// It could not be sealed, and is never sent without (product: never send unsigned silently).
    #[error("it cannot be sealed: {0}")]
    Unsealed(#[from] SealError),
}

/// The notification for the queue; `tells` are the failures that it pays.
///
/// # Errors
/// It cannot be written, or not be sealed with the relay's key.
pub fn sealed(
    config: &Config,
    keyring: &Keyring,
    notice: &Notice,
    tells: Vec<(Id, u16)>,
) -> Result<Accept, Unsent> {
    let identity = Identity { domain: config.relay.domain.clone(), hostname: config.hostname.clone() };
    let plain = compose(&identity, notice)?;
    let mut body = keyring.sign(&identity.domain, &plain, notice.at, seal::life(config))?;
    body.extend_from_slice(&plain);
    let (tls, priority) = (tls(notice), priority(notice));
    Ok(enqueue(config, Letter { id: notice.id, at: notice.at, to: &notice.to, body, tls, priority, tells }))
}

/// A mail of the relay's own, written and sealed.
#[derive(Debug)]
pub struct Letter<'a> {
    /// Its id.
    pub id: Id,
    /// When it was written.
    pub at: Time,
    /// Who gets it.
    pub to: &'a [Address],
    /// Its octets.
    pub body: Vec<u8>,
    /// What TLS it needs on its way.
    pub tls: TlsNeed,
    /// How urgent it is to the servers behind us.
    pub priority: Priority,
    /// The failures that it pays.
    pub tells: Vec<(Id, u16)>,
}

/// The letter, ready for the queue.
#[must_use]
pub fn enqueue(config: &Config, letter: Letter<'_>) -> Accept {
    let facts = facts(config, &letter);
    let legs = legs(&facts.envelope);
    let message = Arc::new(Message { facts, body: letter.body.into() });
    Accept { message, legs, held: None, tells: letter.tells }
}

/// Its own facts: null reverse-path (RFC 3464 section 2), and no notification about it (RFC 3461 section 4.1).
fn facts(config: &Config, letter: &Letter<'_>) -> Facts {
    let identity = Identity { domain: config.relay.domain.clone(), hostname: config.hostname.clone() };
    let never = Notify { success: false, failure: false, delay: false, stated: true };
    let rcpt = |address: &Address| Recipient { address: address.clone(), orcpt: None, notify: never };
    let rcpts: Vec<Recipient> = letter.to.iter().map(rcpt).collect();
    let smtputf8 = letter.to.iter().any(Address::needs_smtputf8);
    Facts {
        id: letter.id,
        tenant: RELAY.into(),
        login: None,
        header_from: identity.address(),
        class: None,
        lane: Lane::Normal,
        kind: Kind::Notification,
        envelope: Envelope { from: None, rcpts, ret: None, envid: None },
        received: letter.at,
        expires: letter.at.after(config.delivery.give_up),
        return_path: None,
        unsealed: None,
        needs: Needs { smtputf8, tls: letter.tls, ..Needs::default() },
        asked: crate::mail::message::Asked::default(),
        priority: letter.priority,
        deliver_by: None,
        size: u64::try_from(letter.body.len()).unwrap_or(u64::MAX),
    }
}

/// RFC 8689 section 5: what is told of mail with REQUIRETLS goes with REQUIRETLS.
fn tls(notice: &Notice) -> TlsNeed {
    let required = notice.told.iter().any(|told| told.facts.needs.tls == TlsNeed::RequireTls);
    if required { TlsNeed::RequireTls } else { TlsNeed::Usual }
}

/// RFC 6710 section 4.6: that of the message; of several, the most urgent.
fn priority(notice: &Notice) -> Priority {
    notice.told.iter().map(|told| told.facts.priority).max().unwrap_or_default()
}

/// The relay's own mail goes to the exchangers: a leg for each domain.
fn legs(envelope: &Envelope) -> Vec<(Destination, Vec<u16>)> {
    let mut legs: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    for (at, rcpt) in (0_u16..).zip(&envelope.rcpts) {
        legs.entry(rcpt.address.domain().as_str()).or_default().push(at);
    }
    legs.into_iter().map(|(domain, rcpts)| (Destination(domain.into()), rcpts)).collect()
}
