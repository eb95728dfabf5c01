//! SMTP replies: those we give (`Reply`) and those that remote servers give us (`PeerReply`).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest reply line with its CRLF (RFC 5321 section 4.5.3.1.5).
pub const REPLY_LINE_MAX: usize = 512;

/// An enhanced status code (RFC 3463), such as 5.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What we answer a client: a code, an enhanced code on every line, and what happened and what to do, in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// RFC 2034: repeated on every line; absent in the greeting, EHLO, 334 and 354.
    pub enhanced: Option<Enhanced>,
    /// The text, a line each, without code and CRLF; never empty.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line (or several, parted by `\n`) with an enhanced code.
    #[must_use]
    pub fn new(code: u16, enhanced: Enhanced, text: impl Into<String>) -> Self {
        let lines = text.into().split('\n').map(str::to_owned).collect();
        Self { code, enhanced: Some(enhanced), lines }
    }

    /// A reply without an enhanced code (220, 334, 354, EHLO's 250).
    #[must_use]
    pub fn bare(code: u16, text: impl Into<String>) -> Self {
        let lines = text.into().split('\n').map(str::to_owned).collect();
        Self { code, enhanced: None, lines }
    }

    /// 2xx or 3xx.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// Appends the reply as it goes out: continuation dashes, CRLF, no line over 512 octets, nothing but printable
    /// text (control characters become `?`, so no reply can smuggle a line).
    pub fn write(&self, out: &mut Vec<u8>) {
        let lead = self.enhanced.map_or(4, |code| 5 + code.to_string().len());
        let room = REPLY_LINE_MAX - 2 - lead;
        let pieces: Vec<String> = self.lines.iter().flat_map(|line| fold(line, room)).collect();
        let last = pieces.len().saturating_sub(1);
        for (at, piece) in pieces.iter().enumerate() {
            let dash = if at == last { ' ' } else { '-' };
            let line = match self.enhanced {
                Some(code) => format!("{}{dash}{code} {piece}\r\n", self.code),
                None => format!("{}{dash}{piece}\r\n", self.code),
            };
            out.extend_from_slice(line.as_bytes());
        }
    }
}

/// Cuts a line into pieces of at most `room` octets, at spaces where there are any; a character is never torn.
fn fold(line: &str, room: usize) -> Vec<String> {
    let clean: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut pieces = Vec::new();
    let mut rest = clean.as_str();
    while rest.len() > room {
        let hard = (1..=room).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(room);
        let head = rest.get(..hard).unwrap_or(rest);
        let cut = head.rfind(' ').filter(|at| *at > 0).unwrap_or(hard);
        let (piece, tail) = rest.split_at_checked(cut).unwrap_or((rest, ""));
        pieces.push(piece.to_owned());
        rest = tail.trim_start_matches(' ');
    }
    pieces.push(rest.to_owned());
    pieces
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(code) = self.enhanced {
            write!(f, " {code}")?;
        }
        write!(f, " {}", self.lines.join(" "))
    }
}

/// What a remote server answered: opaque bytes with a code. Bounded where it is read, escaped where a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReply {
    /// The three digits; 0 where no reply came (the text then says what happened, in our words).
    pub code: u16,
    /// The enhanced code of its last line, if it began with one of the same class.
    pub enhanced: Option<Enhanced>,
    /// The lines without codes, joined by `\n`, at most 4 KiB.
    pub text: Vec<u8>,
}

impl PeerReply {
    /// For what we found out ourselves without a reply: `connection refused`, `no MX`.
    #[must_use]
    pub fn local(enhanced: Enhanced, text: impl Into<String>) -> Self {
        Self { code: 0, enhanced: Some(enhanced), text: text.into().into_bytes() }
    }

    /// The text for a person or a log: control characters and broken UTF-8 escaped as `\x..`, lines joined by a space.
    #[must_use]
    pub fn escaped(&self) -> String {
        let mut shown = String::with_capacity(self.text.len());
        for chunk in self.text.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\n' => shown.push(' '),
                    c if c.is_control() => shown.extend(c.escape_default()),
                    c => shown.push(c),
                }
            }
            for byte in chunk.invalid() {
                shown.push_str(&format!("\\x{byte:02x}"));
            }
        }
        shown
    }
}
