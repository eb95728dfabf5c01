//! The live probe: a message from a tenant's domain, submitted, sealed and sent like its own mail, to an address that our inbound
//! listener knows. What arrives there is what receivers get.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::House;
use crate::admit::{Client, Submission};
use crate::config::Role;
use crate::control::wire::{Probe, Probed, VERSION, heard};
use crate::inbound::probe::{Arrived, Expected};
use crate::mail::address::{Address, Domain};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::message::Message;
use crate::mail::return_path;
use crate::mail::time::Time;
use crate::memory::Permit;
use crate::queue::store::{Action, Filter, StoreError};
use crate::tenant::{Route, Tenant};

/// The longest wait that can be asked for.
const PATIENCE_MAX: Duration = Duration::from_secs(600);
/// Between two looks at the queue.
const LOOK: Duration = Duration::from_millis(500);
/// A message that has left the queue has arrived by now, or never will.
const TAIL: Duration = Duration::from_secs(10);

/// Failures among which that of a probe is looked for.
const OWED: usize = 100_000;

/// How a wait ended.
enum End {
    Arrived(Arrived),
    /// It did not arrive; where it is stuck.
    Stuck(String),
}

impl House {
    /// Sends a probe and waits for it.
    pub(super) async fn probe(&self, order: Probe) -> Result<Probed, String> {
        let config = self.config.load_full();
        if !config.listeners.iter().any(|listener| listener.role == Role::Inbound) {
            return Err(
                "no [[listener]] has role = \"inbound\": a probe has nowhere to come back to".to_owned()
            );
        }
        let (tenant, home) = self.owner(&order.domain)?;
        let number = Id::new(self.clock.now(), rand::random());
        let to = return_path::probe(&self.secret, number, home.as_ref().unwrap_or(&config.relay.domain));
        let mut expected =
            self.inbound.probes().expect(number).ok_or("too many probes are under way; try again later")?;
        let message = self.send(&tenant, &order.domain, &to).await?;
        let (id, sent) = (message.facts.id, self.clock.now());
        let patience = Duration::from_millis(order.timeout).min(PATIENCE_MAX);
        let end = self.wait(&mut expected, id, patience).await;
        let mut probed = Probed {
            v: VERSION,
            id,
            domain: order.domain,
            to: to.to_string(),
            route: route(&tenant),
            ms: millis(sent, self.clock.now()),
            found: None,
            trouble: home.is_none().then(|| {
                format!(
                    "the domain has no return_path, so the probe went to {}, and SPF was looked at with the sender's own domain",
                    config.relay.domain
                )
            }),
        };
        match end {
            End::Arrived(arrived) => {
                probed.ms = millis(sent, arrived.at);
                probed.found = Some(arrived.judge(&self.resolver, &config.hostname, &message.body).await);
            }
            End::Stuck(why) => {
                self.withdraw(id).await;
                let also = probed.trouble.map(|also| format!("; {also}")).unwrap_or_default();
                probed.trouble = Some(format!("the probe did not arrive: {why}{also}"));
            }
        }
        Ok(probed)
    }

    /// Whose the From domain is, and where its bounces come back to.
    fn owner(&self, domain: &Domain) -> Result<(Arc<Tenant>, Option<Domain>), String> {
        let tenants = self.tenants.load();
        let (tenant, own) =
            tenants.covering(domain).ok_or_else(|| format!("{domain} is no tenant's From domain"))?;
        Ok((Arc::clone(tenant), own.return_path.clone()))
    }

    /// Submits it as the tenant's own mail, past the front door's sockets only.
    async fn send(
        &self,
        tenant: &Arc<Tenant>,
        domain: &Domain,
        to: &Address,
    ) -> Result<Arc<Message>, String> {
        let unfit = |error: crate::mail::address::BadAddress| error.to_string();
        let from: Address = format!("probe@{domain}").parse().map_err(unfit)?;
        // Whatever becomes of it: the tenant did not write it, and is told nothing (RFC 3461 section 4.1, NEVER).
        let notify = Notify { success: false, failure: false, delay: false, stated: true };
        let rcpt = Recipient { address: to.clone(), orcpt: None, notify };
        let body = text(&from, to).into_bytes();
        let submission = Submission {
            client: Client {
                ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
                helo: self.config.load().hostname.to_string(),
                login: None,
                tls: None,
            },
            tenant: Arc::clone(tenant),
            envelope: Envelope { from: Some(from), rcpts: vec![rcpt], ret: None, envid: None },
            eight_bit_mime: false,
            smtputf8: false,
            require_tls: false,
            priority: None,
            deliver_by: None,
            body,
            held: Permit::default(),
        };
        self.admit.accept(submission).await.map_err(|reply| format!("the probe was refused: {reply}"))
    }

    /// Waits for the arrival, with a look at the queue now and then: a probe that failed need not be waited for.
    async fn wait(&self, expected: &mut Expected, id: Id, patience: Duration) -> End {
        let until = tokio::time::Instant::now() + patience;
        let mut gone: Option<tokio::time::Instant> = None;
        let mut state = "it is still in the queue".to_owned();
        loop {
            let now = tokio::time::Instant::now();
            let end = gone.map_or(until, |gone| until.min(gone + TAIL));
            if now >= end {
                return End::Stuck(state);
            }
            let look = (now + LOOK).min(end);
            tokio::select! {
                biased;
                arrived = expected.arrival() => match arrived {
                    Some(arrived) => return End::Arrived(arrived),
                    None => return End::Stuck("nobody waits for it any more".to_owned()),
                },
                () = tokio::time::sleep_until(look) => {}
            }
            match self.look(id).await {
                Ok(Look::Waits(what)) => state = what,
                Ok(Look::Failed(what)) => return End::Stuck(what),
                Ok(Look::Gone) => {
                    gone.get_or_insert(now);
                    state = format!("it has left the queue; waxseal trace {id} tells where it went");
                }
                Err(error) => state = error.to_string(),
            }
        }
    }

    async fn look(&self, id: Id) -> Result<Look, StoreError> {
        let filter = Filter { ids: vec![id], limit: Some(1), ..Filter::default() };
        let Some(entry) = self.store.list(filter, self.clock.now()).await?.pop() else {
            let mut owed = self.store.owed(OWED).await?.into_iter();
            let failed = owed.find(|(owed, _)| owed.id == id);
            let said = failed.map(|(failed, _)| format!("it failed: {}", heard(&failed.last)));
            return Ok(said.map_or(Look::Gone, Look::Failed));
        };
        let row = crate::control::wire::Row::from(&entry);
        let last = row.reason.unwrap_or_else(|| "nothing was heard yet".to_owned());
        let state = serde_json::to_value(row.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or("queued");
        Ok(Look::Waits(format!("it is {state} after {} attempts: {last}", row.attempts)))
    }

    /// Takes a probe out of the queue that nobody waits for any more, and its failure off what is owed: the tenant did not
    /// write it.
    async fn withdraw(&self, id: Id) {
        let filter = Filter { ids: vec![id], ..Filter::default() };
        let dropped = self.store.act(filter, Action::Drop, self.clock.now()).await;
        for entry in dropped.unwrap_or_default() {
            self.log.dropped(&entry.facts, &entry.leg.rcpts, "probe", "it did not arrive in time");
        }
        if let Err(error) = self.store.waive(vec![(id, 0)]).await {
            tracing::warn!(%error, "a probe could not be withdrawn");
        }
    }
}

/// What the queue says of a probe.
enum Look {
    Waits(String),
    Failed(String),
    Gone,
}

fn route(tenant: &Tenant) -> String {
    match tenant.route.as_ref() {
        Route::Mx => "mx".to_owned(),
        Route::Upstream(upstream) => format!("{}:{}", upstream.host, upstream.port),
    }
}

fn millis(from: Time, to: Time) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// Headers and a body with what careless servers change: dots, blanks at the end of a line, a long line, an empty line before
/// the end.
fn text(from: &Address, to: &Address) -> String {
    let long = "0123456789 ".repeat(40);
    format!(
        "From: Waxseal probe <{from}>\r\nTo: <{to}>\r\nSubject: Waxseal probe\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\nAuto-Submitted: auto-generated\r\n\r\n\
         This message was sent by `waxseal domain probe` to see what receivers see.\r\n\
         .\r\n..two dots\r\nblanks at the end  \r\n{long}\r\n\r\nthe end\r\n"
    )
}
