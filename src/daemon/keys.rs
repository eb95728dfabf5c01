//! Keys on their way: what was seen in DNS moves them along, and the files say so.

use std::sync::Arc;

use super::watch::Watch;
use crate::maillog::Audit;

impl Watch {
    /// Moves keys to the stage that is due, makes the next one where a rotation is due, and takes over the result.
    pub(super) async fn move_keys(&self) {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let (outlook, now) = (Arc::clone(&self.outlook), self.clock.now());
        let moving = tokio::task::spawn_blocking(move || outlook.move_keys(&config, &keyring, now)).await;
        let moved = match moving {
            Ok(Ok(Some(moved))) => moved,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, "keys cannot be moved along; those in use stay in use");
                return;
            }
            Err(error) => {
                tracing::error!(%error, "moving keys broke");
                return;
            }
        };
        self.keyring.store(Arc::new(moved.keyring));
        for detail in &moved.said {
            self.log.audit(&Audit { actor: "relay", action: "key", detail, tenant: None });
        }
        self.changed.notify_one();
    }
}
