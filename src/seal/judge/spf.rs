//! SPF as receivers will find it, at the domain and for the addresses that our mail really leaves from. Softfail, neutral and
//! errors are no pass anywhere, and a record that only lenient receivers evaluate is none.

use std::net::IpAddr;

use super::{Bench, Change, Finding, Finds, Level, Part, text};
use crate::seal::align::{Identifier, alignment};
use crate::seal::dmarc_record::Mode;
use crate::seal::facts::{SpfAnswer, SpfFault, SpfResult};
use crate::seal::records::{Kind, Record};
use crate::seal::spf::{LOOKUPS_MAX, VOIDS_MAX, is_spf};
use crate::seal::spf_record;
use crate::seal::tags::short;

const CHECK: &str = "spf";

pub(super) fn look(bench: &Bench<'_>) -> Part {
    let case = bench.case;
    let closed = |level, says: &str, fix: &str| Part {
        finds: Finds::Unknown,
        open: false,
        findings: vec![Finding::new(CHECK, level, says).fix(fix)],
    };
    if !case.direct {
        return closed(
            Level::Ok,
            "not judged: the last hop is the upstream's, so DKIM alone carries this mail",
            "",
        );
    }
    if case.egress.is_empty() {
        let says =
            "unknown: the addresses that receivers see are not configured, so DKIM alone carries this mail";
        return closed(Level::Warning, says, "set delivery.public_addresses in waxseal.toml");
    }
    let aligned = alignment(case.sender, &case.author.domain, bench.readings, Identifier::Spf).holds();
    let (passes, mut findings) = match &case.sender.spf {
        None => {
            let says = format!("DNS did not answer for SPF of {}", case.sender.domain);
            let fix = "ask again later; nothing is decided by silence";
            (None, vec![Finding::new(CHECK, Level::Warning, says).fix(fix)])
        }
        Some(known) => evaluated(bench, &known.value),
    };
    let finds = match (passes, aligned) {
        (Some(true), Some(true)) => Finds::Pass,
        (Some(false), _) | (_, Some(false)) => Finds::Fail,
        (None, _) | (_, None) => Finds::Unknown,
    };
    match aligned {
        Some(true) => {}
        Some(false) => {
            for finding in &mut findings {
                finding.level = finding.level.max(Level::Warning);
            }
            findings.insert(0, misaligned(bench));
        }
        None => {
            let says = format!(
                "whether {} is aligned with {} is not known: DNS did not answer for DMARC",
                case.sender.domain, case.author.domain
            );
            findings.push(Finding::new(CHECK, Level::Warning, says));
        }
    }
    Part { finds, open: finds == Finds::Unknown, findings }
}

fn misaligned(bench: &Bench<'_>) -> Finding {
    let (sender, author) = (&bench.case.sender.domain, &bench.case.author.domain);
    let strict = bench
        .readings
        .is_some_and(|readings| readings.walk.aspf == Mode::Strict || readings.suffix.aspf == Mode::Strict);
    let (reason, fix) = if strict {
        (
            " (aspf=s wants the same name)",
            "let DKIM carry this mail, or take aspf=s out of the DMARC record".to_owned(),
        )
    } else {
        ("", format!("set return_path to a name below {author}, or let DKIM carry this mail"))
    };
    let says = format!("not aligned: the reverse-path's domain is {sender}, the author's {author}{reason}");
    Finding::new(CHECK, Level::Error, says).fix(fix)
}

/// Whether every address passes with the strictest receiver; `None`: DNS kept that back.
fn evaluated(bench: &Bench<'_>, answer: &SpfAnswer) -> (Option<bool>, Vec<Finding>) {
    let sender = &bench.case.sender.domain;
    let mut findings: Vec<Finding> = own(bench, answer).into_iter().collect();
    findings.extend(elsewhere(bench, answer));
    let results: Vec<_> = bench.case.egress.iter().map(|address| result(answer, *address)).collect();
    let silent = results.iter().any(|result| matches!(result, None | Some(SpfResult::TempError)));
    if !findings.is_empty() {
        return (Some(false), findings);
    }
    if silent {
        let says = format!("DNS did not answer for all of SPF of {sender}");
        let fix = "ask again later; nothing is decided by silence";
        return (None, vec![Finding::new(CHECK, Level::Warning, says).fix(fix)]);
    }
    if answer.records.iter().any(|record| spf_record::allows_anybody(record)) {
        let says =
            format!("SPF of {sender} ends in +all: it lets anybody send, and some receivers mistrust it");
        findings.push(Finding::new(CHECK, Level::Warning, says).fix("end it in ~all or -all"));
    } else {
        let addresses = listed(bench.case.egress);
        findings.push(Finding::new(CHECK, Level::Ok, format!("{sender} lets {addresses} send")));
    }
    findings.extend(answer.warnings.iter().map(|odd| {
        let says = format!("SPF of {}: {}", short(&odd.name), short(&odd.what));
        Finding::new(CHECK, Level::Warning, says).fix("it passes all the same; tidy the record up")
    }));
    (Some(true), findings)
}

fn result(answer: &SpfAnswer, address: IpAddr) -> Option<SpfResult> {
    answer.results.iter().find(|(known, _)| *known == address).map(|(_, result)| *result)
}

/// What is wrong with the sender's own record, mended by one change.
fn own(bench: &Bench<'_>, answer: &SpfAnswer) -> Option<Finding> {
    let sender = &bench.case.sender.domain;
    let ours = |fault: &&SpfFault| fault.name.eq_ignore_ascii_case(sender.as_str());
    let faults: Vec<&SpfFault> = answer.faults.iter().filter(ours).collect();
    let lacking: Vec<_> =
        bench.case.egress.iter().copied().filter(|address| lacks(answer, *address)).collect();
    let mut wrong = Vec::new();
    if answer.records.is_empty() {
        wrong.push(format!("{sender} has no SPF record"));
    }
    if answer.records.len() > 1 {
        wrong.push(format!("{sender} has {} SPF records, where only one may be", answer.records.len()));
    }
    // That there are several is said already.
    let others = faults.iter().filter(|fault| answer.records.len() < 2 || fault.what.contains('`'));
    wrong.extend(others.map(|fault| format!("{sender}: {}", short(&fault.what))));
    // More than one reason to fail an address is no use to anybody: an error in the record comes first.
    if wrong.is_empty() && !lacking.is_empty() {
        let results: Vec<_> =
            lacking.iter().filter_map(|address| result(answer, *address)).map(word).collect();
        let result = results.first().copied().unwrap_or_default();
        wrong.push(format!("{sender} does not let {} send ({result})", listed(&lacking)));
    }
    if wrong.is_empty() {
        return None;
    }
    let change = change(bench, answer, &faults, &lacking);
    let fix = match (&change, answer.records.len()) {
        (None, _) => "mend the records that it includes".to_owned(),
        (_, 0) => "publish this record".to_owned(),
        (_, 1) => "change the record that is there to this one; never publish a second".to_owned(),
        _ => "publish this one record in place of them".to_owned(),
    };
    Some(Finding::new(CHECK, Level::Error, wrong.join("; ")).fix(fix).change(change))
}

/// The record that would do, where what is there is not already just that.
fn change(bench: &Bench<'_>, answer: &SpfAnswer, faults: &[&SpfFault], lacking: &[IpAddr]) -> Option<Change> {
    let sender = bench.case.sender.domain.as_str();
    let wanted = bench.wanted(sender, |record| record.kind == Kind::Txt && is_spf(&record.value));
    let needed: Vec<String> = lacking.iter().map(|address| spf_record::mechanism(*address)).collect();
    if let Some(alias) = bench.wanted(sender, |record| record.kind == Kind::Cname) {
        // The name is to point at the relay's own, where one record serves all; nothing may stand beside a CNAME.
        if answer.records.is_empty() {
            return Some(Change::Publish(alias.clone()));
        }
        let value = spf_record::mended(&answer.records, faults, &needed);
        let record = text(&*alias.value, value, "return paths point here: it is the relay's own record");
        return Some(Change::to(record, true, "v=spf1"));
    }
    let record: Record = if answer.records.is_empty() {
        wanted.cloned().unwrap_or_else(|| spf_record::fresh(sender, bench.case.egress))
    } else {
        let value = spf_record::mended(&answer.records, faults, &needed);
        text(sender, value, "the record that is there, with what the relay needs")
    };
    let same = matches!(answer.records.as_slice(), [only] if *only == record.value);
    (!same).then(|| Change::to(record, !answer.records.is_empty(), "v=spf1"))
}

/// What is wrong beyond the sender's own record: it cannot be put right with one record of ours.
fn elsewhere(bench: &Bench<'_>, answer: &SpfAnswer) -> Vec<Finding> {
    let sender = &bench.case.sender.domain;
    let mut findings = Vec::new();
    let mut say = |says: String, fix: String| findings.push(Finding::new(CHECK, Level::Error, says).fix(fix));
    if answer.lookups > LOOKUPS_MAX {
        say(
            format!("SPF of {sender} costs {} lookups, and receivers stop at {LOOKUPS_MAX}", answer.lookups),
            "take out the include, a, mx and exists terms that are no longer needed, or move our mail to a return path of its own"
                .to_owned(),
        );
    }
    if answer.voids > VOIDS_MAX {
        say(
            format!(
                "SPF of {sender} asks for {} names that do not exist, and receivers stop at {VOIDS_MAX}",
                answer.voids
            ),
            "take out the terms that lead nowhere".to_owned(),
        );
    }
    for fault in answer.faults.iter().filter(|fault| !fault.name.eq_ignore_ascii_case(sender.as_str())) {
        say(
            format!("SPF of {}, which {sender} includes: {}", short(&fault.name), short(&fault.what)),
            format!(
                "whoever runs {} must mend it; or take the term that includes it out",
                short(&fault.name)
            ),
        );
    }
    findings
}

fn lacks(answer: &SpfAnswer, address: IpAddr) -> bool {
    match result(answer, address) {
        None | Some(SpfResult::Pass | SpfResult::TempError) => false,
        Some(
            SpfResult::Fail
            | SpfResult::SoftFail
            | SpfResult::Neutral
            | SpfResult::None
            | SpfResult::PermError,
        ) => true,
    }
}

fn word(result: SpfResult) -> &'static str {
    match result {
        SpfResult::Pass => "pass",
        SpfResult::Fail => "fail",
        SpfResult::SoftFail => "softfail",
        SpfResult::Neutral => "neutral",
        SpfResult::None => "none",
        SpfResult::PermError => "permerror",
        SpfResult::TempError => "temperror",
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}
