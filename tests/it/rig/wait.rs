//! Waiting for the queue: for what happens in it, and not for time to pass.

use std::future::Future;
use std::pin::{Pin, pin};

use tokio::sync::futures::Notified;
use waxseal::queue::store::{Entry, Filter, StoreError};
use waxseal::schedule::Scheduler;

use super::{PATIENCE, Rig};

impl Rig {
    /// Everything in the queue, once the index is there.
    pub async fn list(&self) -> Vec<Entry> {
        loop {
            let all = Filter { limit: Some(10_000), ..Filter::default() };
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.store.list(all, self.now()).await {
                Err(StoreError::Rebuilding) => self.rebuilt(changed).await,
                other => return other.unwrap(),
            }
        }
    }

    /// Who waits for the store's nudge gets it alone: the scheduler, which then tells, or we, who then tell the scheduler.
    async fn rebuilt(&self, changed: Pin<&mut Notified<'_>>) {
        tokio::select! {
            () = changed => {}
            () = self.store.nudged() => self.scheduler.iter().for_each(Scheduler::nudge),
        }
    }

    /// Waits until the queue looks like this.
    pub async fn until(&self, done: impl Fn(&[Entry]) -> bool) {
        patiently(async {
            loop {
                let mut changed = pin!(self.changed.notified());
                changed.as_mut().enable();
                if done(&self.list().await) {
                    return;
                }
                changed.await;
            }
        })
        .await;
    }
}

/// The result, or a failed test if it takes too long.
pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing happened for long")
}
