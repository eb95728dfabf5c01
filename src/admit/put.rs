//! The last step: one buffer with what leaves, one record in the queue, one line in the log, one reply.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::asked::expires;
use super::priority::Given;
use super::repair::Body;
use super::{Admit, Admitted, Submission};
use crate::failpoint::{self, Failpoint};
use crate::mail::address::{Address, Domain};
use crate::mail::class::Classed;
use crate::mail::envelope::Envelope;
use crate::mail::id::Id;
use crate::mail::message::{Facts, Kind, Message, Needs};
use crate::mail::reply::{Enhanced, Reply};
use crate::mail::return_path;
use crate::mail::time::Time;
use crate::maillog::{Arrival, Expected, Seal};
use crate::metrics::ByLabel;
use crate::queue::store::{Accept, Destination, Hold, StoreError};
use crate::seal::enforce::{Ruled, Ruling};
use crate::seal::judge::{Believed, Finds};
use crate::seal::{Sealed, Signed};
use crate::tenant::{Route, SignWith, Tenant};

impl Admit {
    /// Makes it durable, says so in the log, and answers it.
    pub(super) async fn put(
        &self,
        submission: Submission,
        admitted: Admitted,
        id: Id,
        now: Time,
    ) -> Result<Arc<Message>, Reply> {
        let Submission { client, tenant, body, deliver_by, mut held, .. } = submission;
        let Admitted {
            author,
            envelope,
            told,
            asked: (asked, life),
            given,
            repaired,
            judged,
            sealed,
            signatures,
        } = admitted;
        let legs = legs(&envelope, &tenant);
        let unsealed = sealed.is_none().then_some(judged.signer);
        let (seals, fields) = sealed.map(|sealed| (seals(&sealed), sealed.fields)).unwrap_or_default();
        let return_path = self.return_path(id, author.return_path, &envelope);
        let looks = self.beside.looks(signatures, &body, &seals);
        let (came, octets) = (body.len() as u64, assemble(fields, &repaired.head, repaired.body, body));
        // Re-encoded it may have grown. It is not refused for that: it is counted, and the next one waits outside.
        held.settle_at(held.octets() + (octets.len() as u64).saturating_sub(came));
        let facts = Facts {
            id,
            tenant: Arc::clone(&tenant.name),
            login: client.login.clone(),
            header_from: Some(author.address),
            lane: given.lane,
            priority: given.priority,
            needs: needs(repaired.needs, &tenant, told.class.as_ref()),
            class: told.class,
            kind: Kind::Mail,
            envelope,
            received: now,
            expires: expires((now, life), deliver_by),
            deliver_by,
            return_path,
            unsealed,
            size: octets.len() as u64,
            asked,
        };
        let message = Arc::new(Message { facts, body: octets });
        let hold = judged.held.clone();
        let accept = Accept { message: Arc::clone(&message), legs, held: judged.held, tells: Vec::new() };
        failpoint::pass(Failpoint::AcceptSealed);
        self.parts.store.accept(accept).await.map_err(|error| unable(&error))?;
        failpoint::pass(Failpoint::AcceptDurable);
        let arrival = Arrival {
            ip: Some(client.ip),
            helo: &client.helo,
            tls: client.tls.as_ref(),
            message_id: repaired.message_id.as_deref(),
            seals: &seals,
            unsigned: unsigned(&message.facts, &tenant, &seals),
            expected: expected(&judged.ruled),
            repairs: &repaired.done,
            took: u64::try_from(self.parts.clock.now().since(now).as_millis()).ok(),
        };
        self.accepted(&message.facts, &arrival, (given, &told.void), hold.as_ref());
        looks.begin(&message, seals, repaired.done);
        Ok(message)
    }
}

impl Admit {
    /// Says so, now that it is durable.
    fn accepted(
        &self,
        facts: &Facts,
        arrival: &Arrival<'_>,
        (given, void): (Given, &[(Address, &'static str)]),
        hold: Option<&Hold>,
    ) {
        self.parts.log.received(facts, arrival);
        failpoint::pass(Failpoint::AcceptLogged);
        let by = given.told.name();
        self.parts.metrics.priorities.get_or_create(&ByLabel { by }).inc();
        for (address, why) in void {
            self.parts.log.stray(facts, address, why);
        }
        if let Some(hold) = hold {
            let all: Vec<u16> = (0_u16..).zip(&facts.envelope.rcpts).map(|(at, _)| at).collect();
            self.parts.log.held(facts, &all, "seal", &hold.reason);
        }
    }

    /// Where bounces of it come back to. The null reverse-path stays: nothing may come back of such mail (RFC 5321 section 4.5.5).
    fn return_path(&self, id: Id, domain: Option<Domain>, envelope: &Envelope) -> Option<Address> {
        let domain = domain.filter(|_| envelope.from.is_some())?;
        Some(match envelope.rcpts.as_slice() {
            [only] => return_path::make_for(&self.parts.secret, id, &domain, &only.address),
            _ => return_path::make(&self.parts.secret, id, &domain),
        })
    }
}

/// What its sender and its octets need, and what its class does.
fn needs(own: Needs, tenant: &Tenant, class: Option<&Classed>) -> Needs {
    Needs { tls: own.tls.joined(tenant.classes.tls(class)), ..own }
}

fn seals(sealed: &Sealed) -> Vec<Seal> {
    let seal = |by: &Signed| Seal {
        domain: sealed.domain.clone(),
        selector: by.selector.clone(),
        algorithm: by.algorithm,
    };
    sealed.by.iter().map(seal).collect()
}

/// Why a message bears no signature of ours.
fn unsigned(facts: &Facts, tenant: &Tenant, seals: &[Seal]) -> Option<&'static str> {
    match (facts.unsealed.is_some(), tenant.signing.keys) {
        _ if !seals.is_empty() => None,
        (_, SignWith::None) => Some("route"),
        (true, SignWith::Rsa | SignWith::Both) => Some("held"),
        (false, SignWith::Rsa | SignWith::Both) => Some("unseen"),
    }
}

/// What receivers will find, for the log; nothing where nobody judged.
fn expected(ruled: &Ruled) -> Option<Expected> {
    let finds = |finds| match finds {
        Finds::Pass => "pass",
        Finds::Fail => "fail",
        Finds::Unknown => "unknown",
    };
    let (dmarc, aligned_by) = match ruled.verdict.dmarc {
        Believed::Both => ("pass", Some("both")),
        Believed::DkimOnly => ("pass", Some("dkim")),
        Believed::SpfOnly => ("pass", Some("spf")),
        Believed::Fail => ("fail", None),
        Believed::Unknown => ("unknown", None),
    };
    let judged = ruled.ruling != Ruling::SendUnjudged;
    judged.then(|| Expected { spf: finds(ruled.verdict.spf), dmarc, aligned_by })
}

/// Signatures and the new header section in front of the body. A body that needed nothing stays in the buffer it came in and
/// is moved at most once.
fn assemble(seals: Vec<u8>, head: &[u8], body: Body, mut given: Vec<u8>) -> Bytes {
    let mut front = seals;
    front.extend_from_slice(head);
    front.extend_from_slice(b"\r\n");
    match body {
        Body::Kept { from, open } => {
            if open {
                given.extend_from_slice(b"\r\n");
            }
            drop(given.splice(..from, front));
            given.into()
        }
        Body::Written(mut body) => {
            drop(given);
            drop(body.splice(..0, front));
            body.into()
        }
    }
}

/// Recipients by destination, in the order in which they were named.
fn legs(envelope: &Envelope, tenant: &Tenant) -> Vec<(Destination, Vec<u16>)> {
    let mut legs: Vec<(Destination, Vec<u16>)> = Vec::new();
    let mut known: HashMap<Arc<str>, usize> = HashMap::new();
    for (index, rcpt) in (0_u16..).zip(&envelope.rcpts) {
        let name: Arc<str> = match tenant.route.as_ref() {
            Route::Mx => rcpt.address.domain().as_str().into(),
            Route::Upstream(upstream) => {
                format!("{}>{}:{}", tenant.name, upstream.host, upstream.port).into()
            }
        };
        let at = *known.entry(Arc::clone(&name)).or_insert_with(|| {
            legs.push((Destination(name), Vec::new()));
            legs.len() - 1
        });
        if let Some((_, rcpts)) = legs.get_mut(at) {
            rcpts.push(index);
        }
    }
    legs
}

/// Only the store makes a client come again.
fn unable(error: &StoreError) -> Reply {
    tracing::error!(%error, "a message could not be stored");
    match error {
        StoreError::Full(_) => {
            Reply::new(452, Enhanced(4, 3, 1), "the relay has no room for mail now; send it again later")
        }
        StoreError::Failed(_) | StoreError::Damaged(_) | StoreError::Rebuilding | StoreError::TooLarge(_) => {
            Reply::new(451, Enhanced(4, 3, 0), "the relay cannot store mail now; send it again later")
        }
    }
}
