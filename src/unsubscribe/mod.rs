//! The page behind List-Unsubscribe (RFC 8058): a small public HTTP listener of its own, far from the admin API. A mail program
//! or a person POSTs and is unsubscribed; a GET shows a page with a button and changes nothing, since scanners follow links.
//!
//! It is on the open network: a request has one connection, bounded in octets and time; there are `CONNECTIONS` at once, and an
//! address gets so many a minute. What it answers tells nothing of who is a customer or a reader: links that nobody made and links
//! of tenants that are gone look the same.

mod pace;
mod page;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use crate::clock::Clock;
use crate::config::Unsubscribe;
use crate::maillog::{Audit, MailLog};
use crate::suppress::{Entry, Links, List, Reason, Subscription};
use crate::tenant::Tenants;

/// Connections served at once; more wait to be taken.
const CONNECTIONS: usize = 256;
/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Longest that a connection may last, its TLS handshake included.
const WHOLE: Duration = Duration::from_secs(30);
/// Octets of a request's head, and of its body.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 4 << 10;
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);
/// RFC 8058 section 3.1: what a mail program sends, and the button too.
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// What it works on.
pub struct Parts {
    /// Whose links count.
    pub tenants: Arc<Tenants>,
    /// Where unsubscribers go.
    pub suppressions: Arc<List>,
    /// What links are known by.
    pub links: Links,
    /// Told of every one.
    pub log: Arc<MailLog>,
    /// Wall time.
    pub clock: Clock,
}

/// A bound socket that does not serve yet.
pub struct Door {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// Binds; TLS is served where the configuration says so, with the listeners' certificates.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(setting: &Unsubscribe, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", setting.address));
        let socket = TcpListener::bind(setting.address).await.map_err(named)?;
        Ok(Self { socket, tls: tls.filter(|_| setting.tls).map(TlsAcceptor::from) })
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }
}

/// Serves until `stop` is cancelled.
pub async fn serve(door: Door, parts: Arc<Parts>, stop: CancellationToken) {
    let Door { socket, tls } = door;
    let (places, began) = (Arc::new(Semaphore::new(CONNECTIONS)), Instant::now());
    let pace = Mutex::new(Pace::default());
    let router = Router::new().fallback(answer).with_state(parts);
    loop {
        let taken = tokio::select! {
            () = stop.cancelled() => return,
            taken = take(&socket, &places) => taken,
        };
        let Ok((stream, peer, place)) = taken else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let may = pace.lock().unwrap_or_else(PoisonError::into_inner).may(peer, began.elapsed());
        if may {
            let (tls, router) = (tls.clone(), router.clone());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(WHOLE, open(stream, tls, router)).await;
                drop(place);
            });
        }
    }
}

type Taken = (TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit);

async fn take(socket: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Taken> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    Ok((stream, peer.ip().to_canonical(), place))
}

async fn open(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    match tls {
        None => converse(stream, router).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                converse(stream, router).await;
            }
        }
    }
}

/// One request. What goes wrong is between the peer and its own connection.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = served.await;
}

/// The token is the last part of the path, whatever a proxy leaves of what stands before it.
async fn answer(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let token = head.uri.path().rsplit('/').next().unwrap_or_default();
    let known = parts.links.read(token).filter(|found| {
        let tenants = parts.tenants.load();
        tenants.tenant(&found.tenant).is_some_and(|tenant| tenant.classes.find(&found.class).is_some())
    });
    match (known, head.method) {
        (None, _) => page::say(StatusCode::NOT_FOUND, page::VOID),
        (Some(_), Method::GET | Method::HEAD) => page::say(StatusCode::OK, page::ASK),
        (Some(found), Method::POST) => {
            let body = axum::body::to_bytes(body, BODY_MAX).await.unwrap_or_default();
            if !says_one_click(&body) {
                return page::say(StatusCode::BAD_REQUEST, page::UNCLEAR);
            }
            unsubscribe(&parts, found).await
        }
        (Some(_), _) => page::say(StatusCode::METHOD_NOT_ALLOWED, page::UNCLEAR),
    }
}

/// As a form, or as a part of one (RFC 8058 section 3.2 allows both), with the colon of forms that quote it.
fn says_one_click(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    text.split('&').any(|pair| pair.trim() == ONE_CLICK)
        || (text.contains("name=\"List-Unsubscribe\"") && text.lines().any(|line| line.trim() == "One-Click"))
}

async fn unsubscribe(parts: &Parts, found: Subscription) -> Response {
    let Subscription { tenant, class, address } = found;
    let entry = Entry::new(&address, Reason::Unsubscribe, parts.clock.now(), "by its link").of_class(&class);
    match parts.suppressions.add(&tenant, vec![entry]).await {
        Ok(fresh) => {
            for entry in fresh {
                let detail = format!("{}: class {class}", entry.address);
                let (actor, action) = ("unsubscribe", "suppress.add");
                parts.log.audit(&Audit { actor, action, detail: &detail, tenant: Some(&tenant) });
            }
            page::say(StatusCode::OK, page::DONE)
        }
        Err(error) => {
            tracing::error!(tenant, %error, "somebody could not be unsubscribed");
            page::say(StatusCode::SERVICE_UNAVAILABLE, page::LATER)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mail_program_posts() {
        for (body, is, why) in [
            ("List-Unsubscribe=One-Click", true, "RFC 8058"),
            ("a=b&List-Unsubscribe=One-Click\r\n", true, "with more"),
            (
                "--b\r\nContent-Disposition: form-data; name=\"List-Unsubscribe\"\r\n\r\nOne-Click\r\n--b--",
                true,
                "multipart",
            ),
            ("", false, "a scanner that posts nothing"),
            ("List-Unsubscribe=No", false, "another word"),
            ("xList-Unsubscribe=One-Click", false, "another name"),
        ] {
            assert_eq!(says_one_click(body.as_bytes()), is, "{why}");
        }
    }
}
