//! What DNSSEC proves (RFC 4033): the lookups of a delivery, each with whether the zone's signatures vouch for the answer up to
//! a trust anchor. Signatures that are wrong are no answer at all: such a lookup is transient, and mail waits.
//!
//! A resolver of its own does it, because validation asks many questions that nobody else here needs answers to; or a
//! validating one on this machine, whose word is taken for it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::trusted::Trusted;
use super::{Failure, Mx, Resolver, SetupError, TIMED_OUT, absolute, addresses_in, exchangers, failure};
use crate::config;
use crate::mail::address::Domain;

/// TLSA records taken of one answer.
const RECORDS_MAX: usize = 50;
/// Hashes more of a name in an NSEC3 record that are counted out (RFC 9276 appendix A; unbound's limit is 150). A zone with more is
/// taken for unsigned where it denies something, as by other validators (section 3.2): its mail goes on, and costs nobody's time.
const NSEC3_ITERATIONS_MAX: u16 = 100;

/// An answer, and whether DNSSEC proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven<T> {
    /// The answer.
    pub value: T,
    /// Whether every record of it is signed up to a trust anchor.
    pub secure: bool,
}

/// A host's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// At most as many as `addresses` gives.
    pub ips: Vec<IpAddr>,
    /// The name that has them, where the host's is an alias for it. Lower case, without the trailing dot.
    pub alias_of: Option<String>,
}

/// Who proves it.
#[derive(Clone)]
pub(super) enum Prover {
    /// We do, from the trust anchors on.
    Own(Box<TokioResolver>),
    /// A validating resolver on this machine.
    Trusted(Trusted),
}

/// A TLSA record (RFC 6698 section 2.1), its numbers as they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// What it is about: 2, an authority of the exchanger's; 3, the exchanger itself.
    pub usage: u8,
    /// 0, the certificate; 1, its key.
    pub selector: u8,
    /// 0, in full; 1, SHA-256; 2, SHA-512.
    pub matching: u8,
    /// What it must be equal to.
    pub data: Vec<u8>,
}

/// As configured; nobody, where nothing is to be proven.
pub(super) fn prover(
    servers: &ResolverConfig,
    options: &ResolverOpts,
    config: &config::Dns,
) -> Result<Option<Prover>, SetupError> {
    Ok(match config.dnssec {
        config::Dnssec::Off => None,
        config::Dnssec::Validate => {
            let anchors = config.trust_anchors.as_deref();
            Some(Prover::Own(Box::new(validating(servers.clone(), options.clone(), anchors)?)))
        }
        config::Dnssec::TrustAd => Some(Prover::Trusted(Trusted::new(servers, options.clone())?)),
    })
}

/// A resolver that validates.
fn validating(
    servers: ResolverConfig,
    mut options: ResolverOpts,
    anchors: Option<&Path>,
) -> Result<TokioResolver, SetupError> {
    options.validate = true;
    let anchors = match anchors {
        Some(file) => TrustAnchors::from_file(file)
            .map_err(|error| SetupError(format!("dns.trust_anchors {}: {error}", file.display())))?,
        None => TrustAnchors::default(),
    };
    TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
        .with_options(options)
        .with_trust_anchor(Arc::new(anchors))
        // Above the second limit it would be a forgery: none is above it.
        .nsec3_iteration_limits(Some(NSEC3_ITERATIONS_MAX), Some(u16::MAX))
        .build()
        .map_err(|error| SetupError(error.to_string()))
}

impl Resolver {
    /// Where the domain takes mail, as `mx`. That there is no MX is as good as proven: the domain's own name is then the
    /// exchanger's, and its records must prove themselves.
    ///
    /// # Errors
    /// As `mx`.
    pub async fn mx_proven(&self, domain: &Domain) -> Result<Proven<Mx>, Failure> {
        let Some(prover) = &self.prover else {
            return Ok(Proven { value: self.mx(domain).await?, secure: false });
        };
        match self.lookup_proven(prover, domain.as_str(), RecordType::MX).await {
            Ok((found, secure)) => Ok(Proven { value: exchangers(&found), secure }),
            Err(Failure::NoRecords) => Ok(Proven { value: Mx::Implicit, secure: true }),
            Err(failure) => Err(failure),
        }
    }

    /// A host's addresses, as `addresses`, and at which name they are (RFC 7672 section 2.2.2).
    ///
    /// # Errors
    /// As `addresses`.
    pub async fn addresses_proven(&self, host: &str) -> Result<Proven<Addresses>, Failure> {
        let Some(prover) = &self.prover else {
            let value = Addresses { ips: self.addresses(host).await?, alias_of: None };
            return Ok(Proven { value, secure: false });
        };
        let (four, six) = tokio::join!(
            self.lookup_proven(prover, host, RecordType::A),
            self.lookup_proven(prover, host, RecordType::AAAA)
        );
        let found: Vec<&(Lookup, bool)> = [&four, &six].into_iter().flatten().collect();
        let ips: Vec<IpAddr> = found.iter().flat_map(|(found, _)| addresses_in(found)).collect();
        if ips.is_empty() {
            return Err(super::neither(four.map(|(found, _)| found), six.map(|(found, _)| found)));
        }
        let secure = found.iter().all(|(_, secure)| *secure);
        let owner = found.iter().find_map(|(found, _)| owner(found));
        let alias_of = owner.filter(|owner| !owner.eq_ignore_ascii_case(host.trim_end_matches('.')));
        Ok(Proven { value: Addresses { ips, alias_of }, secure })
    }

    /// The TLSA records for SMTP at this host (RFC 7672 section 2.2.3), if DNSSEC proves them; else there are none.
    ///
    /// # Errors
    /// `Transient`: DNS said nothing certain, and nobody may go on as if there were none.
    pub async fn tlsa(&self, host: &str) -> Result<Vec<Tlsa>, Failure> {
        let Some(prover) = &self.prover else { return Ok(Vec::new()) };
        match self.lookup_proven(prover, &format!("_25._tcp.{host}"), RecordType::TLSA).await {
            Ok((found, true)) => Ok(records(&found)),
            Ok(_) | Err(Failure::NoSuchName | Failure::NoRecords) => Ok(Vec::new()),
            Err(failure @ Failure::Transient(_)) => Err(failure),
        }
    }

    async fn lookup_proven(
        &self,
        prover: &Prover,
        name: &str,
        kind: RecordType,
    ) -> Result<(Lookup, bool), Failure> {
        let absolute = absolute(name).ok_or(Failure::NoSuchName)?;
        let answer = tokio::time::timeout(self.timeout, prover.lookup(absolute, kind)).await;
        match answer.unwrap_or_else(|_| Err(Failure::Transient(TIMED_OUT.into())))? {
            Some(found) => Ok(found),
            None => Ok((self.lookup(name, kind).await?, false)),
        }
    }
}

impl Prover {
    /// `None`: the zone's denials are not looked at, so that it counts as unsigned.
    async fn lookup(&self, name: Name, kind: RecordType) -> Result<Option<(Lookup, bool)>, Failure> {
        match self {
            Self::Own(resolver) => match resolver.lookup(name, kind).await {
                Ok(found) => {
                    let secure = is_secure(&found);
                    Ok(Some((found, secure)))
                }
                Err(NetError::Dns(DnsError::Nsec { proof: Proof::Insecure, .. })) => Ok(None),
                Err(error) => Err(failure(&error)),
            },
            Self::Trusted(trusted) => trusted.lookup(name, kind).await.map(Some),
        }
    }
}

/// Whether every record of an answer is proven, aliases on the way to it included.
fn is_secure(found: &Lookup) -> bool {
    let mut records =
        found.answers().iter().filter(|record| record.record_type() != RecordType::RRSIG).peekable();
    records.peek().is_some() && records.all(|record| record.proof == Proof::Secure)
}

/// The name that has the addresses of an answer.
fn owner(found: &Lookup) -> Option<String> {
    let record = found.answers().iter().find(|record| record.data.ip_addr().is_some())?;
    Some(record.name.to_ascii().trim_end_matches('.').to_ascii_lowercase())
}

fn records(found: &Lookup) -> Vec<Tlsa> {
    let records = found.answers().iter().filter_map(|record| {
        let RData::TLSA(tlsa) = &record.data else { return None };
        Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        })
    });
    records.take(RECORDS_MAX).collect()
}
