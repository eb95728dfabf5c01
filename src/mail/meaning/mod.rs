//! What a reply means: the cause behind a refusal, and what to do about it. Pure tables: the provider's own, found by the
//! host that answered or else by the words, then the general one.
//!
//! Providers do not keep to the registry of enhanced codes: Google uses X.7.27 for SPF where IANA has a null MX, answers
//! `421 5.7.32` with two classes in one line, and says with one code what is three causes. So the words decide first, then the
//! code within the provider's table, then the registry. None of it touches when mail is tried again: that follows the three
//! digits alone (`deliver::outcome`).

mod apple;
mod general;
mod google;
mod local;
mod microsoft;
mod provider;
mod reason;
mod upstream;
mod yahoo;

#[cfg(test)]
#[path = "tables/meanings.rs"]
mod tables;

use self::provider::Provider;
pub use self::reason::{Reason, Whose};
use super::reply::{Enhanced, PeerReply};

/// Octets of a reply that are looked at; causes stand at its beginning, and nobody may make us search for long.
const LOOKED_AT: usize = 1024;

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// The cause.
    pub reason: Reason,
    /// Whose job it is.
    pub whose: Whose,
    /// What to do: a sentence that begins with a verb, without a full stop.
    pub advice: &'static str,
}

impl Meaning {
    /// The cause as it usually is.
    #[must_use]
    pub fn of(reason: Reason) -> Self {
        Self { reason, whose: reason.whose(), advice: reason.advice() }
    }

    /// Of a reply that was no success, from this host. Code 0: our own words.
    #[must_use]
    pub fn of_reply(host: Option<&str>, reply: &PeerReply) -> Self {
        let text = String::from_utf8_lossy(reply.text.get(..LOOKED_AT).unwrap_or(&reply.text));
        Self::of_words(host, reply.code, reply.enhanced, &text)
    }

    /// The same, of what was kept of a reply.
    #[must_use]
    pub fn of_words(host: Option<&str>, code: u16, enhanced: Option<Enhanced>, text: &str) -> Self {
        let words = Words::new(enhanced, text);
        if code == 0 {
            return Self::of(local::reason(enhanced));
        }
        let known = Provider::of(host, &words.text);
        let special = known.and_then(|provider| find(provider.rows(), &words));
        let found = special.or_else(|| find(general::ROWS, &words));
        match found {
            Some(row) => row.meaning(),
            None => Self::of(general::by_code(code, words.detail)),
        }
    }
}

/// Of what there is too much, in a provider's own words; the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Excess {
    /// Mail of the sending domain, or like this one, from wherever it comes.
    Sender,
    /// Mail at this moment: a little slower will do.
    Haste,
    /// Mail from the address that it leaves from, whosever it is.
    Address,
}

/// Of what this host's provider says that we send too much. Only of a provider known by its host: what a server passes on of
/// another's words says nothing of itself.
#[must_use]
pub fn excess(host: Option<&str>, reply: &PeerReply) -> Option<Excess> {
    if !(400..500).contains(&reply.code) {
        return None;
    }
    let provider = Provider::of_host(host)?;
    let text = String::from_utf8_lossy(reply.text.get(..LOOKED_AT).unwrap_or(&reply.text));
    find(provider.rows(), &Words::new(reply.enhanced, &text))?.excess
}

/// A reply as the tables look at it.
struct Words {
    /// Subject and detail of the enhanced code. Its class is not looked at: it must be that of the three digits, and is not
    /// always.
    detail: Option<(u16, u16)>,
    /// In lower case, without enhanced codes, spaces single.
    text: String,
}

impl Words {
    fn new(enhanced: Option<Enhanced>, text: &str) -> Self {
        let mut detail = enhanced.map(|code| (code.1, code.2));
        let mut plain = String::with_capacity(text.len().min(LOOKED_AT));
        for word in text.split_ascii_whitespace() {
            if plain.len() + word.len() >= LOOKED_AT {
                break;
            }
            match enhanced_code(word) {
                Some(code) => detail = detail.or(Some(code)),
                None => {
                    plain.push_str(if plain.is_empty() { "" } else { " " });
                    plain.push_str(word);
                }
            }
        }
        plain.make_ascii_lowercase();
        Self { detail, text: plain }
    }

    /// Whether the text says this at the head of a word: queue ids are letters too, and `x1Spf` speaks of no SPF.
    fn say(&self, phrase: &str) -> bool {
        let heads_word = |at: usize| {
            let before = self.text.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(char::is_alphanumeric)
        };
        let bare = !phrase.starts_with(char::is_alphanumeric);
        self.text.match_indices(phrase).any(|(at, _)| bare || heads_word(at))
    }
}

/// `5.7.26` stands at the head of each line of a reply; an address has four parts.
fn enhanced_code(word: &str) -> Option<(u16, u16)> {
    let mut parts = word.trim_start_matches('#').trim_end_matches([':', ',', '-', ';']).split('.');
    let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |part: &str| part.parse::<u16>().ok().filter(|number| *number < 1000);
    let sound = parts.next().is_none() && matches!(class, "2" | "4" | "5");
    sound.then_some((number(subject)?, number(detail)?))
}

/// A line of a provider's table.
struct Row {
    code: Detail,
    /// All of these stand in the text.
    words: &'static [&'static str],
    reason: Reason,
    advice: Option<(Whose, &'static str)>,
    /// With a 4yz reply it is us who send too much, whoever the recipient is.
    excess: Option<Excess>,
}

/// Which enhanced codes a row is about, whatever their class.
#[derive(Clone, Copy)]
enum Detail {
    Any,
    /// Subject, and the details from here to there.
    Of(u16, u16, u16),
}

impl Row {
    /// These words, whatever the code: providers change their codes more often than their words.
    const fn says(words: &'static [&'static str], reason: Reason) -> Self {
        Self { code: Detail::Any, words, reason, advice: None, excess: None }
    }

    /// This code, whatever the words.
    const fn code(subject: u16, detail: u16, reason: Reason) -> Self {
        Self::codes(subject, detail, detail, reason)
    }

    /// These codes, whatever the words.
    const fn codes(subject: u16, from: u16, to: u16, reason: Reason) -> Self {
        Self { code: Detail::Of(subject, from, to), words: &[], reason, advice: None, excess: None }
    }

    /// Only with these words.
    const fn with(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    /// Here something else is to be done than usual.
    const fn advise(self, whose: Whose, advice: &'static str) -> Self {
        Self { advice: Some((whose, advice)), ..self }
    }

    /// The address that we come from sends too much there.
    const fn limits(self) -> Self {
        self.too_much(Excess::Address)
    }

    /// We send too much of this.
    const fn too_much(self, of: Excess) -> Self {
        Self { excess: Some(of), ..self }
    }

    fn fits(&self, words: &Words) -> bool {
        let code = match self.code {
            Detail::Any => true,
            Detail::Of(subject, from, to) => {
                words.detail.is_some_and(|(s, d)| s == subject && (from..=to).contains(&d))
            }
        };
        code && self.words.iter().all(|word| words.say(word))
    }

    fn meaning(&self) -> Meaning {
        match self.advice {
            Some((whose, advice)) => Meaning { reason: self.reason, whose, advice },
            None => Meaning::of(self.reason),
        }
    }
}

fn find(rows: &'static [Row], words: &Words) -> Option<&'static Row> {
    rows.iter().find(|row| row.fits(words))
}
