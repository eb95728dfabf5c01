//! Scripted exchangers: real TCP servers, each on its own loopback address and all on one port, that say and expect what a
//! script tells them. What a client did otherwise is a fault, and dropping an exchanger with faults fails the test.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::pki;

/// What one side does next.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send this, line by line (`\n` becomes CRLF), in one write.
    Say(String),
    /// Send these octets.
    Raw(Vec<u8>),
    /// The client's next line must be this; a `*` at the end stands for anything.
    Hear(String),
    /// The client's next read must bring exactly these lines, in one write.
    Group(Vec<String>),
    /// Read a message up to its final dot.
    Body,
    /// Handshake; the certificate names the exchanger.
    Tls,
    /// The client must say nothing more, and close.
    Hangup,
    /// Answer whatever comes with what no protocol says.
    Garble,
    /// Close with a reset.
    Reset,
    /// Say nothing until the client closes.
    Silence,
}

pub type Script = Vec<Act>;

pub fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

pub fn hear(line: &str) -> Act {
    Act::Hear(line.to_owned())
}

pub fn group(lines: &[&str]) -> Act {
    Act::Group(lines.iter().map(|line| (*line).to_owned()).collect())
}

/// `->` is heard, `<-` is said; several lines of `<-` in a row go out in one write.
pub fn script(text: &str) -> Script {
    let mut acts: Script = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (mark, rest) = line.split_at(2);
        let rest = rest.trim_start();
        match (mark, rest) {
            ("->", _) => acts.push(hear(rest)),
            ("<-", _) => match acts.last_mut() {
                Some(Act::Say(said)) => *said = format!("{said}\n{rest}"),
                _ => acts.push(say(rest)),
            },
            ("--", "body") => acts.push(Act::Body),
            ("--", "tls") => acts.push(Act::Tls),
            ("--", "hangup") => acts.push(Act::Hangup),
            ("--", "reset") => acts.push(Act::Reset),
            ("--", "silence") => acts.push(Act::Silence),
            _ => panic!("not a line of a script: {line}"),
        }
    }
    acts
}

#[derive(Default)]
struct Seen {
    connections: usize,
    peers: Vec<IpAddr>,
    bodies: Vec<Vec<u8>>,
    lines: Vec<String>,
    faults: Vec<String>,
}

/// One scripted server. Connection n plays script n; further ones play the last.
pub struct Exchanger {
    pub address: SocketAddr,
    /// Its self-signed certificate, PEM.
    pub certificate: String,
    seen: Arc<Mutex<Seen>>,
    /// How many messages it has heard to their end.
    heard: watch::Sender<usize>,
}

/// Listens on 127.0.0.2, 127.0.0.3 …, one for each set of scripts, all on one port. An empty set: nobody listens there.
pub async fn street(scripts: Vec<Vec<Script>>) -> (Vec<Exchanger>, u16) {
    street_with(scripts, |_| pki::alone(&["mx.test", "up.test", "localhost"])).await
}

/// The same, each with a certificate made for it.
pub async fn street_with(
    scripts: Vec<Vec<Script>>,
    served: impl Fn(usize) -> pki::Served,
) -> (Vec<Exchanger>, u16) {
    'port: loop {
        let mut listeners = Vec::new();
        let mut port = 0;
        for house in 0..scripts.len() {
            let ip = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(house).unwrap());
            match TcpListener::bind((ip, port)).await {
                Ok(listener) => {
                    port = listener.local_addr().unwrap().port();
                    listeners.push(listener);
                }
                Err(_) => continue 'port,
            }
        }
        let built = listeners.into_iter().zip(scripts).enumerate().map(|(at, (listener, scripts))| {
            let address = listener.local_addr().unwrap();
            if scripts.is_empty() {
                Exchanger::nobody(address)
            } else {
                Exchanger::serve(listener, scripts, &served(at))
            }
        });
        return (built.collect(), port);
    }
}

impl Exchanger {
    fn nobody(address: SocketAddr) -> Self {
        Self { address, certificate: String::new(), seen: Arc::default(), heard: watch::Sender::default() }
    }

    fn serve(listener: TcpListener, scripts: Vec<Script>, served: &pki::Served) -> Self {
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(served.server());
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let record = Arc::clone(&seen);
        let heard = watch::Sender::default();
        let tell = heard.clone();
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let at = {
                    let mut seen = record.lock().unwrap();
                    seen.peers.push(peer.ip());
                    seen.connections += 1;
                    seen.connections - 1
                };
                let script = scripts.get(at).or(scripts.last()).cloned().unwrap_or_default();
                let (seen, heard) = (Arc::clone(&record), tell.clone());
                let player = Player { seen, heard, acceptor: acceptor.clone(), buffer: Vec::new() };
                tokio::spawn(player.play(stream, script));
            }
        });
        Self { address, certificate: served.pem(), seen, heard }
    }

    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Where each connection came from.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.seen.lock().unwrap().peers.clone()
    }

    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().bodies.clone()
    }

    /// Waits until it has heard so many messages to their end.
    pub async fn hears(&self, count: usize) {
        let mut heard = self.heard.subscribe();
        let waiting = heard.wait_for(|heard| *heard >= count);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("nothing comes").unwrap();
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().lines.clone()
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        let faults = std::mem::take(&mut self.seen.lock().unwrap().faults);
        if !faults.is_empty() && !std::thread::panicking() {
            panic!("{}: {}", self.address, faults.join("; "));
        }
    }
}

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

struct Player {
    seen: Arc<Mutex<Seen>>,
    heard: watch::Sender<usize>,
    acceptor: TlsAcceptor,
    buffer: Vec<u8>,
}

impl Player {
    async fn play(mut self, stream: TcpStream, script: Script) {
        stream.set_nodelay(true).unwrap();
        let resets = script.iter().any(|act| matches!(act, Act::Reset));
        if resets {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        let mut plain = Some(stream);
        let mut wire: Option<Box<dyn Wire>> = None;
        for act in script {
            if matches!(act, Act::Tls) {
                let Ok(secure) = self.acceptor.accept(plain.take().unwrap()).await else { return };
                wire = Some(Box::new(secure));
                continue;
            }
            let carrier: &mut dyn Wire = match (&mut wire, &mut plain) {
                (Some(wire), _) => wire,
                (None, Some(plain)) => plain,
                (None, None) => return,
            };
            match self.act(carrier, act).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => return self.seen.lock().unwrap().faults.push(fault),
            }
        }
    }

    /// Whether the script goes on.
    #[allow(clippy::cognitive_complexity, reason = "one arm an act; each is a few plain lines")]
    async fn act(&mut self, wire: &mut dyn Wire, act: Act) -> Result<bool, String> {
        match act {
            Act::Say(text) => {
                let text = format!("{}\r\n", text.replace('\n', "\r\n"));
                let _ = wire.write_all(text.as_bytes()).await;
                let _ = wire.flush().await;
            }
            Act::Raw(octets) => {
                let _ = wire.write_all(&octets).await;
                let _ = wire.flush().await;
            }
            Act::Hear(expected) => {
                let line = self.line(wire).await.map_err(|why| format!("awaiting {expected}: {why}"))?;
                let fits = expected.strip_suffix('*').map_or(line == expected, |head| line.starts_with(head));
                if !fits {
                    return Err(format!("expected {expected:?}, got {line:?}"));
                }
            }
            Act::Group(lines) => {
                let expected: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
                let mut octets = vec![0; 65536];
                let read = wire.read(&mut octets).await.unwrap_or(0);
                let got = String::from_utf8_lossy(&octets[..read]).into_owned();
                if got != expected {
                    return Err(format!("expected the group {expected:?} in one write, got {got:?}"));
                }
            }
            Act::Body => {
                let body = self.body(wire).await?;
                self.seen.lock().unwrap().bodies.push(body);
                self.heard.send_modify(|heard| *heard += 1);
            }
            Act::Hangup => {
                if let Ok(line) = self.line(wire).await {
                    return Err(format!("expected nothing more, got {line:?}"));
                }
            }
            Act::Garble => {
                let _ = wire.read(&mut vec![0; 16384]).await;
                let _ = wire.write_all(b"what?\r\n").await;
            }
            Act::Reset => return Ok(false),
            Act::Silence => {
                let mut octets = vec![0; 4096];
                while wire.read(&mut octets).await.unwrap_or(0) > 0 {}
            }
            Act::Tls => {}
        }
        Ok(true)
    }

    async fn line(&mut self, wire: &mut dyn Wire) -> Result<String, String> {
        let line = self.until(wire, b"\r\n").await?;
        let line = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
        self.seen.lock().unwrap().lines.push(line.clone());
        Ok(line)
    }

    /// As it came, stuffed and with its end.
    async fn body(&mut self, wire: &mut dyn Wire) -> Result<Vec<u8>, String> {
        if self.buffer.starts_with(b".\r\n") {
            self.buffer.drain(..3);
            return Ok(b".\r\n".to_vec());
        }
        self.until(wire, b"\r\n.\r\n").await
    }

    async fn until(&mut self, wire: &mut dyn Wire, end: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            let mut octets = vec![0; 16384];
            let read = wire.read(&mut octets).await.map_err(|error| error.to_string())?;
            if read == 0 {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
            self.buffer.extend_from_slice(&octets[..read]);
        }
    }
}

pub fn loopback(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}
