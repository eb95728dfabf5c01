//! The lint that stands before SPF's evaluation (RFC 7208). mail-auth evaluates, and is laxer than receivers: here a record is
//! read as the strictest of them reads it, and what it costs is counted over all that it includes. No result is computed.

mod name;
mod term;
mod walk;

pub use name::{BadSpec, Spec};
pub use term::{Kind, Term};
pub(super) use walk::{Whose, lint};

/// RFC 7208 section 4.6.4: terms that cost a lookup.
pub const LOOKUPS_MAX: u32 = 10;
/// RFC 7208 section 4.6.4: lookups that find nothing.
pub const VOIDS_MAX: u32 = 2;
/// RFC 7208 section 4.6.4: exchangers of one `mx` term.
pub const EXCHANGERS_MAX: usize = 10;
/// RFC 7208 section 3.4: so many octets fit into an answer over UDP, whatever stands beside them.
pub const OCTETS_ADVISED: usize = 450;

/// The version section (RFC 7208 section 4.5).
const VERSION: &str = "v=spf1";
/// Octets of a term that a person is shown.
const SHOWN_MAX: usize = 100;

/// A record, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Its terms in order; those that cannot be read are in `faults` instead.
    pub terms: Vec<Term>,
    /// What makes receivers answer permerror, whatever the address (RFC 7208 section 4.6).
    pub faults: Vec<String>,
    /// What works, but is not meant or breaks easily.
    pub warnings: Vec<String>,
}

/// Whether a TXT record is SPF's: the version, then a space or the end (RFC 7208 section 4.5), in any case (RFC 5234
/// section 2.3).
#[must_use]
pub fn is_spf(text: &str) -> bool {
    let (head, tail) = text.split_at_checked(VERSION.len()).unwrap_or_default();
    head.eq_ignore_ascii_case(VERSION) && (tail.is_empty() || tail.starts_with(' '))
}

impl Record {
    /// Reads a record that `is_spf`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut record = Self::default();
        for word in text.split(' ').skip(1).filter(|word| !word.is_empty()) {
            match Term::read(word) {
                Ok(term) => record.terms.push(term),
                Err(what) => record.faults.push(format!("`{}` {what}", shown(word))),
            }
        }
        record.repeated();
        record.idle();
        record.fragile();
        if text.len() > OCTETS_ADVISED {
            let octets = text.len();
            record.warnings.push(format!(
                "the record has {octets} octets; more than {OCTETS_ADVISED} may not fit into one answer"
            ));
        }
        record
    }

    /// The mechanism that decides whatever comes behind it.
    fn all(&self) -> Option<usize> {
        self.terms.iter().position(|term| term.kind == Kind::All)
    }

    /// The terms that a receiver may come to, in its order: mechanisms up to `all`, then the redirect where there is no `all`.
    pub fn reached(&self) -> impl Iterator<Item = &Term> {
        let all = self.all();
        let before = self.terms.iter().take(all.unwrap_or(usize::MAX));
        let before =
            before.filter(|term| !matches!(term.kind, Kind::Redirect(_) | Kind::Explanation | Kind::Unknown));
        let redirect = self.terms.iter().filter(|term| matches!(term.kind, Kind::Redirect(_)));
        before.chain(redirect.filter(move |_| all.is_none()))
    }

    /// RFC 7208 section 6: `redirect` and `exp` at most once each.
    fn repeated(&mut self) {
        let is_redirect = |term: &&Term| matches!(term.kind, Kind::Redirect(_));
        let is_explanation = |term: &&Term| term.kind == Kind::Explanation;
        let redirects = self.terms.iter().filter(is_redirect).skip(1);
        let explanations = self.terms.iter().filter(is_explanation).skip(1);
        let faults =
            redirects.chain(explanations).map(|term| format!("`{}` is the second of its kind", term.shown()));
        let faults: Vec<_> = faults.collect();
        self.faults.extend(faults);
    }

    /// RFC 7208 section 7.2: `%{p}` should not be published.
    fn fragile(&mut self) {
        let has_p = |term: &&Term| term.text.to_ascii_lowercase().contains("%{p");
        let warnings = self.terms.iter().filter(has_p).map(|term| {
            format!("`{}` holds %{{p}}, which receivers fill in differently or not at all", term.shown())
        });
        let warnings: Vec<_> = warnings.collect();
        self.warnings.extend(warnings);
    }

    /// What nobody comes to, and what should not be there (RFC 7208 sections 5.1, 5.5 and 6.1).
    fn idle(&mut self) {
        let all = self.all();
        let mut warnings = Vec::new();
        for (at, term) in self.terms.iter().enumerate() {
            let behind = all.is_some_and(|all| at > all);
            match &term.kind {
                Kind::Redirect(_) if all.is_some() => {
                    warnings.push(format!("`{}` counts for nothing beside `all`", term.shown()));
                }
                Kind::Redirect(_) | Kind::Explanation | Kind::Unknown => {}
                Kind::Ptr(_) if !behind => warnings.push(format!(
                    "`{}` is slow, and some receivers skip it: name the addresses instead",
                    term.shown()
                )),
                Kind::All
                | Kind::Include(_)
                | Kind::A(_)
                | Kind::Mx(_)
                | Kind::Ptr(_)
                | Kind::Network
                | Kind::Exists(_) => {
                    if behind {
                        warnings.push(format!("`{}` stands behind `all`, where nobody looks", term.shown()));
                    }
                }
            }
        }
        self.warnings.extend(warnings);
    }
}

/// A term as it is shown: a whole record may be one.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHOWN_MAX)).unwrap_or_default()
}

#[cfg(test)]
#[path = "../tables/spf_lint.rs"]
mod tests;
