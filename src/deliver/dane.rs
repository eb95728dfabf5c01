//! DANE for SMTP (RFC 7672): which TLSA records can be used, and whether a server's certificate is what they say.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::{Error, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::dns::Tlsa;

/// What is said where nothing fits.
pub(super) const NO_FIT: &str = "no TLSA record fits its certificate";
/// An authority of the exchanger's (DANE-TA).
const AUTHORITY: u8 = 2;
/// The exchanger itself (DANE-EE).
const ITSELF: u8 = 3;

/// What DNS says of a host's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Dane {
    /// Nothing that is proven.
    #[default]
    Silent,
    /// Records, none of which can be used: there must be TLS, with any certificate (section 2.2).
    Unusable,
    /// These: one of them must fit.
    Records(Pins),
}

/// What a server's certificate must fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pins {
    /// One of these.
    records: Arc<[Tlsa]>,
    /// Where that is an authority's, the certificate is for one of these names (section 3.2.2). The first is the one with the
    /// records, and the server is asked for it (section 8.1).
    names: Arc<[String]>,
}

impl Pins {
    /// The name that the server is asked for.
    #[must_use]
    pub(super) fn asks_for(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }
}

impl Dane {
    /// Those that can be used, of all there are. `names`: where they are, and what else the certificate may be for.
    #[must_use]
    pub(super) fn new<'a>(records: Vec<Tlsa>, names: impl Iterator<Item = &'a str>) -> Self {
        if records.is_empty() {
            return Self::Silent;
        }
        let usable: Vec<Tlsa> = records.into_iter().filter(is_usable).collect();
        if usable.is_empty() {
            return Self::Unusable;
        }
        // Where no name is looked at, connections serve all domains of the exchanger alike.
        let looked_at = if usable.iter().any(|record| record.usage == AUTHORITY) { usize::MAX } else { 1 };
        let mut kept: Vec<String> = Vec::new();
        for name in names.take(looked_at) {
            if !kept.iter().any(|kept| kept.eq_ignore_ascii_case(name)) {
                kept.push(name.to_owned());
            }
        }
        Self::Records(Pins { records: usable.into(), names: kept.into() })
    }
}

/// Section 3.1.3: PKIX-TA(0) and PKIX-EE(1) are not used for SMTP. A digest of the wrong length fits nothing.
fn is_usable(record: &Tlsa) -> bool {
    let length = match record.matching {
        0 => !record.data.is_empty(),
        1 => record.data.len() == digest::SHA256_OUTPUT_LEN,
        2 => record.data.len() == digest::SHA512_OUTPUT_LEN,
        _ => false,
    };
    matches!(record.usage, AUTHORITY | ITSELF) && record.selector <= 1 && length
}

/// A chain as a server shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    /// The server's own certificate.
    pub(super) leaf: &'a CertificateDer<'a>,
    /// What it sent behind.
    pub(super) rest: &'a [CertificateDer<'a>],
}

/// Whether one of the records fits. DANE-EE looks at nothing else, neither name nor dates (section 3.1.1); DANE-TA at the
/// chain from that authority, at dates, and at the names (section 3.1.2).
///
/// # Errors
/// None fits; or one of an authority does, and the chain from it is not good.
pub(super) fn verify(
    Pins { records, names }: &Pins,
    shown: Shown<'_>,
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Result<(), Error> {
    if records.iter().any(|record| record.usage == ITSELF && fits(record, shown.leaf)) {
        return Ok(());
    }
    let mut anchors = RootCertStore::empty();
    for record in records.iter().filter(|record| record.usage == AUTHORITY) {
        for certificate in shown.rest.iter().filter(|certificate| fits(record, certificate)) {
            let _ = anchors.add(certificate.clone().into_owned());
        }
        // In full: it need not be sent.
        if record.selector == 0 && record.matching == 0 {
            let _ = anchors.add(record.data.clone().into());
        }
    }
    if anchors.is_empty() {
        return Err(Error::General(NO_FIT.into()));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(provider))
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    let verify = |name| verifier.verify_server_cert(shown.leaf, shown.rest, &name, &[], now).map(|_| ());
    let mut verdicts = names.iter().filter_map(|name| ServerName::try_from(name.as_str()).ok()).map(verify);
    let first = verdicts.next().unwrap_or_else(|| Err(Error::General(NO_FIT.into())));
    if first.is_err() && verdicts.any(|verdict| verdict.is_ok()) { Ok(()) } else { first }
}

/// Whether the certificate is the one that a record says.
fn fits(record: &Tlsa, certificate: &CertificateDer<'_>) -> bool {
    let key;
    let octets: &[u8] = if record.selector == 0 {
        certificate
    } else {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
        key = parsed.tbs_certificate.subject_pki.raw.to_vec();
        &key
    };
    match record.matching {
        0 => record.data == octets,
        1 => digest::digest(&digest::SHA256, octets).as_ref() == record.data,
        2 => digest::digest(&digest::SHA512, octets).as_ref() == record.data,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, length: usize) -> Tlsa {
        Tlsa { usage, selector, matching, data: vec![7; length] }
    }

    fn names() -> impl Iterator<Item = &'static str> {
        ["host.test", "mx.test", "MX.test", "b.test"].into_iter()
    }

    #[test]
    fn which_records_can_be_used() {
        let rows = [
            (record(3, 1, 1, 32), true, "what everybody should publish"),
            (record(2, 0, 1, 32), true, "an authority"),
            (record(3, 0, 2, 64), true, "SHA-512 of the certificate"),
            (record(2, 0, 0, 500), true, "in full"),
            (record(0, 0, 1, 32), false, "PKIX-TA"),
            (record(1, 1, 1, 32), false, "PKIX-EE"),
            (record(255, 1, 1, 32), false, "private"),
            (record(3, 2, 1, 32), false, "an unknown selector"),
            (record(3, 1, 3, 32), false, "an unknown digest"),
            (record(3, 1, 1, 31), false, "a digest that was cut"),
            (record(3, 1, 0, 0), false, "nothing"),
        ];
        for (record, usable, why) in rows {
            let made = Dane::new(vec![record], names());
            assert_eq!(made != Dane::Unusable, usable, "{why}");
        }
        assert_eq!(Dane::new(Vec::new(), names()), Dane::Silent);
        let mixed = Dane::new(vec![record(0, 0, 1, 32), record(3, 1, 1, 32)], names());
        let Dane::Records(Pins { records, names: kept }) = mixed else { panic!("{mixed:?}") };
        assert_eq!(*records, [record(3, 1, 1, 32)], "the usable ones count");
        assert_eq!(*kept, ["host.test"], "no name is looked at: all domains share connections");
        let Dane::Records(made) = Dane::new(vec![record(2, 0, 1, 32)], names()) else { panic!() };
        assert_eq!(*made.names, ["host.test", "mx.test", "b.test"], "an authority's: each once");
    }

    #[test]
    fn one_record_must_fit() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pair = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).unwrap();
        let (leaf, other) = (pair.cert.der().clone(), other.cert.der().clone());
        let spki = |der: &CertificateDer<'_>| {
            X509Certificate::from_der(der).unwrap().1.tbs_certificate.subject_pki.raw.to_vec()
        };
        let sha = |kind, octets: &[u8]| digest::digest(kind, octets).as_ref().to_vec();
        let tlsa = |usage, selector, matching, data| Tlsa { usage, selector, matching, data };
        let rows = [
            (vec![tlsa(3, 1, 1, sha(&digest::SHA256, &spki(&leaf)))], true, "its key, SHA-256"),
            (vec![tlsa(3, 1, 2, sha(&digest::SHA512, &spki(&leaf)))], true, "its key, SHA-512"),
            (vec![tlsa(3, 1, 0, spki(&leaf))], true, "its key, in full"),
            (vec![tlsa(3, 0, 1, sha(&digest::SHA256, &leaf))], true, "its certificate"),
            (vec![tlsa(3, 0, 0, leaf.to_vec())], true, "its certificate, in full"),
            (vec![tlsa(3, 1, 1, sha(&digest::SHA256, &spki(&other)))], false, "another key"),
            (
                vec![
                    tlsa(3, 1, 1, sha(&digest::SHA256, &spki(&other))),
                    tlsa(3, 1, 1, sha(&digest::SHA256, &spki(&leaf))),
                ],
                true,
                "the next key beside the old one, while keys are changed",
            ),
            (vec![tlsa(2, 0, 0, other.to_vec())], false, "an authority that did not sign it"),
        ];
        let names: Arc<[String]> = vec!["other-name.test".to_owned()].into();
        for (records, good, why) in rows {
            let shown = Shown { leaf: &leaf, rest: &[] };
            let pins = Pins { records: records.into(), names: Arc::clone(&names) };
            assert_eq!(verify(&pins, shown, &provider, UnixTime::now()).is_ok(), good, "{why}");
        }
    }
}
