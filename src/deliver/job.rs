//! What an attempt is about: a leg of a message, and the way it takes.

use std::net::IpAddr;
use std::sync::Arc;

use crate::mail::address::Domain;
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
    /// IPv6 addresses of ours that the sender's SPF does not name: used only where there is no other way.
    pub unnamed: Vec<IpAddr>,
    /// The time now.
    pub started: Time,
}

impl Job {
    /// By MX, one for each domain: a leg that was made for an upstream may have recipients of several.
    pub(super) fn parts(&self) -> Vec<Self> {
        if matches!(*self.route, Route::Upstream(_)) {
            return vec![self.clone()];
        }
        let all = &self.message.facts.envelope.rcpts;
        let mut parts: Vec<(Option<&Domain>, Self)> = Vec::new();
        for rcpt in &self.leg.rcpts {
            let domain = all.get(usize::from(*rcpt)).map(|recipient| recipient.address.domain());
            match parts.iter_mut().find(|(known, _)| *known == domain) {
                Some((_, part)) => part.leg.rcpts.push(*rcpt),
                None => {
                    let leg = Leg { rcpts: vec![*rcpt], ..self.leg.clone() };
                    parts.push((domain, Self { leg, ..self.clone() }));
                }
            }
        }
        parts.into_iter().map(|(_, part)| part).collect()
    }
}
