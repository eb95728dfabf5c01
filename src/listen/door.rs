//! From a taken connection to a session: limits, the look for a ClientHello, the handshake.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::manners::Manners;
use super::permits::{self, Permit, Permits};
use crate::config::{Listener, ListenerTls};
use crate::mail::reply::Reply;
use crate::metrics::{MethodLabel, ReasonLabel, ResultLabel};
use crate::session::machine::replies;
use crate::session::{self, Shared, Stream, Visitor};

/// On an implicit listener: how long a client may keep silent. One that is set to None or TLS waits for a banner that
/// never comes, JavaMail without end; closing tells it.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Reads of 512 octets from a client that was turned away.
const TURNED_AWAY_READS: usize = 256;

/// One listener and what it shares with the others.
pub(super) struct Door {
    pub(super) shared: Arc<Shared>,
    pub(super) listener: Arc<Listener>,
    /// The bound port: part of what is remembered of a client.
    pub(super) port: u16,
    pub(super) manners: Arc<Manners>,
    pub(super) permits: Permits,
    pub(super) stop: CancellationToken,
}

/// What a client showed before the banner.
enum Opening {
    Tls,
    Silence,
    EarlyTalk,
    Gone,
}

impl Door {
    /// A place for it, or 421 and the end. Nothing here waits: the answer fits into a fresh socket's buffer, or is lost.
    pub(super) fn permit(&self, stream: &impl AsFd, ip: IpAddr) -> Option<Permit> {
        let config = self.shared.config.load();
        let limits = &config.limits;
        let places = permits::places(limits.connections, self.listener.role);
        match self.permits.take(ip, places, limits.connections_per_address) {
            Ok(permit) => {
                let method = self.method();
                self.shared.metrics.connections.get_or_create(&MethodLabel { method }).inc();
                Some(permit)
            }
            Err(full) => {
                let reason = ReasonLabel { reason: full.name() };
                self.shared.metrics.connections_refused.get_or_create(&reason).inc();
                if self.listener.tls != ListenerTls::Implicit {
                    say(stream, &replies::too_many_connections());
                }
                None
            }
        }
    }

    fn method(&self) -> &'static str {
        match self.listener.tls {
            ListenerTls::None => "none",
            ListenerTls::Starttls => "starttls",
            ListenerTls::Implicit => "implicit",
        }
    }

    /// One connection, to its end.
    pub(super) async fn receive(self: Arc<Self>, stream: TcpStream, ip: IpAddr, permit: Permit) {
        let _ = stream.set_nodelay(true);
        self.shared.metrics.sessions.inc();
        let open = Open(Arc::clone(&self.shared), permit);
        if let Some(stream) = self.greet(stream, ip).await {
            let (manners, who) = (Arc::clone(&self.manners), (ip, self.port));
            let visitor = Visitor {
                shared: Arc::clone(&self.shared),
                listener: Arc::clone(&self.listener),
                ip,
                wants_tls: Box::new(move || manners.late(who)),
            };
            session::run(visitor, stream, self.stop.clone()).await;
        }
        drop(open);
    }

    /// Under TLS or in clear text, ready for the banner; `None` where it ended before.
    async fn greet(&self, stream: TcpStream, ip: IpAddr) -> Option<Stream> {
        let implicit = self.listener.tls == ListenerTls::Implicit;
        let wait = match &self.shared.tls {
            None if implicit => return None,
            None => return Some(Stream::Plain(stream)),
            Some(_) if implicit => SILENCE_MAX,
            Some(_) => self.manners.wait((ip, self.port), self.shared.config.load().limits.hello_wait),
        };
        if wait.is_zero() {
            return Some(Stream::Plain(stream));
        }
        match opening(&stream, wait, &self.stop).await {
            Opening::Tls => self.shake(stream, ip).await,
            // rustls answers what is not TLS with an alert, which is all that such a client could understand.
            Opening::EarlyTalk if implicit => self.shake(stream, ip).await,
            Opening::EarlyTalk => {
                turn_away(stream, &replies::early_talker()).await;
                None
            }
            Opening::Silence if implicit => {
                let advice =
                    "set the authentication method to SSL for this port, or use a port with STARTTLS";
                tracing::warn!(%ip, port = self.port, advice, "no TLS ClientHello came on an implicit TLS port");
                None
            }
            Opening::Silence => {
                self.manners.silent((ip, self.port));
                Some(Stream::Plain(stream))
            }
            Opening::Gone => None,
        }
    }

    async fn shake(&self, stream: TcpStream, ip: IpAddr) -> Option<Stream> {
        let config = self.shared.tls.clone()?;
        let limit = self.shared.config.load().limits.handshake_timeout;
        let shaken = timeout(limit, Stream::Plain(stream).secure(config)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let result = if shaken.is_ok() { "ok" } else { "failed" };
        self.shared.metrics.handshakes.get_or_create(&ResultLabel { result }).inc();
        shaken.inspect_err(|error| tracing::info!(%ip, port = self.port, %error, "TLS handshake failed")).ok()
    }
}

/// Counts a session while it lasts, even if it panics.
struct Open(Arc<Shared>, #[allow(dead_code, reason = "held, and given back when dropped")] Permit);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics.sessions.dec();
    }
}

/// Looks at the first two octets without taking them: 22 and 3 begin every TLS record of a handshake (RFC 8446 section
/// 5.1). One octet alone is waited with, up to the end of the wait.
async fn opening(stream: &TcpStream, wait: Duration, stop: &CancellationToken) -> Opening {
    let until = Instant::now() + wait;
    let mut head = [0; 2];
    let looking = async {
        loop {
            match stream.peek(&mut head).await {
                Ok(0) | Err(_) => return Opening::Gone,
                Ok(1) if head.first() == Some(&22) => tokio::time::sleep(Duration::from_millis(5)).await,
                Ok(_) if head == [22, 3] => return Opening::Tls,
                Ok(_) => return Opening::EarlyTalk,
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => Opening::Silence,
        seen = timeout_at(until, looking) => seen.unwrap_or(Opening::Silence),
    }
}

/// One reply into a fresh socket, without waiting.
fn say(stream: &impl AsFd, reply: &Reply) {
    let mut out = Vec::new();
    reply.write(&mut out);
    // Straight to the socket: tokio has not asked yet whether this one can be written to.
    let _ = socket2::SockRef::from(stream).send(&out);
}

/// The same, and then what the client sent is read past: closing over unread octets would reset the connection and lose
/// the reply.
async fn turn_away(mut stream: TcpStream, reply: &Reply) {
    say(&stream, reply);
    let reading = async {
        stream.shutdown().await?;
        let mut scrap = [0; 512];
        for _ in 0..TURNED_AWAY_READS {
            if stream.read(&mut scrap).await? == 0 {
                break;
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(1), reading).await;
}
