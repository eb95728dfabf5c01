//! Names in SPF terms (RFC 7208 sections 7.1 and 12): text with macros in it, that ends like a name. The grammar is ours, as
//! strict as it is written; what a macro stands for, mail-auth says, so that the lint asks for the names that it asks for.

use std::net::IpAddr;
use std::str::FromStr;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::{Mechanism, Spf, Variables};

use crate::mail::address::DOMAIN_MAX;

/// A name to look up, perhaps with macros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    text: String,
    macros: bool,
}

/// Why a text is no `domain-spec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpec {
    /// Nothing.
    #[error("lacks a domain")]
    Empty,
    /// Something that is not printable ASCII.
    #[error("holds something that may not stand in a name")]
    Octet,
    /// A `%` that begins no macro.
    #[error("holds a % that begins no macro (%{{d}}, %%, %_, %-)")]
    Percent,
    /// `%{x}`, `%{d0}`, `%{d`.
    #[error("holds a macro that receivers do not know")]
    Macro,
    /// `%{c}`, `%{r}` and `%{t}`, which only an explanation may hold.
    #[error("holds a macro that may only stand in an explanation")]
    Letter,
    /// The end is no top-level domain: `localhost`, `example.1`, `example.com:25`.
    #[error("does not end like a domain name")]
    End,
}

/// Which macro letters may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    Name,
    Explanation,
}

/// Whom the macros speak of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    pub(crate) address: IpAddr,
    pub(crate) hello: &'a str,
    pub(crate) mailbox: &'a str,
}

impl FromStr for Spec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<Self, BadSpec> {
        if text.is_empty() {
            return Err(BadSpec::Empty);
        }
        let literal = macro_string(text, Letters::Name)?;
        let ends = match literal {
            // `macro-expand` at the very end is enough.
            None => true,
            Some("") => true,
            Some(tail) => ends_like_a_name(tail),
        };
        if !ends {
            return Err(BadSpec::End);
        }
        Ok(Self { text: text.to_owned(), macros: text.contains('%') })
    }
}

impl Spec {
    /// The name as it is looked up; `None`: it depends on an address, and there is none.
    pub(super) fn name(&self, domain: &str, sender: Option<Sender<'_>>) -> Option<String> {
        if !self.macros {
            return Some(plain(&self.text));
        }
        let sender = sender?;
        // Parsed by mail-auth, for it makes these values from nothing else.
        let record = Spf::parse(format!("v=spf1 exists:{}", self.text).as_bytes()).ok()?;
        let Mechanism::Exists { macro_string } = &record.directives.first()?.mechanism else { return None };
        let mut variables = Variables::new();
        variables.set_ip(&sender.address);
        variables.set_sender(sender.mailbox.as_bytes());
        variables.set_domain(domain.as_bytes());
        variables.set_helo_domain(sender.hello.as_bytes());
        variables.set_host_domain(sender.hello.as_bytes());
        variables.set_validated_domain(b"unknown".as_slice());
        Some(shortened(plain(&macro_string.eval(&variables, domain, false))))
    }

    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// RFC 7208 section 7.3: labels are taken off the left of a name that is too long.
fn shortened(name: String) -> String {
    let mut rest = name.as_str();
    while rest.len() > DOMAIN_MAX {
        let Some((_, shorter)) = rest.split_once('.') else { break };
        rest = shorter;
    }
    rest.to_owned()
}

/// Reads `macro-string`; yields what stands behind the last macro, `None` where there is nothing behind it.
pub(super) fn macro_string(text: &str, letters: Letters) -> Result<Option<&str>, BadSpec> {
    if text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(BadSpec::Octet);
    }
    let mut rest = text;
    let mut seen = false;
    while let Some((_, behind)) = rest.split_once('%') {
        seen = true;
        rest = match behind.strip_prefix(['%', '_', '-']) {
            Some(behind) => behind,
            None => {
                let inner = behind.strip_prefix('{').ok_or(BadSpec::Percent)?;
                let (inner, behind) = inner.split_once('}').ok_or(BadSpec::Macro)?;
                expand(inner, letters)?;
                behind
            }
        };
    }
    Ok((!seen || !rest.is_empty()).then_some(rest))
}

/// What stands in the braces: a letter, digits, `r`, delimiters.
fn expand(inner: &str, letters: Letters) -> Result<(), BadSpec> {
    let mut chars = inner.chars();
    let letter = chars.next().ok_or(BadSpec::Macro)?.to_ascii_lowercase();
    match (letter, letters) {
        ('s' | 'l' | 'o' | 'd' | 'i' | 'p' | 'h' | 'v', _) | ('c' | 'r' | 't', Letters::Explanation) => {}
        ('c' | 'r' | 't', Letters::Name) => return Err(BadSpec::Letter),
        _ => return Err(BadSpec::Macro),
    }
    let rest = chars.as_str();
    let delimiters = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = rest.strip_suffix(delimiters).unwrap_or_default();
    // RFC 7208 section 7.3: a number of labels must not be zero.
    if !digits.is_empty() && digits.chars().all(|c| c == '0') {
        return Err(BadSpec::Macro);
    }
    let delimiters = delimiters.strip_prefix(['r', 'R']).unwrap_or(delimiters);
    let known = delimiters.chars().all(|c| matches!(c, '.' | '-' | '+' | ',' | '/' | '_' | '='));
    known.then_some(()).ok_or(BadSpec::Macro)
}

/// RFC 7208 section 12, `domain-end`: a dot, then a top-level label, then perhaps a dot.
fn ends_like_a_name(tail: &str) -> bool {
    let tail = tail.strip_suffix('.').unwrap_or(tail);
    let Some((_, label)) = tail.rsplit_once('.') else { return false };
    let sound = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    sound
        && !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().any(|c| c.is_ascii_alphabetic() || c == '-')
}
