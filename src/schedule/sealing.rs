//! Mail that was held before it was sealed: at its first attempt after the release it is judged again, by the facts of that
//! moment, and sealed or held on. What a release by an administrator does not bring about is mail that nobody believes: for
//! that the domain's `on_fail` is set to `tag` or `off`.

use std::sync::Arc;
use std::time::Duration;

use super::Parts;
use crate::mail::header::Headers;
use crate::mail::message::{Facts, Message};
use crate::mail::time::Time;
use crate::queue::store::{Cause, Hold};
use crate::seal::enforce::Ruling;
use crate::seal::outlook::{self, Force, Subject};
use crate::seal::refusal::hold_reason;
use crate::seal::{self, Order};

/// The message as it may leave, or why it waits on.
pub(super) fn seal(parts: &Parts, message: Arc<Message>) -> Result<Arc<Message>, Hold> {
    let Some(accepted_by) = &message.facts.unsealed else { return Ok(message) };
    let tenants = parts.tenants.load();
    // Without its tenant it is parked before anything leaves.
    let Some(tenant) = tenants.tenant(&message.facts.tenant) else { return Ok(message) };
    let (config, keyring) = (parts.config.load_full(), parts.keyring.load_full());
    let force = Force { config: &config, keyring: &keyring };
    let until = Some(ends(message.facts.received, parts.clock.now(), config.seal.hold_max));
    let wait = |reason: String| Hold { reason: reason.into(), cause: Cause::Seal, until };

    let subject = Subject::of(tenant, &message.facts)
        .ok_or_else(|| wait(format!("{accepted_by} is no longer a From domain of tenant {}", tenant.name)))?;
    let ruled = parts.outlook.rule(&subject, force);
    match ruled.ruling {
        Ruling::Send | Ruling::SendUnjudged => {}
        Ruling::Hold | Ruling::Refuse => return Err(wait(hold_reason(&ruled.verdict))),
    }
    if ruled.only().is_some_and(<[String]>::is_empty) {
        let facts = Facts { unsealed: None, ..message.facts.clone() };
        return Ok(Arc::new(Message { facts, body: message.body.clone() }));
    }
    let headers = Headers::parse(&message.body, message.body.len()).map_err(|bad| wait(bad.to_string()))?;
    let body = message.body.get(headers.body..).unwrap_or_default();
    let order = Order {
        // Who signs today: the verdict is about that domain's keys, and it may have got its own since the message came.
        domain: outlook::signer(&subject, &keyring),
        only: ruled.only(),
        signing: &tenant.signing,
        now: parts.clock.now(),
        life: seal::life(&config),
    };
    let sealed = keyring.seal(&order, (&headers, body)).map_err(|error| wait(error.to_string()))?;
    let mut octets = sealed.fields;
    octets.extend_from_slice(&message.body);
    let facts = Facts { size: octets.len() as u64, unsealed: None, ..message.facts.clone() };
    Ok(Arc::new(Message { facts, body: octets.into() }))
}

/// When a hold that begins now ends: so long after the mail came in. Mail that is older, for its receiver put it off or a person
/// released it late, is held as long from now: a mistake that is mended in minutes fails no mail that has life left.
fn ends(received: Time, now: Time, hold_max: Duration) -> Time {
    let first = received.after(hold_max);
    if first > now { first } else { now.after(hold_max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_hold_has_ended_when_it_begins() {
        let (day, at) = (Duration::from_secs(86_400), |days: u64| Time(days * 86_400_000));
        let three = 3 * day;
        for (received, now, expected, why) in [
            (1, 1, 4, "as it comes in"),
            (1, 3, 4, "held again, no longer than at first"),
            (1, 4, 7, "its receiver put it off for as long as that"),
            (1, 6, 9, "and for longer; its own life ends it before"),
        ] {
            assert_eq!(ends(at(received), at(now), three), at(expected), "{why}");
        }
    }
}
