//! The links by which a reader unsubscribes (RFC 8058): whose mail, of which class, to whom, and a code that only we can make.
//! There is no list of links: whoever has one has its mail.

use std::io;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::folded;
use crate::fsx;
use crate::mail::address::Address;

/// Octets of the code.
const CODE: usize = 16;
/// Characters of a token at most: the longest names make some 700.
const TOKEN_MAX: usize = 1_024;
/// What the code is computed over begins with this, so that no other use of the key makes the same.
const LABEL: &str = "waxseal unsubscribe 1";

/// What links are made and known by. One a relay, in its state directory; without the file links sent before are void.
#[derive(Clone, Debug)]
pub struct Links(hmac::Key);

/// What a link ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Whose mail.
    pub tenant: String,
    /// Of which class.
    pub class: String,
    /// To whom.
    pub address: Address,
}

impl Links {
    /// The key of the relay with this state directory, made if there is none yet.
    ///
    /// # Errors
    /// The file can be neither read nor made, or others may read it.
    pub fn open(state: &Path) -> io::Result<Self> {
        Ok(Self::new(&*fsx::secret_of(state, "unsubscribe")?))
    }

    /// A key of these octets.
    #[must_use]
    pub fn new(secret: &[u8; fsx::SECRET]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// What stands at the end of the link.
    #[must_use]
    pub fn token(&self, tenant: &str, class: &str, address: &Address) -> String {
        let said = format!("{tenant}\n{class}\n{}", folded(address));
        let code = self.code(&said);
        format!("{}.{}", URL_SAFE_NO_PAD.encode(said), URL_SAFE_NO_PAD.encode(code))
    }

    /// What a token means; `None` if we did not make it.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<Subscription> {
        let (said, code) = token.split_once('.').filter(|_| token.len() <= TOKEN_MAX)?;
        let said = String::from_utf8(URL_SAFE_NO_PAD.decode(said).ok()?).ok()?;
        let code = URL_SAFE_NO_PAD.decode(code).ok()?;
        if !bool::from(self.code(&said).ct_eq(&code)) {
            return None;
        }
        let mut lines = said.split('\n');
        let (tenant, class, address) = (lines.next()?, lines.next()?, lines.next()?);
        Some(Subscription {
            tenant: tenant.to_owned(),
            class: class.to_owned(),
            address: address.parse().ok()?,
        })
    }

    fn code(&self, said: &str) -> Vec<u8> {
        let tag = hmac::sign(&self.0, format!("{LABEL}\n{said}").as_bytes());
        tag.as_ref().iter().take(CODE).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn links() -> Links {
        Links::new(&[7; fsx::SECRET])
    }

    #[test]
    fn what_is_made_is_read_and_nothing_else_is() {
        let address: Address = "Bob@there.test".parse().unwrap();
        let token = links().token("acme", "program_email", &address);
        let read = links().read(&token).unwrap();
        assert_eq!((read.tenant.as_str(), read.class.as_str()), ("acme", "program_email"));
        assert_eq!(read.address.to_string(), "bob@there.test");
        assert!(
            token.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet)),
            "{token}"
        );
        let other = links().token("acme", "program_email", &"eve@there.test".parse().unwrap());
        let (said, _) = token.split_once('.').unwrap();
        let (_, code) = other.split_once('.').unwrap();
        for (token, why) in [
            (format!("{said}.{code}"), "another's code"),
            (said.to_owned(), "no code"),
            (format!("{said}."), "an empty code"),
            (token.to_uppercase(), "case counts"),
            (format!("{token}a"), "longer"),
            ("a".repeat(5_000), "endless"),
        ] {
            assert_eq!(links().read(&token), None, "{why}");
        }
        assert_eq!(Links::new(&[8; fsx::SECRET]).read(&token), None, "another relay's");
        let local = "l".repeat(64);
        let domain = format!("{}.test", vec!["d".repeat(60); 4].join("."));
        let longest = format!("{local}@{domain}").parse().unwrap();
        let token = links().token(&"t".repeat(64), &"c".repeat(32), &longest);
        assert!(
            links().read(&token).is_some() && token.len() < 800,
            "RFC 5322's 998 octets hold it: {}",
            token.len()
        );
    }

    proptest! {
        #[test]
        fn any_token_is_survived(token in ".{0,80}") {
            prop_assert_eq!(links().read(&token), None);
        }
    }
}
