//! The keys of an OpenDKIM: its KeyTable and SigningTable, read as a plan of what can be taken over.
//!
//! Waxseal signs with a key of the From domain or of a domain above it, so a line that signs for somebody else's domain is
//! left, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::mail::address::Domain;

/// What can be taken over, and what cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Keys to copy, each once, by domain and selector.
    pub take: Vec<Take>,
    /// Lines that are left, in the order of the files.
    pub left: Vec<Left>,
}

/// A key to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Take {
    /// `d=`.
    pub domain: Domain,
    /// `s=`.
    pub selector: String,
    /// The private key's file.
    pub file: PathBuf,
    /// What will be different, and what is to be done.
    pub notes: Vec<String>,
}

/// A line that is not taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Table and line: `KeyTable:3`.
    pub place: String,
    /// Why.
    pub why: String,
}

/// A line of the KeyTable.
struct Entry<'a> {
    line: usize,
    /// `None`: the domain of the sender (`%`).
    domain: Option<Domain>,
    selector: &'a str,
    file: PathBuf,
}

/// Reads both tables. Relative paths in the KeyTable are taken from `base`.
#[must_use]
pub fn plan(key_table: &str, signing_table: &str, base: &Path) -> Plan {
    let mut plan = Plan::default();
    let mut entries: BTreeMap<&str, Entry<'_>> = BTreeMap::new();
    for (line, name, value) in lines(key_table) {
        match entry(line, value, base) {
            // OpenDKIM takes the first of two lines with one name.
            Ok(_) if entries.contains_key(name) => {
                plan.leave("KeyTable", line, format!("{name} is named twice"))
            }
            Ok(entry) => drop(entries.insert(name, entry)),
            Err(why) => plan.leave("KeyTable", line, why),
        }
    }
    let mut used = BTreeSet::new();
    for (line, pattern, value) in lines(signing_table) {
        let name = value.split_whitespace().next().unwrap_or_default();
        let Some(entry) = entries.get(name) else {
            let why = format!("the KeyTable has no usable key {name}");
            plan.leave("SigningTable", line, why);
            continue;
        };
        used.insert(name);
        match matched(pattern, entry) {
            Ok((domain, notes)) => plan.take(domain, entry, notes),
            Err(why) => plan.leave("SigningTable", line, why),
        }
    }
    for (name, entry) in entries.iter().filter(|(name, _)| !used.contains(*name)) {
        plan.leave("KeyTable", entry.line, format!("no line of the SigningTable uses {name}"));
    }
    plan
}

impl Plan {
    fn leave(&mut self, table: &str, line: usize, why: String) {
        self.left.push(Left { place: format!("{table}:{line}"), why });
    }

    fn take(&mut self, domain: Domain, entry: &Entry<'_>, notes: Vec<String>) {
        let same = |take: &&mut Take| take.domain == domain && take.selector == entry.selector;
        if let Some(known) = self.take.iter_mut().find(same) {
            known.notes.extend(notes);
            return;
        }
        let (selector, file) = (entry.selector.to_owned(), entry.file.clone());
        self.take.push(Take { domain, selector, file, notes });
    }
}

/// Lines with their numbers, as key and value; comments and empty lines left out (opendkim(8), DATA SETS).
fn lines(table: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    table.lines().enumerate().filter_map(|(at, line)| {
        let text = line.split('#').next().unwrap_or_default().trim();
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        (!key.is_empty()).then(|| (at + 1, key, value.trim()))
    })
}

/// `domain:selector:file`.
fn entry<'a>(line: usize, value: &'a str, base: &Path) -> Result<Entry<'a>, String> {
    let mut parts = value.splitn(3, ':').map(str::trim);
    let (Some(domain), Some(selector), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("`{value}` is not domain:selector:file"));
    };
    let domain = match domain {
        "%" => None,
        named => Some(named.parse().map_err(|error| format!("`{named}` is no domain: {error}"))?),
    };
    if selector.parse::<Domain>().is_err() {
        return Err(format!("`{selector}` is no selector"));
    }
    // opendkim.conf(5): what begins with neither is the key itself.
    if !key.starts_with(['/', '.']) {
        return Err(
            "the key itself stands in the table: write it to a file, and use key import --file".to_owned()
        );
    }
    Ok(Entry { line, domain, selector, file: base.join(key) })
}

/// The domain whose key a line of the SigningTable means, or why it cannot be had.
fn matched(pattern: &str, entry: &Entry<'_>) -> Result<(Domain, Vec<String>), String> {
    let (local, host) = match pattern.rsplit_once('@') {
        Some((local, host)) => (local, host),
        None => ("*", pattern),
    };
    // `*@*.acme.example` (refile) and `.acme.example` (file): the names below.
    let below = host.strip_prefix("*.").or_else(|| host.strip_prefix('.'));
    let named = below.unwrap_or(host);
    if named.is_empty() || named.contains('*') || named == "%" {
        return everybody(pattern, entry);
    }
    let from: Domain = named.parse().map_err(|error| format!("`{named}` is no domain: {error}"))?;
    let domain = entry.domain.clone().unwrap_or_else(|| from.clone());
    if !from.is_within(&domain) {
        return Err(format!(
            "it signs mail from {from} as {domain}: receivers do not take that for {from}'s signature"
        ));
    }
    let mut notes = Vec::new();
    if local != "*" {
        notes.push(format!("it was used for {pattern} only; here it signs for all of {domain}"));
    }
    if below.is_some() || from != domain {
        notes.push(format!("for names below {domain} the tenant's file needs subdomains = true"));
    }
    Ok((domain, notes))
}

/// A pattern for every sender: its key is its own domain's, and no more.
fn everybody(pattern: &str, entry: &Entry<'_>) -> Result<(Domain, Vec<String>), String> {
    let Some(domain) = entry.domain.clone() else {
        return Err(format!(
            "{pattern} signs for every domain with one key: import it for each with key import --file"
        ));
    };
    let notes = vec![format!("it was used for {pattern}; here it signs for {domain} only")];
    Ok((domain, notes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The plan as lines: `acme.example mail /k/a.pem`, and `SigningTable:1 why`.
    fn shown(keys: &str, signing: &str) -> Vec<String> {
        let plan = plan(keys, signing, Path::new("/k"));
        let take = plan.take.iter().map(|take| {
            let notes =
                if take.notes.is_empty() { String::new() } else { format!(" ({})", take.notes.join("; ")) };
            format!("{} {} {}{notes}", take.domain, take.selector, take.file.display())
        });
        take.chain(plan.left.iter().map(|left| format!("{} {}", left.place, left.why))).collect()
    }

    #[allow(clippy::too_many_lines, reason = "a table")]
    #[test]
    fn what_is_taken_and_what_is_left() {
        let key = "a acme.example:mail:/k/a.pem\n";
        let taken = "acme.example mail /k/a.pem";
        let rows: &[(&str, &str, &[&str], &str)] = &[
            (key, "*@acme.example a\n", &[taken], "the usual line, with a refile pattern"),
            (key, "acme.example a\n", &[taken], "a plain file's"),
            (
                "# keys\n\na\tacme.example:mail:./a.pem # ours\n",
                "*@ACME.example a",
                &["acme.example mail /k/./a.pem"],
                "comments, tabs, a relative path",
            ),
            (key, "*@acme.example a\n*@acme.example a\n", &[taken], "a key named by two lines is taken once"),
            (
                key,
                "news@acme.example a\n",
                &[
                    "acme.example mail /k/a.pem (it was used for news@acme.example only; here it signs for all of acme.example)",
                ],
                "one sender only",
            ),
            (
                key,
                "*@*.acme.example a\n",
                &[
                    "acme.example mail /k/a.pem (for names below acme.example the tenant's file needs subdomains = true)",
                ],
                "names below",
            ),
            (
                key,
                "*@news.acme.example a\n",
                &[
                    "acme.example mail /k/a.pem (for names below acme.example the tenant's file needs subdomains = true)",
                ],
                "a name below, signed by the one above",
            ),
            (
                key,
                "* a\n",
                &["acme.example mail /k/a.pem (it was used for *; here it signs for acme.example only)"],
                "everybody's mail",
            ),
            (
                key,
                "*@other.example a\n",
                &[
                    "SigningTable:1 it signs mail from other.example as acme.example: receivers do not take that for other.example's signature",
                ],
                "for another domain",
            ),
            (
                "a %:mail:/k/a.pem\n",
                "*@b.example a\n*@c.example a\n",
                &["b.example mail /k/a.pem", "c.example mail /k/a.pem"],
                "one key for whoever sends",
            ),
            (
                "a %:mail:/k/a.pem\n",
                "* a\n",
                &[
                    "SigningTable:1 * signs for every domain with one key: import it for each with key import --file",
                ],
                "nobody knows for which domains",
            ),
            (
                key,
                "*@acme.example b\n",
                &[
                    "SigningTable:1 the KeyTable has no usable key b",
                    "KeyTable:1 no line of the SigningTable uses a",
                ],
                "names that do not meet",
            ),
            (
                "a acme.example:mail\n",
                "",
                &["KeyTable:1 `acme.example:mail` is not domain:selector:file"],
                "a field is missing",
            ),
            ("a acme.example:ma il:/x\n", "", &["KeyTable:1 `ma il` is no selector"], "no selector"),
            (
                "a acme.example:mail:MIIEvQ\n",
                "",
                &[
                    "KeyTable:1 the key itself stands in the table: write it to a file, and use key import --file",
                ],
                "the key in the table",
            ),
            (
                "a acme.example:mail:/k/a.pem\na b.example:x:/k/b.pem\n",
                "*@acme.example a\n",
                &[taken, "KeyTable:2 a is named twice"],
                "one name twice",
            ),
        ];
        for (keys, signing, expected, why) in rows {
            assert_eq!(shown(keys, signing), *expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(keys in "\\PC{0,80}", signing in "(\\PC|\n){0,80}") {
            let plan = plan(&keys, &signing, Path::new("/k"));
            let lines = keys.lines().count() + signing.lines().count();
            prop_assert!(plan.take.len() + plan.left.len() <= 2 * lines);
        }
    }
}
