//! What the driver asks the machine and tells it, beside `Step`.

use std::sync::Arc;

use super::{Login, Machine, Note, Phase, Tally};
use crate::mail::address::Address;
use crate::mail::attempt::TlsFacts;
use crate::mail::reply::Reply;
use crate::tenant::Tenant;

impl Machine {
    /// What waits to be written. The driver empties it.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// What the mail log has not been told yet.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Whether octets of a message are expected, not a command.
    #[must_use]
    pub fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Data(_) | Phase::Chunk(_))
    }

    /// Lines handled so far: a waiting driver sees by it whether its command deadline starts again.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.tally.commands
    }

    /// The TLS session.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// What the client called itself.
    #[must_use]
    pub fn helo(&self) -> &str {
        &self.hello.name
    }

    /// The login, if there is one.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Who would be sending, by login or by network.
    #[must_use]
    pub fn tenant(&self) -> Option<&Arc<Tenant>> {
        self.sender()
    }

    /// The reverse-path of the MAIL that waits for its answer.
    #[must_use]
    pub fn pending_from(&self) -> Option<&Address> {
        self.pending.as_ref().and_then(|(from, _)| from.as_ref())
    }

    /// Whether MAIL was tried.
    #[must_use]
    pub fn reached_mail(&self) -> bool {
        self.reached_mail
    }

    /// The user name whose password came in clear text although it was not to be.
    #[must_use]
    pub fn exposed(&self) -> Option<&str> {
        self.exposed.as_deref()
    }

    /// The answer to `Step::Submit`.
    pub fn submitted(&mut self, reply: &Reply) {
        self.phase = Phase::Command;
        if reply.is_positive() {
            reply.write(&mut self.out);
            self.tally =
                Tally { commands: self.tally.commands, refusals: self.tally.refusals, ..Tally::default() };
        } else {
            self.fail(reply);
        }
    }
}
