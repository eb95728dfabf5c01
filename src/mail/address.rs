//! Mailboxes and domains, parsed once: nothing downstream looks at case, trailing dots or Unicode forms again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// RFC 5321 section 4.5.3.1.1.
pub const LOCAL_PART_MAX: usize = 64;
/// RFC 5321 section 4.5.3.1.2, and RFC 1035 section 2.3.4 for a name in presentation form.
pub const DOMAIN_MAX: usize = 253;

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// No `@` outside quotes, or nothing on one of its sides.
    #[error("an address is local-part@domain")]
    Shape,
    /// The local part holds what RFC 5321 does not allow unquoted.
    #[error("the local part is malformed")]
    Local,
    /// More than 64 octets before the `@`.
    #[error("the local part is longer than 64 octets")]
    LocalTooLong,
    /// The domain is not a host name.
    #[error("the domain is malformed")]
    Domain,
    /// The domain is an address literal such as `[127.0.0.1]`.
    #[error("address literals are not accepted")]
    Literal,
}

/// A domain name in A-label form, lower case, without the trailing dot.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(Arc<str>);

impl Domain {
    /// The name as it is looked up and compared.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.strip_suffix(&*other.0).is_some_and(|head| head.is_empty() || head.ends_with('.'))
    }
}

impl FromStr for Domain {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.starts_with('[') {
            return Err(BadAddress::Literal);
        }
        if text.is_empty() || text.ends_with('.') {
            return Err(BadAddress::Domain);
        }
        let ascii = idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::STD3)
            .map_err(|_| BadAddress::Domain)?;
        let sound = |label: &str| {
            !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
        };
        if ascii.len() > DOMAIN_MAX || !ascii.split('.').all(sound) {
            return Err(BadAddress::Domain);
        }
        Ok(Self(ascii.into()))
    }
}

impl TryFrom<String> for Domain {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0.as_ref().to_owned()
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A mailbox. The local part is kept exactly as it was written, quotes included; only the domain is normalised.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    local: Arc<str>,
    domain: Domain,
}

impl Address {
    /// The local part as written, quotes and all.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain, normalised.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// An address whose local part we wrote ourselves: a dot-string of at most 64 octets.
    pub(super) fn ours(local: &str, domain: &Domain) -> Self {
        Self { local: local.into(), domain: domain.clone() }
    }

    /// Stands for a recipient that a report does not name; the domain can never exist (RFC 6761 section 6.4).
    #[must_use]
    pub fn unknown() -> Self {
        Self { local: "unknown".into(), domain: Domain("recipient.invalid".into()) }
    }

    /// Whether SMTPUTF8 is needed to name it on the wire (RFC 6531): the local part is not ASCII.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.is_ascii()
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let at = end_of_local(text).ok_or(BadAddress::Shape)?;
        let (local, rest) = text.split_at_checked(at).ok_or(BadAddress::Shape)?;
        let domain = rest.strip_prefix('@').ok_or(BadAddress::Shape)?;
        if local.is_empty() || domain.is_empty() {
            return Err(BadAddress::Shape);
        }
        if local.len() > LOCAL_PART_MAX {
            return Err(BadAddress::LocalTooLong);
        }
        if !local.starts_with('"') && !is_dot_string(local) {
            return Err(BadAddress::Local);
        }
        Ok(Self { local: local.into(), domain: domain.parse()? })
    }
}

/// Where the local part ends: after a whole quoted string (RFC 5321 section 4.1.2), or at the first `@`.
fn end_of_local(text: &str) -> Option<usize> {
    if !text.starts_with('"') {
        return text.find('@');
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            // RFC 5321 section 4.1.2: quoted-pairSMTP holds printable ASCII; an escaped CR or LF would be a command of its own.
            _ if c.is_control() => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// RFC 5321 section 4.1.2 Dot-string, with RFC 6531's UTF-8 atoms.
fn is_dot_string(local: &str) -> bool {
    let atext = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(|c| atext(c) && !c.is_control()))
}

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_why_they_are_none() {
        type Row<'a> = (&'a str, Result<(&'a str, &'a str), BadAddress>, &'a str);
        let rows: &[Row<'_>] = &[
            ("a@Example.COM", Ok(("a", "example.com")), "the domain is folded, the local part is not"),
            ("A.b+c@x.test", Ok(("A.b+c", "x.test")), "atoms"),
            ("\"a b\"@x.test", Ok(("\"a b\"", "x.test")), "quoted, kept with its quotes"),
            (
                "\"a\\\"b@c\"@x.test",
                Ok(("\"a\\\"b@c\"", "x.test")),
                "an escaped quote and an @ within quotes",
            ),
            ("u%v.test@x.test", Ok(("u%v.test", "x.test")), "opaque, never routed by"),
            ("gr\u{fc}n@x.test", Ok(("gr\u{fc}n", "x.test")), "RFC 6531"),
            ("a@b\u{fc}cher.test", Ok(("a", "xn--bcher-kva.test")), "compared as A-label"),
            (
                "\"a\\\r\nDATA\"@x.test",
                Err(BadAddress::Shape),
                "an escaped line end would be a command to the next hop",
            ),
            ("\"a\nb\"@x.test", Err(BadAddress::Shape), "the same, bare"),
            ("u@victim@relay.test", Err(BadAddress::Domain), "two @"),
            ("u@", Err(BadAddress::Shape), "no domain"),
            ("@x.test", Err(BadAddress::Shape), "no local part"),
            ("a..b@x.test", Err(BadAddress::Local), "an empty atom"),
            ("a b@x.test", Err(BadAddress::Local), "a blank outside quotes"),
            ("u@x..y", Err(BadAddress::Domain), "an empty label"),
            ("u@-x.test", Err(BadAddress::Domain), "a hyphen first"),
            ("u@x.test.", Err(BadAddress::Domain), "RFC 5321 has no trailing dot"),
            ("u@[127.0.0.1]", Err(BadAddress::Literal), "no way around MX"),
        ];
        for (text, wanted, why) in rows {
            let got = text.parse::<Address>();
            let got =
                got.as_ref().map(|address| (address.local(), address.domain().as_str())).map_err(|bad| *bad);
            assert_eq!(&got, wanted, "{why}: {text:?}");
        }
        let long = format!("{}@x.test", "a".repeat(LOCAL_PART_MAX + 1));
        assert_eq!(long.parse::<Address>(), Err(BadAddress::LocalTooLong));
    }

    #[test]
    fn within_is_by_labels_not_letters() {
        let domain = |text: &str| text.parse::<Domain>().unwrap();
        assert!(
            domain("a.x.test").is_within(&domain("x.test")) && domain("x.test").is_within(&domain("x.test"))
        );
        assert!(!domain("ax.test").is_within(&domain("x.test")));
    }
}
