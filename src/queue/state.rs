//! What a leg waits for: an attempt, or something else than time.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mail::time::Time;

/// What happens next to a leg. In flight is not a state on disk: after a crash such a leg is simply due again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// An attempt at this time.
    Due(Time),
    /// Nothing until released. It ends with the message's life or at `until`, whichever comes first (`Leg::ends`).
    Held {
        /// Why, for a person.
        reason: Arc<str>,
        /// Since when.
        since: Time,
        /// Who or what waits for whom.
        cause: Cause,
        /// When the hold itself ends; `None`: only with the message's life.
        until: Option<Time>,
    },
}

/// What a held leg waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Receivers would not believe it yet.
    Seal,
    /// An operator parked it.
    Operator,
    /// No attempt can be made until a person has looked.
    Route,
    /// The tenant's upstream refuses its credentials.
    Credentials,
}

/// A hold, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why, for a person.
    pub reason: Arc<str>,
    /// What it waits for.
    pub cause: Cause,
    /// When it ends of itself: the leg is then claimed, still held. `None`: when the message expires.
    pub until: Option<Time>,
}

impl Hold {
    /// The state of a leg held from now on.
    #[must_use]
    pub fn since(&self, since: Time) -> State {
        let Self { reason, cause, until } = self;
        State::Held { reason: Arc::clone(reason), since, cause: *cause, until: *until }
    }
}

impl State {
    /// When the leg asks for a turn: its next attempt, or the end of its hold.
    #[must_use]
    pub fn turn(&self, expires: Time) -> Time {
        match self {
            Self::Due(at) => *at,
            Self::Held { until, .. } => until.map_or(expires, |until| until.min(expires)),
        }
    }

    /// What it is held for, if it is.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Due(_) => None,
            Self::Held { cause, .. } => Some(*cause),
        }
    }
}
