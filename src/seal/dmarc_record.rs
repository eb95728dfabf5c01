//! One DMARC record, read as receivers do (RFC 9989 section 4.7), with what is wrong with it and how it reads when mended.

use super::judge::Policy;
use super::tags::{short, space};

/// How an identifier must align.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The same organizational domain.
    #[default]
    Relaxed,
    /// The same name.
    Strict,
}

/// `psd=`: whether a name is a public suffix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Psd {
    /// `y`.
    Yes,
    /// `n`: it is an organizational domain.
    No,
    /// `u`, or nothing.
    #[default]
    Unsaid,
}

/// A record that begins with `v=DMARC1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// `p=`, where it can be read.
    pub p: Option<Policy>,
    /// `sp=`.
    pub sp: Option<Policy>,
    /// `np=`.
    pub np: Option<Policy>,
    /// `adkim=`.
    pub adkim: Mode,
    /// `aspf=`.
    pub aspf: Mode,
    /// `psd=`.
    pub psd: Psd,
    /// `t=y`.
    pub testing: bool,
    /// `rua=`: its mailto URIs.
    pub rua: Vec<String>,
    /// `ruf=`.
    pub ruf: Vec<String>,
    /// What makes some receivers refuse the whole record.
    pub faults: Vec<String>,
    /// What receivers skip.
    pub oddities: Vec<String>,
    /// Every tag that is sound, in order, for the mended record.
    kept: Vec<(String, String)>,
}

/// What stands at a `_dmarc` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No record of DMARC's.
    None,
    /// One.
    One(Box<Record>),
    /// So many: as if there were none (RFC 9989 section 4.10), and an error for some receivers.
    Several(usize),
}

impl Standing {
    /// Of the TXT records at a name.
    #[must_use]
    pub fn of(records: &[String]) -> Self {
        let mut ours = records.iter().filter(|text| is_dmarc(text));
        match (ours.next(), ours.count()) {
            (None, _) => Self::None,
            (Some(one), 0) => Self::One(Box::new(Record::read(one))),
            (Some(_), more) => Self::Several(more + 1),
        }
    }

    /// The one record.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match self {
            Self::One(record) => Some(record),
            Self::None | Self::Several(_) => None,
        }
    }
}

/// RFC 9989 section 4.10: what does not begin with `v=DMARC1`, exactly, is discarded.
#[must_use]
pub fn is_dmarc(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first.split_once('=').is_some_and(|(name, value)| {
        name.trim_end_matches(blank).eq_ignore_ascii_case("v") && value.trim_matches(blank) == "DMARC1"
    })
}

/// Whether somebody meant a DMARC record that no receiver sees: other case, a leading blank, no semicolon.
#[must_use]
pub fn is_meant(text: &str) -> bool {
    let squeezed: String = text.chars().filter(|c| !space(*c)).take(16).collect();
    !is_dmarc(text) && squeezed.to_ascii_lowercase().contains("v=dmarc")
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

impl Record {
    /// Reads a record that `is_dmarc`, or one that was meant to be. Tags that cannot be read become faults.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut record = Self::default();
        let mut seen: Vec<String> = Vec::new();
        let text = text.trim_matches(space);
        let mut parts = text.strip_suffix(';').unwrap_or(text).split(';');
        parts.next();
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                record.faults.push(format!("`{}` is no tag", short(part.trim_matches(space))));
                continue;
            };
            let name = name.trim_matches(space).to_ascii_lowercase();
            if seen.contains(&name) {
                record.faults.push(format!("{}= stands there twice", short(&name)));
                continue;
            }
            record.tag(&name, value.trim_matches(space), seen.is_empty());
            seen.push(name);
        }
        if !seen.iter().any(|name| name == "p") {
            record.oddities.push(
                "p= is missing: it then counts as p=none if there is a rua=, and else not at all".to_owned(),
            );
        }
        record
    }

    fn tag(&mut self, name: &str, value: &str, first: bool) {
        let lower = value.to_ascii_lowercase();
        let sound = match name {
            "p" => {
                if !first {
                    self.oddities
                        .push("p= is not the second tag, where older receivers look for it".to_owned());
                }
                set(&mut self.p, policy(&lower))
            }
            "sp" => set(&mut self.sp, policy(&lower)),
            "np" => set(&mut self.np, policy(&lower)),
            "adkim" => mode(&lower).map(|mode| self.adkim = mode).is_some(),
            "aspf" => mode(&lower).map(|mode| self.aspf = mode).is_some(),
            "psd" => psd(&lower).map(|psd| self.psd = psd).is_some(),
            "t" => {
                self.testing = lower == "y";
                matches!(lower.as_str(), "y" | "n")
            }
            "fo" => lower.split(':').all(|flag| matches!(flag.trim_matches(space), "0" | "1" | "d" | "s")),
            "rua" | "ruf" => return self.reports(name, value),
            "pct" if value != "100" => {
                self.kept.push((name.to_owned(), value.to_owned()));
                return self.oddities.push(format!(
                    "pct={} was removed by RFC 9989, whose receivers apply the policy to all mail; older ones go by it",
                    short(value)
                ));
            }
            "pct" | "rf" | "ri" => {
                return self.oddities.push(format!("{name}= was removed by RFC 9989; take it out"));
            }
            _ => return self.oddities.push(format!("{}= is no tag that receivers know", short(name))),
        };
        if sound {
            self.kept.push((name.to_owned(), value.to_owned()));
        } else {
            self.faults.push(format!("{name}={} cannot be read", short(value)));
        }
    }

    /// A list of URIs. One that cannot be used is skipped by receivers; what is clearly an address becomes one when mended.
    fn reports(&mut self, name: &str, value: &str) {
        let mut uris = Vec::new();
        for uri in value.split(',').map(|uri| uri.trim_matches(space)).filter(|uri| !uri.is_empty()) {
            let address =
                uri.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("mailto:")).and(uri.get(7..));
            let valid = address.is_some_and(is_address);
            if !valid {
                self.oddities.push(format!("{name}={}: reports go to mailto:ADDRESS only", short(uri)));
            }
            if valid || is_address(uri) {
                uris.push((uri.to_owned(), valid));
            }
        }
        let mended: Vec<_> = uris
            .iter()
            .map(|(uri, valid)| if *valid { uri.clone() } else { format!("mailto:{uri}") })
            .collect();
        if !mended.is_empty() {
            self.kept.push((name.to_owned(), mended.join(",")));
        }
        let valid = uris.into_iter().filter(|(_, valid)| *valid).map(|(uri, _)| uri).collect();
        if name == "rua" {
            self.rua = valid;
        } else {
            self.ruf = valid;
        }
    }

    /// RFC 9989 section 4.10.1: a `p=`, `sp=` or `np=` that cannot be read takes the others with it.
    #[must_use]
    pub fn policy_broken(&self) -> bool {
        self.faults.iter().any(|fault| ["p=", "sp=", "np="].iter().any(|name| fault.starts_with(name)))
    }

    /// The record as every receiver reads it, without these tags.
    #[must_use]
    pub fn mended(&self, without: &[&str]) -> String {
        let mut text = format!("v=DMARC1; p={}", self.p.unwrap_or(Policy::None).as_str());
        for (name, value) in self.kept.iter().filter(|(name, _)| name != "p") {
            if !without.contains(&name.as_str()) {
                text.push_str(&format!("; {name}={value}"));
            }
        }
        text
    }
}

/// One sound record in place of several, or of ones that no receiver reads: the mildest policy of them, so that no other
/// mail of the domain suffers, and everybody who wanted reports.
#[must_use]
pub fn merged(records: &[String]) -> String {
    let mut whole: Option<Record> = None;
    for text in records.iter().filter(|text| is_dmarc(text) || is_meant(text)) {
        let mut next = Record::read(text);
        if let Some(before) = whole.take() {
            next.p = Some(mildest(before.p, next.p));
            next.kept = joined(before.kept, next.kept);
        }
        whole = Some(next);
    }
    whole.unwrap_or_default().mended(&[])
}

fn mildest(one: Option<Policy>, other: Option<Policy>) -> Policy {
    match (one, other) {
        (Some(Policy::Reject), Some(Policy::Reject)) => Policy::Reject,
        (Some(Policy::Reject | Policy::Quarantine), Some(Policy::Reject | Policy::Quarantine)) => {
            Policy::Quarantine
        }
        (Some(Policy::None) | None, _) | (_, Some(Policy::None) | None) => Policy::None,
    }
}

fn joined(mut first: Vec<(String, String)>, second: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in second {
        match first.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) if name == "rua" || name == "ruf" => {
                let new: Vec<_> =
                    value.split(',').filter(|uri| !known.split(',').any(|old| old == *uri)).collect();
                for uri in new {
                    known.push(',');
                    known.push_str(uri);
                }
            }
            Some(_) => {}
            None => first.push((name, value)),
        }
    }
    first
}

fn set(place: &mut Option<Policy>, policy: Option<Policy>) -> bool {
    *place = policy;
    policy.is_some()
}

fn policy(text: &str) -> Option<Policy> {
    match text {
        "none" => Some(Policy::None),
        "quarantine" => Some(Policy::Quarantine),
        "reject" => Some(Policy::Reject),
        _ => None,
    }
}

fn mode(text: &str) -> Option<Mode> {
    match text {
        "r" => Some(Mode::Relaxed),
        "s" => Some(Mode::Strict),
        _ => None,
    }
}

fn psd(text: &str) -> Option<Psd> {
    match text {
        "y" => Some(Psd::Yes),
        "n" => Some(Psd::No),
        "u" => Some(Psd::Unsaid),
        _ => None,
    }
}

/// Enough to tell an address from junk; a size limit (`!10m`, obsolete) may follow.
fn is_address(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| {
        let domain = domain.split('!').next().unwrap_or_default();
        !local.is_empty()
            && !local.contains([' ', ':'])
            && domain.parse::<crate::mail::address::Domain>().is_ok()
    })
}
