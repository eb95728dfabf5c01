//! The one filter grammar of every queue and log verb.

use std::time::Duration;

use clap::Args;

use super::output::Failure;
use crate::mail::id::Id;
use crate::queue::store::{Cause, Filter, StateName};

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
    /// The domain of the From header, without those below it.
    #[arg(long, value_name = "DOMAIN")]
    pub from_domain: Option<String>,
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
    /// What held mail waits for: seal, operator, route or credentials.
    #[arg(long, value_parser = cause)]
    pub cause: Option<Cause>,
    /// Text in the last reply or in the reason of a hold, or a cause such as `rate` (docs/replies.md).
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
            after: None,
            tenant: self.tenant.clone(),
            from: self.from.as_deref().map(|from| if from == "<>" { "" } else { from }.to_owned()),
            from_domain: self.from_domain.clone(),
            to: self.to.clone(),
            domain: self.domain.clone(),
            class: self.class.clone(),
            state: self.state,
            cause: self.cause,
            reason: self.reason.clone(),
            older_than: self.older_than,
            limit: self.limit,
            page: None,
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

fn cause(text: &str) -> Result<Cause, String> {
    match text {
        "seal" => Ok(Cause::Seal),
        "operator" => Ok(Cause::Operator),
        "route" => Ok(Cause::Route),
        "credentials" => Ok(Cause::Credentials),
        _ => Err("seal, operator, route or credentials".to_owned()),
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

    #[test]
    fn every_selector_reaches_the_queue() {
        let text = |text: &str| Some(text.to_owned());
        let chosen = [
            (Selector { from_domain: text("a.test"), ..Selector::default() }, "from_domain"),
            (Selector { cause: Some(Cause::Seal), ..Selector::default() }, "cause"),
            (Selector { state: Some(StateName::Held), ..Selector::default() }, "state"),
            (Selector { reason: text("key"), ..Selector::default() }, "reason"),
        ];
        for (selector, name) in chosen {
            let asked = serde_json::to_value(selector.filter_or_all().unwrap()).unwrap();
            let none = serde_json::to_value(Filter::default()).unwrap();
            let differ: Vec<_> =
                none.as_object().unwrap().keys().filter(|key| asked[*key] != none[*key]).collect();
            assert_eq!(differ, [name]);
        }
    }

    #[test]
    fn a_cause_is_one_of_three() {
        for (name, wanted, why) in [
            ("seal", Some(Cause::Seal), "receivers would not believe it"),
            ("operator", Some(Cause::Operator), "parked by hand"),
            ("route", Some(Cause::Route), "no way out"),
            ("credentials", Some(Cause::Credentials), "the upstream refuses the password"),
            ("Seal", None, "as the listing writes it"),
            ("", None, "nothing"),
        ] {
            assert_eq!(cause(name).ok(), wanted, "{name}: {why}");
            let shown = wanted.map(|cause| serde_json::to_value(cause).unwrap());
            assert!(shown.is_none_or(|shown| shown == name), "the listing has the same word");
        }
    }
}
