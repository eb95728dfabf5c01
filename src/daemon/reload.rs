//! A reload: everything is read and checked first, then taken over at once; on an error nothing changes.

use std::sync::{Arc, PoisonError};

use super::{House, open};
use crate::config::Config;
use crate::control::Reloaded;
use crate::failpoint::{self, Failpoint};
use crate::metrics::ResultLabel;
use crate::seal::Keyring;
use crate::tenant::{self, Directory};

/// What a reload read.
struct Read {
    config: Config,
    tenants: Directory,
    keyring: Keyring,
    /// Why the mail log is not written to a new file; the settings do not wait for that.
    log: Option<String>,
}

impl House {
    /// Reads the files again and takes them over. Sessions and attempts under way go on with what they began with.
    pub(super) async fn reload(&self) -> Result<Reloaded, String> {
        let _one_at_a_time = self.reloading.lock().await;
        let _no_key_moves = self.watch.rings.lock().await;
        let outcome = self.read_again().await;
        let result = if outcome.is_ok() { "ok" } else { "refused" };
        self.metrics.reloads.get_or_create(&ResultLabel { result }).inc();
        if let Err(error) = &outcome {
            tracing::error!(%error, "the reload was refused; everything stays as it was");
        }
        *self.reload_error.lock().unwrap_or_else(PoisonError::into_inner) = outcome.as_ref().err().cloned();
        let mut read = outcome?;
        failpoint::pass(Failpoint::ReloadRead);
        let log = read.log.take();
        let fixed = self.take_over(read);
        self.deliverer.tidy_tokens(&self.tenants.load_full(), self.clock.now()).await;
        failpoint::pass(Failpoint::ReloadDone);
        if let Some(error) = &log {
            tracing::error!(%error, "the mail log goes on in the file it had; the rest was taken over");
        }
        Ok(Reloaded { fixed, log })
    }

    /// Reads and checks every file, and opens the mail log again. Certificates come last: they are taken over by being read.
    async fn read_again(&self) -> Result<Read, String> {
        let (old, from_file) = (self.config.load_full(), self.bound.from_file);
        let certificates = self.certificates.clone();
        let log = Arc::clone(&self.log);
        let reading = tokio::task::spawn_blocking(move || {
            let log = log.reopen().err().map(|error| format!("{}: {error}", old.log.path.display()));
            let config = if from_file {
                Config::load(Some(&old.file)).map_err(|error| error.to_string())?
            } else {
                Config::clone(&old)
            };
            let tenants = tenant::load(&config).map_err(|error| error.to_string())?;
            let keyring = Keyring::load(&config.keys).map_err(|error| error.to_string())?;
            if let (Some(certificates), Some(tls)) = (certificates, &config.tls) {
                certificates.reload(tls).map_err(|error| error.to_string())?;
            }
            Ok(Read { config, tenants, keyring, log })
        });
        reading.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Puts what was read into force, and answers what needs a restart.
    fn take_over(&self, read: Read) -> Vec<&'static str> {
        let old = self.config.load_full();
        let mut config = read.config;
        let fixed = keep_fixed(&old, &mut config);
        open::warn_of_keys(&read.keyring, &config);
        self.tenants.store(Arc::new(read.tenants));
        self.keyring.store(Arc::new(read.keyring));
        failpoint::pass(Failpoint::ReloadHalf);
        self.gate.forget();
        self.deliverer.reconfigure(&config, self.bound.own.clone());
        self.config.store(Arc::new(config));
        self.scheduler.nudge();
        self.watch.changed.notify_one();
        fixed
    }
}

/// Puts back what a running daemon cannot change, and names what was asked to change all the same.
fn keep_fixed(old: &Config, new: &mut Config) -> Vec<&'static str> {
    let changed = [
        ("[[listener]]", old.listeners != new.listeners),
        ("[tls]", old.tls.is_some() != new.tls.is_some()),
        ("state", old.state != new.state),
        ("[dns]", old.dns != new.dns),
        ("[queue]", old.queue != new.queue),
        ("[log] path", old.log != new.log),
        ("[admin]", old.admin != new.admin),
        ("[delivery] concurrency", slots(old) != slots(new)),
        ("[unsubscribe]", door(old) != door(new)),
    ];
    new.listeners.clone_from(&old.listeners);
    new.state.clone_from(&old.state);
    new.dns = old.dns.clone();
    new.queue = old.queue.clone();
    new.log = old.log.clone();
    new.admin = old.admin.clone();
    (new.delivery.concurrency, new.delivery.concurrency_per_destination) = slots(old);
    if door(old) != door(new) {
        new.unsubscribe.clone_from(&old.unsubscribe);
    }
    changed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// Attempts at once, in all and to one destination: the queue's lanes are laid out by both when it opens.
fn slots(config: &Config) -> (usize, usize) {
    (config.delivery.concurrency, config.delivery.concurrency_per_destination)
}

/// Where readers unsubscribe, as far as a socket is concerned; what links begin with may change.
fn door(config: &Config) -> Option<(std::net::SocketAddr, bool)> {
    config.unsubscribe.as_ref().map(|it| (it.address, it.tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The queue's lanes are laid out when it opens: half of a change would let slow mail hold every attempt.
    #[test]
    fn attempts_at_once_change_with_a_restart() {
        let old = Config::new("relay.test".parse().unwrap(), std::path::Path::new("/nowhere"));
        let mut new = old.clone();
        assert!(keep_fixed(&old, &mut new).is_empty());
        new.delivery.concurrency += 1;
        new.delivery.rest_max *= 2;
        assert_eq!(keep_fixed(&old, &mut new), ["[delivery] concurrency"]);
        assert_eq!(new.delivery.concurrency, old.delivery.concurrency);
        assert_ne!(new.delivery.rest_max, old.delivery.rest_max, "the rest is taken over");
        new.delivery.concurrency_per_destination += 1;
        assert_eq!(keep_fixed(&old, &mut new), ["[delivery] concurrency"]);
    }
}
