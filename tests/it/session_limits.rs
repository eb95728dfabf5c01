//! Bounds of time and room on real sockets: who is slow, silent or one too many is told so, and nothing is queued.

use std::io::{BufReader, Read as _, Write as _};
use std::time::Duration;

use crate::dialogue::Options;
use crate::front::{Front, line};

/// Short, so that the test need not wait; the answer itself is the event that is waited for.
const SHORT: Duration = Duration::from_millis(200);

/// CM15: a client that says nothing is told why it is hung up on.
#[test]
fn a_silent_client_is_let_go_at_the_command_deadline() {
    let front = Front::open(&Options::default(), |config| config.limits.command_timeout = SHORT);
    let mut reader = BufReader::new(front.connect(0));
    assert!(line(&mut reader).starts_with("220"));
    assert!(line(&mut reader).starts_with("421 4.4.2 "));
    assert_eq!(line(&mut reader), "");
}

/// CM15: one that stops in the middle of a message leaves nothing behind.
#[test]
fn a_message_that_stops_is_given_up_and_not_queued() {
    let front = Front::open(&Options::default(), |config| config.limits.data_timeout = SHORT);
    let mut reader = BufReader::new(front.connect(0));
    let start = b"HELO c\r\nMAIL FROM:<a@t.example>\r\nRCPT TO:<b@c.test>\r\nDATA\r\n";
    reader.get_mut().write_all(start).unwrap();
    while !line(&mut reader).starts_with("354") {}
    reader.get_mut().write_all(b"From: a@t.example\r\n").unwrap();
    assert!(line(&mut reader).starts_with("421 4.4.2 "));
    assert_eq!(line(&mut reader), "");
    assert_eq!(front.queued(), 0);
}

/// TL5: a handshake that stalls is closed.
#[test]
fn a_handshake_that_stalls_is_closed() {
    let front = Front::open(&Options::default(), |config| config.limits.handshake_timeout = SHORT);
    let mut stream = front.connect(1);
    // The beginning of a TLS record that never comes.
    stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"220"), "{rest:?}");
}

/// CM16: one connection too many gets an answer.
#[test]
fn one_session_too_many_is_told_so() {
    let front = Front::open(&Options::default(), |config| config.limits.connections = 1);
    let mut first = BufReader::new(front.connect(0));
    assert!(line(&mut first).starts_with("220"));
    let mut second = BufReader::new(front.connect(0));
    assert!(line(&mut second).starts_with("421 4.3.2 "));
    first.get_mut().write_all(b"QUIT\r\n").unwrap();
    assert!(line(&mut first).starts_with("221"));
    assert_eq!(line(&mut first), "");
}

/// FA1: below the disk reserve MAIL is refused, so that no body travels for nothing.
#[test]
fn without_room_mail_is_put_off_at_mail() {
    let front = Front::open(&Options::default(), |config| config.queue.disk_reserve = u64::MAX);
    let mut reader = BufReader::new(front.connect(0));
    reader.get_mut().write_all(b"HELO c\r\nMAIL FROM:<a@t.example>\r\nQUIT\r\n").unwrap();
    let said: Vec<String> =
        std::iter::from_fn(|| Some(line(&mut reader)).filter(|line| !line.is_empty())).collect();
    assert!(said.iter().any(|line| line.starts_with("452 4.3.1 ")), "{said:?}");
}
