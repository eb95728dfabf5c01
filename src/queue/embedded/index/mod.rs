//! The index: what is due when, in which lane, for which destination, and where each message lies. One thread owns it,
//! and sled is touched by that thread alone. Every change of a message that exists goes through here, so the order of
//! changes in memory is the order of their records in the journal.
//!
//! A decision changes memory at once and is answered when its record is durable. Nothing leaks by that: the journal is
//! one sequence, so whatever is decided on top of a decision can only be durable after it.

mod apply;
mod compact;
mod desk;
mod keys;
mod lanes;
mod memos;
mod replay;
mod row;
mod rows;
mod salvage;
mod supersede;
mod tree;
mod usage;
mod verbs;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;

pub(super) use self::apply::inline;
use self::desk::Desk;
pub(super) use self::replay::Parts;
pub(super) use self::row::Place;
pub(super) use self::verbs::Sweep;
use super::inbox::Done;
use super::record::{BodyFile, Position};
use super::spool::Fed;
use crate::mail::id::Id;
use crate::mail::message::Facts;
use crate::mail::time::Time;
use crate::queue::store::{
    Accept, Claimed, Last, Memo, Owed, Pacing, Settlement, Stats, StoreError, Superseded,
};

/// Idle time after which what changed is written to sled, so that a restart has little to replay.
const IDLE: Duration = Duration::from_secs(1);
/// Rows written to sled between two looks at the inbox.
const SPILL_AT_ONCE: usize = 32;
/// Asks taken from the inbox at once.
const ASKS_AT_ONCE: usize = 64;

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What a message is and where its octets lie.
pub(super) type Whereabouts = Option<(Arc<Facts>, Place)>;

/// What the index is asked.
pub(super) enum Ask {
    /// These are durable, and all before this position.
    Fed(Vec<Fed>, Position),
    /// Accept a message that tells of failures.
    Tell(Arc<Accept>, Option<BodyFile>, Done),
    /// `Store::claim`.
    Claim(Time, usize, Reply<Claimed>),
    /// `Store::pace`.
    Pace(Pacing),
    /// `Store::settle`.
    Settle(Vec<Settlement>, Reply<Vec<bool>>),
    /// `Store::supersede`.
    Supersede(Arc<Facts>, Vec<u16>, Last, Reply<Superseded>),
    /// `Store::waive`.
    Waive(Vec<(Id, u16)>, Reply<()>),
    /// Where a message lies.
    Where(Id, Reply<Whereabouts>),
    /// `Store::list` and `Store::act`.
    Sweep(Box<Sweep>),
    /// `Store::owed`.
    Owed(usize, Reply<Vec<(Owed, Arc<Facts>)>>),
    /// `Store::remember`.
    Remember(Vec<Memo>, Reply<()>),
    /// Where the memos lie whose keys begin like this.
    Recall(String, Reply<Vec<(String, Place)>>),
    /// `Store::stats`.
    Stats(Reply<Stats>),
    /// Write everything to sled and end.
    Close(Reply<()>),
}

impl Ask {
    /// What goes before what, of what is asked at the same time.
    fn rank(&self) -> u8 {
        match self {
            Self::Fed(..) | Self::Pace(_) | Self::Claim(..) => 0,
            Self::Tell(..)
            | Self::Settle(..)
            | Self::Supersede(..)
            | Self::Waive(..)
            | Self::Where(..)
            | Self::Sweep(_)
            | Self::Owed(..)
            | Self::Remember(..)
            | Self::Recall(..)
            | Self::Stats(_) => 1,
            Self::Close(_) => 2,
        }
    }
}

/// Runs the index until it is closed; `inbox` is the other end of what the feed and the callers send to.
pub(super) fn run(parts: Parts, inbox: &Receiver<Ask>) {
    let (spool, nudge) = (Arc::clone(&parts.spool), Arc::clone(&parts.nudge));
    let doubt = parts.doubt();
    let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(parts, inbox)));
    let error = match worked {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a defect in the index".to_owned(),
    };
    tracing::error!(%error, "the index failed: it is rebuilt from the journal at the next start");
    drop(std::fs::write(doubt, b""));
    spool.deafen();
    spool.fail(&StoreError::Failed(Arc::from(error)));
    // Whoever sleeps until there is mail to be claimed hears of it now.
    nudge.notify_one();
}

fn work(parts: Parts, inbox: &Receiver<Ask>) -> sled::Result<()> {
    let spool = Arc::clone(&parts.spool);
    let Some(mut desk) = replay::build(parts, inbox)? else { return Ok(()) };
    let mut idle = false;
    loop {
        match next(&desk, inbox, idle) {
            Next::Ask(first) => {
                idle = false;
                for ask in in_order(first, inbox) {
                    if let Ask::Close(reply) = ask {
                        desk.close(inbox)?;
                        drop(reply.send(Ok(())));
                        return Ok(());
                    }
                    desk.handle(ask)?;
                }
            }
            Next::Nothing => {}
            Next::Idle => idle = true,
            Next::Gone => return Ok(()),
        }
        desk.sweep()?;
        desk.compact()?;
        desk.rows.renew(&|| spool.spare());
        desk.ease(SPILL_AT_ONCE)?;
        if idle {
            idle = desk.spill(SPILL_AT_ONCE)?;
        }
    }
}

/// What is asked by now, new mail and mail's turns first: beside one who sends and receives much the others' mail waits for its
/// own turn only, not for all that is to be written down of his. All else in the order in which it was asked.
fn in_order(first: Ask, inbox: &Receiver<Ask>) -> Vec<Ask> {
    let mut asks = vec![first];
    asks.extend(inbox.try_iter().take(ASKS_AT_ONCE));
    asks.sort_by_key(Ask::rank);
    asks
}

enum Next {
    Ask(Ask),
    Nothing,
    Idle,
    Gone,
}

/// Waits only when there is nothing else to do.
fn next(desk: &Desk, inbox: &Receiver<Ask>, idle: bool) -> Next {
    if idle || desk.busy() {
        return match inbox.try_recv() {
            Ok(ask) => Next::Ask(ask),
            Err(TryRecvError::Empty) => Next::Nothing,
            Err(TryRecvError::Disconnected) => Next::Gone,
        };
    }
    // Whoever is about to ask does so first: under load several asks are there at once, and nobody has to be woken.
    std::thread::yield_now();
    if let Ok(ask) = inbox.try_recv() {
        return Next::Ask(ask);
    }
    if !desk.rows.dirty() {
        return inbox.recv().map_or(Next::Gone, Next::Ask);
    }
    match inbox.recv_timeout(IDLE) {
        Ok(ask) => Next::Ask(ask),
        Err(RecvTimeoutError::Timeout) => Next::Idle,
        Err(RecvTimeoutError::Disconnected) => Next::Gone,
    }
}
