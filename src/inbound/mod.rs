//! What comes back to us, on a listener of its own that never relays: bounces at a return path, complaints, probes.
//!
//! Only addresses of our own making are taken (`Returns`), so nothing that arrives here can go round: a report is read, logged
//! and told to the tenant whose message it is about, and a notification of ours has a null reverse-path, to which nobody
//! reports. Whatever else comes to such an address is refused: a person or a vacation program that writes to a return path
//! reaches nobody.

mod difference;
mod fields;
mod notice;
mod parts;
pub mod probe;
pub mod report;
mod suppress;
mod veil;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::notice::Memo;
use self::probe::{Arrived, Probes};
use self::report::{Action, Complaint, NoReport, Report, Reported, Status};
use crate::clock::Clock;
use crate::config::Config;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::TlsFacts;
use crate::mail::id::Id;
use crate::mail::reply::{Enhanced, Reply};
use crate::mail::return_path::{self, Secret, Token};
use crate::maillog::{Complained, MailLog, Rejected, RemoteBounce};
use crate::memory::Permit;
use crate::queue::store::{Store, StoreError};
use crate::seal::Keyring;
use crate::suppress::{List, ListError};
use crate::tenant::{Directory, Tenants};

/// Why nobody is told of a failure yet.
const UNTELLABLE: &str = "no notification can be made now; the report is to come again";

/// What it is made of.
pub struct Parts {
    /// Names and the queue's life; a reload swaps it.
    pub config: Arc<ArcSwap<Config>>,
    /// Whose return paths there are, and who is told.
    pub tenants: Arc<Tenants>,
    /// Where notifications go.
    pub store: Arc<dyn Store>,
    /// The relay's own key.
    pub keyring: Arc<ArcSwap<Keyring>>,
    /// Told of everything.
    pub log: Arc<MailLog>,
    /// What bounces and complaints fill.
    pub suppressions: Arc<List>,
    /// What our addresses are known by.
    pub secret: Arc<Secret>,
    /// Wall time.
    pub clock: Clock,
}

/// Takes what comes back.
pub struct Inbound {
    parts: Parts,
    memo: Memo,
    probes: Probes,
}

/// Which recipients an inbound session takes: a snapshot, so that the conversation needs to ask nobody.
#[derive(Clone, Debug)]
pub struct Returns {
    secret: Arc<Secret>,
    tenants: Arc<Directory>,
    relay: Domain,
}

impl Returns {
    /// Addresses made with this secret, at the return paths of these tenants; and probes at the relay's own domain.
    #[must_use]
    pub fn new(secret: Arc<Secret>, tenants: Arc<Directory>, relay: Domain) -> Self {
        Self { secret, tenants, relay }
    }

    /// What the address stands for; `None`: it is not taken.
    #[must_use]
    pub fn token(&self, address: &Address) -> Option<Token> {
        let token = return_path::read(&self.secret, address)?;
        let tenants = self.tenants.return_path(address.domain()).is_some();
        match token {
            Token::Bounce(_) => tenants.then_some(token),
            Token::Probe(_) => (tenants || *address.domain() == self.relay).then_some(token),
        }
    }
}

/// Who brought a message.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// What it called itself.
    pub helo: String,
    /// The TLS session, if there was one.
    pub tls: Option<TlsFacts>,
}

/// A message that came to one of our addresses.
#[derive(Debug)]
pub struct Returned {
    /// Who brought it.
    pub peer: Peer,
    /// Its reverse-path; nobody vouches for it.
    pub from: Option<Address>,
    /// The address.
    pub to: Address,
    /// What that stands for.
    pub token: Token,
    /// Headers and body.
    pub body: Vec<u8>,
    /// The memory they take.
    pub held: Permit,
}

impl Inbound {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, memo: Memo::default(), probes: Probes::default() }
    }

    /// Which recipients a session that begins now takes.
    #[must_use]
    pub fn returns(&self) -> Returns {
        let relay = self.parts.config.load().relay.domain.clone();
        Returns::new(Arc::clone(&self.parts.secret), self.parts.tenants.load_full(), relay)
    }

    /// The probes that are waited for.
    #[must_use]
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Takes a message, or says why not. With a 250 all that follows from it is on stable storage.
    pub async fn take(&self, returned: Returned) -> Reply {
        match returned.token {
            Token::Probe(number) => {
                // One that nobody waits for any more is taken all the same: it has done no harm, and refused it would
                // come to its tenant as a failure.
                self.probes.arrived(number, Arrived::new(returned, self.parts.clock.now()));
                Reply::new(250, Enhanced(2, 0, 0), "Ok: the probe has arrived")
            }
            Token::Bounce(id) => match report::read(&returned.body) {
                Ok(Report::Status(status)) => self.status(&returned, id, status).await,
                Ok(Report::Complaint(complaint)) => self.complaint(&returned, id, &complaint).await,
                Err(why) => self.refuse(&returned, id, &why),
            },
        }
    }

    /// A delivery status notification: failures are told to the tenant, everything is told to the log.
    async fn status(&self, returned: &Returned, id: Id, mut status: Status) -> Reply {
        let known = match self.parts.store.message(id).await {
            Ok(known) => known,
            Err(StoreError::Damaged(_)) => None,
            Err(error) => return unable(&error),
        };
        let tenants = self.parts.tenants.load();
        let named = known.as_ref().and_then(|message| tenants.tenant(&message.facts.tenant));
        let tenant = named.or_else(|| tenants.return_path(returned.to.domain()));
        let config = self.parts.config.load();
        let classes = tenant.map_or(&config.classes, |tenant| &tenant.classes);
        let hides = veil::hide(&mut status, known.as_deref(), classes);
        let (known, status) = (known.as_deref(), &status);
        let about = notice::About { id, tenant: tenant.map(Arc::as_ref), known, status, hides };
        let name = tenant.map(|tenant| &*tenant.name);
        let told = match self.tell(&about).await {
            Ok(told) => told,
            Err(notice::NotTold::Store(error)) => return unable(&error),
            Err(notice::NotTold::Unsent(error)) => {
                tracing::error!(%error, "a bounce that came back cannot be told; its sender will try again");
                self.log_each(returned, (id, name), status, |_| Some(UNTELLABLE));
                let text = "the report cannot be passed on now; send it again later";
                return Reply::new(451, Enhanced(4, 3, 0), text);
            }
        };
        let tenant = tenant.map(Arc::as_ref);
        let listed = self.suppress_bounced(returned, tenant, &status.recipients).await;
        if let Some(later) = listed.err().and_then(|error| unlisted(&error)) {
            return later;
        }
        self.log_each(returned, (id, name), status, |at| {
            told.silent.iter().find(|(silent, _)| *silent == at).map(|(_, why)| *why)
        });
        if let Some(notification) = told.notification {
            notification.log(&self.parts.log, id);
        }
        Reply::new(250, Enhanced(2, 0, 0), "Ok: the report was taken")
    }

    /// Logs every recipient of a report; `untold` says why nobody is told of the failure at this place.
    fn log_each(
        &self,
        returned: &Returned,
        about: (Id, Option<&str>),
        status: &Status,
        untold: impl Fn(usize) -> Option<&'static str>,
    ) {
        for (at, one) in status.recipients.iter().enumerate() {
            let untold = untold(at).filter(|_| one.action == Action::Failed);
            self.log(returned, about, (status, one), untold);
        }
    }

    fn log(
        &self,
        returned: &Returned,
        (id, tenant): (Id, Option<&str>),
        (status, one): (&Status, &Reported),
        untold: Option<&str>,
    ) {
        let reply = one.reply();
        self.parts.log.remote_bounce(&RemoteBounce {
            id,
            tenant,
            to: one.recipient(),
            action: one.action.word(),
            reply: &reply,
            host: one.remote.as_deref().or(status.reporting.as_deref()),
            ip: returned.peer.ip,
            helo: &returned.peer.helo,
            tls: returned.peer.tls.as_ref(),
            failed: one.action == Action::Failed,
            untold,
        });
    }

    async fn complaint(&self, returned: &Returned, id: Id, complaint: &Complaint) -> Reply {
        let tenants = self.parts.tenants.load_full();
        let tenant = tenants.return_path(returned.to.domain()).map(Arc::as_ref);
        let listed = self.suppress_complainer(returned, tenant, complaint).await;
        if let Some(later) = listed.err().and_then(|error| unlisted(&error)) {
            return later;
        }
        self.parts.log.complaint(&Complained {
            id,
            tenant: tenant.map(|tenant| &*tenant.name),
            to: complaint.recipient.as_ref(),
            ip: returned.peer.ip,
            helo: &returned.peer.helo,
            tls: returned.peer.tls.as_ref(),
            kind: &complaint.kind,
            host: complaint.reporter.as_deref(),
        });
        Reply::new(250, Enhanced(2, 0, 0), "Ok: the complaint was taken")
    }

    fn refuse(&self, returned: &Returned, id: Id, why: &NoReport) -> Reply {
        let relay = self.parts.config.load().relay.domain.clone();
        let text = format!(
            "This address takes delivery status reports (RFC 3464) and nobody reads it: {why}.\n\
             Write to the address in the From header, or to postmaster@{relay}"
        );
        let reply = Reply::new(550, Enhanced(5, 7, 1), text);
        let tenants = self.parts.tenants.load();
        self.parts.log.rejected(&Rejected {
            id: Some(id),
            tenant: tenants.return_path(returned.to.domain()).map(|tenant| &*tenant.name),
            login: None,
            ip: returned.peer.ip,
            helo: &returned.peer.helo,
            tls: returned.peer.tls.as_ref(),
            from: Some(returned.from.as_ref()),
            to: std::slice::from_ref(&returned.to),
            header_from: None,
            reply: &reply,
            reason: "report",
        });
        reply
    }
}

/// The list did not take what a report says: it is to come again, unless there is no room for it in the list. Then it is logged
/// like any other.
fn unlisted(error: &ListError) -> Option<Reply> {
    match error {
        ListError::Store(error) => Some(unable(error)),
        ListError::Full => {
            tracing::error!(%error, "what a report says is not kept");
            None
        }
    }
}

/// The store decides whether a report is to come again.
fn unable(error: &StoreError) -> Reply {
    match error {
        StoreError::Full(_) => {
            Reply::new(452, Enhanced(4, 3, 1), "the relay has no room now; send the report again later")
        }
        StoreError::Failed(_) | StoreError::Damaged(_) | StoreError::Rebuilding | StoreError::TooLarge(_) => {
            Reply::new(451, Enhanced(4, 3, 0), "the relay cannot take reports now; send it again later")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_list_keeps_no_report_out_of_the_log() {
        assert!(unlisted(&ListError::Full).is_none());
        assert_eq!(unlisted(&ListError::Store(StoreError::Rebuilding)).map(|reply| reply.code), Some(451));
    }
}
