//! What the end of an attempt says about the site: whether it takes more, has too much, or is not there. Pure; the table
//! below is the whole policy.

use super::outcome::{Permanence, Scope, Trouble};
use super::pace::Sign;
use crate::mail::reply::{Enhanced, PeerReply};

/// Of an attempt that ended in this trouble.
#[must_use]
pub fn of(trouble: &Trouble) -> Sign {
    let (code, enhanced) = (trouble.reply.code, trouble.reply.enhanced);
    // RFC 3463: X.7.x is about security and policy. Who is refused for TLS or a password finds the site as it was.
    let policy = enhanced.is_some_and(|code| code.1 == 7);
    match trouble.scope {
        _ if limits(&trouble.reply) => Sign::Limited,
        Scope::Host if (400..500).contains(&code) => Sign::Busy,
        Scope::Host | Scope::Session if code == 0 && policy => Sign::Spoke,
        Scope::Host => Sign::Dead,
        Scope::Session if code == 0 || (400..500).contains(&code) => Sign::Busy,
        Scope::Destination if trouble.permanence == Permanence::Transient => Sign::Dead,
        Scope::Session | Scope::Recipient | Scope::Message | Scope::Destination => Sign::Spoke,
    }
}

/// Whether a reply says that we send too much: X.7.28, mail flood detected (IANA's registry; Gmail's "421-4.7.28 ... unusual
/// rate of mail").
#[must_use]
pub fn limits(reply: &PeerReply) -> bool {
    (400..500).contains(&reply.code) && reply.enhanced == Some(Enhanced(4, 7, 28))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(scope: Scope, code: u16, enhanced: Enhanced) -> Trouble {
        Trouble::replied(scope, PeerReply { code, enhanced: Some(enhanced), text: Vec::new() })
    }

    #[test]
    fn the_table() {
        let ours = |scope, enhanced| Trouble::transient(scope, enhanced, "ours");
        let rows = [
            (ours(Scope::Host, Enhanced(4, 4, 1)), Sign::Dead, "connection refused, no answer"),
            (ours(Scope::Host, Enhanced(4, 4, 2)), Sign::Dead, "silence where the greeting should be"),
            (
                ours(Scope::Host, Enhanced(4, 7, 5)),
                Sign::Spoke,
                "a certificate is one domain's matter, not the site's",
            ),
            (
                said(Scope::Host, 421, Enhanced(4, 3, 2)),
                Sign::Busy,
                "a greeting of 421: too many connections",
            ),
            (
                said(Scope::Host, 554, Enhanced(5, 7, 1)),
                Sign::Dead,
                "a greeting of 554: it does not serve us",
            ),
            (said(Scope::Session, 421, Enhanced(4, 7, 0)), Sign::Busy, "421 in the middle (RFC 5321 3.8)"),
            (ours(Scope::Session, Enhanced(4, 4, 2)), Sign::Busy, "the connection was lost in the middle"),
            (said(Scope::Session, 454, Enhanced(4, 7, 0)), Sign::Busy, "AUTH cannot be asked now"),
            (
                said(Scope::Session, 535, Enhanced(5, 7, 8)),
                Sign::Spoke,
                "the password is wrong, the server is well",
            ),
            (
                said(Scope::Session, 421, Enhanced(4, 7, 28)),
                Sign::Limited,
                "Gmail: too much from this address",
            ),
            (said(Scope::Host, 421, Enhanced(4, 7, 28)), Sign::Limited, "the same as a greeting"),
            (
                said(Scope::Message, 550, Enhanced(5, 7, 28)),
                Sign::Spoke,
                "final for the message; no rest mends it",
            ),
            (
                ours(Scope::Destination, Enhanced(4, 4, 3)),
                Sign::Dead,
                "its exchangers' addresses cannot be had",
            ),
        ];
        for (trouble, sign, why) in rows {
            assert_eq!(of(&trouble), sign, "{why}");
        }
    }
}
