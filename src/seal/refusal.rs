//! A verdict in words: the reply that refuses a message (RFC 7372 codes), the reason of a held one, a line for the log.

use super::judge::{Believed, Change, Finding, Finds, Level, Policy, Verdict};
use super::records::{Kind, Record};
use crate::mail::address::Domain;
use crate::mail::id::Id;
use crate::mail::reply::{Enhanced, REPLY_LINE_MAX, Reply};
use crate::mail::time::Time;

/// RFC 7372: no passing DKIM signature.
const NO_DKIM: Enhanced = Enhanced(5, 7, 20);
/// RFC 7372: SPF failed.
const NO_SPF: Enhanced = Enhanced(5, 7, 23);
/// RFC 7372: several authentication checks failed.
const NOTHING: Enhanced = Enhanced(5, 7, 26);
/// RFC 7505 section 4.1: the sender's name has a null MX.
const NULL_MX: Enhanced = Enhanced(5, 7, 27);
/// RFC 3463: the sender's name does not exist.
const NO_SUCH_NAME: Enhanced = Enhanced(5, 1, 8);
/// RFC 3463: a policy, none of the above.
const POLICY: Enhanced = Enhanced(5, 7, 1);
/// `550-5.7.26 ` before the text, CRLF behind it.
const LEAD: usize = "550-5.7.26 ".len() + 2;
/// Reasons told; more help nobody.
const REASONS_MAX: usize = 8;

/// What a refusal says beside the verdict.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The relay's name.
    pub hostname: &'a Domain,
    /// The From domain.
    pub author: &'a Domain,
    /// The name under which the refusal is in the log.
    pub id: Id,
    /// Since when the domain has been failing, if that is known.
    pub since: Option<Time>,
}

/// The reply to a message that receivers would not believe.
#[must_use]
pub fn refusal(verdict: &Verdict, about: &About<'_>) -> Reply {
    let author = about.author;
    let mut lines = vec![format!("{}: {}:", about.hostname, headline(verdict, author.as_str()))];
    lines.extend(reasons(verdict));
    lines.extend(errors(verdict).filter_map(|finding| finding.change.as_ref()).flat_map(change_lines));
    if let Some(since) = about.since {
        lines.push(format!("failing since {}", since.utc()));
    }
    lines.push(format!("then: waxseal domain check {author}   (id {})", about.id));
    Reply { code: 550, enhanced: Some(code(verdict)), lines }
}

/// Why a message is held, in one line.
#[must_use]
pub fn hold_reason(verdict: &Verdict) -> String {
    if verdict.dmarc == Believed::Unknown {
        return format!(
            "DNS has not said whether receivers would believe it: {}",
            told(verdict, Level::Warning)
        );
    }
    format!(
        "receivers would not believe it ({}): {}",
        policy_words(verdict.policy),
        told(verdict, Level::Error)
    )
}

/// The verdict in one line, for logs: `pass (dkim, spf; p=reject)`.
#[must_use]
pub fn summary(verdict: &Verdict) -> String {
    let policy = policy_words(verdict.policy);
    match verdict.dmarc {
        Believed::Both => format!("pass (dkim, spf; {policy})"),
        Believed::DkimOnly => format!("pass (dkim only; {policy})"),
        Believed::SpfOnly => format!("pass (spf only: breaks where mail is forwarded; {policy})"),
        Believed::Unknown => format!("unknown ({policy}): {}", told(verdict, Level::Warning)),
        Believed::Fail => format!("fail ({policy}): {}", told(verdict, Level::Error)),
    }
}

fn errors(verdict: &Verdict) -> impl Iterator<Item = &Finding> {
    verdict.findings.iter().filter(|finding| finding.level == Level::Error)
}

fn told(verdict: &Verdict, level: Level) -> String {
    let told = verdict.findings.iter().filter(|finding| finding.level <= level).take(REASONS_MAX);
    told.map(reason).collect::<Vec<_>>().join("; ")
}

fn reason(finding: &Finding) -> String {
    format!("{}: {}", finding.check, finding.says)
}

fn unbelieved(verdict: &Verdict) -> bool {
    verdict.dkim != Finds::Pass && verdict.spf != Finds::Pass
}

/// What receivers do with it.
fn headline(verdict: &Verdict, author: &str) -> String {
    if !unbelieved(verdict) {
        return format!("receivers would refuse mail from {author}");
    }
    match verdict.policy {
        Some(policy @ (Policy::Reject | Policy::Quarantine)) => {
            format!("{author} would fail DMARC at receivers (p={policy})")
        }
        Some(Policy::None) => {
            format!(
                "{author} would fail DMARC at receivers (p=none, but mailbox providers refuse such mail too)"
            )
        }
        None => format!(
            "mail from {author} would not be authenticated (no DMARC record, but mailbox providers refuse such mail too)"
        ),
    }
}

fn policy_words(policy: Option<Policy>) -> String {
    policy.map_or_else(|| "no DMARC record".to_owned(), |policy| format!("p={policy}"))
}

fn code(verdict: &Verdict) -> Enhanced {
    let about = |check: &str| errors(verdict).any(|finding| finding.check == check);
    match (verdict.dkim, verdict.spf) {
        (Finds::Fail, Finds::Fail) => NOTHING,
        (Finds::Fail, Finds::Unknown) => NO_DKIM,
        (Finds::Unknown, Finds::Fail) => NO_SPF,
        (Finds::Pass, _) | (_, Finds::Pass) | (Finds::Unknown, Finds::Unknown) => {
            if about("exists") {
                NO_SUCH_NAME
            } else if about("mx") {
                NULL_MX
            } else {
                POLICY
            }
        }
    }
}

/// The reasons, as many on a line as fit.
fn reasons(verdict: &Verdict) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for reason in errors(verdict).take(REASONS_MAX).map(reason) {
        match lines.last_mut() {
            Some(line) if line.len() + reason.len() + "; ".len() <= REPLY_LINE_MAX - LEAD => {
                line.push_str("; ");
                line.push_str(&reason);
            }
            Some(_) | None => lines.push(reason),
        }
    }
    lines
}

/// What to do to the zone.
fn change_lines(change: &Change) -> Vec<String> {
    match change {
        Change::Publish(record) => publish(record),
        Change::Replace { record, instead_of } => {
            let mut lines = publish(record);
            let what = if instead_of.is_empty() {
                "what stands there now".to_owned()
            } else {
                format!("what stands there now and begins with {instead_of}")
            };
            lines.push(format!("in place of {what}"));
            lines
        }
        Change::Remove { name, kind } => vec![format!("remove: {name} {}", word(*kind))],
    }
}

/// The record on one line, as it is typed into a form; one too long for that in quoted pieces, as a zone file has it.
fn publish(record: &Record) -> Vec<String> {
    let head = format!("publish: {} {}", record.name, word(record.kind));
    let whole = format!("{head} {}", record.value);
    if whole.len() <= REPLY_LINE_MAX - LEAD {
        return vec![whole];
    }
    let mut pieces = record
        .strings()
        .map(|piece| format!("publish:   \"{}\"", piece.replace('"', "\\\"")))
        .collect::<Vec<_>>();
    pieces.insert(0, format!("{head} (the quoted pieces are one text)"));
    pieces
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Txt => "TXT",
        Kind::Cname => "CNAME",
        Kind::Mx => "MX",
    }
}
