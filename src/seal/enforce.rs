//! What becomes of mail: by the verdict, and by what its tenant chose. Pure.
//!
//! One rule stands over all: a signature is made only with a key whose bytes were seen in DNS, and mail that leaves without one
//! says so in the log. Only `on_fail = "off"` signs with a key that nobody has seen.

use std::sync::Arc;

use super::judge::{Believed, Verdict};
use super::outlook::{Force, Outlook, Subject};
use crate::tenant::{OnFail, SignWith};

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It leaves, sealed with the keys that were seen in DNS; with none, unsealed.
    Send,
    /// It leaves, sealed with whatever keys there are.
    SendUnjudged,
    /// It waits, unsealed, until receivers would believe it.
    Hold,
    /// It is not taken.
    Refuse,
}

/// A ruling, and the verdict that it rests on.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// What becomes of the message.
    pub ruling: Ruling,
    /// What receivers would find.
    pub verdict: Arc<Verdict>,
}

impl Ruled {
    /// The selectors that may sign; `None`: all there are.
    #[must_use]
    pub fn only(&self) -> Option<&[String]> {
        match self.ruling {
            Ruling::SendUnjudged => None,
            Ruling::Send | Ruling::Hold | Ruling::Refuse => Some(&self.verdict.verified),
        }
    }
}

impl Outlook {
    /// Rules on a message, from memory. Where the tenant's upstream signs there is nothing of ours to judge.
    #[must_use]
    pub fn rule(&self, subject: &Subject<'_>, force: Force<'_>) -> Ruled {
        let verdict = self.verdict(subject, force);
        let ruling = match subject.tenant.signing.keys {
            SignWith::None => Ruling::SendUnjudged,
            SignWith::Rsa | SignWith::Both => rule(subject.own.on_fail, &verdict),
        };
        Ruled { ruling, verdict }
    }
}

/// Rules on mail of a domain. DNS that says nothing never refuses: such mail waits.
#[must_use]
pub fn rule(on_fail: OnFail, verdict: &Verdict) -> Ruling {
    match (on_fail, verdict.dmarc) {
        (OnFail::Off, _) => Ruling::SendUnjudged,
        (OnFail::Tag, _) | (_, Believed::Both | Believed::DkimOnly | Believed::SpfOnly) => Ruling::Send,
        (OnFail::Reject | OnFail::Hold, Believed::Unknown) | (OnFail::Hold, Believed::Fail) => Ruling::Hold,
        (OnFail::Reject, Believed::Fail) => Ruling::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Finds;
    use super::*;

    fn verdict(dmarc: Believed) -> Verdict {
        Verdict {
            dkim: Finds::Unknown,
            spf: Finds::Unknown,
            dmarc,
            policy: None,
            findings: Vec::new(),
            verified: Vec::new(),
        }
    }

    #[test]
    fn every_choice_and_every_verdict() {
        use Believed::{Both, DkimOnly, Fail, SpfOnly, Unknown};
        let rows = [
            (OnFail::Reject, Both, Ruling::Send, "believed by both"),
            (OnFail::Reject, DkimOnly, Ruling::Send, "the signature carries it"),
            (OnFail::Reject, SpfOnly, Ruling::Send, "SPF carries it, as far as it is not forwarded"),
            (OnFail::Reject, Fail, Ruling::Refuse, "the platform hears what to publish"),
            (OnFail::Reject, Unknown, Ruling::Hold, "silence of DNS is no reason to refuse"),
            (OnFail::Hold, Both, Ruling::Send, "nothing to wait for"),
            (OnFail::Hold, Fail, Ruling::Hold, "waits for the record"),
            (OnFail::Hold, Unknown, Ruling::Hold, "waits for DNS"),
            (OnFail::Tag, Fail, Ruling::Send, "an administrator wants it sent all the same"),
            (OnFail::Tag, Unknown, Ruling::Send, "the same"),
            (OnFail::Off, Fail, Ruling::SendUnjudged, "nobody judges"),
            (OnFail::Off, Both, Ruling::SendUnjudged, "nobody judges"),
        ];
        for (on_fail, believed, wanted, why) in rows {
            assert_eq!(rule(on_fail, &verdict(believed)), wanted, "{on_fail:?} {believed:?}: {why}");
        }
    }
}
