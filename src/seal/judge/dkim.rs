//! DKIM as receivers will find it: is our key the one that is published, and is d= aligned? RSA must be there: some receivers
//! know no Ed25519.

use super::{Bench, Candidate, Change, Finding, Finds, Level, Part, Picture, text};
use crate::seal::align::{Alignment, Identifier, alignment};
use crate::seal::dkim_record::{self, Fault, Note, Seen};
use crate::seal::dmarc_record::{Mode, Psd, Standing};
use crate::seal::facts::KeyAnswer;
use crate::seal::keys::Algorithm;
use crate::seal::records::{Kind, Record};

const CHECK: &str = "dkim";

/// The part, and the selectors at which our own octets were seen.
pub(super) fn look(bench: &Bench<'_>) -> (Part, Vec<String>) {
    let case = bench.case;
    let mut verified = Vec::new();
    let mut findings = Vec::new();
    let (mut sound, mut silent) = (false, false);
    for key in case.keys {
        let rsa = matches!(key.public.algorithm, Algorithm::Rsa(_));
        let Some(known) = case.signer.keys.get(key.selector).and_then(Option::as_ref) else {
            silent |= rsa;
            let says = format!("DNS did not answer for {}", name(key, case.signer));
            findings.push(
                Finding::new(CHECK, Level::Warning, says)
                    .fix("ask again later; nothing is decided by silence"),
            );
            continue;
        };
        let seen = dkim_record::read(&known.value, key.public);
        sound |= rsa && seen.verifies();
        if seen.ours {
            verified.push(key.selector.to_owned());
        }
        findings.push(finding(bench, key, &known.value, &seen));
    }
    findings.extend(without_rsa(bench));
    if sound {
        // One RSA key that verifies is enough; what is wrong with another is no reason to refuse.
        for finding in &mut findings {
            finding.level = finding.level.max(Level::Warning);
        }
        settle_ok(&mut findings);
    }
    let aligned = alignment(case.signer, &case.author.domain, bench.readings, Identifier::Dkim);
    findings.extend(misaligned(bench, aligned));
    let finds = match (sound, aligned.holds()) {
        (true, Some(true)) => Finds::Pass,
        (_, Some(false)) => Finds::Fail,
        (true, None) => Finds::Unknown,
        (false, _) if silent => Finds::Unknown,
        (false, _) => Finds::Fail,
    };
    (Part { finds, open: finds == Finds::Unknown, findings }, verified)
}

fn name(key: &Candidate<'_>, signer: &Picture) -> String {
    format!("{}._domainkey.{}", key.selector, signer.domain)
}

fn finding(bench: &Bench<'_>, key: &Candidate<'_>, answer: &KeyAnswer, seen: &Seen) -> Finding {
    let name = name(key, bench.case.signer);
    if let Some(first) = seen.faults.first() {
        let others = seen.faults.iter().skip(1).map(|fault| format!("; it {fault}"));
        let through = match (&answer.alias, first) {
            (Some(alias), Fault::Missing) => format!(": the CNAME to {alias} leads to no key"),
            (Some(alias), _) => format!(" (through the CNAME to {alias})"),
            (None, _) => String::new(),
        };
        let says = format!("{name} {first}{}{through}", others.collect::<String>());
        if let Some(Fault::TooSmall(_)) = seen.faults.iter().find(|fault| matches!(fault, Fault::TooSmall(_)))
        {
            let fix = format!("make a new key: waxseal key generate {}", bench.case.signer.domain);
            return Finding::new(CHECK, Level::Error, says).fix(fix);
        }
        let (fix, change) = remedy(bench, key, answer, name);
        return Finding::new(CHECK, Level::Error, says).fix(fix).change(Some(change));
    }
    match seen.notes.first() {
        None => {
            Finding::new(CHECK, Level::Ok, format!("{name} holds our key ({})", kind(key.public.algorithm)))
        }
        Some(note) => {
            let finding = Finding::new(CHECK, Level::Warning, format!("{name} {note}"));
            match note {
                Note::Testing => {
                    let (fix, change) = remedy(bench, key, answer, name);
                    finding.fix(fix).change(Some(change))
                }
                Note::Small(_) => {
                    finding.fix(format!("make a new key: waxseal key generate {}", bench.case.signer.domain))
                }
            }
        }
    }
}

fn kind(algorithm: Algorithm) -> String {
    match algorithm {
        Algorithm::Rsa(bits) => format!("RSA-{bits}"),
        Algorithm::Ed25519 => "Ed25519".to_owned(),
    }
}

/// The record that puts it right: ours, or, where a CNAME of ours leads into the relay's own zone, the one there.
fn remedy(bench: &Bench<'_>, key: &Candidate<'_>, answer: &KeyAnswer, name: String) -> (String, Change) {
    let wanted = bench.wanted(&name, |record| matches!(record.kind, Kind::Txt | Kind::Cname)).cloned();
    let wanted = wanted
        .unwrap_or_else(|| text(name, key.public.record(), "receivers check the DKIM signature with it"));
    if wanted.kind == Kind::Cname && answer.alias.as_deref().is_some_and(|alias| same(alias, &wanted.value)) {
        let fix = format!(
            "the domain's CNAME is right; in the relay's own zone, publish the key at {}",
            wanted.value
        );
        let own = text(wanted.value, key.public.record(), "the domain's CNAME points here for its DKIM key");
        return (fix, Change::to(own, !answer.records.is_empty(), ""));
    }
    let something = answer.alias.is_some() || !answer.records.is_empty();
    let fix = if something {
        format!("replace what stands at {} by this record", wanted.name)
    } else {
        "publish this record".to_owned()
    };
    (fix, Change::to(wanted, something, ""))
}

fn same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

/// No RSA key would sign.
fn without_rsa(bench: &Bench<'_>) -> Option<Finding> {
    let case = bench.case;
    if case.keys.iter().any(|key| matches!(key.public.algorithm, Algorithm::Rsa(_))) {
        return None;
    }
    let says = if case.keys.is_empty() {
        format!("there is no DKIM key for {}", case.signer.domain)
    } else {
        "there is only an Ed25519 key, which some receivers do not know: for them the mail is not signed"
            .to_owned()
    };
    let fix = format!("make an RSA key: waxseal key generate {}", case.signer.domain);
    Some(Finding::new(CHECK, Level::Error, says).fix(fix))
}

/// A second key that is not published yet is worth a warning only while it would sign: the words say so.
fn settle_ok(findings: &mut [Finding]) {
    for finding in
        findings.iter_mut().filter(|finding| finding.change.is_some() && finding.level == Level::Warning)
    {
        finding.says.push_str("; another key is in order and signs alone");
    }
}

/// d= is not aligned with the From domain, under one reading or both.
fn misaligned(bench: &Bench<'_>, aligned: Alignment) -> Option<Finding> {
    let (signer, author) = (&bench.case.signer.domain, &bench.case.author.domain);
    let strict = bench
        .readings
        .is_some_and(|readings| readings.walk.adkim == Mode::Strict || readings.suffix.adkim == Mode::Strict);
    let own = format!("sign with a key of {author} itself: waxseal key generate {author}");
    match (aligned.walk, aligned.suffix) {
        (Some(true), Some(true)) => None,
        (_, Some(false)) | (Some(false), _) => {
            let reason = if strict {
                " (adkim=s wants the same name)"
            } else if aligned.walk == Some(true) {
                " for receivers that go by the public suffix list"
            } else if aligned.suffix == Some(true) {
                " for receivers that follow RFC 9989: a psd= tag parts the two"
            } else {
                ""
            };
            let says = format!("d={signer} is not aligned with {author}{reason}");
            let change = loosened(bench, if strict { "adkim" } else { "psd" });
            let fix = if change.is_some() { format!("{own}; or loosen the DMARC record") } else { own };
            Some(Finding::new(CHECK, Level::Error, says).fix(fix).change(change))
        }
        (None, _) | (_, None) => {
            let says = format!(
                "whether d={signer} is aligned with {author} is not known: DNS did not answer for DMARC"
            );
            Some(
                Finding::new(CHECK, Level::Warning, says)
                    .fix("ask again later; nothing is decided by silence"),
            )
        }
    }
}

/// The author's DMARC record without the tag that keeps d= from aligning, where that would align them.
fn loosened(bench: &Bench<'_>, tag: &str) -> Option<Change> {
    let (signer, author) = (&bench.case.signer.domain, &bench.case.author.domain);
    let related =
        crate::seal::dmarc::registered(signer.as_str()) == crate::seal::dmarc::registered(author.as_str());
    let walk = &bench.case.author.dmarc.as_ref()?.value;
    let standing = |records: &Vec<String>| match Standing::of(records) {
        Standing::One(record) => Some(record),
        Standing::None | Standing::Several(_) => None,
    };
    let mut found = walk.steps.iter().filter_map(|(name, records)| Some((name, standing(records)?)));
    let (name, record) = found.find(|(_, record)| match tag {
        "adkim" => record.adkim == Mode::Strict,
        _ => record.psd == Psd::No,
    })?;
    let record: Record = text(
        format!("_dmarc.{name}"),
        record.mended(&[tag]),
        "the record that is there, without the tag that parts d= from the From domain",
    );
    related.then_some(Change::Replace { record, instead_of: "v=DMARC1".to_owned() })
}
