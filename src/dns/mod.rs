//! The one resolver, and the lookups named for what we ask of it. What DNS did not say (timeouts, SERVFAIL) and what it
//! denied are different types of answer: the first defers, only the second may fail a message.

mod proven;
mod told;
mod trusted;

pub use proven::{Addresses, Proven, Tlsa};
pub use told::{Answer, Family, Silent, Standing, Text};

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Counters;

use crate::config;
use crate::mail::address::Domain;
use crate::metrics::{Metrics, ResultLabel};

/// Exchangers taken from one answer, the best ones; the rest is never tried. Postfix's `smtp_mx_address_limit` is 5.
pub const EXCHANGERS_MAX: usize = 20;
/// Addresses of each family taken from one answer.
pub const ADDRESSES_MAX: usize = 20;
/// Names taken of one address: RFC 7208 section 5.5 looks at no more.
pub const NAMES_MAX: usize = 10;
/// A shorter TTL is stretched to this, so that one busy destination does not mean a query a message.
const TTL_MIN: Duration = Duration::from_secs(30);
/// A longer TTL is cut to this (RFC 8767 section 4 suggests the order of days to weeks; a moved exchanger should not cost more than one).
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a zone denies is believed no longer than this: somebody is about to publish it.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(5 * 60);
/// Answers kept.
const CACHE_SIZE: u64 = 16_384;
/// Answers kept by a resolver that lives for one survey of one name.
const FRESH_CACHE_SIZE: u64 = 512;
/// Neither records nor the SOA that a denial carries.
const NO_ZONE: &str = "an empty answer that names no zone";
/// The whole of a lookup took longer than `dns.timeout`.
const TIMED_OUT: &str = "the lookup timed out";

/// The resolver, shared by everybody who asks; cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    inner: TokioResolver,
    /// Who proves answers; `None`: nothing is proven.
    prover: Option<proven::Prover>,
    servers: Arc<ResolverConfig>,
    timeout: Duration,
    counts: Counters<ResultLabel, Counter>,
}

/// Why the resolver could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the resolver up: {0}")]
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
    /// Makes the resolver: the configured servers, else the system's. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The system's configuration is needed and cannot be read.
    pub fn new(config: &config::Dns) -> Result<Self, SetupError> {
        let fault = |error: NetError| SetupError(error.to_string());
        let (servers, mut options) = if config.servers.is_empty() {
            system_conf::read_system_conf().map_err(fault)?
        } else {
            let servers = config.servers.iter().map(|server| name_server(*server)).collect();
            (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
        };
        tune(&mut options, config);
        let prover = proven::prover(&servers, &options, config)?;
        let inner = build(servers.clone(), options).map_err(fault)?;
        let counts = Counters::default();
        Ok(Self { inner, prover, servers: Arc::new(servers), timeout: config.timeout, counts })
    }

    /// The same servers, nothing remembered: whoever wants to know what DNS says now asks this one, and what is asked twice of
    /// it is asked once. Answers come with the TTL that the zone gave them, and the machine's hosts file is not looked at.
    ///
    /// # Errors
    /// As `new`.
    pub fn afresh(&self) -> Result<Self, SetupError> {
        let mut options = self.inner.options().clone();
        options.cache_size = FRESH_CACHE_SIZE;
        options.positive_min_ttl = None;
        options.positive_max_ttl = None;
        options.negative_max_ttl = None;
        options.use_hosts_file = ResolveHosts::Never;
        let inner =
            build(self.servers.as_ref().clone(), options).map_err(|error| SetupError(error.to_string()))?;
        let (servers, counts) = (Arc::clone(&self.servers), self.counts.clone());
        Ok(Self { inner, prover: None, servers, timeout: self.timeout, counts })
    }

    /// The same resolver, its lookups counted there. What mail-auth asks through `hickory` is not counted.
    #[must_use]
    pub fn counted(self, metrics: &Metrics) -> Self {
        Self { counts: metrics.lookups.clone(), ..self }
    }

    /// Where the domain takes mail.
    ///
    /// # Errors
    /// `NoSuchName`, or `Transient`; that it has no MX is an answer (`Mx::Implicit`).
    pub async fn mx(&self, domain: &Domain) -> Result<Mx, Failure> {
        match self.lookup(domain.as_str(), RecordType::MX).await {
            Ok(found) => Ok(exchangers(&found)),
            Err(Failure::NoRecords) => Ok(Mx::Implicit),
            Err(failure) => Err(failure),
        }
    }

    /// The A and then the AAAA records of a host. One family's answer is enough.
    ///
    /// # Errors
    /// All of `Failure`; `Transient` if either family's lookup was and the other found nothing.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Failure> {
        let (four, six) = tokio::join!(self.lookup(host, RecordType::A), self.lookup(host, RecordType::AAAA));
        let found: Vec<IpAddr> = [&four, &six].into_iter().flatten().flat_map(addresses_in).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        Err(neither(four, six))
    }

    /// The names that the reverse zone gives an address (RFC 1035 section 3.5, RFC 3596 section 2.5), lower case, without the
    /// trailing dot.
    ///
    /// # Errors
    /// All of `Failure`.
    pub async fn names_of(&self, address: IpAddr) -> Result<Vec<String>, Failure> {
        let found = self.lookup(&Name::from(address).to_ascii(), RecordType::PTR).await?;
        let names: Vec<String> = found
            .answers()
            .iter()
            .filter_map(|record| if let RData::PTR(name) = &record.data { Some(plain(name)) } else { None })
            .take(NAMES_MAX)
            .collect();
        if names.is_empty() { Err(Failure::NoRecords) } else { Ok(names) }
    }

    /// hickory's own resolver, for `mail-auth`, so that there is one cache.
    #[must_use]
    pub fn hickory(&self) -> &TokioResolver {
        &self.inner
    }

    pub(crate) async fn lookup(&self, name: &str, kind: RecordType) -> Result<Lookup, Failure> {
        let name = absolute(name).ok_or(Failure::NoSuchName)?;
        let answer = match tokio::time::timeout(self.timeout, self.inner.lookup(name, kind)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_) => Err(Failure::Transient(TIMED_OUT.into())),
        };
        self.count(match answer {
            Ok(_) => "found",
            Err(Failure::NoSuchName | Failure::NoRecords) => "none",
            Err(Failure::Transient(_)) => "failed",
        });
        answer
    }

    fn count(&self, result: &'static str) {
        self.counts.get_or_create(&ResultLabel { result }).inc();
    }
}

/// Why neither family's lookup found an address: what is uncertain of one of them is uncertain of the host.
fn neither(four: Result<Lookup, Failure>, six: Result<Lookup, Failure>) -> Failure {
    let mut failures = [four, six].into_iter().filter_map(Result::err);
    failures.clone().find(|failure| matches!(failure, Failure::Transient(_))).unwrap_or_else(|| {
        if failures.any(|failure| failure == Failure::NoSuchName) {
            Failure::NoSuchName
        } else {
            Failure::NoRecords
        }
    })
}

/// Absolute, so that the system's search list is never appended to a recipient's domain.
fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn build(servers: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, NetError> {
    TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default()).with_options(options).build()
}

/// A configured server, with its port, over UDP and, where an answer is cut short, TCP.
fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

fn tune(options: &mut ResolverOpts, config: &config::Dns) {
    // Two tries fit into the time that an answer may take.
    options.timeout = config.timeout / 2;
    options.attempts = 1;
    options.cache_size = CACHE_SIZE;
    options.positive_min_ttl = Some(TTL_MIN);
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    if !config.servers.is_empty() {
        options.use_hosts_file = ResolveHosts::Never;
    }
}

/// The exchangers of an answer, by preference. A `.` beside others is not a null MX (RFC 7505 section 3) and names nobody.
fn exchangers(found: &Lookup) -> Mx {
    let mut list: Vec<Exchanger> = found
        .answers()
        .iter()
        .filter_map(|record| {
            let RData::MX(mx) = &record.data else { return None };
            Some(Exchanger { preference: mx.preference, host: plain(&mx.exchange) })
        })
        .collect();
    if list.is_empty() {
        return Mx::Implicit;
    }
    list.retain(|exchanger| !exchanger.host.is_empty());
    if list.is_empty() {
        return Mx::Null;
    }
    list.sort_by_key(|exchanger| exchanger.preference);
    list.truncate(EXCHANGERS_MAX);
    Mx::Exchangers(list)
}

fn plain(name: &Name) -> String {
    let mut name = name.to_ascii().to_ascii_lowercase();
    name.truncate(name.trim_end_matches('.').len());
    name
}

fn addresses_in(found: &Lookup) -> impl Iterator<Item = IpAddr> {
    let addresses = found.answers().iter().filter_map(|record| record.data.ip_addr());
    addresses.take(ADDRESSES_MAX)
}

fn failure(error: &NetError) -> Failure {
    if let NetError::Dns(DnsError::NoRecordsFound(denied)) = error {
        if denied.response_code == ResponseCode::NXDomain {
            return Failure::NoSuchName;
        }
        // An empty answer of a zone that names itself (RFC 2308 section 2.2); one without SOA may be an answer to another
        // question or a lame server's, and is no ground to fail mail.
        if denied.soa.is_some() {
            return Failure::NoRecords;
        }
        return Failure::Transient(NO_ZONE.into());
    }
    Failure::Transient(error.to_string())
}
