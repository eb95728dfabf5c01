//! What is to be published, merged with what stands there now: an SPF record gets the mechanisms that it lacks and never a
//! second one beside it, a DMARC record that is there stays, and what is right already is said to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::dkim_record;
use super::facts::KeyAnswer;
use super::keys::{self, Algorithm, Public, RSA_BITS_SOUND};
use super::records::{Kind, Record};
use super::spf_record;

/// Every SPF record begins with this term (RFC 7208 section 4.5).
const SPF: &str = "v=spf1";
/// Every DMARC record begins with this tag (RFC 9989 section 4.7).
const DMARC: &str = "v=DMARC1";
/// Where DMARC records stand.
const DMARC_LABEL: &str = "_dmarc.";

/// What DNS holds, by name and type, without trailing dots: TXT strings joined, MX as `10 host`. A name and type that is not
/// in it: DNS did not say.
pub type Zone = BTreeMap<(String, Kind), Vec<String>>;

/// A record to publish, and how it stands with it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What to publish, or what is published already.
    #[serde(flatten)]
    pub record: Record,
    /// Whether it stands there like this; `None`: DNS did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<bool>,
    /// What must go when it is published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<String>,
}

/// Merges each record with what stands there now.
#[must_use]
pub fn merge(wanted: &[Record], zone: &Zone) -> Vec<Entry> {
    wanted.iter().map(|record| entry(record, zone)).collect()
}

fn entry(record: &Record, zone: &Zone) -> Entry {
    let stands = zone.get(&(record.name.clone(), record.kind));
    let plain = |published| Entry { record: record.clone(), published, instead_of: Vec::new() };
    let Some(stands) = stands else { return plain(None) };
    match record.kind {
        Kind::Txt if record.value.starts_with(SPF) => spf(record, stands),
        Kind::Txt if record.name.starts_with(DMARC_LABEL) => dmarc(record, zone),
        Kind::Txt => {
            let right =
                matches!(stands.as_slice(), [one] if one == &record.value || same_key(one, &record.value));
            Entry { instead_of: others(stands, right), ..plain(Some(right)) }
        }
        Kind::Mx => {
            let target = |value: &str| value.rsplit(' ').next().unwrap_or_default().to_ascii_lowercase();
            let right = matches!(stands.as_slice(), [one] if target(one) == target(&record.value));
            Entry { instead_of: others(stands, right), ..plain(Some(right)) }
        }
        Kind::Cname => {
            let right = stands.iter().any(|alias| alias.eq_ignore_ascii_case(&record.value));
            Entry { instead_of: beside_alias(record, zone, right), ..plain(Some(right)) }
        }
    }
}

fn others(stands: &[String], right: bool) -> Vec<String> {
    if right { Vec::new() } else { stands.to_vec() }
}

/// Nothing may stand beside a CNAME (RFC 1034 section 3.6.2); through one that is there, other types show what it leads to.
fn beside_alias(record: &Record, zone: &Zone, right: bool) -> Vec<String> {
    let at = |kind| zone.get(&(record.name.clone(), kind)).cloned().unwrap_or_default();
    let aliases = at(Kind::Cname);
    match (right, aliases.is_empty()) {
        (true, _) => Vec::new(),
        (false, false) => aliases,
        (false, true) => [at(Kind::Txt), at(Kind::Mx)].concat(),
    }
}

/// Whether receivers read from what stands there the key that is wanted. How large that is does not matter here.
fn same_key(stands: &str, wanted: &str) -> bool {
    let Some(octets) = keys::published_octets(wanted) else { return false };
    let is_ed25519 = wanted.split(';').any(|tag| tag.trim() == "k=ed25519");
    let algorithm = if is_ed25519 { Algorithm::Ed25519 } else { Algorithm::Rsa(RSA_BITS_SOUND) };
    let answer = KeyAnswer { alias: None, records: vec![stands.to_owned()] };
    dkim_record::read(&answer, &Public { algorithm, octets }).verifies()
}

fn spf(record: &Record, stands: &[String]) -> Entry {
    let is_spf =
        |text: &&String| text.split_whitespace().next().is_some_and(|term| term.eq_ignore_ascii_case(SPF));
    let present: Vec<String> = stands.iter().filter(is_spf).cloned().collect();
    if present.is_empty() {
        return Entry { record: record.clone(), published: Some(false), instead_of: Vec::new() };
    }
    let needed = spf_record::allowing(&record.value);
    if let [only] = present.as_slice()
        && spf_record::lets(only, &needed)
    {
        let record = Record { value: only.clone(), ..record.clone() };
        return Entry { record, published: Some(true), instead_of: Vec::new() };
    }
    let value = spf_record::mended(&present, &[], &needed);
    Entry { record: Record { value, ..record.clone() }, published: Some(false), instead_of: present }
}

/// A record at the name itself, or at one above it (RFC 9989 section 4.10 walks up), is the owner's choice and stays: a value to
/// start with below a stricter one would weaken it.
fn dmarc(record: &Record, zone: &Zone) -> Entry {
    let is_dmarc = |text: &&String| text.trim_start().starts_with(DMARC);
    let mut name = record.name.strip_prefix(DMARC_LABEL).unwrap_or_default();
    let mut published = Some(false);
    while name.contains('.') {
        let place = format!("{DMARC_LABEL}{name}");
        if !zone.contains_key(&(place.clone(), Kind::Txt)) {
            // What DNS did not say may be a stricter one: nothing is known then.
            published = None;
        }
        let found = zone.get(&(place.clone(), Kind::Txt)).and_then(|texts| texts.iter().find(is_dmarc));
        if let Some(value) = found {
            let why = "the DMARC record that applies: it stays".to_owned();
            let kept = Record { name: place, kind: Kind::Txt, value: value.clone(), why };
            return Entry { record: kept, published: Some(true), instead_of: Vec::new() };
        }
        name = name.split_once('.').map_or("", |(_, above)| above);
    }
    Entry { record: record.clone(), published, instead_of: Vec::new() }
}

/// The names and types to look at before `merge`.
#[must_use]
pub fn questions(wanted: &[Record]) -> Vec<(String, Kind)> {
    let mut all = Vec::new();
    for record in wanted {
        all.push((record.name.clone(), record.kind));
        if record.kind == Kind::Cname {
            all.extend([(record.name.clone(), Kind::Txt), (record.name.clone(), Kind::Mx)]);
        }
        let mut name = record.name.strip_prefix(DMARC_LABEL).unwrap_or_default();
        while let Some((_, above)) = name.split_once('.').filter(|(_, above)| above.contains('.')) {
            all.push((format!("{DMARC_LABEL}{above}"), Kind::Txt));
            name = above;
        }
    }
    all
}

/// The records as zone-file text: each below what it is for and what it takes the place of, with `; published` behind those
/// that stand there already.
#[must_use]
pub fn zone_text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in entries {
        let _ = writeln!(text, "; {}", entry.record.why);
        for old in &entry.instead_of {
            let _ = writeln!(text, "; in place of: {}", old.escape_debug());
        }
        let mark = if entry.published == Some(true) { " ; published" } else { "" };
        let _ = writeln!(text, "{}{mark}", entry.record.line());
    }
    text
}

#[cfg(test)]
mod tests;
