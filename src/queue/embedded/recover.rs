//! Opening the journal: the torn end is cut, what may not have been synced is copied forward and synced before it is
//! trusted, and writing goes on in a new segment. Reads the ends of the last segments only; the index reads the rest.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::OpenError;
use super::commit::{Head, bare};
use super::record::{AGAIN, ALONE, DAMAGED, FIRST, FORMAT, Kind, Record, Schema};
use super::scan::{Found, Scan, Step};
use super::spool::{Segment, Spool, segment_number};
use crate::failpoint::{self, Failpoint};
use crate::fsx::{DiskFile, read_exact_at};

/// Opens what is there and answers the segment to go on in.
pub(super) fn open(spool: &Spool) -> Result<Head, OpenError> {
    let fail = |error: io::Error| OpenError::Io(spool.dir.clone(), error);
    let numbers = numbers(spool).map_err(fail)?;
    let mut segments = Vec::new();
    let mut ends = BTreeMap::new();
    for number in &numbers {
        let path = spool.path(*number);
        let file: Arc<dyn DiskFile> = Arc::from(spool.disk.open(&path).map_err(fail)?);
        let (format, previous) = schema(&*file, *number).map_err(fail)?.unwrap_or((FORMAT, 0));
        ends.extend(
            number.checked_sub(1).filter(|_| previous > 0).map(|before| (before, u64::from(previous))),
        );
        match format.cmp(&FORMAT) {
            Ordering::Less => return Err(OpenError::Older(path, format, FORMAT)),
            Ordering::Greater => return Err(OpenError::Newer(path, format, FORMAT)),
            Ordering::Equal => segments.push((*number, file)),
        }
    }
    for (number, file) in &segments {
        let size = file.size().map_err(fail)?;
        let end = ends.get(number).copied();
        spool.add_segment(*number, Segment { file: Arc::clone(file), size, end });
    }
    let tail = tail(spool, &segments).map_err(fail)?;
    failpoint::pass(Failpoint::RecoverRead);
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    forward(spool, next, tail).map_err(fail)
}

/// What may never have been synced.
#[derive(Default)]
struct Tail {
    /// The records that are whole, oldest first.
    records: Vec<Record>,
    /// Where segments hold half a record: some of its sectors came to the disk, and the rest of its write did not.
    torn: Vec<(u32, Arc<dyn DiskFile>, u64)>,
    /// Where the last segment ends without them.
    end: u64,
}

fn numbers(spool: &Spool) -> io::Result<Vec<u32>> {
    let listed = spool.disk.list(&spool.dir)?;
    let mut numbers: Vec<u32> = listed.iter().filter_map(|path| segment_number(path)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The format that a segment says it has, and where it says that the one before it ended.
fn schema(file: &dyn DiskFile, number: u32) -> io::Result<Option<(u32, u32)>> {
    let Step::Record(found) = Scan::head(file, number)?.next()? else { return Ok(None) };
    if found.header.kind != Kind::Schema {
        return Ok(None);
    }
    // The format stands first, so that any later schema can be told by it.
    let format = postcard::take_from_bytes::<u32>(&found.payload).map_or(u32::MAX, |(format, _)| format);
    let previous = postcard::from_bytes::<Schema>(&found.payload).map_or(0, |schema| schema.previous);
    Ok(Some((format, previous)))
}

/// The end of a segment: how many groups it has, and the last of them.
struct End {
    groups: usize,
    last: Vec<Found>,
    /// Where octets of the last group are no record: of a write that was under way, any part may have come to the disk.
    bad: Option<u64>,
    at: u64,
    /// What follows `at` is not merely unwritten.
    torn: bool,
}

impl End {
    /// Whether all of the segment before was synced when something of this one was written. The first group of a segment
    /// that recovery made says nothing of that: it is what may not have been synced, once more.
    fn proves_the_one_before(&self) -> bool {
        let new = |found: &Found| {
            found.header.flags & AGAIN == 0 && !matches!(found.header.kind, Kind::Schema | Kind::Forwarded)
        };
        self.groups > 1 || self.last.iter().any(new)
    }
}

fn end(file: &dyn DiskFile, number: u32) -> io::Result<End> {
    let mut scan = Scan::new(file, number, 0)?;
    let mut end = End { groups: 0, last: Vec::new(), bad: None, at: 0, torn: false };
    loop {
        match scan.next()? {
            Step::Record(found) => {
                if found.header.flags & FIRST != 0 {
                    end.groups += 1;
                    end.last.clear();
                    // All before it was synced: that is damage.
                    end.bad = None;
                }
                end.last.push(found);
            }
            Step::Bad { from } => end.bad = end.bad.or(Some(from)),
            Step::End { at, torn } => {
                (end.at, end.torn) = (at, torn);
                return Ok(end);
            }
        }
    }
}

/// What may never have been synced: the last group written. A segment with nothing in it but what recovery copied says nothing
/// of the one before it, so that one's last group is part of it too. The last segment is cut at its end.
fn tail(spool: &Spool, segments: &[(u32, Arc<dyn DiskFile>)]) -> io::Result<Tail> {
    let mut tail = Tail::default();
    for (at, (number, file)) in segments.iter().rev().enumerate() {
        let end = end(&**file, *number)?;
        if at == 0 && end.at < file.size()? {
            if end.torn {
                said_torn(*number, end.at);
            }
            file.cut(end.at)?;
            // A second power cut must not bring back what was cut off: with records behind it, it would pass for damage.
            file.sync()?;
            spool.add_segment(*number, Segment { file: Arc::clone(file), size: end.at, end: None });
        }
        let (mut records, torn) = whole(&**file, &end)?;
        records.append(&mut tail.records);
        tail.records = records;
        if at == 0 {
            tail.end = torn.unwrap_or(end.at);
        }
        tail.torn.extend(torn.map(|at| (*number, Arc::clone(file), at)));
        if end.proves_the_one_before() {
            break;
        }
    }
    tail.records.retain(|record| !matches!(record.header.kind, Kind::Schema | Kind::Mark | Kind::Forwarded));
    Ok(tail)
}

/// The records of the last group that count, and where it has its first hole.
///
/// What stands behind a hole was decided when what is lost there had happened. Whole messages and words on one leg count all the
/// same; that a message has ended, or all that became of it, may rest on what is lost, and does not.
fn whole(file: &dyn DiskFile, end: &End) -> io::Result<(Vec<Record>, Option<u64>)> {
    let complete = end.last.iter().any(|found| found.header.kind == Kind::Forwarded);
    let (mut records, mut hole) = (Vec::new(), end.bad);
    for found in &end.last {
        let Some(mut record) = reread(file, found)? else {
            hole = Some(hole.map_or(found.offset, |at| at.min(found.offset)));
            continue;
        };
        let behind = hole.is_some_and(|hole| hole < found.offset);
        if behind {
            record.header.flags |= ALONE;
        }
        let rests = behind && matches!(found.header.kind, Kind::Done | Kind::Stand);
        if !rests && (complete || found.header.flags & AGAIN == 0) {
            records.push(record);
        }
    }
    Ok((records, hole))
}

/// It is no alarm: it is what a power cut leaves. But damage there cannot be told from that, so nothing goes unsaid.
fn said_torn(segment: u32, at: u64) {
    tracing::warn!(segment, at, "what was being written when the process ended is cut off");
}

/// A record as it was read back, to be written once more; `None` where its body is not what was to be written.
fn reread(file: &dyn DiskFile, found: &Found) -> io::Result<Option<Record>> {
    let mut body = vec![0; found.header.body as usize];
    read_exact_at(file, &mut body, found.body_at())?;
    if found.header.flags & DAMAGED == 0 && crc32c::crc32c(&body) != found.header.body_crc {
        return Ok(None);
    }
    let mut header = found.header;
    header.flags = AGAIN | (header.flags & (ALONE | DAMAGED));
    Ok(Some(Record { header, payload: found.payload.clone(), body: body.into() }))
}

/// Makes the next segment, with the tail in it, synced. Only then are torn records cut off, and with them what follows
/// them in their group, which is in the tail if it is whole. The mark comes last: until it is there, the next start
/// looks at the same tail again. It is synced, for what is written behind it says so.
fn forward(spool: &Spool, number: u32, tail: Tail) -> io::Result<Head> {
    let Tail { mut records, torn, end } = tail;
    let mut head = Head::create(spool, number, end)?;
    failpoint::pass(Failpoint::RecoverMade);
    let mut complete = bare(Kind::Forwarded)?;
    let mut records: Vec<&mut Record> = records.iter_mut().chain([&mut complete]).collect();
    head.write(spool, &mut records)?;
    failpoint::pass(Failpoint::RecoverCopied);
    for (segment, file, at) in torn {
        said_torn(segment, at);
        file.cut(at)?;
        file.sync()?;
        spool.add_segment(segment, Segment { file, size: at, end: None });
    }
    head.write(spool, &mut [&mut bare(Kind::Mark)?])?;
    failpoint::pass(Failpoint::RecoverMarked);
    Ok(head)
}

/// The schema begins with its format for all time.
const _: fn(&Schema) -> u32 = |schema| schema.format;
