//! Mail that a newer one supersedes: once the newer one's 250 is durable, what is left of the older ends, and the tenant is told.
//!
//! An older leg with an attempt under way is left to that attempt; if it is deferred, it ends then. That is remembered in memory
//! only: a crash in between lets the older mail go out too, which is what happens to all mail that nobody supersedes.

use std::collections::HashMap;
use std::sync::Arc;

use super::Room;
use super::settle::Work;
use crate::mail::attempt::Fate;
use crate::mail::id::Id;
use crate::mail::meaning::Reason;
use crate::mail::message::Facts;
use crate::mail::reply::Enhanced;
use crate::queue::store::{Last, Settlement, StoreError};

/// RFC 3463 section 3.1: other or undefined status. Nothing is wrong with the mail or its recipient.
const SUPERSEDED: Enhanced = Enhanced(5, 0, 0);

/// A delivered message, and its recipients that have it.
pub(super) type Newer = (Arc<Facts>, Vec<u16>);

/// Which delivered messages wait for the end of an older one's attempt.
#[derive(Default)]
pub(super) struct Superseding {
    waiting: HashMap<(Id, u16), Vec<Newer>>,
}

impl Superseding {
    /// Those that waited for one of these legs.
    pub(super) fn waited_for(&mut self, settled: &[Settlement]) -> Vec<Newer> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        settled.iter().filter_map(|one| self.waiting.remove(&(one.id, one.leg))).flatten().collect()
    }

    /// Ends what these supersede, and what the deliveries of this group do.
    pub(super) async fn end(
        &mut self,
        room: &Room,
        group: &[Work],
        waited: Vec<Newer>,
    ) -> Result<(), StoreError> {
        let mut owing = false;
        for newer in waited.into_iter().chain(group.iter().filter_map(delivered)) {
            let (facts, rcpts) = (Arc::clone(&newer.0), newer.1.clone());
            let text = format!("superseded by the newer mail {}, which was delivered", facts.id);
            let at = room.parts.clock.now();
            let (enhanced, reason) = (Some(SUPERSEDED), Reason::Superseded);
            let last = Last { at, code: 0, enhanced, text: text.clone(), host: None, reason, lost: None };
            let found = room.parts.store.supersede(facts, rcpts, last).await?;
            for (older, rcpt) in &found.ended {
                room.parts.log.superseded(older, *rcpt, newer.0.id, &text);
            }
            owing |= !found.ended.is_empty();
            for leg in found.busy {
                self.waiting.entry(leg).or_default().push(newer.clone());
            }
        }
        if owing {
            room.owed.notify_one();
        }
        Ok(())
    }
}

/// A message of which some recipients now have their mail, if it supersedes others.
fn delivered(work: &Work) -> Option<Newer> {
    let message = work.message.as_ref().filter(|message| message.facts.asked.supersede)?;
    let delivered = work.ruling.said.iter().filter(|(one, _)| one.fate == Fate::Delivered);
    let rcpts: Vec<u16> = delivered.map(|(one, _)| one.rcpt).collect();
    (!rcpts.is_empty()).then(|| (Arc::new(message.facts.clone()), rcpts))
}
