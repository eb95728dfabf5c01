//! What a failure means: whom it concerns and whether it lasts, and from these two what happens. Pure; the table below is
//! the whole policy.

use crate::mail::message::{Facts, TlsNeed};
use crate::mail::reply::{Enhanced, PeerReply};

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One recipient: a reply to its RCPT.
    Recipient,
    /// The message, and so every recipient not yet decided: a reply to MAIL, DATA or the final dot, or a need the server
    /// cannot meet.
    Message,
    /// The conversation: it broke in the middle, or the upstream does not take our credentials. Another address of the
    /// same route would not do better now, or might deliver twice.
    Session,
    /// The host: no connection, no greeting, no EHLO. Another one may do.
    Host,
    /// The destination as a whole: what DNS says about it.
    Destination,
}

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permanence {
    /// It may pass.
    Transient,
    /// It lasts.
    Permanent,
}

/// What happens to the recipients concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next host; if there is none, deferred.
    AnotherHost,
    /// They stay queued.
    Deferred,
    /// They fail, and the tenant is told.
    Failed,
}

/// A failure: whom it concerns, whether it lasts, and the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whom it concerns.
    pub scope: Scope,
    /// Whether it lasts.
    pub permanence: Permanence,
    /// The reply, or our own words with code 0.
    pub reply: PeerReply,
}

impl Trouble {
    /// From a reply of 4yz or 5yz; 421 concerns the session whatever it answered (RFC 5321 section 3.8).
    #[must_use]
    pub fn replied(scope: Scope, reply: PeerReply) -> Self {
        let permanence = if reply.code >= 500 { Permanence::Permanent } else { Permanence::Transient };
        let closing = reply.code == 421 && scope != Scope::Host;
        Self { scope: if closing { Scope::Session } else { scope }, permanence, reply }
    }

    /// What we found out ourselves, and that may pass.
    #[must_use]
    pub fn transient(scope: Scope, enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { scope, permanence: Permanence::Transient, reply: PeerReply::local(enhanced, text) }
    }

    /// What we found out ourselves, and that lasts.
    #[must_use]
    pub fn permanent(scope: Scope, enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { scope, permanence: Permanence::Permanent, reply: PeerReply::local(enhanced, text) }
    }

    /// A connection that was just made is closed before MAIL has its reply.
    #[must_use]
    pub fn hung_up() -> Self {
        Self::transient(
            Scope::Session,
            Enhanced(4, 4, 2),
            "the server closed the connection, awaiting the reply to MAIL",
        )
    }

    /// A leg without recipients: nobody is concerned.
    #[must_use]
    pub fn unaddressed() -> Self {
        Self::transient(Scope::Destination, Enhanced(4, 5, 4), "no recipient")
    }

    /// Whether it is the want of TLS, or of a good certificate, that we found out ourselves.
    #[must_use]
    pub fn is_about_tls(&self) -> bool {
        self.reply.code == 0 && matches!(self.reply.enhanced, Some(Enhanced(_, 7, 5 | 10)))
    }

    /// Whether the host was not asked, for want of an address of ours in its family.
    #[must_use]
    pub fn is_unasked(&self) -> bool {
        self.reply.code == 0 && self.reply.enhanced == Some(Enhanced(4, 3, 5)) && self.scope == Scope::Host
    }

    /// Whether a host cannot give what the sender asked for with REQUIRETLS, or with BY and mode R, and will not tomorrow.
    #[must_use]
    pub fn is_unfit(&self, facts: &Facts) -> bool {
        let code = self.reply.enhanced.filter(|_| self.reply.code == 0);
        let lasts = self.scope == Scope::Host && self.permanence == Permanence::Permanent;
        let asked = match code {
            Some(Enhanced(_, 7, 10 | 30)) => facts.needs.tls == TlsNeed::RequireTls,
            Some(Enhanced(_, 4, 7)) => facts.wants_back(),
            Some(_) | None => false,
        };
        lasts && asked
    }

    /// The same of every host: then it is the destination that cannot (RFC 8689 section 4.2.1, RFC 2852 section 4.1.4.1), and the sender is told.
    #[must_use]
    pub fn of_all_hosts(mut self) -> Self {
        self.scope = Scope::Destination;
        self.reply.enhanced = self.reply.enhanced.map(|code| Enhanced(5, code.1, code.2));
        self
    }

    /// What happens to those concerned.
    #[must_use]
    pub fn next(&self) -> Next {
        decide(self.scope, self.permanence)
    }
}

/// The policy. Only what the destination said about the recipient or the message itself, or DNS about the domain, may fail
/// mail; everything about hosts and conversations defers it in the end.
#[must_use]
pub fn decide(scope: Scope, permanence: Permanence) -> Next {
    match (scope, permanence) {
        (Scope::Recipient | Scope::Message | Scope::Destination, Permanence::Permanent) => Next::Failed,
        (Scope::Recipient | Scope::Message | Scope::Destination, Permanence::Transient) => Next::Deferred,
        (Scope::Session, Permanence::Transient | Permanence::Permanent) => Next::Deferred,
        (Scope::Host, Permanence::Transient | Permanence::Permanent) => Next::AnotherHost,
    }
}

#[cfg(test)]
mod tests {
    use super::Permanence::{Permanent, Transient};
    use super::*;

    #[test]
    fn the_table() {
        let rows = [
            (
                Scope::Recipient,
                Transient,
                Next::Deferred,
                "greylisting: all exchangers share it, only time helps",
            ),
            (Scope::Recipient, Permanent, Next::Failed, "RFC 5321 4.2.1: 5yz is not to be repeated"),
            (Scope::Message, Transient, Next::Deferred, "451 at the dot"),
            (Scope::Message, Permanent, Next::Failed, "554 at the dot; SIZE, 8BITMIME, SMTPUTF8 not offered"),
            (
                Scope::Session,
                Transient,
                Next::Deferred,
                "lost in the middle: another host might deliver twice",
            ),
            (Scope::Session, Permanent, Next::Deferred, "535: the tenant can mend it, so nothing bounces"),
            (Scope::Host, Transient, Next::AnotherHost, "connection refused, 421 greeting, silence"),
            (
                Scope::Host,
                Permanent,
                Next::AnotherHost,
                "554 greeting (RFC 5321 3.1): this host serves no mail, another may",
            ),
            (Scope::Destination, Transient, Next::Deferred, "SERVFAIL is no ground to fail mail"),
            (Scope::Destination, Permanent, Next::Failed, "no such domain, null MX"),
        ];
        for (scope, permanence, next, why) in rows {
            assert_eq!(decide(scope, permanence), next, "{why}");
        }
    }

    #[test]
    fn a_421_ends_the_session_whatever_it_answers() {
        let reply = |code| PeerReply { code, enhanced: None, text: Vec::new() };
        let rows = [
            (Scope::Recipient, 421, Scope::Session, "RFC 5321 3.8: may answer any command"),
            (Scope::Message, 421, Scope::Session, "the same at the dot"),
            (Scope::Host, 421, Scope::Host, "a greeting: the next host may have room"),
            (Scope::Recipient, 450, Scope::Recipient, "only 421 is special"),
        ];
        for (scope, code, expected, why) in rows {
            assert_eq!(Trouble::replied(scope, reply(code)).scope, expected, "{why}");
        }
    }
}
