//! Sockets: bind, accept with back-off, connection limits, the forgiving ClientHello, and one session a connection.

pub mod certs;
mod door;
mod manners;
mod permits;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::door::Door;
use self::manners::Manners;
use self::permits::Permits;
use crate::config::{Listener, Role};
use crate::metrics::ReasonLabel;
use crate::session::Shared;

/// Connections that the kernel may hold for us.
const BACKLOG: i32 = 1024;
/// Pauses after an accept that failed for want of descriptors or memory: so long at first, doubling up to the other.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// A socket, and the runtime's word that connections wait at it.
type Bound = AsyncFd<TcpListener>;

/// Bound sockets; the kernel queues connections until `serve` takes them.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<(Bound, Arc<Listener>)>,
}

impl Listeners {
    /// Binds every listener, or none. Called within a tokio runtime.
    ///
    /// # Errors
    /// The first address that cannot be bound, named in the message.
    pub fn bind(listeners: &[Listener]) -> io::Result<Self> {
        let one = |listener: &Listener| {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", listener.address));
            Ok((bind(listener.address).map_err(named)?, Arc::new(listener.clone())))
        };
        Ok(Self { bound: listeners.iter().map(one).collect::<io::Result<_>>()? })
    }

    /// The addresses they are bound to, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(|(socket, _)| socket.get_ref().local_addr().ok()).collect()
    }

    /// Those of them that take tenants' mail: mail that would go there goes in a circle. What comes back to an inbound listener
    /// is read, and goes nowhere.
    #[must_use]
    pub fn submission(&self) -> Vec<SocketAddr> {
        let taking = self.bound.iter().filter(|(_, listener)| listener.role == Role::Submission);
        taking.filter_map(|(socket, _)| socket.get_ref().local_addr().ok()).collect()
    }
}

/// An IPv6 wildcard takes IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side in the configuration.
fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    register(socket.into())
}

#[allow(
    deprecated,
    reason = "what took its place is unsafe code: it asks that the descriptor stays open and the same, which a TcpListener's does"
)]
fn register(socket: TcpListener) -> io::Result<Bound> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Accepts until `stop` is cancelled, then waits for the sessions: each ends between two commands with 421, and a message
/// whose final dot was taken gets its answer.
pub async fn serve(listeners: Listeners, shared: Arc<Shared>, stop: CancellationToken) {
    let (manners, permits) = (Arc::new(Manners::default()), Permits::default());
    let (accepting, sessions) = (TaskTracker::new(), TaskTracker::new());
    for (socket, listener) in listeners.bound {
        let port = socket.get_ref().local_addr().map_or(listener.address.port(), |address| address.port());
        let door = Door {
            shared: Arc::clone(&shared),
            listener,
            port,
            manners: Arc::clone(&manners),
            permits: permits.clone(),
            stop: stop.clone(),
        };
        accepting.spawn(accept(socket, Arc::new(door), sessions.clone()));
    }
    accepting.close();
    accepting.wait().await;
    sessions.close();
    sessions.wait().await;
}

/// Takes connections until told to stop. The socket closes when this ends, so that no new connection is queued.
async fn accept(socket: Bound, door: Arc<Door>, sessions: TaskTracker) {
    let mut pause = PAUSE_FIRST;
    loop {
        let taken = tokio::select! {
            biased;
            () = door.stop.cancelled() => return,
            // It yields now and then, however many wait.
            taken = socket.async_io(Interest::READABLE, take) => taken,
        };
        match taken.and_then(|(stream, peer)| admit(&door, stream, peer, &sessions)) {
            Ok(()) => pause = PAUSE_FIRST,
            // The client left before it was taken: nobody's fault, and no reason to wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::error!(%error, port = door.port, "accept failed, pausing");
                let reason = ReasonLabel { reason: "descriptors" };
                door.shared.metrics.connections_refused.get_or_create(&reason).inc();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_LAST);
            }
        }
    }
}

/// The next connection. The runtime does not know of it yet: when many are turned away, telling it of each, and then that it is
/// gone, is two of the five system calls that each costs.
fn take(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((stream.into(), peer.ok_or(io::ErrorKind::ConnectionAborted)?))
}

fn admit(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr, sessions: &TaskTracker) -> io::Result<()> {
    let ip = peer.ip().to_canonical();
    if let Some(permit) = door.permit(&stream, ip) {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        sessions.spawn(Arc::clone(door).receive(stream, ip, permit));
    }
    Ok(())
}
