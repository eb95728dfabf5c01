//! One term of an SPF record (RFC 7208 section 12), in its letter: what is not in the grammar is a permerror.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::Ipv6Net;

use super::name::{Letters, Spec, macro_string};
use super::shown;

/// A term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// As it is written.
    pub text: String,
    /// What it is.
    pub kind: Kind,
}

/// What a term is. Of addresses and prefix lengths only the form is looked at: nothing is matched here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `all`
    All,
    /// `include:`
    Include(Spec),
    /// `a`; of the name itself without one.
    A(Option<Spec>),
    /// `mx`
    Mx(Option<Spec>),
    /// `ptr`
    Ptr(Option<Spec>),
    /// `ip4:` and `ip6:`
    Network,
    /// `exists:`
    Exists(Spec),
    /// `redirect=`
    Redirect(Spec),
    /// `exp=`
    Explanation,
    /// A modifier that means nothing to RFC 7208, which receivers skip (section 6).
    Unknown,
}

impl Term {
    /// Reads one; `Err` says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("holds U+{:04X}, where only printable ASCII may stand", u32::from(c)));
        }
        let bare = text.strip_prefix(['+', '-', '~', '?']);
        let qualified = bare.is_some();
        let bare = bare.unwrap_or(text);
        let end = bare.find([':', '/', '=']).unwrap_or(bare.len());
        let (name, rest) = bare.split_at_checked(end).unwrap_or((bare, ""));
        let name = name.to_ascii_lowercase();
        let kind = match rest.strip_prefix('=') {
            Some(_) if qualified => Err("is a modifier, before which no qualifier may stand".to_owned()),
            Some(value) => modifier(&name, value),
            None => mechanism(&name, rest),
        };
        Ok(Self { text: text.to_owned(), kind: kind? })
    }

    /// As a person is shown it.
    #[must_use]
    pub fn shown(&self) -> &str {
        shown(&self.text)
    }
}

fn modifier(name: &str, value: &str) -> Result<Kind, String> {
    match name {
        "redirect" => Ok(Kind::Redirect(spec(value)?)),
        "exp" => spec(value).map(|_| Kind::Explanation),
        _ if !is_modifier_name(name) => Err("is no mechanism, and no modifier is called so".to_owned()),
        _ => {
            macro_string(value, Letters::Explanation).map_err(|bad| bad.to_string())?;
            Ok(Kind::Unknown)
        }
    }
}

/// RFC 7208 section 12, `name`.
fn is_modifier_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn mechanism(name: &str, rest: &str) -> Result<Kind, String> {
    match name {
        "all" if rest.is_empty() => Ok(Kind::All),
        "all" => Err("has something behind `all`".to_owned()),
        "include" => Ok(Kind::Include(needed(rest)?)),
        "exists" => Ok(Kind::Exists(needed(rest)?)),
        "a" => Ok(Kind::A(optional(without_lengths(rest)?)?)),
        "mx" => Ok(Kind::Mx(optional(without_lengths(rest)?)?)),
        "ptr" => Ok(Kind::Ptr(optional(rest)?)),
        "ip4" => network::<Ipv4Addr>(rest, 32),
        "ip6" => mapped(rest).map_or_else(|| network::<Ipv6Addr>(rest, 128), Err),
        _ => Err("is a mechanism that receivers do not know".to_owned()),
    }
}

fn spec(text: &str) -> Result<Spec, String> {
    text.parse().map_err(|bad: super::BadSpec| bad.to_string())
}

fn needed(rest: &str) -> Result<Spec, String> {
    spec(rest.strip_prefix(':').ok_or("lacks a colon and a domain")?)
}

fn optional(rest: &str) -> Result<Option<Spec>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    needed(rest).map(Some)
}

/// Cuts `dual-cidr-length` off: `/24`, `//64`, `/24//64`. A slash may also stand in a macro, so it is looked for at the end.
fn without_lengths(rest: &str) -> Result<&str, String> {
    let (rest, six) = without_length(rest, "//");
    let (rest, four) = without_length(rest, "/");
    for (length, most) in [(four, 32), (six, 128)] {
        length.map_or(Ok(()), |length| prefix_length(length, most))?;
    }
    Ok(rest)
}

fn without_length<'t>(text: &'t str, slash: &str) -> (&'t str, Option<&'t str>) {
    match text.rsplit_once(slash) {
        // What ends in a brace, as in `%{d1/}`, is a macro's and not a length.
        Some((head, length)) if !length.contains(['}', '.', '/']) => (head, Some(length)),
        _ => (text, None),
    }
}

/// RFC 7208 section 12: no leading zero, no sign.
fn prefix_length(digits: &str, most: u8) -> Result<(), String> {
    let plain = digits == "0" || digits.starts_with(|c: char| matches!(c, '1'..='9'));
    let length = digits.parse::<u8>().ok().filter(|length| plain && *length <= most);
    length.map(|_| ()).ok_or_else(|| format!("has a prefix length that is not 0 to {most}"))
}

fn network<A: FromStr>(rest: &str, most: u8) -> Result<Kind, String> {
    let network = rest.strip_prefix(':').ok_or("lacks a colon and an address")?;
    let (address, length) =
        network.split_once('/').map_or((network, None), |(address, length)| (address, Some(length)));
    if address.parse::<A>().is_err() {
        return Err(if most == 32 { "is no IPv4 address" } else { "is no IPv6 address" }.to_owned());
    }
    length.map_or(Ok(()), |length| prefix_length(length, most))?;
    Ok(Kind::Network)
}

/// RFC 7208 section 5: `ip6:` matches no IPv4 address. mail-auth takes one for its mapped form, and lets it pass.
fn mapped(rest: &str) -> Option<String> {
    let text = rest.strip_prefix(':')?;
    let network: Ipv6Net = text.parse().ok().or_else(|| Some(text.parse::<Ipv6Addr>().ok()?.into()))?;
    let all_mapped = Ipv6Net::new(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96).ok()?;
    let covers = network.contains(&all_mapped) || all_mapped.contains(&network);
    covers.then(|| {
        "covers IPv4 addresses for some receivers and not for others: name those with ip4".to_owned()
    })
}
