//! TL6: which TLS a listener speaks. 1.2 and 1.3 each alone; nothing older, and none of the suites that protect nothing.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, StreamOwned};

use crate::dialogue::Options;
use crate::front::{Front, line, trusting};

fn secure(
    client: &Arc<ClientConfig>,
    name: &str,
    stream: TcpStream,
) -> BufReader<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    BufReader::new(StreamOwned::new(ClientConnection::new(Arc::clone(client), name).unwrap(), stream))
}

/// A message over this connection, and what version it went over.
fn send(mut stream: BufReader<StreamOwned<ClientConnection, TcpStream>>) -> ProtocolVersion {
    let message = "EHLO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n\
                   From: a@t.example\r\nSubject: s\r\n\r\nbody\r\n.\r\n";
    stream.get_mut().write_all(message.as_bytes()).unwrap();
    while !line(&mut stream).starts_with("250 2.0.0 Ok: queued as ") {}
    stream.get_ref().conn.protocol_version().unwrap()
}

#[test]
fn tl6_tls_1_2_alone_and_1_3_alone_are_spoken() {
    let front = Front::open(&Options::default(), |_| {});
    for (version, expected, logged) in
        [(&TLS12, ProtocolVersion::TLSv1_2, "TLSv1.2"), (&TLS13, ProtocolVersion::TLSv1_3, "TLSv1.3")]
    {
        let client = trusting(&front.certificate(), &[version]);
        let before = front.log().matches(logged).count();
        let implicit = secure(&client, "relay.test", front.connect(1));
        assert_eq!(send(implicit), expected);
        assert_eq!(send(secure(&client, "relay.test", front.up_to_starttls())), expected);
        assert_eq!(front.log().matches(logged).count(), before + 2, "the mail log says so: {}", front.log());
    }
    assert_eq!(front.queued(), 4);
}

/// Clients that send no name, or one that no certificate bears, get the first certificate (RFC 6066 section 3 leaves it to us).
#[test]
fn tl6_without_a_name_and_with_a_wrong_one_the_first_certificate_is_served() {
    let front = Front::open(&Options::default(), |_| {});
    let client = trusting(&front.certificate(), rustls::ALL_VERSIONS);
    // An address is no name: no SNI is sent.
    for name in ["127.0.0.1", "elsewhere.test"] {
        let mut stream = secure(&client, name, front.connect(1));
        let refused = stream.fill_buf().unwrap_err().to_string();
        assert!(refused.contains("certificate not valid for name"), "{name}: {refused}");
    }
    assert_eq!(send(secure(&client, "relay.test", front.connect(1))), ProtocolVersion::TLSv1_3);
}

/// A ClientHello as old clients write it: this version, these suites, no extensions.
fn hello(version: [u8; 2], suites: &[u8]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len()).unwrap().to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![0x16, 3, version[1].min(1)];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

/// What they offered in their day: ECDHE-RSA and RSA with AES-128-CBC-SHA, 3DES.
const OLD_SUITES: &[u8] = &[0xc0, 0x13, 0x00, 0x2f, 0x00, 0x0a];
/// RSA with NULL-SHA, and the export suites with RC4 and DES of 40 bits.
const EMPTY_SUITES: &[u8] = &[0x00, 0x02, 0x00, 0x03, 0x00, 0x08];
/// RFC 8446 section 6.2.
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
/// RFC 8996 section 5 wants the second for old versions; rustls misses the extensions first, which they do not have, and says
/// the first. Both end it.
const REFUSALS: [u8; 2] = [HANDSHAKE_FAILURE, PROTOCOL_VERSION];

#[test]
fn tl6_what_is_older_than_1_2_or_protects_nothing_is_refused_with_an_alert() {
    let front = Front::open(&Options::default(), |_| {});
    let rows: [([u8; 2], &[u8], &str); 4] = [
        ([3, 0], OLD_SUITES, "SSL 3.0"),
        ([3, 1], OLD_SUITES, "TLS 1.0 (RFC 8996)"),
        ([3, 2], OLD_SUITES, "TLS 1.1 (RFC 8996)"),
        ([3, 3], EMPTY_SUITES, "TLS 1.2 with NULL and EXPORT suites only"),
    ];
    for (version, suites, why) in rows {
        for mut stream in [front.connect(1), front.up_to_starttls()] {
            stream.write_all(&hello(version, suites)).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            let [0x15, 3, _, 0, 2, 2, alert] = answer.as_slice() else {
                panic!("{why}: a fatal alert and the end are expected: {answer:?}")
            };
            assert!(REFUSALS.contains(alert), "{why}: {alert}");
        }
    }
    // SSL 2.0 has no alert that such a client would understand; it gets no handshake either.
    let mut stream = front.connect(1);
    stream.write_all(&[0x80, 0x2e, 0x01, 0x00, 0x02, 0x00, 0x15, 0x00, 0x00, 0x00, 0x10]).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    front.quiet();
}
