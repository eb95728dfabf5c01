//! Will receivers believe it? Keys, signatures, and the records that a domain publishes.

use std::path::Path;
use std::time::Duration;

use crate::mail::address::Domain;
use crate::mail::time::Time;

/// Why a message could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is no key for this domain.
    #[error("no DKIM key for {0}")]
    NoKey(Domain),
    /// The key would not sign.
    #[error("signing failed: {0}")]
    Failed(String),
}

/// Why the keys could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or a file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key file is not fit for use.
    #[error("{path}: {what}")]
    Unfit {
        /// Which.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        what: String,
    },
}

/// The private keys of every From domain, parsed once.
#[derive(Debug, Default)]
pub struct Keyring {}

impl Keyring {
    /// Reads `<dir>/<domain>/<selector>.pem`.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let _ = dir;
        todo!()
    }

    /// The `DKIM-Signature:` header lines to put in front of `message`, valid for `life` from `now`.
    ///
    /// # Errors
    /// No key for the domain, or a key that would not sign: the message must not leave.
    pub fn sign(
        &self,
        domain: &Domain,
        message: &[u8],
        now: Time,
        life: Duration,
    ) -> Result<Vec<u8>, SealError> {
        let _ = (domain, message, now, life);
        todo!()
    }
}
