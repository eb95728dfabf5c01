//! What people ask: listings, and commands over all that match. Both go through the queue a piece at a time, so that a
//! listing of a million messages does not keep mail from leaving.

use std::sync::Arc;

use super::super::record::{Kind, Note, OpenLeg, Record};
use super::super::spool::Said;
use super::Reply;
use super::desk::Desk;
use super::row::Row;
use super::rows::doubt;
use crate::mail::attempt::Fate;
use crate::mail::id::Id;
use crate::mail::meaning::Reason;
use crate::mail::message::{Facts, Kind as Whose};
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;
use crate::queue::store::{
    Action, Cause, Entry, Filter, Hold, Last, Owed, Settlement, State, StateName, StoreError, Then,
};

/// Messages looked at between two looks at the inbox.
const PIECE: usize = 200;
/// Messages looked at there by a command while more has changed than memory is for: fewer than are written meanwhile.
const PIECE_WHEN_HEAVY: usize = super::SPILL_AT_ONCE / 2;
/// What a failure by command says where a reply would have an enhanced code: other or undefined status (RFC 3463).
const BY_COMMAND: Enhanced = Enhanced(5, 0, 0);

/// A listing or a command on its way through the queue.
pub(in super::super) struct Sweep {
    filter: Filter,
    action: Option<Action>,
    now: Time,
    from: Id,
    found: Vec<Entry>,
    records: Vec<(Record, Said)>,
    files: Vec<Id>,
    reply: Reply<Vec<Entry>>,
}

impl Sweep {
    pub(in super::super) fn new(
        filter: Filter,
        action: Option<Action>,
        now: Time,
        reply: Reply<Vec<Entry>>,
    ) -> Box<Self> {
        let from = filter.after.unwrap_or(Id::from_bytes([0; 16]));
        let (found, records, files) = (Vec::new(), Vec::new(), Vec::new());
        Box::new(Self { filter, action, now, from, found, records, files, reply })
    }

    /// Answers that it cannot be done.
    pub(in super::super) fn refuse(self, error: StoreError) {
        drop(self.reply.send(Err(error)));
    }

    /// Whether no leg more is wanted.
    fn full(&self) -> bool {
        self.filter.limit.is_some_and(|limit| self.found.len() >= limit)
    }

    /// Whether no message more is wanted.
    fn over(&self) -> bool {
        self.full() || self.filter.page.is_some_and(|page| self.found.len() >= page)
    }
}

impl Desk {
    /// Does a piece of the first sweep that waits.
    pub(super) fn sweep(&mut self) -> sled::Result<()> {
        let Some(mut sweep) = self.sweeps.pop_front() else { return Ok(()) };
        let (rows, next) = self.piece(&mut sweep)?;
        for row in &rows {
            self.visit(&mut sweep, row)?;
        }
        // What was done to these stands in the journal before anything else that becomes of them.
        let (records, files) = (std::mem::take(&mut sweep.records), std::mem::take(&mut sweep.files));
        if let Some(next) = next.filter(|_| !sweep.over()) {
            if !records.is_empty() {
                self.write(records, files, drop);
            }
            sweep.from = next;
            self.sweeps.push_back(sweep);
            return Ok(());
        }
        let Sweep { action, found, reply, .. } = *sweep;
        let answer = move |durable: Result<(), StoreError>| drop(reply.send(durable.map(|()| found)));
        match action {
            None => answer(Ok(())),
            // Records are written in the order in which they come: with these all before them are durable.
            Some(_) => self.write(records, files, answer),
        }
        Ok(())
    }

    /// The next messages to look at, and from where to go on after them.
    fn piece(&self, sweep: &mut Sweep) -> sled::Result<(Vec<Row>, Option<Id>)> {
        let most = if sweep.action.is_some() && self.rows.heavy() { PIECE_WHEN_HEAVY } else { PIECE };
        if sweep.filter.ids.is_empty() {
            return self.rows.range(sweep.from, most);
        }
        let mut ids = std::mem::take(&mut sweep.filter.ids);
        ids.sort_unstable();
        ids.dedup();
        let later = ids.split_off(ids.len().min(most));
        let mut rows = Vec::new();
        for id in ids {
            rows.extend(self.rows.look(id)?);
        }
        let next = later.first().copied();
        sweep.filter.ids = later;
        Ok((rows, next))
    }

    fn visit(&mut self, sweep: &mut Sweep, row: &Row) -> sled::Result<()> {
        if sweep.over() || !fits_message(&sweep.filter, &row.facts, sweep.now) {
            return Ok(());
        }
        for open in &row.standing.legs {
            if sweep.full() {
                return Ok(());
            }
            let id = row.facts.id;
            let state = self.state(id, open);
            let fits = fits_leg(&sweep.filter, row, open, state);
            if !fits || (sweep.action.is_some() && state == StateName::Active) {
                continue;
            }
            let acted = match &sweep.action {
                Some(action) => self.act(id, open, &action.clone(), sweep)?,
                None => true,
            };
            if acted {
                sweep.found.push(Entry { leg: row.show(open), state, facts: Arc::clone(&row.facts) });
            }
        }
        Ok(())
    }

    fn state(&self, id: Id, open: &OpenLeg) -> StateName {
        match &open.state {
            _ if self.claimed.contains_key(&(id, open.leg)) => StateName::Active,
            State::Held { .. } => StateName::Held,
            State::Due(_) if open.attempts == 0 => StateName::Due,
            State::Due(_) => StateName::Deferred,
        }
    }

    /// Does the action to one leg; answers whether it applied.
    fn act(&mut self, id: Id, open: &OpenLeg, action: &Action, sweep: &mut Sweep) -> sled::Result<bool> {
        let now = sweep.now;
        let held = matches!(open.state, State::Held { .. });
        let state = match action {
            Action::Retry if !held => Some(State::Due(now)),
            Action::Release if held => Some(State::Due(now)),
            Action::Hold { reason } if !held => {
                let reason = Arc::from(reason.as_str());
                Some(Hold { reason, cause: Cause::Operator, until: None }.since(now))
            }
            Action::Retry | Action::Release | Action::Hold { .. } => return Ok(false),
            Action::Bounce { .. } | Action::Drop => None,
        };
        let before = self.rows.look(id)?;
        let grave = before.as_ref().map(|row| (self.grave(row), row.place.file.is_some()));
        let (note, ended) = self.change(id, &[], |row| {
            let row = row.as_mut()?;
            match state {
                Some(state) => restate(row, open.leg, state),
                None => end(row, open, action, now),
            }
        })?;
        let Some(note) = note else { return Ok(false) };
        self.pend(id)?;
        if ended {
            self.cache.remove(id);
        }
        let grave = grave.filter(|_| ended);
        sweep.files.extend(grave.as_ref().filter(|(_, file)| *file).map(|_| id));
        let grave = grave.map(|(grave, _)| grave);
        let record = match &grave {
            Some(grave) => Record::new(Kind::Done, id, grave),
            None => Record::new(Kind::Note, id, &note),
        };
        let said = Said::Own(grave.into_iter().collect());
        sweep.records.push((record.map_err(|_| doubt("a note cannot be written"))?, said));
        Ok(true)
    }

    /// `Store::owed`.
    pub(super) fn owed(&self, most: usize, reply: Reply<Vec<(Owed, Arc<Facts>)>>) -> sled::Result<()> {
        let rows = self.rows.owing(most)?;
        let all = rows.iter().flat_map(|row| {
            let id = row.facts.id;
            let owed = row.standing.owed.iter();
            owed.map(move |(rcpt, last)| {
                (Owed { id, rcpt: *rcpt, last: last.clone() }, Arc::clone(&row.facts))
            })
        });
        drop(reply.send(Ok(all.take(most).collect())));
        Ok(())
    }
}

fn restate(row: &mut Row, leg: u16, state: State) -> Option<Note> {
    let open = row.standing.legs.iter_mut().find(|open| open.leg == leg)?;
    open.state = state;
    Some(Note { leg: open.clone(), ended: Vec::new(), owes: Vec::new() })
}

/// Ends every recipient of a leg: with a failure that is owed, where the message is one whose failures are told, or with
/// nothing.
fn end(row: &mut Row, open: &OpenLeg, action: &Action, now: Time) -> Option<Note> {
    let (text, owe) = match action {
        Action::Bounce { reason } => (reason.clone(), row.facts.kind == Whose::Mail),
        Action::Drop | Action::Retry | Action::Hold { .. } | Action::Release => (String::new(), false),
    };
    let (enhanced, reason) = (Some(BY_COMMAND), Reason::Command);
    let last = Last { at: now, code: 0, enhanced, text, host: None, reason, lost: None };
    let fates = open.rcpts.iter().map(|rcpt| (*rcpt, Fate::Failed, last.clone())).collect();
    let id = row.facts.id;
    let settlement = Settlement { id, leg: open.leg, fates, owe, then: Then::Continue };
    row.settle(&settlement, now)
}

fn fits_message(filter: &Filter, facts: &Facts, now: Time) -> bool {
    let Filter { after, tenant, from, from_domain, class, older_than, .. } = filter;
    after.is_none_or(|after| facts.id > after)
        && tenant.as_ref().is_none_or(|tenant| **tenant == *facts.tenant)
        && class
            .as_ref()
            .is_none_or(|class| facts.class.as_ref().is_some_and(|classed| *classed.name == **class))
        && from_domain.as_ref().is_none_or(|wanted| {
            facts.from_domain().is_some_and(|domain| domain.as_str().eq_ignore_ascii_case(wanted))
        })
        && older_than.is_none_or(|age| now.since(facts.received) > age)
        && from.as_ref().is_none_or(|from| {
            let sender = facts.envelope.from.as_ref().map(ToString::to_string).unwrap_or_default();
            sender.eq_ignore_ascii_case(from.trim_matches(['<', '>']))
        })
}

fn fits_leg(filter: &Filter, row: &Row, open: &OpenLeg, state: StateName) -> bool {
    let Filter { to, domain, state: wanted, cause, reason, .. } = filter;
    let rcpts = || open.rcpts.iter().filter_map(|rcpt| row.facts.envelope.rcpts.get(usize::from(*rcpt)));
    wanted.is_none_or(|wanted| wanted == state)
        && cause.is_none_or(|cause| open.state.cause() == Some(cause))
        && reason.as_ref().is_none_or(|reason| says(open, reason))
        && to.as_ref().is_none_or(|to| rcpts().any(|rcpt| rcpt.address.to_string().eq_ignore_ascii_case(to)))
        && domain.as_ref().is_none_or(|domain| {
            let end = format!("@{}", domain.to_lowercase());
            rcpts().any(|rcpt| rcpt.address.to_string().to_lowercase().ends_with(&end))
        })
}

fn says(open: &OpenLeg, reason: &str) -> bool {
    let reason = reason.to_lowercase();
    let held = match &open.state {
        State::Held { reason, .. } => reason,
        State::Due(_) => "",
    };
    let last = open.last.as_ref();
    held.to_lowercase().contains(&reason)
        || last.is_some_and(|last| last.reason.name() == reason || last.text.to_lowercase().contains(&reason))
}
