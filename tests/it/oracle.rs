//! An authoritative name server that also does what servers should not: it keeps silent, fails, says odd octets and odd TTLs,
//! and empty answers without an SOA. Real sockets, UDP and TCP; it ends when it is dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, SOA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use waxseal::config;
use waxseal::dns::Resolver;

/// What stands at a name.
#[derive(Clone, Debug)]
pub enum Entry {
    Is(u32, RData),
    /// No answer, to questions of this type or to all.
    Silent(Option<RecordType>),
    /// SERVFAIL.
    Fails(Option<RecordType>),
    /// An answer without records and without SOA, as a lame server's.
    Lame,
}

#[derive(Debug)]
pub struct World {
    names: BTreeMap<String, Vec<Entry>>,
    /// Names of zones, each with an SOA.
    pub zones: Vec<String>,
    /// TTL and minimum of every SOA.
    pub denied_ttl: u32,
    /// Every question so far: `name TYPE`.
    pub asked: Vec<String>,
}

pub struct Oracle {
    address: SocketAddr,
    pub world: Arc<Mutex<World>>,
    _tasks: JoinSet<()>,
}

/// `TXT` data of one string for each 255 octets.
pub fn txt(text: &str) -> RData {
    strings(&text.as_bytes().chunks(255).collect::<Vec<_>>())
}

pub fn strings(parts: &[&[u8]]) -> RData {
    RData::TXT(TXT::from_bytes(parts.to_vec()))
}

pub fn address(text: &str) -> RData {
    match IpAddr::from_str(text).unwrap() {
        IpAddr::V4(four) => RData::A(A(four)),
        IpAddr::V6(six) => RData::AAAA(AAAA(six)),
    }
}

pub fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

pub fn cname(to: &str) -> RData {
    RData::CNAME(CNAME(name(to)))
}

pub fn ptr(to: &str) -> RData {
    RData::PTR(PTR(name(to)))
}

/// Any octets may stand in a label, so nothing is an escape here.
fn name(text: &str) -> Name {
    let labels = text.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let mut name = Name::from_labels(labels).unwrap();
    name.set_fqdn(true);
    name
}

fn key(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

fn key_of(name: &Name) -> String {
    let labels: Vec<_> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.join(".")
}

impl Oracle {
    pub async fn start() -> Self {
        let world = Arc::new(Mutex::new(World {
            names: BTreeMap::new(),
            zones: vec![String::new()],
            denied_ttl: 60,
            asked: Vec::new(),
        }));
        let (udp, tcp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, Arc::clone(&world)));
        tasks.spawn(serve_tcp(tcp, Arc::clone(&world)));
        Self { address, world, _tasks: tasks }
    }

    pub fn set(&self, at: &str, entries: impl IntoIterator<Item = Entry>) -> &Self {
        self.world.lock().unwrap().names.insert(key(at), entries.into_iter().collect());
        self
    }

    /// Adds a record with a TTL of an hour.
    pub fn add(&self, at: &str, data: RData) -> &Self {
        self.entry(at, Entry::Is(3600, data))
    }

    pub fn entry(&self, at: &str, entry: Entry) -> &Self {
        self.world.lock().unwrap().names.entry(key(at)).or_default().push(entry);
        self
    }

    pub fn forget(&self, at: &str) -> &Self {
        self.world.lock().unwrap().names.remove(&key(at));
        self
    }

    /// How often a question was asked.
    pub fn asked(&self, question: &str) -> usize {
        self.world.lock().unwrap().asked.iter().filter(|asked| *asked == question).count()
    }

    pub fn resolver(&self, timeout: Duration) -> Resolver {
        Resolver::new(&config::Dns { servers: vec![self.address], timeout, ..config::Dns::default() })
            .unwrap()
    }
}

async fn serve_udp(socket: UdpSocket, world: Arc<Mutex<World>>) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let Some((mut answer, most)) = answer(&buffer[..length], &world) else { continue };
        let mut octets = answer.to_vec().unwrap();
        if octets.len() > most {
            answer.metadata.truncation = true;
            answer.answers.clear();
            octets = answer.to_vec().unwrap();
        }
        socket.send_to(&octets, from).await.unwrap();
    }
}

async fn serve_tcp(listener: TcpListener, world: Arc<Mutex<World>>) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let world = Arc::clone(&world);
        connections.spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut question = vec![0; length.into()];
                stream.read_exact(&mut question).await.unwrap();
                let Some((answer, _)) = answer(&question, &world) else { continue };
                let octets = answer.to_vec().unwrap();
                stream.write_u16(octets.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&octets).await.unwrap();
            }
        });
    }
}

/// The answer, and the octets that may carry it over UDP; `None`: silence.
fn answer(question: &[u8], world: &Mutex<World>) -> Option<(Message, usize)> {
    let question = Message::from_vec(question).unwrap();
    let most = question.edns.as_ref().map_or(512, |edns| edns.max_payload().into());
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.authoritative = true;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let mut world = world.lock().unwrap();
    let first = key_of(query.name());
    world.asked.push(format!("{first} {}", query.query_type()));
    world.fill(&mut answer, first, query.query_type())?;
    Some((answer, most))
}

impl World {
    /// `None`: silence.
    fn fill(&self, answer: &mut Message, first: String, kind: RecordType) -> Option<()> {
        let mut at = first;
        // A CNAME's target is answered with it, as servers do; a chain is the resolver's matter.
        for _ in 0..2 {
            let applies = |of: &Option<RecordType>| of.is_none_or(|of| of == kind);
            let entries = self.names.get(&at).map(Vec::as_slice).unwrap_or_default();
            let mut lame = false;
            for entry in entries {
                match entry {
                    Entry::Silent(of) if applies(of) => return None,
                    Entry::Fails(of) if applies(of) => {
                        answer.metadata.response_code = ResponseCode::ServFail;
                        answer.answers.clear();
                        return Some(());
                    }
                    Entry::Lame => lame = true,
                    Entry::Is(ttl, data) if data.record_type() == kind => {
                        answer.add_answer(Record::from_rdata(name(&at), *ttl, data.clone()));
                    }
                    Entry::Is(..) | Entry::Silent(_) | Entry::Fails(_) => {}
                }
            }
            let alias = entries.iter().find_map(|entry| match entry {
                Entry::Is(ttl, RData::CNAME(to)) if kind != RecordType::CNAME => Some((*ttl, to.clone())),
                Entry::Is(..) | Entry::Silent(_) | Entry::Fails(_) | Entry::Lame => None,
            });
            if let Some((ttl, to)) = alias {
                answer.add_answer(Record::from_rdata(name(&at), ttl, RData::CNAME(to.clone())));
                at = key_of(&to.0);
                continue;
            }
            if answer.answers.iter().any(|record| record.record_type() == kind) || lame {
                return Some(());
            }
            return self.deny(answer, &at, kind);
        }
        Some(())
    }

    fn deny(&self, answer: &mut Message, at: &str, kind: RecordType) -> Option<()> {
        let below = format!(".{at}");
        let there = |known: &String| known == at || known.ends_with(&below);
        if !self.names.keys().chain(&self.zones).any(there) {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let holds = |zone: &&String| zone.is_empty() || *zone == at || at.ends_with(&format!(".{zone}"));
        let zone = self.zones.iter().filter(holds).max_by_key(|zone| zone.len()).unwrap();
        let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 600, self.denied_ttl);
        let soa = Record::from_rdata(name(zone), self.denied_ttl, RData::SOA(soa));
        if kind == RecordType::SOA && zone == at {
            answer.add_answer(soa);
        } else {
            answer.add_authorities([soa]);
        }
        Some(())
    }
}
