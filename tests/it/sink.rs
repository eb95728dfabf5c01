//! An exchanger in threads of its own, for tests of the real program: it counts what it takes by Subject, and its answer to
//! the final dot can be kept back.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    heard: Receiver<String>,
}

struct Shared {
    taken: Mutex<HashMap<String, usize>>,
    held: Mutex<bool>,
    released: Condvar,
    counted: Condvar,
    news: Mutex<Sender<String>>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (news, heard) = channel();
        let shared = Arc::new(Shared {
            taken: Mutex::default(),
            held: Mutex::new(false),
            released: Condvar::new(),
            counted: Condvar::new(),
            news: Mutex::new(news),
        });
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                // A relay that goes away ends the conversation: that is what the tests are about.
                std::thread::spawn(move || state.converse(stream));
            }
        });
        Self { address, shared, heard }
    }

    /// From now on messages are heard and not answered.
    pub fn hold(&self) {
        *self.shared.held.lock().unwrap() = true;
    }

    /// Answers what waits, and all that comes.
    pub fn release(&self) {
        *self.shared.held.lock().unwrap() = false;
        self.shared.released.notify_all();
    }

    /// The Subject of the next message that was heard to its final dot.
    pub fn next(&self) -> String {
        self.heard.recv_timeout(Duration::from_secs(60)).expect("nothing arrives")
    }

    /// Waits until so many were answered with 250.
    pub fn wait_until_taken(&self, count: usize) {
        let taken = self.shared.taken.lock().unwrap();
        let short = |taken: &mut HashMap<String, usize>| taken.values().sum::<usize>() < count;
        let (taken, late) =
            self.shared.counted.wait_timeout_while(taken, Duration::from_secs(60), short).unwrap();
        assert!(!late.timed_out(), "only {} were taken", taken.len());
    }

    /// How often each was answered with 250.
    pub fn taken(&self) -> HashMap<String, usize> {
        self.shared.taken.lock().unwrap().clone()
    }
}

impl Shared {
    fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut out = stream.try_clone()?;
        let mut lines = BufReader::new(stream);
        out.write_all(b"220 sink ESMTP\r\n")?;
        let mut line = String::new();
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.get(..4).unwrap_or("") {
                "EHLO" => out.write_all(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")?,
                "DATA" => {
                    out.write_all(b"354 go\r\n")?;
                    self.take(&mut lines)?;
                    out.write_all(b"250 2.0.0 taken\r\n")?;
                }
                "QUIT" => return out.write_all(b"221 bye\r\n"),
                _ => out.write_all(b"250 2.0.0 ok\r\n")?,
            }
        }
    }

    /// Reads a message, tells of it, and counts it once it may be answered.
    fn take(&self, lines: &mut impl BufRead) -> std::io::Result<()> {
        let (mut subject, mut line) = (String::new(), String::new());
        while line != ".\r\n" {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.strip_prefix("Subject: ") {
                value.trim().clone_into(&mut subject);
            }
        }
        let _ = self.news.lock().unwrap().send(subject.clone());
        let held = self.held.lock().unwrap();
        drop(self.released.wait_while(held, |held| *held).unwrap());
        *self.taken.lock().unwrap().entry(subject).or_default() += 1;
        self.counted.notify_all();
        Ok(())
    }
}
