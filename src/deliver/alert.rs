//! A word to a tenant that is no delivery status: its mail waits until a person does something. Written like a notification and
//! sealed like one.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::{Mailbox, SinglePart};

use super::bounce::{Letter, Unsent, Unwritten, address_list, auto_submitted, enqueue};
use crate::config::Config;
use crate::mail::address::Address;
use crate::mail::id::Id;
use crate::mail::message::TlsNeed;
use crate::mail::time::Time;
use crate::queue::store::Accept;
use crate::seal::{self, Keyring};

/// An upstream refuses a tenant's user name and password.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Whose.
    pub tenant: Arc<str>,
    /// Who is told.
    pub to: Vec<Address>,
    /// The upstream: host and port.
    pub host: String,
    /// What it said.
    pub said: String,
}

impl Alert {
    /// For the log.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} refuses the user name and password of tenant {}", self.host, self.tenant)
    }

    fn text(&self, hostname: &str) -> String {
        let Self { tenant, host, said, .. } = self;
        let said: String = said.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        format!(
            "This is the mail relay {hostname}.\n\n\
             The server {host}, by which the mail of tenant {tenant} leaves, refuses its user name and password:\n\n  \
             {said}\n\n\
             Mail of this tenant is held meanwhile: it is accepted and kept, and nothing of it is lost. It is tried again now and then,\n\
             seldom enough that the account is not locked. What does not get out within its life fails, and you are told.\n\n\
             What to do: make sure of the user name and password at the provider. Then whoever runs the relay sets them:\n\n  \
             waxseal tenant upstream-password {tenant}\n\n\
             As soon as the server takes them, what is held leaves by itself. This is said once.\n"
        )
    }
}

/// The mail for the queue.
///
/// # Errors
/// It cannot be written, or not be sealed with the relay's key.
pub fn sealed(
    config: &Config,
    keyring: &Keyring,
    alert: &Alert,
    (id, at): (Id, Time),
) -> Result<Accept, Unsent> {
    let domain = &config.relay.domain;
    let plain = compose(config, alert, (id, at))?;
    let mut body = keyring.sign(domain, &plain, at, seal::life(config))?;
    body.extend_from_slice(&plain);
    Ok(enqueue(config, Letter { id, at, to: &alert.to, body, tls: TlsNeed::Usual, tells: Vec::new() }))
}

fn compose(config: &Config, alert: &Alert, (id, at): (Id, Time)) -> Result<Vec<u8>, Unwritten> {
    let unbuilt = |error: &dyn std::fmt::Display| Unwritten::Build(error.to_string());
    let domain = config.relay.domain.as_str();
    let from = lettre::Address::new("postmaster", domain).map_err(|error| unbuilt(&error))?;
    let envelope =
        lettre::address::Envelope::new(None, vec![from.clone()]).map_err(|error| unbuilt(&error))?;
    let message = lettre::Message::builder()
        .envelope(envelope)
        .from(Mailbox::new(Some("Mail Delivery System".to_owned()), from))
        .raw_header(address_list(&alert.to))
        .subject(format!("Mail of {} waits: its server refuses the password", alert.tenant))
        .date(UNIX_EPOCH + Duration::from_millis(at.0))
        .message_id(Some(format!("<{id}@{domain}>")))
        .raw_header(auto_submitted())
        .singlepart(SinglePart::plain(alert.text(config.hostname.as_str())))
        .map_err(|error| unbuilt(&error))?;
    Ok(message.formatted())
}
