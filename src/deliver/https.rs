//! HTTPS, as little as MTA-STS, TLS-RPT and access tokens need of it: one request to a host that a stranger or a tenant named, and one
//! answer within bounds. No redirect is followed, no address of the inside is connected to, and the certificate must be good.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{HeaderMap, Method, Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::Settings;
use super::dial::dial;
use super::protect::Trust;
use super::tally::Problem;
use super::tls::TlsError;
use crate::dns::Resolver;
use crate::metrics::Metrics;

/// Longest time for all of it (RFC 8461 section 3.3 suggests a minute); `delivery.command_timeout` where that is shorter.
const WHOLE: Duration = Duration::from_secs(60);
/// Its port, where an address names none.
pub(super) const HTTPS: u16 = 443;
/// Addresses of a host that are tried.
const ADDRESSES: usize = 4;

/// What asks.
#[derive(Clone, Copy)]
pub(super) struct Https<'a> {
    /// Finds hosts.
    pub(super) resolver: &'a Resolver,
    /// Whom we may connect to, and which certificates are good.
    pub(super) settings: &'a Settings,
    /// What is counted.
    pub(super) metrics: &'a Metrics,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Asked<'a> {
    /// GET or POST.
    pub(super) method: Method,
    /// The host; its name is the certificate's too.
    pub(super) host: &'a str,
    /// Its port.
    pub(super) port: u16,
    /// The path, with its query.
    pub(super) path: &'a str,
    /// What kind of answer will do.
    pub(super) accept: &'static str,
    /// What goes with it: its kind, and the octets.
    pub(super) body: Option<(&'static str, Bytes)>,
    /// Octets of the answer that are read.
    pub(super) most: usize,
    /// Which certificate is good: a verified one, by these roots.
    pub(super) trust: &'a Trust,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// The status; 200 is what one wants.
    pub(super) status: u16,
    /// The media type, lower case, without parameters.
    pub(super) kind: String,
    /// The octets.
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    /// DNS names no address for the host.
    #[error("{0} has no address: {1}")]
    Nobody(String, String),
    /// All its addresses are ours or of the inside.
    #[error("{0} is at an address that is never connected to")]
    Inside(String),
    /// TCP.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, String),
    /// The certificate.
    #[error("{0}")]
    Tls(String),
    /// It took too long.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// The answer is longer than it may be.
    #[error("the answer is too long")]
    TooLong,
    /// It is not HTTP, or broke off.
    #[error("the answer is broken: {0}")]
    Broken(String),
}

impl Https<'_> {
    /// Asks, and reads the answer whatever its status.
    ///
    /// # Errors
    /// `Unanswered`.
    pub(super) async fn ask(&self, asked: Asked<'_>) -> Result<Answered, Unanswered> {
        let limit = WHOLE.min(self.settings.command);
        match timeout(limit, Box::pin(self.converse(asked))).await {
            Ok(done) => done,
            Err(_) => Err(Unanswered::Slow(limit)),
        }
    }

    async fn converse(&self, asked: Asked<'_>) -> Result<Answered, Unanswered> {
        let stream = self.connect(&asked).await?;
        let broken = |error: hyper::Error| Unanswered::Broken(error.to_string());
        let io = TokioIo::new(stream);
        let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
        // The connection moves the octets; it ends with this future, answered or not.
        let driving = tokio::spawn(connection);
        let answer = async {
            let answer = send.send_request(request(&asked)?).await.map_err(broken)?;
            let (status, kind) = (answer.status().as_u16(), kind(answer.headers()));
            let body = Limited::new(answer.into_body(), asked.most).collect().await;
            match body {
                Ok(body) => Ok(Answered { status, kind, body: body.to_bytes() }),
                Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Unanswered::TooLong),
                Err(error) => Err(Unanswered::Broken(error.to_string())),
            }
        };
        let answered = answer.await;
        driving.abort();
        answered
    }

    async fn connect(&self, asked: &Asked<'_>) -> Result<TlsStream<TcpStream>, Unanswered> {
        let host = asked.host;
        let outside = self
            .addresses(host)
            .await?
            .into_iter()
            .map(|ip| SocketAddr::new(ip, asked.port))
            .filter(|address| self.settings.guard.check(*address).is_ok());
        let mut last = Unanswered::Inside(host.to_owned());
        for address in outside.take(ADDRESSES) {
            let source = match self.settings.sources.of_family(address.ip()) {
                Ok(source) => source,
                Err(why) => {
                    last = Unanswered::Connect(address.to_string(), why.to_owned());
                    continue;
                }
            };
            let connecting = dial(address, source);
            last = match timeout(self.settings.connect, connecting).await {
                Ok(Ok(stream)) => return self.secure(stream, asked).await,
                Ok(Err(error)) => Unanswered::Connect(address.to_string(), error.to_string()),
                Err(_) => Unanswered::Connect(address.to_string(), "no answer".to_owned()),
            };
        }
        Err(last)
    }

    /// A host's addresses; it may be one itself.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Unanswered> {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            return Ok(vec![ip]);
        }
        let found = self.resolver.addresses(host).await;
        found.map_err(|failure| Unanswered::Nobody(host.into(), failure.to_string()))
    }

    async fn secure(&self, stream: TcpStream, asked: &Asked<'_>) -> Result<TlsStream<TcpStream>, Unanswered> {
        let host = asked.host;
        match self.settings.tls.handshake(stream, host, asked.trust).await {
            Ok(secured) => Ok(secured.stream),
            // A handshake that broke off says nothing of the certificate.
            Err(error) if error.problem() == Problem::Failed => {
                Err(Unanswered::Connect(host.to_owned(), error.to_string()))
            }
            Err(error @ (TlsError::Roots(..) | TlsError::NoRoots | TlsError::Handshake(_))) => {
                Err(Unanswered::Tls(format!("{host}: {error}")))
            }
        }
    }
}

fn request(asked: &Asked<'_>) -> Result<Request<Full<Bytes>>, Unanswered> {
    let broken = |error: hyper::http::Error| Unanswered::Broken(error.to_string());
    let path: Uri = asked.path.parse().map_err(|_| Unanswered::Broken("no path".to_owned()))?;
    let mut request = Request::builder().method(asked.method.clone()).uri(path);
    // RFC 9110 section 7.2: as in the URI, where the port that everybody takes goes without saying.
    let host = match asked.port {
        HTTPS => asked.host.to_owned(),
        port => format!("{}:{port}", asked.host),
    };
    request = request.header(HOST, host).header(ACCEPT, asked.accept);
    let body = match &asked.body {
        Some((kind, octets)) => {
            request = request.header(CONTENT_TYPE, *kind);
            octets.clone()
        }
        None => Bytes::new(),
    };
    request.body(Full::new(body)).map_err(broken)
}

fn kind(headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
