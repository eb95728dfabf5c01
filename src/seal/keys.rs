//! DKIM keys: reading them from PEM, making them, and the public half as DNS publishes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use rcgen::{KeyPair, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pkcs8::DecodePrivateKey;
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::KeyError;
use crate::mail::secret::SecretString;

/// RFC 8301 section 3.2: verifiers must not believe RSA keys below this.
pub const RSA_BITS_MIN: usize = 1024;
/// RFC 8301 section 3.2: signers should use at least this. Below it the cryptography provider does not sign either.
pub const RSA_BITS_SOUND: usize = 2048;

/// What to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// What every receiver verifies.
    #[default]
    Rsa2048,
    /// Larger; its record needs three strings.
    Rsa3072,
    /// Larger still; signing takes six times as long.
    Rsa4096,
    /// RFC 8463: beside an RSA key, never instead, since many receivers do not know it.
    Ed25519,
}

/// A key of either kind, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with a modulus of so many bits.
    Rsa(usize),
    /// Ed25519.
    Ed25519,
}

impl Kind {
    /// What it is, once made.
    #[must_use]
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Rsa2048 => Algorithm::Rsa(2048),
            Self::Rsa3072 => Algorithm::Rsa(3072),
            Self::Rsa4096 => Algorithm::Rsa(4096),
            Self::Ed25519 => Algorithm::Ed25519,
        }
    }
}

impl Algorithm {
    /// Whether it is RSA, of whatever size.
    #[must_use]
    pub fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa(_))
    }

    /// `a=` of a signature (RFC 6376 section 3.3, RFC 8463 section 3).
    #[must_use]
    pub fn signature_tag(self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }
}

/// The public half, as a key record publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// What it is.
    pub algorithm: Algorithm,
    /// The octets of `p=`: SubjectPublicKeyInfo for RSA, the 32 octets of the key for Ed25519 (RFC 8463 section 4).
    pub octets: Vec<u8>,
}

impl Public {
    /// The key record's text (RFC 6376 section 3.6.1).
    #[must_use]
    pub fn record(&self) -> String {
        let kind = match self.algorithm {
            Algorithm::Rsa(_) => "rsa",
            Algorithm::Ed25519 => "ed25519",
        };
        format!("v=DKIM1; k={kind}; p={}", STANDARD.encode(&self.octets))
    }
}

/// The octets of `p=` in a key record's text; `None`: there are none, or the key was revoked.
#[must_use]
pub fn published_octets(record: &str) -> Option<Vec<u8>> {
    let tags = record.split(';').filter_map(|tag| tag.split_once('='));
    let (_, value) = tags.into_iter().find(|(name, _)| name.trim() == "p")?;
    // RFC 6376 section 3.6.1: white space within is ignored.
    let packed: String = value.split_whitespace().collect();
    STANDARD.decode(packed).ok().filter(|octets| !octets.is_empty())
}

/// A private key ready to sign.
pub(super) enum Signer {
    Rsa(Box<RsaKey<Sha256>>),
    /// 1024 to 2047 bits, which the provider refuses.
    SmallRsa(Box<RsaPrivateKey>),
    Ed25519(Ed25519Key),
}

/// A key that was just made.
#[derive(Debug)]
pub struct Generated {
    /// PKCS#8 PEM: the file's content.
    pub pem: SecretString,
    /// For the record.
    pub public: Public,
}

/// Makes a key. RSA-2048 takes about 0.1 s.
///
/// # Errors
/// The provider's.
pub fn generate(kind: Kind) -> Result<Generated, KeyError> {
    let made = match kind {
        Kind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
        Kind::Rsa3072 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072),
        Kind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096),
        Kind::Ed25519 => KeyPair::generate_for(&PKCS_ED25519),
    };
    let pair = made.map_err(|error| KeyError::Generate(error.to_string()))?;
    let octets = match kind {
        Kind::Rsa2048 | Kind::Rsa3072 | Kind::Rsa4096 => pair.subject_public_key_info(),
        Kind::Ed25519 => pair.public_key_raw().to_vec(),
    };
    let public = Public { algorithm: kind.algorithm(), octets };
    Ok(Generated { pem: pair.serialize_pem().into(), public })
}

/// Reads a PEM: PKCS#8 or PKCS#1, RSA or Ed25519. The error says what is wrong and what to do.
pub(super) fn read(pem: &[u8]) -> Result<(Signer, Public), String> {
    let der = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "no private key in PEM form: a PKCS#8 or PKCS#1 key is expected".to_owned())?;
    if let PrivateKeyDer::Pkcs8(pkcs8) = &der
        && let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(pkcs8.secret_pkcs8_der())
    {
        let public = Public { algorithm: Algorithm::Ed25519, octets: key.public_key() };
        return Ok((Signer::Ed25519(key), public));
    }
    match RsaKey::<Sha256>::from_key_der(der.clone_key()) {
        Ok(key) => {
            let public = RsaPublicKey::from_pkcs1_der(&key.public_key())
                .map_err(|error| format!("the key's public half cannot be read: {error}"))?;
            Ok((Signer::Rsa(Box::new(key)), published(&public)?))
        }
        Err(_) => small(&der),
    }
}

/// Keys that the provider refuses: small RSA signs all the same down to 1024 bits, anything else is no key for DKIM.
fn small(der: &PrivateKeyDer<'_>) -> Result<(Signer, Public), String> {
    let key = match der {
        PrivateKeyDer::Pkcs8(pkcs8) => RsaPrivateKey::from_pkcs8_der(pkcs8.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(pkcs1) => RsaPrivateKey::from_pkcs1_der(pkcs1.secret_pkcs1_der()).ok(),
        PrivateKeyDer::Sec1(_) | _ => None,
    };
    let key = key.ok_or("neither an RSA nor an Ed25519 key: make one with `waxseal key generate`")?;
    let bits = key.n().bits();
    if bits < RSA_BITS_MIN {
        return Err(format!(
            "RSA key of {bits} bits: receivers refuse keys below {RSA_BITS_MIN}; make a new one with `waxseal key generate`"
        ));
    }
    let public = published(&key.to_public_key())?;
    Ok((Signer::SmallRsa(Box::new(key)), public))
}

fn published(key: &RsaPublicKey) -> Result<Public, String> {
    let pkcs1 = key.to_pkcs1_der().map_err(|error| error.to_string())?;
    Ok(Public {
        algorithm: Algorithm::Rsa(key.n().bits()),
        octets: subject_public_key_info(pkcs1.as_bytes()),
    })
}

/// RFC 5280 section 4.1 SubjectPublicKeyInfo around an RSAPublicKey (RFC 3279 section 2.3.1).
fn subject_public_key_info(pkcs1: &[u8]) -> Vec<u8> {
    /// SEQUENCE { OID 1.2.840.113549.1.1.1 (rsaEncryption), NULL }
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let bits = der(0x03, &[&[0], pkcs1].concat());
    der(0x30, &[RSA_ENCRYPTION.as_slice(), &bits].concat())
}

/// A DER value: tag, definite length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = length.iter().copied().skip_while(|octet| *octet == 0).collect::<Vec<_>>();
    let mut out = vec![tag];
    match length.as_slice() {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | u8::try_from(long.len()).unwrap_or(8));
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::secret::ExposeSecret;

    #[test]
    fn a_generated_key_is_read_back_with_the_same_public_half() {
        for kind in [Kind::Rsa2048, Kind::Ed25519] {
            let made = generate(kind).unwrap();
            let (_, public) = read(made.pem.expose_secret().as_bytes()).unwrap();
            assert_eq!(public, made.public);
        }
    }

    #[test]
    fn the_record_of_an_rsa_key_is_subject_public_key_info() {
        let made = generate(Kind::Rsa2048).unwrap();
        let record = made.public.record();
        assert!(record.starts_with("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"), "{record}");
    }
}
