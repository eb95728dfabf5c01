//! What a message went through on its way: header fields and body as they were sealed and as they arrived, and which of the
//! changes break the signature (RFC 6376, relaxed canonicalisation, as we sign). Pure.

use std::collections::HashSet;

use mail_auth::common::headers::Writable;
use mail_auth::dkim::Canonicalization;
use serde::{Deserialize, Serialize};

use crate::mail::header::{Field, Headers};

/// Fields named in a difference; more are counted by the last one alone.
const NAMED: usize = 100;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Header fields that are not as they were.
    pub headers: Vec<HeaderChange>,
    /// How the body is not as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyChange>,
}

/// Fields of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChange {
    /// As it is written.
    pub name: String,
    /// What happened to them.
    pub change: Change,
    /// Whether the signature no longer fits because of it.
    pub breaks: bool,
}

/// What happened to the fields of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// There are more, and those sealed are among them.
    Added,
    /// There are fewer.
    Removed,
    /// They say something else, or are written otherwise.
    Changed,
}

/// A body that is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyChange {
    /// Octets sealed.
    pub sealed: usize,
    /// Octets that arrived.
    pub arrived: usize,
    /// The first line that differs, from 1.
    pub line: usize,
    /// Whether the signature no longer fits because of it.
    pub breaks: bool,
}

impl Difference {
    /// Whether the signature no longer fits.
    #[must_use]
    pub fn breaks(&self) -> bool {
        self.headers.iter().any(|change| change.breaks) || self.body.is_some_and(|body| body.breaks)
    }
}

/// Compares a message as it was sealed with what arrived.
#[must_use]
pub(super) fn compare(sealed: &[u8], arrived: &[u8]) -> Difference {
    // Both are read as far as they can be: a header section that a next hop mangled shows as removed fields.
    let before = Headers::parse(sealed, sealed.len()).unwrap_or_default();
    let after = Headers::parse(arrived, arrived.len()).unwrap_or_default();
    let signed = signed_names(&before);
    let mut seen = HashSet::new();
    let names = before.fields.iter().chain(&after.fields).map(lower);
    let names: Vec<String> = names.filter(|name| seen.insert(name.clone())).collect();
    let changed = names.iter().filter_map(|name| header(name, &before, &after, &signed));
    Difference {
        headers: changed.take(NAMED).collect(),
        body: body(
            sealed.get(before.body..).unwrap_or_default(),
            arrived.get(after.body..).unwrap_or_default(),
        ),
    }
}

fn lower(field: &Field<'_>) -> String {
    String::from_utf8_lossy(field.name()).to_ascii_lowercase()
}

fn header(name: &str, before: &Headers<'_>, after: &Headers<'_>, signed: &[String]) -> Option<HeaderChange> {
    let raw = |headers: &Headers<'_>| headers.all(name).map(|field| field.raw.to_vec()).collect::<Vec<_>>();
    if raw(before) == raw(after) {
        return None;
    }
    let (old, new) = (relaxed(name, before), relaxed(name, after));
    let change = match (old.len(), new.len()) {
        (old_count, new_count) if new_count > old_count && among(&old, &new) => Change::Added,
        (old_count, new_count) if new_count < old_count => Change::Removed,
        _ => Change::Changed,
    };
    let count = signed.iter().filter(|other| *other == name).count();
    // RFC 6376 section 5.4.2: the lowest ones are covered, and the name listed once more covers their number.
    let covered = |values: &[String]| values.iter().rev().take(count).cloned().collect::<Vec<_>>();
    let own = name == "dkim-signature" && !among(&old, &new);
    let shown = before.first(name).or_else(|| after.first(name))?;
    Some(HeaderChange {
        name: String::from_utf8_lossy(shown.name()).into_owned(),
        change,
        breaks: own || covered(&old) != covered(&new),
    })
}

/// Whether every one of these is there, as often as it was.
fn among(old: &[String], new: &[String]) -> bool {
    let count = |all: &[String], one: &String| all.iter().filter(|other| *other == one).count();
    old.iter().all(|one| count(new, one) >= count(old, one))
}

/// Values in relaxed form (RFC 6376 section 3.4.2).
fn relaxed(name: &str, headers: &Headers<'_>) -> Vec<String> {
    let value = |field: &Field<'_>| {
        let text = String::from_utf8_lossy(field.value()).replace("\r\n", "");
        text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    headers.all(name).map(value).collect()
}

/// The names in `h=` of the first signature, which is ours: as often as they are listed.
fn signed_names(headers: &Headers<'_>) -> Vec<String> {
    let Some(field) = headers.first("DKIM-Signature") else { return Vec::new() };
    let text: String =
        String::from_utf8_lossy(field.value()).chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let list = text.split(';').find_map(|tag| tag.strip_prefix("h=")).unwrap_or_default();
    list.split(':').map(str::to_ascii_lowercase).collect()
}

fn body(sealed: &[u8], arrived: &[u8]) -> Option<BodyChange> {
    if sealed == arrived {
        return None;
    }
    let lines = |body: &[u8]| body.split(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (old, new) = (lines(sealed), lines(arrived));
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    Some(BodyChange {
        sealed: sealed.len(),
        arrived: arrived.len(),
        line: same + 1,
        breaks: canonical(sealed) != canonical(arrived),
    })
}

/// The body in relaxed form; what mail-auth keeps at its end against RFC 6376 section 3.4.4 is not shown to it.
fn canonical(body: &[u8]) -> Vec<u8> {
    let end = body.iter().rposition(|octet| !b" \t\r\n".contains(octet)).map_or(0, |last| last + 1);
    let mut out = Vec::with_capacity(end);
    Canonicalization::Relaxed.canonical_body(body.get(..end).unwrap_or_default(), 0).write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: &str = "DKIM-Signature: v=1; h=From:From:Subject:\r\n Subject:Message-ID; b=x\r\n\
        Received: a\r\nFrom: a@t.example\r\nSubject: two  words\r\nMessage-ID: <1@t.example>\r\n\r\nbody\r\nend\r\n";

    #[test]
    fn what_changed_and_what_of_it_breaks_the_signature() {
        use Change::{Added, Changed, Removed};
        type Row<'a> = (&'a str, &'a str, &'a [(&'a str, Change, bool)], &'a str);
        let rows: &[Row<'_>] = &[
            ("", "", &[], "nothing"),
            ("DKIM-", "Received: b\r\nDKIM-", &[("Received", Added, false)], "every hop adds one"),
            ("two  words", "two words", &[("Subject", Changed, false)], "spaces do not count"),
            ("two  words", "[ad] two words", &[("Subject", Changed, true)], "a mark in the subject"),
            ("<1@t", "<9@up", &[("Message-ID", Changed, true)], "an upstream that writes its own"),
            ("Message-ID: <1@t.example>\r\n", "", &[("Message-ID", Removed, true)], "or takes it away"),
            ("From: a", "From: b@x.example\r\nFrom: a", &[("From", Added, true)], "oversigned"),
            ("<1@t.example>\r\n", "<1@t.example>\r\nX-Ad: 1\r\n", &[("X-Ad", Added, false)], "not covered"),
            ("b=x", "b=y", &[("DKIM-Signature", Changed, true)], "the signature itself"),
            ("DKIM-", "DKIM-Signature: v=1; b=z\r\nDKIM-", &[("DKIM-Signature", Added, false)], "another's"),
        ];
        for (old, new, expected, why) in rows {
            let difference = compare(SEALED.as_bytes(), SEALED.replacen(old, new, 1).as_bytes());
            let got: Vec<_> =
                difference.headers.iter().map(|one| (one.name.as_str(), one.change, one.breaks)).collect();
            assert_eq!(got, *expected, "{why}");
            assert_eq!(difference.body, None, "{why}");
        }
        let rows = [
            ("end\r\n", "end\r\n-- \r\nSent by Up\r\n", Some((3, true)), "a footer"),
            ("body", "body ", Some((1, false)), "a blank at the end of a line"),
            ("end\r\n", "end\r\n\r\n", Some((3, false)), "an empty line at the end"),
            ("body", "Body", Some((1, true)), "a letter"),
        ];
        for (old, new, expected, why) in rows {
            let body = compare(SEALED.as_bytes(), SEALED.replacen(old, new, 1).as_bytes()).body;
            assert_eq!(body.map(|body| (body.line, body.breaks)), expected, "{why}");
        }
    }
}
