//! A name server whose root zone is signed, with one child zone that is not, `plain.test`, and perhaps one that is a trap for whoever
//! checks its signatures: `trap.test`. Resolvers that validate begin from the key in `anchors`.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_server::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_server::proto::dnssec::{
    Algorithm, DigestType, DnssecSigner, PublicKey as _, PublicKeyBuf, SigningKey,
};
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

/// The zone `trap.test`, signed, and what its answers cost whoever checks them.
pub struct Trap<'a> {
    pub text: &'a str,
    /// How it shows that something is not there.
    pub denial: NxProofKind,
    /// Keys that have the tag of the one that signs, and stand before it.
    pub keys: usize,
    /// Signatures by nobody that stand before the right one.
    pub signatures: usize,
}

const TRAP: &str = "trap.test.";

/// Asks the children's servers about the children, and the root about their delegation.
struct Router {
    root: Served,
    children: Vec<Served>,
}

/// A zone. hickory's own denies by NSEC3 even what is there, so that another answers that.
struct Served {
    origin: Name,
    has: HashSet<RrKey>,
    answers: Catalog,
    denials: Catalog,
}

impl Served {
    fn new(mut zone: Handler) -> Self {
        let origin = Name::from(zone.origin());
        let mut answering = self::zone(origin.clone(), None);
        answering.records_get_mut().clone_from(zone.records_get_mut());
        let has = zone.records_get_mut().keys().cloned().collect();
        Self { origin, has, answers: catalog(answering), denials: catalog(zone) }
    }
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
        let (name, kind) = (query.name().clone(), query.query_type());
        let of = |child: &&Served| kind != RecordType::DS && child.origin.zone_of(&Name::from(&name));
        let zone = self.children.iter().find(of).unwrap_or(&self.root);
        let there = [kind, RecordType::CNAME].map(|kind| zone.has.contains(&RrKey::new(name.clone(), kind)));
        let catalog = if there.contains(&true) { &zone.answers } else { &zone.denials };
        catalog.handle_request::<R, T>(request, to)
    }
}

impl Signed {
    /// Serves this text, signed, and this one below the child, unsigned. What `forge` names gets another address after it was
    /// signed.
    pub async fn start(text: &str, plain: &str, forge: &[(&str, RecordType)]) -> Self {
        let mut child = zone(Name::from_ascii(CHILD).unwrap(), None);
        fill(&mut child, &format!("{CHILD} 60 IN NS ns.{CHILD}\n{plain}"));
        let text = format!("{text}{CHILD} 60 IN NS ns.{CHILD}\n");
        Self::serve(&text, forge, vec![Served::new(child)]).await
    }

    /// Serves this text, signed, and the trap.
    pub async fn beside(text: &str, trap: &Trap<'_>) -> Self {
        let origin = Name::from_ascii(TRAP).unwrap();
        let mut child = zone(origin.clone(), Some(trap.denial.clone()));
        fill(&mut child, &format!("{TRAP} 60 IN NS ns.{TRAP}\n{}", trap.text));
        let key = sign(&mut child, trap.keys);
        forge_signatures(&mut child, trap.signatures);
        let (tag, digest) =
            (key.calculate_key_tag().unwrap(), key.to_digest(&origin, DigestType::SHA256).unwrap());
        let ds = DS::new(tag, Algorithm::ED25519, DigestType::SHA256, digest.as_ref().to_vec());
        let text = format!("{text}{TRAP} 60 IN NS ns.{TRAP}\n{TRAP} 60 IN DS {ds}\n");
        Self::serve(&text, &[], vec![Served::new(child)]).await
    }

    async fn serve(text: &str, forge: &[(&str, RecordType)], children: Vec<Served>) -> Self {
        let mut root = zone(Name::root(), Some(NxProofKind::Nsec));
        fill(&mut root, text);
        let anchors = format!(". 60 IN DNSKEY {}\n", sign(&mut root, 0));
        for (name, kind) in forge {
            tamper(&mut root, name, *kind);
        }
        let mut server = Server::new(Router { root: Served::new(root), children });
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

/// Signs the zone with a new key, before which stand so many others of its tag.
fn sign(zone: &mut Handler, others: usize) -> DNSKEY {
    let key = Ed25519SigningKey::from_pkcs8(&Ed25519SigningKey::generate_pkcs8().unwrap()).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let origin = Name::from(zone.origin());
    for n in 1..=others {
        // A tag is a sum of pairs of octets (RFC 4034 appendix B), in whatever order they stand.
        let mut octets = dnskey.public_key().public_bytes().to_vec();
        octets.rotate_left(2 * n);
        let other =
            DNSKEY::with_flags(dnskey.flags(), PublicKeyBuf::new(octets, dnskey.public_key().algorithm()));
        assert_eq!(other.calculate_key_tag().unwrap(), dnskey.calculate_key_tag().unwrap());
        let data = RData::DNSSEC(DNSSECRData::DNSKEY(other));
        zone.upsert_mut(Record::from_rdata(origin.clone(), 60, data), 1);
    }
    let signer = DnssecSigner::new(dnskey.clone(), Box::new(key), origin, Duration::from_secs(86_400));
    zone.add_zone_signing_key_mut(signer).unwrap();
    zone.secure_zone_mut().unwrap();
    dnskey
}

/// Puts so many wrong signatures before the right one of everything but the keys.
fn forge_signatures(zone: &mut Handler, count: usize) {
    for (key, set) in zone.records_get_mut() {
        let Some(right) = set.rrsigs().first().filter(|_| key.record_type != RecordType::DNSKEY) else {
            continue;
        };
        let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &right.data else { panic!("{right}") };
        let wrong = (0..count).map(|n| {
            let mut octets = signature.sig().to_vec();
            octets[n] ^= 1;
            let wrong = RRSIG::from_sig(signature.input().clone(), octets);
            Record::from_rdata(right.name.clone(), right.ttl, RData::DNSSEC(DNSSECRData::RRSIG(wrong)))
        });
        let mut forged = (**set).clone();
        forged.set_rrsigs(wrong.chain([right.clone()]).collect());
        *set = Arc::new(forged);
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
