//! FA10: messages on their way in share a bound of memory. What finds none is refused where it costs least, nobody waits for
//! anybody, and every octet is given back, whichever way a message ends.

use std::io::{BufReader, Read, Write};
use std::time::Duration;

use waxseal::config::Role;
use waxseal::memory::READING;

use crate::dialogue::Options;
use crate::front::{Front, line};

const KIB: u64 = 1024;
const MEMORY: u64 = 1024 * KIB;
/// What every refusal for want of memory begins with.
const REFUSED: &str = "452 4.3.1 The relay is taking in as much mail as it has memory for";
const HEAD: &str = "From: a@t.example\r\nSubject: s\r\n\r\n";

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// A client that has greeted.
struct Client(BufReader<Box<dyn Wire>>);

impl Client {
    /// Over clear text, STARTTLS or implicit TLS.
    fn new(front: &Front, layer: &str) -> Self {
        let wire: Box<dyn Wire> = match layer {
            "clear" => Box::new(front.connect(0)),
            "starttls" => Box::new(front.starttls()),
            _ => Box::new(front.secure(front.connect(1))),
        };
        let mut client = Self(BufReader::new(wire));
        if layer != "starttls" {
            assert!(client.reply().starts_with("220"));
        }
        assert!(client.says("EHLO c").starts_with("250"));
        client
    }

    /// The last line of a reply.
    fn reply(&mut self) -> String {
        loop {
            let said = line(&mut self.0);
            assert!(!said.is_empty(), "the relay hung up");
            if said.as_bytes().get(3) != Some(&b'-') {
                return said;
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        self.0.get_mut().write_all(octets).and_then(|()| self.0.get_mut().flush()).unwrap();
    }

    fn says(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    fn mail(&mut self, size: Option<u64>) -> String {
        let size = size.map(|octets| format!(" SIZE={octets}")).unwrap_or_default();
        self.says(&format!("MAIL FROM:<a@t.example>{size}"))
    }

    /// Up to where the message comes next.
    fn envelope(&mut self, size: Option<u64>) {
        assert!(self.mail(size).starts_with("250"));
        assert!(self.says("RCPT TO:<b@c.test>").starts_with("250"));
    }

    fn data(&mut self, size: Option<u64>) {
        self.envelope(size);
        assert!(self.says("DATA").starts_with("354"));
    }
}

/// Lines of so many octets in all, a little more.
fn lines(octets: u64) -> Vec<u8> {
    b"0123456789 0123456789 0123456789 0123456789 0123456789 0123456\r\n".repeat(octets as usize / 64 + 1)
}

fn front(adjust: impl FnOnce(&mut waxseal::config::Config)) -> Front {
    Front::open(&Options::default(), |config| {
        config.limits.message_size = 4 * MEMORY;
        config.limits.body_memory = MEMORY;
        adjust(config);
    })
}

/// One message holds nearly all of the memory, and another client wants to send.
fn refused_beside_a_large_one(front: &Front, layer: &str) {
    let (mut first, mut second) = (Client::new(front, layer), Client::new(front, layer));
    second.envelope(None);
    // Alone, it may take nearly all.
    first.data(Some(1000 * KIB - READING));
    assert_eq!(front.shared.memory.held(), 1000 * KIB);
    assert!(second.says("DATA").starts_with(REFUSED), "{layer}");
    assert!(second.says("RSET").starts_with("250"));
    assert!(second.mail(Some(100 * KIB)).starts_with(REFUSED), "{layer}: announced, it is refused at MAIL");
    assert!(second.mail(None).starts_with(REFUSED), "{layer}: not even a small one");
    first.send(format!("{HEAD}.\r\n").as_bytes());
    assert!(first.reply().starts_with("250 2.0.0 Ok: queued"), "{layer}");
    assert_eq!(front.shared.memory.held(), 0, "{layer}: given back with the reply");
    second.data(Some(100 * KIB));
    second.send(format!("{HEAD}.\r\n").as_bytes());
    assert!(second.reply().starts_with("250"), "{layer}");
}

#[test]
fn a_message_that_finds_no_memory_is_refused_before_its_octets_come() {
    let front = front(|_| {});
    for layer in ["clear", "starttls", "implicit"] {
        refused_beside_a_large_one(&front, layer);
    }
    assert_eq!(front.shared.metrics.body_memory_refused.get(), 9);
    let log = front.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains(r#""reason_class":"memory""#)).collect();
    assert_eq!(told.len(), 9, "{log}");
    assert!(told.iter().all(|line| line.contains(r#""type":"rejected""#) && line.contains(r#""code":452"#)));
}

#[test]
fn a_message_that_grows_beyond_the_memory_is_dropped_at_once_and_refused_at_its_end() {
    let front = front(|_| {});
    for layer in ["clear", "starttls", "implicit"] {
        let mut client = Client::new(&front, layer);
        client.data(None);
        client.send(HEAD.as_bytes());
        // Twice as much as there is: what would not fit is only read past.
        client.send(&lines(2 * MEMORY));
        client.send(b".\r\n");
        assert!(client.reply().starts_with(REFUSED), "{layer}");
        assert_eq!(front.shared.memory.held(), 0);
        client.data(None);
        client.send(format!("{HEAD}.\r\n").as_bytes());
        assert!(client.reply().starts_with("250"), "{layer}: the session goes on");
    }
    assert_eq!(front.queued(), 3);
}

/// The next chunk must not be taken for the first, or half a message would be accepted.
#[test]
fn without_memory_for_the_first_chunk_the_others_are_refused_too() {
    let front = front(|_| {});
    let mut first = Client::new(&front, "clear");
    let mut second = Client::new(&front, "clear");
    second.envelope(None);
    first.data(Some(1000 * KIB - READING));
    let part = format!("{HEAD}one\r\n");
    second.send(format!("BDAT {}\r\n{part}BDAT {} LAST\r\n{part}", part.len(), part.len()).as_bytes());
    assert!(second.reply().starts_with(REFUSED));
    assert!(second.reply().starts_with("503 "), "the transaction is over");
    drop(first);
    front_is_empty(&front, "gone");
    second.envelope(None);
    second.send(format!("BDAT {} LAST\r\n{part}", part.len()).as_bytes());
    assert!(second.reply().starts_with("250"));
    assert_eq!(front.queued(), 1, "the second transaction's only");
}

#[test]
fn a_chunk_too_many_for_the_memory_ends_the_message() {
    let front = front(|_| {});
    let mut client = Client::new(&front, "implicit");
    client.envelope(None);
    let mut refused = 0;
    for _ in 0..6 {
        let chunk = lines(300 * KIB);
        client.send(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        client.send(&chunk);
        let said = client.reply();
        if said.starts_with(REFUSED) {
            refused += 1;
            assert_eq!(front.shared.memory.held(), 0);
        } else {
            assert!(said.starts_with(if refused > 0 { "503 " } else { "250 " }), "{said}");
        }
    }
    assert_eq!(refused, 1);
}

/// How a message ends: its name, what the client does and then hears, and how that begins.
type Way<'a> = (&'a str, &'a dyn Fn(&mut Client) -> String, &'a str);

/// Whatever ends a message gives its memory back.
#[test]
fn every_way_out_gives_the_memory_back() {
    let patient = front(|_| {});
    // For a client that says nothing; the others may be as slow as the machine.
    let hasty = front(|config| config.limits.data_timeout = Duration::from_millis(200));
    let some = lines(100 * KIB);
    let ways: [Way; 8] = [
        ("accepted", &|client| client.says(&format!("{HEAD}.")), "250 "),
        ("refused by admission", &|client| client.says("From: a@elsewhere.example\r\n\r\n."), "550 "),
        ("empty", &|client| client.says("."), "554 "),
        ("a bare LF", &|client| client.says("a\nb\r\n."), "550 "),
        ("a NUL", &|client| client.says("a\0b\r\n."), "550 "),
        ("too big", &|client| client.says(&format!("{}\r\n.", "x".repeat(4 * 1024 * 1024))), "552 "),
        ("silence", &Client::reply, "421 4.4.2"),
        ("gone", &|_| "gone".to_owned(), "gone"),
    ];
    for layer in ["clear", "starttls", "implicit"] {
        for (why, ends, expected) in &ways {
            let front = if *why == "silence" { &hasty } else { &patient };
            let mut client = Client::new(front, layer);
            client.data(Some(200 * KIB));
            let said = ends(&mut client);
            assert!(said.starts_with(expected), "{why} over {layer}: {said}");
            drop(client);
            front.quiet();
            assert_eq!(front.shared.memory.held(), 0, "{why} over {layer}");
        }
        for (why, next) in [("RSET", "RSET"), ("EHLO", "EHLO d"), ("QUIT", "QUIT")] {
            let mut client = Client::new(&patient, layer);
            client.envelope(None);
            client.send(format!("BDAT {}\r\n", some.len()).as_bytes());
            client.send(&some);
            assert!(client.reply().starts_with("250"));
            assert!(patient.shared.memory.held() > 100 * KIB);
            assert!(client.says(next).starts_with('2'));
            front_is_empty(&patient, why);
        }
    }
}

fn front_is_empty(front: &Front, why: &str) {
    // QUIT's answer may be here before the session has ended.
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while front.shared.memory.held() > 0 {
        assert!(std::time::Instant::now() < until, "{why}: {} octets are kept", front.shared.memory.held());
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Thirty clients at once, each with more than a thirtieth of the memory: some are put off, none hangs, none is cut off.
#[test]
fn many_large_messages_at_once_never_wait_for_one_another() {
    let front = front(|_| {});
    let body = [HEAD.as_bytes(), &lines(300 * KIB), b".\r\n"].concat();
    let send = |at: usize| {
        let mut client = Client::new(&front, ["clear", "implicit"][at % 2]);
        let (mut accepted, mut refused) = (0, 0);
        while accepted == 0 {
            let size = at.is_multiple_of(3).then_some(body.len() as u64);
            let mut said = client.mail(size);
            if said.starts_with("250") {
                assert!(client.says("RCPT TO:<b@c.test>").starts_with("250"));
                said = client.says("DATA");
                if said.starts_with("354") {
                    client.send(&body);
                    said = client.reply();
                }
            }
            accepted += u64::from(said.starts_with("250"));
            if accepted == 0 {
                assert!(said.starts_with(REFUSED), "{said}");
                refused += 1;
                // Twenty errors end a session; a client that was put off comes again.
                client = Client::new(&front, "clear");
            }
            assert!(front.shared.memory.held() <= MEMORY);
        }
        (accepted, refused)
    };
    let done: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..30).map(|at| scope.spawn(move || send(at))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(done.iter().map(|(accepted, _)| accepted).sum::<u64>(), 30);
    let refused: u64 = done.iter().map(|(_, refused)| refused).sum();
    assert_eq!(front.shared.metrics.body_memory_refused.get(), refused);
    front.quiet();
    assert_eq!(front.shared.memory.held(), 0);
    assert_eq!(front.queued(), 30);
}

/// A list of recipients takes memory too.
#[test]
fn recipients_are_counted_where_they_are_many() {
    let front = front(|config| config.limits.recipients = 2000);
    let mut client = Client::new(&front, "clear");
    assert!(client.mail(None).starts_with("250"));
    let mut name = |n: usize| client.says(&format!("RCPT TO:<b{n}@c.test>"));
    assert!((0..16).all(|n| name(n).starts_with("250")));
    assert_eq!(front.shared.memory.held(), 0, "the few of usual mail are not");
    let said: Vec<String> = (16..1100).map(name).take_while(|said| said.starts_with("250")).collect();
    assert!((900..=1024).contains(&(16 + said.len())), "{}: a KiB each", said.len());
    assert!(client.says("RSET").starts_with("250"));
    assert_eq!(front.shared.memory.held(), 0);
    assert_eq!(front.shared.metrics.body_memory_refused.get(), 1);
}

#[test]
fn a_message_to_many_gives_the_memory_of_its_recipients_back() {
    let front = front(|_| {});
    let mut client = Client::new(&front, "clear");
    assert!(client.mail(None).starts_with("250"));
    assert!((0..100).all(|n| client.says(&format!("RCPT TO:<b{n}@c.test>")).starts_with("250")));
    assert!(front.shared.memory.held() >= 100 * KIB);
    assert!(client.says("DATA").starts_with("354"));
    client.send(format!("{HEAD}.\r\n").as_bytes());
    assert!(client.reply().starts_with("250"));
    assert_eq!(front.shared.memory.held(), 0);
}

/// What anybody may send must not keep out what tenants send.
#[test]
fn what_comes_back_has_a_share_of_its_own() {
    let options = Options { role: Role::Inbound, ..Options::default() };
    let front = Front::open(&options, |config| {
        config.limits.message_size = MEMORY;
        config.limits.body_memory = 4 * MEMORY;
    });
    let most = 4 * MEMORY;
    let taken: Vec<_> = std::iter::from_fn(|| front.shared.memory.take(None, MEMORY, most).ok()).collect();
    assert_eq!(taken.len(), 2, "half, and no more");
    let mut client = Client::new(&front, "clear");
    assert!(client.says("MAIL FROM:<> SIZE=900000").starts_with(REFUSED));
    assert!(
        client.says("MAIL FROM:<> SIZE=9000").starts_with("250"),
        "a report is small, and there is room for it"
    );
    assert!(front.shared.memory.has_room(&Some("t".into()), MEMORY, most), "and for a tenant's mail");
}
