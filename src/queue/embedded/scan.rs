//! Reads a segment from front to back, steps over bodies, and goes on behind what is damaged.

use std::collections::BTreeSet;
use std::io;

use memchr::memmem::Finder;
use rustix::io::Errno;

use super::record::{HEADER, Header, MAGIC, Origin};
use crate::fsx::{DiskFile, read_exact_at};

/// Octets read at once. Most records are smaller than this; a body that is larger is stepped over unread.
const CHUNK: usize = 1 << 20;
/// The same where only the records themselves are wanted, and most bodies are to be stepped over unread.
const SPARSE: usize = 8 << 10;

/// What a lenient scan takes for damaged at once where the disk cannot read.
const PAGE: u64 = 4096;
/// So many of these in a segment are no bad spot any more, but a disk that is gone: nothing is concluded from it.
const UNREADABLE_MAX: usize = 64;
/// What unreadable octets are taken for: not those of a record, nor for unwritten.
const UNREADABLE: u8 = 0xff;

/// A record that a scan found. Payload checked, body not.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
}

impl Found {
    /// Where its body begins.
    pub(super) fn body_at(&self) -> u64 {
        self.offset + HEADER as u64 + u64::from(self.header.payload)
    }
}

/// What stands next in a segment.
#[derive(Debug)]
pub(super) enum Step {
    /// A record.
    Record(Found),
    /// Octets that are none, with records behind them.
    Bad {
        /// From here on.
        from: u64,
    },
    /// Nothing more. `torn`: what follows `at` is not merely unwritten.
    End {
        /// The length that the segment really has.
        at: u64,
        /// Something was being written here, or was damaged.
        torn: bool,
    },
}

/// A scan of one segment.
pub(super) struct Scan<'a> {
    file: &'a dyn DiskFile,
    size: u64,
    origin: Option<Origin>,
    offset: u64,
    chunk: Vec<u8>,
    chunk_at: u64,
    chunk_size: usize,
    lenient: bool,
    unreadable: BTreeSet<u64>,
}

impl<'a> Scan<'a> {
    /// Of the segment of this number, from this offset on; 0 for all of it.
    pub(super) fn new(file: &'a dyn DiskFile, number: u32, from: u64) -> io::Result<Self> {
        Self::by(CHUNK, false, (file, number), from)
    }

    /// The same, but what the disk cannot read is stepped over like any other damage.
    pub(super) fn lenient(file: &'a dyn DiskFile, number: u32, from: u64) -> io::Result<Self> {
        Self::by(CHUNK, true, (file, number), from)
    }

    /// Of the first records of a segment, as lenient.
    pub(super) fn head(file: &'a dyn DiskFile, number: u32) -> io::Result<Self> {
        Self::by(SPARSE, true, (file, number), 0)
    }

    /// The same, reading little more than headers and payloads.
    pub(super) fn sparse(file: &'a dyn DiskFile, number: u32, from: u64) -> io::Result<Self> {
        Self::by(SPARSE, false, (file, number), from)
    }

    fn by(chunk_size: usize, lenient: bool, of: (&'a dyn DiskFile, u32), from: u64) -> io::Result<Self> {
        let ((file, number), chunk, unreadable) = (of, Vec::new(), BTreeSet::new());
        let (size, origin, offset, chunk_at) = (file.size()?, None, 0, 0);
        let mut scan = Self { file, size, origin, offset, chunk, chunk_at, chunk_size, lenient, unreadable };
        scan.origin = scan.find_origin(number)?;
        scan.offset = from;
        Ok(scan)
    }

    /// Where the next step begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The first good header of this segment in the file has it. With the schema record damaged, that is still a record of
    /// ours: what a sender wrote stands behind the header of its own message.
    fn find_origin(&mut self, number: u32) -> io::Result<Option<Origin>> {
        let of = |bytes: &[u8], at: u64| {
            Header::decode(bytes, at).map(|(_, its)| its).filter(|its| its.segment == number)
        };
        if let Some(origin) = of(self.bytes(0, HEADER)?, 0) {
            return Ok(Some(origin));
        }
        let mut at = 0;
        let finder = Finder::new(&MAGIC).into_owned();
        while let Some(found) = self.search(&finder, at)? {
            if let Some(origin) = of(self.bytes(found, HEADER)?, found) {
                return Ok(Some(origin));
            }
            at = found + 1;
        }
        Ok(None)
    }

    /// The next step; after `End` there is none.
    pub(super) fn next(&mut self) -> io::Result<Step> {
        let from = self.offset;
        if let Some(found) = self.record(from)? {
            self.offset = from + found.header.length();
            return Ok(Step::Record(found));
        }
        if self.blank(from)? {
            return Ok(Step::End { at: from, torn: false });
        }
        match self.resume(from + 1)? {
            Some(to) => {
                self.offset = to;
                Ok(Step::Bad { from })
            }
            None => Ok(Step::End { at: from, torn: true }),
        }
    }

    fn record(&mut self, offset: u64) -> io::Result<Option<Found>> {
        let origin = self.origin;
        let Some((header, _)) =
            Header::decode(self.bytes(offset, HEADER)?, offset).filter(|(_, its)| Some(*its) == origin)
        else {
            return Ok(None);
        };
        if offset + header.length() > self.size {
            return Ok(None);
        }
        let payload = self.bytes(offset + HEADER as u64, header.payload as usize)?.to_vec();
        let good = payload.len() == header.payload as usize && crc32c::crc32c(&payload) == header.payload_crc;
        Ok(good.then_some(Found { offset, header, payload }))
    }

    /// The next good record at or behind this offset.
    fn resume(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        let Some(origin) = self.origin else { return Ok(None) };
        let mark: Vec<u8> = [&MAGIC[..], &origin.nonce.to_le_bytes()].concat();
        let finder = Finder::new(&mark).into_owned();
        while let Some(found) = self.search(&finder, at)? {
            if self.record(found)?.is_some() {
                return Ok(Some(found));
            }
            at = found + 1;
        }
        Ok(None)
    }

    fn search(&mut self, finder: &Finder<'_>, mut at: u64) -> io::Result<Option<u64>> {
        let overlap = finder.needle().len() as u64 - 1;
        while at + overlap < self.size {
            let bytes = self.bytes(at, CHUNK)?;
            if let Some(found) = finder.find(bytes) {
                return Ok(Some(at + found as u64));
            }
            at += (bytes.len() as u64).saturating_sub(overlap).max(1);
        }
        Ok(None)
    }

    /// Whether all from here on is unwritten.
    fn blank(&mut self, mut at: u64) -> io::Result<bool> {
        while at < self.size {
            let bytes = self.bytes(at, CHUNK)?;
            if bytes.iter().any(|octet| *octet != 0) {
                return Ok(false);
            }
            at += bytes.len().max(1) as u64;
        }
        Ok(true)
    }

    /// Up to this many octets from here; fewer only at the end of the file.
    fn bytes(&mut self, at: u64, want: usize) -> io::Result<&[u8]> {
        let want = want.min(usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX));
        let end = self.chunk_at + self.chunk.len() as u64;
        if at < self.chunk_at || at + want as u64 > end {
            let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
            self.chunk.resize(want.max(self.chunk_size).min(left), 0);
            self.chunk_at = at;
            match read_exact_at(self.file, &mut self.chunk, at) {
                Err(error) if self.lenient && is_unreadable(&error) => self.by_pages(at)?,
                read => read?,
            }
        }
        let from = usize::try_from(at - self.chunk_at).unwrap_or(usize::MAX);
        Ok(self.chunk.get(from..from.saturating_add(want)).unwrap_or_default())
    }

    /// Reads the chunk as far as it can be read.
    fn by_pages(&mut self, mut at: u64) -> io::Result<()> {
        let mut rest = self.chunk.as_mut_slice();
        while !rest.is_empty() {
            let length = usize::try_from(PAGE - at % PAGE).unwrap_or(usize::MAX).min(rest.len());
            let (page, behind) = rest.split_at_mut(length);
            match read_exact_at(self.file, page, at) {
                Err(error) if is_unreadable(&error) => {
                    page.fill(UNREADABLE);
                    self.unreadable.insert(at / PAGE);
                    if self.unreadable.len() > UNREADABLE_MAX {
                        return Err(error);
                    }
                }
                read => read?,
            }
            at += length as u64;
            rest = behind;
        }
        Ok(())
    }
}

fn is_unreadable(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::IO)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    /// A file of so many pages, of which the disk can read none.
    struct Gone(u64);

    impl DiskFile for Gone {
        fn write_at(&self, _: &mut [IoSlice<'_>], _: u64) -> io::Result<()> {
            Err(Errno::IO.into())
        }
        fn sync(&self) -> io::Result<()> {
            Err(Errno::IO.into())
        }
        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Err(Errno::IO.into())
        }
        fn size(&self) -> io::Result<u64> {
            Ok(self.0 * PAGE)
        }
        fn cut(&self, _: u64) -> io::Result<()> {
            Err(Errno::IO.into())
        }
    }

    #[test]
    fn from_a_disk_that_is_gone_nothing_is_concluded() {
        let most = UNREADABLE_MAX as u64;
        let gone = Gone(most);
        let mut scan = Scan::lenient(&gone, 1, 0).unwrap();
        assert!(matches!(scan.next().unwrap(), Step::End { at: 0, torn: true }));
        assert!(Scan::lenient(&Gone(most + 1), 1, 0).is_err());
        assert!(Scan::new(&Gone(1), 1, 0).is_err(), "and where nothing may be stepped over");
    }
}
