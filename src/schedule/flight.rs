//! One attempt, from a claimed leg to its last ruling. Nothing here waits for the disk but the loading of the message.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::retry::Life;
use super::settle::Work;
use super::suppress::extra;
use super::verdict::{Ruling, Verdict, When};
use super::{Room, egress, failover, sealing};
use crate::config::Config;
use crate::deliver::bounce::{Audience, RELAY, audience};
use crate::deliver::redact::Veil;
use crate::deliver::{Hears, Job, Standing};
use crate::failpoint::{self, Failpoint};
use crate::mail::attempt::{Decided, Login, Way};
use crate::mail::message::{Facts, Message};
use crate::queue::store::{Cause, Entry, Filter, Hold, Leg, Pacing, Settlement, State, StoreError, Then};
use crate::tenant::{Route, Tenant};

/// How long after the end of its useful life mail is still attempted.
const GRACE: Duration = Duration::from_secs(60);

/// Attempts the leg and hands on what was decided. Ends when every open recipient has been ruled on, or the rest was left.
pub(super) async fn fly(room: Arc<Room>, leg: Leg, rulings: UnboundedSender<Work>) {
    match load(&room, &leg).await {
        Ok(Some(message)) => match sealed(&room, &leg, &message) {
            Ok(message) => Flight::new(&room, leg, message, rulings).fly().await,
            Err(hold) => Flight::new(&room, leg, message, rulings).wait_on(hold),
        },
        Ok(None) => unloaded(&room, &leg, &rulings, hold("the spool has no message for this leg")),
        Err(StoreError::Damaged(_)) => unloaded(&room, &leg, &rulings, hold("the spool's copy is damaged")),
        Err(StoreError::Full(_) | StoreError::Rebuilding | StoreError::TooLarge(_)) => {
            unloaded(&room, &leg, &rulings, Then::Unclaim)
        }
        Err(error @ StoreError::Failed(_)) => room.fail(error),
    }
}

/// The message of a leg; of a held one the facts alone. It ends without an attempt, and that its octets cannot be read may be what
/// it is held for.
async fn load(room: &Room, leg: &Leg) -> Result<Option<Arc<Message>>, StoreError> {
    if matches!(leg.state, State::Due(_)) {
        return room.parts.store.message(leg.id).await;
    }
    let filter = Filter { ids: vec![leg.id], ..Filter::default() };
    let found = room.parts.store.list(filter, room.parts.clock.now()).await?;
    let bare = |entry: &Entry| Arc::new(Message { facts: Facts::clone(&entry.facts), body: Bytes::new() });
    Ok(found.first().map(bare))
}

fn hold(reason: &str) -> Then {
    Then::Hold(Hold { reason: reason.into(), cause: Cause::Route, until: None })
}

/// A leg whose hold has ended is not sealed any more.
fn sealed(room: &Room, leg: &Leg, message: &Arc<Message>) -> Result<Arc<Message>, Hold> {
    match &leg.state {
        State::Held { .. } => Ok(Arc::clone(message)),
        State::Due(_) => sealing::seal(&room.parts, Arc::clone(message)),
    }
}

/// A leg whose message cannot be had is left without a word in the mail log: there are no facts to speak of.
fn unloaded(room: &Room, leg: &Leg, rulings: &UnboundedSender<Work>, then: Then) {
    tracing::error!(id = %leg.id, leg = leg.leg, ?then, "a leg's message cannot be loaded");
    let settlement = Settlement { id: leg.id, leg: leg.leg, fates: Vec::new(), owe: false, then };
    let _ = rulings.send(room.work(Work::bare(settlement)));
}

/// The way that an attempt takes.
struct Course {
    route: Arc<Route>,
    /// Why it is the tenant's second one.
    why: Option<String>,
}

/// An attempt under way.
struct Flight<'a> {
    room: &'a Arc<Room>,
    config: Arc<Config>,
    tenant: Option<Arc<Tenant>>,
    verdict: Verdict,
    /// By which way it is attempted.
    way: Way,
    rulings: UnboundedSender<Work>,
    /// The waits between its attempts, as its class has them now.
    waits: Vec<Duration>,
    /// Hides what its class hides in what servers say.
    veil: Veil,
}

impl<'a> Flight<'a> {
    fn new(room: &'a Arc<Room>, leg: Leg, message: Arc<Message>, rulings: UnboundedSender<Work>) -> Self {
        let tenant = room.parts.tenants.load().tenant(&leg.tenant).cloned();
        let nobody = match audience(tenant.as_deref(), &message.facts) {
            Audience::Told { .. } => None,
            Audience::Nobody(why) => Some(why),
        };
        let config = room.parts.config.load_full();
        let classes = tenant.as_ref().map_or(&config.classes, |tenant| &tenant.classes);
        let class = message.facts.class.as_ref();
        let waits = classes.waits(class, &config.delivery.retry);
        let veil = Veil::new(classes.hides(class), &message.body);
        let verdict = Verdict::new(leg, message, nobody);
        Self { room, config, tenant, verdict, way: Way::First, rulings, waits, veil }
    }

    async fn fly(mut self) {
        let leg = self.verdict.leg();
        if let State::Held { reason, until, .. } = &leg.state {
            if self.room.steady(|steady| steady.turn()) < leg.state.turn(leg.expires) {
                let text = format!("the time is over that its sender set (BY), and it is held: {reason}");
                self.rule(|verdict, when| verdict.late(&text, when));
                return;
            }
            let what = match &self.verdict.message().facts {
                _ if until.is_some_and(|until| until < leg.expires) => "hold",
                facts if facts.is_returned() => "sender's time (BY)",
                facts if facts.asked.life => "useful life",
                _ => "life",
            };
            let text = format!("it was held until its {what} ended: {reason}");
            self.rule(|verdict, when| verdict.expire(&text, when));
            return;
        }
        if self.outlived() {
            let returned = self.verdict.message().facts.is_returned();
            let text = if returned {
                "it was not attempted in time"
            } else {
                "it was not delivered while it was of use"
            };
            self.rule(|verdict, when| verdict.expire(text, when));
            return;
        }
        // The route as it is now: a tenant may have moved since the message was accepted, or since the last attempt.
        let Some(course) = self.course() else { return self.park() };
        self.dispose();
        if !self.verdict.complete() {
            self.attempt(course).await;
        }
    }

    /// Whether it is older than it is of use. Its last attempt falls on the end of its life, so that a minute is granted: but not
    /// where its sender wants it back by then (RFC 2852).
    fn outlived(&self) -> bool {
        let (facts, life) = (&self.verdict.message().facts, self.room.life(self.verdict.leg(), &self.waits));
        if facts.is_returned() {
            return life.age >= life.most;
        }
        facts.asked.life && life.age > life.most.saturating_add(GRACE)
    }

    /// At which age a delay is told.
    fn delay_notice(&self) -> Option<Duration> {
        let facts = &self.verdict.message().facts;
        let usual = self.config.delivery.delay_notice;
        let own = facts.notify_at().map(|at| at.since(facts.received));
        own.or_else(|| Some(usual).filter(|usual| !usual.is_zero()))
    }

    /// Ends the recipients that an administrator's rules end before any attempt.
    fn dispose(&mut self) {
        let Some(tenant) = &self.tenant else { return };
        let (facts, leg) = (&self.verdict.message().facts, self.verdict.leg());
        let mut ended = extra(facts, leg);
        ended.extend(self.room.suppressed(tenant, facts, leg));
        if !ended.is_empty() {
            self.rule(|verdict, when| verdict.dispose(ended, when));
        }
    }

    fn course(&self) -> Option<Course> {
        let leg = self.verdict.leg();
        let Some(tenant) = &self.tenant else {
            return (&*leg.tenant == RELAY).then(|| Course { route: Arc::new(Route::Mx), why: None });
        };
        let class = self.verdict.message().facts.class.as_ref();
        let second = tenant.fallback(class).and_then(|fallback| {
            let age = self.room.life(leg, &self.waits).age;
            failover::second(fallback, leg, age).map(|why| (&fallback.route, why))
        });
        Some(match second {
            Some((route, why)) => Course { route: Arc::clone(route), why: Some(why) },
            None => Course { route: Arc::clone(&tenant.route), why: None },
        })
    }

    /// Receivers would still not believe it.
    fn wait_on(self, hold: Hold) {
        let rcpts = &self.verdict.leg().rcpts;
        self.room.parts.log.held(&self.verdict.message().facts, rcpts, "seal", &hold.reason);
        self.leave(Then::Hold(hold));
    }

    /// Its tenant was removed while mail was queued: a person decides (FA14).
    fn park(&self) {
        let leg = self.verdict.leg();
        let reason = format!("tenant {} is gone; add it again and release, or drop", leg.tenant);
        self.room.parts.log.held(&self.verdict.message().facts, &leg.rcpts, "schedule", &reason);
        self.leave(hold(&reason));
    }

    async fn attempt(&mut self, course: Course) {
        let Course { route, why } = course;
        self.way = if why.is_some() { Way::Second } else { Way::First };
        let job = self.job(route);
        let (room, courier) = (Arc::clone(self.room), Arc::clone(&self.room.parts.courier));
        let mut ear = Ear { flight: self, job: &job, why, begun: false, away: false };
        let ended = tokio::select! {
            biased;
            ended = unpanicked(courier.attempt(&job, &mut ear)) => ended,
            () = room.abandon.cancelled() => Err(None),
        };
        let away = ear.away;
        match ended {
            _ if self.verdict.complete() => {}
            Err(None) => self.leave(Then::Unclaim),
            Ok(()) if away => self.rule(|verdict, when| verdict.turned_away(when)),
            Err(Some(panic)) => self.broken(&format!("internal error: {panic}")),
            Ok(()) => self.broken("internal error: the attempt ended undecided"),
        }
    }

    /// Not unclaimed: what broke one attempt will break the next, and must wait its turn like any other failure.
    fn broken(&mut self, text: &str) {
        let leg = self.verdict.leg();
        tracing::error!(id = %leg.id, leg = leg.leg, text, "an attempt broke");
        self.rule(|verdict, when| verdict.defer("internal error of the relay", when));
    }

    fn job(&self, route: Arc<Route>) -> Job {
        let leg = Leg { rcpts: self.verdict.open().to_vec(), ..self.verdict.leg().clone() };
        let tenant = Arc::clone(&leg.tenant);
        Job {
            message: Arc::clone(self.verdict.message()),
            unnamed: egress::unnamed(&self.room.parts, &self.verdict.message().facts),
            leg,
            route,
            tenant,
            started: self.room.parts.clock.now(),
        }
    }

    fn begin(&self, job: &Job, why: Option<&str>) {
        let start = crate::maillog::AttemptStart {
            rcpts: &job.leg.rcpts,
            attempt: self.verdict.attempt(),
            route: match &*job.route {
                Route::Mx => "mx",
                Route::Upstream(_) => "upstream",
            },
            destination: &job.leg.destination.0,
            why,
        };
        self.room.parts.log.attempt(&job.message.facts, &start);
    }

    /// Rules, under the circumstances of this moment, and hands the ruling on.
    fn rule(&mut self, rule: impl FnOnce(&mut Verdict, &When<'_>) -> Ruling) {
        let waits = std::mem::take(&mut self.waits);
        let when = self.when(&waits);
        let ruling = rule(&mut self.verdict, &when);
        self.waits = waits;
        self.send(ruling);
    }

    fn when<'b>(&self, waits: &'b [Duration]) -> When<'b> {
        let leg = self.verdict.leg();
        let life: Life = self.room.life(leg, waits);
        When {
            wall: self.room.parts.clock.now(),
            turn: self.room.steady(|steady| steady.turn()),
            way: self.way,
            life,
            waits,
            chance: rand::random_range(-1.0..=1.0),
            delay_notice: self.delay_notice(),
        }
    }

    fn leave(&self, then: Then) {
        let settlement = self.verdict.leave(then);
        let _ = self.rulings.send(self.room.work(Work::bare(settlement)));
    }

    fn send(&self, ruling: Ruling) {
        let work = Work {
            message: Some(Arc::clone(self.verdict.message())),
            attempt: self.verdict.attempt(),
            ruling,
        };
        let _ = self.rulings.send(self.room.work(work));
    }
}

/// Hears how an attempt goes.
struct Ear<'f, 'a> {
    flight: &'f mut Flight<'a>,
    job: &'f Job,
    /// Why it goes by the tenant's second way, if it does.
    why: Option<String>,
    begun: bool,
    away: bool,
}

impl Hears for Ear<'_, '_> {
    fn decided(&mut self, mut decided: Vec<Decided>) {
        let flight = &mut *self.flight;
        decided.iter_mut().for_each(|one| flight.veil.reply(&mut one.reply));
        // A fallback that refuses its password holds nothing: the first way may yet take the mail.
        if self.why.is_some() {
            decided.iter_mut().for_each(|one| one.hop.login = Login::None);
        } else if let Some(one) = decided.first() {
            flight.room.lockouts.heard(flight.room, &self.job.message.facts, one);
        }
        flight.rule(|verdict, when| verdict.rule(decided, when));
    }

    fn begins(&mut self) {
        // A leg with recipients of several domains begins at each of them.
        if !std::mem::replace(&mut self.begun, true) {
            self.flight.begin(self.job, self.why.as_deref());
        }
        failpoint::pass(Failpoint::AttemptBegun);
    }

    fn site(&mut self, standing: Standing) {
        let Standing { site, slots, shut } = standing;
        let room = self.flight.room;
        let from = shut.map(|shut| room.steady(|steady| steady.turn()).after(shut));
        let destination = self.job.leg.destination.clone();
        room.parts.store.pace(Pacing { destination, site, slots, from });
    }

    fn turned_away(&mut self) {
        self.away = true;
        self.flight.room.parts.metrics.turned_away.inc();
    }
}

/// Runs a future; a panic in it becomes an error with its message. What the future shares with others is guarded by locks
/// that do not poison, or is given up with it.
pub(super) async fn unpanicked(future: impl Future<Output = ()>) -> Result<(), Option<String>> {
    let mut future = pin!(future);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(panic) => Poll::Ready(Err(Some(words(panic.as_ref())))),
        }
    })
    .await
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".to_owned())
}
