//! An upstream that takes everything with as little ado as a server can, and counts it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Sink {
    pub address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Sink {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = Arc::clone(&counted);
                // A relay that goes away ends the conversation.
                std::thread::spawn(move || converse(stream, &counted));
            }
        });
        Self { address, taken }
    }

    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

fn converse(stream: TcpStream, taken: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut lines = BufReader::with_capacity(64 << 10, stream);
    out.write_all(b"220 sink ESMTP\r\n")?;
    let (mut line, mut replies) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default() {
            b"EHLO" => replies.extend_from_slice(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"),
            b"DATA" => {
                replies.extend_from_slice(b"354 go\r\n");
                out.write_all(&replies)?;
                replies.clear();
                while line != b".\r\n" {
                    line.clear();
                    if lines.read_until(b'\n', &mut line)? == 0 {
                        return Ok(());
                    }
                }
                taken.fetch_add(1, Ordering::Relaxed);
                replies.extend_from_slice(b"250 2.0.0 taken\r\n");
            }
            b"QUIT" => return out.write_all(b"221 bye\r\n"),
            _ => replies.extend_from_slice(b"250 ok\r\n"),
        }
        // A group's replies go out together, as they came.
        if lines.buffer().is_empty() {
            out.write_all(&replies)?;
            replies.clear();
        }
    }
}
