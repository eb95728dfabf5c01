//! A platform's side of the wire, light enough for fifteen thousand of them.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// Addresses that clients come from: 28,000 ports of each.
const SOURCES: usize = 16;
/// No reply of a relay is longer.
const REPLY_MAX: usize = 8 * 1024;

/// What came of a message.
#[derive(Debug)]
pub enum Said {
    Taken,
    /// 421 or 45x: come again.
    Later,
    Else(String),
}

/// How clients come in.
#[derive(Clone)]
pub struct Way {
    relay: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Way {
    /// In clear text, or under TLS with this certificate.
    pub fn new(relay: SocketAddr, certificate: Option<&Path>) -> Self {
        let trusting = |certificate: &Path| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder =
                rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
            // Every handshake is a whole one.
            config.resumption = rustls::client::Resumption::disabled();
            TlsConnector::from(Arc::new(config))
        };
        Self { relay, tls: certificate.map(trusting) }
    }

    /// A session past EHLO, from one of several addresses; or what was said instead of a greeting.
    pub async fn open(&self, n: usize) -> Result<std::result::Result<Client, Said>> {
        let socket = TcpSocket::new_v4()?;
        let last = u8::try_from(1 + n % SOURCES).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)))?;
        let stream = socket.connect(self.relay).await?;
        stream.set_nodelay(true)?;
        let wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(connector) => {
                let name = ServerName::try_from("localhost").map_err(Error::other)?;
                Box::new(connector.connect(name, stream).await?)
            }
        };
        let mut client = Client { wire, announces: None };
        let banner = client.reply().await?;
        if !banner.starts_with("220") {
            return Ok(Err(said(banner)));
        }
        client.say(b"EHLO platform.test\r\n").await?;
        Ok(Ok(client))
    }
}

/// Octets both ways.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One session.
pub struct Client {
    wire: Box<dyn Wire>,
    /// The size that MAIL announces.
    pub announces: Option<usize>,
}

impl Client {
    /// Octets, and nothing is waited for.
    pub async fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.wire.write_all(octets).await?;
        self.wire.flush().await
    }

    /// A command with its CRLF; answers the last line of its reply.
    pub async fn say(&mut self, line: &[u8]) -> Result<String> {
        self.write(line).await?;
        self.reply().await
    }

    /// Up to the 354; otherwise what was said instead.
    pub async fn begin(&mut self) -> Result<Option<Said>> {
        let size = self.announces.map(|octets| format!(" SIZE={octets}")).unwrap_or_default();
        let mail = format!("MAIL FROM:<a@bench.test>{size}\r\n");
        for line in [mail.as_str(), "RCPT TO:<b@dest.test>\r\n", "DATA\r\n"] {
            let reply = self.say(line.as_bytes()).await?;
            if !reply.starts_with('2') && !reply.starts_with("354") {
                return Ok(Some(said(reply)));
            }
        }
        Ok(None)
    }

    /// One transaction.
    pub async fn send(&mut self, message: &[u8]) -> Result<Said> {
        if let Some(refused) = self.begin().await? {
            return Ok(refused);
        }
        self.write(message).await?;
        Ok(said(self.say(b".\r\n").await?))
    }

    /// Nothing was pipelined: a reply ends where the octets end.
    async fn reply(&mut self) -> Result<String> {
        let mut text = Vec::new();
        loop {
            if self.wire.read_buf(&mut text).await? == 0 || text.len() > REPLY_MAX {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let whole = String::from_utf8_lossy(&text);
            if let Some(last) = whole.strip_suffix("\r\n").and_then(|whole| whole.rsplit("\r\n").next())
                && last.as_bytes().get(3) != Some(&b'-')
            {
                return Ok(last.to_owned());
            }
        }
    }
}

fn said(reply: String) -> Said {
    match reply.get(..3) {
        Some("250") => Said::Taken,
        Some("421" | "450" | "451" | "452" | "454") => Said::Later,
        _ => Said::Else(reply),
    }
}
