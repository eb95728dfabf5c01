//! Command lines: where one ends, which verb it is, and what its argument says. Octets in, types out; no I/O.

use bytes::{Buf, BytesMut};

/// RFC 5321 section 4.5.3.1.4: a command line with its CRLF.
pub const LINE_MAX: usize = 512;
/// MAIL and RCPT: 512, and what the extensions add (RFC 1870, 3461, 4954, 6152, 6531, 6710, 2852: together less than 1,500).
pub const PATH_LINE_MAX: usize = 2048;
/// RFC 4954 section 4: an AUTH line or a response to a challenge.
pub const AUTH_LINE_MAX: usize = 12_288;
/// RFC 5321 section 4.5.3.1.2, for the name in EHLO.
const NAME_MAX: usize = 255;

/// Finds lines in what has been read. Only CRLF ends one (RFC 5321 section 2.3.8).
#[derive(Debug, Default)]
pub struct Lines {
    /// Octets of the buffer known to hold no LF.
    scanned: usize,
    /// Dropping what follows a fault, up to the next CRLF.
    skipping: bool,
}

/// What the buffer begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Not yet a whole line.
    More,
    /// A line of so many octets, CRLF included.
    Line(usize),
    /// More octets than such a line may have. The rest of it is dropped, as it comes.
    TooLong(Verb),
    /// An LF without CR. What follows up to the next CRLF belongs to the same bad line and is dropped, so that nothing
    /// behind a bare LF is ever taken for a command.
    BareLf(Verb),
    /// A TLS record on a clear text connection. No command begins with octet 22.
    Tls,
}

impl Lines {
    /// Looks for a line; `auth` says that a response to a challenge is expected. Faults are consumed here, a line is
    /// left for the caller to consume.
    pub fn find(&mut self, input: &mut BytesMut, auth: bool) -> Found {
        if self.skipping && !self.skip(input) {
            return Found::More;
        }
        if input.first() == Some(&22) {
            return Found::Tls;
        }
        let max = if auth { AUTH_LINE_MAX } else { longest(input) };
        let reach = input.len().min(max);
        let fresh = input.get(self.scanned..reach).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', fresh).map(|at| at + self.scanned) else {
            if reach < max {
                self.scanned = reach;
                return Found::More;
            }
            return self.fault(input, reach, Found::TooLong(Self::verb(input, auth)));
        };
        self.scanned = 0;
        match at.checked_sub(1).and_then(|before| input.get(before)) {
            Some(b'\r') => Found::Line(at + 1),
            _ => self.fault(input, at + 1, Found::BareLf(Self::verb(input, auth))),
        }
    }

    /// What a faulty line began with, as far as it decides the answer.
    fn verb(input: &[u8], auth: bool) -> Verb {
        match input.get(..5) {
            _ if auth => Verb::Auth,
            Some(head) if head.eq_ignore_ascii_case(b"AUTH ") => Verb::Auth,
            Some(head) if head.eq_ignore_ascii_case(b"BDAT ") => Verb::Bdat,
            _ => Verb::Unknown,
        }
    }

    /// Drops `drop` octets and goes on dropping until CRLF. A CR at the edge stays, for its LF may follow.
    fn fault(&mut self, input: &mut BytesMut, drop: usize, found: Found) -> Found {
        self.scanned = 0;
        self.skipping = true;
        let edge = input.get(drop.saturating_sub(1)) == Some(&b'\r');
        input.advance(drop - usize::from(edge));
        found
    }

    /// Drops up to and with the next CRLF; whether it was found.
    fn skip(&mut self, input: &mut BytesMut) -> bool {
        if let Some(at) = memchr::memmem::find(input, b"\r\n") {
            input.advance(at + 2);
            self.skipping = false;
            return true;
        }
        let keep = usize::from(input.last() == Some(&b'\r'));
        input.advance(input.len() - keep);
        false
    }
}

/// The longest line that may begin like this. While it could still become a longer kind it is held to the shorter one,
/// which four octets settle.
fn longest(head: &[u8]) -> usize {
    match head.get(..4) {
        Some(verb) if verb.eq_ignore_ascii_case(b"AUTH") => AUTH_LINE_MAX,
        Some(verb) if verb.eq_ignore_ascii_case(b"MAIL") || verb.eq_ignore_ascii_case(b"RCPT") => {
            PATH_LINE_MAX
        }
        _ => LINE_MAX,
    }
}

/// The first word of a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Quit,
    Help,
    Vrfy,
    Auth,
    StartTls,
    /// Known to SMTP and not done here: EXPN, ETRN, TURN, ATRN, SEND, SOML, SAML, XCLIENT, XFORWARD.
    Refused,
    /// Another protocol's first word: a browser or a proxy was pointed at this port (ALPACA, and PROXY of HAProxy).
    Foreign,
    /// Nothing we know.
    Unknown,
}

const VERBS: [(&str, Verb); 32] = [
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("QUIT", Verb::Quit),
    ("HELP", Verb::Help),
    ("VRFY", Verb::Vrfy),
    ("AUTH", Verb::Auth),
    ("STARTTLS", Verb::StartTls),
    ("EXPN", Verb::Refused),
    ("ETRN", Verb::Refused),
    ("TURN", Verb::Refused),
    ("ATRN", Verb::Refused),
    ("SEND", Verb::Refused),
    ("SOML", Verb::Refused),
    ("SAML", Verb::Refused),
    ("XCLIENT", Verb::Refused),
    ("XFORWARD", Verb::Refused),
    ("GET", Verb::Foreign),
    ("POST", Verb::Foreign),
    ("PUT", Verb::Foreign),
    ("HEAD", Verb::Foreign),
    ("OPTIONS", Verb::Foreign),
    ("DELETE", Verb::Foreign),
    ("PATCH", Verb::Foreign),
    ("CONNECT", Verb::Foreign),
    ("PROXY", Verb::Foreign),
    ("PRI", Verb::Foreign),
];

/// The verb of a line (without CRLF), in any case, and what follows its space. `None`: control characters or broken
/// UTF-8, which no command holds.
#[must_use]
pub fn split(line: &[u8]) -> Option<(Verb, &str)> {
    if line.iter().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let known = VERBS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    Some((known.map_or(Verb::Unknown, |(_, verb)| *verb), rest.trim_matches(' ')))
}

/// The name in EHLO or HELO. Container names, literals and underscores are welcome; spaces
/// and octets outside printable ASCII are not.
#[must_use]
pub fn name(rest: &str) -> Option<&str> {
    let sound =
        !rest.is_empty() && rest.len() <= NAME_MAX && rest.bytes().all(|byte| byte.is_ascii_graphic());
    sound.then_some(rest)
}

/// What BDAT announces (RFC 3030 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Octets that follow the CRLF.
    pub octets: u64,
    /// `LAST`, nothing, or something else.
    pub last: Option<bool>,
}

/// Reads BDAT's argument; `None` if the number of octets is unknown, so that nothing after it can be understood.
#[must_use]
pub fn chunk(rest: &str) -> Option<Chunk> {
    let mut words = rest.split(' ').filter(|word| !word.is_empty());
    let size = words.next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))?;
    let octets = size.parse().ok()?;
    let last = match (words.next(), words.next()) {
        (None, _) => Some(false),
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => Some(true),
        _ => None,
    };
    Some(Chunk { octets, last })
}

#[cfg(test)]
mod tests;
