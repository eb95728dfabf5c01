//! What is to be published, merged with what stands there now: an SPF record gets the mechanisms that it lacks and never a
//! second one beside it, a DMARC record that is there stays, and what is right already is said to be.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::dkim_record;
use super::dmarc;
use super::dmarc_record::{self, is_dmarc, is_meant};
use super::facts::{KeyAnswer, Walk};
use super::keys::{self, Algorithm, Public, RSA_BITS_SOUND};
use super::records::{Kind, Record};
use super::spf_record;
use crate::mail::address::Domain;

/// Every SPF record begins with this term (RFC 7208 section 4.5).
const SPF: &str = "v=spf1";
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
        Kind::Txt if record.name.starts_with(DMARC_LABEL) => policy(record, stands, zone),
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

/// The record that applies, at the name itself or at one above it, is the owner's choice and stays: a value to start with below
/// a stricter one would weaken it. One here that does not apply goes: two records are no policy at all (RFC 9989 section 4.10).
fn policy(record: &Record, stands: &[String], zone: &Zone) -> Entry {
    let author = record.name.strip_prefix(DMARC_LABEL).unwrap_or_default();
    let (mut steps, mut silent) = (Vec::new(), false);
    for name in dmarc::names(author) {
        match zone.get(&(format!("{DMARC_LABEL}{name}"), Kind::Txt)) {
            Some(texts) => steps.push((name.to_owned(), texts.clone())),
            None => silent = true,
        }
    }
    if let Some((name, value)) = applying(author, steps) {
        let why = "the DMARC record that applies: it stays".to_owned();
        let kept = Record { name: format!("{DMARC_LABEL}{name}"), kind: Kind::Txt, value, why };
        return Entry { record: kept, published: Some(true), instead_of: Vec::new() };
    }
    let instead_of: Vec<String> =
        stands.iter().filter(|text| is_dmarc(text) || is_meant(text)).cloned().collect();
    if !instead_of.is_empty() {
        let record = Record { value: dmarc_record::merged(&instead_of), ..record.clone() };
        return Entry { record, published: Some(false), instead_of };
    }
    // What DNS did not say may be a stricter one: nothing is known then.
    Entry { record: record.clone(), published: (!silent).then_some(false), instead_of }
}

/// The record that receivers go by, as the judge finds it, and where it stands.
fn applying(author: &str, steps: Vec<(String, Vec<String>)>) -> Option<(String, String)> {
    let author: Domain = author.parse().ok()?;
    let walk = Walk { steps, exists: true, reports: Vec::new() };
    let source = dmarc::readings(&author, &walk).walk.source?;
    let (name, texts) = walk.steps.into_iter().find(|(name, _)| *name == source)?;
    texts.into_iter().find(|text| is_dmarc(text)).map(|text| (name, text))
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
        if let Some(author) = record.name.strip_prefix(DMARC_LABEL) {
            let above = dmarc::names(author).into_iter().skip(1);
            all.extend(above.map(|name| (format!("{DMARC_LABEL}{name}"), Kind::Txt)));
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
