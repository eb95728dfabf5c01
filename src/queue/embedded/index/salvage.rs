//! A segment that cannot be read from end to end. What a scan cannot find in it the index may still know: the rows that
//! point into it say what became of their messages and where their bodies lie. So every row and every memo is looked
//! at, what can be read is written anew, and the segment is set aside under another name, for a person to look at.
//! Compaction then goes on with the next.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::super::record::{MemoHead, Record};
use super::super::spool::{Said, Segment};
use super::compact::{COPY_MAX, PIECE, Stage, Work};
use super::desk::Desk;
use super::memos::Fate;
use super::row::Row;
use crate::mail::id::Id;

/// A checksum that no body has which is not there: that of nothing is 0.
const NO_BODY: u32 = u32::MAX;

impl Desk {
    /// Goes on with a segment by what the index knows of it.
    pub(super) fn salvage(&mut self, work: Work, error: &io::Error) -> sled::Result<()> {
        let segment = work.segment;
        tracing::error!(segment, %error, "a segment of the spool is damaged: what can be read is saved, the rest set aside");
        let stage = Stage::Messages(Id::from_bytes([0; 16]));
        self.compaction.work = Some(Work { stage, damaged: true, ..work });
        Ok(())
    }

    /// Copies the messages that lie in the segment, a piece of the queue at a time.
    pub(super) fn salvage_messages(&mut self, mut work: Work, from: Id) -> sled::Result<()> {
        let Some(segment) = self.segment_of(work) else { return Ok(()) };
        let (rows, next) = self.rows.range(from, PIECE)?;
        work.stage = next.map_or(Stage::Memos, Stage::Messages);
        let (mut records, mut octets) = (Vec::new(), 0);
        for row in rows.iter().filter(|row| row.place.at.segment == work.segment) {
            if octets > COPY_MAX {
                work.stage = Stage::Messages(row.facts.id);
                break;
            }
            let copied = match self.copy_message(&segment, row)? {
                Err(error) => self.without_body(row, &error)?,
                copied => copied,
            };
            match copied {
                Ok(record) => {
                    octets += record.0.header.length();
                    records.push(record);
                }
                Err(error) => {
                    tracing::error!(id = %row.facts.id, %error, "a message stays in a damaged segment")
                }
            }
        }
        self.compaction.work = Some(work);
        self.submit_copies(records);
        Ok(())
    }

    /// Copies the memos that lie in the segment.
    pub(super) fn salvage_memos(&mut self, mut work: Work) -> sled::Result<()> {
        let Some(segment) = self.segment_of(work) else { return Ok(()) };
        let places = self.recall("")?;
        work.stage = Stage::Seen;
        let (mut records, mut octets) = (Vec::new(), 0);
        for (key, place) in places.into_iter().filter(|(_, place)| place.at.segment == work.segment) {
            let head = MemoHead { key, kept: true };
            if octets > COPY_MAX || matches!(self.memo_fate(place.at, &head)?, Fate::Waits) {
                self.compaction.waits = true;
                work.stage = Stage::Memos;
                break;
            }
            match self.copy_memo(&segment, head.clone(), &place) {
                Ok(record) => {
                    octets += record.0.header.length();
                    records.push(record);
                }
                Err(error) => self.memo_lost(&head, &error)?,
            }
        }
        self.compaction.work = Some(work);
        self.submit_copies(records);
        Ok(())
    }

    /// The segment that is worked on; without one there is nothing to do.
    pub(super) fn segment_of(&mut self, work: Work) -> Option<Segment> {
        let segment = self.spool.segment(work.segment);
        if segment.is_none() {
            self.compaction.work = None;
        }
        segment
    }

    /// A record without the body, which its checksum says: the message is listed, also by an index that is made again, and a person
    /// can decide. Whoever reads it hears that it is damaged, and at its end its tenant is told.
    fn without_body(&mut self, row: &Row, error: &io::Error) -> sled::Result<io::Result<(Record, Said)>> {
        self.spool.quarantined.fetch_add(1, Ordering::Relaxed);
        tracing::error!(id = %row.facts.id, %error, "a message's body cannot be read from a damaged segment");
        self.full_record(row, Bytes::new(), NO_BODY)
    }
}
