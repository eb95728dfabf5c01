//! TL9: the certificate on disk is replaced while the real program runs. New sessions get the new one, an old session goes
//! on; a key that does not fit is refused, and what was served is still served.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};

use crate::front::{line, trusting};
use crate::relay::{Layout, Relay, secret, smtp};
use crate::signals::Manager;

type Secure = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// A session that trusts this certificate and no other, up to the greeting.
fn greeted(relay: SocketAddr, trusted: &Path) -> std::io::Result<Secure> {
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(trusting(trusted, rustls::ALL_VERSIONS), name).unwrap();
    let mut stream = StreamOwned::new(client, smtp::dial(relay)?);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let mut stream = BufReader::new(stream);
    assert!(line(&mut stream).starts_with("220 "));
    Ok(stream)
}

fn say(session: &mut Secure, command: &str) -> String {
    session.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
    line(session)
}

fn served(session: &Secure) -> CertificateDer<'static> {
    session.get_ref().conn.peer_certificates().unwrap()[0].clone()
}

/// A new pair for `localhost`: certificate and key, PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn tl9_a_new_certificate_is_served_to_new_sessions_and_a_pair_that_does_not_fit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout { listeners: &["implicit"], ..Layout::upstream("127.0.0.1:9".parse().unwrap()) };
    let relay = Relay::lay_out(dir.path(), &layout);
    let manager = Manager::in_dir(dir.path());
    let daemon = manager.start(&relay);
    let (first, second) = (dir.path().join("first.pem"), dir.path().join("second.pem"));
    std::fs::copy(&relay.certificate, &first).unwrap();
    let mut old = greeted(relay.address(), &first).unwrap();
    assert!(say(&mut old, "HELO c").starts_with("250 "));

    let (certificate, key) = pair();
    std::fs::write(&second, &certificate).unwrap();
    std::fs::write(&relay.certificate, &certificate).unwrap();
    secret(&dir.path().join("certs/relay.key"), &key);
    manager.reload(&daemon);
    let new = greeted(relay.address(), &second).unwrap();
    assert_eq!(served(&new), CertificateDer::from_pem_file(&second).unwrap());
    assert!(greeted(relay.address(), &first).is_err(), "nobody gets the old one any more");
    assert!(say(&mut old, "MAIL FROM:<a@bench.test>").starts_with("250 "), "the old session goes on");
    assert_ne!(served(&old), served(&new));

    let (_, unfit) = pair();
    secret(&dir.path().join("certs/relay.key"), &unfit);
    manager.reload(&daemon);
    let status = String::from_utf8(relay.run(&["status"]).stdout).unwrap();
    assert!(status.contains("relay.key") && status.contains("not a key for"), "the error is shown: {status}");
    let newer = greeted(relay.address(), &second).unwrap();
    assert_eq!(served(&newer), served(&new), "what was served is still served");
    assert!(say(&mut old, "RCPT TO:<b@dest.test>").starts_with("250 "));
}
