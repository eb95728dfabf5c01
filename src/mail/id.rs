//! Queue ids: ULIDs, the same in the 250 reply, in `Received:`, in every log record and in every command.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use ulid::Ulid;

use super::time::Time;

/// A message's name from its 250 to its last attempt: sorts by time of arrival, prints as 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Ulid);

impl Id {
    /// Makes an id of the time of arrival and 80 random bits.
    #[must_use]
    pub fn new(at: Time, random: u128) -> Self {
        Self(Ulid::from_parts(at.0, random))
    }

    /// The 16 bytes that sort like the id itself.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.0.to_be_bytes()
    }

    /// The id of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid(u128::from_be_bytes(bytes)))
    }

    /// When the id was made.
    #[must_use]
    pub fn time(self) -> Time {
        Time(self.0.timestamp_ms())
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a queue id (26 characters of Crockford's base 32).
#[derive(Debug, thiserror::Error)]
#[error("not a queue id: 26 letters and digits are expected")]
pub struct BadId;

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Ulid::from_string(text).map(Self).map_err(|_| BadId)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_u128(self.0.0) }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
        } else {
            u128::deserialize(from).map(|bits| Self(Ulid(bits)))
        }
    }
}
