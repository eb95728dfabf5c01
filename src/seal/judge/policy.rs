//! DMARC's own records: is there one, do all receivers read it, do the old and the new reading agree, are reports allowed?

use super::{Bench, Change, Finding, Level, Policy, text};
use crate::seal::dmarc::{Reading, Readings};
use crate::seal::dmarc_record::{self, Record, Standing, is_dmarc, is_meant};
use crate::seal::facts::Walk;
use crate::seal::tags::short;

const CHECK: &str = "dmarc";
const BEGINNING: &str = "v=DMARC1";

pub(super) fn look(bench: &Bench<'_>) -> Vec<Finding> {
    let (Some(known), Some(readings)) = (&bench.case.author.dmarc, bench.readings) else {
        let says = format!("DNS did not answer for DMARC of {}", bench.case.author.domain);
        let fix = "ask again later; nothing is decided by silence";
        return vec![Finding::new(CHECK, Level::Warning, says).fix(fix)];
    };
    let walk = &known.value;
    let mut findings = Vec::new();
    // Only these names are asked by every receiver; what stands between them, or above what decides, troubles none.
    let author = bench.case.author.domain.as_str();
    let asked = [author, &readings.walk.organization, &readings.suffix.organization];
    for (name, records) in walk.steps.iter().filter(|(name, _)| asked.contains(&name.as_str())) {
        findings.extend(standing(name, records));
        if readings.walk.source.as_deref() == Some(name) {
            break;
        }
    }
    if readings.walk.source.is_none() && findings.is_empty() {
        findings.push(missing(bench));
    }
    findings.extend(differing(bench, readings));
    findings.extend(
        walk.reports.iter().filter(|(_, agreed)| !agreed).map(|(to, _)| unasked(bench, walk, readings, to)),
    );
    if let (true, Some(source), Some(policy)) =
        (findings.is_empty(), &readings.walk.source, readings.walk.policy)
    {
        findings.push(Finding::new(
            CHECK,
            Level::Ok,
            format!("p={policy} applies, by the record of {source}"),
        ));
    }
    findings
}

/// What is wrong with what stands at one `_dmarc` name.
fn standing(name: &str, records: &[String]) -> Vec<Finding> {
    let replaced = |says: String, level: Level, value: String, instead_of: &str| {
        let record = text(
            format!("_dmarc.{name}"),
            value,
            "the DMARC record that is there, as every receiver reads it",
        );
        let finding = Finding::new(CHECK, level, says);
        if matches!(records, [only] if *only == record.value) {
            return finding;
        }
        let change = Change::Replace { record, instead_of: instead_of.to_owned() };
        finding.fix("publish this record in place of what is there").change(Some(change))
    };
    match Standing::of(records) {
        Standing::None => records
            .iter()
            .find(|text| is_meant(text))
            .map(|meant| {
                let says =
                    format!("_dmarc.{name} holds `{}`, which receivers do not take for DMARC", short(meant));
                replaced(says, Level::Warning, dmarc_record::merged(records), "")
            })
            .into_iter()
            .collect(),
        Standing::Several(count) => {
            let says = format!(
                "_dmarc.{name} holds {count} DMARC records: some receivers call that an error, the others act as if there were none"
            );
            vec![replaced(says, Level::Error, dmarc_record::merged(records), BEGINNING)]
        }
        Standing::One(record) => {
            let says = |what: &str| format!("_dmarc.{name}: {what}");
            let unusable = record.p.is_none() && record.rua.is_empty();
            if let Some(fault) = record.faults.first() {
                let what = format!("{fault}: some receivers refuse the whole record");
                // Mail that is authenticated is so without a record too; only where the policy itself cannot be read is it anybody's
                // guess what applies.
                let level = if record.policy_broken() { Level::Error } else { Level::Warning };
                vec![replaced(says(&what), level, record.mended(&[]), BEGINNING)]
            } else if unusable {
                let what = "it has no p=, so it says nothing";
                vec![replaced(says(what), Level::Error, record.mended(&[]), BEGINNING)]
            } else {
                odd(name, &record, records)
                    .map(|(what, value)| replaced(says(&what), Level::Warning, value, BEGINNING))
                    .into_iter()
                    .collect()
            }
        }
    }
}

/// What receivers skip in a record that they read.
fn odd(name: &str, record: &Record, records: &[String]) -> Option<(String, String)> {
    let inexact = records.iter().any(|text| is_dmarc(text) && !text.starts_with(BEGINNING));
    let mut oddities = record.oddities.clone();
    if inexact {
        oddities.push(format!("_dmarc.{name} does not begin with {BEGINNING}, letter for letter"));
    }
    (!oddities.is_empty()).then(|| (oddities.join("; "), record.mended(&[])))
}

fn missing(bench: &Bench<'_>) -> Finding {
    let name = format!("_dmarc.{}", bench.case.author.domain);
    let wanted = bench.wanted(&name, |record| is_dmarc(&record.value)).cloned();
    let record = wanted.unwrap_or_else(|| {
        text(
            name,
            "v=DMARC1; p=none".to_owned(),
            "large receivers want a DMARC record; a value to start with",
        )
    });
    let says = format!(
        "{} has no DMARC record, which large receivers want from those who send much",
        bench.case.author.domain
    );
    Finding::new(CHECK, Level::Warning, says).fix("publish this record").change(Some(Change::Publish(record)))
}

/// Receivers that go by the public suffix list find another policy.
fn differing(bench: &Bench<'_>, readings: &Readings) -> Option<Finding> {
    let (new, old) = (&readings.walk, &readings.suffix);
    if new.policy == old.policy {
        return None;
    }
    let shown =
        |reading: &Reading| reading.policy.map_or_else(|| "none".to_owned(), |policy| format!("p={policy}"));
    let says = format!(
        "receivers differ on the policy of {}: those that follow RFC 9989 find {}, those that go by the public suffix list find {}",
        bench.case.author.domain,
        shown(new),
        shown(old)
    );
    // Mail that passes is believed by both; only what fails meets the stricter of the two.
    let level = if old.policy.max(new.policy) > Some(Policy::None) { Level::Warning } else { Level::Ok };
    Some(
        Finding::new(CHECK, level, says)
            .fix("publish a DMARC record at the From domain itself; it counts for both"),
    )
}

/// RFC 9990 section 4: a report address in another domain, whose owner did not agree.
fn unasked(bench: &Bench<'_>, walk: &Walk, readings: &Readings, to: &str) -> Finding {
    let source =
        readings.walk.source.as_deref().or_else(|| walk.steps.first().map(|(name, _)| name.as_str()));
    let source = source.unwrap_or(bench.case.author.domain.as_str());
    let to = short(to);
    let record = text(
        format!("{source}._report._dmarc.{to}"),
        BEGINNING.to_owned(),
        "reports about the other domain may be sent here",
    );
    Finding::new(
        CHECK,
        Level::Warning,
        format!("{to} has not agreed to take reports about {source}, so none are sent there"),
    )
    .fix(format!("whoever runs {to} publishes this record; or take the address out of rua="))
    .change(Some(Change::Publish(record)))
}
