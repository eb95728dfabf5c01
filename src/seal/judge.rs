//! Will receivers believe it? One pure function from pictures of DNS, keys and envelope to a verdict. Admission enforces it,
//! `domain check` prints it, held mail is released by it.
//!
//! `Pass` means: under RFC 9989 and under the older reading by public suffixes, and with the strictest of the receivers'
//! programs. What only some of them accept is a warning.

mod dkim;
mod domain;
mod policy;
mod spf;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::dmarc::{self, Readings};
use super::facts::Picture;
use super::keys::Public;
use super::records::{Kind, Record};

/// What is judged: mail of this author, sealed and sent like this.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The picture of the From domain.
    pub author: &'a Picture,
    /// The picture of the domain in `d=`: the From domain, or the tenant's domain above it.
    pub signer: &'a Picture,
    /// The keys that would sign, RSA first; empty: none would.
    pub keys: &'a [Candidate<'a>],
    /// The picture of the domain that SPF is evaluated at: the reverse-path's or, where that is null, our EHLO name.
    pub sender: &'a Picture,
    /// Whether the reverse-path is null: it names no domain.
    pub null: bool,
    /// Whether the last hop is ours. Through an upstream it is not: then DKIM alone carries the verdict.
    pub direct: bool,
    /// The addresses that receivers see; empty: SPF is unknown, never failed.
    pub egress: &'a [IpAddr],
    /// What the domain publishes when all is right: the DKIM records of `signer` and SPF of `sender` as `records` makes them.
    pub wanted: &'a [Record],
}

/// A key that would sign.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its selector.
    pub selector: &'a str,
    /// Its public half, compared with what is published.
    pub public: &'a Public,
}

/// What receivers will find.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether a receiver verifies and aligns our signature.
    pub dkim: Finds,
    /// Whether SPF passes, aligned.
    pub spf: Finds,
    /// The two together.
    pub dmarc: Believed,
    /// `p=` as it applies to the From domain (RFC 9989 section 4.7); `None`: no record.
    pub policy: Option<Policy>,
    /// Everything that was noticed, the worst first.
    pub findings: Vec<Finding>,
    /// Selectors of the candidates whose published record is the key that we would sign with.
    pub verified: Vec<String>,
}

/// What a receiver finds of one mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finds {
    /// It passes and aligns.
    Pass,
    /// It does not.
    Fail,
    /// We cannot know: DNS is silent, or we do not know our own addresses.
    Unknown,
}

/// Whether mail is believed, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Believed {
    /// Both align.
    Both,
    /// By the signature alone.
    DkimOnly,
    /// By SPF alone: breaks where mail is forwarded.
    SpfOnly,
    /// By neither.
    Fail,
    /// DNS is silent about what would decide: neither believed nor refused.
    Unknown,
}

/// DMARC's policies, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Deliver.
    None,
    /// Spam folder.
    Quarantine,
    /// Refuse.
    Reject,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Receivers refuse mail, or will not believe it.
    Error,
    /// Works with most receivers, or breaks on the way.
    Warning,
    /// As it should be.
    Ok,
}

/// Something noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `dkim`, `spf`, `dmarc`, `exists`, `mx`, `return-path`, `ptr`, `port25`, `certificate`, ...
    pub check: String,
    /// How much it weighs.
    pub level: Level,
    /// What was found, in a sentence.
    pub says: String,
    /// What to do, in a sentence; empty where nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// The change to DNS that does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A change to DNS, exact enough to be applied by a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum Change {
    /// Publish this record.
    Publish(Record),
    /// Publish this record in place of all that stand at its name with its type, or with this beginning for TXT (`v=spf1`).
    /// A CNAME suffers nothing beside it (RFC 1034 section 3.6.2): it replaces everything at its name, and goes where
    /// another record comes.
    Replace {
        /// The record.
        record: Record,
        /// What the TXT records to be replaced begin with, in any case; empty: every record of the type.
        instead_of: String,
    },
    /// Remove every record of this type at this name.
    Remove {
        /// The name.
        name: String,
        /// `TXT`, `CNAME`, `MX`.
        #[serde(rename = "type")]
        kind: super::records::Kind,
    },
}

impl Believed {
    /// Whether a receiver believes it.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(self, Self::Both | Self::DkimOnly | Self::SpfOnly)
    }
}

impl Policy {
    /// As `p=` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Finding {
    fn new(check: &str, level: Level, says: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level, says: says.into(), fix: String::new(), change: None }
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    fn change(mut self, change: Option<Change>) -> Self {
        self.change = change;
        self
    }
}

impl Change {
    /// Publishes where nothing is, and replaces where something is.
    fn to(record: Record, something: bool, instead_of: &str) -> Self {
        if something {
            Self::Replace { record, instead_of: instead_of.to_owned() }
        } else {
            Self::Publish(record)
        }
    }
}

/// What was found of one mechanism.
struct Part {
    finds: Finds,
    /// `finds` is `Unknown`, and the answer could be a pass that carries DMARC.
    open: bool,
    findings: Vec<Finding>,
}

/// The case with what follows from it for every part.
struct Bench<'a> {
    case: &'a Case<'a>,
    readings: Option<&'a Readings>,
}

impl Bench<'_> {
    fn wanted(&self, name: &str, fits: impl Fn(&Record) -> bool) -> Option<&Record> {
        self.case.wanted.iter().find(|record| record.name.eq_ignore_ascii_case(name) && fits(record))
    }
}

/// A TXT record that we word ourselves.
fn text(name: impl Into<String>, value: String, why: &str) -> Record {
    Record { name: name.into(), kind: Kind::Txt, value, why: why.to_owned() }
}

/// What receivers will find of this case.
#[must_use]
pub fn judge(case: &Case<'_>) -> Verdict {
    let author = &case.author.domain;
    let readings = case.author.dmarc.as_ref().map(|known| dmarc::readings(author, &known.value));
    let bench = Bench { case, readings: readings.as_ref() };
    let (mut dkim, verified) = dkim::look(&bench);
    let mut spf = spf::look(&bench);
    let about = [policy::look(&bench), domain::look(&bench)].concat();
    // What another mechanism makes up for is no reason to refuse mail, only one to do something about it.
    if dkim.finds == Finds::Pass || spf.finds == Finds::Pass {
        for finding in dkim.findings.iter_mut().chain(&mut spf.findings) {
            finding.level = finding.level.max(Level::Warning);
        }
    }
    let refused = about.iter().any(|finding| finding.level == Level::Error);
    let dmarc = believed(&dkim, &spf, refused);
    let mut findings = [dkim.findings, spf.findings, about].concat();
    if dmarc == Believed::SpfOnly {
        findings.push(Finding::new(
            "dmarc",
            Level::Warning,
            "SPF alone carries this mail: it breaks where mail is forwarded, and receivers want DKIM beside it",
        ));
    }
    findings.sort_by_key(|finding| finding.level);
    let policy = readings.and_then(|readings| readings.walk.policy);
    Verdict { dkim: dkim.finds, spf: spf.finds, dmarc, policy, findings, verified }
}

fn believed(dkim: &Part, spf: &Part, refused: bool) -> Believed {
    if refused {
        return Believed::Fail;
    }
    match (dkim.finds == Finds::Pass, spf.finds == Finds::Pass) {
        (true, true) => Believed::Both,
        (true, false) => Believed::DkimOnly,
        (false, true) => Believed::SpfOnly,
        (false, false) if dkim.open || spf.open => Believed::Unknown,
        (false, false) => Believed::Fail,
    }
}

#[cfg(test)]
#[path = "tables/judge.rs"]
mod tests;
