//! The listener's certificates: chosen by the name the client asks for, read again at a reload; a bad pair is refused and
//! the old ones stay.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

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
    /// Never empty: `load` has read the first pair.
    pairs: ArcSwap<Vec<Arc<CertifiedKey>>>,
}

impl Certificates {
    /// Reads and checks every pair.
    ///
    /// # Errors
    /// The first file that is missing, malformed, or whose key does not fit its certificate.
    pub fn load(tls: &Tls) -> Result<Arc<Self>, BadCertificate> {
        Ok(Arc::new(Self { pairs: ArcSwap::from_pointee(read_all(tls)?) }))
    }

    /// Reads them again; on an error the old ones stay in use.
    ///
    /// # Errors
    /// As for `load`.
    pub fn reload(&self, tls: &Tls) -> Result<(), BadCertificate> {
        self.pairs.store(Arc::new(read_all(tls)?));
        Ok(())
    }

    /// TLS 1.2 and 1.3 with these certificates (RFC 8996: nothing older).
    ///
    /// # Errors
    /// rustls refuses the set-up.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Self>::clone(self));
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        // One ticket is enough for a client that comes back, and each costs octets at every handshake.
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    /// The first pair that bears the name; without a name, or with one that no pair bears, the first of all.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.pairs.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| pairs.iter().find(|pair| bears(pair, &name)));
        named.or_else(|| pairs.first()).cloned()
    }
}

fn bears(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = pair.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
    parsed.is_some_and(|leaf| rustls::client::verify_server_name(&leaf, name).is_ok())
}

fn read_all(tls: &Tls) -> Result<Vec<Arc<CertifiedKey>>, BadCertificate> {
    let provider = aws_lc_rs::default_provider();
    let first = std::iter::once((&tls.certificate, &tls.key));
    let more = tls.more.iter().map(|(certificate, key)| (certificate, key));
    first.chain(more).map(|(certificate, key)| read(certificate, key, &provider)).collect()
}

fn read(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, BadCertificate> {
    let bad = |path: &Path, what: String| BadCertificate { path: path.to_owned(), what };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(certificate, "no certificate in it (PEM, leaf first, is expected)".to_owned()));
    }
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let pair = CertifiedKey::from_der(chain, secret, provider);
    Ok(Arc::new(pair.map_err(|error| bad(key, format!("not a key for {}: {error}", certificate.display())))?))
}

#[cfg(test)]
mod tests;
