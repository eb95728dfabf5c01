//! The listener's certificates: chosen by the name the client asks for, read again at a reload; a bad pair is refused and
//! the old ones stay.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Tls;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct BadCertificate {
    /// The file.
    pub path: std::path::PathBuf,
    /// What is wrong with it.
    pub what: String,
}

/// The pairs in use. Handshakes under way keep what they began with.
#[derive(Debug)]
pub struct Certificates {
    pairs: ArcSwap<Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Reads and checks every pair.
    ///
    /// # Errors
    /// The first file that is missing, malformed, or whose key does not fit its certificate.
    pub fn load(tls: &Tls) -> Result<Arc<Self>, BadCertificate> {
        let _ = tls;
        todo!()
    }

    /// Reads them again; on an error the old ones stay in use.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload(&self, tls: &Tls) -> Result<(), BadCertificate> {
        let _ = tls;
        todo!()
    }

    /// TLS 1.2 and 1.3 with these certificates.
    ///
    /// # Errors
    /// rustls refuses the set-up.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        todo!()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let _ = hello;
        self.pairs.load().first().cloned()
    }
}
