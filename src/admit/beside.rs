//! What is looked at once a message has its 250, beside the path of mail: signatures that it came with, and our own.

use std::sync::Arc;

use super::own_seal::{Check, Checks};
use super::platform::{Look, Watch};
use crate::dns::Resolver;
use crate::mail::message::Message;
use crate::maillog::{MailLog, Seal};
use crate::metrics::Metrics;

/// Decides what is looked at.
pub(super) struct Beside {
    platform: Watch,
    own: Checks,
}

/// Looks that can begin once the message is in the queue.
pub(super) struct Looks {
    platform: Option<Look>,
    own: Option<Check>,
}

impl Beside {
    pub(super) fn new(resolver: &Resolver, log: &Arc<MailLog>, metrics: &Arc<Metrics>) -> Self {
        Self { platform: Watch::new(resolver, log), own: Checks::new(resolver, log, metrics) }
    }

    /// What there is to look at in a message that came like this and now bears these seals.
    pub(super) fn looks(&self, signatures: usize, came: &[u8], seals: &[Seal]) -> Looks {
        Looks { platform: self.platform.look(signatures, came), own: self.own.due(seals, came.len()) }
    }
}

impl Looks {
    /// Begins them in the background.
    pub(super) fn begin(self, message: &Arc<Message>, seals: Vec<Seal>, repairs: Vec<&'static str>) {
        if let Some(check) = self.own {
            check.begin(message, seals, repairs.clone());
        }
        if let Some(look) = self.platform {
            look.begin(message, repairs);
        }
    }
}
