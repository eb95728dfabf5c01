//! A journal record: `magic | nonce | kind | flags | id | lengths | checksums | segment`, then a payload in postcard, then, for what
//! carries a message, the octets of its body as they are.
//!
//! The nonce is the segment's own and random, so nothing a sender puts into a body can pass for a record when recovery
//! looks for the next one. The header has a checksum of its own and holds those of payload and body: a scan trusts a
//! length before it follows it, and can step over bodies without reading them. The checksum holds where the record was written,
//! too: a record that the disk shows in another place has lengths that would lead the scan past records that are good.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::store::{Accept, Destination, Hold, Last, State};
use crate::mail::id::Id;
use crate::mail::message::Facts;

/// The format of everything in this file; a segment says in its first record which one it has.
pub(super) const FORMAT: u32 = 7;
/// Octets of a header.
pub(super) const HEADER: usize = 56;
/// The first four octets of every record.
pub(super) const MAGIC: [u8; 4] = *b"WXS\x01";
/// The largest payload that is believed: `config::RECIPIENTS_MAX` recipients with everything said about them need less.
pub(super) const PAYLOAD_MAX: u32 = 16 << 20;

/// The record is the first of its group: all before it was synced when it was written.
pub(super) const FIRST: u8 = 1;
/// The record was copied forward by recovery; it counts only if its batch was completed (`Kind::Forwarded`).
pub(super) const AGAIN: u8 = 2;
/// The record stood behind a hole in the last group: what it rests on may be lost, so it counts for itself only.
pub(super) const ALONE: u8 = 4;

/// The record's body was damaged before it was written: its checksum says so, and not that it was written by half.
pub(super) const DAMAGED: u8 = 8;

/// Where a record lies: segments are numbered upwards, so positions sort as the journal was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Position {
    /// The segment's number.
    pub(super) segment: u32,
    /// The offset in it.
    pub(super) offset: u32,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Head of a segment: its format.
    Schema = 1,
    /// A message, as accepted (`Accepted`).
    Accept = 2,
    /// A message with all that became of it, moved by compaction (`Copied`).
    Copy = 3,
    /// All that became of a message, without its body (`Standing`).
    Stand = 4,
    /// What became of one leg (`Note`).
    Note = 5,
    /// The message has ended (`Grave`).
    Done = 6,
    /// All before it was synced.
    Mark = 7,
    /// The batch that recovery copied forward is complete.
    Forwarded = 8,
    /// A memo, its value as the body (`MemoHead`).
    Memo = 9,
}

impl Kind {
    fn of(octet: u8) -> Option<Self> {
        [
            Self::Schema,
            Self::Accept,
            Self::Copy,
            Self::Stand,
            Self::Note,
            Self::Done,
            Self::Mark,
            Self::Forwarded,
            Self::Memo,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == octet)
    }
}

/// The segment for which a record was written. A disk that puts a sector in another's place must not have it believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) nonce: u64,
    pub(super) segment: u32,
}

/// A record's header, without where it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) id: Id,
    pub(super) payload: u32,
    pub(super) body: u32,
    pub(super) payload_crc: u32,
    pub(super) body_crc: u32,
}

impl Header {
    /// Octets of the whole record.
    pub(super) fn length(&self) -> u64 {
        HEADER as u64 + u64::from(self.payload) + u64::from(self.body)
    }

    /// The header as it lies on disk, at this offset of its segment.
    pub(super) fn encode(&self, origin: Origin, offset: u64) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        let crc_from = HEADER - 4;
        let parts: [&[u8]; 9] = [
            &MAGIC,
            &origin.nonce.to_le_bytes(),
            &[self.kind as u8, self.flags, 0, 0],
            &self.id.to_bytes(),
            &self.payload.to_le_bytes(),
            &self.body.to_le_bytes(),
            &self.payload_crc.to_le_bytes(),
            &self.body_crc.to_le_bytes(),
            &origin.segment.to_le_bytes(),
        ];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        let (head, tail) = out.split_at_mut(crc_from);
        tail.copy_from_slice(&checksum(head, offset).to_le_bytes());
        out
    }

    /// Reads the header at this offset of a segment and for which one it was written; `None` where this is not one, or was
    /// written elsewhere.
    pub(super) fn decode(bytes: &[u8], offset: u64) -> Option<(Self, Origin)> {
        let (head, rest) = bytes.split_at_checked(HEADER - 4)?;
        let said = u32::from_le_bytes(*rest.first_chunk()?);
        if *head.first_chunk()? != MAGIC || checksum(head, offset) != said {
            return None;
        }
        let word = |at: usize| head.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four));
        let header = Self {
            kind: Kind::of(*head.get(12)?)?,
            flags: *head.get(13)?,
            id: Id::from_bytes(*head.get(16..)?.first_chunk()?),
            payload: word(32).filter(|length| *length <= PAYLOAD_MAX)?,
            body: word(36)?,
            payload_crc: word(40)?,
            body_crc: word(44)?,
        };
        let nonce = u64::from_le_bytes(*head.get(4..)?.first_chunk()?);
        Some((header, Origin { nonce, segment: word(48)? }))
    }
}

/// A header's checksum. At the start of a segment it is that of its octets alone, as in every format before: a program of any
/// version reads there which format the segment has.
fn checksum(head: &[u8], offset: u64) -> u32 {
    crc32c::crc32c(head) ^ u32::try_from(offset).unwrap_or(u32::MAX)
}

/// A record on its way to the journal.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    pub(super) body: Bytes,
}

impl Record {
    /// A record without a body.
    pub(super) fn new<P: Serialize>(kind: Kind, id: Id, payload: &P) -> Result<Self, postcard::Error> {
        Self::with_body(kind, id, payload, Bytes::new(), 0)
    }

    /// A record with a body whose checksum is known.
    pub(super) fn with_body<P: Serialize>(
        kind: Kind,
        id: Id,
        payload: &P,
        body: Bytes,
        body_crc: u32,
    ) -> Result<Self, postcard::Error> {
        let payload = postcard::to_stdvec(payload)?;
        let sizes = (u32::try_from(payload.len()), u32::try_from(body.len()));
        let (Ok(payload_len), Ok(body_len)) = sizes else { return Err(postcard::Error::SerializeBufferFull) };
        if payload_len > PAYLOAD_MAX {
            return Err(postcard::Error::SerializeBufferFull);
        }
        let payload_crc = crc32c::crc32c(&payload);
        let header =
            Header { kind, flags: 0, id, payload: payload_len, body: body_len, payload_crc, body_crc };
        Ok(Self { header, payload, body })
    }

    /// The same with the checksum that its body was accepted with, whether it still fits or not.
    pub(super) fn accepted_as(mut self, body_crc: u32) -> Self {
        self.header.body_crc = body_crc;
        self.header.flags |= if crc32c::crc32c(&self.body) == body_crc { 0 } else { DAMAGED };
        self
    }
}

/// A body in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BodyFile {
    pub(super) length: u64,
    pub(super) crc: u32,
}

/// A message that has ended, and the segments where a full copy of it may still lie. As long as one of them exists, the
/// word that it ended must outlive it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grave {
    pub(super) id: Id,
    pub(super) homes: Vec<u32>,
}

/// Payload of `Kind::Accept`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted {
    pub(super) facts: Facts,
    pub(super) legs: Vec<(Destination, Vec<u16>)>,
    pub(super) held: Option<Hold>,
    pub(super) tells: Vec<(Id, u16)>,
    /// Those of the told that have ended by being told of.
    pub(super) ended: Vec<Grave>,
    pub(super) file: Option<BodyFile>,
}

/// The same as `Accepted`, borrowed, so that writing copies nothing.
#[derive(Serialize)]
pub(super) struct AcceptedRef<'a> {
    facts: &'a Facts,
    legs: &'a [(Destination, Vec<u16>)],
    held: &'a Option<Hold>,
    tells: &'a [(Id, u16)],
    ended: &'a [Grave],
    file: Option<BodyFile>,
}

impl<'a> AcceptedRef<'a> {
    pub(super) fn new(accept: &'a Accept, ended: &'a [Grave], file: Option<BodyFile>) -> Self {
        let Accept { message, legs, held, tells } = accept;
        Self { facts: &message.facts, legs, held, tells, ended, file }
    }
}

/// An open leg, as kept: what `store::Leg` has beside what the facts say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenLeg {
    pub(super) leg: u16,
    pub(super) destination: Destination,
    pub(super) rcpts: Vec<u16>,
    pub(super) attempts: u32,
    pub(super) state: State,
    pub(super) last: Option<Last>,
    pub(super) delay_told: bool,
}

/// Payload of `Kind::Stand`, and part of `Copied`: everything that became of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Open legs, by number.
    pub(super) legs: Vec<OpenLeg>,
    /// Failures not yet told of, by recipient.
    pub(super) owed: Vec<(u16, Last)>,
}

/// Payload of `Kind::Copy`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Copied {
    pub(super) facts: std::sync::Arc<Facts>,
    pub(super) standing: Standing,
    /// Segments where older copies may still lie.
    pub(super) homes: Vec<u32>,
    pub(super) file: Option<BodyFile>,
}

/// Payload of `Kind::Note`: the leg as it stands now (without recipients: closed), which of its recipients ended by this, and
/// failures that came to be owed. Whoever is missing in the leg and did not end here ended in a note that was lost.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) leg: OpenLeg,
    pub(super) ended: Vec<u16>,
    pub(super) owes: Vec<(u16, Last)>,
}

/// Payload of `Kind::Memo`. The last record of a key says what is remembered under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemoHead {
    pub(super) key: String,
    /// Whether there is a value; if not, the key is forgotten.
    pub(super) kept: bool,
}

/// Payload of `Kind::Schema`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Schema {
    pub(super) format: u32,
    pub(super) segment: u32,
    /// Where the segment before it ended when this one was made, so that a part that went missing is noticed; 0: nothing is
    /// known of it.
    pub(super) previous: u32,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::message;
    use super::*;
    use crate::config::RECIPIENTS_MAX;
    use crate::mail::attempt::Way;
    use crate::mail::envelope::{Notify, Recipient};
    use crate::mail::meaning::Reason;
    use crate::mail::reply::Enhanced;
    use crate::mail::time::Time;

    const ORIGIN: Origin = Origin { nonce: 42, segment: 7 };

    fn header() -> Header {
        let id = Id::new(Time(7), 9);
        Header { kind: Kind::Accept, flags: FIRST, id, payload: 3, body: 4, payload_crc: 5, body_crc: 6 }
    }

    #[test]
    fn a_header_reads_back() {
        assert_eq!(Header::decode(&header().encode(ORIGIN, 900), 900), Some((header(), ORIGIN)));
    }

    #[test]
    fn a_header_in_another_place_is_not_one() {
        let octets = header().encode(ORIGIN, 900);
        assert_eq!([0, 388, 899, 1412].map(|offset| Header::decode(&octets, offset)), [None; 4]);
    }

    #[test]
    fn all_that_is_known_of_the_most_recipients_fits_into_a_record() {
        // A label is at most 63 octets; what a name server gives is escaped, up to four octets for one.
        let domain = format!("{0}.{0}.{0}.{1}", "d".repeat(63), "d".repeat(61));
        let last = Last {
            at: Time(u64::MAX),
            code: u16::MAX,
            enhanced: Some(Enhanced(5, 999, 999)),
            text: "t".repeat(512),
            host: Some("\\255".repeat(255)),
            reason: Reason::Other,
            lost: Some(Way::Second),
        };
        let rcpt = Recipient {
            address: format!("{}@{domain}", "l".repeat(64)).parse().unwrap(),
            orcpt: Some("o".repeat(500)),
            notify: Notify::default(),
        };
        let mut facts = message(1).message.facts.clone();
        facts.envelope.rcpts = vec![rcpt; RECIPIENTS_MAX];
        let all: Vec<u16> = (0..u16::try_from(RECIPIENTS_MAX).unwrap()).collect();
        let leg = |leg: u16, rcpts: &[u16]| OpenLeg {
            leg,
            destination: Destination(domain.as_str().into()),
            rcpts: rcpts.to_vec(),
            attempts: u32::MAX,
            state: State::Due(Time(u64::MAX)),
            last: Some(last.clone()),
            delay_told: true,
        };
        let owed: Vec<_> = all.iter().map(|rcpt| (*rcpt, last.clone())).collect();
        let note = Note { leg: leg(0, &[]), ended: all.clone(), owes: owed.clone() };
        assert!(Record::new(Kind::Note, facts.id, &note).is_ok(), "one 5yz to MAIL");
        let (one_each, facts) =
            (all.iter().map(|one| leg(*one, &[*one])).collect(), std::sync::Arc::new(facts));
        for (legs, owed) in [(Vec::new(), owed), (one_each, Vec::new())] {
            let id = facts.id;
            let standing = Standing { legs, owed };
            let copied = Copied { facts: facts.clone(), standing, homes: vec![u32::MAX; 100], file: None };
            assert!(Record::new(Kind::Copy, id, &copied).is_ok(), "moved by compaction");
        }
    }

    proptest! {
        #[test]
        fn a_header_with_a_bit_flipped_is_not_one(at in 0usize..HEADER, bit in 0u8..8) {
            let mut bytes = header().encode(ORIGIN, 900);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Header::decode(&bytes, 900), None);
        }

        #[test]
        fn any_octets_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::decode(&bytes, 0);
        }
    }
}
