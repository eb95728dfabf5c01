//! The one filter grammar of every queue and log verb.

use std::time::Duration;

use clap::Args;

use super::output::Failure;
use crate::mail::id::Id;
use crate::queue::store::{Filter, StateName};

/// Which messages are meant. Every option narrows.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which messages")]
pub struct Selector {
    /// Queue ids.
    #[arg(value_name = "ID")]
    pub ids: Vec<Id>,
    /// A queue id (may be repeated).
    #[arg(long = "id", value_name = "ID")]
    pub more_ids: Vec<Id>,
    /// A tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
    /// The envelope sender; `<>` is the null reverse-path.
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<String>,
    /// A recipient.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// The recipient's domain.
    #[arg(long)]
    pub domain: Option<String>,
    /// The class.
    #[arg(long)]
    pub class: Option<String>,
    /// due, deferred, active or held.
    #[arg(long, value_parser = state)]
    pub state: Option<StateName>,
    /// Text in the last reply or in the reason of a hold.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Accepted longer ago than this: 90s, 15m, 2h, 1d, 1h30m.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub older_than: Option<Duration>,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
}

impl Selector {
    /// As the queue takes it.
    #[must_use]
    pub(super) fn filter(&self) -> Filter {
        Filter {
            ids: self.ids.iter().chain(&self.more_ids).copied().collect(),
            tenant: self.tenant.clone(),
            from: self.from.as_deref().map(|from| if from == "<>" { "" } else { from }.to_owned()),
            to: self.to.clone(),
            domain: self.domain.clone(),
            class: self.class.clone(),
            state: self.state,
            reason: self.reason.clone(),
            older_than: self.older_than,
            limit: self.limit,
        }
    }

    /// As a verb takes it that changes what it is told to: nothing chosen is a mistake, not everything.
    ///
    /// # Errors
    /// Neither a selector nor `--all` was given, or both.
    pub(super) fn filter_or_all(&self) -> Result<Filter, Failure> {
        let filter = self.filter();
        let chosen = filter != Filter { limit: filter.limit, ..Filter::default() };
        match (chosen, self.all) {
            (false, false) => Err(Failure::Usage(
                "say which messages are meant: ids, --tenant, --domain, ..., or --all".to_owned(),
            )),
            (true, true) => Err(Failure::Usage("--all does not go with another selector".to_owned())),
            _ => Ok(filter),
        }
    }
}

fn state(text: &str) -> Result<StateName, String> {
    match text {
        "due" => Ok(StateName::Due),
        "deferred" => Ok(StateName::Deferred),
        "active" => Ok(StateName::Active),
        "held" => Ok(StateName::Held),
        _ => Err("due, deferred, active or held".to_owned()),
    }
}

/// Reads `1h30m` and the like; a bare number is refused, because nobody can know what it counts.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "an age is a number and a unit: 90s, 15m, 2h, 1d, 1h30m".to_owned();
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (digits, tail) = rest.split_at_checked(end).ok_or_else(wrong)?;
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        let unit = tail.chars().next().ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(wrong()),
        };
        total = count.checked_mul(seconds).and_then(|more| total.checked_add(more)).ok_or_else(wrong)?;
        rest = tail.get(unit.len_utf8()..).unwrap_or("");
    }
    if total == 0 { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        let cases = [
            ("90s", Some(90), "one unit"),
            ("1h30m", Some(5_400), "two units"),
            ("2w", Some(1_209_600), "weeks"),
            ("90", None, "no unit: of what?"),
            ("", None, "nothing"),
            ("0s", None, "no age at all"),
            ("h", None, "no number"),
            ("-1h", None, "never negative"),
            ("99999999999999999999d", None, "does not fit"),
            ("1µ", None, "unknown unit that is not ASCII"),
        ];
        for (text, seconds, why) in cases {
            assert_eq!(age(text).ok(), seconds.map(Duration::from_secs), "{text}: {why}");
        }
    }

    #[test]
    fn nothing_chosen_is_not_everything() {
        let none = Selector { limit: Some(5), ..Selector::default() };
        assert!(matches!(none.filter_or_all(), Err(Failure::Usage(_))));
        assert!(Selector { all: true, ..Selector::default() }.filter_or_all().is_ok());
        let tenant = Selector { tenant: Some("acme".into()), ..Selector::default() };
        assert!(tenant.filter_or_all().is_ok());
        assert!(Selector { all: true, ..tenant }.filter_or_all().is_err());
    }
}
