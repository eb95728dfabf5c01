//! Opening the journal: the torn end is cut, what may not have been synced is copied forward and synced before it is
//! trusted, and writing goes on in a new segment. Reads the ends of the last segments only; the index reads the rest.

use std::cmp::Ordering;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::OpenError;
use super::commit::{Head, bare};
use super::record::{AGAIN, FIRST, FORMAT, Kind, Record, Schema};
use super::scan::{Found, Scan, Step};
use super::spool::{Segment, Spool, segment_number};
use crate::fsx::{DiskFile, read_exact_at};

/// Opens what is there and answers the segment to go on in.
pub(super) fn open(spool: &Spool) -> Result<Head, OpenError> {
    let fail = |error: io::Error| OpenError::Io(spool.dir.clone(), error);
    let numbers = numbers(&spool.dir).map_err(fail)?;
    let mut segments = Vec::new();
    for number in &numbers {
        let path = spool.path(*number);
        let file: Arc<dyn DiskFile> = Arc::from(spool.disk.open(&path).map_err(fail)?);
        let format = format(&*file).map_err(fail)?.unwrap_or(FORMAT);
        match format.cmp(&FORMAT) {
            Ordering::Less => return Err(OpenError::Older(path, format, FORMAT)),
            Ordering::Greater => return Err(OpenError::Newer(path, format, FORMAT)),
            Ordering::Equal => segments.push((*number, file)),
        }
    }
    for (number, file) in &segments {
        let size = file.size().map_err(fail)?;
        spool.add_segment(*number, Segment { file: Arc::clone(file), size });
    }
    let tail = tail(spool, &segments).map_err(fail)?;
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    forward(spool, next, tail).map_err(fail)
}

/// What may never have been synced.
#[derive(Default)]
struct Tail {
    /// The records that are whole, oldest first.
    records: Vec<Record>,
    /// Where segments hold a record with half a body: its header came to the disk, and the rest of its write did not.
    torn: Vec<(u32, Arc<dyn DiskFile>, u64)>,
}

fn numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        numbers.extend(segment_number(&entry?.path()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The format that a segment says it has.
fn format(file: &dyn DiskFile) -> io::Result<Option<u32>> {
    let Step::Record(found) = Scan::new(file, 0)?.next()? else { return Ok(None) };
    if found.header.kind != Kind::Schema {
        return Ok(None);
    }
    // The format stands first, so that any later schema can be told by it.
    Ok(postcard::take_from_bytes::<u32>(&found.payload).ok().map(|(format, _)| format).or(Some(u32::MAX)))
}

/// The end of a segment: how many groups it has, and the last of them.
struct End {
    groups: usize,
    last: Vec<Found>,
    at: u64,
}

fn end(file: &dyn DiskFile) -> io::Result<End> {
    let mut scan = Scan::new(file, 0)?;
    let mut end = End { groups: 0, last: Vec::new(), at: 0 };
    loop {
        match scan.next()? {
            Step::Record(found) => {
                if found.header.flags & FIRST != 0 {
                    end.groups += 1;
                    end.last.clear();
                }
                end.last.push(found);
            }
            Step::Bad { .. } => {}
            Step::End { at, .. } => {
                end.at = at;
                return Ok(end);
            }
        }
    }
}

/// What may never have been synced: the last group written. A segment with one group only says nothing of the one before
/// it, so that one's last group is part of it too. The last segment is cut at its end.
fn tail(spool: &Spool, segments: &[(u32, Arc<dyn DiskFile>)]) -> io::Result<Tail> {
    let mut tail = Tail::default();
    for (at, (number, file)) in segments.iter().rev().enumerate() {
        let end = end(&**file)?;
        if at == 0 && end.at < file.size()? {
            file.cut(end.at)?;
            spool.add_segment(*number, Segment { file: Arc::clone(file), size: end.at });
        }
        let complete = end.last.iter().any(|found| found.header.kind == Kind::Forwarded);
        let counts = |found: &&Found| complete || found.header.flags & AGAIN == 0;
        let (mut records, mut torn) = (Vec::new(), None);
        for found in &end.last {
            match reread(&**file, found)? {
                Some(record) if counts(&found) => records.push(record),
                Some(_) => {}
                None => torn = torn.or(Some(found.offset)),
            }
        }
        records.append(&mut tail.records);
        tail.records = records;
        tail.torn.extend(torn.map(|at| (*number, Arc::clone(file), at)));
        if end.groups > 1 {
            break;
        }
    }
    tail.records.retain(|record| !matches!(record.header.kind, Kind::Schema | Kind::Mark | Kind::Forwarded));
    Ok(tail)
}

/// A record as it was read back, to be written once more; `None` where its body is not what was to be written.
fn reread(file: &dyn DiskFile, found: &Found) -> io::Result<Option<Record>> {
    let mut body = vec![0; found.header.body as usize];
    read_exact_at(file, &mut body, found.body_at())?;
    if crc32c::crc32c(&body) != found.header.body_crc {
        return Ok(None);
    }
    let mut header = found.header;
    header.flags = AGAIN;
    Ok(Some(Record { header, payload: found.payload.clone(), body: body.into() }))
}

/// Makes the next segment, with the tail in it, synced. Only then are torn records cut off, and with them what follows
/// them in their group, which is in the tail if it is whole. The mark comes last: until it is there, the next start
/// looks at the same tail again.
fn forward(spool: &Spool, number: u32, tail: Tail) -> io::Result<Head> {
    let Tail { mut records, torn } = tail;
    let mut head = Head::create(spool, number)?;
    let mut complete = bare(Kind::Forwarded)?;
    let mut records: Vec<&mut Record> = records.iter_mut().chain([&mut complete]).collect();
    head.write(spool, &mut records)?;
    for (segment, file, at) in torn {
        tracing::warn!(segment, at, "a record that was being written when the process ended is cut off");
        file.cut(at)?;
        file.sync()?;
        spool.add_segment(segment, Segment { file, size: at });
    }
    head.append(&mut [&mut bare(Kind::Mark)?])?;
    Ok(head)
}

/// The schema begins with its format for all time.
const _: fn(&Schema) -> u32 = |schema| schema.format;
