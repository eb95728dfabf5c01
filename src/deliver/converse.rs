//! What is said to one host: over a connection that is kept, else over a new one, for which there must be room at the site.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Attempt;
use super::dial::Dialer;
use super::driver::Connection;
use super::hosts::Host;
use super::ledger::Ledger;
use super::outcome::{Scope, Trouble};
use super::pool::Key;
use super::protect::By;
use super::rules::Rules;
use super::sites::{Seat, Turn};
use super::source::{Source, Whose};
use super::transact::Ended;
use crate::mail::reply::Enhanced;
use crate::metrics::{ByLabel, ResultLabel};

/// How long a goodbye is waited for where there is no room: a server that does not answer one shall not hold up the mail.
const ROOM_WAIT: Duration = Duration::from_secs(2);

impl Attempt<'_> {
    /// Over kept connections as long as there are any and they are still there, else over a new one.
    pub(super) async fn converse(
        &self,
        host: &Host,
        rules: &Rules,
        turn: &Turn,
        ledger: &mut Ledger<'_>,
    ) -> Result<(), Trouble> {
        let protection = match self.protection(host, rules).await {
            Ok(protection) => protection,
            Err((by, trouble)) => {
                self.count_refused(by);
                self.tally_unasked(host, rules, by);
                return Err(trouble);
            }
        };
        let source = self.source(host)?;
        let key = self.access.key(host, &protection, source.address);
        while let Some(mut connection) = self.deliverer.pool.take(&key) {
            if connection.seat.as_ref().is_none_or(|seat| seat.site() != &**turn.site()) {
                connection.seat = Some(self.seat(turn).await);
            }
            match self.transact(connection, &key, ledger).await {
                Ended::Stale => ledger.at(host),
                Ended::Done => {
                    self.count("reused");
                    return Ok(());
                }
                Ended::Trouble(trouble) => {
                    self.count("reused");
                    return Err(trouble);
                }
            }
        }
        let dialer = Dialer {
            settings: self.settings,
            accounts: &self.deliverer.accounts,
            tokens: &self.deliverer.tokens,
            https: self.https(),
            access: &self.access,
            protection: &protection,
            source,
            needs_ehlo: self.job.message.facts.needs_ehlo(),
            seat: self.seat(turn).await,
        };
        let opened = dialer.open(host, ledger).await;
        self.count(if opened.is_ok() { "opened" } else { "failed" });
        self.tally(host, rules, &protection, (opened.as_ref(), ledger.problem));
        let connection = opened.inspect_err(|trouble| {
            if trouble.is_about_tls() {
                self.count_refused(protection.by);
            }
        })?;
        if connection.tls.is_some() {
            let by = protection.by.name().unwrap_or("nobody");
            self.deliverer.metrics.tls_protected.get_or_create(&ByLabel { by }).inc();
        }
        match self.transact(connection, &key, ledger).await {
            Ended::Done => Ok(()),
            Ended::Trouble(trouble) => Err(trouble),
            Ended::Stale => Err(Trouble::hung_up()),
        }
    }

    /// A seat for a new connection. Kept connections have seats too: where none is free, the one kept longest is closed first, so
    /// that the site never sees more than it is given.
    async fn seat(&self, turn: &Turn) -> Arc<Seat> {
        let seat = timeout(ROOM_WAIT, self.free_seat(turn)).await;
        Arc::new(seat.unwrap_or_else(|_| turn.squeeze_in()))
    }

    async fn free_seat(&self, turn: &Turn) -> Seat {
        loop {
            let left = turn.left();
            if let Some(seat) = turn.sit() {
                return seat;
            }
            match self.deliverer.pool.evict(turn.site(), 1).pop() {
                Some(connection) => connection.quit().await,
                None => left.await,
            }
        }
    }

    /// Closes what is kept beyond what the site is given now: it may have been given more before.
    pub(super) fn tidy(&self, site: &str) {
        let excess = self.deliverer.sites.excess(site, self.settings.bounds);
        if excess == 0 {
            return;
        }
        for connection in self.deliverer.pool.evict(site, excess) {
            tokio::spawn(connection.quit());
        }
    }

    /// From where this mail goes to this host.
    pub(super) fn source(&self, host: &Host) -> Result<&Source, Trouble> {
        let class = self.job.message.facts.class.as_ref().map(|class| &*class.name);
        let whose = Whose { tenant: &self.job.tenant, class };
        self.settings.sources.choose(whose, host.address.ip()).map_err(|why| {
            let text = format!("cannot connect to {}: {why}", host.address);
            // RFC 3463: X.3.5, a system incorrectly configured. Ours: the host was not asked.
            Trouble::transient(Scope::Host, Enhanced(4, 3, 5), text)
        })
    }

    /// A host that got nothing because it did not give the TLS that was asked for.
    fn count_refused(&self, by: By) {
        if let Some(by) = by.name() {
            self.deliverer.metrics.tls_refused.get_or_create(&ByLabel { by }).inc();
        }
    }

    fn count(&self, result: &'static str) {
        self.deliverer.metrics.hops.get_or_create(&ResultLabel { result }).inc();
    }

    /// Keeps the connection for the next message, if it may be any.
    pub(super) fn keep(&self, connection: Connection, key: &Key) {
        let spent = connection.guessed || connection.messages >= self.settings.messages;
        let idle = if spent { Duration::ZERO } else { self.settings.idle };
        self.deliverer.pool.keep(key.clone(), connection, idle);
    }
}
