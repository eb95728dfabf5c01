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
use crate::mail::priority::Priority;
use crate::mail::time::Time;
use crate::queue::store::Accept;
use crate::seal::{self, Keyring};

/// What keeps a tenant's mail from its upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It refuses the user name and password.
    Password,
    /// It refuses the access token, or whoever grants tokens refuses one.
    Grant,
    /// It does not show that it is the server of that name, or speaks in clear text: no password and no mail is sent.
    Tls,
}

/// An upstream that a person must see to.
#[derive(Clone, Debug)]
pub struct Alert {
    /// In what.
    pub what: What,
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
        let Self { tenant, host, .. } = self;
        match self.what {
            What::Grant => format!("{host} gets no access token of tenant {tenant} that it takes"),
            What::Password => format!("{host} refuses the user name and password of tenant {tenant}"),
            What::Tls => format!("{host} does not give the TLS that the route of tenant {tenant} asks for"),
        }
    }

    fn subject(&self) -> String {
        let why = match self.what {
            What::Password => "its server refuses the password",
            What::Grant => "access to its server was not granted",
            What::Tls => "its server cannot be trusted",
        };
        format!("Mail of {} waits: {why}", self.tenant)
    }

    fn text(&self, hostname: &str) -> String {
        let said: String = self.said.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        match self.what {
            What::Password => {
                self.of_login(hostname, ("refuses its user name and password", &self.password()), &said)
            }
            What::Grant => {
                self.of_login(hostname, ("gets no access token that it takes", &self.grant()), &said)
            }
            What::Tls => self.of_tls(hostname, &said),
        }
    }

    fn of_tls(&self, hostname: &str, said: &str) -> String {
        let Self { tenant, host, .. } = self;
        format!(
            "This is the mail relay {hostname}.\n\n\
             The server {host}, by which the mail of tenant {tenant} leaves, does not give the TLS that the tenant's route asks for:\n\n  \
             {said}\n\n\
             No password and no mail is sent to such a server: anybody could be listening. Mail of this tenant waits meanwhile, and\n\
             nothing of it is lost; it is tried again by its schedule. What does not get out within its life fails, and you are told.\n\n\
             What to do: have the certificate renewed at the provider, if it has expired or bears another name. Otherwise whoever runs\n\
             the relay looks at host, port, tls and ca_file under [route.upstream] of the tenant, and asks\n\n  \
             waxseal tenant test {tenant}\n\n\
             whether it works. What waits then leaves by itself. This is said once, until the server is trusted again.\n"
        )
    }

    fn of_login(&self, hostname: &str, (what, to_do): (&str, &str), said: &str) -> String {
        let Self { tenant, host, .. } = self;
        format!(
            "This is the mail relay {hostname}.\n\n\
             The server {host}, by which the mail of tenant {tenant} leaves, {what}:\n\n  \
             {said}\n\n\
             Mail of this tenant is held meanwhile: it is accepted and kept, and nothing of it is lost. It is tried again now and then,\n\
             seldom enough that the account is not locked. What does not get out within its life fails, and you are told.\n\n\
             What to do: {to_do}\n\n\
             As soon as the server takes them, what is held leaves by itself. This is said once.\n"
        )
    }

    fn password(&self) -> String {
        format!(
            "make sure of the user name and password at the provider. Then whoever runs the relay sets them:\n\n  \
             waxseal tenant upstream-password {}",
            self.tenant
        )
    }

    fn grant(&self) -> String {
        format!(
            "make sure at the provider that the account still agrees, and agree anew if it does not. Then whoever runs the relay\n\
             writes the new refresh token or client secret into the files that [route.upstream.oauth] of the tenant names,\n\
             reloads, and asks whether they are taken:\n\n  \
             waxseal tenant test {}",
            self.tenant
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
    let (tls, priority) = (TlsNeed::Usual, Priority::default());
    Ok(enqueue(config, Letter { id, at, to: &alert.to, body, tls, priority, tells: Vec::new() }))
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
        .subject(alert.subject())
        .date(UNIX_EPOCH + Duration::from_millis(at.0))
        .message_id(Some(format!("<{id}@{domain}>")))
        .raw_header(auto_submitted())
        .singlepart(SinglePart::plain(alert.text(config.hostname.as_str())))
        .map_err(|error| unbuilt(&error))?;
    Ok(message.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_is_what_helps() {
        let rows = [
            (What::Password, "waxseal tenant upstream-password acme", "waxseal tenant test acme"),
            (What::Grant, "waxseal tenant test acme", "password"),
            (What::Tls, "waxseal tenant test acme", "upstream-password"),
        ];
        for (what, helps, does_not) in rows {
            let (to, said) = (Vec::new(), "535 no".to_owned());
            let alert = Alert { what, tenant: "acme".into(), to, host: "up.test:587".into(), said };
            let text = alert.text("relay.test");
            assert!(text.contains(helps) && !text.contains(does_not), "{what:?}: {text}");
        }
    }
}
