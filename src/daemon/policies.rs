//! MTA-STS policies over a restart, and in time: what deliveries found is remembered in the queue's journal, and asked for
//! again before it runs out, away from any delivery. The tallies of TLS reports are remembered the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::reports::{self, TALLIES};
use crate::clock::Clock;
use crate::deliver::Deliverer;
use crate::deliver::sts::Kept;
use crate::deliver::tally::Tally;
use crate::queue::store::{Memo, Store, StoreError};

/// Longest wait at a start for what was known before, while the index is being rebuilt.
const RECALL: Duration = Duration::from_secs(3);
/// How soon to ask again meanwhile.
const REBUILDING: Duration = Duration::from_millis(50);
/// The longest sleep: what was counted for reports is written down so often, and a crash loses no more of it.
const HEARTBEAT: Duration = Duration::from_secs(5 * 60);
/// The shortest: policies that run out together are asked for together.
const BREATH: Duration = Duration::from_secs(5);
/// Where policies are remembered.
const KEPT: &str = "tls/sts/";

/// What it works with.
pub(super) struct Memory {
    pub(super) deliverer: Arc<Deliverer>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    /// What was known before the restart has been taken in.
    recalled: AtomicBool,
}

impl Memory {
    pub(super) fn new(deliverer: &Arc<Deliverer>, store: &Arc<dyn Store>, clock: &Clock) -> Self {
        Self {
            deliverer: Arc::clone(deliverer),
            store: Arc::clone(store),
            clock: clock.clone(),
            recalled: AtomicBool::new(false),
        }
    }

    /// Before the first delivery: a policy that is not known is a policy that an attacker can hide (RFC 8461 section 10.2).
    pub(super) async fn first(&self) {
        if tokio::time::timeout(RECALL, self.recall_soon()).await.is_err() {
            tracing::warn!("the MTA-STS policies from before the restart are not at hand yet");
        }
    }

    /// Runs until stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        let policies = self.deliverer.policies();
        loop {
            let sleep = self.sleep();
            let due = tokio::select! {
                () = stop.cancelled() => break,
                () = policies.news() => false,
                () = tokio::time::sleep(sleep) => true,
            };
            let asking = async {
                self.recall_soon().await;
                if due {
                    self.deliverer.refresh_policies(self.clock.now()).await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = asking => {}
            }
            self.keep().await;
        }
        // What the last deliveries found.
        self.keep().await;
    }

    fn sleep(&self) -> Duration {
        let next = self.deliverer.policies().next_refresh();
        next.map_or(HEARTBEAT, |next| next.since(self.clock.now()).clamp(BREATH, HEARTBEAT))
    }

    /// Waits for the index, if it is being rebuilt.
    async fn recall_soon(&self) {
        while let Err(error) = self.recall().await {
            if !matches!(error, StoreError::Rebuilding) {
                tracing::warn!(%error, "the MTA-STS policies from before the restart cannot be read");
                return;
            }
            tokio::time::sleep(REBUILDING).await;
        }
    }

    async fn recall(&self) -> Result<(), StoreError> {
        if self.recalled.load(Ordering::Acquire) {
            return Ok(());
        }
        let found = self.store.recall(KEPT.to_owned()).await?;
        let read = |(_, value): (String, Vec<u8>)| serde_json::from_slice::<Kept>(&value).ok();
        self.deliverer.policies().recall(found.into_iter().filter_map(read));
        let found = self.store.recall(TALLIES.to_owned()).await?;
        let read = |(_, value): (String, Vec<u8>)| serde_json::from_slice::<Tally>(&value).ok();
        self.deliverer.tallies().recall(found.into_iter().filter_map(read));
        self.recalled.store(true, Ordering::Release);
        Ok(())
    }

    /// One at a time: one that is too large must not keep the others from being remembered.
    async fn keep(&self) {
        for (domain, kept) in self.deliverer.policies().changed() {
            let value = kept.and_then(|kept| serde_json::to_vec(&*kept).ok());
            let memo = Memo { key: format!("{KEPT}{domain}"), value };
            if let Err(error) = self.store.remember(vec![memo]).await {
                tracing::warn!(%error, %domain, "an MTA-STS policy is not remembered over a restart");
            }
        }
        if !self.recalled.load(Ordering::Acquire) {
            // What was remembered is still to be added: it must not be overwritten before.
            return;
        }
        for tally in self.deliverer.tallies().changed() {
            let Ok(value) = serde_json::to_vec(&tally) else { continue };
            let memo = Memo { key: reports::key(&tally), value: Some(value) };
            if let Err(error) = self.store.remember(vec![memo]).await {
                tracing::warn!(%error, domain = %tally.domain, "a TLS tally is not remembered over a restart");
            }
        }
    }
}
