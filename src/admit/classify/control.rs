//! Control addresses: a recipient such as `class+password_reset.<code>@in.relay.example.com`, which a platform that can set no header
//! adds as BCC. It names the class, proves that the relay's administrator gave it to this tenant, and is never delivered.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use crate::config::Classes;
use crate::fsx;
use crate::mail::address::{Address, Domain};

/// What the local part begins with.
const PREFIX: &str = "class+";
/// Octets of the code, twice as many digits: whoever guesses needs an account with the tenant for each try.
const CODE: usize = 10;
/// What the code is computed over begins with this, so that no other use of the key makes the same.
const LABEL: &str = "waxseal control address 1";

/// What control addresses are authenticated with. One a relay, in its state directory.
#[derive(Clone, Debug)]
pub struct ControlKey(hmac::Key);

/// What a recipient says of the message's class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Nothing: it is a recipient like any other.
    Recipient,
    /// This class.
    Class(Arc<str>),
    /// It looks like a control address and is none, for this reason.
    Void(&'static str),
}

impl ControlKey {
    /// The key of the relay with this state directory, made if there is none yet.
    ///
    /// # Errors
    /// The file can be neither read nor made, or others may read it.
    pub fn open(state: &Path) -> io::Result<Self> {
        Ok(Self::new(&*fsx::secret_of(state, "control")?))
    }

    /// A key of these octets.
    #[must_use]
    pub fn new(secret: &[u8; fsx::SECRET]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The address that means this class in a tenant's mail. `None` if the names make none.
    #[must_use]
    pub fn address(&self, relay: &Domain, tenant: &str, class: &str) -> Option<Address> {
        format!("{PREFIX}{class}.{}@in.{relay}", self.code(tenant, class)).parse().ok()
    }

    /// Neither name can hold a line end, so no two pairs make the same text.
    fn code(&self, tenant: &str, class: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{LABEL}\n{tenant}\n{class}").as_bytes());
        tag.as_ref().iter().take(CODE).map(|octet| format!("{octet:02x}")).collect()
    }

    /// What this recipient says. Case counts for nothing: some platforms write addresses in lower case, some people in upper.
    pub(super) fn read(&self, place: &Place<'_>, recipient: &Address) -> Reading {
        if !is_control(place.relay, recipient) {
            return Reading::Recipient;
        }
        let local = recipient.local().to_ascii_lowercase();
        let named = local.strip_prefix(PREFIX).and_then(|rest| rest.rsplit_once('.'));
        let Some((class, code)) = named else { return Reading::Void("it has no code") };
        let right = self.code(place.tenant, class);
        if !bool::from(right.as_bytes().ct_eq(code.as_bytes())) {
            return Reading::Void("its code is wrong for this tenant and class");
        }
        match place.classes.find(class) {
            Some(class) => Reading::Class(Arc::clone(&class.name)),
            None => Reading::Void("its class is not configured any more"),
        }
    }
}

/// Whose mail a control address is read in.
pub(super) struct Place<'a> {
    pub(super) relay: &'a Domain,
    pub(super) tenant: &'a str,
    pub(super) classes: &'a Classes,
}

/// Whether a recipient is a control address, good or bad. No mailbox can have such a name: the domain is the relay's own.
fn is_control(relay: &Domain, recipient: &Address) -> bool {
    let head = recipient.local().get(..PREFIX.len());
    recipient.domain().as_str().strip_prefix("in.") == Some(relay.as_str())
        && head.is_some_and(|head| head.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recipient_says() {
        let key = ControlKey::new(&[7; fsx::SECRET]);
        let relay: Domain = "relay.test".parse().unwrap();
        let classes = Classes::default();
        let place = Place { relay: &relay, tenant: "acme", classes: &classes };
        let good = key.address(&relay, "acme", "password_reset").unwrap().to_string();
        let blue = key.address(&relay, "blue", "password_reset").unwrap().to_string();
        let gone = key.address(&relay, "acme", "gone").unwrap().to_string();
        let (local, _) = good.split_once('@').unwrap();
        let rows = [
            (good.clone(), Reading::Class("password_reset".into()), "as it was given"),
            (good.to_uppercase(), Reading::Class("password_reset".into()), "a platform that shouts"),
            (good.replace("password_reset", "reward"), Reading::Void(WRONG), "another class with this code"),
            (blue, Reading::Void(WRONG), "another tenant's"),
            (gone, Reading::Void("its class is not configured any more"), "a class of the past"),
            ("class+reward@in.relay.test".to_owned(), Reading::Void("it has no code"), "made up"),
            ("class+.@in.relay.test".to_owned(), Reading::Recipient, "no address at all"),
            (format!("{local}@relay.test"), Reading::Recipient, "another domain: somebody's mailbox"),
            (format!("{local}@in.other.test"), Reading::Recipient, "another relay's"),
            (
                "klass+reward.0@in.relay.test".to_owned(),
                Reading::Recipient,
                "another name: somebody's mailbox",
            ),
        ];
        for (text, expected, why) in rows {
            let Ok(address) = text.parse::<Address>() else {
                assert_eq!(expected, Reading::Recipient, "{why}");
                continue;
            };
            assert_eq!(key.read(&place, &address), expected, "{why}: {text}");
        }
        assert!(good.len() < 64, "{good}");
    }

    const WRONG: &str = "its code is wrong for this tenant and class";

    #[test]
    fn the_longest_names_make_an_address() {
        let key = ControlKey::new(&[7; fsx::SECRET]);
        let class = "c".repeat(crate::config::class::NAME_MAX);
        assert!(key.address(&"relay.test".parse().unwrap(), &"t".repeat(64), &class).is_some());
    }
}
