//! Probes: a message that the daemon sends to itself by a tenant's real route, so that it is seen as a receiver sees it. Who
//! sent one waits here; what arrives is verified with what DNS says at that moment.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use super::difference::{BodyChange, Change, Difference, HeaderChange};
use super::{Peer, Returned, difference};
use crate::dns::Resolver;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::TlsFacts;
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::seal::receive::{self, Hop, Signature, Verdict};

/// Probes under way at once.
const WAITING: usize = 64;

/// Those that are waited for.
#[derive(Debug, Default)]
pub struct Probes {
    waiting: Arc<Mutex<HashMap<Id, oneshot::Sender<Arrived>>>>,
}

/// A probe that has arrived.
#[derive(Debug)]
pub struct Arrived {
    /// When its final dot was read.
    pub at: Time,
    peer: Peer,
    from: Option<Address>,
    message: Vec<u8>,
}

/// Somebody waits for a probe until this is dropped.
#[derive(Debug)]
pub struct Expected {
    number: Id,
    waiting: Arc<Mutex<HashMap<Id, oneshot::Sender<Arrived>>>>,
    arrival: oneshot::Receiver<Arrived>,
}

/// What a receiver finds in a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// SPF, DKIM and DMARC.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Each signature.
    pub signatures: Vec<Signature>,
    /// The reverse-path that it came with; empty for `<>`.
    pub from: String,
    /// Who brought it: the relay itself, or the upstream's last server.
    pub peer: IpAddr,
    /// What that called itself.
    pub helo: String,
    /// The TLS session it came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFacts>,
    /// What happened to it on the way.
    pub difference: Difference,
}

impl Probes {
    /// Waits for the probe of this number from now on; `None`: too many are waited for.
    #[must_use]
    pub fn expect(&self, number: Id) -> Option<Expected> {
        let (told, arrival) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING {
            return None;
        }
        waiting.insert(number, told);
        Some(Expected { number, waiting: Arc::clone(&self.waiting), arrival })
    }

    /// Hands it to who waits. One that arrives twice is heard once.
    pub(super) fn arrived(&self, number: Id, arrived: Arrived) {
        let told = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        if let Some(told) = told {
            // Who waited may be gone by now.
            drop(told.send(arrived));
        }
    }
}

impl Expected {
    /// The probe, once it has arrived.
    pub async fn arrival(&mut self) -> Option<Arrived> {
        (&mut self.arrival).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

impl Arrived {
    pub(super) fn new(returned: Returned, at: Time) -> Self {
        Self { at, peer: returned.peer, from: returned.from, message: returned.body }
    }

    /// Verifies it as a receiver called `host` would, and compares it with what was sealed.
    pub async fn judge(self, resolver: &Resolver, host: &Domain, sealed: &[u8]) -> Found {
        let from = self.from.as_ref().map(ToString::to_string).unwrap_or_default();
        let hop = Hop { peer: self.peer.ip, helo: &self.peer.helo, from: &from, host: host.as_str() };
        let (verdict, signatures) = receive::verify(&receive::verifier(resolver), &self.message, hop).await;
        Found {
            verdict,
            signatures,
            peer: self.peer.ip,
            helo: self.peer.helo,
            tls: self.peer.tls,
            difference: difference::compare(sealed, &self.message),
            from,
        }
    }
}
