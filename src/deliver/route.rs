//! How a leg's mail leaves: what the route asks of a session, and whose connections it may use.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lettre::transport::smtp::authentication::Credentials;

use super::auth::Auth;
use super::hosts::Host;
use super::opening::{Plan, Starttls};
use super::pool::{Key, UpstreamKey};
use super::protect::{Protection, Start, Trust};
use crate::mail::secret::{ExposeSecret, SecretString};
use crate::tenant::oauth::OAuth;
use crate::tenant::{Route, Upstream};

/// What a route asks of a session.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// How it protects any message.
    usual: Protection,
    auth: Option<Auth>,
    username: Option<String>,
    oauth: Option<Arc<OAuth>>,
    /// Roots beside the usual ones.
    ca_file: Option<PathBuf>,
    /// `None`: an exchanger's, keyed by its name.
    upstream: Option<UpstreamKey>,
}

impl Access {
    /// Of this tenant's route.
    #[must_use]
    pub(super) fn new(route: &Route, tenant: &Arc<str>) -> Self {
        match route {
            Route::Mx => Self {
                usual: Protection::OPPORTUNISTIC,
                auth: None,
                username: None,
                oauth: None,
                ca_file: None,
                upstream: None,
            },
            Route::Upstream(upstream) => Self {
                usual: Protection::of_upstream(upstream.tls, upstream.ca_file.clone()),
                auth: auth(upstream),
                username: upstream.credentials.as_ref().map(|(username, _)| username.clone()),
                oauth: upstream.oauth.clone(),
                ca_file: upstream.ca_file.clone(),
                upstream: Some(UpstreamKey::new(tenant, upstream)),
            },
        }
    }

    /// How the route protects any message.
    #[must_use]
    pub(super) fn usual(&self) -> Protection {
        self.usual.clone()
    }

    /// How a session that is protected like this is opened.
    #[must_use]
    pub(super) fn plan(&self, hostname: &str, protection: &Protection) -> Plan {
        let starttls = match protection.start {
            Start::IfOffered => Starttls::IfOffered,
            Start::Never | Start::Implicit => Starttls::Never,
            Start::Starttls => Starttls::Required(protection.by.advice()),
        };
        Plan { hostname: hostname.to_owned(), starttls, auth: self.auth.clone(), helo: false }
    }

    /// The account that a session logs in to.
    #[must_use]
    pub(super) fn account(&self) -> Option<&UpstreamKey> {
        self.upstream.as_ref().filter(|_| self.auth.is_some())
    }

    /// Who gives the tokens that it logs in with, if it does not log in with a password, and which certificate is good there:
    /// always a verified one, whatever `tls` says of the upstream itself.
    #[must_use]
    pub(super) fn oauth(&self) -> Option<(&OAuth, Trust)> {
        Some((self.oauth.as_deref()?, Trust::Verified(self.ca_file.clone())))
    }

    /// The plan, with this token for the password.
    #[must_use]
    pub(super) fn with_token(&self, plan: Plan, token: &SecretString) -> Plan {
        let Some(username) = &self.username else { return plan };
        let credentials = Credentials::new(username.clone(), token.expose_secret().to_owned());
        let auth =
            plan.auth.as_ref().map(|auth| Auth { credentials, cleartext: auth.cleartext, bearer: true });
        Plan { auth, ..plan }
    }

    /// Whose connections may be used. One that was opened with less protection is not for a message that needs more.
    #[must_use]
    pub(super) fn key(&self, host: &Host, protection: &Protection, source: Option<IpAddr>) -> Key {
        match &self.upstream {
            Some(upstream) => Key::Upstream(upstream.clone(), source),
            None => Key::Mx {
                host: host.name.clone(),
                port: host.address.port(),
                protection: protection.clone(),
                source,
            },
        }
    }
}

fn auth(upstream: &Upstream) -> Option<Auth> {
    let (username, password) = upstream.credentials.as_ref()?;
    let bearer = upstream.oauth.is_some();
    // What tokens are asked for with is never itself sent to the upstream: the token comes later.
    let password = if bearer { String::new() } else { password.expose_secret().to_owned() };
    let credentials = Credentials::new(username.clone(), password);
    Some(Auth { credentials, cleartext: upstream.cleartext_auth, bearer })
}
