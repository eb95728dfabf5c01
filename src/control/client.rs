//! The other end of the admin socket: what the command line uses.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::wire;

/// Asks a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no daemon runs: nobody listens at {path}")]
    Absent {
        /// The socket.
        path: String,
    },
    /// It cannot be told whether one runs, or the connection broke.
    #[error("no daemon answers at {path}: {why}")]
    Unreachable {
        /// The socket.
        path: String,
        /// What the system said.
        why: String,
    },
    /// There is no such message.
    #[error("{0}")]
    NotFound(String),
    /// It answered that it will not.
    #[error("{0}")]
    Refused(String),
}

impl Client {
    /// A client of the daemon behind this socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks for an object.
    ///
    /// # Errors
    /// Nobody answers, or the answer is no.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        self.parsed(&self.ask(Method::GET, path, Bytes::new()).await?)
    }

    /// Asks for octets.
    ///
    /// # Errors
    /// Nobody answers, or the answer is no.
    pub async fn bytes(&self, path: &str) -> Result<Bytes, AskError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Orders something.
    ///
    /// # Errors
    /// Nobody answers, or the answer is no.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, AskError> {
        let order = serde_json::to_vec(order).map_err(|error| AskError::Refused(error.to_string()))?;
        self.parsed(&self.ask(Method::POST, path, order.into()).await?)
    }

    fn parsed<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, AskError> {
        serde_json::from_slice(body)
            .map_err(|error| AskError::Refused(format!("the daemon's answer was not understood: {error}")))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::Unreachable { path: self.socket.display().to_string(), why: why.to_string() }
    }

    /// Only these two mean that nobody is there; whoever may not open the socket does not know.
    fn unconnected(&self, error: &std::io::Error) -> AskError {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return AskError::Absent { path: self.socket.display().to_string() };
        }
        self.unreachable(error)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, AskError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unconnected(&error))?;
        let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let run = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "waxseal")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| AskError::Refused(error.to_string()))?;
        let answer = send.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
        drop(send);
        run.abort();
        judged(status, body)
    }
}

fn judged(status: StatusCode, body: Bytes) -> Result<Bytes, AskError> {
    if status.is_success() {
        return Ok(body);
    }
    let error = serde_json::from_slice::<wire::Problem>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).trim_end().to_owned(), |problem| problem.error);
    match status {
        StatusCode::NOT_FOUND => Err(AskError::NotFound(error)),
        _ => Err(AskError::Refused(error)),
    }
}
