//! A name server whose root zone is signed, with one child zone that is not: `plain.test`. Resolvers that validate begin from
//! the key in `anchors`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_server::proto::dnssec::rdata::DNSKEY;
use hickory_server::proto::dnssec::{DnssecSigner, SigningKey};
use hickory_server::proto::rr::rdata::SOA;
use hickory_server::proto::rr::{Name, RData, Record, RecordType, RrKey};
use hickory_server::proto::serialize::txt::Parser;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::net::{TcpListener, UdpSocket};

type Handler = InMemoryZoneHandler<TokioRuntimeProvider>;

const CHILD: &str = "plain.test.";

pub struct Signed {
    pub address: SocketAddr,
    /// DNSKEY records, for `dns.trust_anchors`.
    pub anchors: String,
    _server: Server<Router>,
}

/// Asks the child's servers about the child, and the root about its delegation.
struct Router {
    root: Catalog,
    child: Catalog,
}

/// As `async_trait` writes it out.
impl RequestHandler for Router {
    fn handle_request<'life0, 'life1, 'async_trait, R, T>(
        &'life0 self,
        request: &'life1 Request,
        to: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'async_trait>>
    where
        R: ResponseHandler + 'async_trait,
        T: Time + 'async_trait,
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        let query = request.request_info().unwrap().query.clone();
        let child = Name::from_ascii(CHILD).unwrap();
        let below = child.zone_of(&Name::from(query.name()));
        let of_child = below && query.query_type() != RecordType::DS;
        let catalog = if of_child { &self.child } else { &self.root };
        catalog.handle_request::<R, T>(request, to)
    }
}

impl Signed {
    /// Serves this text, signed, and this one below the child, unsigned. What `forge` names gets another address after it was
    /// signed.
    pub async fn start(text: &str, plain: &str, forge: &[(&str, RecordType)]) -> Self {
        let mut root = zone(Name::root(), Some(NxProofKind::Nsec));
        fill(&mut root, &format!("{text}{CHILD} 60 IN NS ns.{CHILD}\n"));
        let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
        let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
        let anchors = format!(". 60 IN DNSKEY {dnskey}\n");
        let signer = DnssecSigner::new(dnskey, Box::new(key), Name::root(), Duration::from_secs(86_400));
        root.add_zone_signing_key_mut(signer).unwrap();
        root.secure_zone_mut().unwrap();
        for (name, kind) in forge {
            tamper(&mut root, name, *kind);
        }
        let mut child = zone(Name::from_ascii(CHILD).unwrap(), None);
        fill(&mut child, &format!("{CHILD} 60 IN NS ns.{CHILD}\n{plain}"));
        let router = Router { root: catalog(root), child: catalog(child) };
        let mut server = Server::new(router);
        let (udp, tcp) = pair().await;
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 65_536);
        Self { address, anchors, _server: server }
    }

    pub fn write_anchors(&self, file: &Path) {
        std::fs::write(file, &self.anchors).unwrap();
    }
}

fn zone(origin: Name, proof: Option<NxProofKind>) -> Handler {
    let mut zone = Handler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny, proof);
    let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 600, 60);
    zone.upsert_mut(Record::from_rdata(origin, 60, RData::SOA(soa)), 1);
    zone
}

fn fill(zone: &mut Handler, text: &str) {
    let (_, sets) = Parser::new(text, None, Some(Name::root())).parse().unwrap();
    for record in sets.values().flat_map(|set| set.records_without_rrsigs()) {
        zone.upsert_mut(record.clone(), 1);
    }
}

/// Changes the last octet of what was signed.
fn tamper(zone: &mut Handler, name: &str, kind: RecordType) {
    let key = RrKey::new(Name::from_ascii(name).unwrap().into(), kind);
    let set = zone.records_get_mut().get_mut(&key).unwrap();
    let mut forged = (**set).clone();
    let records = forged.records_without_rrsigs().map(|record| {
        let mut record = record.clone();
        if let RData::TLSA(tlsa) = &mut record.data {
            *tlsa.cert_data.last_mut().unwrap() ^= 1;
        } else if let RData::MX(mx) = &mut record.data {
            mx.preference ^= 1;
        } else {
            panic!("nothing to forge");
        }
        record
    });
    forged.set_records(records.collect());
    *set = Arc::new(forged);
}

fn catalog(zone: Handler) -> Catalog {
    let mut catalog = Catalog::new();
    catalog.upsert(zone.origin().clone(), vec![Arc::new(zone) as _]);
    catalog
}

async fn pair() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}
