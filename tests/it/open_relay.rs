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
    /// At the listener for what comes back.
    Inbound,
}

const EVERYBODY: [Who; 7] = [
    Who::Nobody,
    Who::Guesser,
    Who::UpstreamLogin,
    Who::Network,
    Who::Login("t"),
    Who::Login("other"),
    Who::Inbound,
];

impl Who {
    fn domains(self) -> (&'static str, &'static str) {
        match self {
            Self::Login("other") => ("other.example", "t.example"),
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
            Self::Nobody | Self::Network | Self::Inbound => return None,
        };
        Some(base64::engine::general_purpose::STANDARD.encode(plain))
    }

    fn is_tenant(self) -> bool {
        matches!(self, Self::Network | Self::Login(_))
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
        network: matches!(who, Who::Network),
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
        self.0.get_mut().write_all(format!("{text}\r\n").as_bytes()).unwrap();
        self.0.get_mut().flush().unwrap();
        self.reply()
    }

    fn reply(&mut self) -> u16 {
        loop {
            let text = line(&mut self.0);
            if text.as_bytes().get(3) != Some(&b'-') {
                return text[..3].parse().unwrap();
            }
        }
    }

    /// One transaction, whatever is said on the way: the first refusal, or the last answer.
    fn attempt(&mut self, who: Who, attempt: &Attempt) -> u16 {
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
        codes.iter().copied().find(|code| *code >= 400).unwrap_or(codes[codes.len() - 1])
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
                let code = session.attempt(who, attempt);
                let why = format!("{who:?} over {layer}: {}", attempt.why);
                match who {
                    Who::Nobody | Who::Guesser | Who::UpstreamLogin => assert_eq!(code, 530, "{why}"),
                    Who::Inbound => assert!((500..600).contains(&code), "{why}: {code}"),
                    Who::Network | Who::Login(_) => assert_eq!(code, attempt.code, "{why}"),
                }
            }
        }
        check(who, &queue(&front));
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
