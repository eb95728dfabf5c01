//! One attempt at delivering one leg: route → hosts → for each host converse → outcome. Never touches the store: it tells
//! its witness what was decided about each recipient, as soon as the reply that decides it has arrived.

pub mod bounce;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::attempt::Decided;
use crate::mail::message::Message;
use crate::mail::time::Time;
use crate::queue::store::Leg;
use crate::tenant::Route;

/// What is to be attempted.
#[derive(Clone, Debug)]
pub struct Job {
    /// Facts and octets.
    pub message: Arc<Message>,
    /// The recipients still open.
    pub leg: Leg,
    /// How the tenant's mail leaves; `Route::Mx` for the relay's own.
    pub route: Arc<Route>,
    /// Whose connections may be used.
    pub tenant: Arc<str>,
    /// The time now.
    pub started: Time,
}

/// Who hears of every recipient's fate, once, as soon as it is decided.
pub type Witness<'a> = &'a mut (dyn FnMut(Vec<Decided>) + Send);

/// Delivers legs, and keeps connections between them.
pub struct Deliverer {
    _resolver: Resolver,
}

impl Deliverer {
    /// Makes the deliverer; reads the system's root certificates. `own` are the addresses that we listen on ourselves.
    #[must_use]
    pub fn new(_config: &Config, resolver: Resolver, _own: Vec<SocketAddr>) -> Self {
        Self { _resolver: resolver }
    }

    /// Takes over a reloaded configuration; attempts under way keep the old one.
    pub fn reconfigure(&self, _config: &Config, _own: Vec<SocketAddr>) {}

    /// Attempts the leg. Every open recipient is decided exactly once through `witness` before this returns. Dropping the
    /// future leaves the undecided undecided.
    pub async fn attempt(&self, _job: &Job, _witness: Witness<'_>) {
        todo!()
    }

    /// Says QUIT on every kept connection and closes it; waits at most two seconds.
    pub async fn close_idle(&self) {}
}
