//! Makes rulings durable: writes each to the mail log as it arrives, and gives the store all that wait in one call, so that
//! they share a sync. What the sender is to be told of delays and relays goes on to `tell` once it is durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::Room;
use super::supersede::{Newer, Superseding};
use super::tell::Courtesy;
use super::verdict::Ruling;
use super::words::DELIVER_BY;
use crate::deliver::bounce::{Action, Told};
use crate::failpoint::{self, Failpoint};
use crate::mail::attempt::{Decided, Fate};
use crate::mail::deliver_by::Mode;
use crate::mail::meaning::Reason;
use crate::mail::message::{Facts, Kind, Message};
use crate::maillog::{Expiry, Volume};
use crate::metrics::ResultLabel;
use crate::queue::store::{Answer, Last, Settlement, StoreError};

/// Rulings settled in one call at most.
const GROUP: usize = 1024;
/// Groups handed to the store that are not durable yet, at most.
const UNDER_WAY: usize = 16;

/// A ruling on its way to the store.
pub(super) struct Work {
    /// The message; `None` where it could not be loaded.
    pub(super) message: Option<Arc<Message>>,
    /// Which attempt, from 1.
    pub(super) attempt: u32,
    /// The ruling.
    pub(super) ruling: Ruling,
}

impl Work {
    /// A settlement that says nothing of recipients.
    pub(super) fn bare(settlement: Settlement) -> Self {
        let ruling = Ruling { settlements: vec![settlement], ..Ruling::default() };
        Self { message: None, attempt: 0, ruling }
    }
}

impl Room {
    /// Counts a ruling that is not durable yet.
    pub(super) fn work(&self, work: Work) -> Work {
        self.unsettled.fetch_add(1, Ordering::AcqRel);
        work
    }
}

/// A group that the store has, and its answer.
struct Handed<'a> {
    durable: Answer<'a, Vec<bool>>,
    group: Vec<Work>,
    /// What waited for one of these legs to end.
    waited: Vec<Newer>,
    owing: bool,
}

/// Runs until the last flight has landed and everything is durable.
pub(super) async fn run(
    room: Arc<Room>,
    mut rulings: UnboundedReceiver<Work>,
    courtesies: UnboundedSender<Courtesy>,
) {
    let mut superseding = Superseding::default();
    let mut under_way = VecDeque::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        let mut group = Vec::new();
        tokio::select! {
            biased;
            durable = durable(under_way.front_mut()) => {
                let Some(handed) = under_way.pop_front() else { continue };
                let ended = match durable {
                    Ok(()) => end(&room, handed, &mut superseding, &courtesies).await,
                    failed => failed,
                };
                if let Err(error) = ended {
                    return room.fail(error);
                }
            }
            taken = rulings.recv_many(&mut group, GROUP), if open && under_way.len() < UNDER_WAY => {
                open = taken > 0;
                if open {
                    under_way.push_back(hand(&room, group, &mut superseding));
                }
            }
        }
    }
}

/// Gives a group to the store, which frees the turns of its legs at once: the next are claimed while it becomes durable.
fn hand<'a>(room: &'a Room, mut group: Vec<Work>, superseding: &mut Superseding) -> Handed<'a> {
    let settlements = group.iter_mut().flat_map(|work| std::mem::take(&mut work.ruling.settlements));
    let settlements: Vec<Settlement> = settlements.collect();
    let waited = superseding.waited_for(&settlements);
    let owing = settlements.iter().any(|settlement| settlement.owe);
    for work in &group {
        say(room, work);
    }
    failpoint::pass(Failpoint::SettleAsked);
    Handed { durable: room.parts.store.settle(settlements), group, waited, owing }
}

async fn durable(first: Option<&mut Handed<'_>>) -> Result<(), StoreError> {
    match first {
        Some(handed) => handed.durable.as_mut().await.map(drop),
        None => std::future::pending().await,
    }
}

/// What follows once a group is durable. While this waits nothing more is handed over: what is superseded and still under way
/// is not settled unseen.
async fn end(
    room: &Room,
    handed: Handed<'_>,
    superseding: &mut Superseding,
    courtesies: &UnboundedSender<Courtesy>,
) -> Result<(), StoreError> {
    let Handed { group, waited, owing, .. } = handed;
    failpoint::pass(Failpoint::SettleDurable);
    done(room, group.len(), owing);
    superseding.end(room, &group, waited).await?;
    room.learn(&group).await;
    for work in group {
        courteous(work, courtesies);
    }
    Ok(())
}

/// What was decided, for the postmaster. Said when it is known, not when it is durable: the other server has it by then.
fn say(room: &Room, work: &Work) {
    let Some(message) = &work.message else { return };
    let (log, facts) = (&room.parts.log, &message.facts);
    for (decided, next) in &work.ruling.said {
        log.decided(facts, decided, work.attempt, *next);
        if decided.fate == Fate::Delivered {
            delivered(room, facts, decided);
        }
    }
    for (rcpt, reason) in &work.ruling.held {
        log.held(facts, &[*rcpt], "schedule", reason);
    }
    for (rcpt, last) in &work.ruling.expired {
        let (attempts, life) = (work.attempt, work.ruling.life);
        log.expired(facts, *rcpt, &Expiry { attempts, life, heard: &last.text, reason: last.reason });
    }
    keep_time(room, facts, &work.ruling);
    for ended in &work.ruling.ended {
        log.disposed(facts, ended.rcpt, ended.how, &ended.text);
    }
    for (rcpt, why) in &work.ruling.silent {
        room.untold(facts, *rcpt, Action::Failed, why);
    }
}

/// What came of the time that a sender set (RFC 2852), a recipient each.
fn keep_time(room: &Room, facts: &Facts, ruling: &Ruling) {
    let Some(by) = &facts.deliver_by else { return };
    let count = |result, times: usize| {
        let counter = room.parts.metrics.deliver_by.get_or_create(&ResultLabel { result });
        counter.inc_by(u64::try_from(times).unwrap_or(u64::MAX));
    };
    let taken = |own: bool| {
        let taken = |one: &Decided| one.fate == Fate::Delivered && one.hop.deliver_by == own;
        ruling.said.iter().filter(|(one, _)| taken(one)).count()
    };
    let unfit = ruling
        .said
        .iter()
        .filter(|(one, _)| one.fate == Fate::Failed && one.meaning().reason == Reason::Late);
    let expired = if ruling.life == DELIVER_BY { ruling.expired.len() } else { 0 };
    count("passed_on", taken(true));
    count("handed_over", taken(false));
    count("returned", expired + unfit.count());
    count("delayed", if by.mode == Mode::Notify { ruling.delayed.len() } else { 0 });
}

/// A recipient has it: that took its time, and providers count it.
fn delivered(room: &Room, facts: &Facts, decided: &Decided) {
    if let Some(total) = decided.ms.total {
        room.parts.metrics.delivery_seconds.observe(Duration::from_millis(total).as_secs_f64());
    }
    let rcpt = facts.envelope.rcpts.get(usize::from(decided.rcpt));
    let (Some(author), Some(rcpt), Kind::Mail) = (facts.from_domain(), rcpt, facts.kind) else { return };
    let now = room.parts.clock.now();
    if let Some(reached) = room.parts.outlook.volumes.count(author, rcpt.address.domain(), now) {
        room.parts.log.volume(&Volume {
            tenant: &facts.tenant,
            domain: &reached.organization,
            provider: reached.provider.name(),
            count: reached.count,
        });
    }
}

/// What is durable now frees room, and may have left somebody to be told.
fn done(room: &Room, works: usize, owing: bool) {
    let before = room.unsettled.fetch_sub(works, Ordering::AcqRel);
    if before >= super::turn::UNSETTLED {
        room.look.notify_one();
    }
    if owing {
        room.owed.notify_one();
    }
}

fn courteous(work: Work, courtesies: &UnboundedSender<Courtesy>) {
    let Some(message) = work.message else { return };
    let Ruling { delayed, relayed, .. } = work.ruling;
    if delayed.is_empty() && relayed.is_empty() {
        return;
    }
    let facts = Arc::new(message.facts.clone());
    let told = |(rcpt, last): (u16, Last)| Told { facts: Arc::clone(&facts), rcpt, last };
    for (action, rcpts) in [(Action::Delayed, delayed), (Action::Relayed, relayed)] {
        if !rcpts.is_empty() {
            let told = rcpts.into_iter().map(told).collect();
            let _ = courtesies.send(Courtesy { action, told });
        }
    }
}
