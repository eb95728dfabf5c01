//! TLS towards other servers. An upstream's certificate must be good: chain, name and time. An exchanger's need not be
//! (RFC 7435), for the alternative is clear text, unless DANE, MTA-STS or the message says so; but whether it was is recorded, and the handshake's signatures are
//! verified either way, so that the peer has the key of the certificate that it shows.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion,
    RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dane::{self, Pins};
use super::protect::Trust;
use super::tally::Problem;
use crate::mail::attempt::TlsFacts;

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    /// The file of further roots.
    #[error("cannot read ca_file {0}: {1}")]
    Roots(String, String),
    /// There is nothing to verify a certificate against.
    #[error("no root certificates: install the system's (ca-certificates), or set ca_file")]
    NoRoots,
    /// The handshake.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] std::io::Error),
}

impl TlsError {
    /// As reports name it (RFC 8460 section 4.3).
    #[must_use]
    pub(super) fn problem(&self) -> Problem {
        let Self::Handshake(error) = self else { return Problem::NotTrusted };
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        inner.map_or(Problem::Failed, problem)
    }
}

/// What a handshake's fault is called in reports.
fn problem(error: &Error) -> Problem {
    if let Error::InvalidCertificate(why) = error {
        return if is_other_name(why) {
            Problem::OtherName
        } else if is_out_of_time(why) {
            Problem::Expired
        } else {
            Problem::NotTrusted
        };
    }
    if *error == Error::General(dane::NO_FIT.into()) { Problem::Tlsa } else { Problem::Failed }
}

fn is_other_name(why: &CertificateError) -> bool {
    matches!(why, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

fn is_out_of_time(why: &CertificateError) -> bool {
    let over = matches!(why, CertificateError::Expired | CertificateError::ExpiredContext { .. });
    over || matches!(why, CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. })
}

/// A session under TLS.
pub(super) struct Secured {
    /// Its stream.
    pub(super) stream: TlsStream<TcpStream>,
    /// What the log says of it.
    pub(super) facts: TlsFacts,
    /// What is wrong with the certificate, where that was no reason to give up.
    pub(super) problem: Option<Problem>,
}

/// The client side of TLS, with the roots read once.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    /// By these roots; `None`: there are none.
    usual: Option<Arc<WebPkiServerVerifier>>,
}

impl Tls {
    /// Reads the system's root certificates, and those of `delivery.ca_file`; what cannot be read is left out and logged.
    #[must_use]
    pub(super) fn new(ca_file: Option<&Path>) -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!("a system root certificate is left out: {error}");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if let Some(file) = ca_file
            && let Err(error) = add_pem(&mut roots, file, std::fs::read(file))
        {
            tracing::warn!("{error}");
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let usual = webpki(roots.clone(), &provider);
        Self { provider, roots, usual }
    }

    /// The handshake with a server of this name.
    ///
    /// # Errors
    /// `TlsError`; nothing that was read before it may be used.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        trust: &Trust,
    ) -> Result<Secured, TlsError> {
        let (verifier, verdict) = self.verifier(trust).await?;
        let asked = match trust {
            Trust::Dane(pins) => pins.asks_for().unwrap_or(host),
            Trust::Verified(_) | Trust::Opportunistic => host,
        };
        let name = server_name(asked, &stream)?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // A resumed session shows no certificate; connections are kept instead.
        config.resumption = Resumption::disabled();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let verdict = verdict.get().copied();
        let facts = facts(stream.get_ref().1, verdict == Some(None));
        Ok(Secured { stream, facts, problem: verdict.flatten() })
    }

    async fn verifier(&self, trust: &Trust) -> Result<(Arc<Verifier>, Found), TlsError> {
        let inner = match trust {
            Trust::Verified(Some(file)) => {
                let mut roots = self.roots.clone();
                add_pem(&mut roots, file, tokio::fs::read(file).await)?;
                webpki(roots, &self.provider)
            }
            Trust::Verified(None) | Trust::Opportunistic | Trust::Dane(_) => self.usual.clone(),
        };
        let strict = matches!(trust, Trust::Verified(_));
        let tlsa = match trust {
            Trust::Dane(pins) => Some(pins.clone()),
            Trust::Verified(_) | Trust::Opportunistic => None,
        };
        if strict && inner.is_none() {
            return Err(TlsError::NoRoots);
        }
        let verdict = Found::default();
        let verifier = Verifier {
            inner,
            tlsa,
            provider: Arc::clone(&self.provider),
            strict,
            verdict: Arc::clone(&verdict),
        };
        Ok((Arc::new(verifier), verdict))
    }
}

fn webpki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Option<Arc<WebPkiServerVerifier>> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build().ok()
}

fn add_pem(roots: &mut RootCertStore, file: &Path, pem: std::io::Result<Vec<u8>>) -> Result<(), TlsError> {
    let fault = |why: String| TlsError::Roots(file.display().to_string(), why);
    let pem = pem.map_err(|error| fault(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    Ok(())
}

/// The name to ask for (SNI) and to verify; an exchanger whose name is no host name is asked for by its address.
fn server_name(host: &str, stream: &TcpStream) -> Result<ServerName<'static>, std::io::Error> {
    ServerName::try_from(host.to_owned())
        .or_else(|_| stream.peer_addr().map(|peer| ServerName::IpAddress(peer.ip().into())))
}

fn facts(session: &ClientConnection, verified: bool) -> TlsFacts {
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(_) | None => "unknown",
    };
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    // rustls says TLS13_AES_…, IANA TLS_AES_….
    let cipher = suite.unwrap_or("unknown").replacen("TLS13_", "TLS_", 1);
    TlsFacts { version: version.to_owned(), cipher, verified, by: None }
}

/// What the verifier found of the certificate: nothing yet, that it is good, or what is wrong.
type Found = Arc<OnceLock<Option<Problem>>>;

/// Verifies what WebPKI asks, and notes it; only a strict one refuses for it.
#[derive(Debug)]
struct Verifier {
    /// `None`: there are no roots.
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// One of these must fit, and nothing else counts.
    tlsa: Option<Pins>,
    provider: Arc<CryptoProvider>,
    strict: bool,
    verdict: Found,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(pins) = &self.tlsa {
            let shown = dane::Shown { leaf: end_entity, rest: intermediates };
            dane::verify(pins, shown, &self.provider, now)?;
            let _ = self.verdict.set(None);
            return Ok(ServerCertVerified::assertion());
        }
        let verdict = match &self.inner {
            Some(inner) => {
                inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(Error::General("no root certificates".into())),
        };
        let _ = self.verdict.set(verdict.as_ref().err().map(problem));
        if self.strict { verdict } else { Ok(ServerCertVerified::assertion()) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
