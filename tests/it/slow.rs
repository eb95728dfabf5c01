//! Clients that drip and clients that do not read, on real sockets: each is let go at its deadline, and costs no more memory
//! than one that behaves (CM15, CM17).

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use waxseal::session::Waits;

use crate::dialogue::Options;
use crate::front::{Front, line};

/// Short, so that the test need not wait, and long enough for a busy machine to let the client send; what ends the wait is the
/// server's answer.
const SHORT: Duration = Duration::from_secs(2);
/// Between two octets of a client that drips: many within `SHORT`.
const DRIP: Duration = Duration::from_millis(20);
const TO_DATA: &[u8] = b"HELO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n";

/// What came of sending one octet after the other.
struct Dripped {
    /// What the server said at last.
    said: String,
    /// How many octets went before.
    sent: usize,
    /// The longest time from one octet to the next: more than `DRIP` where the machine kept the client from sending.
    gap: Duration,
}

/// Sends one octet after the other, until the server says something.
fn drip(reader: &mut BufReader<TcpStream>, octets: impl Iterator<Item = u8>) -> Dripped {
    let (mut sent, mut gap, mut last) = (0, Duration::ZERO, Instant::now());
    for octet in octets {
        reader.get_mut().write_all(&[octet]).unwrap();
        sent += 1;
        gap = gap.max(last.elapsed());
        last = Instant::now();
        reader.get_ref().set_read_timeout(Some(DRIP)).unwrap();
        match reader.get_ref().peek(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            heard => {
                heard.unwrap();
                break;
            }
        }
    }
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    Dripped { said: line(reader), sent, gap }
}

/// Octets of a body without end.
fn body() -> impl Iterator<Item = u8> {
    b"From: a@t.example\r\n\r\n".iter().copied().chain(b"x\r\n".iter().copied().cycle())
}

/// CM15: the deadline of a command is for the whole line; another octet does not move it.
#[test]
fn a_command_that_drips_is_let_go_at_the_lines_deadline() {
    let front = Front::open(&Options::default(), |config| config.limits.command_timeout = SHORT);
    let mut reader = BufReader::new(front.connect(0));
    assert!(line(&mut reader).starts_with("220"));
    let Dripped { said, sent, .. } =
        drip(&mut reader, b"NOOP".iter().copied().chain(std::iter::repeat(b' ')));
    assert!(said.starts_with("421 4.4.2 "), "{said}");
    assert!(sent > 1, "it was still sending");
    assert_eq!(line(&mut reader), "");
}

/// CM15: a body below the minimum rate is given up although octets still come; nothing is queued.
#[test]
fn a_body_below_the_minimum_rate_is_given_up() {
    let waits = Waits { rate: SHORT, ..Waits::default() };
    let front = Front::open_with(&Options::default(), waits, |config| config.limits.minimum_rate = 5000);
    let mut reader = BufReader::new(front.connect(0));
    reader.get_mut().write_all(TO_DATA).unwrap();
    while !line(&mut reader).starts_with("354") {}
    let Dripped { said, sent, .. } = drip(&mut reader, body());
    assert!(said.starts_with("421 4.4.2 "), "{said}");
    assert!(sent > 1, "it was still sending");
    assert_eq!(line(&mut reader), "");
    assert_eq!(front.queued(), 0);
}

/// CM15: one that is slow but keeps up with the minimum is left alone, over several of the windows that are looked at.
#[test]
fn a_body_at_the_minimum_rate_is_taken() {
    let window = Duration::from_millis(500);
    let waits = Waits { rate: window, ..Waits::default() };
    // Far below what the drip brings, so that a busy machine does not make it too slow.
    let front = Front::open_with(&Options::default(), waits, |config| config.limits.minimum_rate = 2);
    for _ in 0..20 {
        let mut reader = BufReader::new(front.connect(0));
        reader.get_mut().write_all(TO_DATA).unwrap();
        while !line(&mut reader).starts_with("354") {}
        let octets = body().take(60).chain(b"\r\n.\r\n".iter().copied());
        let Dripped { said, gap, .. } = drip(&mut reader, octets);
        if said.starts_with("250 2.0.0 Ok: queued as ") {
            assert_eq!(front.queued(), 1);
            return;
        }
        assert!(gap > window / 2, "{said}, though no octet came later than {gap:?} after the one before");
    }
    panic!("this machine never let the client send as it meant to");
}

/// A connection whose replies soon find no room: the window is as small as the kernel makes it, and so are the segments, by
/// which the other side measures its own buffer.
fn narrow(to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// Replies to this many recipients find no room in the buffers between two sockets (`narrow` leaves about 100 KiB).
const RECIPIENTS: usize = 20_000;
/// What the kernel may have taken from the client for a server that no longer reads.
const TAKEN_MAX: usize = 8 << 20;

/// CM17: a client that sends commands and never reads a reply is closed at the write deadline. Until then the server reads
/// nothing more from it, so what it holds in memory does not grow with what is sent.
#[test]
fn cm17_a_client_that_reads_nothing_is_closed_at_the_write_deadline() {
    let waits = Waits { write: SHORT, ..Waits::default() };
    let front = Front::open_with(&Options::default(), waits, |config| {
        config.limits.recipients = RECIPIENTS;
    });
    let mut stream = narrow(front.addresses[0]);
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(b"EHLO c\r\nMAIL FROM:<a@t.example>\r\n").unwrap();
    let mut sent = 0;
    let closed = (0..).find_map(|n| {
        let rcpt = format!("RCPT TO:<somebody-{n}@c.test>\r\n");
        sent += rcpt.len();
        stream.write_all(rcpt.as_bytes()).err()
    });
    let kind = closed.unwrap().kind();
    assert!(
        matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
        "closed by the server, not given up by the client: {kind}"
    );
    assert!(sent < TAKEN_MAX, "{sent} octets went to a server that could not answer");
    front.quiet();
    assert_eq!(front.queued(), 0);
    // The next client is served as ever.
    let mut next = BufReader::new(front.connect(0));
    assert!(line(&mut next).starts_with("220"));
}

/// CM17 under TLS: the same deadline holds where rustls stands between.
#[test]
fn cm17_the_write_deadline_holds_under_tls() {
    let waits = Waits { write: SHORT, ..Waits::default() };
    let front = Front::open_with(&Options::default(), waits, |config| {
        config.limits.recipients = RECIPIENTS;
    });
    let mut stream = front.secure(narrow(front.addresses[1]));
    stream.sock.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    // The handshake, and the greeting.
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ");
    stream.write_all(b"EHLO c\r\nMAIL FROM:<a@t.example>\r\n").unwrap();
    let mut sent = 0;
    let closed = (0..).find_map(|n| {
        let rcpt = format!("RCPT TO:<somebody-{n}@c.test>\r\n");
        sent += rcpt.len();
        stream.write_all(rcpt.as_bytes()).err()
    });
    let kind = closed.unwrap().kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    assert!(sent < TAKEN_MAX, "{sent}");
    front.quiet();
    assert_eq!(front.queued(), 0);
}
