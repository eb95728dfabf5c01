//! By when a message is to be delivered, and what becomes of it otherwise (RFC 2852): the sender's own word, not a guess.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::time::Time;

/// RFC 2852 section 4: nine digits of seconds, either way.
const SECONDS_MAX: i64 = 999_999_999;

/// What MAIL says: `BY=120;RT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct By {
    /// From now on; negative: it is over. Never zero or less with `Mode::Return`.
    pub seconds: i64,
    /// What happens then.
    pub mode: Mode,
    /// Whether each hop says that it handed the message on.
    pub trace: bool,
}

/// What happens to recipients that are not delivered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `R`: they fail, and the sender is told.
    Return,
    /// `N`: the sender is told of the delay, once, and they are tried further.
    Notify,
}

/// The same, once the message is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverBy {
    /// By when.
    pub at: Time,
    /// What happens then.
    pub mode: Mode,
    /// Whether each hop says that it handed the message on.
    pub trace: bool,
}

/// A value that BY cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBy;

impl By {
    /// When that is, for a message received now.
    #[must_use]
    pub fn from(self, received: Time) -> DeliverBy {
        let at =
            i64::try_from(received.0).unwrap_or(i64::MAX).saturating_add(self.seconds.saturating_mul(1_000));
        DeliverBy { at: Time(u64::try_from(at).unwrap_or(0)), mode: self.mode, trace: self.trace }
    }
}

impl DeliverBy {
    /// Whole seconds that are left, as the next server is told; the last one that has begun counts.
    #[must_use]
    pub fn left(&self, now: Time) -> By {
        let ahead = self.at.since(now).as_millis().div_ceil(1_000);
        let behind = now.since(self.at).as_millis() / 1_000;
        let whole = |seconds: u128| i64::try_from(seconds).unwrap_or(SECONDS_MAX).min(SECONDS_MAX);
        By { seconds: whole(ahead) - whole(behind), mode: self.mode, trace: self.trace }
    }

    /// The mode as it is written: `R`, `RT`, `N`, `NT`.
    #[must_use]
    pub fn letters(&self) -> &'static str {
        letters(self.mode, self.trace)
    }
}

fn letters(mode: Mode, trace: bool) -> &'static str {
    match (mode, trace) {
        (Mode::Return, false) => "R",
        (Mode::Return, true) => "RT",
        (Mode::Notify, false) => "N",
        (Mode::Notify, true) => "NT",
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.seconds, letters(self.mode, self.trace))
    }
}

/// RFC 2852 section 4, `by-value`: `by-time ";" by-mode [by-trace]`, in any case. With mode R the time must lie ahead.
impl FromStr for By {
    type Err = BadBy;

    fn from_str(text: &str) -> Result<Self, BadBy> {
        let (time, mode) = text.split_once(';').ok_or(BadBy)?;
        let digits = time.strip_prefix(['-', '+']).unwrap_or(time);
        let sound = (1..=9).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
        let ahead: i64 = digits.parse().ok().filter(|_| sound).ok_or(BadBy)?;
        let seconds = if time.starts_with('-') { -ahead } else { ahead };
        let (mode, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (Mode::Return, false),
            "RT" => (Mode::Return, true),
            "N" => (Mode::Notify, false),
            "NT" => (Mode::Notify, true),
            _ => return Err(BadBy),
        };
        if mode == Mode::Return && seconds <= 0 {
            return Err(BadBy);
        }
        Ok(Self { seconds, mode, trace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_by_may_say() {
        for (text, read, why) in [
            ("120;R", Some("120;R"), "returned after two minutes"),
            ("+120;rt", Some("120;RT"), "a plus, small letters, with a trace"),
            ("-20;NT", Some("-20;NT"), "over already: RFC 2852 lets it go on with N"),
            ("0;N", Some("0;N"), "now"),
            ("999999999;N", Some("999999999;N"), "the longest"),
            ("0;R", None, "with R the time lies ahead"),
            ("-1;R", None, "the same"),
            ("1000000000;N", None, "ten digits"),
            ("0000000001;N", None, "ten digits, whatever they are"),
            (";N", None, "no time"),
            ("-;N", None, "a sign alone"),
            ("+-1;N", None, "two signs"),
            ("120", None, "no mode"),
            ("120;", None, "an empty one"),
            ("120;X", None, "an unknown one"),
            ("120;TR", None, "the other way round"),
            ("120; R", None, "a space"),
            ("1m;R", None, "a unit"),
        ] {
            let said = text.parse::<By>().ok().map(|by| by.to_string());
            assert_eq!(said.as_deref(), read, "{text}: {why}");
        }
    }

    #[test]
    fn what_is_left_goes_on() {
        let by: By = "120;RT".parse().unwrap();
        let until = by.from(Time(1_000_000));
        assert_eq!((until.at, until.letters()), (Time(1_120_000), "RT"));
        for (now, left, why) in [
            (1_000_000, 120, "nothing has passed"),
            (1_000_001, 120, "the second that has begun counts"),
            (1_001_000, 119, "one has passed"),
            (1_119_999, 1, "the last one"),
            (1_120_000, 0, "it is over"),
            (1_120_999, 0, "less than a second ago"),
            (1_125_000, -5, "for five seconds"),
            (900_000, 220, "a clock that was set back"),
        ] {
            assert_eq!(until.left(Time(now)).seconds, left, "{why}");
        }
        let past: By = "-20;N".parse().unwrap();
        assert_eq!(past.from(Time(1_000_000)).left(Time(1_000_000)).seconds, -20);
        assert_eq!(past.from(Time(5_000)).at, Time(0), "before the epoch there is nothing");
    }
}
