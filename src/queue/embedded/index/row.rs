//! All that is known of one message, and what each kind of journal record makes of it. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::record::{BodyFile, Copied, Grave, Header, Note, OpenLeg, Position, Standing};
use super::lanes::{Item, StreamKey};
use crate::mail::attempt::Fate;
use crate::mail::id::Id;
use crate::mail::message::Facts;
use crate::mail::time::Time;
use crate::queue::store::{Destination, Hold, Last, Leg, Settlement, State, Stats, Then};

/// Segments a row remembers notes in; more are not counted as live, which costs compaction some precision, nothing else.
const NOTES_MAX: usize = 8;

/// Where a message's octets lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Place {
    /// The newest full record.
    pub(in super::super) at: Position,
    /// Octets of that record.
    pub(in super::super) length: u64,
    /// Offset of the body in the segment.
    pub(in super::super) body_at: u64,
    /// Octets of the body in the segment.
    pub(in super::super) body: u32,
    /// Checksum of the body in the segment.
    pub(in super::super) crc: u32,
    /// A body that stands in a file of its own instead.
    pub(in super::super) file: Option<BodyFile>,
}

impl Place {
    /// Octets of the body.
    pub(in super::super) fn octets(&self) -> u64 {
        self.file.map_or(u64::from(self.body), |file| file.length)
    }

    /// Where a full record at this position has its body.
    pub(in super::super) fn new(at: Position, header: &Header, file: Option<BodyFile>) -> Self {
        let length = header.length();
        let body_at = u64::from(at.offset) + length - u64::from(header.body);
        Self { at, length, body_at, body: header.body, crc: header.body_crc, file }
    }
}

/// A message in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Row {
    /// The last record that this row knows of.
    pub(in super::super) at: Position,
    /// Records of the message before this one say nothing that the one there does not.
    pub(in super::super) since: Position,
    pub(in super::super) place: Place,
    /// Segments that have a full record of the message, the newest last.
    pub(in super::super) homes: Vec<u32>,
    /// Octets of notes by segment.
    pub(in super::super) notes: Vec<(u32, u64)>,
    pub(in super::super) facts: Arc<Facts>,
    pub(in super::super) standing: Standing,
}

impl Row {
    /// A message just accepted.
    pub(in super::super) fn accepted(
        at: Position,
        place: Place,
        facts: Arc<Facts>,
        legs: Vec<(Destination, Vec<u16>)>,
        held: Option<&Hold>,
    ) -> Self {
        let state = held.map_or(State::Due(facts.received), |hold| hold.since(facts.received));
        let open = |(leg, (destination, rcpts)): (usize, (Destination, Vec<u16>))| OpenLeg {
            leg: u16::try_from(leg).unwrap_or(u16::MAX),
            destination,
            rcpts,
            attempts: 0,
            state: state.clone(),
            last: None,
            delay_told: false,
        };
        let legs = legs.into_iter().enumerate().map(open).filter(|leg| !leg.rcpts.is_empty()).collect();
        let standing = Standing { legs, owed: Vec::new() };
        Self { at, since: at, place, homes: vec![at.segment], notes: Vec::new(), facts, standing }
    }

    /// A message moved by compaction.
    pub(in super::super) fn copied(at: Position, place: Place, copied: Copied) -> Self {
        let Copied { facts, standing, mut homes, file: _ } = copied;
        homes.retain(|home| *home != at.segment);
        homes.push(at.segment);
        Self { at, since: at, place, homes, notes: Vec::new(), facts, standing }
    }

    /// Moves to a new full record that says what this row says.
    pub(in super::super) fn moved(&mut self, at: Position, place: Place) {
        self.place = place;
        self.homes.retain(|home| *home != at.segment);
        self.homes.push(at.segment);
        (self.at, self.since) = (at, at);
        self.notes.clear();
    }

    /// A `Stand` record was written that says what this row says.
    pub(in super::super) fn stood(&mut self, at: Position, length: u64) {
        (self.at, self.since) = (at, at);
        self.notes = vec![(at.segment, length)];
    }

    /// A `Note` record was written that this row has in it already.
    pub(in super::super) fn noted(&mut self, at: Position, length: u64) {
        self.at = at;
        if let Some((_, octets)) = self.notes.iter_mut().find(|(segment, _)| *segment == at.segment) {
            *octets += length;
        } else if self.notes.len() < NOTES_MAX {
            self.notes.push((at.segment, length));
        }
    }

    /// Does what a `Note` says. Recipients whose end was said in a note that is lost (the disk was damaged there) stay open: whether
    /// they were delivered or refused is not known, so they are tried again.
    pub(in super::super) fn note(&mut self, note: Note) {
        let Note { mut leg, ended, owes } = note;
        let legs = &mut self.standing.legs;
        if let Some(at) = legs.iter().position(|open| open.leg == leg.leg) {
            let before = legs.remove(at).rcpts;
            let known: HashSet<u16> = leg.rcpts.iter().chain(&ended).copied().collect();
            leg.rcpts.extend(before.into_iter().filter(|rcpt| !known.contains(rcpt)));
            if !leg.rcpts.is_empty() {
                legs.insert(at, leg);
            }
        }
        for (rcpt, last) in owes {
            self.owe(rcpt, last);
        }
    }

    fn owe(&mut self, rcpt: u16, last: Last) {
        if !self.standing.owed.iter().any(|(owed, _)| *owed == rcpt) {
            self.standing.owed.push((rcpt, last));
            self.standing.owed.sort_by_key(|(owed, _)| *owed);
        }
    }

    /// This failure is no longer owed.
    pub(in super::super) fn told(&mut self, rcpt: u16) {
        self.standing.owed.retain(|(owed, _)| *owed != rcpt);
    }

    /// Nothing is open and nothing is owed.
    pub(in super::super) fn ended(&self) -> bool {
        self.standing.legs.is_empty() && self.standing.owed.is_empty()
    }

    /// The word that it has ended, for the journal.
    pub(in super::super) fn grave(&self, exists: impl Fn(u32) -> bool) -> Grave {
        let homes = self.homes.iter().copied().filter(|home| exists(*home)).collect();
        Grave { id: self.facts.id, homes }
    }

    /// An open leg.
    pub(in super::super) fn leg(&self, leg: u16) -> Option<&OpenLeg> {
        self.standing.legs.iter().find(|open| open.leg == leg)
    }

    /// Decides as the settlement says. Answers what to write, `None` where nothing changes (or the leg has ended).
    pub(in super::super) fn settle(&mut self, settlement: &Settlement, now: Time) -> Option<Note> {
        let at = self.standing.legs.iter().position(|open| open.leg == settlement.leg)?;
        let leg = self.standing.legs.get_mut(at)?;
        let (mut ended, mut owes) = (Vec::new(), Vec::new());
        for (rcpt, fate, last) in &settlement.fates {
            if !leg.rcpts.contains(rcpt) {
                continue;
            }
            // It may have arrived for one of them: that the others heard something else does not undo it.
            let lost = last.lost.or(leg.last.as_ref().and_then(|before| before.lost));
            leg.last = Some(Last { lost, ..last.clone() });
            if *fate != Fate::Deferred {
                leg.rcpts.retain(|open| open != rcpt);
                ended.push(*rcpt);
            }
            if *fate == Fate::Failed && settlement.owe {
                owes.push((*rcpt, last.clone()));
            }
        }
        let moved = then(leg, &settlement.then, now);
        if settlement.fates.is_empty() && !moved {
            return None;
        }
        let note = Note { leg: leg.clone(), ended, owes };
        if leg.rcpts.is_empty() {
            self.standing.legs.remove(at);
        }
        for (rcpt, last) in &note.owes {
            self.owe(*rcpt, last.clone());
        }
        Some(note)
    }

    /// An open leg as the rest of the house sees it.
    pub(in super::super) fn show(&self, open: &OpenLeg) -> Leg {
        let OpenLeg { leg, destination, rcpts, attempts, state, last, delay_told } = open.clone();
        let Facts { id, tenant, lane, received, expires, .. } = &*self.facts;
        Leg {
            id: *id,
            leg,
            tenant: Arc::clone(tenant),
            destination,
            lane: *lane,
            rcpts,
            attempts,
            state,
            last,
            delay_told,
            received: *received,
            expires: *expires,
        }
    }

    /// Where an open leg waits: a held one until its hold ends, or its sender wants to hear of the delay.
    pub(in super::super) fn turn(&self, open: &OpenLeg) -> (StreamKey, Item) {
        let Facts { lane, tenant, id, expires, .. } = &*self.facts;
        let held = matches!(open.state, State::Held { .. });
        let end = open.state.turn(*expires);
        let notice = self.facts.notify_at().filter(|_| held && !open.delay_told);
        let due = notice.map_or(end, |notice| end.min(notice));
        let key = StreamKey {
            lane: *lane,
            held,
            tenant: Arc::clone(tenant),
            destination: open.destination.clone(),
        };
        (key, Item { due, id: *id, leg: open.leg })
    }

    /// What the row adds to the sizes.
    pub(in super::super) fn weight(&self) -> Stats {
        let legs = &self.standing.legs;
        Stats {
            messages: 1,
            recipients: legs.iter().map(|leg| leg.rcpts.len() as u64).sum(),
            held: legs.iter().filter(|leg| matches!(leg.state, State::Held { .. })).count() as u64,
            owed: self.standing.owed.len() as u64,
            ..Stats::default()
        }
    }

    /// The octets of the journal that matter because of this row, by segment.
    pub(in super::super) fn uses(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        std::iter::once((self.place.at.segment, self.place.length)).chain(self.notes.iter().copied())
    }

    /// As it lies in sled: its length, itself, its checksum. A kill between two of its pieces leaves some of the new ones among the old,
    /// and that may well read as a row, as new as the one and as wrong as the other; or old pieces behind it, which are not of it.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let row = postcard::to_stdvec(self).ok()?;
        let length = u32::try_from(row.len()).ok()?;
        Some([&length.to_le_bytes(), row.as_slice(), &crc32c::crc32c(&row).to_le_bytes()].concat())
    }

    /// `None`: these are not the octets of one row.
    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let (length, rest) = octets.split_first_chunk()?;
        let (row, rest) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        let whole = crc32c::crc32c(row) == u32::from_le_bytes(*rest.first_chunk()?);
        postcard::from_bytes(row).ok().filter(|_| whole)
    }

    /// About how much memory it takes.
    pub(in super::super) fn size(&self) -> usize {
        500 + 120 * (self.facts.envelope.rcpts.len() + self.standing.legs.len())
            + 300 * self.standing.owed.len()
    }
}

/// What becomes of the rest of a leg; answers whether that changes it.
fn then(leg: &mut OpenLeg, then: &Then, now: Time) -> bool {
    match then {
        Then::Continue | Then::Unclaim => return false,
        Then::Due { at, delay_told } => {
            leg.attempts = leg.attempts.saturating_add(1);
            leg.state = State::Due(*at);
            leg.delay_told |= *delay_told;
        }
        Then::Hold(hold) => leg.state = hold.since(now),
        Then::Told => leg.delay_told = true,
    }
    true
}

/// The key of a message.
pub(in super::super) fn row_key(id: Id) -> [u8; 17] {
    let mut key = [b'm'; 17];
    key.iter_mut().skip(1).zip(id.to_bytes()).for_each(|(to, from)| *to = from);
    key
}
