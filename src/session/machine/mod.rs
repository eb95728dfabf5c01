//! The server's side of the conversation, without any I/O: octets in, replies and questions out. The driver answers the
//! questions (`Step`) and brings time. What is taken is the same however the octets were split.
//!
//! `greet` holds EHLO, STARTTLS and AUTH, `envelope` MAIL and RCPT, `content` DATA and BDAT, `replies` the words.

mod content;
mod envelope;
mod facts;
mod greet;
pub mod replies;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use super::command::{self, Chunk, Found, Lines, Verb};
use super::data::Body;
use super::params::MailParams;
use super::sasl::{Credentials, Exchange, Mechanism};
use crate::admit::Submission;
use crate::config::{Config, Listener, Role};
use crate::inbound::{Returned, Returns};
use crate::mail::address::Address;
use crate::mail::attempt::TlsFacts;
use crate::mail::deliver_by::DeliverBy;
use crate::mail::envelope::Recipient;
use crate::mail::reply::Reply;
use crate::memory::{Budget, Permit};
use crate::tenant::Tenant;

/// Replies are written out when so many octets have gathered, so that a long pipelined batch stays bounded.
const GATHER_MAX: usize = 8 * 1024;

/// What the machine is told once.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Hostname and limits, as they were when the connection came.
    pub config: Arc<Config>,
    /// The listener it came to.
    pub listener: Arc<Listener>,
    /// Whether there is a certificate to offer STARTTLS with.
    pub certificate: bool,
    /// The client.
    pub ip: IpAddr,
    /// Whose listed network the client is in (method None).
    pub network: Option<Arc<Tenant>>,
    /// Which recipients an inbound listener takes.
    pub returns: Option<Arc<Returns>>,
    /// The memory that messages share while they come in.
    pub memory: Arc<Budget>,
}

/// What has to happen before the conversation can go on.
#[derive(Debug)]
pub enum Step {
    /// Write what there is, then read more.
    Read,
    /// Write what there is: there is much of it.
    Flush,
    /// Write what there is, shake hands, then `secured`.
    StartTls,
    /// Check these, then `authenticated`.
    Authenticate(Credentials),
    /// May this sender send now? Then `mail_checked`.
    CheckMail,
    /// Hand it on, then `submitted`.
    Submit(Box<Submission>),
    /// Something came back: hand it on, then `submitted`.
    Return(Box<Returned>),
    /// Write what there is, and end.
    Close,
}

/// What the mail log is told.
#[derive(Debug)]
pub enum Note {
    /// A command was refused.
    Rejected {
        /// The recipient refused, if it was one.
        to: Option<Address>,
        /// The reverse-path, after MAIL.
        from: Option<Option<Address>>,
        /// The user name tried, if it was AUTH.
        login: Option<String>,
        /// The answer.
        reply: Reply,
        /// A word for it.
        reason: &'static str,
    },
    /// A TLS ClientHello came where clear text was spoken.
    TlsHello,
    /// Another protocol's request came.
    Foreign,
}

/// A tenant by its login.
#[derive(Clone, Debug)]
pub struct Login {
    /// Whose it is.
    pub tenant: Arc<Tenant>,
    /// The user name.
    pub name: Arc<str>,
    /// How it was proved.
    pub mechanism: Mechanism,
}

#[derive(Debug)]
enum Phase {
    Command,
    Sasl(Exchange),
    Data(Box<Body>),
    Chunk(Octets),
    Waiting,
    Closed,
}

/// BDAT's octets on their way in.
#[derive(Debug)]
struct Octets {
    left: u64,
    chunk: Chunk,
    /// They are dropped, and this is said then (RFC 3030 section 2: never before they are read).
    refusal: Option<Reply>,
}

/// From MAIL to the end of data or RSET.
#[derive(Debug)]
struct Transaction {
    from: Option<Address>,
    params: MailParams,
    /// What BY said, counted from MAIL.
    deliver_by: Option<DeliverBy>,
    rcpts: Vec<Recipient>,
    named: HashSet<Address>,
    /// Some RCPT was refused.
    refused: bool,
    /// BDAT has begun.
    chunks: Option<Box<Body>>,
    /// The memory of the recipients.
    held: Permit,
}

#[derive(Debug, Default)]
struct Hello {
    name: String,
    /// EHLO or HELO came on this layer.
    greeted: bool,
    /// It came before STARTTLS: enough for AUTH, because JavaMail does not repeat it.
    before_tls: bool,
}

#[derive(Debug, Default)]
struct Tally {
    errors: u32,
    junk: u32,
    refusals: u32,
    commands: u64,
}

/// The conversation.
#[derive(Debug)]
pub struct Machine {
    setting: Setting,
    tls: Option<TlsFacts>,
    phase: Phase,
    lines: Lines,
    hello: Hello,
    login: Option<Login>,
    transaction: Option<Box<Transaction>>,
    /// A MAIL that waits for `mail_checked`.
    pending: Option<(Option<Address>, MailParams)>,
    tally: Tally,
    out: Vec<u8>,
    notes: Vec<Note>,
    reached_mail: bool,
    exposed: Option<String>,
}

impl Machine {
    /// A conversation that begins with the banner; `tls` if the handshake came first.
    #[must_use]
    pub fn new(setting: Setting, tls: Option<TlsFacts>) -> Self {
        let mut out = Vec::new();
        replies::banner(&setting.config.hostname).write(&mut out);
        Self {
            setting,
            tls,
            phase: Phase::Command,
            lines: Lines::default(),
            hello: Hello::default(),
            login: None,
            transaction: None,
            pending: None,
            tally: Tally::default(),
            out,
            notes: Vec::new(),
            reached_mail: false,
            exposed: None,
        }
    }

    /// Works through what was read, until something outside has to happen.
    pub fn step(&mut self, input: &mut BytesMut) -> Step {
        loop {
            if self.out.len() > GATHER_MAX {
                return Step::Flush;
            }
            let next = match self.phase {
                Phase::Command | Phase::Sasl(_) => self.line(input),
                Phase::Data(_) => self.data(input),
                Phase::Chunk(_) => self.chunk_octets(input),
                Phase::Waiting => Some(Step::Read),
                Phase::Closed => Some(Step::Close),
            };
            if let Some(step) = next {
                return step;
            }
        }
    }

    /// One line, or what is wrong with it.
    fn line(&mut self, input: &mut BytesMut) -> Option<Step> {
        let auth = matches!(self.phase, Phase::Sasl(_));
        let next = match self.lines.find(input, auth) {
            Found::More => return Some(Step::Read),
            Found::Line(length) => {
                let next = self.whole_line(input, length);
                wipe(input, length);
                next
            }
            Found::Tls if self.tls.is_none() => {
                self.notes.push(Note::TlsHello);
                self.phase = Phase::Closed;
                None
            }
            Found::Tls => {
                self.close(&replies::foreign());
                None
            }
            Found::TooLong(verb) | Found::BareLf(verb) if verb == Verb::Bdat => {
                self.close(&replies::chunk_unknown());
                None
            }
            Found::TooLong(verb) => {
                self.phase = Phase::Command;
                self.fail(if verb == Verb::Auth { replies::auth_too_long() } else { replies::too_long() });
                None
            }
            Found::BareLf(_) => {
                self.phase = Phase::Command;
                self.fail(replies::bare_lf_command());
                None
            }
        };
        self.tally.commands += 1;
        next
    }

    fn whole_line(&mut self, input: &[u8], length: usize) -> Option<Step> {
        let text = input.get(..length.saturating_sub(2)).unwrap_or_default();
        let phase = std::mem::replace(&mut self.phase, Phase::Command);
        if let Phase::Sasl(exchange) = phase {
            return self.response(exchange, text);
        }
        self.command(text, input.len() > length)
    }

    fn command(&mut self, line: &[u8], more: bool) -> Option<Step> {
        let Some((verb, rest)) = command::split(line) else {
            self.fail(replies::bad_characters());
            return None;
        };
        match verb {
            Verb::Ehlo | Verb::Helo => self.hello(verb, rest),
            Verb::Mail => return self.mail(rest),
            Verb::Rcpt => self.rcpt(rest),
            Verb::Data => self.begin_data(rest),
            Verb::Bdat => self.begin_chunk(rest),
            Verb::Auth => return self.auth(rest),
            Verb::StartTls => return self.starttls(rest, more),
            Verb::Rset | Verb::Quit if !rest.is_empty() => self.fail(replies::no_argument()),
            Verb::Rset => {
                self.transaction = None;
                self.junk(replies::OK);
            }
            Verb::Noop => self.junk(replies::OK),
            Verb::Help => self.junk(replies::HELP),
            Verb::Vrfy => self.junk(replies::VRFY),
            Verb::Quit => {
                self.say(replies::BYE);
                self.phase = Phase::Closed;
            }
            Verb::Refused => self.fail(replies::not_implemented()),
            Verb::Foreign => {
                self.notes.push(Note::Foreign);
                self.close(&replies::foreign());
            }
            Verb::Unknown => self.fail(replies::unknown()),
        }
        None
    }

    /// A reply that is always the same.
    fn say(&mut self, line: &'static str) {
        self.out.extend_from_slice(line.as_bytes());
    }

    /// For commands that do nothing: many of them are junk (CM11).
    fn junk(&mut self, line: &'static str) {
        self.say(line);
        self.count_junk();
    }

    fn count_junk(&mut self) {
        self.tally.junk += 1;
        if self.tally.junk >= self.setting.config.limits.junk_commands {
            self.close(&replies::too_much_junk());
        }
    }

    /// A refusal that counts as an error; the last one allowed is followed by 421.
    fn fail(&mut self, reply: impl std::borrow::Borrow<Reply>) {
        reply.borrow().write(&mut self.out);
        self.tally.errors += 1;
        if self.tally.errors >= self.setting.config.limits.errors && !matches!(self.phase, Phase::Closed) {
            self.close(&replies::too_many_errors());
        }
    }

    /// A refusal that the mail log is told of.
    fn reject(&mut self, reply: Reply, reason: &'static str, to: Option<Address>) {
        let from = self.transaction.as_ref().map(|transaction| transaction.from.clone());
        self.fail(&reply);
        self.notes.push(Note::Rejected { to, from, login: None, reply, reason });
    }

    /// Says this and ends the conversation; what was pipelined behind is not looked at.
    pub fn close(&mut self, reply: &Reply) {
        reply.write(&mut self.out);
        self.transaction = None;
        self.phase = Phase::Closed;
    }

    /// Whether this is the listener for what comes back.
    #[must_use]
    pub fn is_inbound(&self) -> bool {
        self.setting.listener.role == Role::Inbound
    }

    /// Whose mail this session may send: the login's, else the network's. Nobody's where mail comes back, whoever brings it.
    fn sender(&self) -> Option<&Arc<Tenant>> {
        if self.is_inbound() {
            return None;
        }
        self.login.as_ref().map(|login| &login.tenant).or(self.setting.network.as_ref())
    }
}

/// Consumes a line; an AUTH line or a response is overwritten first.
fn wipe(input: &mut BytesMut, length: usize) {
    if let Some(line) = input.get_mut(..length) {
        line.fill(0);
    }
    input.advance(length);
}
