//! A key record, read as receivers read it (RFC 6376 section 3.6.1, RFC 8301, RFC 8463), and compared with the key that we
//! would sign with. Where receivers differ, the strictest counts.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::facts::KeyAnswer;
use super::keys::{Algorithm, Public, RSA_BITS_MIN, RSA_BITS_SOUND};
use super::tags::{self, short, space};

/// What stands at a selector, seen from one of our keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The octets of our key are published there, whatever else is wrong.
    pub ours: bool,
    /// Why a receiver would not verify a signature by it; empty: every receiver does.
    pub faults: Vec<Fault>,
    /// What does not stop it.
    pub notes: Vec<Note>,
}

impl Seen {
    /// Whether every receiver verifies a signature by this key.
    #[must_use]
    pub fn verifies(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Why a receiver would not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No TXT record.
    Missing,
    /// So many TXT records: which one counts is the receiver's choice (RFC 6376 section 3.6.2.2).
    Several(usize),
    /// It is no key record.
    Malformed(String),
    /// `p=` is empty.
    Revoked,
    /// Another key.
    OtherKey,
    /// Our key as a bare RSAPublicKey: what RFC 6376 says, but not what it shows, and OpenDKIM reads only SubjectPublicKeyInfo.
    BareRsa,
    /// `k=` does not fit our key.
    OtherType(String),
    /// `s=` leaves mail out.
    NotForEmail(String),
    /// `h=` leaves SHA-256 out.
    NoSha256(String),
    /// RFC 8301 section 3.2: so many bits, which verifiers must not believe.
    TooSmall(usize),
}

/// What is worth a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// `t=y`: the domain says that it is only testing DKIM.
    Testing,
    /// So many bits: enough to be verified, fewer than recommended.
    Small(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is not published"),
            Self::Several(count) => write!(f, "holds {count} TXT records, where receivers want exactly one"),
            Self::Malformed(what) => write!(f, "is no key record that receivers can read: {what}"),
            Self::Revoked => f.write_str("is revoked (p= is empty)"),
            Self::OtherKey => f.write_str("holds another key than the one we sign with"),
            Self::BareRsa => f.write_str(
                "holds our key as PKCS#1, which some receivers cannot read (they want SubjectPublicKeyInfo)",
            ),
            Self::OtherType(kind) => write!(f, "says k={kind}, which is not our key's type"),
            Self::NotForEmail(services) => write!(f, "is not for mail (s={services})"),
            Self::NoSha256(hashes) => write!(f, "does not allow SHA-256 (h={hashes})"),
            Self::TooSmall(bits) => {
                write!(
                    f,
                    "holds an RSA key of {bits} bits; receivers must not believe fewer than {RSA_BITS_MIN}"
                )
            }
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Testing => {
                f.write_str("says t=y (only testing): some receivers then act as if there were no signature")
            }
            Self::Small(bits) => {
                write!(
                    f,
                    "holds an RSA key of {bits} bits; {RSA_BITS_SOUND} are recommended, and some receivers want them"
                )
            }
        }
    }
}

/// Reads what stands at the selector of `ours`.
#[must_use]
pub fn read(answer: &KeyAnswer, ours: &Public) -> Seen {
    let mut seen = Seen { ours: false, faults: Vec::new(), notes: Vec::new() };
    match answer.records.as_slice() {
        [] => seen.faults.push(Fault::Missing),
        [one] => read_one(one, ours, &mut seen),
        several => {
            seen.faults.push(Fault::Several(several.len()));
            // A signature may be made by a key that was seen, so whether it is there counts even then.
            seen.ours = several.iter().any(|text| {
                let mut alone = Seen { ours: false, faults: Vec::new(), notes: Vec::new() };
                read_one(text, ours, &mut alone);
                alone.ours
            });
        }
    }
    if let Algorithm::Rsa(bits) = ours.algorithm
        && seen.ours
    {
        match bits {
            0..RSA_BITS_MIN => seen.faults.push(Fault::TooSmall(bits)),
            RSA_BITS_MIN..RSA_BITS_SOUND => seen.notes.push(Note::Small(bits)),
            RSA_BITS_SOUND.. => {}
        }
    }
    seen
}

fn read_one(text: &str, ours: &Public, seen: &mut Seen) {
    let tags = match tags::parse(text) {
        Ok(tags) => tags,
        Err(what) => return seen.faults.push(Fault::Malformed(what)),
    };
    let tag = |name: &str| tags::get(&tags, name);
    // v= is optional, but where it is, it comes first and says DKIM1.
    match (tag("v"), tags.first()) {
        (None, _) | (Some("DKIM1"), Some(("v", _))) => {}
        (Some("DKIM1"), _) => {
            seen.faults.push(Fault::Malformed("v=DKIM1 is not at the beginning".to_owned()))
        }
        (Some(other), _) => {
            seen.faults.push(Fault::Malformed(format!("v={} is not v=DKIM1", short(other))));
        }
    }
    match tag("p").map(decoded) {
        None => seen.faults.push(Fault::Malformed("it has no p=".to_owned())),
        Some(None) => seen.faults.push(Fault::Malformed("p= is not base64".to_owned())),
        Some(Some(octets)) => compare(&octets, ours, seen),
    }
    let kind = tag("k").unwrap_or("rsa");
    if kind != type_name(ours.algorithm) {
        seen.faults.push(Fault::OtherType(short(kind)));
    }
    if let Some(services) = tag("s")
        && !list(services).any(|service| service == "*" || service == "email")
    {
        seen.faults.push(Fault::NotForEmail(short(services)));
    }
    if let Some(hashes) = tag("h")
        && !list(hashes).any(|hash| hash == "sha256")
    {
        seen.faults.push(Fault::NoSha256(short(hashes)));
    }
    if tag("t").is_some_and(|flags| list(flags).any(|flag| flag == "y")) {
        seen.notes.push(Note::Testing);
    }
}

fn compare(octets: &[u8], ours: &Public, seen: &mut Seen) {
    if octets.is_empty() {
        seen.faults.push(Fault::Revoked);
    } else if octets == ours.octets {
        seen.ours = true;
    } else if rsa_within(&ours.octets).is_some_and(|bare| bare == octets) {
        seen.ours = true;
        seen.faults.push(Fault::BareRsa);
    } else {
        seen.faults.push(Fault::OtherKey);
    }
}

fn type_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rsa(_) => "rsa",
        Algorithm::Ed25519 => "ed25519",
    }
}

/// A list parted by colons.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(':').map(|item| item.trim_matches(space))
}

/// Base64 with white space anywhere (RFC 6376 section 2.10).
fn decoded(text: &str) -> Option<Vec<u8>> {
    if text.contains(space) {
        STANDARD.decode(text.chars().filter(|c| !space(*c)).collect::<String>()).ok()
    } else {
        STANDARD.decode(text).ok()
    }
}

/// The RSAPublicKey within a SubjectPublicKeyInfo: SEQUENCE { SEQUENCE { OID, NULL }, BIT STRING }.
fn rsa_within(info: &[u8]) -> Option<&[u8]> {
    let (outer, _) = der(info, 0x30)?;
    let (_, rest) = der(outer, 0x30)?;
    let (bits, _) = der(rest, 0x03)?;
    bits.strip_prefix(&[0])
}

/// The content of a DER value with this tag, and what follows it.
fn der(octets: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = octets.strip_prefix(&[tag])?.split_first()?;
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (length, rest) = rest.split_at_checked((length & 0x7f).into())?;
    let length =
        length.iter().try_fold(0_usize, |sum, octet| Some(sum.checked_mul(256)? + usize::from(*octet)))?;
    rest.split_at_checked(length)
}

#[cfg(test)]
#[path = "tables/dkim_record.rs"]
mod tests;
