//! The body reader: end of data, dots, bare line ends, NUL and size, for DATA and BDAT alike. Each octet is looked at once
//! and copied once, into the buffer that is handed on.
//!
//! | at | after | `.` means | `LF` means |
//! |---|---|---|---|
//! | `Start` | CRLF, or nothing | maybe the end (DATA) | bare |
//! | `Line` | any other octet | a dot | bare |
//! | `Cr` | CR | a dot after a bare CR | end of line |
//! | `Dot` | CRLF `.` | a dot; the first was stuffing | bare |
//! | `DotCr` | CRLF `.` CR | a dot after a bare CR | end of data |
//!
//! Only CRLF `.` CRLF ends the data (RFC 5321 section 4.1.1.4): no other spelling ever does, whatever else is wrong
//! with the message (CVE-2023-51764). A dot is unstuffed only after CRLF, so a bare LF that is normalised later cannot
//! turn a dot into an end of data at the next hop: there it is stuffed again.

use crate::memory::{Full, Permit, READING};
use crate::tenant::BareNewlines;

/// The most that is allocated on a client's word (SIZE); the rest grows as it comes.
const RESERVE_MAX: u64 = 256 * 1024;
/// A buffer doubles as it grows, from the one of these steps up to the other.
const STEP_MIN: u64 = 8 * 1024;
const STEP_MAX: u64 = 1024 * 1024;

/// Who marks the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: a line with a dot; dots at the start of lines are stuffed.
    Dots,
    /// BDAT: the octets are counted (RFC 3030).
    Counted,
}

/// Why a body is refused at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More octets than allowed.
    TooBig,
    /// There is no memory for more of it now.
    NoMemory,
    /// A NUL octet: RFC 5322 section 3.5 has none in a body, nor has the 7bit and 8bit data of RFC 2045 sections 2.7 and 2.8.
    Nul,
    /// LF without CR.
    BareLf,
    /// CR without LF.
    BareCr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    Line,
    Cr,
    Dot,
    DotCr,
}

/// A body on its way in.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    bare: BareNewlines,
    limit: u64,
    at: At,
    octets: u64,
    fault: Option<Fault>,
    bytes: Vec<u8>,
    held: Permit,
}

impl Body {
    /// Nothing yet. `limit` is the most octets it may have; `announced` what SIZE said; `held` the memory that it may take
    /// without asking for more.
    #[must_use]
    pub fn new(
        framing: Framing,
        bare: BareNewlines,
        limit: u64,
        announced: Option<u64>,
        held: Permit,
    ) -> Self {
        let room = announced.unwrap_or(0).min(limit).min(RESERVE_MAX);
        let bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        Self { framing, bare, limit, at: At::Start, octets: 0, fault: None, bytes, held }
    }

    /// Takes octets up to the end of data: how many it took, and whether the end was among them. After the end nothing
    /// more may be given. With `Counted` all are taken and the end is never found.
    pub fn take(&mut self, input: &[u8]) -> (usize, bool) {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            if self.at == At::Line {
                used += self.line(rest);
                continue;
            }
            let (took, end) = self.edge(rest);
            used += took;
            if end {
                return (used, true);
            }
        }
        (used, false)
    }

    /// Inside a line: up to what ends it, and whole lines with it.
    fn line(&mut self, input: &[u8]) -> usize {
        let Some(at) = memchr::memchr3(b'\r', b'\n', 0, input) else {
            self.push(input);
            return input.len();
        };
        let (head, tail) = input.split_at_checked(at).unwrap_or((input, &[]));
        match tail {
            [b'\r', b'\n', ..] => {
                self.push(input.get(..at + 2).unwrap_or(input));
                self.at = At::Start;
                return at + 2;
            }
            [b'\r', ..] => {
                self.push(head);
                self.at = At::Cr;
            }
            [b'\n', ..] => {
                self.push(head);
                self.bare(Fault::BareLf);
            }
            _ => {
                self.push(head);
                self.refuse(Fault::Nul);
            }
        }
        at + 1
    }

    /// Around a line's end: one octet, or none when it belongs to the line.
    fn edge(&mut self, input: &[u8]) -> (usize, bool) {
        let byte = input.first().copied().unwrap_or_default();
        match (self.at, byte) {
            (At::Start, b'.') if self.framing == Framing::Dots => self.at = At::Dot,
            (At::Dot, b'\r') => self.at = At::DotCr,
            (At::DotCr, b'\n') => return (1, true),
            (At::Cr, b'\n') => {
                self.push(b"\r\n");
                self.at = At::Start;
            }
            (At::Cr | At::DotCr, _) => {
                self.bare(Fault::BareCr);
                return (0, false);
            }
            // RFC 5321 section 4.5.2: the first dot of a longer line goes. It was never pushed.
            (At::Start | At::Dot | At::Line, _) => {
                self.at = At::Line;
                return (0, false);
            }
        }
        (1, false)
    }

    fn push(&mut self, octets: &[u8]) {
        self.octets = self.octets.saturating_add(octets.len() as u64);
        if self.octets > self.limit {
            self.refuse(Fault::TooBig);
        }
        if self.fault.is_none() && self.make_room(octets.len()).is_err() {
            self.refuse(Fault::NoMemory);
        }
        if self.fault.is_none() {
            self.bytes.extend_from_slice(octets);
        }
    }

    /// Room for so many octets more. The permit covers what the buffer has room for, not only what is in it.
    fn make_room(&mut self, more: usize) -> Result<(), Full> {
        let (length, capacity) = (self.bytes.len(), self.bytes.capacity() as u64);
        let needed = (length + more) as u64;
        if needed <= capacity {
            return Ok(());
        }
        let step = capacity.clamp(STEP_MIN, STEP_MAX);
        let room = needed.max((capacity + step).min(self.limit));
        self.held.grow_to(READING.saturating_add(room))?;
        self.bytes.reserve_exact(usize::try_from(room).map_err(|_| Full)? - length);
        Ok(())
    }

    fn bare(&mut self, fault: Fault) {
        self.at = At::Line;
        match self.bare {
            BareNewlines::Refuse => self.refuse(fault),
            BareNewlines::Normalize => self.push(b"\r\n"),
        }
    }

    /// From here on the octets are only read past. Too big is said before all else, for it is what a sender can act on.
    fn refuse(&mut self, fault: Fault) {
        if self.fault.is_none() || fault == Fault::TooBig {
            self.fault = Some(fault);
        }
        self.bytes = Vec::new();
        self.held.settle_at(READING);
    }

    /// What is wrong so far: a chunk can be refused before the last one.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Octets so far, unstuffed.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.octets
    }

    /// The whole body, and the memory it takes. One that does not end with CRLF (only BDAT can bring it) gets one, before
    /// anything is sealed.
    ///
    /// # Errors
    /// What was wrong with it.
    pub fn finish(mut self) -> Result<(Vec<u8>, Permit), Fault> {
        if self.at == At::Cr {
            self.bare(Fault::BareCr);
        }
        if !self.bytes.is_empty() && !self.bytes.ends_with(b"\r\n") {
            self.push(b"\r\n");
        }
        self.held.settle_at(READING.saturating_add(self.bytes.capacity() as u64));
        self.fault.map_or(Ok((self.bytes, self.held)), Err)
    }
}

#[cfg(test)]
mod tests;
