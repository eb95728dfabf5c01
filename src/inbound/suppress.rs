//! What comes back fills suppression lists, where the tenant asked for that. A report may have been written by anybody who once
//! had the message, and each of several recipients about the others: an address is believed only if the return path proves that the
//! message went to it and to nobody else (`return_path::proves`).

use super::report::{Action, Complaint, Reported};
use super::{Inbound, Returned};
use crate::mail::address::Address;
use crate::mail::return_path;
use crate::maillog::Audit;
use crate::suppress::{Entry, ListError, Reason, is_gone};
use crate::tenant::Tenant;

/// RFC 5965 section 3.1 and IANA's registry: what says that a reader wants no such mail.
const SPAM: [&str; 3] = ["abuse", "fraud", "opt-out"];

impl Inbound {
    /// Puts recipients on the list of which a report says that there is no such mailbox.
    pub(super) async fn suppress_bounced(
        &self,
        returned: &Returned,
        tenant: Option<&Tenant>,
        reported: &[Reported],
    ) -> Result<(), ListError> {
        let Some(tenant) = tenant.filter(|tenant| tenant.suppression.bounces) else { return Ok(()) };
        let now = self.parts.clock.now();
        let gone = reported.iter().filter(|one| one.action == Action::Failed && is_gone(one.status));
        let entries = gone.filter_map(|one| {
            let named = [&one.original, &one.last].into_iter().flatten();
            let recipient = named.into_iter().find(|address| self.went_to(returned, address))?;
            Some(Entry::new(recipient, Reason::Bounce, now, &one.reply().escaped()))
        });
        self.put_on_list(tenant, entries.collect()).await
    }

    /// Puts whoever complains on the list.
    pub(super) async fn suppress_complainer(
        &self,
        returned: &Returned,
        tenant: Option<&Tenant>,
        complaint: &Complaint,
    ) -> Result<(), ListError> {
        let Some(tenant) = tenant.filter(|tenant| tenant.suppression.complaints) else { return Ok(()) };
        let spam = SPAM.iter().any(|kind| complaint.kind.eq_ignore_ascii_case(kind));
        let recipient =
            complaint.recipient.as_ref().filter(|address| spam && self.went_to(returned, address));
        let Some(recipient) = recipient else { return Ok(()) };
        let note = complaint.reporter.as_deref().unwrap_or(&complaint.kind);
        let entry = Entry::new(recipient, Reason::Complaint, self.parts.clock.now(), note);
        self.put_on_list(tenant, vec![entry]).await
    }

    fn went_to(&self, returned: &Returned, address: &Address) -> bool {
        return_path::proves(&self.parts.secret, &returned.to, address)
    }

    async fn put_on_list(&self, tenant: &Tenant, entries: Vec<Entry>) -> Result<(), ListError> {
        if entries.is_empty() {
            return Ok(());
        }
        for entry in self.parts.suppressions.add(&tenant.name, entries).await? {
            let detail = format!("{}: {}", entry.address, entry.note);
            let actor = entry.reason.name();
            let audit = Audit { actor, action: "suppress.add", detail: &detail, tenant: Some(&tenant.name) };
            self.parts.log.audit(&audit);
        }
        Ok(())
    }
}
