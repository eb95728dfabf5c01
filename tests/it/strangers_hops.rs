//! Debian's Postfix, Exim and OpenSMTPD as next hops: each takes five hundred mixed messages from the deliverer, and what it
//! passes on is what was sent, octet for octet, behind the trace fields that it puts before it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use waxseal::config::Config;
use waxseal::deliver::Deliverer;
use waxseal::dns::Resolver;
use waxseal::mail::attempt::{Decided, Fate};
use waxseal::mail::envelope::{Notify, Ret};
use waxseal::mail::id::Id;
use waxseal::mail::message::Message;
use waxseal::mail::time::Time;
use waxseal::sandbox::zone::Zone;
use waxseal::tenant::Route;

use crate::deliver::{job, message};
use crate::hops::{Hop, Software};
use crate::postfix::{Postfix, Taking};
use crate::relay::free_address;
use crate::strangers;

const COUNT: usize = 500;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

/// A message as it came out on the far side, and to whom.
struct Arrival {
    rcpts: usize,
    octets: Vec<u8>,
}

/// Takes whatever a hop passes on, by whatever it may need.
async fn far_side() -> (SocketAddr, mpsc::UnboundedReceiver<Arrival>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, arrivals) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let _ = take(stream, tell).await;
            });
        }
    });
    (address, arrivals)
}

async fn take(stream: TcpStream, tell: mpsc::UnboundedSender<Arrival>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"220 far.test ESMTP\r\n").await?;
    let (mut line, mut rcpts) = (Vec::new(), 0);
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match &*verb {
            b"EHLO" => {
                b"250-far.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-PIPELINING\r\n250 SIZE\r\n"
            }
            b"DATA" => {
                stream.get_mut().write_all(b"354 go\r\n").await?;
                let octets = body(&mut stream).await?;
                let _ = tell.send(Arrival { rcpts: std::mem::take(&mut rcpts), octets });
                b"250 2.0.0 taken\r\n"
            }
            b"RCPT" => {
                rcpts += 1;
                b"250 2.1.5 ok\r\n"
            }
            b"QUIT" => return stream.get_mut().write_all(b"221 2.0.0 bye\r\n").await,
            _ => b"250 2.0.0 ok\r\n",
        };
        stream.get_mut().write_all(reply).await?;
    }
}

/// A message without its dot-stuffing.
async fn body<R: AsyncReadExt + AsyncBufReadExt + Unpin>(stream: &mut R) -> std::io::Result<Vec<u8>> {
    let (mut octets, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match &*line {
            b".\r\n" => return Ok(octets),
            [b'.', rest @ ..] => octets.extend_from_slice(rest),
            plain => octets.extend_from_slice(plain),
        }
    }
}

/// What a hop can carry.
#[derive(Clone, Copy)]
struct Offers {
    smtputf8: bool,
}

/// The message of this number: its head says which it is, its body is what a careless hop would change.
fn mixed(n: usize, rng: &mut StdRng, offers: Offers) -> Message {
    let utf8 = offers.smtputf8 && rng.random_range(0..8) == 0;
    let eight_bit = utf8 || rng.random_range(0..3) == 0;
    let sender = if utf8 { "ärzte@acme.test" } else { "a@acme.test" };
    let subject = if utf8 { "Grüße" } else { "greetings" };
    let mut octets = format!(
        "From: {sender}\r\nTo: undisclosed-recipients:;\r\nSubject: {subject}\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <{n}@acme.test>\r\nX-Number: {n}\r\nX-Folded: one\r\n\ttwo  \r\n three\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    for _ in 0..rng.random_range(0..60) {
        line(&mut octets, rng, eight_bit);
    }
    let rcpts: Vec<String> = (0..rng.random_range(1..6)).map(|one| format!("r{n}-{one}@dest.test")).collect();
    let rcpts: Vec<&str> = rcpts.iter().map(String::as_str).collect();
    let mut message = message(&rcpts, &octets);
    let facts = &mut message.facts;
    facts.id = Id::new(Time(1), n as u128);
    facts.needs.smtputf8 = utf8;
    facts.needs.eight_bit = eight_bit;
    if rng.random_range(0..4) == 0 {
        facts.envelope.envid = Some(format!("envelope {n}+="));
        facts.envelope.ret = Some(Ret::Hdrs);
        let failure_only = Notify { success: false, failure: true, delay: false, stated: true };
        facts.envelope.rcpts.iter_mut().for_each(|rcpt| rcpt.notify = failure_only);
    }
    message
}

/// One line: dots, blanks at the end, 8-bit, none at all, or as long as may be.
fn line(octets: &mut Vec<u8>, rng: &mut StdRng, eight_bit: bool) {
    match rng.random_range(0..8) {
        0 => octets.extend_from_slice(b"."),
        1 => octets.extend_from_slice(b"..leading dots"),
        2 => octets.extend_from_slice(b"blanks at the end \t "),
        3 => {}
        4 => octets.extend(std::iter::repeat_n(b'x', 998)),
        5 if eight_bit => octets.extend_from_slice("zwölf €, ☃ und ein Schnee".as_bytes()),
        6 => octets.extend_from_slice(b"From the start of a line, as mailboxes quote it"),
        _ => {
            let length = rng.random_range(0..400);
            octets.extend((0..length).map(|_| rng.random_range(b' '..=b'~')));
        }
    }
    octets.extend_from_slice(b"\r\n");
}

/// Sends them all to the hop at this address, eight at a time; every recipient is taken.
async fn send(hop: SocketAddr, messages: Vec<Message>) {
    let records = format!("dest.test. 60 IN MX 10 hop.test.\nhop.test. 60 IN A {}\n", hop.ip());
    let zone = Zone::start(&records).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
    config.dns.servers = vec![zone.address()];
    config.delivery.port = hop.port();
    config.delivery.allow_private_destinations = true;
    config.delivery.concurrency_per_destination = 8;
    let resolver = Resolver::new(&config.dns).unwrap();
    let deliverer = Arc::new(Deliverer::new(&config, resolver, Vec::new(), Default::default()));
    let (messages, left) = (Arc::new(std::sync::Mutex::new(messages)), Arc::new(tokio::sync::Notify::new()));
    let senders = (0..8).map(|_| {
        let (deliverer, messages, left) = (Arc::clone(&deliverer), Arc::clone(&messages), Arc::clone(&left));
        tokio::spawn(async move {
            loop {
                let Some(message) = messages.lock().unwrap().pop() else { return };
                one(&deliverer, &left, message).await;
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    deliverer.close_idle().await;
}

/// Again whenever another attempt has left room, as the scheduler does.
async fn one(deliverer: &Deliverer, left: &tokio::sync::Notify, message: Message) {
    let job = job(message, &Arc::new(Route::Mx));
    loop {
        let mut room = pin!(left.notified());
        room.as_mut().enable();
        let mut decided: Vec<Decided> = Vec::new();
        let mut witness = |more: Vec<Decided>| decided.extend(more);
        deliverer.attempt(&job, &mut witness).await;
        if !decided.is_empty() {
            left.notify_waiters();
            let refused: Vec<&Decided> = decided.iter().filter(|one| one.fate != Fate::Delivered).collect();
            assert!(refused.is_empty(), "{refused:?}");
            return;
        }
        tokio::time::timeout(PATIENCE, room).await.expect("its site never has room");
    }
}

/// Everything that was sent comes out: by number, how many recipients it reached, and the octets compared.
async fn compare(
    sent: &[Message],
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
    said: impl Fn() -> String,
) {
    let mut open: HashMap<usize, (usize, &Message)> = sent
        .iter()
        .enumerate()
        .map(|(n, message)| (n, (message.facts.envelope.rcpts.len(), message)))
        .collect();
    while !open.is_empty() {
        let next = tokio::time::timeout(PATIENCE, arrivals.recv()).await;
        let arrival = next.unwrap_or_else(|_| panic!("{} never came:\n{}", open.len(), said())).unwrap();
        let text = String::from_utf8_lossy(&arrival.octets);
        let number = text.lines().find_map(|line| line.strip_prefix("X-Number: ")?.parse().ok());
        let number: usize = number.unwrap_or_else(|| panic!("what is this?\n{text}"));
        let (left, message) = open.remove(&number).unwrap_or_else(|| panic!("{number} came too often"));
        assert!(
            arrival.octets.ends_with(&message.body),
            "{number} was changed: {text:?}\n{:?}",
            message.body
        );
        let trace = &arrival.octets[..arrival.octets.len() - message.body.len()];
        assert!(trace.starts_with(b"Received: "), "{:?}", String::from_utf8_lossy(trace));
        if left > arrival.rcpts {
            open.insert(number, (left - arrival.rcpts, message));
        }
    }
}

async fn through(
    offers: Offers,
    start: impl FnOnce(&Path, SocketAddr) -> (SocketAddr, Box<dyn Fn() -> String>),
) {
    let (onward, arrivals) = far_side().await;
    let dir = tempfile::tempdir().unwrap();
    let (hop, said) = start(dir.path(), onward);
    let mut rng = StdRng::seed_from_u64(4);
    let messages: Vec<Message> = (0..COUNT).map(|n| mixed(n, &mut rng, offers)).collect();
    send(hop, messages.clone()).await;
    compare(&messages, arrivals, said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postfix_passes_on_what_it_was_given() {
    if strangers::absent("postfix") {
        return;
    }
    through(Offers { smtputf8: true }, |dir, onward| {
        let postfix = Postfix::start(dir, free_address(), Taking::Exchanger, onward);
        (postfix.address, Box::new(move || postfix.log()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exim_passes_on_what_it_was_given() {
    if strangers::absent("exim") {
        return;
    }
    through(Offers { smtputf8: true }, |dir, onward| {
        let exim = Hop::start(Software::Exim, dir, free_address(), onward);
        (exim.address, Box::new(move || exim.log()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn opensmtpd_passes_on_what_it_was_given() {
    if strangers::absent("opensmtpd") {
        return;
    }
    through(Offers { smtputf8: false }, |dir, onward| {
        let smtpd = Hop::start(Software::OpenSmtpd, dir, free_address(), onward);
        (smtpd.address, Box::new(move || smtpd.log()))
    })
    .await;
}
