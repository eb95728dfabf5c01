//! A web server over TLS on loopback, which answers whatever is asked with the octets that a test gave it, and remembers what
//! it was asked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pki::Served;

pub struct Web {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    connections: Arc<Mutex<usize>>,
    answer: Arc<Mutex<Vec<u8>>>,
    serving: tokio::task::JoinHandle<()>,
}

/// A plain answer with this status line, header and body.
pub fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nLocation: /elsewhere\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Web {
    pub async fn start(at: &str, served: &Served, answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let mut web = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
            serving: tokio::spawn(async {}),
        };
        let acceptor = TlsAcceptor::from(served.server());
        let (asked, connections) = (Arc::clone(&web.asked), Arc::clone(&web.connections));
        let answer = Arc::clone(&web.answer);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                let answer = answer.lock().unwrap().clone();
                tokio::spawn(converse(stream, acceptor.clone(), Arc::clone(&asked), answer));
            }
        });
        web.serving = serving;
        web
    }

    /// Every request, headers and body.
    pub fn asked(&self) -> Vec<Vec<u8>> {
        self.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    pub fn answers(&self, answer: Vec<u8>) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Reads one request, answers it, and keeps the connection open: who asked knows the length, or waits.
async fn converse(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
    answer: Vec<u8>,
) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut request = Vec::new();
    while !whole(&request) {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    asked.lock().unwrap().push(request);
    stream.write_all(&answer).await.ok()?;
    stream.flush().await.ok()?;
    while stream.read_buf(&mut Vec::new()).await.ok()? > 0 {}
    Some(())
}

/// Whether headers and, by their Content-Length, a body are here.
fn whole(request: &[u8]) -> bool {
    let Some(end) = memchr::memmem::find(request, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}
