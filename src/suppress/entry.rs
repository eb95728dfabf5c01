//! One address that a tenant's mail no longer goes to, and why.

use serde::{Deserialize, Serialize};

use crate::config::class::Suppression;
use crate::mail::address::Address;
use crate::mail::reply::Enhanced;
use crate::mail::time::Time;

/// Characters of a note: what a server said, or who wrote the entry.
pub const NOTE_MAX: usize = 200;
/// RFC 3463: what says for good that there is no such mailbox. Bad destination mailbox, mailbox has moved, null MX (RFC 7505).
const GONE: [Enhanced; 3] = [Enhanced(5, 1, 1), Enhanced(5, 1, 6), Enhanced(5, 1, 10)];

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The address, as `folded` has it.
    pub address: String,
    /// Only mail that is of this class for certain is meant; `None`: all mail for which the list is asked.
    pub class: Option<String>,
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub since: Time,
    /// What was said, for a person; no longer than `NOTE_MAX`.
    pub note: String,
}

/// Why an address is on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A server said for good that there is no such mailbox.
    Bounce,
    /// Whoever reads it called a mail spam.
    Complaint,
    /// Whoever reads it asked for no more of a class.
    Unsubscribe,
    /// An administrator wrote it down.
    Manual,
}

/// What the list says of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Why it is there.
    pub reason: Reason,
    /// Since when, to the second.
    pub since: Time,
}

impl Entry {
    /// An entry for this address.
    #[must_use]
    pub fn new(address: &Address, reason: Reason, since: Time, note: &str) -> Self {
        Self { address: folded(address), class: None, reason, since, note: bounded(note) }
    }

    /// The same, for mail of one class alone.
    #[must_use]
    pub fn of_class(self, class: &str) -> Self {
        Self { class: Some(class.to_owned()), ..self }
    }

    /// About how many octets it takes in a page.
    pub(super) fn size(&self) -> usize {
        self.address.len() + self.class.as_ref().map_or(0, String::len) + self.note.len() + 16
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Bounce, Self::Complaint, Self::Unsubscribe, Self::Manual];

    /// As files, commands and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Complaint => "complaint",
            Self::Unsubscribe => "unsubscribe",
            Self::Manual => "manual",
        }
    }

    /// Whether an entry of this reason counts under this rule.
    #[must_use]
    pub fn counts(self, rule: Suppression) -> bool {
        match rule {
            Suppression::All => true,
            Suppression::NoComplaints => self != Self::Complaint,
            Suppression::Off => false,
        }
    }
}

impl std::str::FromStr for Reason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|reason| reason.name() == text);
        found.ok_or_else(|| format!("`{text}` is no reason; known are {}", known()))
    }
}

impl Listed {
    /// In our own words, for the log and for the tenant.
    #[must_use]
    pub fn words(self, tenant: &str) -> String {
        let why = match self.reason {
            Reason::Bounce => "mail to it bounced: there is no such mailbox",
            Reason::Complaint => "its reader called a mail spam",
            Reason::Unsubscribe => "its reader unsubscribed",
            Reason::Manual => "an administrator put it there",
        };
        format!("not sent: the address is on {tenant}'s suppression list since {}; {why}", self.since.utc())
    }
}

/// An address as the list compares it: in lower case. RFC 5321 section 2.4 lets a host tell `Bob` from `bob`; none of note does,
/// and a person who unsubscribed must not get mail because a platform writes them in capitals.
#[must_use]
pub fn folded(address: &Address) -> String {
    address.to_string().to_lowercase()
}

/// RFC 7504 section 4: the domain takes no mail at all. Of replies without an enhanced code the only one that no policy shares:
/// 550, 551, 553 and 554 are said to unwanted senders and relays as well (RFC 5321 section 4.2.3), whatever words stand behind them.
const NO_MAIL: u16 = 556;

/// Whether a server's reply says for good that there is no such mailbox: by its enhanced code, or by its three digits alone.
/// `shared`: it answered for several recipients at once, and so it does not tell which of them it means.
#[must_use]
pub fn is_refused_for_good(code: u16, status: Option<Enhanced>, shared: bool) -> bool {
    match status {
        // Code 0: what we found in DNS ourselves is true of each of them.
        Some(_) => is_gone(status) && (code == 0 || !shared),
        None => code == NO_MAIL,
    }
}

/// Whether a code says for good that there is no such mailbox. A 550 without such a code may mean policy, and does not count.
#[must_use]
pub fn is_gone(status: Option<Enhanced>) -> bool {
    status.is_some_and(|status| GONE.contains(&status))
}

fn bounded(note: &str) -> String {
    note.chars().filter(|c| !c.is_control()).take(NOTE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_gone() {
        for (status, gone, why) in [
            (Some(Enhanced(5, 1, 1)), true, "no such mailbox"),
            (Some(Enhanced(5, 1, 6)), true, "moved, and nobody knows where"),
            (Some(Enhanced(5, 1, 10)), true, "a null MX"),
            (Some(Enhanced(4, 1, 1)), false, "for now only"),
            (Some(Enhanced(5, 2, 1)), false, "disabled: some say that of a full or busy mailbox"),
            (Some(Enhanced(5, 2, 2)), false, "full"),
            (Some(Enhanced(5, 7, 1)), false, "policy says nothing of the mailbox"),
            (None, false, "550 alone may mean anything"),
        ] {
            assert_eq!(is_gone(status), gone, "{why}");
        }
    }

    #[test]
    fn which_replies_count() {
        let (unknown, policy) = (Some(Enhanced(5, 1, 1)), Some(Enhanced(5, 7, 1)));
        for (code, status, shared, counts, why) in [
            (550, unknown, false, true, "to RCPT, of this mailbox"),
            (550, unknown, true, false, "to the final dot of several: which of them is not said"),
            (0, Some(Enhanced(5, 1, 10)), true, true, "a null MX that we found ourselves: all of them"),
            (550, None, false, false, "RFC 5321: not found, no access, or policy"),
            (551, None, false, false, "said by servers that do not relay"),
            (552, None, false, false, "full"),
            (553, None, false, false, "said of unwanted senders too"),
            (554, None, false, false, "anything"),
            (556, None, false, true, "RFC 7504: takes no mail, and nothing else"),
            (556, None, true, true, "which is true of every recipient"),
            (556, policy, false, false, "the enhanced code is the more exact one"),
        ] {
            assert_eq!(is_refused_for_good(code, status, shared), counts, "{why}");
        }
    }

    #[test]
    fn which_reasons_count_under_which_rule() {
        let counting =
            |rule| Reason::ALL.into_iter().filter(|reason| reason.counts(rule)).collect::<Vec<_>>();
        assert_eq!(counting(Suppression::All), Reason::ALL);
        assert_eq!(
            counting(Suppression::NoComplaints),
            [Reason::Bounce, Reason::Unsubscribe, Reason::Manual]
        );
        assert!(counting(Suppression::Off).is_empty());
    }

    #[test]
    fn a_note_is_one_bounded_line() {
        let address: Address = "Bob@There.Test".parse().unwrap();
        let entry = Entry::new(&address, Reason::Bounce, Time(1), &"a\r\nb".repeat(200));
        assert_eq!(entry.address, "bob@there.test");
        assert_eq!(entry.note.chars().count(), NOTE_MAX);
        assert!(!entry.note.contains(char::is_control));
        assert!("spam".parse::<Reason>().unwrap_err().contains("complaint"));
    }
}
