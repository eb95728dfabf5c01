//! Whether an identifier (d= of a signature, the reverse-path's domain) is aligned with the author's, as receivers of RFC 9989
//! and those of the older reading decide it. Strict means equal: the one program that lets a name below pass is not followed.

use super::dmarc::{self, Reading, Readings};
use super::dmarc_record::Mode;
use super::facts::{Picture, Walk};
use crate::mail::address::Domain;

/// Which identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// `d=`.
    Dkim,
    /// What SPF was evaluated at.
    Spf,
}

/// Whether it is aligned, under each reading; `None`: DNS has not said what is needed to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// RFC 9989.
    pub walk: Option<bool>,
    /// RFC 7489.
    pub suffix: Option<bool>,
}

impl Alignment {
    /// Under both readings.
    #[must_use]
    pub fn holds(self) -> Option<bool> {
        match (self.walk, self.suffix) {
            (Some(true), Some(true)) => Some(true),
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, _) | (_, None) => None,
        }
    }
}

impl Reading {
    /// How this identifier must align.
    #[must_use]
    pub fn mode(&self, which: Identifier) -> Mode {
        match which {
            Identifier::Dkim => self.adkim,
            Identifier::Spf => self.aspf,
        }
    }
}

/// Whether `identifier` is aligned with `author`, whose DMARC reads as `readings` (`None`: DNS was silent).
#[must_use]
pub fn alignment(
    identifier: &Picture,
    author: &Domain,
    readings: Option<&Readings>,
    which: Identifier,
) -> Alignment {
    let name = &identifier.domain;
    if name == author {
        return Alignment { walk: Some(true), suffix: Some(true) };
    }
    let related = dmarc::registered(name.as_str()) == dmarc::registered(author.as_str());
    let Some(readings) = readings else {
        // Whatever the mode, names of two owners never align; names of one owner do unless it is strict.
        let suffix = (!related).then_some(false);
        return Alignment { walk: None, suffix };
    };
    let walk = identifier.dmarc.as_ref().map(|known| &known.value);
    Alignment {
        walk: by_walk(name, walk, &readings.walk, which, related),
        suffix: Some(readings.suffix.mode(which) == Mode::Relaxed && related),
    }
}

/// RFC 9989 section 4.10.2: the same organizational domain. Without a record that applies there is none to speak of; mailbox
/// providers then still compare organizations, by the list.
fn by_walk(
    name: &Domain,
    walk: Option<&Walk>,
    author: &Reading,
    which: Identifier,
    related: bool,
) -> Option<bool> {
    if author.source.is_none() {
        return Some(related);
    }
    match author.mode(which) {
        Mode::Strict => Some(false),
        Mode::Relaxed => walk.map(|walk| dmarc::organization(name, walk) == author.organization),
    }
}
