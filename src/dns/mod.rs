//! The one resolver, and the lookups named for what we ask of it. What DNS did not say (timeouts, SERVFAIL) and what it
//! denied are different types of answer: the first defers, only the second may fail a message.

use std::net::IpAddr;

use hickory_resolver::TokioResolver;

use crate::config;
use crate::mail::address::Domain;

/// The resolver, shared by everybody who asks; cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    inner: TokioResolver,
}

/// Why the resolver could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the system's resolver configuration: {0}")]
pub struct SetupError(String);

/// Where a domain takes mail (RFC 5321 section 5.1, RFC 7505).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mx {
    /// Its exchangers, best preference first.
    Exchangers(Vec<Exchanger>),
    /// It has no MX: the domain itself, if it has addresses.
    Implicit,
    /// `MX 0 .`: it takes no mail at all.
    Null,
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanger {
    /// Lower is tried first.
    pub preference: u16,
    /// The host, lower case, without the trailing dot. Not necessarily a well-formed host name.
    pub host: String,
}

/// Why a lookup has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// DNS says: there is no such name.
    #[error("the name does not exist")]
    NoSuchName,
    /// DNS says: the name exists, without records of this type.
    #[error("the name has no such records")]
    NoRecords,
    /// DNS said nothing that can be relied on.
    #[error("DNS did not answer: {0}")]
    Transient(String),
}

impl Resolver {
    /// Makes the resolver: the configured servers, else the system's.
    ///
    /// # Errors
    /// The system's configuration is needed and cannot be read.
    pub fn new(_config: &config::Dns) -> Result<Self, SetupError> {
        todo!()
    }

    /// Where the domain takes mail.
    ///
    /// # Errors
    /// `NoSuchName`, or `Transient`; that it has no MX is an answer (`Mx::Implicit`).
    pub async fn mx(&self, _domain: &Domain) -> Result<Mx, Failure> {
        todo!()
    }

    /// The A and AAAA records of a host.
    ///
    /// # Errors
    /// All of `Failure`.
    pub async fn addresses(&self, _host: &str) -> Result<Vec<IpAddr>, Failure> {
        todo!()
    }

    /// hickory's own resolver, for `mail-auth`, so that there is one cache.
    #[must_use]
    pub fn hickory(&self) -> &TokioResolver {
        &self.inner
    }
}
