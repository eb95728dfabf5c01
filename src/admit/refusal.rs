//! A refusal: what the client is told, and the word the log files it under.

use crate::mail::header::BadHeader;
use crate::mail::reply::{Enhanced, Reply};

/// RFC 3463 section 3.8: delivery not authorised.
const NOT_ALLOWED: Enhanced = Enhanced(5, 7, 1);
/// RFC 3463 section 3.7: other media error; what the message's form is refused with.
const BAD_FORM: Enhanced = Enhanced(5, 6, 0);

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What the client is told: what happened, and what to do.
    pub(super) reply: Reply,
    /// `from`, `sender`, `control`, `header`, `mime`, `smtputf8`, `hops`, `key` or `seal`.
    pub(super) reason: &'static str,
}

impl Refusal {
    pub(super) fn new(reason: &'static str, code: u16, enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { reply: Reply::new(code, enhanced, text), reason }
    }

    /// Nobody may send this: 550 5.7.1.
    pub(super) fn not_allowed(reason: &'static str, text: impl Into<String>) -> Self {
        Self::new(reason, 550, NOT_ALLOWED, text)
    }

    /// The message is not well formed: 550 5.6.0.
    pub(super) fn bad_form(reason: &'static str, text: impl Into<String>) -> Self {
        Self::new(reason, 550, BAD_FORM, text)
    }
}

impl From<BadHeader> for Refusal {
    fn from(bad: BadHeader) -> Self {
        Self::bad_form("header", format!("{bad}; nothing was sent. Correct the message's header section"))
    }
}
