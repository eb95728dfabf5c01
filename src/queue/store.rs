//! The seam: what the rest of the house asks of the queue. The embedded store stands behind it today; another may tomorrow
//! and must pass the same model test, so nothing here says how anything is kept.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::state::{Cause, Hold, State};
use crate::mail::attempt::{Fate, Way};
use crate::mail::id::Id;
use crate::mail::meaning::{Meaning, Reason};
use crate::mail::message::{Facts, Lane, Message};
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;

/// What a store call answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store cannot do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A write or a sync failed: nothing is certain any more, the process must end and recover from the journal.
    #[error("the spool failed: {0}")]
    Failed(Arc<str>),
    /// The disk is below its reserve, or full. Queued mail keeps leaving.
    #[error("no room in the spool: {0}")]
    Full(Arc<str>),
    /// A record could not be read back as it was written; the message is quarantined.
    #[error("the spool's copy of {0} is damaged")]
    Damaged(Id),
    /// The index is still being rebuilt after a start; new mail is already accepted.
    #[error("the index is being rebuilt")]
    Rebuilding,
    /// A memo is larger than `MEMO_KEY_MAX` or `MEMO_VALUE_MAX` allow; none of that call was kept.
    #[error("the memo {0:?} is too large to be kept")]
    TooLarge(Arc<str>),
}

/// Where a part of a message goes, as far as turns and limits are concerned: a domain, or one tenant's upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Destination(pub Arc<str>);

/// The recipients of one message that share a destination, and so an attempt. Nothing smaller is scheduled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The message.
    pub id: Id,
    /// Which of its legs, from 0.
    pub leg: u16,
    /// Whose turn it is.
    pub tenant: Arc<str>,
    /// Where it goes.
    pub destination: Destination,
    /// Order of service.
    pub lane: Lane,
    /// Those still open, as indices into the envelope.
    pub rcpts: Vec<u16>,
    /// Attempts made.
    pub attempts: u32,
    /// What happens next.
    pub state: State,
    /// What was heard last.
    pub last: Option<Last>,
    /// Whether the sender was told of the delay.
    pub delay_told: bool,
    /// Copied from the facts, so that a listing needs no body.
    pub received: Time,
    /// Copied from the facts.
    pub expires: Time,
}

/// The last thing a leg heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When.
    pub at: Time,
    /// 0 where no reply came.
    pub code: u16,
    /// The enhanced code.
    pub enhanced: Option<Enhanced>,
    /// Escaped, at most 512 octets.
    pub text: String,
    /// The host that said it.
    pub host: Option<String>,
    /// What it came to: of a recipient that expired, what kept it from being delivered.
    pub reason: Reason,
    /// The way by which, now or at an earlier attempt, a connection was lost after the whole message had been sent: by that one
    /// it may have arrived.
    pub lost: Option<Way>,
}

impl Last {
    /// The cause, and what to do about it.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        let read = Meaning::of_words(self.host.as_deref(), self.code, self.enhanced, &self.text);
        if read.reason == self.reason { read } else { Meaning::of(self.reason) }
    }
}

/// A recipient that failed and of which the tenant has not yet been told. It leaves the store only when the notification
/// that tells of it is itself accepted (`Store::accept` with `tells`), in the same record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The message.
    pub id: Id,
    /// The recipient's index.
    pub rcpt: u16,
    /// How it failed.
    pub last: Last,
}

/// How a message is accepted.
#[derive(Clone, Debug)]
pub struct Accept {
    /// Facts and octets.
    pub message: Arc<Message>,
    /// Its recipients by destination: every recipient in exactly one leg, legs in order.
    pub legs: Vec<(Destination, Vec<u16>)>,
    /// Due at once, or held from the start.
    pub held: Option<Hold>,
    /// The failures this message tells of: no longer owed from the moment it is durable.
    pub tells: Vec<(Id, u16)>,
}

/// What an attempt, or an operator, decided about some recipients of a leg. Durable when the call answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// The message.
    pub id: Id,
    /// The leg.
    pub leg: u16,
    /// Fates by recipient. Delivered ends it; Failed ends it and, if `owe`, leaves it owed; Deferred changes nothing.
    pub fates: Vec<(u16, Fate, Last)>,
    /// Whether failures must be told of.
    pub owe: bool,
    /// What becomes of the recipients that are left.
    pub then: Then,
}

/// What becomes of the rest of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    /// The attempt goes on; the leg stays claimed.
    Continue,
    /// The attempt is over: count it, next one at this time.
    Due {
        /// When.
        at: Time,
        /// The sender has now been told of the delay.
        delay_told: bool,
    },
    /// The attempt did not happen (shutdown, no slot): due as before, not counted.
    Unclaim,
    /// The attempt did not happen and must wait for something else than time: held, not counted.
    Hold(Hold),
    /// No attempt was to be made: as before, held or due, but that the sender has now been told of the delay.
    Told,
}

/// Which legs a command means. Every field narrows; empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// These messages only.
    pub ids: Vec<Id>,
    /// Only messages behind this one in the order of a listing, to go on where the last page ended.
    pub after: Option<Id>,
    /// This tenant's.
    pub tenant: Option<String>,
    /// Envelope sender, compared whole and case-insensitively.
    pub from: Option<String>,
    /// The domain of the From header, whole: names below it do not count.
    pub from_domain: Option<String>,
    /// A recipient, compared whole and case-insensitively.
    pub to: Option<String>,
    /// A recipient's domain.
    pub domain: Option<String>,
    /// The class.
    pub class: Option<String>,
    /// `due`, `deferred`, `active`, `held`.
    pub state: Option<StateName>,
    /// What a held one waits for.
    pub cause: Option<Cause>,
    /// Text in the last reply or the hold's reason, or the name of the cause (`Last::reason`).
    pub reason: Option<String>,
    /// Accepted longer ago than this.
    pub older_than: Option<Duration>,
    /// At most so many; `None`: the caller's default.
    pub limit: Option<usize>,
    /// A command ends with the message that brings it to so many legs: `after` that one it goes on. Not for clients to say.
    #[serde(skip)]
    pub page: Option<usize>,
}

/// A leg's state as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Not yet attempted.
    Due,
    /// Attempted, and waiting.
    Deferred,
    /// An attempt is under way.
    Active,
    /// Parked.
    Held,
}

/// A leg as a listing shows it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The leg.
    pub leg: Leg,
    /// Its state's name now.
    pub state: StateName,
    /// The message's facts.
    pub facts: Arc<Facts>,
}

/// What an operator does to legs. Legs with an attempt under way are left alone and not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Due now.
    Retry,
    /// Park.
    Hold {
        /// For the listing.
        reason: String,
    },
    /// Due now, if held.
    Release,
    /// Every recipient left fails and is owed: the tenant is told.
    Bounce {
        /// For the notification.
        reason: String,
    },
    /// Every recipient left ends here; nobody is told but the log.
    Drop,
}

/// What a claim found.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// Legs that are now the caller's until it settles them.
    pub legs: Vec<Leg>,
    /// When the next one that no limit holds back falls due; `None`: none is waiting. Held ones do not count: their ends
    /// may lie days ahead without anything being wrong.
    pub next: Option<Time>,
    /// When the next held one ends: by its `until`, or with its message's life.
    pub ends: Option<Time>,
}

/// The longest key of a memo, in octets.
pub const MEMO_KEY_MAX: usize = 256;
/// The largest value of a memo, in octets.
pub const MEMO_VALUE_MAX: usize = 64 << 10;

/// A small fact that some other part of the house must not forget. The store does not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memo {
    /// Its name: what it belongs to first, so that `recall` finds what belongs together.
    pub key: String,
    /// What is to be remembered; `None` forgets it.
    pub value: Option<Vec<u8>>,
}

/// Sizes for `status`, metrics and limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Messages not yet ended.
    pub messages: u64,
    /// Recipients still open.
    pub recipients: u64,
    /// Legs under way.
    pub active: u64,
    /// Legs parked.
    pub held: u64,
    /// Failures not yet told of.
    pub owed: u64,
    /// Messages kept in memory because the index's files do not have their last change yet.
    pub unindexed: u64,
    /// Octets of the journal on disk.
    pub journal_bytes: u64,
    /// Octets of it that still matter.
    pub live_bytes: u64,
    /// Groups synced since the start.
    pub syncs: u64,
    /// Damaged records found since the start.
    pub quarantined: u64,
    /// Damaged parts of the journal that were set aside and wait for a person to look at them.
    pub set_aside: u64,
    /// Whether the index is still being rebuilt.
    pub rebuilding: bool,
}

/// What a delivered message has superseded.
#[derive(Clone, Debug, Default)]
pub struct Superseded {
    /// Recipients that ended by it, each owed.
    pub ended: Vec<(Arc<Facts>, u16)>,
    /// Legs with an attempt under way: ask again when they are settled.
    pub busy: Vec<(Id, u16)>,
}

/// How turns are shared. Within a lane, tenants take turns; within a tenant, destinations do.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Legs of one destination claimed at once, over all tenants, as long as nothing is known of its site (`Store::pace`).
    pub per_destination: usize,
    /// Legs claimed at once in all.
    pub total: usize,
}

/// What whoever delivers knows of the way to a destination. Kept in memory while anything waits for it or is under way; after
/// a restart it is learned anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Where the mail goes.
    pub destination: Destination,
    /// Whom it shares its turns with: the destinations of one name have so many slots together.
    pub site: Arc<str>,
    /// Legs of the site claimed at once, at least one.
    pub slots: usize,
    /// The site rests: none of its legs is claimed before this time.
    pub from: Option<Time>,
}

/// The durable queue.
pub trait Store: Send + Sync {
    /// Takes a message. When this answers `Ok`, it is on stable storage and survives a power cut.
    fn accept(&self, accept: Accept) -> Answer<'_, ()>;

    /// Whether there is room for new mail, as far as is known without asking the disk: MAIL is refused (452 4.3.1) while
    /// there is not, so that no body travels for nothing.
    fn has_room(&self) -> bool {
        true
    }

    /// Claims up to `most` legs that are due at `now`, fairly between lanes, tenants and destinations and within `Turns`.
    /// A held leg that ends (its `until` or its message's life) is claimed too, still `Held`: the claimer ends it without
    /// an attempt. So is one of whose delay the sender wants to be told by now (`Facts::notify_at`), for that word (`Then::Told`).
    fn claim(&self, now: Time, most: usize) -> Answer<'_, Claimed>;

    /// Takes over how many legs a site may have under way, and until when it rests; holds from the next claim on. What is
    /// claimed stays claimed.
    fn pace(&self, pacing: Pacing);

    /// Resolves when something may have become claimable sooner than the last `Claimed::next` said: new mail, a
    /// settled leg, a released hold. May resolve for nothing.
    fn nudged(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// The message, its octets checked against what was written. `None`: it has ended and nothing of it is owed.
    fn message(&self, id: Id) -> Answer<'_, Option<Arc<Message>>>;

    /// Records what was decided. Answers when durable; answers whether each message has now ended. A leg without open
    /// recipients ends whatever its `then` says.
    fn settle(&self, settlements: Vec<Settlement>) -> Answer<'_, Vec<bool>>;

    /// Ends what a delivered message supersedes: for each of these recipients of it that of every message that was accepted
    /// earlier, has the same tenant, From and class, and asks for it too (`Asked::supersede`). Each is owed, with these words.
    /// Legs with an attempt under way are left alone. A great many are ended in several calls. Durable when it answers.
    fn supersede(&self, newer: Arc<Facts>, rcpts: Vec<u16>, last: Last) -> Answer<'_, Superseded>;

    /// Legs that match, oldest first.
    fn list(&self, filter: Filter, now: Time) -> Answer<'_, Vec<Entry>>;

    /// Does this to all legs that match, and answers them as they were.
    fn act(&self, filter: Filter, action: Action, now: Time) -> Answer<'_, Vec<Entry>>;

    /// Failures not yet told of, with the facts of their messages, oldest first, at most `most`.
    fn owed(&self, most: usize) -> Answer<'_, Vec<(Owed, Arc<Facts>)>>;

    /// These failures are no longer owed although no notification tells of them: there is nobody who may be told.
    fn waive(&self, owed: Vec<(Id, u16)>) -> Answer<'_, ()>;

    /// Keeps these, in this order; the last word on a key counts. Durable when it answers. `Full` while the disk is below
    /// its reserve.
    fn remember(&self, memos: Vec<Memo>) -> Answer<'_, ()>;

    /// What was remembered under the keys that begin like this, sorted by key. What was answered by `remember` is in it.
    fn recall(&self, prefix: String) -> Answer<'_, Vec<(String, Vec<u8>)>>;

    /// Sizes.
    fn stats(&self) -> Answer<'_, Stats>;

    /// Resolves when the store has failed for good: nothing more can be written, and the process must end.
    fn failed(&self) -> Pin<Box<dyn Future<Output = StoreError> + Send + '_>>;

    /// Syncs and closes; calls after it fail.
    fn close(&self) -> Answer<'_, ()>;
}
