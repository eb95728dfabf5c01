//! Tells the tenant of what failed after its next hop had taken it: a notification of ours, since the report that came may
//! have been written by anybody who once had the message. Accepted before the report gets its 250.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::Inbound;
use super::report::{Action, Reported, Status};
use crate::config::class::Hides;
use crate::deliver::bounce::{self, Audience, Content, Notice, Told, Unsent};
use crate::deliver::redact;
use crate::mail::address::Address;
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::header::Headers;
use crate::mail::id::Id;
use crate::mail::mailbox;
use crate::mail::meaning::Meaning;
use crate::mail::message::{Facts, Kind, Lane, Message, Needs};
use crate::maillog::{Dsn, DsnKind, MailLog};
use crate::queue::store::{Last, StoreError};
use crate::tenant::Tenant;

/// Messages whose told recipients are remembered.
const MESSAGES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);
/// Recipients told of for one message: whoever once had it could report on it for ever.
const RECIPIENTS: usize = 1_000;

/// Notifications about one message: its recipients are few, and reports on ones that it never had can be made up.
const NOTIFICATIONS: usize = 50;

/// What a report is about.
pub(super) struct About<'a> {
    /// The message.
    pub(super) id: Id,
    /// Whose it is.
    pub(super) tenant: Option<&'a Tenant>,
    /// The message, while the queue still has it: mostly it ended when the next hop took it.
    pub(super) known: Option<&'a Message>,
    /// What is reported.
    pub(super) status: &'a Status,
    /// What must not be shown of the message.
    pub(super) hides: Hides,
}

/// Who was told.
#[derive(Default)]
pub(super) struct Outcome {
    /// The notification, if there is one.
    pub(super) notification: Option<Notification>,
    /// Failed recipients, by their place in the report, that nobody is told of now, and why.
    pub(super) silent: Vec<(usize, &'static str)>,
}

/// A notification in the queue.
pub(super) struct Notification(Arc<Message>);

/// Why the tenant could not be told.
pub(super) enum NotTold {
    /// The queue did not take the notification.
    Store(StoreError),
    /// It could not be made.
    Unsent(Unsent),
}

impl Notification {
    /// Says so in the log.
    pub(super) fn log(&self, log: &MailLog, about: Id) {
        log.dsn(&self.0.facts, &Dsn { kind: DsnKind::Failed, about: &[about] });
    }
}

impl Inbound {
    /// Tells of the failures in a report that were not told before.
    pub(super) async fn tell(&self, about: &About<'_>) -> Result<Outcome, NotTold> {
        let mut outcome = Outcome::default();
        let failed = self.news(about, &mut outcome);
        if failed.is_empty() {
            return Ok(outcome);
        }
        let facts = Arc::new(self.facts(about, &failed));
        let (to, sender) = match audience(about.tenant, &facts) {
            Audience::Told { to, sender } => (to, sender),
            Audience::Nobody(why) => {
                outcome.silent.extend(failed.iter().map(|(at, _)| (*at, why)));
                return Ok(outcome);
            }
        };
        tracing::debug!(id = %about.id, sender, "a bounce came back");
        let now = self.parts.clock.now();
        let told = (0_u16..).zip(&failed).map(|(rcpt, (_, one))| {
            let host = one.remote.clone().or_else(|| about.status.reporting.clone());
            let reply = one.reply();
            let reason = Meaning::of_reply(host.as_deref(), &reply).reason;
            let text = reply.escaped();
            let last = Last { at: now, code: one.code, enhanced: one.status, text, host, reason, lost: None };
            Told { facts: Arc::clone(&facts), rcpt, last }
        });
        let returned = match about.known {
            Some(message) => Some(bounce::headers(message, about.hides)),
            None => about.status.returned.as_deref().and_then(|head| shown(head, about.hides)),
        };
        let notice = Notice {
            id: Id::new(now, rand::random()),
            at: now,
            action: bounce::Action::Failed,
            to,
            told: told.collect(),
            returned: returned.into_iter().collect(),
        };
        outcome.notification = Some(self.put(&notice).await?);
        self.memo.remember(about.id, failed.iter().map(|(_, one)| *one));
        Ok(outcome)
    }

    async fn put(&self, notice: &Notice) -> Result<Notification, NotTold> {
        let accept = {
            let (config, keyring) = (self.parts.config.load(), self.parts.keyring.load());
            bounce::sealed(&config, &keyring, notice, Vec::new()).map_err(NotTold::Unsent)?
        };
        let message = Arc::clone(&accept.message);
        self.parts.store.accept(accept).await.map_err(NotTold::Store)?;
        Ok(Notification(message))
    }

    /// The failures that the tenant wants to hear of and has not heard of yet.
    fn news<'a>(&self, about: &About<'a>, outcome: &mut Outcome) -> Vec<(usize, &'a Reported)> {
        let mut news = Vec::new();
        for (at, one) in about.status.recipients.iter().enumerate() {
            if one.action != Action::Failed {
                continue;
            }
            match self.memo.judge(about.id, one).or_else(|| unasked(about.known, one)) {
                Some(why) => outcome.silent.push((at, why)),
                None => news.push((at, one)),
            }
        }
        news
    }

    /// The facts of the message as far as they are known, with the failed recipients as its only ones. Where the queue has
    /// forgotten the message its sender is taken from the header section that came back, if that names the tenant's own.
    fn facts(&self, about: &About<'_>, failed: &[(usize, &Reported)]) -> Facts {
        let known = about.known.map(|message| &message.facts);
        let rcpts = failed.iter().map(|(_, one)| recipient(known, one)).collect();
        if let Some(known) = known {
            let envelope = Envelope { rcpts, ..known.envelope.clone() };
            return Facts { envelope, ..known.clone() };
        }
        let author = about.status.returned.as_ref().and_then(|head| author(head));
        let from = author.filter(|from| about.tenant.is_some_and(|own| own.owns(from.domain()).is_some()));
        Facts {
            id: about.id,
            tenant: about.tenant.map_or_else(|| "".into(), |tenant| Arc::clone(&tenant.name)),
            login: None,
            header_from: from.clone(),
            class: None,
            lane: Lane::Normal,
            kind: Kind::Mail,
            envelope: Envelope { from, rcpts, ret: None, envid: None },
            received: about.id.time(),
            expires: about.id.time().after(self.parts.config.load().delivery.give_up),
            return_path: None,
            unsealed: None,
            needs: Needs::default(),
            asked: crate::mail::message::Asked::default(),
            priority: crate::mail::priority::Priority::default(),
            deliver_by: None,
            size: 0,
        }
    }
}

/// Who is told. The reverse-path was not null, or there would be no return path; where the sender is not known any more, whom
/// the tenant names is still told.
fn audience(tenant: Option<&Tenant>, facts: &Facts) -> Audience {
    match (tenant, &facts.envelope.from) {
        (Some(tenant), None) if !tenant.notify.is_empty() => {
            Audience::Told { to: tenant.notify.clone(), sender: false }
        }
        (Some(_), None) => Audience::Nobody(
            "the report does not show who of the tenant sent it, and the tenant names nobody to tell",
        ),
        (_, Some(_)) | (None, None) => bounce::audience(tenant, facts),
    }
}

/// RFC 3461's NOTIFY, while the queue still knows it.
fn unasked(known: Option<&Message>, one: &Reported) -> Option<&'static str> {
    let wanted = |rcpt: &Recipient| bounce::wanted(rcpt.notify, bounce::Action::Failed);
    let rcpt = matching(&known?.facts, one)?;
    (!wanted(rcpt)).then_some("its sender asked not to be told")
}

fn matching<'a>(facts: &'a Facts, one: &Reported) -> Option<&'a Recipient> {
    let rcpts = &facts.envelope.rcpts;
    let named = [&one.original, &one.last].into_iter().flatten();
    let same = |address: &Address| {
        let text = address.to_string();
        rcpts.iter().find(|rcpt| rcpt.address.to_string().eq_ignore_ascii_case(&text))
    };
    let only = || rcpts.first().filter(|_| rcpts.len() == 1);
    named.into_iter().find_map(same).or_else(only)
}

fn recipient(known: Option<&Facts>, one: &Reported) -> Recipient {
    if let Some(rcpt) = known.and_then(|facts| matching(facts, one)) {
        return rcpt.clone();
    }
    let address = one.recipient().cloned().unwrap_or_else(Address::unknown);
    Recipient { address, orcpt: None, notify: Notify::default() }
}

/// What goes back of a header section that came back.
fn shown(head: &[u8], hides: Hides) -> Option<Content> {
    let shown = redact::headers(head, hides);
    (!shown.is_empty()).then(|| Content::Headers(shown.into()))
}

/// The address in the From field of a header section.
fn author(head: &[u8]) -> Option<Address> {
    let headers = Headers::parse(head, head.len()).ok()?;
    let value = std::str::from_utf8(headers.first("From")?.value()).ok()?.replace("\r\n", "");
    mailbox::mailboxes(&value).ok()?.into_iter().next()
}

/// Which failures were told, so that a report sent twice is told once. In memory: after a restart a repeated report is told
/// again, which costs less than a record for each.
pub(super) struct Memo {
    told: Mutex<LruCache<Id, TellTale>>,
    hasher: RandomState,
}

/// What was told of one message.
#[derive(Default)]
struct TellTale {
    recipients: HashSet<u64>,
    notifications: usize,
}

impl Default for Memo {
    fn default() -> Self {
        Self { told: Mutex::new(LruCache::new(MESSAGES)), hasher: RandomState::new() }
    }
}

impl Memo {
    /// Why this failure is not told, if so.
    fn judge(&self, id: Id, one: &Reported) -> Option<&'static str> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.get(&id)?;
        if known.recipients.contains(&self.key(one)) {
            return Some("it was told before");
        }
        let over = known.recipients.len() >= RECIPIENTS || known.notifications >= NOTIFICATIONS;
        over.then_some("too much was told of this message already")
    }

    fn remember<'a>(&self, id: Id, failed: impl Iterator<Item = &'a Reported>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.get_or_insert_mut(id, TellTale::default);
        told.recipients.extend(failed.map(|one| self.key(one)));
        told.notifications += 1;
    }

    fn key(&self, one: &Reported) -> u64 {
        self.hasher.hash_one(one.recipient().map(|address| address.to_string().to_ascii_lowercase()))
    }
}
