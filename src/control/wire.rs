//! What travels over the admin socket, and what `--json` prints: stable, version 1.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::inbound::probe::Found;
use crate::mail::address::Domain;
use crate::mail::id::Id;
use crate::mail::meaning::{Reason, Whose};
use crate::mail::message::{Facts, Lane};
use crate::mail::priority::Priority;
use crate::queue::store::{Action, Cause, Entry, Filter, Last, State, StateName, Stats};

/// The version in every answer: raised when a field changes its meaning or type.
pub const VERSION: u8 = 1;

/// What the daemon says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// As it greets.
    pub hostname: String,
    /// When it started.
    pub started: String,
    /// `running` or `draining`.
    pub phase: String,
    /// Where it listens.
    pub listeners: Vec<SocketAddr>,
    /// Where it serves metrics and health.
    pub http: Option<SocketAddr>,
    /// The configuration file.
    pub config: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The mail log.
    pub log: PathBuf,
    /// Tenants known.
    pub tenants: usize,
    /// The last reload's error, if it was refused.
    pub reload_error: Option<String>,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `VERSION`.
    pub v: u8,
    /// The daemon.
    #[serde(flatten)]
    pub about: About,
    /// Sessions open.
    pub sessions: i64,
    /// The queue; absent while it cannot answer.
    pub queue: Option<Stats>,
    /// Sites of exchangers that are sent to now or rest, those at rest first, at most 50.
    #[serde(default)]
    pub sites: Vec<Site>,
    /// What is wrong, if anything: `/readyz` in words.
    pub trouble: Option<String>,
}

/// Exchangers that share their limits, or a tenant's upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Site {
    /// Their names, or the name that all of them stand below.
    pub site: Arc<str>,
    /// Attempts under way.
    pub active: usize,
    /// Attempts it may have at once.
    pub slots: usize,
    /// Until when it rests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rests_until: Option<String>,
    /// Why: `busy`, `limited` or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was heard when it was last closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// `GET /v1/tls/policies`: an MTA-STS policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StsPolicy {
    /// Whose.
    pub domain: Domain,
    /// `enforce`, `testing` or `none`.
    pub mode: String,
    /// The names of its exchangers, as it has them.
    pub mx: Vec<String>,
    /// The id under which it was published.
    pub id: String,
    /// When it was fetched.
    pub fetched: String,
    /// Until when it holds, if it is not renewed.
    pub until: String,
}

/// `POST /v1/queue/act`: done a page at a time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// To which legs.
    pub filter: Filter,
    /// What.
    pub action: Action,
}

/// Legs: those listed, or those acted on, as they were.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rows {
    /// `VERSION`.
    pub v: u8,
    /// A leg each.
    pub rows: Vec<Row>,
    /// Whether the limit cut the list, or the command is to go on `after` the last of these.
    pub more: bool,
}

/// A leg: the recipients of one message that share a destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// `VERSION`.
    pub v: u8,
    /// The message.
    pub id: Id,
    /// Which of its legs.
    pub leg: u16,
    /// Whose mail.
    pub tenant: Arc<str>,
    /// The envelope sender; empty for the null reverse-path.
    pub from: String,
    /// The recipients still open.
    pub to: Vec<String>,
    /// The class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Arc<str>>,
    /// Where it goes.
    pub destination: Arc<str>,
    /// What it waits for.
    pub state: StateName,
    /// Order of service.
    pub lane: Lane,
    /// How urgent it is to the servers behind us (RFC 6710).
    pub priority: Priority,
    /// Attempts made.
    pub attempts: u32,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<String>,
    /// What a held one waits for: `seal`, `operator`, `route` or `credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// When a hold ends of itself, if that is before `expires`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why it is held, or what was heard last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the last reply came to: a cause of docs/replies.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_class: Option<Reason>,
    /// Whose job it is to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whose: Option<Whose>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// By when its sender wants it delivered, and with which mode (RFC 2852): `2026-01-31T12:00:00.000Z;R`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<String>,
    /// When it was accepted.
    pub received: String,
    /// When the queue gives up.
    pub expires: String,
    /// Octets.
    pub size: u64,
}

/// `GET /v1/message/ID`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    /// `VERSION`.
    pub v: u8,
    /// What was decided when it was accepted.
    pub facts: Facts,
    /// Its header section as it leaves, without what its class hides.
    pub headers: String,
    /// What its class hides: `subject`, `link`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<String>,
    /// Its open legs.
    pub legs: Vec<Row>,
}

/// `POST /v1/domain/probe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The From domain.
    pub domain: Domain,
    /// How long to wait for it, in milliseconds.
    pub timeout: u64,
}

/// What became of a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probed {
    /// `VERSION`.
    pub v: u8,
    /// The message.
    pub id: Id,
    /// The From domain.
    pub domain: Domain,
    /// Where it was sent to.
    pub to: String,
    /// `mx`, or the upstream's host and port.
    pub route: String,
    /// From the 250 to its arrival, or until nobody waited any more, in milliseconds.
    pub ms: u64,
    /// What a receiver found; absent where it did not arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// Where it is stuck, and what was heard last, if it did not arrive; or what else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// `POST /v1/suppress/list`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressList {
    /// Whose list.
    pub tenant: String,
    /// Which part of it, from 0.
    pub portion: u32,
}

/// A part of a suppression list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Suppressed {
    /// `VERSION`.
    pub v: u8,
    /// What stands there.
    pub entries: Vec<crate::suppress::Entry>,
    /// The part that comes next, if there is one.
    pub next: Option<u32>,
}

/// `POST /v1/suppress/add`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressAdd {
    /// Whose list.
    pub tenant: String,
    /// What to put there.
    pub entries: Vec<crate::suppress::Entry>,
}

/// `POST /v1/suppress/remove`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressRemove {
    /// Whose list.
    pub tenant: String,
    /// Which addresses, each with the class it is there for.
    pub entries: Vec<(String, Option<String>)>,
}

/// How many entries of a list an order changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// `VERSION`.
    pub v: u8,
    /// How many.
    pub changed: usize,
}

/// An order was carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// `VERSION`.
    pub v: u8,
    /// What was done.
    pub done: String,
}

/// An order was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// `VERSION`.
    pub v: u8,
    /// Why, for a person.
    pub error: String,
}

impl From<&Entry> for Row {
    fn from(entry: &Entry) -> Self {
        let Entry { leg, state, facts } = entry;
        let to = |rcpt: &u16| facts.envelope.rcpts.get(usize::from(*rcpt));
        let meaning = leg.last.as_ref().map(Last::meaning);
        let (next_attempt, until, held) = match &leg.state {
            State::Due(at) => (Some(at.utc().to_string()), None, None),
            State::Held { reason, until, .. } => {
                let until = until.filter(|until| *until < leg.expires);
                (None, until.map(|until| until.utc().to_string()), Some(reason.to_string()))
            }
        };
        Self {
            v: VERSION,
            id: leg.id,
            leg: leg.leg,
            tenant: Arc::clone(&leg.tenant),
            from: facts.envelope.from.as_ref().map(ToString::to_string).unwrap_or_default(),
            to: leg.rcpts.iter().filter_map(to).map(|rcpt| rcpt.address.to_string()).collect(),
            class: facts.class.as_ref().map(|classed| Arc::clone(&classed.name)),
            destination: Arc::clone(&leg.destination.0),
            state: *state,
            lane: leg.lane,
            priority: facts.priority,
            attempts: leg.attempts,
            next_attempt,
            cause: leg.state.cause(),
            until,
            reason: held.or_else(|| leg.last.as_ref().map(heard)),
            reason_class: meaning.map(|meaning| meaning.reason),
            whose: meaning.map(|meaning| meaning.whose),
            advice: meaning.map(|meaning| meaning.advice.to_owned()),
            deliver_by: facts.deliver_by.map(|by| format!("{};{}", by.at.utc(), by.letters())),
            received: leg.received.utc().to_string(),
            expires: leg.expires.utc().to_string(),
            size: facts.size,
        }
    }
}

/// What was heard last, as one line.
pub(crate) fn heard(last: &Last) -> String {
    let mut words = Vec::new();
    words.extend(last.host.as_ref().map(|host| format!("{host}:")));
    words.extend(Some(last.code).filter(|code| *code != 0).map(|code| code.to_string()));
    words.extend(last.enhanced.map(|code| code.to_string()));
    words.push(last.text.clone());
    words.join(" ")
}
