//! What the watch knows, over a restart: pictures of DNS, health of domains, counts by provider.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::watch::Watch;
use crate::mail::address::Domain;
use crate::queue::store::{MEMO_KEY_MAX, MEMO_VALUE_MAX, Memo, StoreError};
use crate::seal::facts::Picture;
use crate::seal::outlook::{Force, Health, below};
use crate::seal::volume::{Count, Provider};

/// How soon to ask again while the index is being rebuilt.
const REBUILDING: Duration = Duration::from_millis(50);
/// Where pictures are remembered.
const FACTS: &str = "seal/facts/";
/// Where the health of domains is.
const HEALTH: &str = "seal/health/";
/// Where counts of what went to providers are: `gmail/acme.com`.
const VOLUME: &str = "seal/volume/";

impl Watch {
    /// What is nobody's any more is forgotten.
    pub(super) async fn forget(&self) {
        let gone = self.outlook.keep_only(&self.names());
        let pictures = gone.pictures.iter().map(|name| forgotten(FACTS, name));
        let health = gone.health.iter().map(|name| forgotten(HEALTH, name));
        self.remember(pictures.chain(health).collect()).await;
    }

    /// So is what made room for other names.
    pub(super) async fn forget_below(&self) {
        self.remember(self.outlook.gone().iter().map(|name| forgotten(FACTS, name)).collect()).await;
    }

    /// Remembers pictures.
    pub(super) async fn keep(&self, pictures: &[Arc<Picture>]) {
        let memo = |picture: &Arc<Picture>| memo(format!("{FACTS}{}", picture.domain), &**picture);
        self.remember(pictures.iter().filter_map(memo).collect()).await;
    }

    /// The memo of a domain's health.
    pub(super) fn health_memo(&self, domain: &Domain) -> Option<Memo> {
        memo(format!("{HEALTH}{domain}"), &self.outlook.health(domain)?)
    }

    /// Counts that changed since they were last remembered.
    pub(super) fn volumes(&self) -> Vec<Memo> {
        let memo = |(organization, provider, count): (String, Provider, Count)| {
            memo(format!("{VOLUME}{}/{organization}", provider.name()), &count)
        };
        self.outlook.volumes.fresh().into_iter().filter_map(memo).collect()
    }

    /// Writes down what fits; one that is too large keeps no other from being kept.
    pub(super) async fn remember(&self, mut memos: Vec<Memo>) {
        memos.retain(fits);
        if memos.is_empty() || !self.recalled.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = self.store.remember(memos).await {
            tracing::warn!(%error, "what DNS says is not remembered over a restart");
        }
    }

    /// Takes what was known before the restart, once the index has it. Until then nothing is written over it; what was heard
    /// meanwhile is written then.
    pub(super) async fn recall(&self) -> Result<(), StoreError> {
        if self.recalled.load(Ordering::Acquire) {
            return Ok(());
        }
        let pictures = self.remembered::<Picture>(FACTS).await?;
        let health = self.remembered::<Health>(HEALTH).await?;
        let volumes = self.remembered::<Count>(VOLUME).await?;
        let heard = self.outlook.pictures();
        self.recall_pictures(pictures.into_iter().map(|(_, picture)| picture));
        for (name, count) in volumes {
            if let Some((provider, organization)) = name.split_once('/')
                && let Some(provider) = Provider::named(provider)
            {
                self.outlook.volumes.recall(organization.to_owned(), provider, count);
            }
        }
        for (name, health) in health {
            if let Ok(domain) = name.parse() {
                self.outlook.recall_health(domain, health);
            }
        }
        self.recalled.store(true, Ordering::Release);
        self.forget().await;
        let heard: Vec<_> = heard.iter().filter_map(|old| self.outlook.picture(&old.domain)).collect();
        self.keep(&heard).await;
        Ok(())
    }

    fn recall_pictures(&self, pictures: impl Iterator<Item = Picture>) {
        let (config, keyring) = (self.config.load_full(), self.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        self.outlook.recall(pictures, below(&self.tenants.load(), force));
    }

    /// Waits for the index, if it is being rebuilt.
    pub(super) async fn recall_soon(&self) {
        while let Err(error) = self.recall().await {
            if !matches!(error, StoreError::Rebuilding) {
                tracing::warn!(%error, "what DNS said before the restart cannot be read");
                return;
            }
            tokio::time::sleep(REBUILDING).await;
        }
    }

    /// What was remembered below this prefix, as far as it can be read.
    async fn remembered<T: serde::de::DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let found = self.store.recall(prefix.to_owned()).await?;
        let read = |(key, value): (String, Vec<u8>)| {
            let name = key.strip_prefix(prefix)?.to_owned();
            Some((name, serde_json::from_slice(&value).ok()?))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }
}

fn memo(key: String, what: &impl serde::Serialize) -> Option<Memo> {
    Some(Memo { key, value: Some(serde_json::to_vec(what).ok()?) })
}

fn forgotten(place: &str, name: &Domain) -> Memo {
    Memo { key: format!("{place}{name}"), value: None }
}

fn fits(memo: &Memo) -> bool {
    let length = memo.value.as_ref().map_or(0, Vec::len);
    let fits = memo.key.len() <= MEMO_KEY_MAX && length <= MEMO_VALUE_MAX;
    if !fits {
        tracing::warn!(memo = memo.key, octets = length, "too large to be remembered over a restart");
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_left_out() {
        let rows = [
            (11, Some(MEMO_VALUE_MAX), true, "as large as may be"),
            (11, Some(MEMO_VALUE_MAX + 1), false, "a picture with very long records"),
            (MEMO_KEY_MAX + 1, Some(1), false, "a very long name"),
            (11, None, true, "to be forgotten"),
        ];
        for (key, value, is_kept, why) in rows {
            let memo = Memo { key: "k".repeat(key), value: value.map(|length| vec![0; length]) };
            assert_eq!(fits(&memo), is_kept, "{why}");
        }
    }
}
