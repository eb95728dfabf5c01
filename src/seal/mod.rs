//! Will receivers believe it? Keys, signatures, and the records that a domain publishes.

pub mod align;
pub mod dkim_record;
pub mod dmarc;
pub mod dmarc_record;
pub mod facts;
pub mod judge;
pub mod keyring;
pub mod keys;
pub mod records;
pub mod refusal;
mod signature;
mod spf_record;
mod tags;

pub use keyring::{Keyring, Sealed, Signed};

use std::io;
use std::path::PathBuf;

use crate::mail::address::Domain;

/// Why a message could not be sealed. It must then not leave.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key for this domain.
    #[error("there is no DKIM key for {0}")]
    NoKey(Domain),
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
    /// A key could not be made.
    #[error("no key could be made: {0}")]
    Generate(String),
}
