//! A suppression list as a file: one address a line, or CSV (RFC 4180) with a header as `export` writes it.

use std::io::{BufRead, Read};

use crate::mail::address::Address;
use crate::mail::time::Time;
use crate::suppress::{ENTRIES_MAX, Entry, Reason};

/// The header of a CSV file: what the columns are, in this order.
pub(super) const HEADER: &str = "address,reason,since,class,note";
/// Octets of a line: an address has 320 at most, a note 800.
const LINE_MAX: u64 = 4_096;
/// Wrong lines that are named.
const NAMED: usize = 10;

/// An entry as a line of CSV.
pub(super) fn write(entry: &Entry) -> String {
    let class = entry.class.as_deref().unwrap_or_default();
    let since = entry.since.utc().to_string();
    [&entry.address, entry.reason.name(), &since, class, &entry.note].map(quoted).join(",")
}

/// What a spreadsheet would take apart, or for a formula, stands in quotes.
fn quoted(field: &str) -> String {
    let plain = !field.contains([',', '"']) && !field.starts_with(['=', '+', '-', '@', ' ']);
    if plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

/// Reads a file; `reason` and `now` stand in where a line says nothing of them.
///
/// # Errors
/// What is wrong, with the numbers of the lines.
pub(super) fn read(mut file: impl BufRead, reason: Reason, now: Time) -> Result<Vec<Entry>, String> {
    let (mut entries, mut wrong) = (Vec::new(), Vec::new());
    let mut number = 0_usize;
    loop {
        let mut line = Vec::new();
        let got = file.by_ref().take(LINE_MAX + 1).read_until(b'\n', &mut line);
        number += 1;
        match got {
            Ok(0) => break,
            Ok(octets) if octets as u64 > LINE_MAX => {
                return Err(format!("line {number} is longer than {LINE_MAX} octets"));
            }
            Ok(_) => {}
            Err(error) => return Err(format!("line {number}: {error}")),
        }
        match parse(&line, reason, now) {
            Ok(entry) => entries.extend(entry),
            Err(what) => wrong.push(format!("line {number}: {what}")),
        }
        if entries.len() > ENTRIES_MAX {
            return Err(format!("line {number}: there may be {ENTRIES_MAX} addresses at most"));
        }
    }
    if wrong.is_empty() {
        return Ok(entries);
    }
    let more = wrong.len().saturating_sub(NAMED);
    wrong.truncate(NAMED);
    let more = if more > 0 { format!("; and {more} more lines are wrong") } else { String::new() };
    Err(wrong.join("; ") + &more)
}

/// One line; `None`: it is empty, a comment or the header.
fn parse(line: &[u8], reason: Reason, now: Time) -> Result<Option<Entry>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text.trim_start_matches('\u{feff}').trim();
    let header = text.to_ascii_lowercase();
    if text.is_empty() || text.starts_with('#') || header == "address" || header.starts_with("address,") {
        return Ok(None);
    }
    let fields = fields(text)?;
    let field = |at: usize| fields.get(at).map(|field| field.trim()).filter(|field| !field.is_empty());
    if fields.len() > HEADER.split(',').count() {
        return Err(format!("it has {} columns; they are {HEADER}", fields.len()));
    }
    let written = field(0).ok_or("it has no address")?;
    let address: Address = written.parse().map_err(|error| format!("`{written}`: {error}"))?;
    let reason = field(1).map_or(Ok(reason), str::parse)?;
    let since = field(2).map_or(Ok(now), date)?;
    let entry = Entry::new(&address, reason, since, field(4).unwrap_or_default());
    Ok(Some(Entry { class: field(3).map(str::to_owned), ..entry }))
}

fn date(text: &str) -> Result<Time, String> {
    let at: jiff::Timestamp =
        text.parse().map_err(|_| format!("`{text}` is no date such as 2026-01-31T12:00:00Z"))?;
    u64::try_from(at.as_millisecond()).map(Time).map_err(|_| format!("`{text}` lies before 1970"))
}

/// The fields of a line; in quotes a comma is text, and two quotes are one.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let last = fields.len();
        let Some(field) = fields.get_mut(last - 1) else { continue };
        match (letter, inside) {
            ('"', true) if letters.peek() == Some(&'"') => field.extend(letters.next()),
            // A quoted local part may stand bare in a list of addresses: quotes count only around a whole field.
            ('"', false) if !field.is_empty() => field.push('"'),
            ('"', _) => inside = !inside,
            (',', false) => fields.push(String::new()),
            (letter, _) => field.push(letter),
        }
    }
    if inside { Err("a quote is not closed".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Result<Vec<Entry>, String> {
        read(text.as_bytes(), Reason::Manual, Time(7))
    }

    #[test]
    fn lines_and_what_they_mean() {
        let text = "\u{feff}address,reason,since,class,note\r\n# old ones\r\n\r\nBob@There.test\r\n\
                    a@b.test,bounce,2026-01-31T12:00:00Z,program_email,\"550 \"\"gone\"\", really\"\nc@d.test,,,,\n";
        let read = all(text).unwrap();
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!(
            (read[0].address.as_str(), read[0].reason, read[0].since),
            ("bob@there.test", Reason::Manual, Time(7))
        );
        assert_eq!(read[1].note, "550 \"gone\", really");
        assert_eq!(
            (read[1].class.as_deref(), read[1].since),
            (Some("program_email"), Time(1_769_860_800_000))
        );
        assert_eq!((read[2].class.as_ref(), read[2].reason), (None, Reason::Manual));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said, why) in [
            ("a@b.test\nnobody\n", "line 2: `nobody`", "no address"),
            ("a@b.test,spam\n", "line 1: `spam` is no reason", "an unknown reason"),
            ("a@b.test,bounce,yesterday\n", "`yesterday` is no date", "no date"),
            ("a@b.test,bounce,,,,x\n", "6 columns", "too many"),
            ("\"a@b.test\n", "a quote is not closed", "half a field"),
            (&format!("{}@b.test\n", "a".repeat(5_000)), "longer than 4096", "one endless line"),
        ] {
            let error = all(text).unwrap_err();
            assert!(error.contains(said), "{why}: {error}");
        }
        let many = all(&"nobody\n".repeat(30)).unwrap_err();
        assert!(
            many.contains("line 10:")
                && !many.contains("line 11:")
                && many.ends_with("and 20 more lines are wrong")
        );
    }

    proptest! {
        #[test]
        fn what_is_exported_is_imported(note in "[ -~]{0,40}", class in proptest::option::of("[a-z_]{1,9}")) {
            let address = "a@b.test".parse().unwrap();
            let entry = Entry { class, ..Entry::new(&address, Reason::Complaint, Time(1_769_860_800_000), note.trim()) };
            let line = write(&entry);
            prop_assert_eq!(all(&line).unwrap(), vec![entry], "{}", line);
        }

        #[test]
        fn any_line_is_survived(line in ".{0,200}") {
            let _ = all(&line);
        }
    }
}
