//! Keys on their way: what was seen in DNS moves them along, and the files say so.

use std::sync::Arc;

use super::watch::Watch;
use crate::maillog::Audit;

impl Watch {
    /// Moves keys to the stage that is due, makes the next one where a rotation is due, and takes over the result. A reload
    /// waits meanwhile: what it had read before would undo this.
    pub(super) async fn move_keys(&self) {
        let _alone = self.rings.lock().await;
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let (outlook, now) = (Arc::clone(&self.outlook), self.clock.now());
        let moving = tokio::task::spawn_blocking(move || outlook.move_keys(&config, &keyring, now)).await;
        let moved = match moving {
            Ok(moved) => moved,
            Err(error) => return tracing::error!(%error, "moving keys broke"),
        };
        for (domain, error) in &moved.failed {
            tracing::error!(%domain, %error, "keys cannot be moved along; those in use stay in use");
        }
        let Some(keyring) = moved.keyring else { return };
        self.keyring.store(Arc::new(keyring));
        for detail in &moved.said {
            self.log.audit(&Audit { actor: "relay", action: "key", detail, tenant: None });
        }
        self.changed.notify_one();
    }
}
