//! TLS reports (RFC 8460) go out once a day is over, to the domains that ask for them; which of them when, `deliver::tally` says.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::Deliverer;
use crate::deliver::tally::{Tally, is_late};
use crate::deliver::tlsrpt::{self, Place};
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::maillog::{MailLog, TlsReported};
use crate::queue::store::{Memo, Store};
use crate::seal::Keyring;

/// How often it is looked whether a report is due.
const EVERY: Duration = Duration::from_secs(5 * 60);

/// What it works with.
pub(super) struct Reports {
    pub(super) deliverer: Arc<Deliverer>,
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) keyring: Arc<ArcSwap<Keyring>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Arc<MailLog>,
    pub(super) clock: Clock,
}

impl Reports {
    /// Runs until stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        loop {
            let working = async {
                tokio::time::sleep(EVERY).await;
                self.report(self.clock.now()).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = working => {}
            }
        }
    }

    /// Reports what is due.
    pub(super) async fn report(&self, now: Time) {
        let config = self.config.load_full();
        let tallies = self.deliverer.tallies();
        for tally in tallies.due(now, config.hostname.as_str()) {
            if !config.delivery.tls_reports || self.told(&tally, now).await || is_late(&tally, now) {
                self.forget(&tally).await;
            } else {
                tallies.not_taken(&tally, now);
            }
        }
    }

    /// Whether nothing is left to be done about it.
    async fn told(&self, tally: &Tally, now: Time) -> bool {
        let Ok(places) = self.deliverer.report_places(&tally.domain).await else { return false };
        let config = self.config.load_full();
        let report = tlsrpt::report(tally, &config);
        // Any of them will do for what a retry is about: who got it would get it twice.
        let mut done = places.is_empty();
        for place in &places {
            let handed = match place {
                Place::Mail(to) => {
                    let id = Id::new(now, rand::random());
                    let made = tlsrpt::mail(&config, &self.keyring.load(), (tally, &report), to, (id, now));
                    match made {
                        Ok(accept) => self.store.accept(accept).await.map_err(|error| error.to_string()),
                        Err(error) => Err(error.to_string()),
                    }
                }
                Place::Web { host, port, path } => {
                    self.deliverer.post_report(&report, (host, *port, path)).await
                }
            };
            done |= handed.is_ok();
            self.say(tally, place, handed);
        }
        done
    }

    fn say(&self, tally: &Tally, place: &Place, handed: Result<(), String>) {
        let sum = |count: fn(&crate::deliver::tally::Count) -> u32| tally.counts.values().map(count).sum();
        self.log.tls_report(&TlsReported {
            domain: tally.domain.as_str(),
            place: &place.name(),
            good: sum(|count| count.good),
            bad: sum(crate::deliver::tally::Count::bad),
            failed: handed.err().as_deref(),
        });
    }

    async fn forget(&self, tally: &Tally) {
        self.deliverer.tallies().forget(tally);
        let memo = Memo { key: key(tally), value: None };
        if let Err(error) = self.store.remember(vec![memo]).await {
            tracing::warn!(%error, domain = %tally.domain, "a TLS report that went out may go out again after a restart");
        }
    }
}

/// Where tallies are remembered.
pub(super) const TALLIES: &str = "tls/tally/";

/// Under which name one is.
pub(super) fn key(tally: &Tally) -> String {
    format!("{TALLIES}{}/{}", tally.day, tally.domain)
}
