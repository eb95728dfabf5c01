//! How a leg's mail leaves: what the route asks of a session, and whose connections it may use.

use std::path::PathBuf;
use std::sync::Arc;

use lettre::transport::smtp::authentication::Credentials;

use super::hosts::Host;
use super::opening::{Auth, Plan, Starttls};
use super::pool::{Key, UpstreamKey};
use super::tls::Trust;
use crate::mail::secret::ExposeSecret;
use crate::tenant::{Route, Upstream, UpstreamTls};

/// How a session is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protection {
    /// TLS where it is offered, whoever the certificate names (RFC 7435).
    Opportunistic,
    /// Clear text: the tenant's route says so.
    None,
    /// STARTTLS or nothing, verified.
    Starttls,
    /// TLS from the first octet, verified.
    Implicit,
}

/// What a route asks of a session.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// How it is protected.
    pub(super) protection: Protection,
    auth: Option<Auth>,
    ca_file: Option<PathBuf>,
    /// `None`: an exchanger's, keyed by its name.
    upstream: Option<UpstreamKey>,
}

impl Access {
    /// Of this tenant's route.
    #[must_use]
    pub(super) fn new(route: &Route, tenant: &Arc<str>) -> Self {
        match route {
            Route::Mx => {
                Self { protection: Protection::Opportunistic, auth: None, ca_file: None, upstream: None }
            }
            Route::Upstream(upstream) => Self {
                protection: protection(upstream.tls),
                auth: auth(upstream),
                ca_file: upstream.ca_file.clone(),
                upstream: Some(UpstreamKey::new(tenant, upstream)),
            },
        }
    }

    /// How the session is opened.
    #[must_use]
    pub(super) fn plan(&self, hostname: &str) -> Plan {
        let starttls = match self.protection {
            Protection::Opportunistic => Starttls::IfOffered,
            Protection::None | Protection::Implicit => Starttls::Never,
            Protection::Starttls => Starttls::Required,
        };
        Plan { hostname: hostname.to_owned(), starttls, auth: self.auth.clone(), helo: false }
    }

    /// What the certificate must be.
    #[must_use]
    pub(super) fn trust(&self) -> Trust<'_> {
        match self.protection {
            Protection::Opportunistic | Protection::None => Trust::Opportunistic,
            Protection::Starttls | Protection::Implicit => Trust::Verified(self.ca_file.as_deref()),
        }
    }

    /// Whose connections may be used.
    #[must_use]
    pub(super) fn key(&self, host: &Host) -> Key {
        match &self.upstream {
            Some(upstream) => Key::Upstream(upstream.clone()),
            None => Key::Mx { host: host.name.clone(), port: host.address.port() },
        }
    }
}

fn protection(tls: UpstreamTls) -> Protection {
    match tls {
        UpstreamTls::None => Protection::None,
        UpstreamTls::Starttls => Protection::Starttls,
        UpstreamTls::Implicit => Protection::Implicit,
    }
}

fn auth(upstream: &Upstream) -> Option<Auth> {
    let (username, password) = upstream.credentials.as_ref()?;
    let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
    Some(Auth { credentials, cleartext: upstream.cleartext_auth })
}
