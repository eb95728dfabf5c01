//! The TCP address for metrics and health. Others than administrators may reach it, so a request has one connection, bounded in
//! time, and there are `CONNECTIONS` at once: half a request holds no descriptor for ever.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections served at once; more wait to be taken. Those that watch are few.
const CONNECTIONS: usize = 64;
/// Longest wait for the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Longest that a connection may last: a look at a disk that hangs takes its time.
const WHOLE: Duration = Duration::from_secs(60);
/// After an accept that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop` is cancelled.
pub(super) async fn serve(socket: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let taken = tokio::select! {
            () = stop.cancelled() => return,
            taken = take(&socket, &places) => taken,
        };
        let Ok((stream, place)) = taken else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(WHOLE, converse(stream, router, HEAD)).await;
            drop(place);
        });
    }
}

async fn take(
    socket: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    Ok((socket.accept().await?.0, place))
}

/// One request. What goes wrong is between the peer and its own connection.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, head: Duration) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = served.await;
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn half_a_request_holds_no_connection_for_ever() {
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET /livez HTTP/1.1\r\nHost: ").await.unwrap();
        let ended =
            tokio::time::timeout(HEAD, converse(server, Router::new(), Duration::from_millis(20))).await;
        assert!(ended.is_ok(), "the client still holds its end, and the relay does not");
    }
}
