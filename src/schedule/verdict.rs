//! What an attempt's decisions mean for the queue: which are settled how, who is owed word, and when the rest is tried
//! again. Pure: the circumstances come in, settlements and the log's words come out.

use std::sync::Arc;
use std::time::Duration;

use super::lockout;
use super::retry::{self, Life, Next};
use super::words::{DELIVER_BY, EXPIRED, bounded, given_up, heard};
use crate::deliver::bounce::{Action, wanted};
use crate::mail::attempt::{Decided, Fate, Hop, Timings, Way};
use crate::mail::deliver_by::{DeliverBy, Mode};
use crate::mail::meaning::Reason;
use crate::mail::message::{Facts, Message};
use crate::mail::reply::{Enhanced, PeerReply};
use crate::mail::time::Time;
use crate::maillog::Disposal;
use crate::queue::store::{Cause, Hold, Last, Leg, Settlement, State, Then};

/// The circumstances of a decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct When<'a> {
    /// The wall, for records.
    pub(super) wall: Time,
    /// The time by which legs fall due.
    pub(super) turn: Time,
    /// By which way the attempt goes.
    pub(super) way: Way,
    /// How old the message is and may become.
    pub(super) life: Life,
    /// The retry schedule.
    pub(super) waits: &'a [Duration],
    /// Between -1 and 1.
    pub(super) chance: f64,
    /// Age at which a delay is told: the sender's word (RFC 2852, mode N), else the configuration's; `None`: never.
    pub(super) delay_notice: Option<Duration>,
}

/// An attempt as it is being decided.
#[derive(Debug)]
pub(super) struct Verdict {
    leg: Leg,
    message: Arc<Message>,
    /// Recipients not yet decided.
    open: Vec<u16>,
    /// Why nobody may be told of this message, if so.
    nobody: Option<&'static str>,
    /// Set by the first recipient that is deferred: all of them wait for the same attempt.
    next: Option<Next>,
    /// Set where nothing can leave until a person does something: the rest waits for that.
    hold: Option<Hold>,
    /// What kept it from being delivered so far, where its time runs out without another attempt.
    blame: Option<Reason>,
    delayed: bool,
}

/// What some decisions come to.
#[derive(Debug, Default)]
pub(super) struct Ruling {
    /// For the store, in this order.
    pub(super) settlements: Vec<Settlement>,
    /// Recipients held from now on.
    pub(super) held: Vec<(u16, Arc<str>)>,
    /// For the log: as it was decided, and when the recipient is tried again.
    pub(super) said: Vec<(Decided, Option<Time>)>,
    /// Recipients on which the queue gives up now, and what was heard last.
    pub(super) expired: Vec<(u16, Last)>,
    /// Which life is over, of those.
    pub(super) life: &'static str,
    /// Recipients that end without an attempt, because an administrator asked for that.
    pub(super) ended: Vec<Ended>,
    /// Recipients of whose delay the sender is told.
    pub(super) delayed: Vec<(u16, Last)>,
    /// Recipients of whose relaying the sender is told.
    pub(super) relayed: Vec<(u16, Last)>,
    /// Recipients that failed and of which nobody is told, each with the reason.
    pub(super) silent: Vec<(u16, &'static str)>,
}

/// A recipient that ends without an attempt, because an administrator asked for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Who.
    pub(super) rcpt: u16,
    /// By which rule.
    pub(super) how: Disposal,
    /// The status that the tenant is told.
    pub(super) enhanced: Enhanced,
    /// Our own words, for the log and the tenant.
    pub(super) text: String,
}

impl Verdict {
    pub(super) fn new(leg: Leg, message: Arc<Message>, nobody: Option<&'static str>) -> Self {
        Self {
            open: leg.rcpts.clone(),
            delayed: leg.delay_told,
            leg,
            message,
            nobody,
            next: None,
            hold: None,
            blame: None,
        }
    }

    pub(super) fn leg(&self) -> &Leg {
        &self.leg
    }

    pub(super) fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// Recipients not yet decided.
    pub(super) fn open(&self) -> &[u16] {
        &self.open
    }

    /// Which attempt this is, from 1.
    pub(super) fn attempt(&self) -> u32 {
        self.leg.attempts.saturating_add(1)
    }

    /// Whether every recipient has been decided.
    pub(super) fn complete(&self) -> bool {
        self.open.is_empty()
    }

    /// Rules on what was decided. A recipient that is not open, or no longer, is passed over: one fate each.
    pub(super) fn rule(&mut self, decided: Vec<Decided>, when: &When<'_>) -> Ruling {
        let mut ruling = Ruling::default();
        let (mut owing, mut plain) = (Vec::new(), Vec::new());
        for one in decided {
            let Some(at) = self.open.iter().position(|rcpt| *rcpt == one.rcpt) else { continue };
            self.open.swap_remove(at);
            let (rcpt, fate, last) = self.fate(one, when, &mut ruling);
            match fate {
                Fate::Failed if self.owed(rcpt, &mut ruling) => owing.push((rcpt, fate, last)),
                Fate::Failed | Fate::Delivered | Fate::Deferred => plain.push((rcpt, fate, last)),
            }
        }
        self.settle(owing, plain, when, &mut ruling);
        ruling
    }

    /// Ends open recipients as an administrator asked, each a failure that the tenant is told of.
    pub(super) fn dispose(&mut self, ended: Vec<Ended>, when: &When<'_>) -> Ruling {
        let mut ruling = Ruling::default();
        let (mut owing, mut plain) = (Vec::new(), Vec::new());
        for one in ended {
            let Some(at) = self.open.iter().position(|rcpt| *rcpt == one.rcpt) else { continue };
            self.open.remove(at);
            let (enhanced, text) = (Some(one.enhanced), bounded(one.text.clone()));
            let reason = match one.how {
                Disposal::Suppressed => Reason::Suppressed,
                Disposal::Dropped => Reason::Extra,
            };
            let last = Last { at: when.wall, code: 0, enhanced, text, host: None, reason, lost: None };
            let owed = self.owed(one.rcpt, &mut ruling);
            if owed { &mut owing } else { &mut plain }.push((one.rcpt, Fate::Failed, last));
            ruling.ended.push(one);
        }
        self.settle(owing, plain, when, &mut ruling);
        ruling
    }

    /// Whether a failure must be told of; if not, the log is told why.
    fn owed(&self, rcpt: u16, ruling: &mut Ruling) -> bool {
        let told = self.told(rcpt, Action::Failed);
        if !told {
            ruling.silent.push((rcpt, self.nobody.unwrap_or("its sender asked not to be told")));
        }
        told
    }

    /// Which life ends when the queue gives up: that of a hold, the sender's time, the useful one of the class, or the queue's.
    fn life(&self) -> &'static str {
        match &self.leg.state {
            State::Held { until: Some(until), .. } if *until < self.leg.expires => "hold",
            State::Held { .. } | State::Due(_) if self.message.facts.is_returned() => DELIVER_BY,
            State::Held { .. } | State::Due(_) if self.message.facts.asked.life => "class",
            State::Held { .. } | State::Due(_) => "queue",
        }
    }

    /// Every open recipient deferred for a reason of our own.
    pub(super) fn defer(&mut self, text: &str, when: &When<'_>) -> Ruling {
        self.all(Fate::Deferred, PeerReply::local(Enhanced(4, 3, 0), text), when)
    }

    /// Every open recipient ended without an attempt: the message's life ran out while it was parked.
    pub(super) fn expire(&mut self, text: &str, when: &When<'_>) -> Ruling {
        self.next = Some(Next::GiveUp);
        let heard = self.leg.last.as_ref().map(|last| last.reason);
        self.blame = heard.or(self.leg.state.cause().map(waited_for));
        self.all(Fate::Deferred, PeerReply::local(EXPIRED, text), when)
    }

    /// The time after which its sender wants to hear of a delay is over while it is held: that is told, and the hold goes on.
    pub(super) fn late(&self, text: &str, when: &When<'_>) -> Ruling {
        let delayed = self.late_ones(text, when);
        Ruling { settlements: vec![self.leave(Then::Told)], delayed, ..Ruling::default() }
    }

    /// The recipients not yet decided of whose delay the sender is told, in words of our own.
    fn late_ones(&self, text: &str, when: &When<'_>) -> Vec<(u16, Last)> {
        let heard = self.leg.last.as_ref().map(|last| last.reason);
        let reason = heard.or(self.leg.state.cause().map(waited_for)).unwrap_or(Reason::Late);
        let (enhanced, text) = (Some(EXPIRED), bounded(text.to_owned()));
        let last = Last { at: when.wall, code: 0, enhanced, text, host: None, reason, lost: None };
        let told = self.open.iter().filter(|rcpt| self.told(**rcpt, Action::Delayed));
        told.map(|rcpt| (*rcpt, last.clone())).collect()
    }

    fn all(&mut self, fate: Fate, reply: PeerReply, when: &When<'_>) -> Ruling {
        let ours = |rcpt: &u16| Decided {
            rcpt: *rcpt,
            fate,
            reply: reply.clone(),
            hop: Hop::default(),
            ms: Timings::default(),
        };
        let decided = self.open.iter().map(ours).collect();
        self.rule(decided, when)
    }

    /// The attempt is over without having decided the rest.
    pub(super) fn leave(&self, then: Then) -> Settlement {
        Settlement { id: self.leg.id, leg: self.leg.leg, fates: Vec::new(), owe: false, then }
    }

    /// What remains of a leg that was turned away at a site: it waits for that and not for its schedule, as no attempt was made. But
    /// where recipients of another domain were asked and put off, all of them wait for their next turn.
    pub(super) fn turned_away(&self, when: &When<'_>) -> Ruling {
        let Some(Next::Try(at)) = self.next else {
            return Ruling { settlements: vec![self.leave(Then::Unclaim)], ..Ruling::default() };
        };
        let then = Then::Due { at, delay_told: self.delayed };
        let fresh = self.delayed && !self.leg.delay_told;
        let delayed = if fresh {
            self.late_ones("its exchangers take no more connections now", when)
        } else {
            Vec::new()
        };
        Ruling { settlements: vec![self.leave(then)], delayed, ..Ruling::default() }
    }

    /// One recipient's fate for the store; what else it means goes into the ruling.
    fn fate(&mut self, one: Decided, when: &When<'_>, ruling: &mut Ruling) -> (u16, Fate, Last) {
        let (rcpt, mut last) = (one.rcpt, heard(&one, when.wall, when.way));
        last.reason = self.blame.unwrap_or(last.reason);
        last.lost = last.lost.or(self.leg.last.as_ref().and_then(|before| before.lost));
        if let Some(hold) = lockout::hold(&one, &self.leg.tenant) {
            ruling.held.push((rcpt, Arc::clone(&hold.reason)));
            ruling.said.push((one, None));
            self.hold = Some(hold);
            return (rcpt, Fate::Deferred, last);
        }
        match one.fate {
            Fate::Deferred => match self.next(when) {
                Next::Try(at) => {
                    self.delay(rcpt, &last, when, ruling);
                    ruling.said.push((one, Some(at)));
                    (rcpt, Fate::Deferred, last)
                }
                Next::GiveUp => {
                    ruling.life = self.life();
                    let last = given_up(&last, when.life.age, ruling.life);
                    ruling.expired.push((rcpt, last.clone()));
                    (rcpt, Fate::Failed, last)
                }
            },
            Fate::Delivered => {
                // RFC 3461 section 5.2.2: a next hop with DSN reports itself. But where its report comes back to our return
                // path, it is we who tell.
                let reports = one.hop.dsn && self.message.facts.return_path.is_none();
                let asked = !reports && self.told(rcpt, Action::Relayed);
                if asked || self.handed_on(rcpt, &one.hop, when) {
                    ruling.relayed.push((rcpt, last.clone()));
                }
                ruling.said.push((one, None));
                (rcpt, Fate::Delivered, last)
            }
            Fate::Failed => {
                ruling.said.push((one, None));
                (rcpt, Fate::Failed, last)
            }
        }
    }

    /// RFC 2852 section 4.1.4: whether the sender is told that a server took it: at each of them where it asked for a trace, and
    /// with mode N where the server keeps no time and it is not over yet. NEVER counts.
    fn handed_on(&self, rcpt: u16, hop: &Hop, when: &When<'_>) -> bool {
        let facts = &self.message.facts;
        let lost = |by: &DeliverBy| by.mode == Mode::Notify && !hop.deliver_by && when.wall < by.at;
        let asked = facts.deliver_by.is_some_and(|by| by.trace || lost(&by));
        let rcpt = facts.envelope.rcpts.get(usize::from(rcpt));
        asked && self.nobody.is_none() && rcpt.is_some_and(|rcpt| rcpt.notify.ever())
    }

    fn delay(&mut self, rcpt: u16, last: &Last, when: &When<'_>, ruling: &mut Ruling) {
        let late = when.delay_notice.is_some_and(|notice| when.life.age >= notice);
        if late && !self.leg.delay_told && self.told(rcpt, Action::Delayed) {
            self.delayed = true;
            ruling.delayed.push((rcpt, last.clone()));
        }
    }

    fn next(&mut self, when: &When<'_>) -> Next {
        let (made, notice) = (self.leg.attempts, self.notice(when));
        *self.next.get_or_insert_with(|| {
            let scheduled = retry::next(when.waits, made, when.chance, when.turn, when.life);
            match (scheduled, notice) {
                (Next::Try(at), Some(notice)) => Next::Try(at.min(notice)),
                (scheduled, _) => scheduled,
            }
        })
    }

    /// When the delay is to be told, while that lies ahead. An attempt falls on that moment, for only one that deferred tells
    /// of a delay: by the schedule alone the word could come hours late.
    fn notice(&self, when: &When<'_>) -> Option<Time> {
        let left = when.delay_notice?.checked_sub(when.life.age).filter(|left| !left.is_zero())?;
        let told = self.leg.rcpts.iter().any(|rcpt| self.told(*rcpt, Action::Delayed));
        (told && !self.leg.delay_told).then(|| when.turn.after(left))
    }

    /// Whether somebody is to be told this of this recipient.
    fn told(&self, rcpt: u16, action: Action) -> bool {
        let asked = self.message.facts.envelope.rcpts.get(usize::from(rcpt));
        self.nobody.is_none() && asked.is_some_and(|rcpt| wanted(rcpt.notify, action))
    }

    /// The settlements: failures that are owed apart from the rest, and the leg's future with the last of them.
    fn settle(&self, owing: Vec<Rcpt>, plain: Vec<Rcpt>, when: &When<'_>, ruling: &mut Ruling) {
        let then = if self.complete() {
            let at = match self.next {
                Some(Next::Try(at)) => at,
                Some(Next::GiveUp) | None => when.turn,
            };
            match self.hold.clone() {
                Some(hold) => Then::Hold(hold),
                None => Then::Due { at, delay_told: self.delayed },
            }
        } else {
            Then::Continue
        };
        let both = !owing.is_empty() && !plain.is_empty();
        let (id, leg) = (self.leg.id, self.leg.leg);
        if !owing.is_empty() {
            let then = if both { Then::Continue } else { then.clone() };
            ruling.settlements.push(Settlement { id, leg, fates: owing, owe: true, then });
        }
        if !plain.is_empty() {
            ruling.settlements.push(Settlement { id, leg, fates: plain, owe: false, then });
        }
    }
}

/// What a hold that ends was waiting for.
fn waited_for(cause: Cause) -> Reason {
    match cause {
        Cause::Seal => Reason::Unauthenticated,
        Cause::Operator => Reason::Command,
        Cause::Route => Reason::Internal,
        Cause::Credentials => Reason::Credentials,
    }
}

/// A recipient's line in a settlement.
type Rcpt = (u16, Fate, Last);

/// Whether the message asks for reports in its own words (RFC 3461, RFC 2852): it then gets a notification of its own.
pub(super) fn asks(facts: &Facts) -> bool {
    let envelope = &facts.envelope;
    let stated = |rcpt: &crate::mail::envelope::Recipient| rcpt.notify.stated || rcpt.orcpt.is_some();
    facts.deliver_by.is_some()
        || envelope.envid.is_some()
        || envelope.ret.is_some()
        || envelope.rcpts.iter().any(stated)
}

#[cfg(test)]
mod tests;
