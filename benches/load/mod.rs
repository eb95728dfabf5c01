//! What the benches under load share: a relay of the real program, clients by the thousand, a sink, and what the kernel says of a
//! process.

pub mod client;
pub mod process;
pub mod sink;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::{Client, Said, Way};
pub use process::{kib, processor};

use crate::relay::{Layout, Relay, Running};
use sink::Sink;

/// The real program, and where its mail goes.
pub struct Scene {
    pub relay: Relay,
    pub daemon: Running,
    pub sink: Sink,
    pub dir: tempfile::TempDir,
}

impl Scene {
    /// One listener of this kind, on the disk that `target` is on. Every address of 127.0.1.0/24 may send.
    pub fn open(tls: &'static [&'static str], limits: &str) -> Self {
        let dir = tempfile::tempdir_in("target").unwrap();
        let sink = Sink::start();
        let tables = format!("[limits]\n{limits}\n");
        let layout = Layout { listeners: tls, tables, ..Layout::upstream(sink.address) };
        let relay = Relay::lay_out(&dir.path().canonicalize().unwrap(), &layout);
        let tenant = dir.path().join("config/tenants/bench.toml");
        let text = std::fs::read_to_string(&tenant).unwrap().replace("127.0.0.1/32", "127.0.1.0/24");
        std::fs::write(&tenant, text).unwrap();
        let daemon = relay.start();
        Self { relay, daemon, sink, dir }
    }

    /// The way a client comes in.
    pub fn way(&self, tls: bool) -> Way {
        let certificate = tls.then_some(&*self.relay.certificate);
        Way::new(self.relay.address(), certificate)
    }

    /// Processor time that the relay has used.
    pub fn processor(&self) -> Duration {
        processor(self.daemon.id())
    }

    pub fn resident(&self) -> u64 {
        kib(self.daemon.id(), "VmRSS:")
    }
}

/// Octets of all files below.
pub fn octets(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => octets(&entry.path()),
        Ok(meta) => meta.len(),
        // Removed since it was listed.
        Err(_) => 0,
    });
    each.sum()
}

/// A message of about this size, with CRLF everywhere and no dots to stuff.
pub fn message(size: usize) -> Arc<[u8]> {
    let head = "From: a@bench.test\r\nTo: b@dest.test\r\nSubject: load\r\n\r\n";
    let line = "One line of a template, as long as lines usually are in a mail, and its end.\r\n";
    let mut text = head.to_owned();
    while text.len() + line.len() <= size {
        text += line;
    }
    text.into_bytes().into()
}

/// What came of what was offered.
#[derive(Debug, Default)]
pub struct Tally {
    pub offered: AtomicU64,
    pub taken: AtomicU64,
    /// Told to come again: 421, 45x.
    pub later: AtomicU64,
    /// Anything else: a connection that broke, another reply.
    pub other: AtomicU64,
}

impl Tally {
    pub fn count(&self, said: &std::io::Result<Said>) {
        let which = match said {
            Ok(Said::Taken) => &self.taken,
            Ok(Said::Later) => &self.later,
            Ok(Said::Else(_)) | Err(_) => &self.other,
        };
        which.fetch_add(1, Ordering::Relaxed);
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// How the sessions of a load behave.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub sessions: usize,
    /// Whether each message comes on a connection of its own.
    pub each_its_own: bool,
    pub lasts: Duration,
}

/// What came of a load.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Messages taken a second.
    pub rate: f64,
    /// The relay's processor time a message, in milliseconds.
    pub cost: f64,
}

/// As many as it takes, one message after the other in each session.
pub async fn closed(scene: &Scene, load: Load, size: usize) -> Done {
    let (way, used) = (scene.way(false), scene.processor());
    let (tally, body) = (Arc::new(Tally::default()), message(size));
    let started = Instant::now();
    let until = started + load.lasts;
    let mut talking = tokio::task::JoinSet::new();
    for n in 0..load.sessions {
        let (way, tally, body) = (way.clone(), Arc::clone(&tally), Arc::clone(&body));
        talking.spawn(async move {
            let mut open: Option<Client> = None;
            while Instant::now() < until {
                let said = one(&way, n, &mut open, &body).await;
                if load.each_its_own || said.is_err() {
                    quit(open.take()).await;
                }
                tally.count(&said);
            }
            quit(open).await;
        });
    }
    talking.join_all().await;
    let (taken, used) = (tally.taken() as f64, scene.processor().saturating_sub(used));
    Done { rate: taken / started.elapsed().as_secs_f64(), cost: 1000.0 * used.as_secs_f64() / taken.max(1.0) }
}

/// One message, over the open session or a new one.
pub async fn one(way: &Way, n: usize, open: &mut Option<Client>, body: &[u8]) -> std::io::Result<Said> {
    if open.is_none() {
        match way.open(n).await? {
            Ok(client) => *open = Some(client),
            Err(said) => return Ok(said),
        }
    }
    match open {
        Some(client) => client.send(body).await,
        None => Err(std::io::ErrorKind::NotConnected.into()),
    }
}

pub async fn quit(client: Option<Client>) {
    if let Some(mut client) = client {
        let _ = client.say(b"QUIT\r\n").await;
    }
}
