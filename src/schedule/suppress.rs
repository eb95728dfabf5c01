//! Which recipients of a leg end before it is attempted, and what failures mean for the suppression lists.

use std::collections::HashMap;
use std::sync::Arc;

use super::Room;
use super::settle::Work;
use super::turn::REBUILDING;
use super::verdict::Ended;
use crate::config::class::certain;
use crate::mail::attempt::{Decided, Fate};
use crate::mail::message::{Facts, Kind};
use crate::mail::reply::Enhanced;
use crate::maillog::{Audit, Disposal};
use crate::queue::store::{Leg, StoreError};
use crate::suppress::{Entry, Question, Reason, is_refused_for_good};
use crate::tenant::Tenant;

/// RFC 3463 section 3.8: delivery not authorized, message refused.
const REFUSED: Enhanced = Enhanced(5, 7, 1);

/// The open recipients of a leg that stand in no To or Cc, where its class drops such.
pub(super) fn extra(facts: &Facts, leg: &Leg) -> Vec<Ended> {
    let extra = leg.rcpts.iter().filter(|rcpt| facts.asked.extra.contains(rcpt));
    let class = facts.class.as_ref().map_or("", |class| &*class.name);
    let ended = |rcpt: &u16| {
        let text = format!(
            "not sent: it stands in neither To nor Cc, and mail of class {class} goes to nobody else"
        );
        Ended { rcpt: *rcpt, how: Disposal::Dropped, enhanced: REFUSED, text }
    };
    extra.map(ended).collect()
}

impl Room {
    /// Reads the lists before anything leaves. False: the store has failed, or everything stops.
    pub(super) async fn recall_suppressions(&self) -> bool {
        loop {
            match self.parts.suppressions.load().await {
                Ok(()) => return true,
                Err(error @ StoreError::Failed(_)) => {
                    self.fail(error);
                    return false;
                }
                Err(_) => self.alive(),
            }
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = tokio::time::sleep(REBUILDING) => {}
            }
        }
    }

    /// The open recipients of a leg that are on the tenant's list, where its mail asks for that.
    pub(super) fn suppressed(&self, tenant: &Tenant, facts: &Facts, leg: &Leg) -> Vec<Ended> {
        let class = facts.class.as_ref();
        let rule = tenant.classes.suppression(class, tenant.suppression.apply);
        let class = certain(class).map(|classed| &*classed.name);
        let question = Question { tenant: &tenant.name, class, rule };
        let listed = |rcpt: &u16| {
            let address = &facts.envelope.rcpts.get(usize::from(*rcpt))?.address;
            let listed = self.parts.suppressions.find(&question, address)?;
            let text = listed.words(&tenant.name);
            Some(Ended { rcpt: *rcpt, how: Disposal::Suppressed, enhanced: REFUSED, text })
        };
        leg.rcpts.iter().filter_map(listed).collect()
    }

    /// Puts recipients on their tenants' lists of which a server has just said that there is no such mailbox.
    pub(super) async fn learn(&self, group: &[Work]) {
        let tenants = self.parts.tenants.load_full();
        let mut gone: HashMap<Arc<str>, Vec<Entry>> = HashMap::new();
        for work in group {
            let Some(facts) = work.message.as_ref().map(|message| &message.facts) else { continue };
            let asked = tenants.tenant(&facts.tenant).is_some_and(|tenant| tenant.suppression.bounces);
            if asked && facts.kind == Kind::Mail {
                gone.entry(Arc::clone(&facts.tenant)).or_default().extend(self.gone(work, facts));
            }
        }
        for (tenant, entries) in gone.into_iter().filter(|(_, entries)| !entries.is_empty()) {
            match self.parts.suppressions.add(&tenant, entries).await {
                Ok(fresh) => fresh.iter().for_each(|entry| self.listed(&tenant, entry)),
                Err(error) => {
                    tracing::error!(%tenant, %error, "bounces could not be put on the suppression list")
                }
            }
        }
    }

    fn gone<'a>(&'a self, work: &'a Work, facts: &'a Facts) -> impl Iterator<Item = Entry> + 'a {
        let now = self.parts.clock.now();
        let failed = work.ruling.said.iter().map(|(decided, _)| decided);
        let gone = |one: &Decided| is_refused_for_good(one.reply.code, one.reply.enhanced, one.hop.shared);
        let failed = failed.filter(move |one| one.fate == Fate::Failed && gone(one));
        failed.filter_map(move |one| {
            let address = &facts.envelope.rcpts.get(usize::from(one.rcpt))?.address;
            Some(Entry::new(address, Reason::Bounce, now, &one.reply.escaped()))
        })
    }

    fn listed(&self, tenant: &str, entry: &Entry) {
        let detail = format!("{}: {}", entry.address, entry.note);
        let audit = Audit { actor: "bounce", action: "suppress.add", detail: &detail, tenant: Some(tenant) };
        self.parts.log.audit(&audit);
    }
}
