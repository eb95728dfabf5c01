//! Who may send: tenants, their logins, domains and routes, as a snapshot that a reload replaces whole.

pub mod auth;
mod clash;
pub mod edit;
mod file;
mod load;
pub mod meter;
pub mod oauth;
pub mod password;
pub mod preset;
mod signing;
pub mod throttle;
pub mod upstream;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::oauth::OAuth;
use crate::config::class::{Suppression, certain};
use crate::config::{Classes, Config, ConfigError};
use crate::mail::address::{Address, Domain};
use crate::mail::class::Classed;
use crate::mail::priority::Priority;
use crate::mail::secret::SecretString;

/// All tenants, immutable; a reload makes a new one.
#[derive(Debug, Default)]
pub struct Directory {
    tenants: HashMap<Arc<str>, Arc<Tenant>>,
    /// User name to tenant and the login's place in it.
    logins: HashMap<Arc<str>, (Arc<Tenant>, usize)>,
    /// The same in a row, for `somebody`.
    everybody: Vec<(Arc<Tenant>, usize)>,
    networks: HashMap<IpNet, Arc<Tenant>>,
    return_paths: HashMap<Domain, Arc<Tenant>>,
    /// The prefix lengths there are, longest first: a lookup asks for each.
    prefixes: BTreeSet<Reverse<u8>>,
}

/// The current `Directory`, swapped whole at a reload.
pub type Tenants = ArcSwap<Directory>;

/// One customer of the platform.
#[derive(Debug)]
pub struct Tenant {
    /// Its name, and its file's.
    pub name: Arc<str>,
    /// May send without AUTH from here (method None).
    pub networks: Vec<IpNet>,
    /// Who is told of failures; empty: the envelope sender if it is the tenant's own.
    pub notify: Vec<Address>,
    /// User names and argon2id hashes.
    pub logins: Vec<Login>,
    /// From domains.
    pub domains: Vec<OwnedDomain>,
    /// How its mail leaves.
    pub route: Arc<Route>,
    /// How it leaves where that way puts it off: those of single classes first.
    pub fallbacks: Vec<Fallback>,
    /// How its mail is signed on that way.
    pub signing: Signing,
    /// Bounds of this tenant.
    pub limits: TenantLimits,
    /// What happens to bare LF and CR in its mail.
    pub bare_newlines: BareNewlines,
    /// The kinds of its mail, and which one it is that nothing tells.
    pub classes: Classes,
    /// What goes onto its suppression list, and for which mail that counts.
    pub suppression: SuppressionRules,
}

/// A tenant's suppression list: what fills it by itself, and what it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SuppressionRules {
    /// Which entries count for mail whose class is not certain, or says nothing of it.
    pub apply: Suppression,
    /// Whether an address goes onto it whose server says for good that there is no such mailbox.
    pub bounces: bool,
    /// Whether an address goes onto it whose reader called a mail spam.
    pub complaints: bool,
}

/// A user name and its password's hash.
pub struct Login {
    /// Compared exactly.
    pub username: Arc<str>,
    /// PHC string, argon2id.
    pub password: String,
    /// The class of all mail that comes by it.
    pub class: Option<Arc<str>>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, {:?})", self.username, self.class)
    }
}

/// A From domain of a tenant.
#[derive(Clone, Debug)]
pub struct OwnedDomain {
    /// The domain.
    pub name: Domain,
    /// What happens to mail that receivers would not believe.
    pub on_fail: OnFail,
    /// Domain of the return path; `None`: the sender's own address stays.
    pub return_path: Option<Domain>,
    /// Whether names below it belong to it too.
    pub subdomains: bool,
}

/// What happens to mail that receivers would not believe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// 550 with the record to publish.
    #[default]
    Reject,
    /// Accepted and parked until DNS is right.
    Hold,
    /// Sent, and said in the log.
    Tag,
    /// Sent.
    Off,
}

/// How a tenant's mail leaves.
#[derive(Clone, Debug)]
pub enum Route {
    /// Directly, to the recipients' exchangers.
    Mx,
    /// Through the tenant's own server.
    Upstream(Upstream),
}

/// A second way for mail that the first one keeps putting off.
#[derive(Clone, Debug)]
pub struct Fallback {
    /// For mail that is of one of these classes for certain; empty: for any mail.
    pub classes: Vec<Arc<str>>,
    /// The way.
    pub route: Arc<Route>,
    /// Attempts made by the first one before it is taken, at least 1.
    pub attempts: u32,
    /// How old the mail is before it is taken.
    pub after: Duration,
}

/// How mail is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// With which keys.
    pub keys: SignWith,
    /// Header fields that a server on the way writes anew, so that a signature over them would break. Never From.
    pub omit: Vec<String>,
}

/// Which keys sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignWith {
    /// RSA and, if there is one, Ed25519.
    #[default]
    Both,
    /// RSA alone: some upstreams refuse two signatures.
    Rsa,
    /// None: the upstream signs.
    None,
}

/// A tenant's own SMTP server.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How TLS starts.
    pub tls: UpstreamTls,
    /// User name and the secret, read at load; with `oauth` the secret that tokens are asked for with.
    pub credentials: Option<(String, SecretString)>,
    /// Who gives access tokens, where the server takes no password (XOAUTH2).
    pub oauth: Option<Arc<OAuth>>,
    /// Whether AUTH may travel in clear text (`cleartext_auth = true` in the file).
    pub cleartext_auth: bool,
    /// More roots to trust than the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// The three methods, towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamTls {
    /// Clear text.
    None,
    /// STARTTLS, required, certificate verified.
    Starttls,
    /// TLS from the first octet, certificate verified.
    Implicit,
}

/// Bounds of a tenant; `None`: no bound but the server's.
#[derive(Clone, Debug, Default)]
pub struct TenantLimits {
    /// Messages an hour.
    pub per_hour: Option<u32>,
    /// Messages a day.
    pub per_day: Option<u32>,
    /// Octets of a message.
    pub message_size: Option<u64>,
    /// RCPTs of a transaction.
    pub recipients: Option<usize>,
    /// The highest priority that its mail may ask for (RFC 6710).
    pub priority: Option<Priority>,
}

/// What happens to a bare LF or CR (RFC 5321 section 2.3.8 forbids them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BareNewlines {
    /// The message is refused at its end.
    #[default]
    Refuse,
    /// Each becomes CRLF before sealing; never an end of data.
    Normalize,
}

/// Reads every `*.toml` of the tenants' directory; upstream secrets are read too.
///
/// # Errors
/// The first thing that is wrong in any of them, or between two of them.
pub fn load(config: &Config) -> Result<Directory, ConfigError> {
    load::load(config)
}

impl Directory {
    /// Makes the snapshot; `load` has checked names, overlaps and ownership.
    #[must_use]
    pub fn new(tenants: impl IntoIterator<Item = Tenant>) -> Self {
        let mut directory = Self::default();
        for tenant in tenants {
            directory.add(&Arc::new(tenant));
        }
        directory
    }

    fn add(&mut self, tenant: &Arc<Tenant>) {
        self.tenants.insert(Arc::clone(&tenant.name), Arc::clone(tenant));
        for (at, login) in tenant.logins.iter().enumerate() {
            self.logins.insert(Arc::clone(&login.username), (Arc::clone(tenant), at));
            self.everybody.push((Arc::clone(tenant), at));
        }
        for path in tenant.domains.iter().filter_map(|own| own.return_path.clone()) {
            self.return_paths.insert(path, Arc::clone(tenant));
        }
        for net in &tenant.networks {
            self.prefixes.insert(Reverse(net.prefix_len()));
            self.networks.insert(net.trunc(), Arc::clone(tenant));
        }
    }

    /// The tenant of this name.
    #[must_use]
    pub fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The tenant and login of a user name.
    #[must_use]
    pub fn login(&self, username: &str) -> Option<(&Arc<Tenant>, &Login)> {
        let (tenant, at) = self.logins.get(username)?;
        tenant.logins.get(*at).map(|login| (tenant, login))
    }

    /// The From domain that covers a name, and whose it is: of several, the closest one.
    #[must_use]
    pub fn covering(&self, domain: &Domain) -> Option<(&Arc<Tenant>, &OwnedDomain)> {
        let owned = self.tenants().filter_map(|tenant| Some((tenant, tenant.owns(domain)?)));
        owned.max_by_key(|(_, own)| own.name.as_str().len())
    }

    /// The tenant whose bounces come to this domain.
    #[must_use]
    pub fn return_path(&self, domain: &Domain) -> Option<&Arc<Tenant>> {
        self.return_paths.get(domain)
    }

    /// Some login, always the same for the same number: what a user name that does not exist is measured against.
    fn somebody(&self, number: u64) -> Option<&Login> {
        let count = u64::try_from(self.everybody.len()).ok()?;
        let at = usize::try_from(number.checked_rem(count)?).ok()?;
        let (tenant, login) = self.everybody.get(at)?;
        tenant.logins.get(*login)
    }

    /// The tenant that may send from this address without AUTH.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Option<&Arc<Tenant>> {
        let plain = address.to_canonical();
        self.prefixes.iter().find_map(|Reverse(length)| {
            let net = IpNet::new(plain, *length).ok()?;
            self.networks.get(&net.trunc())
        })
    }
}

impl Tenant {
    /// The class of all mail that comes by this login.
    #[must_use]
    pub fn login_class(&self, username: &str) -> Option<&str> {
        self.logins.iter().find(|login| *login.username == *username)?.class.as_deref()
    }

    /// The second way of mail so classed: a guess leads nowhere else.
    #[must_use]
    pub fn fallback(&self, classed: Option<&Classed>) -> Option<&Fallback> {
        let class = certain(classed).map(|classed| &*classed.name);
        self.fallbacks.iter().find(|fallback| {
            let of = &fallback.classes;
            of.is_empty() || class.is_some_and(|class| of.iter().any(|one| **one == *class))
        })
    }

    /// Whether each of its mails leaves from our own addresses: SPF then names them. By an upstream, first or second, DKIM alone
    /// must make it believed.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        let mx = |route: &Route| matches!(route, Route::Mx);
        mx(&self.route) && self.fallbacks.iter().all(|fallback| mx(&fallback.route))
    }

    /// The From domain of this tenant that covers `domain`: of several, the closest one.
    #[must_use]
    pub fn owns(&self, domain: &Domain) -> Option<&OwnedDomain> {
        let covers =
            |own: &&OwnedDomain| own.name == *domain || (own.subdomains && domain.is_within(&own.name));
        // All of them end the same name, so the longest is the one with the most labels.
        self.domains.iter().filter(covers).max_by_key(|own| own.name.as_str().len())
    }
}

#[cfg(test)]
pub(crate) mod tests;
