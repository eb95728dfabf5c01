//! What is wrong with a configuration, on one line: file, line, column, what, and what was perhaps meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How alike (Jaro-Winkler) two words must be before one is offered for the other.
const ALIKE: f64 = 0.8;

/// What is wrong with a configuration, on one line: where, what, and what was perhaps meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, or the environment variable.
    pub file: PathBuf,
    /// Line and column, counted from 1; `None` where the whole file is meant.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// About a whole file.
    #[must_use]
    pub fn whole(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), at: None, what: what.into() }
    }

    /// About the place `offset` octets into `text`.
    #[must_use]
    pub fn at(file: &Path, text: &str, offset: usize, what: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |head| head.chars().count()) + 1;
        Self { file: file.to_owned(), at: Some((line, column)), what: what.into() }
    }

    /// What the TOML reader found, in an administrator's words.
    pub(crate) fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let what = plain(error.message());
        match error.span() {
            Some(Range { start, .. }) => Self::at(file, text, start, what),
            None => Self::whole(file, what),
        }
    }
}

/// serde's message without its jargon, on one line.
pub(crate) fn plain(message: &str) -> String {
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(rest) = line.strip_prefix("unknown field ") {
        return unknown(rest, "unknown key");
    }
    if let Some(rest) = line.strip_prefix("unknown variant ") {
        return unknown(rest, "unknown value");
    }
    line.replace("missing field", "missing key").replace("invalid value: ", "").replace("invalid type: ", "")
}

/// `` `tsl`, expected one of `tls`, `port` `` becomes `` unknown key `tsl`; did you mean `tls`? ``.
fn unknown(rest: &str, kind: &str) -> String {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let word = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    match nearest(word, &known) {
        Some(near) => format!("{kind} `{word}`; did you mean `{near}`?"),
        None => format!("{kind} `{word}`; known here: {}", known.join(", ")),
    }
}

/// The known word most like this one, if any is like it.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |other: &&str| strsim::jaro_winkler(word, other);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then_some(*best)
}
