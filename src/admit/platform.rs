//! A look at the signatures that a platform's own server put on its mail. They are kept as they are, and ours stands above them;
//! but where a repair changes what one of them covers it no longer verifies. That is said in the log, after the 250 and
//! beside the path of mail: at most a few messages at once, and none while those are under way.

use std::sync::Arc;
use std::time::Duration;

use mail_auth::MessageAuthenticator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dns::Resolver;
use crate::mail::message::Message;
use crate::maillog::{MailLog, Seal};
use crate::seal::receive::{self, SIGNATURES, Signature};

/// Looks at once.
const AT_ONCE: usize = 4;
/// Octets of a message that is looked at: hashing more would be felt.
const LARGEST: usize = 1024 * 1024;
/// The longest look.
const PATIENCE: Duration = Duration::from_secs(20);

/// Those that are still verified.
const ALGORITHMS: [&str; 3] = ["rsa-sha256", "ed25519-sha256", "rsa-sha1"];

/// Looks at some of the messages that come signed.
pub(super) struct Watch {
    verifier: Arc<MessageAuthenticator>,
    places: Arc<Semaphore>,
    log: Arc<MailLog>,
}

/// A look that can begin once the message is in the queue.
pub(super) struct Look {
    verifier: Arc<MessageAuthenticator>,
    log: Arc<MailLog>,
    came: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    pub(super) fn new(resolver: &Resolver, log: &Arc<MailLog>) -> Self {
        Self {
            verifier: Arc::new(receive::verifier(resolver)),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            log: Arc::clone(log),
        }
    }

    /// A look at this message, if it came signed and there is a place. Only then is it copied.
    pub(super) fn look(&self, signatures: usize, came: &[u8]) -> Option<Look> {
        if !(1..=SIGNATURES).contains(&signatures) || came.len() > LARGEST {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (verifier, log) = (Arc::clone(&self.verifier), Arc::clone(&self.log));
        Some(Look { verifier, log, came: came.to_vec(), _place: place })
    }
}

impl Look {
    /// Verifies both in the background, and tells the log what the repairs broke.
    pub(super) fn begin(self, message: &Arc<Message>, repairs: Vec<&'static str>) {
        let message = Arc::clone(message);
        tokio::spawn(async move {
            let looking = async {
                let came = receive::signatures(&self.verifier, &self.came).await;
                if !came.iter().any(passes) {
                    return;
                }
                let leaves = receive::signatures(&self.verifier, &message.body).await;
                let broken = broken(&came, &leaves);
                if !broken.is_empty() {
                    self.log.platform_seal(&message.facts, &broken, &repairs);
                }
            };
            if tokio::time::timeout(PATIENCE, looking).await.is_err() {
                tracing::debug!(id = %message.facts.id, "DNS was too slow to look at a platform's signature");
            }
        });
    }
}

fn passes(signature: &Signature) -> bool {
    signature.result == "pass"
}

/// Those that passed as they came and fail for good as they leave: silence of DNS in between says nothing.
fn broken(came: &[Signature], leaves: &[Signature]) -> Vec<Seal> {
    let fails = |good: &Signature| {
        let same = |other: &&Signature| (&other.domain, &other.selector) == (&good.domain, &good.selector);
        let now: Vec<&Signature> = leaves.iter().filter(same).collect();
        !now.iter().any(|now| passes(now)) && now.iter().any(|now| now.result == "fail")
    };
    let seal = |good: &Signature| {
        let domain = good.domain.parse().ok()?;
        let algorithm = ALGORITHMS.into_iter().find(|name| *name == good.algorithm)?;
        Some(Seal { domain, selector: good.selector.clone(), algorithm })
    };
    came.iter().filter(|one| passes(one) && fails(one)).filter_map(seal).collect()
}
