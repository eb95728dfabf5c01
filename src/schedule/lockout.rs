//! Tenants whose upstream refuses their password. Their mail is held, not failed: the tenant can mend it. One leg at a time is let
//! go to try again, at the times that `deliver::accounts` allows; when the upstream takes the password, or a reload brings another
//! one, all of it goes.
//!
//! And those whose upstream shows a bad certificate, or no STARTTLS where their route needs it: their mail is tried by its
//! schedule, and they are told too.
//!
//! Nothing of this is durable but the legs' holds and the words (memos) that the tenant was told. After a restart one leg
//! of each tenant that is shut out is tried at once.

mod tries;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use self::tries::Tries;
use super::Room;
use super::turn::REBUILDING;
use crate::deliver::alert::{self, Alert, What};
use crate::deliver::bounce::{Audience, audience};
use crate::mail::attempt::{Decided, Fate, Login};
use crate::mail::id::Id;
use crate::mail::message::Facts;
use crate::queue::store::{Action, Cause, Entry, Filter, Hold, Memo, StateName, StoreError};
use crate::tenant::{Directory, Route, Upstream};

/// Held legs looked at in one go after a restart, to find the tenants concerned.
const PAGE: usize = 200;
/// The longest sleep, as in `turn`.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Memos that say who was told of a password begin like this.
const TOLD: &str = "lockout/";
/// And those of a server that cannot be trusted.
const TOLD_TLS: &str = "withheld/";

/// What flights tell, and the task works off.
#[derive(Default)]
pub(super) struct Lockouts {
    board: Mutex<Board>,
    news: Notify,
}

#[derive(Default)]
struct Board {
    shut: Tries,
    /// Whose upstream takes the password again.
    good: BTreeSet<Arc<str>>,
    /// To whose upstream nothing is sent, for want of TLS.
    withheld: BTreeSet<Arc<str>>,
    /// Whose upstream can be trusted again.
    trusted: BTreeSet<Arc<str>>,
    /// What is to be told.
    alerts: Vec<Alert>,
}

/// Why mail is held, for a person, if this decision says so.
pub(super) fn hold(one: &Decided, tenant: &str) -> Option<Hold> {
    let Login::Refused { .. } = one.hop.login else { return None };
    let host = one.hop.host.as_deref().unwrap_or("the upstream");
    let reason = format!(
        "{host} refuses the credentials of tenant {tenant}: {}; set them anew, then reload",
        said(one)
    );
    Some(Hold { reason: reason.into(), cause: Cause::Credentials, until: None })
}

impl Lockouts {
    /// What an attempt by its tenant's first way found out about the upstream.
    pub(super) fn heard(&self, room: &Room, facts: &Facts, one: &Decided) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        let news = match one.hop.login {
            Login::None | Login::Accepted => board.went(&facts.tenant, one),
            Login::Withheld => {
                board.withheld.insert(Arc::clone(&facts.tenant));
                board.alerts.extend(alert(room, facts, (What::Tls, one)));
                true
            }
            Login::Refused { again } => {
                let now = room.parts.clock.now();
                board.shut.refused(&facts.tenant, now, now.after(again));
                board.alerts.extend(alert(room, facts, (What::Password, one)));
                true
            }
        };
        drop(board);
        if news {
            self.news.notify_one();
        }
    }

    /// A look is worth taking: the tenants may have changed.
    pub(super) fn look(&self) {
        self.news.notify_one();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Board) -> T) -> T {
        work(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Board {
    /// Nothing was refused: whether that is new.
    fn went(&mut self, tenant: &Arc<str>, one: &Decided) -> bool {
        let opened = one.hop.login == Login::Accepted && self.shut.open(tenant);
        if opened {
            self.good.insert(Arc::clone(tenant));
        }
        // A session that was kept shows no certificate again.
        let fresh = one.ms.connect.is_some();
        let through = fresh && (one.hop.tls.is_some() || one.fate == Fate::Delivered);
        let trusted = through && self.withheld.remove(tenant);
        if trusted {
            self.trusted.insert(Arc::clone(tenant));
        }
        opened || trusted
    }

    /// Those that have no upstream any more, and so none that must be trusted.
    fn reloaded(&mut self, by_upstream: impl Fn(&str) -> bool) {
        let gone: Vec<Arc<str>> = self.withheld.extract_if(.., |tenant| !by_upstream(tenant)).collect();
        self.trusted.extend(gone);
    }
}

/// What the tenant is told; nothing, where nobody may be.
fn alert(room: &Room, facts: &Facts, (what, one): (What, &Decided)) -> Option<Alert> {
    let tenants = room.parts.tenants.load();
    let tenant = tenants.tenant(&facts.tenant)?;
    let Route::Upstream(upstream) = tenant.route.as_ref() else { return None };
    let what = match what {
        What::Password if upstream.oauth.is_some() => What::Grant,
        What::Password | What::Grant | What::Tls => what,
    };
    let Audience::Told { to, .. } = audience(Some(tenant), facts) else { return None };
    Some(Alert {
        what,
        tenant: Arc::clone(&facts.tenant),
        to,
        host: format!("{}:{}", upstream.host, upstream.port),
        said: said(one),
    })
}

/// The reply with its code, or what was found out before anybody was asked.
fn said(one: &Decided) -> String {
    match one.reply.code {
        0 => one.reply.escaped(),
        code => format!("{code} {}", one.reply.escaped()),
    }
}

/// The upstream that a route logs in to.
fn login(route: &Route) -> Option<&Upstream> {
    match route {
        Route::Upstream(upstream) => Some(upstream).filter(|upstream| upstream.credentials.is_some()),
        Route::Mx => None,
    }
}

/// Runs until the scheduler stops.
pub(super) async fn run(room: Arc<Room>) {
    let mut keeper = Keeper { known: room.parts.tenants.load_full(), room: &room };
    let work = async {
        keeper.recover().await?;
        loop {
            let sleep = match keeper.look().await {
                Err(StoreError::Rebuilding) => REBUILDING,
                other => other?,
            };
            tokio::select! {
                () = room.lockouts.news.notified() => {}
                () = tokio::time::sleep(sleep) => {}
            }
        }
    };
    let ended: Result<(), StoreError> = tokio::select! {
        ended = work => ended,
        () = room.stop.cancelled() => Ok(()),
    };
    if let Err(error) = ended {
        room.fail(error);
    }
}

struct Keeper<'a> {
    room: &'a Room,
    /// As of the last look: another one means that there was a reload.
    known: Arc<Directory>,
}

impl Keeper<'_> {
    /// Whose mail waits for a password since before the start.
    async fn recover(&self) -> Result<(), StoreError> {
        let told = loop {
            match self.room.parts.store.recall(TOLD_TLS.to_owned()).await {
                Err(StoreError::Rebuilding) => sleep(REBUILDING).await,
                other => break other?,
            }
        };
        let withheld = told.iter().filter_map(|(key, _)| key.strip_prefix(TOLD_TLS)).map(Arc::from);
        self.room.lockouts.with(|board| board.withheld.extend(withheld));
        match self.room.parts.store.stats().await {
            Ok(stats) if !stats.rebuilding && stats.held == 0 => return Ok(()),
            Ok(_) | Err(StoreError::Rebuilding) => {}
            Err(error) => return Err(error),
        }
        let mut filter = Filter { limit: Some(PAGE), ..held(None) };
        loop {
            let now = self.room.parts.clock.now();
            let page = match self.room.parts.store.list(filter.clone(), now).await {
                Err(StoreError::Rebuilding) => {
                    sleep(REBUILDING).await;
                    continue;
                }
                other => other?,
            };
            self.room.lockouts.with(|board| {
                page.iter().for_each(|entry| board.shut.refused(&entry.leg.tenant, now, now));
            });
            filter.after = page.last().map(|entry| entry.leg.id);
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Does what is to be done now; answers how long nothing more is.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        let now = self.room.parts.clock.now();
        let tenants = self.room.parts.tenants.load_full();
        let changed = !Arc::ptr_eq(&tenants, &self.known);
        self.known = Arc::clone(&tenants);
        let logs_in = |name: &str| tenants.tenant(name).is_some_and(|tenant| login(&tenant.route).is_some());
        let by_upstream = |name: &str| {
            tenants.tenant(name).is_some_and(|tenant| matches!(&*tenant.route, Route::Upstream(_)))
        };
        let (mut open, due, alerts) = self.room.lockouts.with(|board| {
            let gone = if changed { board.shut.reloaded(now, logs_in) } else { Vec::new() };
            if changed {
                board.reloaded(by_upstream);
            }
            let open: Vec<Arc<str>> = std::mem::take(&mut board.good).into_iter().chain(gone).collect();
            (open, board.shut.due(now), std::mem::take(&mut board.alerts))
        });
        open.dedup();
        self.forget_trusted().await?;
        for tenant in &open {
            self.release(tenant, None, "the upstream takes the password again, or another way was set")
                .await?;
            self.remember(format!("{TOLD}{tenant}"), None).await?;
        }
        for tenant in &due {
            self.release(tenant, Some(1), "tried again, to see whether the upstream takes the password")
                .await?;
        }
        for alert in alerts {
            self.tell(alert).await?;
        }
        let (count, next) = self.room.lockouts.with(|board| (board.shut.count(), board.shut.next()));
        self.room.parts.metrics.lockouts.set(i64::try_from(count).unwrap_or(i64::MAX));
        Ok(next.map_or(HEARTBEAT, |at| at.since(self.room.parts.clock.now()).min(HEARTBEAT)))
    }

    async fn release(&self, tenant: &str, most: Option<usize>, why: &str) -> Result<(), StoreError> {
        let mut filter = Filter { limit: most, page: Some(PAGE), ..held(Some(tenant)) };
        loop {
            let now = self.room.parts.clock.now();
            let released = self.room.parts.store.act(filter.clone(), Action::Release, now).await?;
            for Entry { leg, facts, .. } in &released {
                self.room.parts.log.released(facts, &leg.rcpts, "schedule", why);
            }
            if most.is_some() && released.is_empty() {
                self.room.lockouts.with(|board| board.shut.nothing_held(tenant, now));
            }
            if most.is_some() || released.len() < PAGE {
                return Ok(());
            }
            filter.after = released.last().map(|entry| entry.leg.id);
        }
    }

    /// Tells the tenant, once until it is mended; what cannot be told now is with the next refusal.
    async fn tell(&self, alert: Alert) -> Result<(), StoreError> {
        let told = match alert.what {
            What::Password | What::Grant => TOLD,
            What::Tls => TOLD_TLS,
        };
        let key = format!("{told}{}", alert.tenant);
        if !self.room.parts.store.recall(key.clone()).await?.is_empty() {
            return Ok(());
        }
        let now = self.room.parts.clock.now();
        let id = Id::new(now, rand::random());
        let sealed = {
            let (config, keyring) = (self.room.parts.config.load(), self.room.parts.keyring.load());
            alert::sealed(&config, &keyring, &alert, (id, now))
        };
        let accept = match sealed {
            Ok(accept) => accept,
            Err(error) => {
                tracing::error!(%error, tenant = %alert.tenant, "the tenant cannot be told what is wrong with its upstream");
                return Ok(());
            }
        };
        let message = Arc::clone(&accept.message);
        match self.room.parts.store.accept(accept).await {
            Ok(()) => self.room.parts.log.alert(&message.facts, &alert.tenant, &alert.line()),
            Err(StoreError::Full(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.remember(key, Some(now.utc().to_string().into_bytes())).await
    }

    /// Whose upstream is trusted again is told anew the next time.
    async fn forget_trusted(&self) -> Result<(), StoreError> {
        for tenant in self.room.lockouts.with(|board| std::mem::take(&mut board.trusted)) {
            self.remember(format!("{TOLD_TLS}{tenant}"), None).await?;
        }
        Ok(())
    }

    async fn remember(&self, key: String, value: Option<Vec<u8>>) -> Result<(), StoreError> {
        match self.room.parts.store.remember(vec![Memo { key, value }]).await {
            // A full disk costs a second word to the tenant at worst.
            Ok(()) | Err(StoreError::Full(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Legs that wait for a password.
fn held(tenant: Option<&str>) -> Filter {
    Filter {
        tenant: tenant.map(str::to_owned),
        state: Some(StateName::Held),
        cause: Some(Cause::Credentials),
        ..Filter::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::attempt::{Hop, Timings};
    use crate::mail::reply::{Enhanced, PeerReply};

    #[test]
    fn a_kept_session_says_nothing_of_a_certificate() {
        let tenant: Arc<str> = "acme".into();
        let mut board = Board::default();
        board.withheld.insert(Arc::clone(&tenant));
        let mut one = Decided {
            rcpt: 0,
            fate: Fate::Delivered,
            reply: PeerReply::local(Enhanced(2, 0, 0), "taken"),
            hop: Hop::default(),
            ms: Timings::default(),
        };
        assert!(!board.went(&tenant, &one), "made before the certificate expired");
        one.ms.connect = Some(1);
        assert!(board.went(&tenant, &one), "a new one");
        assert!(board.trusted.contains(&tenant));
    }
}
