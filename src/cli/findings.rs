//! Findings as a person reads them: the level as a word, what was looked at, what was found; below it what to do, and the
//! record to publish as a zone file has it. `domain check` and `doctor` share it.

use anstyle::{AnsiColor, Style};

use super::output::{Context, Outcome};
use crate::maillog::view::clean;
use crate::seal::judge::{Change, Finding, Level};
use crate::seal::records::{Kind, Record, zone_text};

/// Columns of the level.
const LEVEL_WIDTH: usize = 7;
/// Columns of the check's name at least, so that groups printed one after the other stand in line.
const CHECK_WIDTH: usize = 11;

/// Prints them in the order given. Colour only helps: on a terminal, and the level's word says the same.
pub(super) fn print(context: &Context, findings: &[Finding]) -> Outcome {
    let width = findings.iter().map(|finding| finding.check.chars().count()).fold(CHECK_WIDTH, usize::max);
    findings.iter().try_for_each(|finding| one(context, finding, width))
}

fn one(context: &Context, finding: &Finding, width: usize) -> Outcome {
    let (word, style) = level(finding.level);
    // Padded by hand: the style's escapes would count as columns.
    let pad = " ".repeat(LEVEL_WIDTH.saturating_sub(word.len()));
    let (check, says) = (clean(&finding.check), clean(&finding.says));
    context.print(format_args!("  {style}{word}{style:#}{pad}  {check:width$}  {says}"))?;
    let margin = " ".repeat(2 + LEVEL_WIDTH + 2);
    if !finding.fix.is_empty() {
        context.print(format_args!("{margin}do: {}", clean(&finding.fix)))?;
    }
    let Some(change) = &finding.change else { return Ok(()) };
    change_lines(change).iter().try_for_each(|line| context.print(format_args!("{margin}{line}")))
}

fn level(level: Level) -> (&'static str, Style) {
    match level {
        Level::Ok => ("ok", AnsiColor::Green.on_default()),
        Level::Warning => ("warning", AnsiColor::Yellow.on_default()),
        Level::Error => ("error", AnsiColor::Red.on_default().bold()),
    }
}

/// The change, as lines of a zone file with what to do with them in comments.
fn change_lines(change: &Change) -> Vec<String> {
    match change {
        Change::Publish(record) => zone(record),
        Change::Replace { record, instead_of } => {
            let name = clean(&record.name);
            let old = match (record.kind, instead_of.as_str()) {
                (Kind::Cname, _) => format!("; in place of everything that stands at {name}:"),
                (_, "") => format!("; in place of every {} record at {name}:", kind(record.kind)),
                (_, beginning) => {
                    format!(
                        "; in place of every {} record at {name} that begins with {}:",
                        kind(record.kind),
                        clean(beginning)
                    )
                }
            };
            std::iter::once(old).chain(zone(record)).collect()
        }
        Change::Remove { name, kind: which } => {
            vec![format!("; remove every {} record at {}", kind(*which), clean(name))]
        }
    }
}

/// What the record is for, and the record.
fn zone(record: &Record) -> Vec<String> {
    zone_text(std::slice::from_ref(record)).lines().map(clean).collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Txt => "TXT",
        Kind::Cname => "CNAME",
        Kind::Mx => "MX",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, value: &str) -> Record {
        Record { name: "acme.com".into(), kind, value: value.into(), why: "because".into() }
    }

    #[test]
    fn a_change_is_said_as_a_zone_file_has_it() {
        let spf = record(Kind::Txt, "v=spf1 -all");
        let rows = [
            (
                Change::Publish(spf.clone()),
                "; because\nacme.com. IN TXT \"v=spf1 -all\"",
                "nothing stands there",
            ),
            (
                Change::Replace { record: spf, instead_of: "v=spf1".into() },
                "; in place of every TXT record at acme.com that begins with v=spf1:\n; because\nacme.com. IN TXT \"v=spf1 -all\"",
                "other TXT records stay",
            ),
            (
                Change::Replace { record: record(Kind::Mx, "10 mx.acme.com"), instead_of: String::new() },
                "; in place of every MX record at acme.com:\n; because\nacme.com. IN MX 10 mx.acme.com.",
                "all of a type go",
            ),
            (
                Change::Replace { record: record(Kind::Cname, "a.b"), instead_of: String::new() },
                "; in place of everything that stands at acme.com:\n; because\nacme.com. IN CNAME a.b.",
                "RFC 1034 3.6.2: a CNAME stands alone",
            ),
            (
                Change::Remove { name: "acme.com".into(), kind: Kind::Mx },
                "; remove every MX record at acme.com",
                "a null MX",
            ),
        ];
        for (change, expected, why) in rows {
            assert_eq!(change_lines(&change).join("\n"), expected, "{why}");
        }
    }

    #[test]
    fn what_strangers_publish_cannot_move_the_cursor() {
        let lines = change_lines(&Change::Publish(record(Kind::Txt, "v=spf1 \u{1b}[2J")));
        assert!(lines.iter().all(|line| !line.contains('\u{1b}')), "{lines:?}");
    }
}
