//! A real authoritative name server for the sandbox's world: what is published here exists, and nothing else does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::SOA;
use hickory_server::proto::rr::{Name, RData, Record, RecordType, RrKey};
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

/// How long a TCP query may take: RFC 7766 section 6.2.3 leaves it to the server.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);
/// Octets of answers waiting on one TCP connection.
const TCP_ANSWERS: usize = 65_536;
/// How long an answer may be kept: short, for the zone changes while it is looked at.
const TTL: u32 = 1;

/// A name server on loopback, authoritative for everything. It ends when this is dropped.
pub struct Zone {
    address: SocketAddr,
    records: Arc<InMemoryZoneHandler<TokioRuntimeProvider>>,
    _server: Server<Catalog>,
}

/// A zone text that cannot be published.
#[derive(Debug, thiserror::Error)]
#[error("not zone file text: {0}")]
pub struct BadZone(String);

impl Zone {
    /// Serves the records of `text`, in zone file syntax with absolute names, on a free port of 127.0.0.1, UDP and TCP.
    ///
    /// # Errors
    /// A text that is no zone file, or a port that cannot be had.
    pub async fn start(text: &str) -> io::Result<Self> {
        let records =
            Arc::new(InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny, None));
        let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 600, TTL);
        records.upsert(Record::from_rdata(Name::root(), TTL, RData::SOA(soa)), 1).await;

        let mut catalog = Catalog::new();
        catalog.upsert(Name::root().into(), vec![Arc::clone(&records) as _]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = pair().await?;
        let address = udp.local_addr()?;
        server.register_socket(udp);
        server.register_listener(tcp, TCP_TIMEOUT, TCP_ANSWERS);

        let zone = Self { address, records, _server: server };
        zone.publish(text).await.map_err(io::Error::other)?;
        Ok(zone)
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds records; those that are there already stay.
    ///
    /// # Errors
    /// A text that is no zone file.
    pub async fn publish(&self, text: &str) -> Result<(), BadZone> {
        let parser = Parser::new(text, None, Some(Name::root()));
        let (_, sets) = parser.parse().map_err(|error| BadZone(error.to_string()))?;
        for record in sets.values().flat_map(|set| set.records_without_rrsigs()) {
            let mut record = record.clone();
            record.ttl = TTL;
            self.records.upsert(record, 1).await;
        }
        Ok(())
    }

    /// Removes every record of this type at this name.
    ///
    /// # Errors
    /// A name that is none.
    pub async fn withdraw(&self, name: &str, kind: RecordType) -> Result<(), BadZone> {
        let mut name = Name::from_ascii(name).map_err(|error| BadZone(error.to_string()))?;
        name.set_fqdn(true);
        self.records.records_mut().await.remove(&RrKey::new(name.into(), kind));
        Ok(())
    }
}

/// A UDP and a TCP socket on the same port; the system picks it for the one, so the other may be taken.
async fn pair() -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == PORT_TRIES => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

/// Ports tried before the machine is believed to have none left.
const PORT_TRIES: usize = 20;

#[cfg(test)]
mod tests {
    use hickory_resolver::TokioResolver;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

    use super::*;

    fn resolver(zone: &Zone) -> TokioResolver {
        let mut udp = ConnectionConfig::udp();
        udp.port = zone.address().port();
        let server = NameServerConfig::new(zone.address().ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, vec![], vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
    }

    #[tokio::test]
    async fn answers_what_is_published_and_nxdomain_for_the_rest() {
        let zone = Zone::start("acme.test. 60 IN MX 10 mx.acme.test.\nmx.acme.test. 60 IN A 127.0.0.2\n")
            .await
            .unwrap();
        let dns = resolver(&zone);
        assert_eq!(dns.mx_lookup("acme.test.").await.unwrap().answers().len(), 1);
        assert!(dns.mx_lookup("other.test.").await.unwrap_err().is_nx_domain());
        zone.publish("other.test. 60 IN MX 0 .\n").await.unwrap();
        zone.withdraw("acme.test.", RecordType::MX).await.unwrap();
        let fresh = resolver(&zone);
        assert_eq!(fresh.mx_lookup("other.test.").await.unwrap().answers().len(), 1);
        assert!(fresh.mx_lookup("acme.test.").await.is_err());
    }
}
