//! The journey of mail through the sandbox, step by step with its time and id: what the mail log says and what the
//! exchanger finds, brought into the order in which it happened.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_parser::{HeaderValue, MessageParser};
use serde::Serialize;
use serde_json::Value;

use super::exchanger::Arrival;
use crate::clock::Clock;
use crate::mail::time::Time;

/// How long a step is kept back, so that one that happened before it and is heard of later still comes first: the mail
/// log's writer rests 2 ms between writes, and the log is looked at every `LOOK`.
pub const SETTLE: Duration = Duration::from_millis(60);
/// Between two looks at the mail log.
pub const LOOK: Duration = Duration::from_millis(20);

/// One step of a message, or of the world around it.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// When it happened.
    #[serde(serialize_with = "utc")]
    pub ts: Time,
    /// What: a type of the mail log, or `submit`, `queued`, `arrived`.
    pub step: String,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In words.
    pub text: String,
}

fn utc<S: serde::Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&time.utc())
}

impl Step {
    /// A step that happens now.
    #[must_use]
    pub fn now(step: &str, id: Option<&str>, text: String) -> Self {
        Self { ts: Clock::System.now(), step: step.to_owned(), id: id.map(str::to_owned), text }
    }

    /// Steps of the same millisecond come in the order of a message's path.
    fn rank(&self) -> (Time, usize) {
        const ORDER: [&str; 10] = [
            "key",
            "health",
            "submit",
            "received",
            "queued",
            "attempt",
            "arrived",
            "delivered",
            "relayed",
            "bounced",
        ];
        (self.ts, ORDER.iter().position(|one| *one == self.step).unwrap_or(ORDER.len()))
    }
}

/// Steps that are kept back until everything before them has been heard.
#[derive(Debug, Default)]
pub struct Order {
    waiting: Vec<Step>,
}

impl Order {
    /// Takes a step in.
    pub fn push(&mut self, step: Step) {
        self.waiting.push(step);
    }

    /// Hands out what happened until `SETTLE` before `now`, in order.
    pub fn settled(&mut self, now: Time) -> Vec<Step> {
        self.waiting.sort_by_key(Step::rank);
        let due = self.waiting.partition_point(|step| step.ts.after(SETTLE) <= now);
        self.waiting.drain(..due).collect()
    }

    /// Hands out the rest.
    pub fn rest(&mut self) -> Vec<Step> {
        self.waiting.sort_by_key(Step::rank);
        std::mem::take(&mut self.waiting)
    }
}

/// Reads the mail log from its beginning on, whole lines only.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Follower {
    /// Follows this file, which need not be there yet.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, partial: Vec::new() }
    }

    /// The steps that were logged since the last look.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn look(&mut self) -> io::Result<Vec<Step>> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Ok(Vec::new()) };
        file.read_to_end(&mut self.partial)?;
        let whole = self.partial.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.partial.drain(..whole).collect();
        let records =
            lines.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        Ok(records.filter_map(|record: Value| step(&record)).collect())
    }
}

/// A record of the mail log as a step.
fn step(record: &Value) -> Option<Step> {
    let kind = text(record, "/type")?;
    let at: jiff::Timestamp = text(record, "/ts")?.parse().ok()?;
    let story = match kind {
        "received" => received(record),
        "attempt" => format!("to {} by {}", words(record, "/to"), word(record, "/route")),
        "delivered" | "relayed" | "deferred" | "bounced" => format!(
            "{} at {} [{}]{}: {} {}{}",
            words(record, "/to"),
            word(record, "/host"),
            word(record, "/ip"),
            over_tls(record),
            word(record, "/reply/code"),
            word(record, "/reply/text"),
            timings(record),
        ),
        "rejected" => format!(
            "from {} [{}]: {} {}",
            word(record, "/from"),
            word(record, "/ip"),
            word(record, "/reply/code"),
            word(record, "/reply/text"),
        ),
        "probe" => format!(
            "a connection test from {}{}, {}",
            word(record, "/ip"),
            over_tls(record),
            text(record, "/login")
                .map_or_else(|| "without AUTH".to_owned(), |login| format!("AUTH as {login}")),
        ),
        "audit" => word(record, "/reason"),
        "health" => {
            format!("receivers would find for {}: {}", word(record, "/domain"), word(record, "/health"))
        }
        _ => record.to_string(),
    };
    // What the relay does by itself bears the name of what it does.
    let step = if kind == "audit" { text(record, "/action").unwrap_or(kind) } else { kind };
    Some(Step {
        ts: Time(u64::try_from(at.as_millisecond()).unwrap_or_default()),
        step: step.to_owned(),
        id: text(record, "/id").map(str::to_owned),
        text: story,
    })
}

fn received(record: &Value) -> String {
    let by = text(record, "/login")
        .map_or_else(|| "known by its network".to_owned(), |login| format!("login {login}"));
    let seals: Vec<_> = record
        .pointer("/auth/dkim")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|seal| {
            format!("{} d={} s={}", word(seal, "/algorithm"), word(seal, "/domain"), word(seal, "/selector"))
        })
        .collect();
    format!(
        "{} to {}{}: From {} is {}'s own ({by}), sealed {}, on stable storage",
        word(record, "/from"),
        words(record, "/to"),
        over_tls(record),
        word(record, "/header_from"),
        word(record, "/tenant"),
        seals.join(" and "),
    )
}

fn over_tls(record: &Value) -> String {
    text(record, "/tls/version").map(|version| format!(" over {version}")).unwrap_or_default()
}

fn timings(record: &Value) -> String {
    let ms = record.pointer("/ms").and_then(Value::as_object);
    let parts: Vec<_> = ms.into_iter().flatten().map(|(name, value)| format!("{name} {value} ms")).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn text<'a>(record: &'a Value, at: &str) -> Option<&'a str> {
    record.pointer(at)?.as_str()
}

/// One value in words; `-` where there is none.
fn word(record: &Value, at: &str) -> String {
    let value = record.pointer(at);
    let text = value.and_then(Value::as_str).map(str::to_owned);
    text.or_else(|| value.map(Value::to_string)).unwrap_or_else(|| "-".to_owned())
}

/// A value or a list of them.
fn words(record: &Value, at: &str) -> String {
    let Some(all) = record.pointer(at).and_then(Value::as_array) else { return word(record, at) };
    all.iter().map(|one| word(one, "")).collect::<Vec<_>>().join(", ")
}

/// The step of a message that arrived, and the name of its file, if it is kept.
#[must_use]
pub fn arrived(arrival: &Arrival, file: Option<&Path>) -> Step {
    let verdict = &arrival.verdict;
    let text = format!(
        "at the exchanger{}: dkim={} spf={} dmarc={}{}",
        if arrival.tls { " over TLS" } else { "" },
        verdict.dkim,
        verdict.spf,
        verdict.dmarc,
        file.map(|file| format!(", kept as {}", file.display())).unwrap_or_default(),
    );
    Step { ts: arrival.at, step: "arrived".to_owned(), id: queue_id(&arrival.message), text }
}

/// The queue id in the topmost `Received:`, which is the relay's.
#[must_use]
pub fn queue_id(message: &[u8]) -> Option<String> {
    let parsed = MessageParser::default().parse_headers(message)?;
    let HeaderValue::Received(received) = parsed.header("Received")? else { return None };
    received.id().map(str::to_owned)
}
