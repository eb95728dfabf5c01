//! A recipient's mail exchanger that does what a mailbox provider does: takes the mail, verifies SPF, DKIM and DMARC against
//! the zone, and hands it on with the verdict. It trusts nothing of ours but the wire.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use mail_auth::MessageAuthenticator;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::mail::time::Time;
use crate::seal::receive::{self, Hop, Verdict};

/// Octets of a message before it is refused: more than the relay sends by default.
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// A message as it came in, and what a receiver makes of it.
#[derive(Debug)]
pub struct Arrival {
    /// When its final dot was read.
    pub at: Time,
    /// The reverse-path; empty for `<>`.
    pub from: String,
    /// The forward-paths.
    pub to: Vec<String>,
    /// What the relay said in EHLO.
    pub helo: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The octets, CRLF line ends, dots unstuffed.
    pub message: Vec<u8>,
    /// What verification found.
    pub verdict: Verdict,
}

/// A running exchanger; it ends when this is dropped.
pub struct Exchanger {
    address: SocketAddr,
    arrivals: UnboundedReceiver<Arrival>,
    accepting: JoinHandle<()>,
}

impl Exchanger {
    /// Listens at `address` as `host`, verifying with `resolver`. STARTTLS is offered, with a certificate of its own making.
    ///
    /// # Errors
    /// The address cannot be had, or no certificate can be made.
    pub async fn start(address: SocketAddr, host: &str, resolver: TokioResolver) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (told, arrivals) = unbounded_channel();
        let shared = Arc::new(Shared {
            host: host.to_owned(),
            tls: acceptor(host)?,
            verifier: MessageAuthenticator(resolver),
            told,
        });
        let accepting = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { shared.converse(stream, peer.ip()).await });
            }
        });
        Ok(Self { address, arrivals, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next message that arrives; `None` once it has ended.
    pub async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Shared {
    host: String,
    tls: TlsAcceptor,
    verifier: MessageAuthenticator,
    told: UnboundedSender<Arrival>,
}

/// What one connection has said so far.
#[derive(Default)]
struct Transaction {
    helo: String,
    from: String,
    to: Vec<String>,
}

/// How a conversation left off.
enum End {
    Closed,
    Starttls,
}

impl Shared {
    /// One connection, from greeting to QUIT, with the switch to TLS in between if it is asked for.
    async fn converse(&self, stream: TcpStream, peer: IpAddr) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut plain = BufReader::new(stream);
        let greeting = format!("220 {} ESMTP\r\n", self.host);
        plain.get_mut().write_all(greeting.as_bytes()).await?;
        match self.commands(&mut plain, peer, false).await? {
            End::Closed => Ok(()),
            End::Starttls => {
                let stream = self.tls.accept(plain.into_inner()).await?;
                self.commands(&mut BufReader::new(stream), peer, true).await.map(|_| ())
            }
        }
    }

    async fn commands<S>(&self, io: &mut BufReader<S>, peer: IpAddr, tls: bool) -> io::Result<End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut said = Transaction::default();
        loop {
            let mut line = String::new();
            if io.read_line(&mut line).await? == 0 {
                return Ok(End::Closed);
            }
            let line = line.trim_end();
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "EHLO" | "HELO" => {
                    said = Transaction { helo: rest(line).to_owned(), ..Transaction::default() };
                    self.features(tls)
                }
                "STARTTLS" if !tls => {
                    io.get_mut().write_all(b"220 2.0.0 Ready to start TLS\r\n").await?;
                    return Ok(End::Starttls);
                }
                "MAIL" => {
                    said.from = path(line);
                    said.to.clear();
                    "250 2.1.0 Ok\r\n".to_owned()
                }
                "RCPT" => {
                    said.to.push(path(line));
                    "250 2.1.5 Ok\r\n".to_owned()
                }
                "DATA" if !said.to.is_empty() => {
                    io.get_mut().write_all(b"354 End data with <CR><LF>.<CR><LF>\r\n").await?;
                    self.take(io, &mut said, peer, tls).await?
                }
                "RSET" | "NOOP" => "250 2.0.0 Ok\r\n".to_owned(),
                "QUIT" => {
                    io.get_mut().write_all(b"221 2.0.0 Bye\r\n").await?;
                    return Ok(End::Closed);
                }
                _ => "503 5.5.1 Not now\r\n".to_owned(),
            };
            io.get_mut().write_all(answer.as_bytes()).await?;
        }
    }

    fn features(&self, tls: bool) -> String {
        let starttls = if tls { "" } else { "250-STARTTLS\r\n" };
        format!(
            "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n{starttls}250 ENHANCEDSTATUSCODES\r\n",
            self.host
        )
    }

    /// Reads a message, verifies it, hands it on; answers the reply to the final dot.
    async fn take<S>(
        &self,
        io: &mut BufReader<S>,
        said: &mut Transaction,
        peer: IpAddr,
        tls: bool,
    ) -> io::Result<String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some(message) = read_message(io).await? else {
            return Ok("552 5.3.4 Message too big\r\n".to_owned());
        };
        let at = Clock::System.now();
        let hop = Hop { peer, helo: &said.helo, from: &said.from, host: &self.host };
        let (verdict, _) = receive::verify(&self.verifier, &message, hop).await;
        let from = std::mem::take(&mut said.from);
        let to = std::mem::take(&mut said.to);
        let arrival = Arrival { at, from, to, helo: said.helo.clone(), tls, message, verdict };
        match self.told.send(arrival) {
            Ok(()) => Ok("250 2.0.0 Ok: taken\r\n".to_owned()),
            Err(_) => Ok("421 4.3.2 Closing\r\n".to_owned()),
        }
    }
}

/// A message to its final dot, unstuffed; `None` if it is over the limit (and was read to its end all the same).
async fn read_message<S: AsyncRead + Unpin>(io: &mut BufReader<S>) -> io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if io.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok((message.len() <= MESSAGE_MAX).then_some(message));
        }
        if message.len() <= MESSAGE_MAX {
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }
}

fn rest(line: &str) -> &str {
    line.split_once(' ').map_or("", |(_, rest)| rest.trim())
}

fn path(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>'));
    inner.map_or_else(String::new, |(path, _)| path.to_owned())
}

/// A certificate nobody vouches for, as most exchangers on the Internet have: STARTTLS between servers is opportunistic.
fn acceptor(host: &str) -> io::Result<TlsAcceptor> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
            builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
        })
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
