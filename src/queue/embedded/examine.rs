//! What a part of the journal holds, without a queue around it: for the fuzzer, which feeds octets that nobody wrote.

use std::io;

use serde::de::DeserializeOwned;

use super::record::{Accepted, Copied, Grave, HEADER, Kind, MemoHead, Note, Schema, Standing};
use super::scan::{Found, Scan, Step};
use crate::fsx::DiskFile;

/// The fewest octets of a record.
pub const RECORD_MIN: usize = HEADER;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whole records.
    pub records: usize,
    /// Those of them whose payload says something.
    pub readable: usize,
    /// Places that hold no record, with records behind them, or at the end.
    pub damaged: usize,
}

/// Reads a segment as recovery does, as if it were the first.
///
/// # Errors
/// Whatever the file system said.
pub fn segment(file: &dyn DiskFile) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut scan = Scan::new(file, 1, 0)?;
    loop {
        match scan.next()? {
            Step::Record(found) => {
                seen.records += 1;
                seen.readable += usize::from(is_readable(&found));
            }
            Step::Bad { .. } => seen.damaged += 1,
            Step::End { torn, .. } => {
                seen.damaged += usize::from(torn);
                return Ok(seen);
            }
        }
    }
}

fn is_readable(found: &Found) -> bool {
    fn reads<T: DeserializeOwned>(payload: &[u8]) -> bool {
        postcard::from_bytes::<T>(payload).is_ok()
    }
    let payload = found.payload.as_slice();
    match found.header.kind {
        Kind::Schema => reads::<Schema>(payload),
        Kind::Accept => reads::<Accepted>(payload),
        Kind::Copy => reads::<Copied>(payload),
        Kind::Stand => reads::<Standing>(payload),
        Kind::Note => reads::<Note>(payload),
        Kind::Done => reads::<Grave>(payload),
        Kind::Memo => reads::<MemoHead>(payload),
        Kind::Mark | Kind::Forwarded => true,
    }
}
