//! Nobody relays: who comes, by what spelling of sender, recipient and author, over which layer, and what becomes of it. What is
//! refused is not queued; what is taken is under the tenant's own name and goes where its recipient's domain says.
//!
//! The spellings one by one, octet by octet: `dialogues/4-relay.txt`. More tricks with the From header: `admit.rs`.

use std::io::{BufReader, Read, Write};
use std::sync::Arc;

use waxseal::config::{CleartextAuth, Config, Role};
use waxseal::mail::id::Id;
use waxseal::mail::return_path;
use waxseal::mail::time::Time;
use waxseal::queue::store::{Entry, Filter};
use waxseal::tenant::{Directory, Login};

use crate::dialogue::{self, Options};
use crate::front::{self, Front, line};

/// What is tried. `{own}` stands for a domain of who comes (nobody's own is a tenant's), `{foreign}` for another tenant's, `{bounce}`
/// for an address of our own making at that tenant's return path.
struct Attempt {
    from: &'static str,
    to: &'static str,
    author: &'static str,
    /// A tenant's answer: the first that is a refusal, or the last.
    code: u16,
    /// Where mail that is taken goes.
    goes: &'static str,
    why: &'static str,
}

const fn row(
    (from, to, author): (&'static str, &'static str, &'static str),
    code: u16,
    goes: &'static str,
    why: &'static str,
) -> Attempt {
    Attempt { from, to, author, code, goes, why }
}

const OWN: &str = "a@{own}";
const TO: &str = "b@c.test";
const RELAY: &str = "relay.test";

const ATTEMPTS: [Attempt; 22] = [
    row((OWN, TO, OWN), 250, "c.test", "what a tenant is here for"),
    row((OWN, TO, "a@{foreign}"), 550, "", "another tenant's From"),
    row((OWN, TO, "a@stranger.test"), 550, "", "nobody's From"),
    row((OWN, TO, "a@sub.{own}"), 550, "", "a name below its own that it was not given"),
    row((OWN, TO, "\"a@{own}\" <a@{foreign}>"), 550, "", "its own address as a display name"),
    row(("a@{foreign}", TO, OWN), 550, "", "another tenant's envelope"),
    row(("a@stranger.test", TO, OWN), 250, "c.test", "nobody's envelope is rewritten to the author"),
    row(("{bounce}", TO, OWN), 250, "c.test", "so is another tenant's return path"),
    row(("@relay.test:a@{foreign}", TO, OWN), 550, "", "a source route hides no sender"),
    row(("", TO, OWN), 250, "c.test", "the null sender, by a tenant"),
    row(("", TO, "a@{foreign}"), 550, "", "the null sender is no cover for another's From"),
    row((OWN, "@relay.test:b@c.test", OWN), 250, "c.test", "a source route is dropped, not obeyed"),
    row((OWN, "b%victim.test@relay.test", OWN), 250, RELAY, "the percent hack is a local part"),
    row((OWN, "b%victim.test", OWN), 501, "", "and no address without a domain"),
    row((OWN, "victim.test!b@relay.test", OWN), 250, RELAY, "so are bang paths"),
    row((OWN, "victim.test!b", OWN), 501, "", "the same"),
    row((OWN, "\"b@victim.test\"@relay.test", OWN), 250, RELAY, "a quoted address is a local part"),
    row((OWN, "\"b@victim.test\"", OWN), 501, "", "the same"),
    row((OWN, "b@victim.test@relay.test", OWN), 501, "", "two domains are none"),
    row((OWN, "b@[192.0.2.1]", OWN), 550, "", "an address literal"),
    row((OWN, "b@localhost", OWN), 550, "", "the machine itself"),
    row((OWN, "{bounce}", OWN), 250, "bounce.{foreign}", "a return path is an address like others"),
];

#[derive(Clone, Copy, Debug)]
enum Who {
    /// From an address that is no tenant's, without AUTH.
    Nobody,
    /// With the right name and a wrong password.
    Guesser,
    /// With the name and password that a tenant has at its upstream.
    UpstreamLogin,
    /// By its address.
    Network,
    /// By its login, and whose.
    Login(&'static str),
    /// The other tenant's login, from the first one's network: the login counts.
    Visitor,
    /// At the listener for what comes back.
    Inbound,
}

const EVERYBODY: [Who; 8] = [
    Who::Nobody,
    Who::Guesser,
    Who::UpstreamLogin,
    Who::Network,
    Who::Login("t"),
    Who::Login("other"),
    Who::Visitor,
    Who::Inbound,
];

impl Who {
    fn domains(self) -> (&'static str, &'static str) {
        match self {
            Self::Login("other") | Self::Visitor => ("other.example", "t.example"),
            Self::Nobody
            | Self::Guesser
            | Self::UpstreamLogin
            | Self::Network
            | Self::Login(_)
            | Self::Inbound => ("t.example", "other.example"),
        }
    }

    /// AUTH PLAIN's response.
    fn credentials(self) -> Option<String> {
        use base64::Engine as _;
        let plain = match self {
            Self::Guesser => "\0t\0guess".to_owned(),
            Self::UpstreamLogin => "\0t-at-upstream\0secret".to_owned(),
            Self::Login(name) => format!("\0{name}\0secret"),
            Self::Visitor => "\0other\0secret".to_owned(),
            Self::Nobody | Self::Network | Self::Inbound => return None,
        };
        Some(base64::engine::general_purpose::STANDARD.encode(plain))
    }

    fn is_tenant(self) -> bool {
        matches!(self, Self::Network | Self::Login(_) | Self::Visitor)
    }

    fn fill(self, text: &str) -> String {
        let (own, foreign) = self.domains();
        let bounce = format!("bounce.{foreign}").parse().unwrap();
        let bounce = return_path::make(&dialogue::secret(), Id::new(Time(1_767_225_600_000), 7), &bounce);
        text.replace("{bounce}", &bounce.to_string()).replace("{own}", own).replace("{foreign}", foreign)
    }
}

/// Both tenants with a login and a return path; one has credentials at an upstream, where somebody comes with them.
fn tenants(options: &Options, who: Who) -> Directory {
    let (mut t, mut other) = (front::tenant(options), front::other());
    let password = t.logins[0].password.clone();
    other.logins = vec![Login { username: "other".into(), password, class: None }];
    for tenant in [&mut t, &mut other] {
        tenant.domains[0].return_path = Some(format!("bounce.{}", tenant.domains[0].name).parse().unwrap());
    }
    let upstream = waxseal::tenant::Upstream {
        host: "up.test".into(),
        port: 587,
        tls: waxseal::tenant::UpstreamTls::Starttls,
        credentials: Some(("t-at-upstream".into(), "secret".into())),
        oauth: None,
        cleartext_auth: false,
        ca_file: None,
    };
    if matches!(who, Who::UpstreamLogin) {
        t.route = Arc::new(waxseal::tenant::Route::Upstream(upstream));
    }
    Directory::new([t, other])
}

fn open(who: Who) -> Front {
    let options = Options {
        role: if matches!(who, Who::Inbound) { Role::Inbound } else { Role::Submission },
        auth: CleartextAuth::Allow,
        network: matches!(who, Who::Network | Who::Visitor),
        ..Options::default()
    };
    let adjust = |config: &mut Config| {
        // All attempts are one session, so that nothing of one helps the next.
        (config.limits.errors, config.limits.junk_commands) = (10_000, 10_000);
        let keys = config.keys.join("other.example");
        std::fs::create_dir_all(&keys).unwrap();
        crate::relay::secret(&keys.join("s1.pem"), include_str!("data/rsa2048.pem"));
    };
    let front = Front::open(&options, adjust);
    front.shared.tenants.store(Arc::new(tenants(&options, who)));
    front
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

struct Session(BufReader<Box<dyn Wire>>);

impl Session {
    /// Past EHLO and, for who brings something, AUTH.
    fn open(front: &Front, layer: &str, who: Who) -> Self {
        let wire: Box<dyn Wire> = match layer {
            "clear" => Box::new(front.connect(0)),
            "starttls" => Box::new(front.starttls()),
            _ => Box::new(front.secure(front.connect(1))),
        };
        let mut session = Self(BufReader::new(wire));
        if layer != "starttls" {
            assert_eq!(session.reply(), 220);
        }
        assert_eq!(session.say("EHLO c"), 250);
        if let Some(credentials) = who.credentials() {
            let code = session.say(&format!("AUTH PLAIN {credentials}"));
            assert_eq!(code, if who.is_tenant() { 235 } else { 535 }, "{who:?} over {layer}");
        }
        session
    }

    fn say(&mut self, text: &str) -> u16 {
        say(&mut self.0, text)
    }

    fn reply(&mut self) -> u16 {
        reply(&mut self.0)
    }

    /// One transaction, whatever is said on the way: every answer.
    fn attempt(&mut self, who: Who, attempt: &Attempt) -> Vec<u16> {
        let commands = [
            format!("MAIL FROM:<{}>", who.fill(attempt.from)),
            format!("RCPT TO:<{}>", who.fill(attempt.to)),
            "DATA".to_owned(),
        ];
        let mut codes: Vec<u16> = commands.iter().map(|command| self.say(command)).collect();
        if codes.last() == Some(&354) {
            codes.push(self.say(&format!(
                "From: {}\r\nTo: b@c.test\r\nSubject: s\r\n\r\nbody\r\n.",
                who.fill(attempt.author)
            )));
        }
        assert_eq!(self.say("RSET"), 250);
        codes
    }
}

fn say(wire: &mut BufReader<impl Read + Write>, text: &str) -> u16 {
    wire.get_mut().write_all(format!("{text}\r\n").as_bytes()).unwrap();
    wire.get_mut().flush().unwrap();
    reply(wire)
}

fn reply(wire: &mut BufReader<impl Read>) -> u16 {
    loop {
        let text = line(wire);
        if text.as_bytes().get(3) != Some(&b'-') {
            return text[..3].parse().unwrap();
        }
    }
}

/// What is in the queue.
fn queue(front: &Front) -> Vec<Entry> {
    front.queued();
    let filter = Filter { limit: Some(1000), ..Filter::default() };
    let now = front.shared.clock.now();
    front.runtime.block_on(front.shared.store.list(filter, now)).unwrap()
}

#[test]
fn nobody_relays_and_a_tenant_sends_under_its_own_name_only() {
    for who in EVERYBODY {
        let front = open(who);
        for layer in ["clear", "starttls", "implicit"] {
            let mut session = Session::open(&front, layer, who);
            for attempt in &ATTEMPTS {
                let codes = session.attempt(who, attempt);
                assert!(is_right(who, attempt, &codes), "{who:?} over {layer}: {}: {codes:?}", attempt.why);
            }
        }
        check(who, &queue(&front));
    }
}

/// Whether this is how such an attempt is answered: MAIL, RCPT, DATA and, where it came so far, the end of data.
fn is_right(who: Who, attempt: &Attempt, codes: &[u16]) -> bool {
    let first = codes.iter().copied().find(|code| *code >= 400);
    match who {
        // Each command is refused by itself: none rests on the one before.
        Who::Nobody | Who::Guesser | Who::UpstreamLogin => codes.iter().all(|code| *code == 530),
        // RCPT takes addresses of our own making alone, and what comes there must be a report.
        Who::Inbound => {
            let from = if attempt.to == "{bounce}" { 3 } else { 1 };
            codes.len() > from && codes.iter().skip(from).all(|code| (500..600).contains(code))
        }
        Who::Network | Who::Login(_) | Who::Visitor => {
            first.unwrap_or(codes[codes.len() - 1]) == attempt.code
        }
    }
}

/// Nothing of a stranger's; of a tenant's what was taken over each layer, each from the tenant and to where it was to go.
fn check(who: Who, queue: &[Entry]) {
    let taken: Vec<_> = ATTEMPTS.iter().filter(|attempt| who.is_tenant() && attempt.code == 250).collect();
    let mut wanted: Vec<String> = taken.iter().map(|attempt| who.fill(attempt.goes)).collect();
    wanted = [wanted.clone(), wanted.clone(), wanted].concat();
    wanted.sort();
    let mut goes: Vec<String> = queue.iter().map(|entry| entry.leg.destination.0.to_string()).collect();
    goes.sort();
    assert_eq!(goes, wanted, "{who:?}");
    let (own, _) = who.domains();
    for entry in queue {
        let from = entry.facts.envelope.from.as_ref().map(|from| from.domain().as_str().to_owned());
        assert!(from.is_none() || from.as_deref() == Some(own), "{who:?}: {from:?}");
        let author = entry.facts.header_from.as_ref().map(|author| author.domain().as_str().to_owned());
        assert_eq!(author.as_deref(), Some(own), "{who:?}");
    }
}

/// What was proved or begun in clear text counts for nothing under TLS (RFC 3207 section 4.2): somebody on the way may have said it.
#[test]
fn nothing_of_the_clear_text_is_left_under_tls() {
    let front = open(Who::Nobody);
    let mut clear = BufReader::new(front.connect(0));
    assert_eq!(reply(&mut clear), 220);
    let credentials = Who::Login("t").credentials().unwrap();
    for (command, code) in [
        ("EHLO c", 250),
        (&*format!("AUTH PLAIN {credentials}"), 235),
        ("MAIL FROM:<a@t.example>", 250),
        ("RCPT TO:<b@c.test>", 250),
        ("STARTTLS", 220),
    ] {
        assert_eq!(say(&mut clear, command), code, "{command}");
    }
    let mut secure = BufReader::new(front.secure(clear.into_inner()));
    for (command, code, why) in [
        ("RCPT TO:<b@c.test>", 530, "whoever logged in"),
        ("DATA", 530, "the same"),
        ("EHLO c", 250, "a new beginning"),
        ("MAIL FROM:<a@t.example>", 530, "the login is gone"),
    ] {
        assert_eq!(say(&mut secure, command), code, "{why}");
    }

    let front = open(Who::Network);
    let mut clear = BufReader::new(front.connect(0));
    assert_eq!(reply(&mut clear), 220);
    let begun = [("EHLO c", 250), ("MAIL FROM:<a@t.example>", 250), ("RCPT TO:<b@c.test>", 250)];
    for (command, code) in begun.into_iter().chain([("STARTTLS", 220)]) {
        assert_eq!(say(&mut clear, command), code, "{command}");
    }
    let mut secure = BufReader::new(front.secure(clear.into_inner()));
    assert_eq!(say(&mut secure, "DATA"), 503, "the transaction is gone");
    assert_eq!(front.queued(), 0);
}

/// A network that a reload takes away, or gives to somebody else, sends as before no more, also in a session under way.
#[test]
fn a_network_that_is_gone_sends_nothing() {
    let front = open(Who::Network);
    let options = Options { network: true, ..Options::default() };
    let mail = |session: &mut Session, own: &'static str| {
        let codes = session.attempt(Who::Network, &row((own, TO, own), 0, "", ""));
        codes.iter().copied().find(|code| *code >= 400).unwrap_or(codes[codes.len() - 1])
    };
    let mut session = Session::open(&front, "clear", Who::Network);
    assert_eq!(mail(&mut session, "a@t.example"), 250);
    let [mut t, mut other] = [front::tenant(&options), front::other()];
    other.networks = std::mem::take(&mut t.networks);
    front.shared.tenants.store(Arc::new(Directory::new([t, other])));
    assert_eq!(mail(&mut session, "a@t.example"), 550, "it is the other's now");
    assert_eq!(mail(&mut session, "a@other.example"), 250);
    front.shared.tenants.store(Arc::new(Directory::new([front::other()])));
    assert_eq!(mail(&mut session, "a@other.example"), 535, "it is nobody's any more");
    assert_eq!(mail(&mut session, "a@other.example"), 530);
    assert_eq!(front.queued(), 2);
}

#[test]
fn a_network_ends_where_it_is_said_to_end() {
    let mut tenant = front::tenant(&Options::default());
    tenant.networks =
        ["192.0.2.16/28", "198.51.100.7/32", "2001:db8:1::/48"].map(|net| net.parse().unwrap()).into();
    let directory = Directory::new([tenant]);
    for (ip, inside) in [
        ("192.0.2.15", false),
        ("192.0.2.16", true),
        ("192.0.2.31", true),
        ("192.0.2.32", false),
        ("198.51.100.7", true),
        ("198.51.100.6", false),
        ("::ffff:198.51.100.7", true),
        ("::198.51.100.7", false),
        ("2001:db8:1:ffff::1", true),
        ("2001:db8:2::1", false),
    ] {
        assert_eq!(directory.network(ip.parse().unwrap()).is_some(), inside, "{ip}");
    }
}
