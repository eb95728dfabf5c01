//! How urgent a message is: what its sender asks for (RFC 6710's parameter, or RFC 6758's header field where there is no parameter),
//! within what the tenant may ask; else what its class has. It chooses the lane, and nothing else: it never drops, shortens or holds.

use super::Submission;
use crate::config::Classes;
use crate::mail::class::Classed;
use crate::mail::header::{Field, Headers};
use crate::mail::message::Lane;
use crate::mail::priority::Priority;

/// The header field that carries a priority through servers without MT-PRIORITY (RFC 6758 section 4).
pub(super) const HEADER: &str = "MT-Priority";

/// By what a message's priority was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The parameter of MAIL.
    Parameter,
    /// The header field.
    Header,
    /// Its class, or nothing: its sender did not say.
    Class,
}

/// What a message is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// For the servers behind us.
    pub priority: Priority,
    /// Its turn here.
    pub lane: Lane,
    /// By what.
    pub told: Told,
}

impl Told {
    /// As the metric names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parameter => "parameter",
            Self::Header => "header",
            Self::Class => "class",
        }
    }
}

impl Given {
    /// The value for the header field that replaces what the sender wrote (RFC 6758 section 3.3): none where it asked for nothing.
    pub(super) fn to_tunnel(self) -> Option<Priority> {
        (self.told != Told::Class).then_some(self.priority)
    }
}

/// What a submitted message is given.
pub(super) fn of(submission: &Submission, headers: &Headers<'_>, classed: Option<&Classed>) -> Given {
    let tenant = &submission.tenant;
    give(&tenant.classes, classed, (submission.priority, headers), tenant.limits.priority)
}

/// What mail of this class is given, with this parameter and these headers; `most` is the highest that may be asked for. Who asks for more gets that, and never less than
/// without asking.
#[must_use]
pub fn give(
    classes: &Classes,
    classed: Option<&Classed>,
    (parameter, headers): (Option<Priority>, &Headers<'_>),
    most: Option<Priority>,
) -> Given {
    let own = classes.priority(classed);
    let header = || Some((field(headers)?, Told::Header));
    let Some((asked, told)) = parameter.map(|asked| (asked, Told::Parameter)).or_else(header) else {
        return Given { priority: own, lane: classes.lane(classed), told: Told::Class };
    };
    let priority = asked.min(most.unwrap_or(Priority::HIGHEST).max(own));
    Given { priority, lane: priority.lane(), told }
}

/// What the header field says; two of them, or one that cannot be read, say nothing.
fn field(headers: &Headers<'_>) -> Option<Priority> {
    let mut fields = headers.all(HEADER);
    let (only, None) = (fields.next()?, fields.next()) else { return None };
    read(only)
}

/// The value, with a comment behind it at most, as in `-4 (NON-URGENT)`.
fn read(field: &Field<'_>) -> Option<Priority> {
    let value = std::str::from_utf8(field.value()).ok()?.trim();
    let (number, rest) = value.split_once('(').unwrap_or((value, ")"));
    rest.ends_with(')').then(|| number.trim_end().parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::class::By;

    fn given(class: Option<(&str, By)>, parameter: Option<i8>, head: &str, most: Option<i8>) -> Given {
        let text = format!("{head}\r\n");
        let headers = Headers::parse(text.as_bytes(), text.len()).unwrap();
        let classed = class.map(|(name, by)| Classed { name: name.into(), by });
        let priority = |number: i8| Priority::nearest(number);
        let asked = (parameter.map(priority), &headers);
        give(&Classes::default(), classed.as_ref(), asked, most.map(priority))
    }

    #[test]
    fn who_decides() {
        let reset = Some(("password_reset", By::Login));
        let bulk = Some(("program_email", By::Login));
        let guess = Some(("password_reset", By::Subject));
        for (class, parameter, head, most, priority, lane, told, why) in [
            (None, None, "", None, 0, Lane::Normal, Told::Class, "nobody says anything"),
            (reset, None, "", None, 4, Lane::Urgent, Told::Class, "its class"),
            (guess, None, "", None, 4, Lane::Urgent, Told::Class, "a guess may speed up"),
            (reset, Some(-9), "", None, -9, Lane::Bulk, Told::Parameter, "its sender outdoes the class"),
            (bulk, Some(9), "", None, 9, Lane::Urgent, Told::Parameter, "upwards too"),
            (None, None, "MT-Priority: 5\r\n", None, 5, Lane::Urgent, Told::Header, "the field alone"),
            (None, Some(1), "MT-Priority: 5\r\n", None, 1, Lane::Important, Told::Parameter, "never beside"),
            (
                None,
                None,
                "mt-priority:\r\n -4 (low)\r\n",
                None,
                -4,
                Lane::Bulk,
                Told::Header,
                "folded, a comment",
            ),
            (
                None,
                None,
                "MT-Priority: 5\r\nMT-Priority: 5\r\n",
                None,
                0,
                Lane::Normal,
                Told::Class,
                "two fields",
            ),
            (None, None, "MT-Priority: high\r\n", None, 0, Lane::Normal, Told::Class, "no number"),
            (None, None, "MT-Priority: 5 (\r\n", None, 0, Lane::Normal, Told::Class, "an open comment"),
            (
                None,
                Some(9),
                "",
                Some(2),
                2,
                Lane::Important,
                Told::Parameter,
                "no more than the tenant may ask",
            ),
            (None, None, "MT-Priority: 9\r\n", Some(2), 2, Lane::Important, Told::Header, "nor by the field"),
            (reset, Some(9), "", Some(2), 4, Lane::Urgent, Told::Parameter, "never worse for having asked"),
            (reset, Some(3), "", Some(2), 3, Lane::Urgent, Told::Parameter, "less than the class has"),
        ] {
            let expected = Given { priority: Priority::nearest(priority), lane, told };
            assert_eq!(given(class, parameter, head, most), expected, "{why}");
        }
    }

    #[test]
    fn only_what_was_asked_for_is_written_again() {
        assert_eq!(given(Some(("w9", By::Login)), None, "", None).to_tunnel(), None);
        assert_eq!(given(None, Some(0), "", None).to_tunnel(), Some(Priority::default()));
    }
}
