//! What protects a message on its way to one host: what the route asks for and what the message needs come together here, and
//! the stricter wins. docs/tls.md is this file in prose.

use std::path::PathBuf;

use super::dane::Pins;
use super::outcome::{Scope, Trouble};
use crate::mail::message::TlsNeed;
use crate::mail::reply::Enhanced;
use crate::tenant::UpstreamTls;

/// What a session must have before it says MAIL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Protection {
    /// How TLS begins.
    pub(super) start: Start,
    /// What the server's certificate must be.
    pub(super) trust: Trust,
    /// Who wants it so.
    pub(super) by: By,
}

/// How TLS begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Start {
    /// Never: clear text.
    Never,
    /// By STARTTLS where it is offered, else clear text (RFC 7435).
    IfOffered,
    /// By STARTTLS, or there is no session.
    Starttls,
    /// With the first octet.
    Implicit,
}

/// What a server's certificate must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// Anything; noted whether it is good.
    Opportunistic,
    /// Good by the system's roots, those of `delivery.ca_file`, and those of this file.
    Verified(Option<PathBuf>),
    /// One that a TLSA record of these fits (RFC 7672).
    Dane(Pins),
}

/// Who wants a session protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum By {
    /// Nobody: it is done where it can be.
    Nobody,
    /// The tenant's route.
    Route,
    /// The exchanger's zone, by its TLSA records.
    Dane,
    /// The recipient's domain, by its MTA-STS policy.
    Sts,
    /// The class of the message.
    Class,
    /// The sender, with REQUIRETLS.
    Sender,
}

impl Protection {
    /// Of exchangers.
    pub(super) const OPPORTUNISTIC: Self =
        Self { start: Start::IfOffered, trust: Trust::Opportunistic, by: By::Nobody };

    /// STARTTLS, with a certificate that is good for the exchanger's name.
    #[must_use]
    pub(super) fn verified(by: By) -> Self {
        Self { start: Start::Starttls, trust: Trust::Verified(None), by }
    }

    /// Of an upstream.
    #[must_use]
    pub(super) fn of_upstream(tls: UpstreamTls, ca_file: Option<PathBuf>) -> Self {
        let start = match tls {
            UpstreamTls::None => Start::Never,
            UpstreamTls::Starttls => Start::Starttls,
            UpstreamTls::Implicit => Start::Implicit,
        };
        let trust = if start == Start::Never { Trust::Opportunistic } else { Trust::Verified(ca_file) };
        Self { start, trust, by: By::Route }
    }

    /// The same, made as strict as the message needs it.
    ///
    /// # Errors
    /// The route is in clear text, and the message must not be.
    pub(super) fn strengthened(self, need: TlsNeed) -> Result<Self, Trouble> {
        let (trust, by) = match need {
            TlsNeed::Waived | TlsNeed::Usual => return Ok(self),
            TlsNeed::Required => (Trust::Opportunistic, By::Class),
            TlsNeed::Verified => (Trust::Verified(None), By::Class),
            TlsNeed::RequireTls => (Trust::Verified(None), By::Sender),
        };
        match self.start {
            // X.7.10: encryption needed (RFC 8689 section 4.2.1).
            Start::Never => Err(Trouble::transient(
                Scope::Host,
                Enhanced(4, 7, 10),
                "the tenant's route says tls = \"none\", and this mail needs TLS, by its class or by REQUIRETLS; nothing was \
                 sent: set tls in the tenant's route, or another tls for the class",
            )),
            Start::IfOffered => Ok(Self { start: Start::Starttls, trust, by }),
            // An upstream is always verified.
            Start::Starttls | Start::Implicit => Ok(self),
        }
    }
}

impl By {
    /// As log and metrics name it; nobody has no name.
    #[must_use]
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::Route => Some("route"),
            Self::Dane => Some("dane"),
            Self::Sts => Some("mta-sts"),
            Self::Class => Some("class"),
            Self::Sender => Some("requiretls"),
        }
    }

    /// Whom to turn to where a session could not be protected as wanted; ends a sentence.
    #[must_use]
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Route => "; nothing was sent: check host and tls in the tenant's route, or set ca_file",
            Self::Dane => {
                "; nothing was sent, for the exchanger's TLSA records (DANE) say which certificate it must show: its postmaster must \
                 mend it"
            }
            Self::Sts => {
                "; nothing was sent, for the recipient's domain says in its MTA-STS policy that nothing may be: its postmaster \
                 must mend it"
            }
            Self::Class => {
                "; nothing was sent, for the class of this mail needs TLS: ask the recipient's postmaster to mend it, or set \
                 another tls for the class, which then holds for new mail"
            }
            Self::Sender => {
                "; nothing was sent, for its sender said REQUIRETLS (RFC 8689): send it without, or another way"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_wins() {
        let upstream = |tls| Protection::of_upstream(tls, None);
        let class = |trust| Some(Protection { start: Start::Starttls, trust, by: By::Class });
        let mx = || Protection::OPPORTUNISTIC;
        let verified = || Trust::Verified(None);
        let rows = [
            (mx(), TlsNeed::Usual, Some(mx()), "as ever"),
            (mx(), TlsNeed::Required, class(Trust::Opportunistic), "TLS, whatever the certificate"),
            (mx(), TlsNeed::Verified, class(verified()), "TLS, and a good certificate"),
            (
                upstream(UpstreamTls::None),
                TlsNeed::Usual,
                Some(upstream(UpstreamTls::None)),
                "the tenant's word",
            ),
            (upstream(UpstreamTls::None), TlsNeed::Required, None, "the route cannot"),
            (upstream(UpstreamTls::None), TlsNeed::Verified, None, "the route cannot"),
            (
                upstream(UpstreamTls::Starttls),
                TlsNeed::Verified,
                Some(upstream(UpstreamTls::Starttls)),
                "verified as it is",
            ),
            (
                upstream(UpstreamTls::Implicit),
                TlsNeed::Required,
                Some(upstream(UpstreamTls::Implicit)),
                "never weakened",
            ),
        ];
        for (route, need, expected, why) in rows {
            assert_eq!(route.strengthened(need).ok(), expected, "{why}");
        }
    }
}
