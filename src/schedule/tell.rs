//! Tells senders what became of their mail. Failures are owed in the store from the moment they are durable until the
//! notification that tells of them is, in the same record: no crash loses one, none is told twice. Delays and relays are
//! courtesies: they live in memory until they are written, and a crash in between loses them.
//!
//! A notification is sealed with the relay's own key or not written at all. Without a key failures stay owed, and are told
//! once a reload brings one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::Room;
use super::gather::{self, Group, Sorted};
use super::turn::REBUILDING;
use crate::config::class::Hides;
use crate::deliver::bounce::{self, Action, Content, Notice, Told, Unsent};
use crate::failpoint::{self, Failpoint};
use crate::mail::id::Id;
use crate::mail::message::{Facts, TlsNeed};
use crate::mail::time::Time;
use crate::maillog::{Dsn, DsnKind};
use crate::queue::store::StoreError;

/// Failures looked at in one go; so many at once are told without waiting for more.
const OWED: usize = 2000;
/// Courtesies taken in one go: failures wait for no more than these.
const COURTESIES: usize = 100;
/// Messages of which a notification returns headers, if it tells of several.
const RETURNED: usize = 20;
/// How soon to try again where the disk is full.
const AGAIN: Duration = Duration::from_secs(30);
/// The longest sleep, as in `turn`: a clock that was set shows within a minute.
const HEARTBEAT: Duration = Duration::from_secs(60);

/// A delay or a relaying that the sender is told of.
pub(super) struct Courtesy {
    /// Which of the two.
    pub(super) action: Action,
    /// The recipients.
    pub(super) told: Vec<Told>,
}

/// Why a notification was not accepted.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Unsent(#[from] Unsent),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs until the scheduler has drained; then tells the courtesies that wait.
pub(super) async fn run(room: Arc<Room>, mut courtesies: UnboundedReceiver<Courtesy>) {
    let mut teller = Teller { room: &room, delays: Vec::new(), stuck: false };
    let (mut sleep, mut waiting) = (Duration::ZERO, Vec::new());
    loop {
        tokio::select! {
            got = courtesies.recv_many(&mut waiting, COURTESIES) => if got == 0 {
                break;
            },
            () = room.owed.notified() => {}
            () = tokio::time::sleep(sleep) => {}
        }
        // All that wait, before one look: that goes through every message in memory.
        for courtesy in waiting.drain(..) {
            teller.courtesy(courtesy).await;
        }
        sleep = teller.look().await;
    }
    teller.delays(Duration::ZERO).await;
}

/// What is yet to be told, beside what the store knows.
struct Teller<'a> {
    room: &'a Room,
    delays: Vec<Told>,
    /// Whether the last notification could not be sealed: said once, not at every look.
    stuck: bool,
}

impl Teller<'_> {
    /// Tells what is due. Answers how long nothing more is.
    async fn look(&mut self) -> Duration {
        let gather = self.room.parts.config.load().delivery.gather;
        let delays = self.delays(gather).await;
        match self.failures(gather).await {
            Ok(failures) => {
                let next = [delays, failures].into_iter().flatten().min();
                next.map_or(HEARTBEAT, |at| at.since(self.room.parts.clock.now()).min(HEARTBEAT))
            }
            Err(Untold::Store(error @ StoreError::Failed(_))) => {
                self.room.fail(error);
                HEARTBEAT
            }
            Err(Untold::Store(StoreError::Rebuilding)) => REBUILDING,
            Err(error) => {
                self.complain(&error);
                AGAIN
            }
        }
    }

    /// Tells of failures. Answers when the next are due.
    async fn failures(&mut self, gather: Duration) -> Result<Option<Time>, Untold> {
        loop {
            let owed = self.room.parts.store.owed(OWED).await?;
            let full = owed.len() >= OWED;
            let patience = if full { Duration::ZERO } else { gather };
            let told = owed.into_iter().map(|(owed, facts)| Told { facts, rcpt: owed.rcpt, last: owed.last });
            let sorted = self.sort(told.collect(), Action::Failed, patience);
            self.waive(sorted.silent).await?;
            let mut stuck = None;
            for group in sorted.ready {
                match self.tell(Action::Failed, group).await {
                    Ok(()) => {}
                    Err(error @ Untold::Store(StoreError::Failed(_) | StoreError::Rebuilding)) => {
                        return Err(error);
                    }
                    // It may be for this one's sake: the others do not wait for it.
                    Err(error) => stuck = stuck.or(Some(error)),
                }
            }
            if let Some(error) = stuck {
                return Err(error);
            }
            self.stuck = false;
            if !full {
                return Ok(sorted.next);
            }
        }
    }

    /// Takes a delay to those that wait, and tells of a relaying at once: that was asked for.
    async fn courtesy(&mut self, courtesy: Courtesy) {
        if courtesy.action == Action::Delayed {
            self.delays.extend(courtesy.told);
            return;
        }
        let sorted = self.sort(courtesy.told, courtesy.action, Duration::ZERO);
        self.courteous(courtesy.action, sorted.ready).await;
    }

    /// Tells of the delays that have waited for `patience`. Answers when the next are due.
    async fn delays(&mut self, patience: Duration) -> Option<Time> {
        let delays = std::mem::take(&mut self.delays);
        let Sorted { ready, waiting, next, .. } = self.sort(delays, Action::Delayed, patience);
        self.delays = waiting;
        self.courteous(Action::Delayed, ready).await;
        next
    }

    /// Tells what nobody is owed: what cannot be told now is only logged.
    async fn courteous(&mut self, action: Action, groups: Vec<Group>) {
        for group in groups {
            let about = group.told.clone();
            if let Err(error) = self.tell(action, group).await {
                for one in about {
                    self.room.untold(&one.facts, one.rcpt, action, &error.to_string());
                }
            }
        }
    }

    fn sort(&self, told: Vec<Told>, action: Action, patience: Duration) -> Sorted {
        let tenants = self.room.parts.tenants.load();
        gather::sort(told, action, &tenants, self.room.parts.clock.now(), patience)
    }

    /// Failures that nobody may be told of: the log is, and then they are no longer owed.
    async fn waive(&self, silent: Vec<(Told, &'static str)>) -> Result<(), StoreError> {
        if silent.is_empty() {
            return Ok(());
        }
        for (one, why) in &silent {
            self.room.untold(&one.facts, one.rcpt, Action::Failed, why);
        }
        let waived = silent.iter().map(|(one, _)| (one.facts.id, one.rcpt)).collect();
        self.room.parts.store.waive(waived).await
    }

    /// Said once until it works again; the failures stay owed meanwhile.
    fn complain(&mut self, error: &Untold) {
        if !std::mem::replace(&mut self.stuck, true) {
            tracing::error!(%error, "failures cannot be told; they stay owed and are told when this is mended");
        }
    }

    /// Writes, seals and accepts a notification; from then on nothing in it is owed.
    async fn tell(&self, action: Action, group: Group) -> Result<(), Untold> {
        let now = self.room.parts.clock.now();
        let returned = self.returned(action, &group).await?;
        let about = messages(&group.told);
        let tells = match action {
            Action::Failed => group.told.iter().map(|one| (one.facts.id, one.rcpt)).collect(),
            Action::Delayed | Action::Relayed => Vec::new(),
        };
        let id = Id::new(now, rand::random());
        let notice = Notice { id, at: now, action, to: group.to, told: group.told, returned };
        let accept = {
            let (config, keyring) = (self.room.parts.config.load(), self.room.parts.keyring.load());
            bounce::sealed(&config, &keyring, &notice, tells)?
        };
        let message = Arc::clone(&accept.message);
        failpoint::pass(Failpoint::TellBuilt);
        self.room.parts.store.accept(accept).await?;
        failpoint::pass(Failpoint::TellAccepted);
        self.room.parts.log.dsn(&message.facts, &Dsn { kind: kind(action), about: &about });
        Ok(())
    }

    /// What goes back of the messages told of; of one that cannot be read, nothing.
    async fn returned(&self, action: Action, group: &Group) -> Result<Vec<Content>, StoreError> {
        let ids = messages(&group.told);
        let mut returned = Vec::new();
        for id in ids.iter().take(RETURNED) {
            let message = match self.room.parts.store.message(*id).await {
                Ok(Some(message)) => message,
                Ok(None) | Err(StoreError::Damaged(_)) => continue,
                Err(error) => return Err(error),
            };
            let hides = self.hides(&message.facts);
            returned.push(match ids.len() {
                1 => bounce::content(&message, action, group.sender, hides),
                _ => bounce::headers(&message, hides),
            });
        }
        Ok(returned)
    }

    /// What must not be shown of a message, by its class as it is now.
    fn hides(&self, facts: &Facts) -> Hides {
        let tenants = self.room.parts.tenants.load();
        let config = self.room.parts.config.load();
        let classes = tenants.tenant(&facts.tenant).map_or(&config.classes, |tenant| &tenant.classes);
        // RFC 8689 section 5: RET=HDRS, and no more of them than needed where the way back may be in clear text.
        if facts.needs.tls == TlsNeed::RequireTls {
            return Hides { subject: true, link: true };
        }
        classes.hides(facts.class.as_ref())
    }
}

impl Room {
    /// The log's word that nobody is told of this recipient, and why.
    pub(super) fn untold(&self, facts: &Facts, rcpt: u16, action: Action, why: &str) {
        self.parts.log.untold(facts, rcpt, kind(action), why);
    }
}

/// The messages told of, each once, in order.
fn messages(told: &[Told]) -> Vec<Id> {
    let mut ids: Vec<Id> = told.iter().map(|one| one.facts.id).collect();
    ids.dedup();
    ids
}

fn kind(action: Action) -> DsnKind {
    match action {
        Action::Failed => DsnKind::Failed,
        Action::Delayed => DsnKind::Delayed,
        Action::Relayed => DsnKind::Success,
    }
}
