//! Who is still undecided in an attempt. Every recipient is told to the witness exactly once, when its fate is known.

use std::sync::Arc;

use tokio::time::Instant;

use super::driver::Connection;
use super::hosts::Host;
use super::outcome::{Next, Trouble};
use super::pace::Sign;
use super::sites::Standing;
use super::tally::Problem;
use super::{Job, Witness, sign};
use crate::mail::attempt::{Decided, Fate, Hop, Timings};
use crate::mail::meaning::Excess;
use crate::mail::reply::PeerReply;
use crate::mail::time::Time;
use crate::queue::store::State;

/// The undecided recipients, and where the attempt has got to.
pub(super) struct Ledger<'a> {
    open: Vec<u16>,
    witness: Witness<'a>,
    began: Instant,
    started: Time,
    /// Milliseconds from accept to the start of the attempt.
    before: u64,
    /// Whether a message was taken.
    taken: bool,
    /// Of what replies said that we send too much, the gravest.
    excess: Option<Excess>,
    /// Who is being spoken to.
    pub(super) hop: Hop,
    /// How long it took so far.
    pub(super) ms: Timings,
    /// What went wrong with TLS there, for reports.
    pub(super) problem: Option<Problem>,
}

impl<'a> Ledger<'a> {
    /// Nobody is decided yet.
    #[must_use]
    pub(super) fn new(job: &Job, route: &'static str, witness: Witness<'a>) -> Self {
        let due = match job.leg.state {
            State::Due(at) => at,
            State::Held { .. } => job.leg.received,
        };
        let queued = millis(job.started.since(due.max(job.leg.received)));
        Self {
            open: job.leg.rcpts.clone(),
            witness,
            began: Instant::now(),
            started: job.started,
            before: millis(job.started.since(job.leg.received)),
            taken: false,
            excess: None,
            hop: Hop { route, ..Hop::default() },
            ms: Timings { queue: Some(queued), ..Timings::default() },
            problem: None,
        }
    }

    /// This host is tried now; nothing is known of it yet.
    pub(super) fn at(&mut self, host: &Host) {
        let (route, site) = (self.hop.route, self.hop.site.take());
        let (name, ip) = (Some(host.name.clone()), Some(host.address.ip()));
        self.hop = Hop { route, site, host: name, ip, ..Hop::default() };
        self.problem = None;
        self.ms = Timings { connect: None, tls: None, smtp: None, ..self.ms };
    }

    /// The attempt begins.
    pub(super) fn begins(&mut self) {
        self.witness.begins();
    }

    /// This is known of the site now.
    pub(super) fn stands(&mut self, standing: Standing) {
        self.hop.site = Some(Arc::clone(&standing.site));
        self.witness.site(standing);
    }

    /// There is no turn now.
    pub(super) fn turned_away(&mut self) {
        self.witness.turned_away();
    }

    /// What all that was heard says about the site.
    #[must_use]
    pub(super) fn sign(&self, trouble: Option<&Trouble>) -> Sign {
        let excess = self.excess.filter(|excess| *excess > Excess::Sender);
        match (excess, trouble) {
            (Some(excess), _) => sign::of_excess(excess),
            (None, Some(trouble)) => sign::of(self.hop.host.as_deref(), trouble),
            (None, None) if self.taken => Sign::Taken,
            (None, None) => Sign::Spoke,
        }
    }

    /// Whether a reply, or the one that ended it all, said that the sender, and nobody else, sends too much.
    #[must_use]
    pub(super) fn sender_is_limited(&self, trouble: Option<&Trouble>) -> bool {
        let last = trouble.and_then(|trouble| sign::excess(self.hop.host.as_deref(), &trouble.reply));
        self.excess.max(last) == Some(Excess::Sender)
    }

    /// This connection is used now, new or kept.
    pub(super) fn reached(&mut self, connection: &Connection) {
        self.hop.ip = Some(connection.ip);
        self.hop.source = connection.source();
        self.hop.tls = connection.tls.clone();
        self.hop.dsn = connection.extensions.dsn;
        self.hop.deliver_by = connection.extensions.deliver_by.is_some();
    }

    /// The time now, by the wall as it stood when the attempt began.
    #[must_use]
    pub(super) fn now(&self) -> Time {
        self.started.after(self.began.elapsed())
    }

    /// Those not yet decided.
    #[must_use]
    pub(super) fn open(&self) -> &[u16] {
        &self.open
    }

    /// Decides these, if they are open.
    pub(super) fn decide(&mut self, rcpts: &[u16], fate: Fate, reply: &PeerReply) {
        self.taken |= fate == Fate::Delivered;
        self.excess = self.excess.max(sign::excess(self.hop.host.as_deref(), reply));
        let elapsed = millis(self.began.elapsed());
        let ms = Timings { total: Some(self.before.saturating_add(elapsed)), ..self.ms };
        let concerned: Vec<u16> = self.open.extract_if(.., |open| rcpts.contains(open)).collect();
        let hop = Hop { shared: concerned.len() > 1, ..self.hop.clone() };
        let told = concerned.into_iter().map(|rcpt| Decided {
            rcpt,
            fate,
            reply: reply.clone(),
            hop: hop.clone(),
            ms,
        });
        let told: Vec<Decided> = told.collect();
        if !told.is_empty() {
            self.witness.decided(told);
        }
    }

    /// Everybody left shares this trouble; there is no other host.
    pub(super) fn close(&mut self, trouble: &Trouble) {
        let fate = match trouble.next() {
            Next::Failed => Fate::Failed,
            Next::Deferred | Next::AnotherHost => Fate::Deferred,
        };
        let rest = self.open.clone();
        self.decide(&rest, fate, &trouble.reply);
    }
}

/// A duration as the log wants it.
#[must_use]
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
