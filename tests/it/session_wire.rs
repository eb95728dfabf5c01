//! The dialogues again, and what only sockets show, against real listeners with the real gate and admission: clear text,
//! STARTTLS and implicit TLS.

use std::io::{BufReader, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use waxseal::config::{CleartextAuth, ListenerTls};

use crate::dialogue::{Case, Options, cases, fits};
use crate::front::{Front, converse, line};

/// Longer conversations are not sent octet by octet here: the machine's test does that.
const SINGLE_MAX: usize = 2000;

/// A conversation that the case leaves open is ended by QUIT; one that closes by itself gets none.
fn play(front: &Front, case: &Case, layer: &str, size: usize) {
    let closes = case.replies.last().is_some_and(|line| line == "CLOSE");
    let mut sent = case.sent.clone();
    let mut expected: Vec<&str> = case.replies.iter().map(String::as_str).collect();
    if closes {
        expected.pop();
    } else {
        sent.extend(b"QUIT\r\n");
        expected.push("221 2.0.0 Bye");
    }
    let got = match layer {
        "clear" => converse(front.connect(0), &sent, size, true),
        "starttls" => converse(front.starttls(), &sent, size, false),
        _ => converse(front.secure(front.connect(1)), &sent, size, true),
    };
    let same =
        expected.len() == got.len() && expected.iter().zip(&got).all(|(pattern, line)| fits(pattern, line));
    assert!(
        same,
        "{} over {layer}, pieces of {size}\nexpected:\n  {}\ngot:\n  {}\n",
        case.title,
        expected.join("\n  "),
        got.join("\n  ")
    );
}

/// Rows that end in a message are admission's on the wire (it wants a From); the machine's test plays them.
#[test]
fn dialogues_hold_over_clear_text_starttls_and_implicit_tls() {
    let cases: Vec<_> =
        cases().into_iter().filter(|case| case.bodies.is_empty() && case.options.wire).collect();
    assert!(cases.len() > 45, "only {} cases", cases.len());
    for case in &cases {
        let guesses = case.replies.iter().any(|line| line.starts_with("535"));
        let mut front = Front::open(&case.options, |_| {});
        let sizes = [0, 1, 7].into_iter().filter(|size| *size != 1 || case.sent.len() <= SINGLE_MAX);
        for (size, layer) in sizes.flat_map(|size| layers(case).into_iter().map(move |layer| (size, layer))) {
            // The gate remembers guesses from one connection to the next; each run is to be the first.
            if guesses {
                front = Front::open(&case.options, |_| {});
            }
            play(&front, case, layer, size);
        }
        assert!(front.queued() == 0, "{}: nothing is queued without a 250", case.title);
    }
}

fn layers(case: &Case) -> Vec<&'static str> {
    let starttls = case.options.tls && case.options.listener == ListenerTls::Starttls;
    [(case.options.clear, "clear"), (starttls, "starttls"), (case.options.tls, "implicit")]
        .into_iter()
        .filter_map(|(holds, layer)| holds.then_some(layer))
        .collect()
}

const MESSAGE: &[u8] = b"MAIL FROM:<a@t.example> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@c.test>\r\nDATA\r\n\
    From: a@t.example\r\nTo: b@c.test\r\nSubject: s\r\n\r\nbody\r\n.\r\nQUIT\r\n";

fn by_login() -> Options {
    Options { network: false, ..Options::default() }
}

#[test]
fn mail_is_taken_by_all_three_methods() {
    let front = Front::open(&Options::default(), |_| {});
    let sent = [b"EHLO c\r\n", MESSAGE].concat();
    for got in [
        converse(front.connect(0), &sent, 0, true),
        converse(front.starttls(), &sent, 0, false),
        converse(front.secure(front.connect(1)), &sent, 1, true),
    ] {
        assert!(got.iter().any(|line| line.starts_with("250 2.0.0 Ok: queued as ")), "{got:#?}");
    }
    assert_eq!(front.queued(), 3);
}

/// TL3: JavaMail answers 530 by STARTTLS and goes on with AUTH and MAIL, without a new EHLO.
#[test]
fn tl3_auth_and_mail_after_starttls_without_ehlo() {
    let options = Options { auth: CleartextAuth::Upgrade, ..by_login() };
    let front = Front::open(&options, |_| {});
    let mut reader = BufReader::new(front.connect(0));
    reader.get_mut().write_all(b"EHLO pod\r\nAUTH LOGIN\r\nSTARTTLS\r\n").unwrap();
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|text: &String| text.starts_with("220 2.0.0")) {
        seen.push(line(&mut reader));
    }
    assert!(seen.contains(&"530 5.7.0 Must issue a STARTTLS command first".to_owned()), "{seen:#?}");
    let sent = [b"MAIL FROM:<a@t.example>\r\nAUTH PLAIN AHQAc2VjcmV0\r\n", MESSAGE].concat();
    let got = converse(front.secure(reader.into_inner()), &sent, 0, false);
    assert!(got[1].starts_with("503 5.5.1"), "MAIL without EHLO and AUTH: {got:#?}");
    assert!(got[2].starts_with("235 2.7.0"), "{got:#?}");
    assert!(got.iter().any(|line| line.starts_with("250 2.0.0 Ok: queued as ")), "{got:#?}");
}

#[test]
fn a_connection_test_is_logged_and_an_exposed_password_told_of() {
    let options = Options { auth: CleartextAuth::Upgrade, ..by_login() };
    let front = Front::open(&options, |_| {});
    let auth = b"EHLO c\r\nAUTH PLAIN AHQAc2VjcmV0\r\nQUIT\r\n";
    converse(front.secure(front.connect(1)), auth, 0, true);
    converse(front.connect(0), auth, 0, true);
    let mut front = front;
    front.stop.cancel();
    front.runtime.block_on(front.served.take().unwrap()).unwrap();
    let log = front.log();
    let mut probes: Vec<_> = log.lines().filter(|line| line.contains("\"type\":\"probe\"")).collect();
    // Two sessions may end in either order.
    probes.sort_by_key(|line| line.contains("\"exposed\":true"));
    assert_eq!(probes.len(), 2, "{log}");
    assert!(probes[0].contains("\"mechanism\":\"PLAIN\"") && probes[0].contains("TLSv1.3"), "{log}");
    assert!(probes[1].contains("\"exposed\":true") && probes[1].contains("\"login\":\"t\""), "{log}");
    assert!(!log.contains("secret") && !log.contains("AHQAc2VjcmV0"), "no secret is logged (AU9)");
}

/// AU8: a login revoked while its session lasts sends no more mail.
#[test]
fn au8_a_revoked_login_ends_at_the_next_mail() {
    let front = Front::open(&by_login(), |_| {});
    let mut reader = BufReader::new(front.secure(front.connect(1)));
    line(&mut reader);
    reader.get_mut().write_all(b"HELO c\r\nAUTH PLAIN AHQAc2VjcmV0\r\n").unwrap();
    line(&mut reader);
    assert!(line(&mut reader).starts_with("235"));
    front.shared.tenants.store(Arc::default());
    reader.get_mut().write_all(b"MAIL FROM:<a@t.example>\r\nMAIL FROM:<a@t.example>\r\n").unwrap();
    assert!(line(&mut reader).starts_with("535 5.7.8"));
    assert!(line(&mut reader).starts_with("530"), "nobody's from then on");
}

/// product.md's forgiving listener: TLS at once on a STARTTLS port; after the banner it is remembered.
#[test]
fn a_client_hello_is_understood_on_any_port_with_a_certificate() {
    let waiting = |wait| Front::open(&Options::default(), move |config| config.limits.hello_wait = wait);
    let front = waiting(Duration::from_secs(60));
    let got = converse(front.secure(front.connect(0)), b"QUIT\r\n", 0, true);
    assert_eq!(got, ["220 relay.test ESMTP Waxseal", "221 2.0.0 Bye"]);
    let front = waiting(Duration::from_millis(50));
    let mut late = BufReader::new(front.connect(0));
    assert!(line(&mut late).starts_with("220"));
    late.get_mut().write_all(b"\x16\x03\x01").unwrap();
    assert_eq!(late.read(&mut [0; 8]).unwrap(), 0, "it ends at once");
    assert!(line(&mut BufReader::new(front.connect(0))).starts_with("220"), "the next one is greeted");
}

/// CM12: what is sent before the banner is not run.
#[test]
fn cm12_an_early_talker_is_turned_away() {
    let front = Front::open(&Options::default(), |config| config.limits.hello_wait = Duration::from_secs(60));
    let mut stream = front.connect(0);
    stream.write_all(b"EHLO spam\r\nMAIL FROM:<a@t.example>\r\n").unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    assert_eq!(got, "554 5.5.1 Wait for the greeting; closing connection\r\n");
}

/// TL7: clear text on an implicit TLS port gets an alert and the end.
#[test]
fn tl7_clear_text_on_an_implicit_port_gets_an_alert() {
    let front = Front::open(&Options::default(), |_| {});
    let mut stream = front.connect(1);
    stream.write_all(b"EHLO c\r\n").unwrap();
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert_eq!(got.first(), Some(&21), "a TLS alert record: {got:?}");
}

/// CM16: one session more than allowed gets 421, and a place comes back when one ends.
#[test]
fn cm16_connections_are_limited_by_address() {
    let front = Front::open(&Options::default(), |config| config.limits.connections_per_address = 2);
    let mut held: Vec<_> = (0..2).map(|_| BufReader::new(front.connect(0))).collect();
    assert!(held.iter_mut().all(|reader| line(reader).starts_with("220")));
    assert_eq!(
        line(&mut BufReader::new(front.connect(0))),
        "421 4.3.2 Too many connections; try again later"
    );
    for mut reader in held {
        reader.get_mut().write_all(b"QUIT\r\n").unwrap();
        assert!(line(&mut reader).starts_with("221"));
        assert_eq!(line(&mut reader), "");
    }
}

/// FA13, the front door's part: between commands 421; a message under way is finished and answered.
#[test]
fn a_shutdown_is_said_between_commands_and_a_message_under_way_is_answered() {
    let mut front = Front::open(&Options::default(), |_| {});
    let (mut idle, mut busy) = (BufReader::new(front.connect(0)), BufReader::new(front.connect(0)));
    assert!(line(&mut idle).starts_with("220") && line(&mut busy).starts_with("220"));
    let (head, tail) = MESSAGE.split_at(MESSAGE.len() - 20);
    busy.get_mut().write_all(&[b"HELO c\r\n", head].concat()).unwrap();
    while !line(&mut busy).starts_with("354") {}
    front.stop.cancel();
    assert_eq!(line(&mut idle), "421 4.3.2 Service is shutting down; try again later");
    busy.get_mut().write_all(tail).unwrap();
    assert!(line(&mut busy).starts_with("250 2.0.0 Ok: queued as "));
    assert!(line(&mut busy).starts_with("221"), "QUIT was pipelined behind the dot");
    drop((idle, busy));
    front.runtime.block_on(front.served.take().unwrap()).unwrap();
    assert_eq!(front.queued(), 1);
}
