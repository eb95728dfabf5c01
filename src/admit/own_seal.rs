//! Our own signatures, verified as a receiver does, against DNS: the judge knows that the right key is published, this sees
//! that what leaves verifies with it. A sample, beside the path of mail.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use mail_auth::MessageAuthenticator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dns::Resolver;
use crate::mail::address::Domain;
use crate::mail::message::Message;
use crate::maillog::{MailLog, Seal};
use crate::metrics::{Metrics, ResultLabel};
use crate::seal::receive::{self, Signature};

/// One message of a signing domain in this time at most.
const EVERY: Duration = Duration::from_secs(600);
/// Checks at once.
const AT_ONCE: usize = 4;
/// Octets of a message that is checked: hashing more would be felt.
const LARGEST: usize = 1024 * 1024;
/// The longest check.
const PATIENCE: Duration = Duration::from_secs(20);
/// Domains whose last check is known; of one that was forgotten the next message is checked.
const DOMAINS: NonZeroUsize = match NonZeroUsize::new(16_384) {
    Some(count) => count,
    None => NonZeroUsize::MIN,
};

/// Which domains were checked, and when.
pub(super) struct Checks {
    tools: Arc<Tools>,
    last: Mutex<LruCache<Domain, Instant>>,
    places: Arc<Semaphore>,
}

struct Tools {
    verifier: MessageAuthenticator,
    log: Arc<MailLog>,
    metrics: Arc<Metrics>,
}

/// A check that can begin once the message is in the queue.
pub(super) struct Check {
    tools: Arc<Tools>,
    _place: OwnedSemaphorePermit,
}

impl Checks {
    pub(super) fn new(resolver: &Resolver, log: &Arc<MailLog>, metrics: &Arc<Metrics>) -> Self {
        let verifier = receive::verifier(resolver);
        let (log, metrics) = (Arc::clone(log), Arc::clone(metrics));
        let tools = Arc::new(Tools { verifier, log, metrics });
        Self { tools, last: Mutex::new(LruCache::new(DOMAINS)), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// A check of a message with these seals, if its domain's turn has come and there is a place.
    pub(super) fn due(&self, seals: &[Seal], octets: usize) -> Option<Check> {
        let domain = &seals.first()?.domain;
        if octets > LARGEST {
            return None;
        }
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.get(domain).is_some_and(|last| now.duration_since(*last) < EVERY) {
            return None;
        }
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        last.put(domain.clone(), now);
        Some(Check { tools: Arc::clone(&self.tools), _place: place })
    }
}

impl Check {
    /// Verifies in the background, and tells log and metrics what came of it.
    pub(super) fn begin(self, message: &Arc<Message>, seals: Vec<Seal>, repairs: Vec<&'static str>) {
        let message = Arc::clone(message);
        tokio::spawn(async move {
            let Tools { verifier, log, metrics } = &*self.tools;
            let looking = receive::signatures(verifier, &message.body);
            let found = tokio::time::timeout(PATIENCE, looking).await.unwrap_or_default();
            let (result, broken, why) = verdict(&seals, &found);
            metrics.seal_checks.get_or_create(&ResultLabel { result }).inc();
            tracing::debug!(id = %message.facts.id, result, "signatures of ours were verified");
            if !broken.is_empty() {
                tracing::error!(id = %message.facts.id, why, "a signature of ours does not verify");
                log.seal_check(&message.facts, &broken, &repairs, &why);
            }
        });
    }
}

/// What was found of our seals, those that fail for good, and why.
fn verdict(seals: &[Seal], found: &[Signature]) -> (&'static str, Vec<Seal>, String) {
    let (mut broken, mut reasons, mut silent) = (Vec::new(), Vec::new(), false);
    for seal in seals {
        let ours = |found: &&Signature| {
            found.domain.eq_ignore_ascii_case(seal.domain.as_str())
                && found.selector == seal.selector
                && found.algorithm == seal.algorithm
        };
        match found.iter().find(ours) {
            Some(found) if found.result == "pass" => {}
            Some(found) if found.result == "fail" || found.result == "permerror" => {
                reasons.push(format!("{}: {}", seal.selector, found.why));
                broken.push(seal.clone());
            }
            Some(_) | None => silent = true,
        }
    }
    let result = match (broken.is_empty(), silent) {
        (false, _) => "fail",
        (true, true) => "unknown",
        (true, false) => "pass",
    };
    (result, broken, reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(selector: &str) -> Seal {
        Seal { domain: "acme.test".parse().unwrap(), selector: selector.into(), algorithm: "rsa-sha256" }
    }

    fn found(selector: &str, result: &str) -> Signature {
        let (domain, algorithm) = ("acme.test".to_owned(), "rsa-sha256".to_owned());
        Signature { domain, selector: selector.into(), algorithm, result: result.into(), why: "words".into() }
    }

    #[test]
    fn only_what_fails_for_good_is_broken() {
        for (result, expected, why) in [
            ("pass", "pass", "as it should be"),
            ("fail", "fail", "the octets or the key changed"),
            ("permerror", "fail", "the key is gone from DNS, or cannot be read"),
            ("temperror", "unknown", "DNS was silent"),
            ("none", "unknown", "said of nothing that we made"),
        ] {
            let (said, broken, reason) = verdict(&[seal("wx1")], &[found("wx1", result)]);
            assert_eq!(said, expected, "{result}: {why}");
            assert_eq!(broken.len(), usize::from(expected == "fail"));
            assert_eq!(reason, if expected == "fail" { "wx1: words" } else { "" });
        }
        assert_eq!(verdict(&[seal("wx1")], &[found("other", "fail")]).0, "unknown", "a stranger's seal");
        let both = [found("wx1", "pass"), found("wx2", "fail")];
        assert_eq!(verdict(&[seal("wx1"), seal("wx2")], &both).1, [seal("wx2")], "one of two");
    }
}
