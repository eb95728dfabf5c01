//! How urgent a message is to all servers that carry it (RFC 6710): a number from -9 to 9, the most urgent last, and the lane
//! that it takes here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::message::Lane;

/// RFC 6710: the largest value, and with a minus the smallest.
const MOST: i8 = 9;

/// A message's priority; 0 where nobody says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Priority(i8);

/// A number that is no priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a priority is a whole number from -9 to 9")]
pub struct BadPriority;

impl Priority {
    /// The most urgent one.
    pub const HIGHEST: Self = Self(MOST);

    /// The priority of this number; what lies outside is taken for the nearest.
    #[must_use]
    pub const fn nearest(number: i8) -> Self {
        match number {
            ..=-9 => Self(-MOST),
            9.. => Self(MOST),
            within => Self(within),
        }
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i8 {
        self.0
    }

    /// The lane that mail takes for which this was asked. Each of the built-in classes has a priority of its own lane.
    #[must_use]
    pub fn lane(self) -> Lane {
        match self.0 {
            3.. => Lane::Urgent,
            1 | 2 => Lane::Important,
            -2..=0 => Lane::Normal,
            ..=-3 => Lane::Bulk,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 6710's `priority-value`: `0`, or a digit from 1 to 9, perhaps with a minus. Neither `+4`, `-0` nor `04`.
impl FromStr for Priority {
    type Err = BadPriority;

    fn from_str(text: &str) -> Result<Self, BadPriority> {
        let digit = |digit: u8| i8::try_from(digit - b'0').map_err(|_| BadPriority);
        match text.as_bytes() {
            [b'0'] => Ok(Self(0)),
            [one @ b'1'..=b'9'] => Ok(Self(digit(*one)?)),
            [b'-', one @ b'1'..=b'9'] => Ok(Self(-digit(*one)?)),
            _ => Err(BadPriority),
        }
    }
}

impl TryFrom<i64> for Priority {
    type Error = BadPriority;

    fn try_from(number: i64) -> Result<Self, BadPriority> {
        let number = i8::try_from(number).map_err(|_| BadPriority)?;
        if (-MOST..=MOST).contains(&number) { Ok(Self(number)) } else { Err(BadPriority) }
    }
}

impl From<Priority> for i64 {
    fn from(priority: Priority) -> Self {
        priority.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_priority() {
        for (text, number, why) in [
            ("0", Some(0), "nobody minds"),
            ("9", Some(9), "the most urgent"),
            ("-9", Some(-9), "the least"),
            ("10", None, "one digit"),
            ("+4", None, "no plus in the grammar"),
            ("-0", None, "NZDIGIT behind a minus"),
            ("04", None, "no leading zero"),
            ("", None, "nothing"),
            ("-", None, "a minus alone"),
            ("4 ", None, "a space"),
            ("\u{664}", None, "a digit of another script"),
        ] {
            assert_eq!(text.parse::<Priority>().ok().map(Priority::number), number, "{text:?}: {why}");
        }
        for number in -9..=9_i8 {
            let priority = Priority::nearest(number);
            assert_eq!(priority.to_string().parse(), Ok(priority), "what is passed on can be read again");
            assert_eq!(Priority::try_from(i64::from(number)), Ok(priority));
        }
        assert!(Priority::try_from(10).is_err() && Priority::try_from(-10).is_err());
        assert_eq!((Priority::nearest(100), Priority::nearest(-100).number()), (Priority::HIGHEST, -9));
    }

    #[test]
    fn a_more_urgent_one_never_takes_a_slower_lane() {
        let lanes: Vec<Lane> = (-9..=9).map(|number| Priority::nearest(number).lane()).collect();
        assert!(lanes.is_sorted_by(|one, next| one >= next), "the urgent lane comes first: {lanes:?}");
        let of = |number| Priority::nearest(number).lane();
        assert_eq!((of(0), of(9), of(-9)), (Lane::Normal, Lane::Urgent, Lane::Bulk));
    }
}
