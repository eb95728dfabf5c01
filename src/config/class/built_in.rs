//! The six kinds that a platform sends, with what product and postmasters expect of each. docs/classes.md lists them.

use std::time::Duration;

use super::rule::{LinkRule, SubjectRule};
use super::{Class, ClassTls, Hide};
use crate::mail::message::Lane;
use crate::mail::priority::Priority;

const S: u64 = 1;
const M: u64 = 60;
const H: u64 = 60 * M;

/// A row of the table.
struct Row {
    name: &'static str,
    lane: Lane,
    priority: i8,
    retry: &'static [u64],
    hide: &'static [Hide],
    link: &'static [&'static str],
    subject: &'static [&'static str],
}

/// The more urgent first: where a guess finds two of one lane, the first is taken.
const ROWS: [Row; 6] = [
    Row {
        name: "password_reset",
        lane: Lane::Urgent,
        priority: 4,
        retry: &[5 * S, 15 * S, 30 * S, 60 * S, 2 * M, 5 * M, 10 * M],
        hide: &[Hide::Subject, Hide::Link],
        // An oobCode alone says nothing: Firebase puts one into every kind of action link.
        link: &[
            "mode=resetPassword",
            "oobCode= /reset",
            "oobCode= /password-reset",
            "token= /reset",
            "token= /password-reset",
            "code= /reset",
            "code= /password-reset",
        ],
        subject: &["reset your password", "password reset", "reset password", "forgot your password"],
    },
    Row {
        name: "verification",
        lane: Lane::Urgent,
        priority: 3,
        retry: &[15 * S, M, 2 * M, 5 * M],
        hide: &[Hide::Subject, Hide::Link],
        link: &[
            "mode=verifyEmail",
            "mode=verifyAndChangeEmail",
            "oobCode= /verify",
            "oobCode= /confirm",
            "token= /verify",
            "token= /confirm",
            "code= /verify",
            "code= /confirm",
        ],
        subject: &[
            "verify your email",
            "confirm your email",
            "verify your account",
            "confirm your account",
            "email verification",
            "verification code",
        ],
    },
    Row {
        name: "w9",
        lane: Lane::Important,
        priority: 2,
        retry: &[5 * M, 15 * M, 30 * M],
        hide: &[Hide::Subject],
        link: &[],
        subject: &["w-9", "w9", "tax form"],
    },
    Row {
        name: "payout_reminder",
        lane: Lane::Normal,
        priority: 0,
        retry: &[15 * M],
        hide: &[],
        link: &[],
        subject: &["payout reminder", "reminder: your payout", "claim your payout"],
    },
    Row {
        name: "reward",
        lane: Lane::Normal,
        priority: 0,
        retry: &[5 * M, 15 * M],
        hide: &[],
        link: &[],
        subject: &["your reward", "you earned", "gift card"],
    },
    Row {
        name: "program_email",
        lane: Lane::Bulk,
        priority: -3,
        retry: &[15 * M, H],
        hide: &[],
        link: &[],
        subject: &[],
    },
];

/// The built-in classes.
pub(super) fn classes() -> Vec<Class> {
    ROWS.iter().map(class).collect()
}

fn class(row: &Row) -> Class {
    Class {
        name: row.name.into(),
        lane: row.lane,
        priority: Priority::nearest(row.priority),
        retry: row.retry.iter().map(|seconds| Duration::from_secs(*seconds)).collect(),
        hide: row.hide.to_vec(),
        tls: ClassTls::default(),
        from: Vec::new(),
        link: row.link.iter().filter_map(|rule| rule.parse::<LinkRule>().ok()).collect(),
        subject: row.subject.iter().filter_map(|rule| rule.parse::<SubjectRule>().ok()).collect(),
        suppression: None,
        life: None,
        supersede: false,
        drop_bcc: false,
        one_click: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_table_is_one() {
        for (row, class) in ROWS.iter().zip(classes()) {
            assert_eq!(
                (class.link.len(), class.subject.len()),
                (row.link.len(), row.subject.len()),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn a_class_and_its_priority_are_of_one_lane() {
        for class in classes() {
            assert_eq!(
                class.priority.lane(),
                class.lane,
                "{}: asked for by number it is as fast",
                class.name
            );
        }
    }

    /// docs/classes.md shows a row a class: name, lane, priority, first retries, what logs hide.
    #[test]
    fn the_page_shows_the_table() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/classes.md")).unwrap();
        for row in &ROWS {
            let lane = format!("{:?}", row.lane).to_lowercase();
            let retry = row.retry.iter().map(|seconds| match seconds {
                hours if hours % H == 0 => format!("{}h", hours / H),
                minutes if minutes % M == 0 => format!("{}m", minutes / M),
                seconds => format!("{seconds}s"),
            });
            let retry = retry.collect::<Vec<_>>().join(" ");
            let hide = row.hide.iter().map(|hide| format!("{hide:?}").to_lowercase()).collect::<Vec<_>>();
            let hide = if hide.is_empty() { "-".to_owned() } else { hide.join(", ") };
            let line = format!("| `{}` | {lane} | {} | {retry} | {hide} |", row.name, row.priority);
            assert!(page.contains(&line), "docs/classes.md lacks: {line}");
        }
    }
}
