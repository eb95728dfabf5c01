//! What a validating resolver on this machine vouches for: its AD bit (RFC 4035 section 3.2.3, RFC 6840 section 5.8) in the
//! place of signatures checked here. Nobody stands between it and us but the machine: the configuration takes loopback only.

use std::sync::Arc;
use std::time::Instant;

use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use hickory_resolver::proto::op::{DnsRequestOptions, DnsResponse, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, ResponseCache, TlsConfig, TtlConfig};

use super::{CACHE_SIZE, Failure, NO_ZONE, SetupError, failure};

/// Asks such resolvers. Answers are kept whole, each with its bit: one put together of several would have none of its own.
#[derive(Clone)]
pub(super) struct Trusted {
    servers: RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>,
    cache: ResponseCache,
}

impl Trusted {
    /// Over these servers.
    pub(super) fn new(servers: &ResolverConfig, options: ResolverOpts) -> Result<Self, SetupError> {
        let tls = TlsConfig::new().map_err(|error| SetupError(error.to_string()))?;
        let (attempts, ttl) = (options.attempts, TtlConfig::from_opts(&options));
        let context = Arc::new(PoolContext::new(options, tls));
        let listed = servers.name_servers().to_vec();
        let pool = NameServerPool::from_config(listed, context, TokioRuntimeProvider::default());
        Ok(Self { servers: RetryDnsHandle::new(pool, attempts), cache: ResponseCache::new(CACHE_SIZE, ttl) })
    }

    /// An answer, and whether the resolver vouches for all of it.
    ///
    /// # Errors
    /// As any lookup. A resolver that validates says SERVFAIL where signatures are wrong.
    pub(super) async fn lookup(&self, name: Name, kind: RecordType) -> Result<(Lookup, bool), Failure> {
        let query = Query::query(name, kind);
        let found = match self.cache.get(&query, Instant::now()) {
            Some(kept) => kept,
            None => self.ask(&query).await,
        };
        let message = found.map_err(|error| failure(&error))?;
        if !message.answers.iter().any(|record| record.record_type() == kind) {
            return Err(ends_in_nothing(&message));
        }
        let vouched = message.metadata.authentic_data;
        Ok((Lookup::new_with_max_ttl(query, message.answers), vouched))
    }

    /// Answers and denials are kept, for as long as they say; silence is not.
    async fn ask(&self, query: &Query) -> Result<Message, NetError> {
        let mut options = DnsRequestOptions::default();
        // RFC 6840 section 5.7: who does not ask is not told.
        options.edns_set_dnssec_ok = true;
        let answer = self.servers.lookup(query.clone(), options).first_answer().await;
        let answer = answer.map(DnsResponse::into_message);
        self.cache.insert(query.clone(), answer.clone(), Instant::now());
        answer
    }
}

/// An alias that leads to no such records: the same rule as for any denial (`failure`).
fn ends_in_nothing(message: &Message) -> Failure {
    if message.metadata.response_code == ResponseCode::NXDomain {
        return Failure::NoSuchName;
    }
    let told = message.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
    if told { Failure::NoRecords } else { Failure::Transient(NO_ZONE.into()) }
}
