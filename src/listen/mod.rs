//! Sockets: bind, accept with back-off, connection limits, the forgiving ClientHello, and one session a connection.

pub mod certs;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Listener;
use crate::session::Shared;

/// Bound sockets that do not accept yet.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<(TcpListener, Listener)>,
}

impl Listeners {
    /// Binds every listener, or none.
    ///
    /// # Errors
    /// The first address that cannot be bound, named in the message.
    pub fn bind(listeners: &[Listener]) -> io::Result<Self> {
        let _ = listeners;
        todo!()
    }

    /// The addresses they are bound to, in the order of the configuration.
    ///
    /// # Errors
    /// A socket that cannot tell its address.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(|(socket, _)| socket.local_addr().ok()).collect()
    }
}

/// Accepts until `stop` is cancelled, then waits for the sessions: each ends between two commands with 421, and a message
/// whose final dot was taken gets its answer.
pub async fn serve(listeners: Listeners, shared: Arc<Shared>, stop: CancellationToken) {
    let _ = (listeners, shared);
    stop.cancelled().await;
}
