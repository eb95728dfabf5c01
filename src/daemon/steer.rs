//! What the admin API asks of the daemon.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::House;
use crate::control::wire::{About, Probe, Probed, Site, StsPolicy};
use crate::control::{Ordered, Reloaded, Steer};
use crate::dns::Failure;
use crate::mail::address::Domain;
use crate::queue::store::StoreError;
use crate::seal::check::{Report, usual};

/// The scheduler looks at the queue at least this often, or it hangs: twice its own heartbeat, and room for a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(90);
/// Longest wait for the disk and for the resolver when somebody asks whether we are ready.
const READY: Duration = Duration::from_secs(3);
/// How long what they answered holds: whoever asks often costs no sync and no lookup each time.
const LOOK_HOLDS: Duration = Duration::from_secs(5);

/// The last look at the disk and the resolver, for all who ask: those that come meanwhile wait for it.
#[derive(Default)]
pub(super) struct LastLook(Mutex<Option<(Instant, Result<(), String>)>>);

impl LastLook {
    /// What it found, or what `look` finds where it is too old.
    async fn or(&self, now: Instant, look: impl Future<Output = Result<(), String>>) -> Result<(), String> {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && now.saturating_duration_since(*at) < LOOK_HOLDS
        {
            return found.clone();
        }
        let found = look.await;
        *last = Some((now, found.clone()));
        found
    }
}

impl Steer for House {
    fn reload(&self) -> Ordered<'_, Reloaded> {
        Box::pin(self.reload())
    }

    fn nudge(&self) {
        self.scheduler.nudge();
    }

    fn drain(&self) {
        self.phase.asked.cancel();
    }

    fn check(&self, domain: Domain) -> Ordered<'_, Option<Report>> {
        Box::pin(async move {
            let tenants = self.tenants.load_full();
            let Some((tenant, own)) = tenants.covering(&domain) else { return Ok(None) };
            Ok(Some(self.watch.check(&usual(tenant, own, &domain)).await))
        })
    }

    fn reports(&self) -> Vec<Report> {
        self.watch.reports()
    }

    fn probe(&self, order: Probe) -> Ordered<'_, Probed> {
        Box::pin(self.probe(order))
    }

    fn about(&self) -> About {
        let config = self.config.load();
        let phase = if self.phase.asked.is_cancelled() { "draining" } else { "running" };
        About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            hostname: config.hostname.to_string(),
            started: self.bound.started.utc().to_string(),
            phase: phase.to_owned(),
            listeners: self.bound.listeners.clone(),
            http: self.bound.http,
            config: config.file.clone(),
            state: config.state.clone(),
            log: config.log.path.clone(),
            tenants: self.tenants.load().tenants().count(),
            reload_error: self.last_reload_error(),
        }
    }

    fn sites(&self, most: usize) -> ([usize; 3], Vec<Site>) {
        let rows = self.deliverer.sites(most).into_iter().map(|seen| Site {
            site: seen.site,
            active: seen.active,
            slots: seen.slots,
            rests_until: seen.rest.map(|(until, _)| until.utc().to_string()),
            reason: seen.rest.map(|(_, why)| why.name().to_owned()),
            last: seen.said,
        });
        (self.deliverer.count_sites(), rows.collect())
    }

    fn policies(&self) -> Vec<StsPolicy> {
        let known = self.deliverer.policies().list(self.clock.now());
        let shown = known.iter().map(|kept| StsPolicy {
            domain: kept.domain.clone(),
            mode: kept.policy.mode.name().to_owned(),
            mx: kept.policy.mx.clone(),
            id: kept.id.clone(),
            fetched: kept.fetched.utc().to_string(),
            until: kept.until().utc().to_string(),
        });
        shown.collect()
    }

    fn alive(&self) -> Result<(), String> {
        let ago = self.clock.now().since(self.scheduler.looked());
        if ago > HEARTBEAT {
            return Err(format!("the scheduler has not looked at the queue for {} s", ago.as_secs()));
        }
        Ok(())
    }

    fn ready(&self) -> Ordered<'_, ()> {
        Box::pin(async {
            if self.phase.asked.is_cancelled() {
                return Err("draining".to_owned());
            }
            match self.store.stats().await {
                Ok(_) | Err(StoreError::Rebuilding) => {}
                Err(error) => return Err(error.to_string()),
            }
            if !self.store.has_room() {
                return Err("the disk is below its reserve".to_owned());
            }
            let look = async {
                let (disk, dns) = tokio::join!(self.disk_syncs(), self.resolver_answers());
                disk.and(dns)
            };
            self.last_look.or(Instant::now(), look).await
        })
    }
}

impl House {
    /// Whether the file system of the spool still takes a sync: a disk that hangs is seen before a mail waits for it.
    async fn disk_syncs(&self) -> Result<(), String> {
        let probe = self.config.load().state.join("ready");
        let syncing = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::create(&probe)?;
            file.sync_all()
        });
        match tokio::time::timeout(READY, syncing).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(format!("the disk does not sync: {error}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the disk takes too long to sync".to_owned()),
        }
    }

    /// Whether the resolver says anything at all; that our own name has no MX is an answer.
    async fn resolver_answers(&self) -> Result<(), String> {
        let name = self.config.load().hostname.clone();
        match tokio::time::timeout(READY, self.resolver.mx(&name)).await {
            Ok(Err(Failure::Transient(why))) => Err(format!("the resolver does not answer: {why}")),
            Ok(_) => Ok(()),
            Err(_) => Err("the resolver does not answer in time".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn probes_at_once_and_soon_after_share_one_look() {
        let (last, looks, start) = (LastLook::default(), Cell::new(0), Instant::now());
        let ask = |after| {
            last.or(start + after, async {
                looks.set(looks.get() + 1);
                tokio::task::yield_now().await;
                Err(format!("look {}", looks.get()))
            })
        };
        let first = Err("look 1".to_owned());
        let both = tokio::join!(ask(Duration::ZERO), ask(Duration::ZERO));
        assert_eq!(both, (first.clone(), first.clone()), "at once");
        assert_eq!(ask(LOOK_HOLDS / 2).await, first, "soon after");
        assert_eq!(ask(LOOK_HOLDS).await, Err("look 2".to_owned()), "what is older says nothing of now");
    }
}
