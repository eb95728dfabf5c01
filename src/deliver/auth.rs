//! What we log in with at an upstream, and what of it a server must not say back into our log: one that does not know the command,
//! or counts it as spam, quotes the line that it got.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use zeroize::Zeroizing;

/// What stands in the place of a secret.
const HIDDEN: &[u8] = b"[hidden]";
/// A secret that is said back may be cut off: so much of its beginning is known again.
const BEGUN: usize = 6;
/// A shorter password is a part of every other word, and nobody could read a reply that hides it.
const LEAST: usize = 4;

/// Credentials, and whether they may travel in clear text.
#[derive(Clone)]
pub struct Auth {
    /// User name and password; never printed.
    pub credentials: Credentials,
    /// The tenant says so in its file.
    pub cleartext: bool,
    /// The password is an access token (XOAUTH2).
    pub bearer: bool,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// What this mechanism answers to a challenge, in base64.
    #[must_use]
    pub fn response(&self, mechanism: Mechanism, challenge: Option<&str>) -> String {
        BASE64.encode(self.plain(mechanism, challenge).as_bytes())
    }

    fn plain(&self, mechanism: Mechanism, challenge: Option<&str>) -> Zeroizing<String> {
        mechanism.response(&self.credentials, challenge).unwrap_or_default().into()
    }

    /// Hides what was sent, and the password itself, in what a server says of it.
    pub fn hide(&self, text: &mut Vec<u8>) {
        let password = self.plain(Mechanism::Login, Some("Password"));
        let sent = [
            self.response(Mechanism::Xoauth2, None),
            self.response(Mechanism::Plain, None),
            self.response(Mechanism::Login, Some("Password")),
        ];
        for secret in sent.map(Zeroizing::new) {
            without(text, secret.as_bytes());
        }
        without(text, password.as_bytes());
    }
}

/// Hides a secret, also where it breaks off.
fn without(text: &mut Vec<u8>, secret: &[u8]) {
    let Some(head) = secret.get(..secret.len().min(BEGUN)).filter(|_| secret.len() >= LEAST) else { return };
    let find = |text: &[u8], from: usize| Some(from + memchr::memmem::find(text.get(from..)?, head)?);
    let mut from = 0;
    while let Some(at) = find(text, from) {
        let said = text.get(at..).unwrap_or_default();
        let same = said.iter().zip(secret).take_while(|(one, other)| one == other).count();
        text.splice(at..at + same, HIDDEN.iter().copied());
        from = at + HIDDEN.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(password: &str, text: &str) -> String {
        let credentials = Credentials::new("acme".to_owned(), password.to_owned());
        let mut text = text.as_bytes().to_vec();
        Auth { credentials, cleartext: false, bearer: false }.hide(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn what_is_said_back_of_a_login_is_hidden() {
        let plain = BASE64.encode("\0acme\0hunter22");
        let bearer = BASE64.encode("user=acme\x01auth=Bearer hunter22\x01\x01");
        let rows = [
            (format!("unknown: AUTH PLAIN {plain}"), "unknown: AUTH PLAIN [hidden]", "the whole line"),
            (
                format!("unknown: AUTH PLAIN {}...", &plain[..18]),
                "unknown: AUTH PLAIN [hidden]...",
                "cut off",
            ),
            (format!("unknown: {}", BASE64.encode("hunter22")), "unknown: [hidden]", "LOGIN's answer"),
            (format!("{bearer} {bearer}"), "[hidden] [hidden]", "a token, twice"),
            ("no: hunter22 is wrong".to_owned(), "no: [hidden] is wrong", "decoded by somebody helpful"),
            ("no: hunter2".to_owned(), "no: [hidden]", "and cut off"),
            (
                "5.7.8 acme is not known; hunt on".to_owned(),
                "5.7.8 acme is not known; hunt on",
                "nothing of it",
            ),
        ];
        for (text, expected, why) in rows {
            assert_eq!(hidden("hunter22", &text), expected, "{why}");
        }
        assert_eq!(hidden("5", "5.7.8 error 51: 5"), "5.7.8 error 51: 5", "everything would be hidden");
    }
}
