//! CM18: clients that go away at every point of a session, by FIN and by RST, in clear text, after STARTTLS and under
//! implicit TLS. Before the final dot nothing is queued; after it the message is as safe as if its 250 had been read.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::dialogue::Options;
use crate::front::{Front, line};

/// Where a client goes away.
struct Point {
    why: &'static str,
    /// Commands whose replies it reads, up to the one that begins with `until`.
    before: &'static str,
    until: &'static str,
    /// What it sends before it goes, without waiting for an answer.
    last: &'static str,
    queued: bool,
}

const HELLO: &str = "EHLO c\r\n";
const MAIL: &str = "EHLO c\r\nMAIL FROM:<a@t.example>\r\n";
const RCPT: &str = "EHLO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\n";
const DATA: &str = "EHLO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n";
const CHUNK: &str =
    "EHLO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\nBDAT 27\r\nFrom: a@t.example\r\n\r\nbody\r\n";

fn points() -> Vec<Point> {
    let lost = |why, before, until, last| Point { why, before, until, last, queued: false };
    let kept = |why, before, until, last| Point { why, before, until, last, queued: true };
    vec![
        lost("after the greeting", "", "", ""),
        lost("within EHLO", "", "", "EHL"),
        lost("after EHLO", "", "", HELLO),
        lost("within MAIL", HELLO, "250 ", "MAIL FROM:<a@t.ex"),
        lost("after MAIL", HELLO, "250 ", "MAIL FROM:<a@t.example>\r\n"),
        lost("after RCPT", MAIL, "250 2.1.0", "RCPT TO:<b@c.test>\r\n"),
        lost("after DATA", RCPT, "250 2.1.5", "DATA\r\n"),
        lost("after the 354", DATA, "354 ", ""),
        lost("within the header", DATA, "354 ", "From: a@t.exam"),
        lost("within a line of the body", DATA, "354 ", "From: a@t.example\r\n\r\nbo"),
        lost("after a line of the body", DATA, "354 ", "From: a@t.example\r\n\r\nbody\r\n"),
        lost("after a dot without its line end", DATA, "354 ", "From: a@t.example\r\n\r\nbody\r\n."),
        lost("within the end of data", DATA, "354 ", "From: a@t.example\r\n\r\nbody\r\n.\r"),
        lost("within a chunk", RCPT, "250 2.1.5", "BDAT 500\r\nFrom: a@t.example\r\n"),
        lost("after a chunk, not the last", RCPT, "250 2.1.5", "BDAT 19\r\nFrom: a@t.example\r\n"),
        lost("between two chunks", CHUNK, "250 2.0.0 27 octets", ""),
        lost("within the last chunk", CHUNK, "250 2.0.0 27 octets", "BDAT 500 LAST\r\nmore\r\n"),
        kept("after the final dot", DATA, "354 ", "From: a@t.example\r\n\r\nbody\r\n.\r\n"),
        kept("after the last chunk", RCPT, "250 2.1.5", "BDAT 21 LAST\r\nFrom: a@t.example\r\n\r\n"),
        kept("after an empty last chunk", CHUNK, "250 2.0.0 27 octets", "BDAT 0 LAST\r\n"),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layer {
    Clear,
    Starttls,
    Implicit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Fin,
    Reset,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A session of this kind, greeted; and its socket.
fn open(front: &Front, layer: Layer) -> (BufReader<Box<dyn Wire>>, TcpStream) {
    let (stream, greeted): (TcpStream, bool) = match layer {
        Layer::Clear => (front.connect(0), true),
        Layer::Starttls => (front.up_to_starttls(), false),
        Layer::Implicit => (front.connect(1), true),
    };
    let socket = stream.try_clone().unwrap();
    let wire: Box<dyn Wire> = match layer {
        Layer::Clear => Box::new(stream),
        Layer::Starttls | Layer::Implicit => {
            let mut secure = front.secure(stream);
            while secure.conn.is_handshaking() {
                secure.conn.complete_io(&mut secure.sock).unwrap();
            }
            Box::new(secure)
        }
    };
    let mut wire = BufReader::new(wire);
    if greeted {
        assert!(line(&mut wire).starts_with("220 "));
    }
    (wire, socket)
}

/// Goes away by a FIN, and hears what is still said; or by a RST, and hears nothing.
fn leave(mut wire: impl Read, socket: &TcpStream, way: Way) -> String {
    let mut heard = Vec::new();
    match way {
        Way::Fin => {
            socket.shutdown(Shutdown::Write).unwrap();
            // Under TLS a close without a goodbye comes as an error.
            let _ = wire.read_to_end(&mut heard);
        }
        // The RST goes out when the last handle is dropped.
        Way::Reset => {
            socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// The whole visit; what was heard at its end.
fn visit(front: &Front, layer: Layer, way: Way, point: &Point) -> String {
    let (mut wire, socket) = open(front, layer);
    wire.get_mut().write_all(point.before.as_bytes()).unwrap();
    while !point.before.is_empty() && !line(&mut wire).starts_with(point.until) {}
    wire.get_mut().write_all(point.last.as_bytes()).unwrap();
    wire.get_mut().flush().unwrap();
    leave(wire, &socket, way)
}

#[test]
fn cm18_nothing_is_queued_before_the_dot_and_everything_after_it() {
    let front = Front::open(&Options::default(), |_| {});
    let mut queued = 0;
    for layer in [Layer::Clear, Layer::Starttls, Layer::Implicit] {
        for way in [Way::Fin, Way::Reset] {
            for point in points() {
                let heard = visit(&front, layer, way, &point);
                front.quiet();
                queued += u64::from(point.queued);
                let place = format!("{}, {layer:?}, {way:?}: {heard}", point.why);
                assert_eq!(front.queued(), queued, "{place}");
                assert_eq!(front.shared.memory.held(), 0, "{place}");
                if way == Way::Fin {
                    assert_eq!(heard.contains("250 2.0.0 Ok: queued as "), point.queued, "{place}");
                }
            }
        }
    }
    let log = front.log();
    let received = log.lines().filter(|line| line.contains(r#""type":"received""#)).count();
    assert_eq!(received as u64, queued, "each is in the mail log, and nothing else is");
    assert!(!log.contains(r#""type":"rejected""#), "nobody is blamed: {log}");
}

/// A client that goes away in a TLS handshake, or before the greeting.
#[test]
fn cm18_a_handshake_that_is_left_leaves_nothing_behind() {
    let front = Front::open(&Options::default(), |_| {});
    let hello: &[u8] = &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    for way in [Way::Fin, Way::Reset] {
        for (at, sent) in [(0, b"".as_slice()), (1, b""), (1, hello)] {
            let mut stream = front.connect(at);
            stream.write_all(sent).unwrap();
            leave(&stream, &stream, way);
        }
        let mut stream = front.up_to_starttls();
        stream.write_all(hello).unwrap();
        leave(&stream, &stream, way);
    }
    front.quiet();
    assert_eq!(front.queued(), 0);
}

/// What an acknowledged message and one whose client was gone look like afterwards is the same.
#[test]
fn cm18_a_message_whose_client_left_is_the_one_that_would_have_got_a_250() {
    let front = Front::open(&Options::default(), |_| {});
    let dot = points().into_iter().find(|point| point.why == "after the final dot").unwrap();
    for way in [Way::Fin, Way::Reset] {
        visit(&front, Layer::Clear, way, &dot);
        front.quiet();
    }
    let log = front.log();
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second] = events.as_slice() else { panic!("{log}") };
    assert_eq!(kept(first), kept(second));
}

/// An event without what is each message's own.
fn kept(event: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let mut event = event.as_object().unwrap().clone();
    for own in ["id", "ts", "message_id", "seconds", "ms"] {
        event.remove(own);
    }
    event
}
