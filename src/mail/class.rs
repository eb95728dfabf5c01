//! What kind of notification a message is, and by what that was recognised.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A message's class, and how sure that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Classed {
    /// The class as configured, such as `password_reset`.
    pub name: Arc<str>,
    /// By what it was recognised.
    pub by: By,
}

/// By what a class was recognised, in order of trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The login it came by.
    Login,
    /// `X-Waxseal-Class`.
    Header,
    /// A control address among the recipients.
    Control,
    /// The address in From.
    From,
    /// A link in the body.
    Link,
    /// The subject.
    Subject,
    /// Nothing: the tenant's default.
    Default,
}

impl By {
    /// The most trusted first: the first that finds a class decides.
    pub const ALL: [Self; 7] =
        [Self::Login, Self::Header, Self::Control, Self::From, Self::Link, Self::Subject, Self::Default];

    /// As logs and commands name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Header => "header",
            Self::Control => "control",
            Self::From => "from",
            Self::Link => "link",
            Self::Subject => "subject",
            Self::Default => "default",
        }
    }

    /// Whether whoever sent it said so: only then may a class dispose of mail, where an administrator asked for that.
    #[must_use]
    pub fn is_certain(self) -> bool {
        matches!(self, Self::Login | Self::Header | Self::Control)
    }

    /// Whether it was read out of what the mail says. Such a class may speed a mail up, and never slow it down.
    #[must_use]
    pub fn is_guess(self) -> bool {
        matches!(self, Self::Link | Self::Subject)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text as its words, for comparison: lower case, one space before each and one at the end; all that is neither letter nor digit parts
/// words. `Reset: your  PASSWORD!` is ` reset your password `.
#[must_use]
pub fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push(' ');
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() {
            out.push(c);
        } else if !out.ends_with(' ') {
            out.push(' ');
        }
    }
    if !out.ends_with(' ') {
        out.push(' ');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certain_is_what_the_sender_said() {
        let certain: Vec<By> = By::ALL.into_iter().filter(|by| by.is_certain()).collect();
        assert_eq!(certain, [By::Login, By::Header, By::Control]);
        assert!(By::ALL.is_sorted(), "in order of trust");
        assert!(By::ALL.iter().all(|by| !(by.is_certain() && by.is_guess())));
    }

    #[test]
    fn words_of_a_text() {
        for (text, expected, why) in [
            ("Reset: your  PASSWORD!", " reset your password ", "case and marks count for nothing"),
            ("W-9", " w 9 ", "a dash parts words"),
            ("", " ", "nothing"),
            ("  ", " ", "no words"),
            ("Größe", " größe ", "letters of any language"),
        ] {
            assert_eq!(words(text), expected, "{why}");
        }
    }
}
