//! A connection to a server: the only place that reads and writes the socket. Every wait has its deadline, every reply its
//! bounds, and a step is one write.

use std::io::IoSlice;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::body::Wire;
use super::extensions::Extensions;
use super::outcome::{Scope, Trouble};
use super::reply::{Garbled, Reader};
use super::sites::Seat;
use crate::mail::attempt::TlsFacts;
use crate::mail::reply::{Enhanced, PeerReply};

/// Pieces of a body handed to one vectored write; the system takes 1024 (IOV_MAX).
const PIECES_PER_WRITE: usize = 64;
/// Room made in the buffer before a read.
const READ_SIZE: usize = 4 * 1024;
/// How long QUIT's reply is waited for; nothing depends on it.
const QUIT_WAIT: Duration = Duration::from_secs(5);

/// Octets a second that a body goes at least, when all of it is looked at: slower links than this are given up on the way in too
/// (`limits.minimum_rate`; Postfix smtpd_min_data_rate).
const RATE_MIN: u64 = 500;

/// The socket, with or without TLS.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection on which a session was opened.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    reader: Reader,
    /// What the server offers now.
    pub(super) extensions: Extensions,
    /// Its address.
    pub(super) ip: IpAddr,
    /// The TLS session, if there is one.
    pub(super) tls: Option<TlsFacts>,
    /// Messages sent over it.
    pub(super) messages: u32,
    /// When it was made.
    pub(super) born: Instant,
    /// Whether the next transaction must begin with RSET.
    pub(super) needs_reset: bool,
    /// HELO was said because the server hung up at EHLO: what it offers is not known, and mail that needs to know goes another time.
    pub(super) guessed: bool,
    /// Its place among the site's connections. Last: it is free when the socket is closed.
    pub(super) seat: Option<Arc<Seat>>,
}

/// How a conversation broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Nothing, or not enough, within the step's time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The socket failed.
    #[error("connection lost: {0}")]
    Lost(#[from] std::io::Error),
    /// The server closed it.
    #[error("the server closed the connection")]
    Closed,
    /// It answered before it was asked: its answers no longer belong to our commands.
    #[error("the server replied before it was asked")]
    Early,
    /// It does not speak SMTP.
    #[error(transparent)]
    Garbled(#[from] Garbled),
}

impl Broken {
    /// The same as a trouble, with what was awaited.
    #[must_use]
    pub(super) fn trouble(&self, scope: Scope, awaited: &str) -> Trouble {
        // RFC 3463: X.4.2 bad connection, X.5.0 a protocol error.
        let enhanced = match self {
            Self::Timeout(_) | Self::Lost(_) | Self::Closed => Enhanced(4, 4, 2),
            Self::Early | Self::Garbled(_) => Enhanced(4, 5, 0),
        };
        Trouble::transient(scope, enhanced, format!("{self}, awaiting {awaited}"))
    }

    /// Whether the connection simply was no longer there.
    #[must_use]
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Closed)
    }
}

/// How long a body of so many octets may take in all.
fn whole(octets: usize, limit: Duration) -> Duration {
    limit.saturating_add(Duration::from_secs(octets as u64 / RATE_MIN))
}

impl Connection {
    /// Wraps a fresh socket.
    #[must_use]
    pub(super) fn new(stream: TcpStream, ip: IpAddr) -> Self {
        Self {
            stream: Either::Left(stream),
            reader: Reader::default(),
            extensions: Extensions::default(),
            ip,
            tls: None,
            messages: 0,
            born: Instant::now(),
            needs_reset: false,
            guessed: false,
            seat: None,
        }
    }

    /// Octets that came behind the last reply without being asked for.
    #[must_use]
    pub(super) fn has_leftovers(&self) -> bool {
        self.reader.has_leftovers()
    }

    /// The bare socket, for a handshake; `None` under TLS already.
    #[must_use]
    pub(super) fn into_tcp(self) -> Option<TcpStream> {
        match self.stream {
            Either::Left(stream) => Some(stream),
            Either::Right(_) => None,
        }
    }

    /// The same connection under TLS; nothing read before is kept.
    #[must_use]
    pub(super) fn over_tls(stream: TlsStream<TcpStream>, ip: IpAddr, facts: TlsFacts) -> Self {
        Self {
            stream: Either::Right(Box::new(stream)),
            reader: Reader::default(),
            extensions: Extensions::default(),
            ip,
            tls: Some(facts),
            messages: 0,
            born: Instant::now(),
            needs_reset: false,
            guessed: false,
            seat: None,
        }
    }

    /// Writes a step's commands, all at once.
    ///
    /// # Errors
    /// `Broken`.
    pub(super) async fn send(&mut self, commands: &[u8], limit: Duration) -> Result<(), Broken> {
        let write = async {
            self.stream.write_all(commands).await?;
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(limit, write).await.map_err(|_| Broken::Timeout(limit))??)
    }

    /// Writes a message with its final dot. The limit holds for each block that the server takes (RFC 5321 section
    /// 4.5.3.2.5), and the whole has as much more as a slow link needs: a server that takes an octet now and then would keep
    /// the connection, and the body's memory, for ever.
    ///
    /// # Errors
    /// `Broken`.
    pub(super) async fn send_body(&mut self, body: &[u8], limit: Duration) -> Result<(), Broken> {
        self.send_within(body, limit, whole(body.len(), limit)).await
    }

    async fn send_within(&mut self, body: &[u8], limit: Duration, whole: Duration) -> Result<(), Broken> {
        let sent = tokio::time::timeout(whole, self.send_blocks(body, limit)).await;
        sent.map_err(|_| Broken::Timeout(whole))?
    }

    async fn send_blocks(&mut self, body: &[u8], limit: Duration) -> Result<(), Broken> {
        // A 250 that is already here would be taken for the answer to a message that nobody has seen.
        if self.reader.has_leftovers() {
            return Err(Broken::Early);
        }
        let mut wire = Wire::new(body);
        let mut pieces: Vec<&[u8]> = Vec::with_capacity(PIECES_PER_WRITE);
        loop {
            pieces.clear();
            pieces.extend(wire.by_ref().take(PIECES_PER_WRITE));
            if pieces.is_empty() {
                break;
            }
            let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            self.send_slices(&mut slices, limit).await?;
        }
        let flushed = tokio::time::timeout(limit, self.stream.flush()).await;
        Ok(flushed.map_err(|_| Broken::Timeout(limit))??)
    }

    async fn send_slices(&mut self, mut slices: &mut [IoSlice<'_>], limit: Duration) -> Result<(), Broken> {
        while !slices.is_empty() {
            let write = tokio::time::timeout(limit, self.stream.write_vectored(slices)).await;
            match write.map_err(|_| Broken::Timeout(limit))?? {
                0 => return Err(Broken::Closed),
                taken => IoSlice::advance_slices(&mut slices, taken),
            }
        }
        Ok(())
    }

    /// The next reply. The limit holds for the whole reply: a server that sends an octet a minute does not prolong it.
    ///
    /// # Errors
    /// `Broken`.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<PeerReply, Broken> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(reply) = self.reader.take()? {
                return Ok(reply);
            }
            let buffer = self.reader.buffer();
            buffer.reserve(READ_SIZE);
            let mut window = bytes::BufMut::limit(&mut *buffer, READ_SIZE);
            let read = timeout_at(deadline, self.stream.read_buf(&mut window)).await;
            if read.map_err(|_| Broken::Timeout(limit))?? == 0 {
                return Err(Broken::Closed);
            }
        }
    }

    /// The address of ours that it comes from.
    #[must_use]
    pub(super) fn source(&self) -> Option<IpAddr> {
        self.tcp().local_addr().ok().map(|address| address.ip())
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Either::Left(stream) => stream,
            Either::Right(stream) => stream.get_ref().0,
        }
    }

    /// Whether a kept connection still looks alive: an open one is silent.
    #[must_use]
    pub(super) fn is_silent(&self) -> bool {
        let mut octet = [0];
        let read = self.tcp().try_read(&mut octet);
        !self.has_leftovers() && matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Says goodbye (RFC 5321 section 4.1.1.10) and closes.
    pub(super) async fn quit(mut self) {
        if self.send(b"QUIT\r\n", QUIT_WAIT).await.is_ok() {
            let _ = self.reply(QUIT_WAIT).await;
        }
        let _ = tokio::time::timeout(QUIT_WAIT, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes a little before each block's time is over does not keep a body for ever.
    #[tokio::test]
    async fn a_body_is_bounded_as_a_whole() {
        let (limit, most) = (Duration::from_secs(60), Duration::from_millis(300));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, address) = listener.accept().await.unwrap();
        let taking = tokio::spawn(async move {
            let (mut piece, mut pace) = ([0; 1024], tokio::time::interval(Duration::from_millis(10)));
            while peer.read(&mut piece).await.is_ok_and(|taken| taken > 0) {
                pace.tick().await;
            }
        });
        let body = vec![b'x'; 64 << 20];
        let sent = Connection::new(stream, address.ip()).send_within(&body, limit, most).await;
        assert!(matches!(sent, Err(Broken::Timeout(after)) if after == most), "{sent:?}");
        taking.abort();
        assert_eq!(whole(0, limit), limit);
        assert_eq!(whole(25 << 20, limit), limit + Duration::from_secs(52_428));
    }
}
