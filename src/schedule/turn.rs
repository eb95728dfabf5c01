//! Whose turn it is: claims what is due and starts its attempts, never more at once than `delivery.concurrency`. The store
//! shares the turns fairly; this keeps to its answer and sleeps when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::settle::Work;
use super::{Room, flight, retry};
use crate::failpoint::{self, Failpoint};
use crate::mail::time::Time;
use crate::queue::store::StoreError;

/// The longest sleep: a clock that was set, or a machine that slept, shows within a minute, and `looked` tells that we live.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How soon to ask again while the index is being rebuilt.
pub(super) const REBUILDING: Duration = Duration::from_millis(200);
/// Legs ended but not yet durable, beyond which nothing is claimed: the disk sets the pace, not the network.
pub(super) const UNSETTLED: usize = 4096;

/// Why nothing more can be claimed now.
enum Pause {
    /// No room for another attempt.
    Crowded,
    /// Nothing is due for so long.
    Idle(Duration),
}

/// Runs until stopped; then waits for what is in flight.
pub(super) async fn run(room: Arc<Room>, rulings: UnboundedSender<Work>) {
    let mut flights = JoinSet::new();
    room.recall_suppressions().await;
    while !room.stop.is_cancelled() {
        match claim(&room, &rulings, &mut flights).await {
            Ok(Pause::Crowded) => crowded(&room, &mut flights).await,
            Ok(Pause::Idle(sleep)) => idle(&room, sleep, &mut flights).await,
            Err(error) => room.fail(error),
        }
    }
    land(&room, flights).await;
}

/// How many attempts may start now.
fn free(room: &Room, flying: usize) -> usize {
    if room.unsettled.load(Ordering::Acquire) >= UNSETTLED {
        return 0;
    }
    room.parts.config.load().delivery.concurrency.saturating_sub(flying)
}

/// How many attempts are under way. All that have landed make room, not only the one that ended the wait: otherwise each claim
/// would be for one leg.
fn flying(flights: &mut JoinSet<()>) -> usize {
    while flights.try_join_next().is_some() {}
    flights.len()
}

/// Claims as many legs as there is room for and starts their attempts.
async fn claim(
    room: &Arc<Room>,
    rulings: &UnboundedSender<Work>,
    flights: &mut JoinSet<()>,
) -> Result<Pause, StoreError> {
    let turn = room.steady(|steady| steady.turn());
    room.alive();
    let free = free(room, flying(flights));
    if free == 0 {
        return Ok(Pause::Crowded);
    }
    let claimed = match room.parts.store.claim(turn, free).await {
        Err(StoreError::Rebuilding) => return Ok(Pause::Idle(REBUILDING)),
        other => other?,
    };
    if !claimed.legs.is_empty() {
        failpoint::pass(Failpoint::TurnClaimed);
    }
    let full = claimed.legs.len() >= free;
    for leg in claimed.legs {
        flights.spawn(flight::fly(Arc::clone(room), leg, rulings.clone()));
    }
    Ok(if full { Pause::Crowded } else { Pause::Idle(until(room, claimed.next, claimed.ends)) })
}

/// How long until the next leg falls due, or the next hold ends. No wait is longer than `LONGEST`, so a due time beyond it
/// was written by a clock that was ahead; a hold may well end days from now, and tells nothing of the clock.
fn until(room: &Room, next: Option<Time>, ends: Option<Time>) -> Duration {
    let turn = room.steady(|steady| {
        if let Some(next) = next {
            steady.reach(next, retry::LONGEST);
        }
        steady.turn()
    });
    let soonest = next.into_iter().chain(ends).min();
    soonest.map_or(HEARTBEAT, |at| at.since(turn).min(HEARTBEAT))
}

/// Waits for an attempt to end, or for the disk to catch up.
async fn crowded(room: &Room, flights: &mut JoinSet<()>) {
    tokio::select! {
        () = room.stop.cancelled() => {}
        () = room.look.notified() => {}
        () = tokio::time::sleep(HEARTBEAT) => {}
        Some(_) = flights.join_next() => {}
    }
}

/// Sleeps until something may be claimable. An attempt that ends is only taken note of: there was room for more anyhow, and
/// what its settlement frees the store tells.
async fn idle(room: &Room, sleep: Duration, flights: &mut JoinSet<()>) {
    let sleep = tokio::time::sleep(sleep);
    tokio::pin!(sleep);
    loop {
        tokio::select! {
            () = room.stop.cancelled() => return,
            () = room.look.notified() => return,
            () = room.parts.store.nudged() => return,
            () = &mut sleep => return,
            Some(_) = flights.join_next() => {}
        }
    }
}

/// Waits for what is in flight, as long as `delivery.drain` allows; the rest gives up and unclaims.
async fn land(room: &Room, mut flights: JoinSet<()>) {
    let drain = room.parts.config.load().delivery.drain;
    let landed = async { while flights.join_next().await.is_some() {} };
    if tokio::time::timeout(drain, landed).await.is_err() {
        tracing::info!(unfinished = flights.len(), "drain: giving up attempts in flight");
        room.abandon.cancel();
        while flights.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_have_landed_make_room_at_once() {
        let mut flights = JoinSet::new();
        (0..10).for_each(|_| drop(flights.spawn(async {})));
        (0..90).for_each(|_| drop(flights.spawn(std::future::pending())));
        // One thread: every task has had its turn when the first is joined.
        assert!(flights.join_next().await.is_some());
        assert_eq!(flying(&mut flights), 90);
    }
}
