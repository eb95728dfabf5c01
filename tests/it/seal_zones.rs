//! The judge on real zones: a real name server publishes them, the real survey asks it. What the judge tells to change is then
//! done to the zone, and mail that failed must pass.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use waxseal::config;
use waxseal::dns::Resolver;
use waxseal::mail::address::Domain;
use waxseal::mail::id::Id;
use waxseal::mail::reply::REPLY_LINE_MAX;
use waxseal::mail::time::Time;
use waxseal::sandbox::zone::Zone;
use waxseal::seal::facts::Picture;
use waxseal::seal::judge::{Candidate, Case, Change, Level, Verdict, judge};
use waxseal::seal::keys::{self, Public, generate};
use waxseal::seal::records::{Kind, Record};
use waxseal::seal::refusal::{About, refusal};
use waxseal::seal::survey::{Wanted, survey};

#[path = "tables/seal_zones.rs"]
mod table;

use table::{GOOD, ROWS, Row, Way};

/// Rounds of changes that a domain may need: a CNAME first, then what it leads to.
const ROUNDS: usize = 5;
/// A situation is a row; fewer would leave some unjudged.
const SITUATIONS_MIN: usize = 60;

/// Our keys, a stranger's, and their words in the table.
struct Keys {
    ours: BTreeMap<&'static str, Public>,
    words: Vec<(&'static str, String)>,
}

impl Keys {
    fn new() -> Self {
        let make = |kind| generate(kind).unwrap().public;
        let (rsa, ed, other) =
            (make(keys::Kind::Rsa2048), make(keys::Kind::Ed25519), make(keys::Kind::Rsa2048));
        // SubjectPublicKeyInfo of an RSA-2048 key: 24 octets of wrapping, then PKCS#1.
        let bare = STANDARD.encode(&rsa.octets[24..]);
        let words = vec![
            ("{rsa}", rsa.record()),
            ("{ed}", ed.record()),
            ("{other}", other.record()),
            ("{p}", STANDARD.encode(&rsa.octets)),
            ("{bare}", bare),
        ];
        Self { ours: BTreeMap::from([("wx1", rsa), ("wx2", ed)]), words }
    }

    fn filled(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (word, meant)| text.replace(word, meant))
    }

    fn shown(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (word, meant)| text.replace(meant.as_str(), word))
    }
}

/// A zone as records, so that changes can be made to it: name, type, data (a TXT record's in one piece).
struct Records(Vec<(String, String, String)>);

impl Records {
    fn of(row: &Row, keys: &Keys) -> Self {
        let gone = |name: &str, kind: &str| row.without.contains(&(name, kind));
        let kept = GOOD.iter().filter(|(name, kind, _)| !gone(name, kind));
        let owned = |(name, kind, data): &(&str, &str, &str)| {
            ((*name).to_owned(), (*kind).to_owned(), keys.filled(data))
        };
        Self(kept.chain(row.with).map(owned).collect())
    }

    fn text(&self) -> String {
        let mut text = "$TTL 1\n".to_owned();
        for (name, kind, data) in &self.0 {
            let data = if kind == "TXT" { record(name, Kind::Txt, data).data() } else { data.clone() };
            text.push_str(&format!("{name}. IN {kind} {data}\n"));
        }
        text
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Publish(record) => self.add(record),
            Change::Replace { record, instead_of } => {
                self.0.retain(|(name, kind, data)| {
                    *name != record.name
                        || (kind != "CNAME" && record.kind != Kind::Cname && *kind != word(record.kind))
                        || (kind == "TXT"
                            && record.kind == Kind::Txt
                            && !data.to_ascii_lowercase().starts_with(&instead_of.to_ascii_lowercase()))
                });
                self.add(record);
            }
            Change::Remove { name, kind } => {
                self.0.retain(|(known, type_, _)| known != name || type_ != word(*kind));
            }
        }
    }

    fn add(&mut self, record: &Record) {
        let data = if record.kind == Kind::Txt { record.value.clone() } else { record.data() };
        self.0.push((record.name.clone(), word(record.kind).to_owned(), data));
    }
}

fn record(name: &str, kind: Kind, value: &str) -> Record {
    Record { name: name.to_owned(), kind, value: value.to_owned(), why: String::new() }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Txt => "TXT",
        Kind::Cname => "CNAME",
        Kind::Mx => "MX",
    }
}

/// What the domain should publish, as `domain dns` prints it.
fn wanted(way: &Way, keys: &Keys) -> Vec<Record> {
    let mut records = Vec::new();
    for selector in way.keys {
        let name = format!("{selector}._domainkey.{}", way.signer);
        records.push(if way.delegated {
            let label = way.signer.replace('.', "-");
            record(&name, Kind::Cname, &format!("{selector}.{label}.dkim.relay.example"))
        } else {
            record(&name, Kind::Txt, &keys.ours[selector].record())
        });
    }
    if way.sender != way.author {
        records.push(record(way.sender, Kind::Mx, "10 relay.example"));
    }
    let terms: String = way.egress.iter().map(|address| format!("ip4:{address} ")).collect();
    records.push(record(way.sender, Kind::Txt, &format!("v=spf1 {terms}~all")));
    records.push(record(&format!("_dmarc.{}", way.author), Kind::Txt, "v=DMARC1; p=none"));
    records
}

async fn pictures(zone: &Zone, way: &Way, egress: &[IpAddr]) -> BTreeMap<&'static str, Picture> {
    // A resolver of its own each time: it would remember what the zone said before the change.
    let config = config::Dns {
        servers: vec![zone.address()],
        timeout: Duration::from_secs(30),
        ..config::Dns::default()
    };
    let resolver = Resolver::new(&config).unwrap();
    let mut pictures = BTreeMap::new();
    for name in [way.author, way.signer, way.sender] {
        let wanted = Wanted {
            domain: name.parse().unwrap(),
            selectors: way.keys.iter().map(|selector| (*selector).to_owned()).collect(),
            egress: egress.to_vec(),
            hostname: "relay.example".parse::<Domain>().unwrap(),
        };
        if !pictures.contains_key(name) {
            pictures.insert(name, Box::pin(survey(&resolver, &wanted, None, Time(0))).await);
        }
    }
    pictures
}

async fn judged(records: &Records, way: &Way, keys: &Keys) -> Verdict {
    let zone = Zone::start(&records.text()).await.unwrap();
    let egress: Vec<IpAddr> = way.egress.iter().map(|address| address.parse().unwrap()).collect();
    let pictures = pictures(&zone, way, &egress).await;
    let candidates: Vec<_> =
        way.keys.iter().map(|selector| Candidate { selector, public: &keys.ours[selector] }).collect();
    judge(&Case {
        author: &pictures[way.author],
        signer: &pictures[way.signer],
        keys: &candidates,
        sender: &pictures[way.sender],
        null: false,
        direct: way.direct,
        egress: &egress,
        wanted: &wanted(way, keys),
    })
}

fn told(verdict: &Verdict, keys: &Keys) -> Vec<String> {
    let shown = |change: &Change| match change {
        Change::Publish(record) => format!("publish {}", line(record)),
        Change::Replace { record, instead_of } if instead_of.is_empty() => {
            format!("replace {}", line(record))
        }
        Change::Replace { record, instead_of } => format!("replace {instead_of} {}", line(record)),
        Change::Remove { name, kind } => format!("remove {name} {}", word(*kind)),
    };
    verdict
        .findings
        .iter()
        .filter_map(|finding| finding.change.as_ref())
        .map(|change| keys.shown(&shown(change)))
        .collect()
}

fn line(record: &Record) -> String {
    format!("{} {} {}", record.name, word(record.kind), record.value)
}

fn same(told: &str, wanted: &str) -> bool {
    wanted.strip_suffix("{either}").map_or(told == wanted, |head| told.starts_with(head))
}

#[tokio::test]
async fn zones_and_what_receivers_will_find() {
    assert!(ROWS.len() >= SITUATIONS_MIN, "{}", ROWS.len());
    let keys = Keys::new();
    let mut wrong = Vec::new();
    for row in ROWS {
        let verdict = judged(&Records::of(row, &keys), &row.way, &keys).await;
        let told = told(&verdict, &keys);
        let as_told = told.len() == row.told.len()
            && told.iter().zip(row.told).all(|(told, wanted)| same(told, wanted));
        let said =
            row.says.iter().all(|word| verdict.findings.iter().any(|finding| finding.says.contains(word)));
        if (verdict.dkim, verdict.spf, verdict.dmarc) != row.finds || !as_told || !said {
            let findings: Vec<_> = verdict
                .findings
                .iter()
                .map(|finding| format!("  {:?} {}: {}", finding.level, finding.check, finding.says))
                .collect();
            wrong.push(format!(
                "{}: {:?}, wanted {:?}\n{}\n  told {told:#?}",
                row.why,
                (verdict.dkim, verdict.spf, verdict.dmarc),
                row.finds,
                findings.join("\n")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ROWS.len(), wrong.join("\n"));
}

/// The reply that a platform shows names every record to change, and keeps to the length of a line.
fn refused(row: &Row, verdict: &Verdict, changes: &[Change]) {
    let (hostname, author) = ("relay.example".parse().unwrap(), row.way.author.parse().unwrap());
    let about = About { hostname: &hostname, author: &author, id: Id::new(Time(0), 1), since: None };
    let mut wire = Vec::new();
    refusal(verdict, &about).write(&mut wire);
    let wire = String::from_utf8(wire).unwrap();
    assert!(wire.split_inclusive("\r\n").all(|line| line.len() <= REPLY_LINE_MAX), "{wire}");
    for change in changes {
        let told = match change {
            Change::Publish(record) | Change::Replace { record, .. } => format!("publish: {}", line(record)),
            Change::Remove { name, kind } => format!("remove: {name} {}", word(*kind)),
        };
        assert!(wire.contains(&told), "{}: {told}\n{wire}", row.why);
    }
}

#[tokio::test]
async fn what_is_told_turns_every_failure_into_a_pass() {
    let keys = Keys::new();
    let mut failing = 0;
    for row in ROWS.iter().filter(|row| !row.finds.2.passes()) {
        failing += 1;
        let mut records = Records::of(row, &keys);
        let mut verdict = judged(&records, &row.way, &keys).await;
        let mut rounds = 0;
        while !verdict.dmarc.passes() {
            rounds += 1;
            assert!(rounds <= ROUNDS, "{}: {verdict:#?}\n{}", row.why, records.text());
            let errors = verdict.findings.iter().filter(|finding| finding.level == Level::Error);
            let changes: Vec<_> = errors.filter_map(|finding| finding.change.clone()).collect();
            assert!(!changes.is_empty(), "{}: nothing is told: {verdict:#?}", row.why);
            refused(row, &verdict, &changes);
            for change in &changes {
                records.apply(change);
            }
            verdict = judged(&records, &row.way, &keys).await;
        }
    }
    assert!(failing >= SITUATIONS_MIN / 3, "{failing}");
}
