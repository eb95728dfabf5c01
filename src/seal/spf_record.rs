//! The SPF record as it should be: what is there now, in one piece, without what no receiver can read, with the mechanisms
//! that our mail needs. mail-auth evaluates SPF; here a record is only rewritten.

use std::net::IpAddr;

use ipnet::IpNet;

use super::facts::SpfFault;
use super::records::{Kind, Record};
use super::spf;

/// One record of all those that are there (RFC 7208 section 3.2 allows no second), its order kept. Terms that `faults` name
/// are dropped, and each of `needed` is added.
pub(super) fn mended(records: &[String], faults: &[&SpfFault], needed: &[String]) -> String {
    let several = records.len() > 1;
    let mut terms: Vec<String> = Vec::new();
    let mut ends: Vec<&str> = Vec::new();
    let mut modifiers: Vec<String> = Vec::new();
    for term in records.iter().flat_map(|record| record.split_ascii_whitespace().skip(1)) {
        let lower = term.to_ascii_lowercase();
        if let Some(end) = all(&lower) {
            ends.push(end);
        } else if let Some(target) = lower.strip_prefix("redirect=").filter(|_| several) {
            // In one of several a redirect decided what that record left open: now the other's mechanisms may too.
            terms.push(format!("include:{target}"));
        } else if is_modifier(&lower) {
            let broken = |fault: &&SpfFault| names(&fault.what, term) || leads(&fault.what, &lower);
            if is_sound(term) && !faults.iter().any(broken) {
                modifiers.push(term.to_owned());
            }
        } else if is_sound(term) && !faults.iter().any(|fault| names(&fault.what, term)) {
            terms.push(term.to_owned());
        }
    }
    // An address that an earlier term denies must be named before it (RFC 7208 section 4.6.2: the first match decides).
    let denied = terms.iter().position(|term| denies(term));
    let (before, _) = terms.split_at_checked(denied.unwrap_or(terms.len())).unwrap_or((&terms, &[]));
    let missing: Vec<String> = lacking(before, needed).cloned().collect();
    let at = if denied.is_some() { 0 } else { terms.len() };
    terms.splice(at..at, missing);
    let redirected = modifiers.iter().any(|modifier| modifier.to_ascii_lowercase().starts_with("redirect="));
    match mildest(&ends) {
        Some(end) => modifiers.insert(0, format!("{end}all")),
        None if !redirected => modifiers.insert(0, "~all".to_owned()),
        None => {}
    }
    let mut seen: Vec<&str> = Vec::new();
    for term in terms.iter().chain(&modifiers) {
        if !seen.contains(&term.as_str()) {
            seen.push(term);
        }
    }
    std::iter::once("v=spf1").chain(seen).collect::<Vec<_>>().join(" ")
}

/// A record for a name that has none.
pub(super) fn fresh(name: &str, egress: &[IpAddr]) -> Record {
    let terms = egress.iter().map(|address| format!("{} ", mechanism(*address))).collect::<String>();
    Record {
        name: name.to_owned(),
        kind: Kind::Txt,
        value: format!("v=spf1 {terms}~all"),
        why: "the relay may send for this domain".to_owned(),
    }
}

/// `ip4:192.0.2.1`.
pub(super) fn mechanism(address: IpAddr) -> String {
    let name = if address.is_ipv4() { "ip4" } else { "ip6" };
    format!("{name}:{address}")
}

/// Whether a record that every receiver can read lets these send, as it is.
pub(super) fn lets(record: &str, needed: &[String]) -> bool {
    let terms: Vec<String> = record.split_ascii_whitespace().skip(1).map(str::to_owned).collect();
    let ends = |term: &String| denies(term) || all(&term.to_ascii_lowercase()).is_some() || is_modifier(term);
    let before: Vec<String> = terms.iter().take_while(|term| !ends(term)).cloned().collect();
    terms.iter().all(|term| is_sound(term)) && lacking(&before, needed).next().is_none()
}

/// The mechanisms of a record that let somebody send.
pub(super) fn allowing(record: &str) -> Vec<String> {
    let terms = record.split_ascii_whitespace().skip(1);
    let allows =
        |term: &&str| !denies(term) && !is_modifier(term) && all(&term.to_ascii_lowercase()).is_none();
    terms.filter(allows).map(str::to_owned).collect()
}

/// The needed ones that none of these terms lets send already.
fn lacking<'n>(terms: &[String], needed: &'n [String]) -> impl Iterator<Item = &'n String> {
    needed.iter().filter(|needed| !terms.iter().any(|term| covers(term, needed)))
}

fn denies(term: &str) -> bool {
    term.starts_with(['-', '~', '?'])
}

/// Whether a term of a record already lets in what the mechanism would: itself, or a network with the address in it.
fn covers(term: &str, mechanism: &str) -> bool {
    let (term, mechanism) = (term.trim_start_matches('+'), mechanism.trim_start_matches('+'));
    if term.eq_ignore_ascii_case(mechanism) {
        return true;
    }
    match (network(term), network(mechanism)) {
        (Some(wide), Some(narrow)) => wide.contains(&narrow),
        (Some(_) | None, Some(_) | None) => false,
    }
}

fn network(mechanism: &str) -> Option<IpNet> {
    let (name, value) = mechanism.split_once(':')?;
    if !name.eq_ignore_ascii_case("ip4") && !name.eq_ignore_ascii_case("ip6") {
        return None;
    }
    value.parse().ok().or_else(|| value.parse().ok().map(|address: IpAddr| address.into()))
}

/// Whether a record lets everybody send.
pub(super) fn allows_anybody(record: &str) -> bool {
    record
        .split_ascii_whitespace()
        .skip(1)
        .any(|term| matches!(term.to_ascii_lowercase().as_str(), "all" | "+all"))
}

/// The qualifier of a term that is `all`.
fn all(term: &str) -> Option<&'static str> {
    match term {
        "all" | "+all" => Some("+"),
        "?all" => Some("?"),
        "~all" => Some("~"),
        "-all" => Some("-"),
        _ => None,
    }
}

/// Merging must not refuse mail that one of the records let pass; but nobody is invited who was not.
fn mildest<'e>(ends: &[&'e str]) -> Option<&'e str> {
    ["?", "~", "-", "+"].into_iter().find_map(|end| ends.iter().copied().find(|known| *known == end))
}

/// RFC 7208 section 6; `exp=` and what nobody knows may stay.
fn is_modifier(term: &str) -> bool {
    term.split_once('=').is_some_and(|(name, value)| {
        !value.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    })
}

/// Whether a term is one that every receiver reads.
fn is_sound(term: &str) -> bool {
    spf::Record::read(&format!("v=spf1 {term}")).faults.is_empty()
}

/// Whether a sentence names a term, whole.
fn names(sentence: &str, term: &str) -> bool {
    sentence.split(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | ',' | ';' | '(' | ')')).any(
        |word| {
            let word = word.strip_suffix(':').unwrap_or(word);
            word.eq_ignore_ascii_case(term)
        },
    )
}

/// Whether a sentence complains of where a redirect leads, which the survey calls an include as receivers do.
fn leads(sentence: &str, term: &str) -> bool {
    term.strip_prefix("redirect=").is_some_and(|target| names(sentence, &format!("include:{target}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Records, what faults say of them, the record when mended, why.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a str, &'a str);

    const ROWS: &[Row<'_>] = &[
        (
            &["v=spf1 include:a.example ~all"],
            &[],
            "v=spf1 include:a.example ip4:192.0.2.1 ~all",
            "before all",
        ),
        (&["v=spf1 -all"], &[], "v=spf1 ip4:192.0.2.1 -all", "the domain that sent nothing yet"),
        (
            &["v=spf1 mx redirect=a.example"],
            &[],
            "v=spf1 mx ip4:192.0.2.1 redirect=a.example",
            "before redirect, which decides the rest",
        ),
        (&["v=spf1 mx"], &[], "v=spf1 mx ip4:192.0.2.1 ~all", "an end where there was none"),
        (
            &["v=spf1 -ip4:192.0.2.0/24 mx ~all"],
            &[],
            "v=spf1 ip4:192.0.2.1 -ip4:192.0.2.0/24 mx ~all",
            "before a term that denies it",
        ),
        (
            &["v=spf1 mx -all", "v=spf1 include:a.example mx ~all"],
            &[],
            "v=spf1 mx include:a.example ip4:192.0.2.1 ~all",
            "two become one, nothing twice, the milder end",
        ),
        (
            &["v=spf1 redirect=b.example", "v=spf1 mx -all"],
            &[],
            "v=spf1 include:b.example mx ip4:192.0.2.1 -all",
            "a redirect of one of two",
        ),
        (
            &["v=spf1 ip4:300.1.1.1 ip4:10.0.0.0/33 ip6:192.0.2.9 foo bar:x include: ip4 a -all"],
            &[],
            "v=spf1 a ip4:192.0.2.1 -all",
            "what no receiver reads",
        ),
        (
            &["v=spf1 include:gone.example mx ~all"],
            &["`include:gone.example` leads to a name without SPF"],
            "v=spf1 mx ip4:192.0.2.1 ~all",
            "the term that a fault names",
        ),
        (
            &["v=spf1 mx redirect=gone.example"],
            &["`include:gone.example`: there is no SPF record at gone.example"],
            "v=spf1 mx ip4:192.0.2.1 ~all",
            "a redirect to nothing",
        ),
        (&["v=spf1 ip4:192.0.2.1 mx ~all"], &[], "v=spf1 ip4:192.0.2.1 mx ~all", "nothing to add"),
        (&["v=spf1 ip4:192.0.2.0/24 ~all"], &[], "v=spf1 ip4:192.0.2.0/24 ~all", "its network is there"),
        (&["V=SPF1 +IP4:192.0.2.1 ~ALL"], &[], "v=spf1 +IP4:192.0.2.1 ~all", "in another spelling"),
        (
            &["v=spf1 ip4:192.0.2.1/31 ~all"],
            &[],
            "v=spf1 ip4:192.0.2.1/31 ~all",
            "in a network with host bits",
        ),
        (
            &["v=spf1 ~all ip4:192.0.2.1"],
            &[],
            "v=spf1 ip4:192.0.2.1 ~all",
            "behind all it counted for nothing",
        ),
        (
            &["v=spf1 -mx ip4:192.0.2.1 ~all"],
            &[],
            "v=spf1 ip4:192.0.2.1 -mx ~all",
            "behind a term that may deny it",
        ),
        (&["v=spf1"], &[], "v=spf1 ip4:192.0.2.1 ~all", "an empty record"),
        (&["v=spf1 +all"], &[], "v=spf1 ip4:192.0.2.1 +all", "the qualifier is not ours to judge"),
        (
            &["v=spf1 exp=e.example mx ~all"],
            &[],
            "v=spf1 mx ip4:192.0.2.1 ~all exp=e.example",
            "modifiers last",
        ),
    ];

    #[test]
    fn records_and_how_they_read_when_mended() {
        let ours = "ip4:192.0.2.1";
        for (records, faults, wanted, why) in ROWS {
            let records: Vec<_> = records.iter().map(|text| (*text).to_owned()).collect();
            let faults: Vec<_> =
                faults.iter().map(|what| SpfFault { name: "x".into(), what: (*what).into() }).collect();
            let faults: Vec<_> = faults.iter().collect();
            assert_eq!(mended(&records, &faults, &[ours.to_owned()]), *wanted, "{why}");
        }
    }

    #[test]
    fn what_a_record_lets_already() {
        for (record, lets, why) in [
            ("v=spf1 ip4:192.0.2.1 -all", true, "named"),
            (
                "v=spf1 exp=e.example ip4:192.0.2.1 -all",
                false,
                "a modifier ends what is looked at: mended, it is clear",
            ),
            ("v=spf1 mx ip4:192.0.2.0/24", true, "its network"),
            ("v=spf1 ~all ip4:192.0.2.1", false, "behind all"),
            ("v=spf1 -mx ip4:192.0.2.1 ~all", false, "behind a term that may deny it"),
            ("v=spf1 ip4:192.0.2.1 ipv4:192.0.2.2 -all", false, "a term that no receiver reads"),
        ] {
            assert_eq!(super::lets(record, &["ip4:192.0.2.1".to_owned()]), lets, "{record}: {why}");
        }
        let all = allowing("v=spf1 mx -ip4:192.0.2.9 +a:x.example ~all exp=e.example");
        assert_eq!(all, ["mx", "+a:x.example"]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(existing in "\\PC{0,60}", mechanism in "[!-~]{1,20}") {
            let once = mended(std::slice::from_ref(&existing), &[], std::slice::from_ref(&mechanism));
            prop_assert!(once.split_whitespace().any(|term| covers(term, &mechanism)), "{}", once);
            let _ = super::lets(&existing, &[mechanism]);
        }

        #[test]
        fn mending_is_done_once(text in "v=spf1( [-~?+]?(all|mx|a:x\\.example|ip4:[0-9.]{3,9}|redirect=x|foo)){0,6}") {
            let needed = ["ip4:192.0.2.1".to_owned()];
            let once = mended(&[text], &[], &needed);
            prop_assert!(once.contains("ip4:192.0.2.1"));
            prop_assert_eq!(mended(std::slice::from_ref(&once), &[], &needed), once.clone());
        }
    }
}
