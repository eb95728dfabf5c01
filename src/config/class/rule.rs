//! The rules by which a class is recognised, as they are written, parsed once.

use std::fmt;
use std::str::FromStr;

use crate::mail::address::Address;
use crate::mail::class::words;

/// Octets of one rule.
const RULE_MAX: usize = 200;
/// Terms of a link's rule.
const TERMS_MAX: usize = 8;

/// Which From means a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromRule {
    /// `reset@acme.com`; the local part without regard to case.
    Address(Address),
    /// `reset@`: this local part in any domain.
    Local(String),
}

/// Which link means a class: every term must hold of the same link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRule(pub Vec<Term>);

/// One condition on a link. Case counts for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// `name=`: it has this parameter, with any value but none.
    Has(String),
    /// `name=value`: this parameter has this value.
    Is(String, String),
    /// `/text`: the path contains this, slash included.
    Path(String),
}

/// Which words in a subject mean a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRule {
    written: String,
    words: String,
}

/// Why a text is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRule {
    /// Too long to be meant.
    #[error("a rule has at most {RULE_MAX} octets")]
    Long,
    /// Neither an address nor a local part.
    #[error("a rule for From is an address, or a local part with its @, such as `reset@`")]
    From,
    /// Not terms.
    #[error(
        "a rule for links is up to {TERMS_MAX} of `name=`, `name=value` and `/path`, all of which must hold"
    )]
    Link,
    /// No words.
    #[error("a rule for subjects needs a letter or digit")]
    Subject,
}

fn bounded(text: &str) -> Result<&str, BadRule> {
    if text.len() > RULE_MAX { Err(BadRule::Long) } else { Ok(text) }
}

impl FromStr for FromRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let text = bounded(text)?;
        if let Some(local) = text.strip_suffix('@') {
            // A local part is sound if it makes an address.
            let address = format!("{local}@example.com").parse::<Address>().map_err(|_| BadRule::From)?;
            return Ok(Self::Local(address.local().to_lowercase()));
        }
        text.parse().map(Self::Address).map_err(|_| BadRule::From)
    }
}

impl FromRule {
    /// Whether it speaks of this author.
    #[must_use]
    pub fn matches(&self, author: &Address) -> bool {
        let local = author.local().to_lowercase();
        match self {
            Self::Address(address) => {
                address.domain() == author.domain() && address.local().to_lowercase() == local
            }
            Self::Local(wanted) => *wanted == local,
        }
    }
}

impl fmt::Display for FromRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Local(local) => write!(f, "{local}@"),
        }
    }
}

impl FromStr for LinkRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let terms: Result<Vec<Term>, BadRule> = bounded(text)?.split_whitespace().map(str::parse).collect();
        let terms = terms?;
        if terms.is_empty() || terms.len() > TERMS_MAX { Err(BadRule::Link) } else { Ok(Self(terms)) }
    }
}

impl FromStr for Term {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        if text.starts_with('/') && text.len() > 1 {
            return Ok(Self::Path(text.to_lowercase()));
        }
        let (name, value) = text.split_once('=').ok_or(BadRule::Link)?;
        let sound = |c: char| c.is_ascii_alphanumeric() || "-_.[]".contains(c);
        if name.is_empty() || !name.chars().all(sound) || value.contains(['&', '=', '#']) {
            return Err(BadRule::Link);
        }
        let (name, value) = (name.to_lowercase(), value.to_lowercase());
        Ok(if value.is_empty() { Self::Has(name) } else { Self::Is(name, value) })
    }
}

impl fmt::Display for LinkRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " " })?;
            match term {
                Term::Has(name) => write!(f, "{name}=")?,
                Term::Is(name, value) => write!(f, "{name}={value}")?,
                Term::Path(path) => f.write_str(path)?,
            }
        }
        Ok(())
    }
}

impl FromStr for SubjectRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let words = words(bounded(text)?);
        if words.trim().is_empty() {
            return Err(BadRule::Subject);
        }
        Ok(Self { written: text.to_owned(), words })
    }
}

impl SubjectRule {
    /// Whether its words stand together in this subject, which `words` has prepared. Languages that do not part words by spaces
    /// are searched for the letters alone.
    #[must_use]
    pub fn matches(&self, subject: &str) -> bool {
        let sought = if self.words.is_ascii() { self.words.as_str() } else { self.words.trim() };
        subject.contains(sought)
    }
}

impl fmt::Display for SubjectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_why_they_are_none() {
        for (text, sound, why) in [
            ("reset@acme.test", true, "an address"),
            ("reset@", true, "a local part"),
            ("@acme.test", false, "a domain alone would be every mail"),
            ("a b@", false, "no local part"),
            ("", false, "nothing"),
        ] {
            assert_eq!(text.parse::<FromRule>().is_ok(), sound, "{why}: {text}");
        }
        for (text, sound, why) in [
            ("mode=resetPassword", true, "a value"),
            ("oobCode= /reset", true, "two terms"),
            ("oobCode", false, "neither a parameter nor a path"),
            ("/", false, "every path has one"),
            ("=x", false, "no name"),
            ("a=b&c=d", false, "two parameters are two terms"),
            (" ", false, "no term"),
            ("a= a= a= a= a= a= a= a= a=", false, "more than eight"),
        ] {
            assert_eq!(text.parse::<LinkRule>().is_ok(), sound, "{why}: {text}");
        }
        assert_eq!("?!".parse::<SubjectRule>(), Err(BadRule::Subject));
        assert_eq!("x".repeat(RULE_MAX + 1).parse::<SubjectRule>(), Err(BadRule::Long));
    }

    #[test]
    fn subjects_match_by_words() {
        let matches =
            |rule: &str, subject: &str| rule.parse::<SubjectRule>().unwrap().matches(&words(subject));
        assert!(matches("reset your password", "Re: RESET your... Password!"));
        assert!(!matches("reset your password", "Preset your passwords"), "whole words only");
        assert!(!matches("w9", "aw92"), "whole words only");
        assert!(matches("パスワード", "新しいパスワードの設定"), "no spaces between words");
    }

    #[test]
    fn from_is_compared_without_case() {
        let author: Address = "Reset@ACME.test".parse().unwrap();
        assert!("reset@acme.test".parse::<FromRule>().unwrap().matches(&author));
        assert!("RESET@".parse::<FromRule>().unwrap().matches(&author));
        assert!(!"reset@other.test".parse::<FromRule>().unwrap().matches(&author));
    }
}
