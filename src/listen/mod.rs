//! Sockets: bind, accept with back-off, connection limits, the forgiving ClientHello, and one session a connection.

pub mod certs;
mod door;
mod manners;
mod permits;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
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

/// Bound sockets; the kernel queues connections until `serve` takes them.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<(TcpListener, Arc<Listener>)>,
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
        self.bound.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }

    /// Those of them that take tenants' mail: mail that would go there goes in a circle. What comes back to an inbound listener
    /// is read, and goes nowhere.
    #[must_use]
    pub fn submission(&self) -> Vec<SocketAddr> {
        let taking = self.bound.iter().filter(|(_, listener)| listener.role == Role::Submission);
        taking.filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }
}

/// An IPv6 wildcard takes IPv6 only, so that `0.0.0.0` and `[::]` can stand side by side in the configuration.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` is cancelled, then waits for the sessions: each ends between two commands with 421, and a message
/// whose final dot was taken gets its answer.
pub async fn serve(listeners: Listeners, shared: Arc<Shared>, stop: CancellationToken) {
    let (manners, permits) = (Arc::new(Manners::default()), Permits::default());
    let (accepting, sessions) = (TaskTracker::new(), TaskTracker::new());
    for (socket, listener) in listeners.bound {
        let port = socket.local_addr().map_or(listener.address.port(), |address| address.port());
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
async fn accept(socket: TcpListener, door: Arc<Door>, sessions: TaskTracker) {
    let mut pause = PAUSE_FIRST;
    loop {
        let taken = tokio::select! {
            biased;
            () = door.stop.cancelled() => return,
            taken = socket.accept() => taken,
        };
        match taken {
            Ok((stream, peer)) => {
                pause = PAUSE_FIRST;
                admit(&door, stream, peer, &sessions);
            }
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

fn admit(door: &Arc<Door>, stream: TcpStream, peer: SocketAddr, sessions: &TaskTracker) {
    if let Some(permit) = door.permit(&stream, peer.ip().to_canonical()) {
        sessions.spawn(Arc::clone(door).receive(stream, peer.ip().to_canonical(), permit));
    }
}
