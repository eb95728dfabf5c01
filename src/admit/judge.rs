//! Will receivers believe it? The verdict comes from memory (`seal::outlook`); what it means for a message is decided here.

use super::own::Author;
use super::refusal::Refusal;
use super::{Admit, Submission, no_key};
use crate::mail::address::Domain;
use crate::mail::envelope::Envelope;
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::queue::store::{Cause, Hold};
use crate::seal::enforce::{Ruled, Ruling};
use crate::seal::outlook::{self, Force, Subject};
use crate::seal::refusal::{About, hold_reason, refusal};
use crate::tenant::SignWith;

/// What was decided about a message before it is sealed.
pub(super) struct Judged {
    /// What receivers would find, and what follows from it.
    pub(super) ruled: Ruled,
    /// The domain that signs.
    pub(super) signer: Domain,
    /// It waits for DNS, unsealed.
    pub(super) held: Option<Hold>,
}

impl Admit {
    /// Judges a message by the verdict on its From domain, envelope and route.
    pub(super) fn judge(
        &self,
        submission: &Submission,
        (author, envelope): (&Author, &Envelope),
        (id, now): (Id, Time),
        force: Force<'_>,
    ) -> Result<Judged, Refusal> {
        let tenant = &submission.tenant;
        let own = tenant.owns(author.address.domain()).ok_or_else(|| no_key(author.address.domain()))?;
        let sender = sender(author, envelope);
        let subject = Subject { tenant, own, author: author.address.domain(), sender };
        let signer = outlook::signer(&subject, force.keyring).clone();
        if force.keyring.keys(&signer).is_empty() && tenant.signing.keys != SignWith::None {
            return Err(no_key(&signer));
        }
        let ruled = self.parts.outlook.rule(&subject, force);
        let held = match ruled.ruling {
            Ruling::Send | Ruling::SendUnjudged => None,
            Ruling::Hold => Some(Hold {
                reason: hold_reason(&ruled.verdict).into(),
                cause: Cause::Seal,
                until: Some(now.after(force.config.seal.hold_max)),
            }),
            Ruling::Refuse => {
                let about = About {
                    hostname: &force.config.hostname,
                    author: author.address.domain(),
                    id,
                    since: self.parts.outlook.failing_since(&own.name),
                };
                return Err(Refusal { reply: refusal(&ruled.verdict, &about), reason: "seal" });
            }
        };
        Ok(Judged { ruled, signer, held })
    }
}

/// The domain of the reverse-path as next hops see it; the null one has none.
fn sender<'a>(author: &'a Author, envelope: &'a Envelope) -> Option<&'a Domain> {
    let from = envelope.from.as_ref()?;
    Some(author.return_path.as_ref().unwrap_or_else(|| from.domain()))
}
