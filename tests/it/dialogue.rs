//! Golden dialogues: files of numbered cases, each with its reason, played against the protocol machine.
//!
//! ```text
//! == SM1 why this case is here
//! ! listener starttls          options, one a line; see `Options`
//! -> EHLO a                    a line, CRLF added; \r \n \0 \xNN \\ are escapes, {N*text} repeats
//! ->| octets                   the same without CRLF
//! <- 250 2.0.0 Ok              the next reply line
//! <-20 250 2.0.0 Ok            the same line twenty times
//! <~ 250*octets*               the same, `*` stands for anything
//! <- CLOSE                     the conversation is over here
//! => Subject: a\r\n            a message was handed on with this body
//! ```

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use waxseal::config::{CleartextAuth, Config, Listener, ListenerTls, Role};
use waxseal::inbound::Returns;
use waxseal::mail::address::{Address, Domain};
use waxseal::mail::attempt::TlsFacts;
use waxseal::mail::id::Id;
use waxseal::mail::reply::{Enhanced, Reply};
use waxseal::mail::return_path::{self, Secret};
use waxseal::mail::time::Time;
use waxseal::session::machine::{Machine, Note, Setting, Step};
use waxseal::tenant::{BareNewlines, Directory, OnFail, OwnedDomain, Route, Tenant, TenantLimits};

/// When every MAIL comes.
const MAIL: Time = Time(1_800_000_000_000);

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    pub title: String,
    pub options: Options,
    pub sent: Vec<u8>,
    pub replies: Vec<String>,
    pub bodies: Vec<Vec<u8>>,
}

/// What a case may ask of the house.
#[derive(Clone, Debug)]
pub struct Options {
    /// `listener starttls|none|inbound`.
    pub listener: ListenerTls,
    pub role: Role,
    /// `auth hide|upgrade|allow`.
    pub auth: CleartextAuth,
    /// `tenant network|login`: by address (method None), or by AUTH only.
    pub network: bool,
    /// `normalize`.
    pub bare: BareNewlines,
    /// `layer clear|tls|any`: where the case holds.
    pub clear: bool,
    pub tls: bool,
    /// `machine only`: real admission decides otherwise, by more than the machine's test knows.
    pub wire: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listener: ListenerTls::Starttls,
            role: Role::Submission,
            auth: CleartextAuth::Allow,
            network: true,
            bare: BareNewlines::Refuse,
            clear: true,
            tls: true,
            wire: true,
        }
    }
}

impl Options {
    fn set(&mut self, text: &str) {
        match text {
            "listener none" => self.listener = ListenerTls::None,
            "listener starttls" => self.listener = ListenerTls::Starttls,
            "listener inbound" => self.role = Role::Inbound,
            "auth hide" => self.auth = CleartextAuth::Hide,
            "auth upgrade" => self.auth = CleartextAuth::Upgrade,
            "auth allow" => self.auth = CleartextAuth::Allow,
            "tenant login" => self.network = false,
            "normalize" => self.bare = BareNewlines::Normalize,
            "layer clear" => self.tls = false,
            "machine only" => self.wire = false,
            "layer tls" => self.clear = false,
            other => panic!("unknown option {other}"),
        }
    }
}

/// Reads every case of every file.
pub fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/dialogues");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines().for_each(|line| take(&mut cases, line));
    }
    cases
}

fn take(cases: &mut Vec<Case>, line: &str) {
    if line.is_empty() || line.starts_with('#') {
        return;
    }
    let (mark, text) = line.split_once(' ').unwrap_or((line, ""));
    if mark == "==" {
        assert!(text.contains(' '), "a case says why it is there: {text}");
        let title = text.to_owned();
        cases.push(Case {
            title,
            options: Options::default(),
            sent: Vec::new(),
            replies: Vec::new(),
            bodies: Vec::new(),
        });
        return;
    }
    let text = &*with_tokens(text);
    let case = cases.last_mut().expect("a case begins with ==");
    match mark {
        "!" => case.options.set(text),
        "->" => case.sent.extend([unescape(text).as_slice(), b"\r\n"].concat()),
        "->|" => case.sent.extend(unescape(text)),
        "<-" => case.replies.push(text.replace('*', "\\*")),
        "<~" => case.replies.push(text.to_owned()),
        _ if mark.starts_with("<-") => {
            let times = mark[2..].parse().expect("<-N");
            case.replies.extend(std::iter::repeat_n(text.replace('*', "\\*"), times));
        }
        "=>" => case.bodies.push(unescape(text)),
        other => panic!("unknown mark {other} in {}", case.title),
    }
}

/// `\r \n \0 \xNN \\` and `{N*text}`.
fn unescape(text: &str) -> Vec<u8> {
    if let Some((before, rest)) = text.split_once('{') {
        let (inside, after) = rest.split_once('}').expect("{N*text}");
        let (count, piece) = inside.split_once('*').expect("{N*text}");
        let repeated = unescape(piece).repeat(count.parse().expect("{N*text}"));
        return [unescape(before), repeated, unescape(after)].concat();
    }
    let (mut out, mut rest) = (Vec::new(), text.chars());
    while let Some(c) = rest.next() {
        let escaped = if c == '\\' { rest.next() } else { None };
        match (c, escaped) {
            (_, Some('r')) => out.push(b'\r'),
            (_, Some('n')) => out.push(b'\n'),
            (_, Some('0')) => out.push(0),
            (_, Some('x')) => {
                let digits: String = rest.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&digits, 16).expect("\\xNN"));
            }
            (_, Some(other)) => out.extend(other.to_string().bytes()),
            (c, None) => out.extend(c.to_string().bytes()),
        }
    }
    out
}

/// Whether `line` fits `pattern`, where `*` stands for anything and `\*` for itself.
pub fn fits(pattern: &str, line: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("\\*") {
        return line.strip_prefix('*').is_some_and(|line| fits(rest, line));
    }
    if let Some(rest) = pattern.strip_prefix('*') {
        return (0..=line.len()).any(|at| line.is_char_boundary(at) && fits(rest, &line[at..]));
    }
    match (pattern.chars().next(), line.chars().next()) {
        (None, None) => true,
        (Some(a), Some(b)) if a == b => fits(&pattern[a.len_utf8()..], &line[b.len_utf8()..]),
        _ => false,
    }
}

/// What a conversation came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub replies: Vec<String>,
    pub bodies: Vec<Vec<u8>>,
    pub envelopes: Vec<String>,
    pub notes: Vec<String>,
}

impl Outcome {
    pub fn check(&self, case: &Case, how: &str) {
        let same = self.replies.len() == case.replies.len()
            && case.replies.iter().zip(&self.replies).all(|(pattern, line)| fits(pattern, line));
        assert!(
            same,
            "{} ({how})\nexpected:\n  {}\ngot:\n  {}\n",
            case.title,
            case.replies.join("\n  "),
            self.replies.join("\n  ")
        );
        let shown = |bodies: &[Vec<u8>]| -> Vec<String> {
            bodies.iter().map(|body| body.escape_ascii().to_string()).collect()
        };
        assert_eq!(shown(&self.bodies), shown(&case.bodies), "{} ({how})", case.title);
    }
}

fn tenant(options: &Options) -> Arc<Tenant> {
    Arc::new(Tenant {
        name: "t".into(),
        networks: Vec::new(),
        notify: Vec::new(),
        logins: Vec::new(),
        domains: Vec::new(),
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: waxseal::tenant::Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: options.bare,
        classes: waxseal::config::Classes::default(),
        suppression: waxseal::tenant::SuppressionRules::default(),
    })
}

/// The machine with a house that knows one login (`t`, `secret`), one owned domain, and takes every message.
pub struct House {
    machine: Machine,
    tenant: Arc<Tenant>,
    outcome: Outcome,
    closed: bool,
}

impl House {
    pub fn new(options: &Options, tls: bool) -> Self {
        let mut config = Config::new("relay.test".parse().unwrap(), Path::new("/nonexistent"));
        config.limits.message_size = 4096;
        config.limits.recipients = 100;
        let tenant = tenant(options);
        let listener = Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            role: options.role,
            tls: options.listener,
            cleartext_auth: options.auth,
        };
        let setting = Setting {
            config: Arc::new(config),
            listener: Arc::new(listener),
            certificate: true,
            ip: IpAddr::from([127, 0, 0, 1]),
            network: options.network.then(|| Arc::clone(&tenant)),
            returns: (options.role == Role::Inbound).then(returns),
            memory: Arc::default(),
        };
        let machine = Machine::new(setting, tls.then(facts));
        let outcome =
            Outcome { replies: Vec::new(), bodies: Vec::new(), envelopes: Vec::new(), notes: Vec::new() };
        Self { machine, tenant, outcome, closed: false }
    }

    /// Plays these pieces, as a client that does not wait.
    pub fn play<'a>(mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let (mut input, mut out) = (BytesMut::new(), Vec::new());
        for piece in std::iter::once(&b""[..]).chain(pieces) {
            input.extend_from_slice(piece);
            self.work(&mut input, &mut out);
        }
        self.outcome.notes.extend(self.machine.take_notes().iter().map(note));
        self.outcome.replies =
            String::from_utf8(out).unwrap().split_terminator("\r\n").map(String::from).collect();
        if self.closed {
            self.outcome.replies.push("CLOSE".to_owned());
        }
        self.outcome
    }

    fn work(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) {
        while !self.closed {
            let step = self.machine.step(input);
            out.append(self.machine.output());
            match step {
                Step::Read => return,
                Step::Flush => {}
                Step::Close => self.closed = true,
                Step::StartTls => self.machine.secured(facts()),
                Step::Authenticate(given) => {
                    use waxseal::mail::secret::ExposeSecret as _;
                    let right = given.username == "t" && given.password.expose_secret() == "secret";
                    if right {
                        self.machine.authenticated(Arc::clone(&self.tenant), "t".into(), given.mechanism);
                    } else {
                        self.machine.auth_refused(Some(given.username));
                    }
                }
                Step::CheckMail => {
                    let own = |from: &Address| from.domain().as_str() == "t.example";
                    let verdict = if self.machine.is_inbound() {
                        Ok(None)
                    } else if self.machine.pending_from().is_none_or(own) {
                        Ok(self.machine.tenant().cloned())
                    } else {
                        Err((Reply::new(550, Enhanced(5, 7, 1), "Not yours"), "from"))
                    };
                    self.machine.mail_checked(verdict, MAIL);
                }
                Step::Return(returned) => {
                    self.outcome.envelopes.push(returned.to.to_string());
                    self.outcome.bodies.push(returned.body);
                    self.machine.submitted(&Reply::new(250, Enhanced(2, 0, 0), "Ok: taken"));
                }
                Step::Submit(message) => {
                    let mut named: Vec<String> =
                        message.envelope.rcpts.iter().map(|rcpt| rcpt.address.to_string()).collect();
                    named.extend(message.priority.map(|priority| format!("MT-PRIORITY={priority}")));
                    named.extend(message.deliver_by.map(|until| format!("BY={}", until.left(MAIL))));
                    self.outcome.envelopes.push(named.join(" "));
                    self.outcome.bodies.push(message.body);
                    self.machine.submitted(&Reply::new(250, Enhanced(2, 0, 0), "Ok: queued as 01"));
                }
            }
        }
        out.append(self.machine.output());
    }
}

/// The secret of every test.
pub fn secret() -> Secret {
    Secret::new(&[7; 32].into())
}

/// A tenant whose bounces come back to bounce.t.example.
fn returns() -> Arc<Returns> {
    let Ok(mut tenant) = Arc::try_unwrap(tenant(&Options::default())) else { panic!("nobody else has it") };
    tenant.domains.push(OwnedDomain {
        name: "t.example".parse().unwrap(),
        on_fail: OnFail::Off,
        return_path: Some("bounce.t.example".parse().unwrap()),
        subdomains: false,
    });
    let relay = "relay.test".parse().unwrap();
    Arc::new(Returns::new(Arc::new(secret()), Arc::new(Directory::new([tenant])), relay))
}

/// `{bounce}`, `{probe}` and `{relay-probe}` stand for addresses of our own making.
fn with_tokens(text: &str) -> String {
    let id = Id::new(Time(1_767_225_600_000), 7);
    let domain = |text: &str| text.parse::<Domain>().unwrap();
    text.replace("{bounce}", &return_path::make(&secret(), id, &domain("bounce.t.example")).to_string())
        .replace("{probe}", &return_path::probe(&secret(), id, &domain("bounce.t.example")).to_string())
        .replace("{relay-probe}", &return_path::probe(&secret(), id, &domain("relay.test")).to_string())
        .replace("{relay-bounce}", &return_path::make(&secret(), id, &domain("relay.test")).to_string())
}

fn facts() -> TlsFacts {
    TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_256_GCM_SHA384".into(), verified: false, by: None }
}

fn note(note: &Note) -> String {
    match note {
        Note::Rejected { reply, reason, .. } => format!("{reason} {}", reply.code),
        Note::TlsHello => "hello".into(),
        Note::Foreign => "foreign".into(),
    }
}
