//! What we found out ourselves, without a reply: by the enhanced code that our own words carry (RFC 3463).

use super::Reason;
use crate::mail::reply::Enhanced;

/// The cause behind our own words.
pub(super) fn reason(enhanced: Option<Enhanced>) -> Reason {
    let Some(Enhanced(_, subject, detail)) = enhanced else { return Reason::Internal };
    match (subject, detail) {
        (0, 0) => Reason::Command,
        (1, 1) => Reason::NoSuchUser,
        (1, 2) => Reason::NoSuchDomain,
        (1, 10) => Reason::NoMail,
        (2, 3) | (3, 4) => Reason::TooLarge,
        (4, 3) => Reason::Dns,
        // Permanent where an address is an inside one, which is said with 5.4.4.
        (4, 4) if enhanced.is_some_and(|code| code.0 == 5) => Reason::Forbidden,
        (4, 4) => Reason::Dns,
        (4, 6) => Reason::Loop,
        (4, 7) => Reason::Late,
        (3, 5) | (4, _) => Reason::Network,
        (5, _) => Reason::Protocol,
        (6, _) => Reason::Unsupported,
        (7, 0 | 8 | 9) => Reason::Credentials,
        (7, _) => Reason::TlsFailure,
        _ => Reason::Internal,
    }
}
