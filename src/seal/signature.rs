//! One `DKIM-Signature:` field (RFC 6376), made with mail-auth from a header section and a body.

use std::time::Duration;

use mail_auth::common::crypto::{Algorithm, HashContext, HashImpl, HashOutput, Sha256, SigningKey};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::{Canonicalization, Signature};
use rsa::pkcs1v15;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner, SignatureEncoding};

use super::SealError;
use super::keys::Signer;
use crate::mail::address::Domain;
use crate::mail::header::Headers;
use crate::mail::time::Time;

/// Listed once more than they occur (RFC 6376 section 8.15): another one added on the way breaks the signature.
const OVERSIGNED: [&str; 10] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-Disposition",
];

/// Signed where they occur (RFC 6376 section 5.4.1, and RFC 8058 section 4 for the two of the list header fields).
pub(super) const SIGNED: [&str; 13] = [
    "Sender",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Content-ID",
    "Content-Description",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "List-Id",
    "List-Help",
    "Auto-Submitted",
    "Feedback-ID",
    "Precedence",
];

/// What a signature is made of, apart from the message.
pub(super) struct Terms<'a> {
    pub(super) domain: &'a Domain,
    pub(super) selector: &'a str,
    pub(super) now: Time,
    pub(super) life: Duration,
}

/// The parts of a message that every signature of it covers, found once.
pub(super) struct Covered<'a> {
    names: Vec<&'static str>,
    fields: Vec<(&'a [u8], &'a [u8])>,
    body_hash: Vec<u8>,
}

impl<'a> Covered<'a> {
    /// Chooses the fields, bottom up for each name (RFC 6376 section 5.4.2), and hashes the body.
    /// Fields named in `omit` are left out: somebody on the way writes them anew.
    pub(super) fn new(headers: &Headers<'a>, body: &[u8], omit: &[String]) -> Self {
        let mut names = Vec::with_capacity(32);
        let mut fields = Vec::with_capacity(16);
        let oversigned = OVERSIGNED.iter().map(|name| (*name, true));
        for (name, over) in oversigned.chain(SIGNED.iter().map(|name| (*name, false))) {
            // RFC 6376 section 5.4: From must be signed, whatever the list says.
            if name != "From" && omit.iter().any(|omitted| omitted.eq_ignore_ascii_case(name)) {
                continue;
            }
            for field in headers.all(name).rev() {
                names.push(name);
                fields.push((field.name(), field.value()));
            }
            if over {
                names.push(name);
            }
        }
        Self { names, fields, body_hash: body_hash(body).as_ref().to_vec() }
    }

    /// The whole header field, CRLF included.
    pub(super) fn sign(&self, key: &Signer, terms: &Terms<'_>) -> Result<Vec<u8>, SealError> {
        let t = terms.now.0 / 1000;
        let mut signature = Signature {
            v: 1,
            a: key.algorithm(),
            d: terms.domain.as_str().to_owned(),
            s: terms.selector.to_owned(),
            bh: self.body_hash.clone(),
            h: self.names.iter().map(|name| (*name).to_owned()).collect(),
            t,
            // RFC 6376 section 3.5: past it a signature is void, so a replay is too; no `l=` (section 8.2).
            x: t + terms.life.as_secs(),
            ch: Canonicalization::Relaxed,
            cb: Canonicalization::Relaxed,
            ..Signature::default()
        };
        let input = Input { fields: &self.fields, signature: &signature };
        signature.b = key.sign(input).map_err(|error| SealError::Failed(error.to_string()))?;
        let mut field = Vec::with_capacity(1024);
        signature.write(&mut field, true);
        Ok(field)
    }
}

/// The hash of the body in relaxed form. Lines of white space at its end are part of no canonical body (RFC 6376 section
/// 3.4.4), but mail-auth 0.13.3 hashes them: so it is not shown them. What leaves keeps them.
fn body_hash(body: &[u8]) -> HashOutput {
    let end = body.iter().rposition(|octet| !b" \t\r\n".contains(octet)).map_or(0, |last| last + 1);
    let mut hasher = <Sha256 as HashImpl>::hasher();
    let written = body.get(..end).unwrap_or_default();
    Canonicalization::Relaxed.canonical_body(written, 0).write(&mut hasher);
    hasher.complete()
}

/// The octets that are signed: the chosen fields in the order of `h=`, then the signature's own field without `b=`.
struct Input<'a> {
    fields: &'a [(&'a [u8], &'a [u8])],
    signature: &'a Signature,
}

impl Writable for Input<'_> {
    fn write(self, to: &mut impl Writer) {
        Canonicalization::Relaxed.canonicalize_headers(self.fields.iter().copied(), to);
        self.signature.write(to, false);
    }
}

impl SigningKey for Signer {
    type Hasher = Sha256;

    fn sign(&self, input: impl Writable) -> mail_auth::Result<Vec<u8>> {
        match self {
            Self::Rsa(key) => key.sign(input),
            Self::Ed25519(key) => key.sign(input),
            Self::SmallRsa(key) => {
                let mut octets = Vec::with_capacity(2048);
                input.write(&mut octets);
                let key = pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key.as_ref().clone());
                // Blinded with randomness, against timing (RUSTSEC-2023-0071).
                key.try_sign_with_rng(&mut OsRng, &octets)
                    .map(|signature| signature.to_vec())
                    .map_err(|error| mail_auth::Error::Io(error.to_string()))
            }
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa(_) | Self::SmallRsa(_) => Algorithm::RsaSha256,
            Self::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }
}
