//! When, and how many at once: claims what is due, has it attempted, settles what was decided, and tells of failures.
//!
//! Three tasks (and `lockout`, which lets held mail go when an upstream takes its tenant's password again), joined by channels that only flow one way:
//!
//! ```text
//! turn ──spawns──▶ flight (one an attempt) ──rulings──▶ settle ──delays, relays──▶ tell
//!  ▲ store.claim        deliver, verdict                store.settle                store.owed, store.accept
//! ```
//!
//! `turn` sleeps until the earliest leg is due or the store nudges it. A flight's witness rules on each decision when its
//! reply arrives and hands the ruling on without waiting, so the connection goes on with the next message; `settle` puts
//! all rulings that wait into one call, so that they share a sync. The store takes a settlement in at once, which frees the
//! leg's turn for the next, and answers when it is durable. `retry`, `steady`, `verdict`, `words` and `gather` are pure.

mod egress;
mod failover;
mod flight;
mod gather;
mod lockout;
pub mod retry;
mod sealing;
mod settle;
mod steady;
mod supersede;
mod suppress;
mod tell;
mod turn;
mod verdict;
mod words;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::lockout::Lockouts;
use self::retry::Life;
use self::steady::Steady;
use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::{Deliverer, Job, Witness};
use crate::mail::time::Time;
use crate::maillog::MailLog;
use crate::metrics::Metrics;
use crate::queue::store::{Leg, Store, StoreError};
use crate::seal::Keyring;
use crate::seal::outlook::Outlook;
use crate::suppress::List;
use crate::tenant::Tenants;

/// Who carries a leg to its next hop. The deliverer does; a test may stand in for one that breaks.
pub trait Courier: Send + Sync {
    /// Attempts the leg: every open recipient is decided once through `witness` before this ends. Dropped, it leaves the
    /// undecided undecided.
    fn attempt<'a>(
        &'a self,
        job: &'a Job,
        witness: Witness<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl Courier for Deliverer {
    fn attempt<'a>(
        &'a self,
        job: &'a Job,
        witness: Witness<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(Self::attempt(self, job, witness))
    }
}

/// What the scheduler works with.
#[derive(Clone)]
pub struct Parts {
    /// The queue.
    pub store: Arc<dyn Store>,
    /// Who carries.
    pub courier: Arc<dyn Courier>,
    /// The configuration, as of the last reload.
    pub config: Arc<ArcSwap<Config>>,
    /// The tenants, as of the last reload.
    pub tenants: Arc<Tenants>,
    /// The keys, as of the last reload.
    pub keyring: Arc<ArcSwap<Keyring>>,
    /// What receivers would make of mail: asked again before held mail leaves.
    pub outlook: Arc<Outlook>,
    /// Whom tenants' mail no longer goes to.
    pub suppressions: Arc<List>,
    /// The mail log.
    pub log: Arc<MailLog>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

/// The running scheduler. Dropped, it stops without waiting for what is in flight.
pub struct Scheduler {
    room: Arc<Room>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What the scheduler's tasks share.
struct Room {
    parts: Parts,
    steady: Mutex<Steady>,
    /// Something other than the store may have made a leg claimable.
    look: Notify,
    /// A failure may be owed, or may now be told.
    owed: Notify,
    /// Tenants whose upstream refuses their password.
    lockouts: Lockouts,
    /// Legs whose last ruling is not durable yet.
    unsettled: AtomicUsize,
    /// When `turn` last looked, by the wall.
    looked: AtomicU64,
    stop: CancellationToken,
    abandon: CancellationToken,
    failure: OnceLock<StoreError>,
    failed: CancellationToken,
}

impl Scheduler {
    /// Starts to deliver. Failures found owed from before are told.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let room = Arc::new(Room::new(parts));
        let (rulings, to_settle) = mpsc::unbounded_channel();
        let (courtesies, to_tell) = mpsc::unbounded_channel();
        let tasks = vec![
            watched(&room, turn::run(Arc::clone(&room), rulings)),
            watched(&room, settle::run(Arc::clone(&room), to_settle, courtesies)),
            watched(&room, tell::run(Arc::clone(&room), to_tell)),
            watched(&room, lockout::run(Arc::clone(&room))),
        ];
        Self { room, tasks: Mutex::new(tasks) }
    }

    /// Has a look at once: after a reload, an operator's command, or a test's turn of the clock.
    pub fn nudge(&self) {
        self.room.look.notify_one();
        self.room.owed.notify_one();
        self.room.lockouts.look();
    }

    /// Claims nothing more, gives attempts in flight `delivery.drain` to end, unclaims the rest, and returns when all that was
    /// decided is durable.
    ///
    /// # Errors
    /// The store failed, now or before.
    pub async fn drain(&self) -> Result<(), StoreError> {
        self.room.stop.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the scheduler ended badly");
            }
        }
        self.room.failure.get().cloned().map_or(Ok(()), Err)
    }

    /// Resolves when the store has failed: the process must end and recover.
    pub async fn failed(&self) -> StoreError {
        self.room.failed.cancelled().await;
        self.room.failure.get().cloned().unwrap_or_else(|| StoreError::Failed("the scheduler ended".into()))
    }

    /// When the queue was last looked at: no longer ago than `turn`'s heartbeat, or the scheduler hangs. While the index is built it
    /// is asked all the time, and that it says so counts.
    #[must_use]
    pub fn looked(&self) -> Time {
        Time(self.room.looked.load(Ordering::Relaxed))
    }
}

/// Runs one of the tasks that all mail depends on. With a defect in it nothing would be settled, or told, any more, and nobody would
/// notice: the process ends and recovers instead.
fn watched(room: &Arc<Room>, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    let room = Arc::clone(room);
    tokio::spawn(async move {
        if let Err(why) = flight::unpanicked(task).await {
            let why = format!("a defect in the scheduler: {}", why.unwrap_or_default());
            room.fail(StoreError::Failed(why.into()));
        }
    })
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.room.stop.cancel();
        self.room.abandon.cancel();
    }
}

impl Room {
    fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let steady = Mutex::new(Steady::new(now, parts.clock.ticks()));
        Self {
            parts,
            steady,
            look: Notify::new(),
            owed: Notify::new(),
            lockouts: Lockouts::default(),
            unsettled: AtomicUsize::new(0),
            looked: AtomicU64::new(now.0),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            failure: OnceLock::new(),
            failed: CancellationToken::new(),
        }
    }

    /// The store has failed: everything stops, the daemon is told.
    fn fail(&self, error: StoreError) {
        tracing::error!(%error, "the queue's store failed");
        if self.failure.set(error).is_ok() {
            self.stop.cancel();
            self.abandon.cancel();
            self.failed.cancel();
        }
    }

    /// Notes that the queue was asked.
    fn alive(&self) {
        self.looked.store(self.parts.clock.now().0, Ordering::Relaxed);
    }

    /// Looks at the clock, and works with what it says.
    fn steady<T>(&self, with: impl FnOnce(&mut Steady) -> T) -> T {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steady.look(self.parts.clock.now(), self.parts.clock.ticks()) {
            tracing::warn!(milliseconds = %step, "the clock was set, or the machine slept");
        }
        with(&mut steady)
    }

    /// A leg's age and what is left of it. Where its date lies ahead, what its attempts take by the schedule counts.
    fn life(&self, leg: &Leg, waits: &[Duration]) -> Life {
        let age = self.steady(|steady| steady.age(leg.received));
        let age = age.unwrap_or_else(|| retry::spent(waits, leg.attempts));
        Life { age, most: leg.expires.since(leg.received) }
    }
}
