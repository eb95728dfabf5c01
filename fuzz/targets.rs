//! What every fuzz target asks of the parser it is for. Octets of a stranger go in; beyond surviving them, each holds what
//! must be true whatever they are. The fuzzer's binaries call these, and so does tests/it/fuzz.rs with the corpora.

use std::hint::black_box;

use bytes::BytesMut;
use waxseal::admit::classify::{Controls, Question, explain};
use waxseal::config::class::Hides;
use waxseal::config::{Classes, Config};
use waxseal::deliver::body::Wire;
use waxseal::deliver::extensions::Extensions;
use waxseal::deliver::redact;
use waxseal::deliver::reply::{LINES_MAX, Reader, TEXT_MAX};
use waxseal::deliver::sts::Policy;
use waxseal::inbound::report;
use waxseal::mail::address::Address;
use waxseal::mail::header::Headers;
use waxseal::mail::mailbox::mailboxes;
use waxseal::maillog::view;
use waxseal::memory::Permit;
use waxseal::queue::embedded::examine;
use waxseal::seal::dkim_record;
use waxseal::seal::facts::KeyAnswer;
use waxseal::seal::keys::{Algorithm, Public};
use waxseal::seal::{dmarc_record, spf};
use waxseal::session::command::{Found, Lines};
use waxseal::session::data::{Body, Framing};
use waxseal::session::sasl::{Mechanism, Turn};
use waxseal::session::{command, params, path, sasl};
use waxseal::tenant::{self, BareNewlines};

/// A name, and what octets are given to.
pub type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also its corpus's.
pub const TARGETS: [Target; 19] = [
    ("address", address),
    ("bdat", bdat),
    ("command", commands),
    ("config", config),
    ("data", data),
    ("dkim-record", dkim),
    ("dmarc-record", dmarc),
    ("header", header),
    ("log-record", log),
    ("mime", mime),
    ("params", parameters),
    ("redact", redacted),
    ("reply", reply),
    ("report", reported),
    ("sasl", authentication),
    ("spf-record", policy),
    ("spool", spool),
    ("sts-policy", transport),
    ("tenant", tenants),
];

/// The target of this name.
pub fn named(name: &str) -> fn(&[u8]) {
    TARGETS.iter().find(|(its, _)| *its == name).map(|(_, target)| *target).expect("a target of this name")
}

/// All at once, and a few octets at a time: what comes of a stream must not depend on where it is cut.
fn either_way<T: PartialEq + std::fmt::Debug>(
    octets: &[u8],
    read: impl Fn(&mut dyn Iterator<Item = &[u8]>) -> T,
) {
    let whole = read(&mut std::iter::once(octets));
    for size in [1, 7] {
        assert_eq!(read(&mut octets.chunks(size)), whole, "in pieces of {size}");
    }
}

/// The lines that a session would see.
fn lines(pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<Result<Vec<u8>, String>> {
    let (mut lines, mut input, mut seen) = (Lines::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match lines.find(&mut input, false) {
                Found::More => break,
                Found::Line(length) => seen.push(Ok(input.split_to(length).to_vec())),
                Found::Tls => {
                    seen.push(Err("TLS".to_owned()));
                    return seen;
                }
                fault @ (Found::TooLong(_) | Found::BareLf(_)) => seen.push(Err(format!("{fault:?}"))),
            }
        }
    }
    seen
}

fn commands(octets: &[u8]) {
    either_way(octets, lines);
    for line in lines(&mut std::iter::once(octets)).into_iter().flatten() {
        let line = line.strip_suffix(b"\r\n").expect("a line ends with CRLF");
        assert!(!line.contains(&b'\n'), "two lines were taken for one");
        if let Some((_, rest)) = command::split(line) {
            black_box(command::name(rest));
            black_box(command::chunk(rest));
        }
    }
}

/// A body by DATA: what is taken of the octets, and what becomes of it.
fn body(pieces: &mut dyn Iterator<Item = &[u8]>, bare: BareNewlines) -> (usize, bool, Option<Vec<u8>>) {
    let mut body = Body::new(Framing::Dots, bare, 1 << 20, None, Permit::default());
    let mut taken = 0;
    for piece in pieces {
        let (took, ended) = body.take(piece);
        taken += took;
        if ended {
            return (taken, true, body.finish().ok().map(|(octets, _)| octets));
        }
    }
    (taken, false, None)
}

/// Whether every CR and LF belongs to a CRLF.
fn whole_lines(octets: &[u8]) -> bool {
    let lone = |at: usize| match octets[at] {
        b'\r' => octets.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || octets[at - 1] != b'\r',
        _ => false,
    };
    !(0..octets.len()).any(lone)
}

fn data(octets: &[u8]) {
    for bare in [BareNewlines::Refuse, BareNewlines::Normalize] {
        either_way(octets, |pieces| body(pieces, bare));
        let (taken, ended, message) = body(&mut std::iter::once(octets), bare);
        assert_eq!(
            ended,
            taken > 0 && ended && octets[..taken].ends_with(b".\r\n"),
            "only one spelling ends the data"
        );
        let Some(message) = message else { continue };
        assert!(whole_lines(&message), "a lone CR or LF came through");
        // Sent on, it is one message that reads back as it was (SM9, SM10).
        let wire: Vec<u8> = Wire::new(&message).flatten().copied().collect();
        assert_eq!(body(&mut std::iter::once(&wire[..]), bare), (wire.len(), true, Some(message)));
    }
}

fn bdat(octets: &[u8]) {
    let announced = Some(octets.len() as u64);
    let mut counted =
        Body::new(Framing::Counted, BareNewlines::Refuse, 1 << 20, announced, Permit::default());
    for chunk in octets.chunks(1 + usize::from(octets.first().copied().unwrap_or(0))) {
        assert_eq!(counted.take(chunk), (chunk.len(), false), "the end of a chunk is counted, not found");
    }
    let Ok((message, _)) = counted.finish() else { return };
    assert!(whole_lines(&message) && message.starts_with(octets), "nothing is added but a last line's end");
    let wire: Vec<u8> = Wire::new(&message).flatten().copied().collect();
    let back = body(&mut std::iter::once(&wire[..]), BareNewlines::Refuse);
    assert_eq!(back, (wire.len(), true, Some(message)), "and DATA carries it on unchanged");
}

fn address(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    if let Ok((inside, rest)) = path::split(text) {
        assert!(rest.is_empty() || rest.starts_with(' '));
        drop(path::mailbox(inside));
    }
    if let Ok(address) = text.parse::<Address>() {
        let again: Address = address.to_string().parse().expect("an address reads back");
        assert_eq!(again, address);
        assert!(!address.to_string().contains(['\r', '\n', '\0']));
    }
}

fn parameters(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    drop(params::mail(text));
    drop(params::rcpt(text));
    if let Some(decoded) = params::decode(text) {
        assert!(decoded.len() <= text.len());
    }
    black_box(Extensions::parse(octets));
}

fn authentication(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let mut lines = text.split('\n');
    let mechanism = lines.next().and_then(Mechanism::named).unwrap_or(Mechanism::Login);
    black_box(sasl::exposed(mechanism.name(), lines.clone().next()));
    let mut turn = sasl::begin(mechanism, lines.next().filter(|initial| !initial.is_empty()));
    while let Turn::Ask(exchange, _) = turn {
        let Some(line) = lines.next() else { return };
        turn = exchange.respond(line.as_bytes());
    }
}

/// The replies until one is garbled.
fn replies(pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<Option<(u16, Vec<u8>)>> {
    let (mut reader, mut seen) = (Reader::default(), Vec::new());
    for piece in pieces {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.take() {
                Ok(Some(reply)) => seen.push(Some((reply.code, reply.text))),
                Ok(None) => break,
                Err(_) => {
                    seen.push(None);
                    return seen;
                }
            }
        }
    }
    seen
}

fn reply(octets: &[u8]) {
    either_way(octets, replies);
    for (code, text) in replies(&mut std::iter::once(octets)).into_iter().flatten() {
        assert!((200..600).contains(&code) && text.len() <= TEXT_MAX + LINES_MAX);
    }
}

fn header(octets: &[u8]) {
    let Ok(headers) = Headers::parse(octets, 64 << 10) else { return };
    for field in headers.all("From") {
        let Ok(value) = std::str::from_utf8(field.value()) else { continue };
        let unfolded = value.replace("\r\n", "");
        for found in mailboxes(unfolded.trim()).into_iter().flatten() {
            assert_eq!(
                found.to_string().parse::<Address>().as_ref(),
                Ok(&found),
                "what is found is an address"
            );
        }
    }
}

fn mime(octets: &[u8]) {
    let Ok(headers) = Headers::parse(octets, 64 << 10) else { return };
    let (classes, controls) = (Classes::default(), Controls::default());
    let body = octets.get(headers.body..).unwrap_or_default();
    let question = Question {
        classes: &classes,
        login: None,
        controls: &controls,
        author: None,
        headers: &headers,
        body,
    };
    for finding in explain(&question) {
        assert!(finding.class.is_none() || !finding.found.is_empty(), "a class out of nothing");
    }
}

fn redacted(octets: &[u8]) {
    let hides = Hides { subject: true, link: true };
    let shown = redact::headers(octets, hides);
    let headers = Headers::parse(&shown, shown.len()).expect("what is shown is a header section");
    assert!(headers.first("Subject").is_none(), "the subject is hidden");
    let mut text = octets.to_vec();
    redact::Veil::new(hides, octets).text(&mut text);
}

fn reported(octets: &[u8]) {
    if let Ok(report) = report::read(octets) {
        assert!(!format!("{report:?}").is_empty());
    }
}

fn log(octets: &[u8]) {
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(octets) else { return };
    let line = view::line(&record);
    assert!(!line.chars().any(char::is_control), "no line of the log drives a terminal: {line:?}");
}

fn spool(octets: &[u8]) {
    let file = tempfile::tempfile().expect("a temporary file");
    std::os::unix::fs::FileExt::write_all_at(&file, octets, 0).expect("room");
    let seen = examine::segment(&file).expect("reading works");
    assert!(seen.records * examine::RECORD_MIN <= octets.len(), "more records than there is room for");
}

fn config(octets: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("waxseal.toml");
    std::fs::write(&path, octets).expect("room");
    if let Err(error) = Config::load_with(Some(&path), &|_| None) {
        assert!(!error.to_string().is_empty());
    }
}

fn tenants(octets: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = Config::new("relay.example".parse().expect("a domain"), dir.path());
    std::fs::create_dir(&config.tenants).expect("room");
    let path = config.tenants.join("acme.toml");
    waxseal::fsx::write_atomically(&path, octets, 0o600).expect("room");
    if let Err(error) = tenant::load(&config) {
        assert!(!error.to_string().is_empty());
    }
}

fn policy(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    if spf::is_spf(&text) {
        let record = spf::Record::read(&text);
        assert!(record.reached().count() <= record.terms.len());
    }
}

fn dmarc(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets).into_owned();
    black_box(dmarc_record::is_meant(&text));
    let record = dmarc_record::Record::read(&text);
    let mended = record.mended(&[]);
    assert!(dmarc_record::is_dmarc(&mended), "what is advised is a record: {mended}");
    black_box(dmarc_record::merged(&[text.clone(), text]));
}

fn dkim(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets).into_owned();
    let ours = Public { algorithm: Algorithm::Ed25519, octets: vec![7; 32] };
    let seen = dkim_record::read(&KeyAnswer { alias: None, records: vec![text] }, &ours);
    assert!(seen.ours || !seen.verifies(), "a key that is not ours verifies nothing of ours");
}

fn transport(octets: &[u8]) {
    if let Ok(policy) = Policy::parse(octets) {
        assert!(!policy.names("") && !policy.names("a\r\nb.example"), "a policy names hosts only");
    }
}
