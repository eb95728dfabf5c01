//! AUTH PLAIN (RFC 4616) and LOGIN, each with and without an initial response. A text goes in, a challenge or
//! credentials come out; whether they are right is somebody else's business.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::mail::secret::SecretString;

/// Clients that leave the padding away are understood.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `Username:`, literally: lettre and others compare it.
const ASK_USERNAME: &str = "VXNlcm5hbWU6";
/// `Password:`.
const ASK_PASSWORD: &str = "UGFzc3dvcmQ6";

/// The mechanisms offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// The older one that some clients know alone.
    Login,
}

impl Mechanism {
    /// The mechanism of this name, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::Login].into_iter().find(|known| known.name().eq_ignore_ascii_case(name))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// What a client claims.
#[derive(Debug)]
pub struct Credentials {
    /// How it said so.
    pub mechanism: Mechanism,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// An exchange that waits for a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN, after an empty challenge.
    Plain,
    /// LOGIN, after `Username:`.
    Username,
    /// LOGIN, after `Password:`.
    Password(String),
}

/// Where a response has led.
#[derive(Debug)]
pub enum Turn {
    /// Send this challenge, already in base64, and wait.
    Ask(Exchange, &'static str),
    /// To be checked.
    Done(Credentials),
    /// It ends here.
    Fault(Fault),
}

/// Why an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not base64, not UTF-8, or NULs where none belong.
    Malformed,
    /// The client said `*`.
    Aborted,
    /// Understood, and certainly wrong: nothing was given, or somebody else's identity was asked for.
    Refused,
}

/// Begins; `initial` is the initial response of RFC 4954 section 4, where `=` stands for an empty one.
#[must_use]
pub fn begin(mechanism: Mechanism, initial: Option<&str>) -> Turn {
    match (mechanism, initial) {
        (Mechanism::Plain, None) => Turn::Ask(Exchange::Plain, ""),
        (Mechanism::Plain, Some(text)) => plain(unless_empty(text)),
        (Mechanism::Login, None) => Turn::Ask(Exchange::Username, ASK_USERNAME),
        (Mechanism::Login, Some(text)) => username(unless_empty(text)),
    }
}

fn unless_empty(initial: &str) -> &str {
    if initial == "=" { "" } else { initial }
}

impl Exchange {
    /// Goes on with a response, its CRLF removed.
    #[must_use]
    pub fn respond(self, line: &[u8]) -> Turn {
        let Ok(text) = std::str::from_utf8(line) else {
            return Turn::Fault(Fault::Malformed);
        };
        let text = text.trim_matches(' ');
        if text == "*" {
            return Turn::Fault(Fault::Aborted);
        }
        match self {
            Self::Plain => plain(text),
            Self::Username => username(text),
            Self::Password(name) => password(name, text),
        }
    }
}

/// RFC 4616 section 2: authzid NUL authcid NUL password. An authzid may only repeat the authcid.
fn plain(text: &str) -> Turn {
    let Some(message) = decode(text) else {
        return Turn::Fault(Fault::Malformed);
    };
    if message.is_empty() {
        return Turn::Fault(Fault::Refused);
    }
    let mut parts = message.split('\0');
    let (Some(authzid), Some(authcid), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Turn::Fault(Fault::Malformed);
    };
    if !authzid.is_empty() && authzid != authcid {
        return Turn::Fault(Fault::Refused);
    }
    done(Mechanism::Plain, authcid.to_owned(), secret)
}

fn username(text: &str) -> Turn {
    match decode(text) {
        Some(name) if !name.contains('\0') => Turn::Ask(Exchange::Password(name.to_string()), ASK_PASSWORD),
        _ => Turn::Fault(Fault::Malformed),
    }
}

fn password(name: String, text: &str) -> Turn {
    match decode(text) {
        Some(secret) if !secret.contains('\0') => done(Mechanism::Login, name, &secret),
        _ => Turn::Fault(Fault::Malformed),
    }
}

fn done(mechanism: Mechanism, username: String, secret: &str) -> Turn {
    if username.is_empty() || secret.is_empty() {
        return Turn::Fault(Fault::Refused);
    }
    Turn::Done(Credentials { mechanism, username, password: secret.to_owned().into() })
}

fn decode(text: &str) -> Option<Zeroizing<String>> {
    let mut octets = Zeroizing::new(BASE64.decode(text).ok()?);
    String::from_utf8(std::mem::take(&mut *octets)).ok().map(Zeroizing::new)
}

/// The user name in an initial response to PLAIN that came over clear text and is not checked, for the log: its
/// password has been seen and should be replaced.
#[must_use]
pub fn exposed(mechanism: &str, initial: Option<&str>) -> Option<String> {
    Mechanism::named(mechanism).filter(|known| *known == Mechanism::Plain)?;
    match begin(Mechanism::Plain, Some(initial?)) {
        Turn::Done(credentials) => Some(credentials.username),
        Turn::Ask(..) | Turn::Fault(_) => None,
    }
}

#[cfg(test)]
mod tests;
