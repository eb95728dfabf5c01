//! Will receivers believe it? Keys, signatures, and the records that a domain publishes.

pub mod align;
pub mod check;
pub mod dkim_record;
pub mod dmarc;
pub mod dmarc_record;
pub mod doctor;
pub mod enforce;
pub mod facts;
pub mod judge;
pub mod keyring;
pub mod keys;
pub mod lifecycle;
pub mod merge;
mod moves;
pub mod opendkim;
pub mod outlook;
pub mod published;
pub mod receive;
pub mod records;
pub mod refusal;
mod signature;
pub mod spf;
mod spf_record;
pub mod stages;
pub mod survey;
mod tags;
pub mod volume;

pub use keyring::{Keyring, Order, Sealed, Signed};
pub use moves::Moved;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, ConfigError};
use crate::mail::address::Domain;

/// A signature outlives the queue's give-up age by this, for mail that was long on its way.
const MARGIN: Duration = Duration::from_secs(2 * 24 * 3600);

/// How long a signature made now is valid (RFC 6376 section 3.5, `x=`).
#[must_use]
pub fn life(config: &Config) -> Duration {
    config.delivery.give_up.saturating_add(MARGIN)
}

/// Why a message could not be sealed. It must then not leave.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key for this domain.
    #[error("there is no DKIM key for {0}")]
    NoKey(Domain),
    /// There are keys, but none that may sign: not seen in DNS, or not of a kind that the route takes.
    #[error("none of the DKIM keys of {0} may sign")]
    NoneAllowed(Domain),
    /// The key would not sign, or the header section cannot be read.
    #[error("signing failed: {0}")]
    Failed(String),
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file is not fit for use.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// `state.toml` is wrong.
    #[error(transparent)]
    State(#[from] ConfigError),
    /// Somebody else was faster: the key is not there, or not at the stage that was expected.
    #[error(
        "the key {selector} of {domain} is not what it was a moment ago; look with `waxseal key list {domain}`"
    )]
    Changed {
        /// Whose.
        domain: Domain,
        /// Which.
        selector: String,
    },
    /// A key could not be made.
    #[error("no key could be made: {0}")]
    Generate(String),
}
