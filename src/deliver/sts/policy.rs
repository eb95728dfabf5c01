//! What a domain publishes: the record that says that there is a policy (RFC 8461 section 3.1), and the policy (section 3.2).
//! Strict where the grammar is, because what is misread here either stops mail or leaves it open.

use serde::{Deserialize, Serialize};

use crate::mail::address::Domain;

/// Octets of a policy (section 3.3 suggests this).
pub(super) const POLICY_MAX: usize = 64 * 1024;
/// The longest that a policy may be kept: a year (section 3.2).
const AGE_MAX: u64 = 31_557_600;
/// Digits of `max_age` (section 3.2, the grammar).
const AGE_DIGITS: usize = 10;
/// Patterns taken of one policy; more than anybody has exchangers.
const PATTERNS_MAX: usize = 100;
/// Characters of an id (section 3.1).
const ID_MAX: usize = 32;

/// What is to be done where no exchanger proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is sent.
    Enforce,
    /// It is sent all the same, and told in a report.
    Testing,
    /// As if there were no policy.
    None,
}

impl Mode {
    /// As policies write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Testing => "testing",
            Self::None => "none",
        }
    }
}

/// A domain's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// What is to be done.
    pub mode: Mode,
    /// Names of its exchangers, lower case; `*.` stands for one label.
    pub mx: Vec<String>,
    /// Seconds for which it holds after it was fetched, at most a year.
    pub max_age: u64,
}

/// Why something is no policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not text.
    #[error("it is not UTF-8")]
    NotText,
    /// A line without a colon, or a CR that ends no line.
    #[error("a line of it is no `key: value`")]
    Line,
    /// No version, or another one.
    #[error("its version is not STSv1")]
    Version,
    /// No mode, or an unknown one.
    #[error("its mode is not enforce, testing or none")]
    Mode,
    /// No age, or no number of at most ten digits.
    #[error("its max_age is no number of seconds")]
    Age,
    /// No exchanger, too many, or one that is no name.
    #[error("its mx are not 1 to 100 host names")]
    Exchangers,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(text).map_err(|_| Invalid::NotText)?;
        let fields = fields(text)?;
        // Of any field but mx the first counts (section 3.2).
        let first = |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        if first("version") != Some("STSv1") {
            return Err(Invalid::Version);
        }
        let mode = match first("mode") {
            Some("enforce") => Mode::Enforce,
            Some("testing") => Mode::Testing,
            Some("none") => Mode::None,
            Some(_) | None => return Err(Invalid::Mode),
        };
        let max_age = first("max_age").and_then(age).ok_or(Invalid::Age)?;
        let named: Vec<&str> =
            fields.iter().filter(|(name, _)| *name == "mx").map(|(_, value)| *value).collect();
        let mx: Vec<String> =
            named.into_iter().map(pattern).collect::<Option<_>>().ok_or(Invalid::Exchangers)?;
        if (mx.is_empty() && mode != Mode::None) || mx.len() > PATTERNS_MAX {
            return Err(Invalid::Exchangers);
        }
        Ok(Self { mode, mx, max_age })
    }

    /// Its lines, as reports quote it (RFC 8460 section 4.4).
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mode = match self.mode {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        };
        let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {mode}")];
        lines.extend(self.mx.iter().map(|mx| format!("mx: {mx}")));
        lines.push(format!("max_age: {}", self.max_age));
        lines
    }

    /// Whether it names this exchanger (section 4.1): a `*` stands for exactly one label.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        // What is no label of a host's name is not stood for.
        let label = |label: &str| !label.is_empty() && label.bytes().all(|octet| octet.is_ascii_graphic());
        let parent = host.split_once('.').filter(|(first, _)| label(first)).map(|(_, parent)| parent);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(below) => parent == Some(below),
            None => *pattern == host,
        })
    }
}

/// `key: value` by line; CRLF or LF ends one, and a CR alone does not.
fn fields(text: &str) -> Result<Vec<(&str, &str)>, Invalid> {
    let mut fields = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
        if line.is_empty() {
            continue;
        }
        let (key, value) = line.split_once(':').ok_or(Invalid::Line)?;
        if line.contains('\r') || key.is_empty() {
            return Err(Invalid::Line);
        }
        fields.push((key.trim_end_matches([' ', '\t']), value.trim_matches([' ', '\t'])));
    }
    Ok(fields)
}

fn age(value: &str) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= AGE_DIGITS && value.bytes().all(|b| b.is_ascii_digit());
    let seconds: u64 = digits.then(|| value.parse().ok()).flatten()?;
    Some(seconds.min(AGE_MAX))
}

fn pattern(value: &str) -> Option<String> {
    let (star, name) = value.strip_prefix("*.").map_or(("", value), |name| ("*.", name));
    let domain: Domain = name.parse().ok()?;
    Some(format!("{star}{domain}"))
}

/// The id in the record at `_mta-sts.`; `None`: the domain says nothing of a policy (section 3.1). Other records may stand
/// beside it; of those that claim to be one there must be exactly one.
#[must_use]
pub(super) fn id(records: &[String]) -> Option<&str> {
    let mut claims = records.iter().filter_map(|record| {
        let rest = record.strip_prefix("v=STSv1")?.trim_start_matches([' ', '\t']);
        rest.strip_prefix(';')
    });
    let (Some(fields), None) = (claims.next(), claims.next()) else { return None };
    let mut fields = fields.split(';').filter_map(|field| field.trim_matches([' ', '\t']).split_once('='));
    let (_, id) = fields.find(|(key, _)| *key == "id")?;
    let sound = !id.is_empty() && id.len() <= ID_MAX && id.bytes().all(|b| b.is_ascii_alphanumeric());
    sound.then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str =
        "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmax_age: 604800\r\n";

    fn with(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    }

    #[test]
    fn a_policy_is_read() {
        let mx = vec!["mail.example.com".to_owned(), "*.example.net".to_owned()];
        let good = Policy { mode: Mode::Enforce, mx, max_age: 604_800 };
        let rows = [
            (GOOD.to_owned(), good.clone(), "RFC 8461's own"),
            (GOOD.replace("\r\n", "\n"), good.clone(), "LF alone ends a line"),
            (GOOD.trim_end().to_owned(), good.clone(), "the last line needs no end"),
            (with("mode: enforce", "mode:enforce  "), good.clone(), "space is free"),
            (with("mode: enforce", "mode: enforce\r\nmode: none"), good.clone(), "the first of two counts"),
            (
                with("mode: enforce", "mode: enforce\r\nx-new: 1"),
                good.clone(),
                "unknown fields are passed over",
            ),
            (with("mail.example.com", "MAIL.Example.COM"), good.clone(), "names have no case"),
            (with("604800", "9999999999"), Policy { max_age: AGE_MAX, ..good.clone() }, "a year at most"),
            (with("604800", "0"), Policy { max_age: 0, ..good.clone() }, "it holds for nothing"),
            (
                "version: STSv1\nmode: none\nmax_age: 86400\n".to_owned(),
                Policy { mode: Mode::None, mx: Vec::new(), max_age: 86_400 },
                "none needs no exchangers",
            ),
        ];
        for (text, expected, why) in rows {
            assert_eq!(Policy::parse(text.as_bytes()), Ok(expected), "{why}");
        }
    }

    #[test]
    fn what_is_no_policy() {
        let many = (0..=PATTERNS_MAX).map(|at| format!("mx: m{at}.example.com\n")).collect::<String>();
        let rows = [
            (String::new(), Invalid::Version, "nothing"),
            (GOOD.replace("\r\n", "\r"), Invalid::Line, "OB2: CR only"),
            (with("version: STSv1", "version: STSv2"), Invalid::Version, "another version"),
            (with("version: STSv1", "Version: STSv1"), Invalid::Version, "keys have a case"),
            (with("mode: enforce", "mode: enforced"), Invalid::Mode, "OB2: a typing error"),
            (with("mode: enforce", "mode enforce"), Invalid::Line, "no colon"),
            (with("604800", "1000000000000"), Invalid::Age, "OB2: 1e12, more digits than there may be"),
            (with("604800", "1e6"), Invalid::Age, "no number"),
            (with("604800", "-1"), Invalid::Age, "no number"),
            (with("max_age: 604800", "x: y"), Invalid::Age, "none"),
            (with("*.example.net", "*"), Invalid::Exchangers, "not a name"),
            (with("*.example.net", "*.*.example.net"), Invalid::Exchangers, "one star"),
            (with("*.example.net", ""), Invalid::Exchangers, "empty"),
            ("version: STSv1\nmode: testing\nmax_age: 1\n".to_owned(), Invalid::Exchangers, "no exchanger"),
            (format!("{GOOD}{many}"), Invalid::Exchangers, "too many"),
            ("<html>404</html>".to_owned(), Invalid::Line, "a web page"),
        ];
        for (text, expected, why) in rows {
            assert_eq!(Policy::parse(text.as_bytes()), Err(expected), "{why}");
        }
        assert_eq!(Policy::parse(b"version: STSv1\xff"), Err(Invalid::NotText));
    }

    #[test]
    fn a_star_stands_for_one_label() {
        let policy = Policy::parse(GOOD.as_bytes()).unwrap();
        for (host, named, why) in [
            ("mail.example.com", true, "by name"),
            ("Mail.Example.com", true, "case does not matter"),
            ("a.mail.example.com", false, "below it"),
            ("mx.example.net", true, "one label"),
            ("a.mx.example.net", false, "two labels"),
            ("example.net", false, "none"),
            ("evilexample.net", false, "no dot"),
        ] {
            assert_eq!(policy.names(host), named, "{why}");
        }
    }

    #[test]
    fn the_record_says_which_policy_it_is() {
        let one = |text: &str| vec![text.to_owned()];
        let rows = [
            (one("v=STSv1; id=20160831085700Z;"), Some("20160831085700Z"), "RFC 8461's own"),
            (one("v=STSv1;id=1"), Some("1"), "no space, no end"),
            (one("v=STSv1 ; x=y ; id=1 ;"), Some("1"), "space and another field"),
            (vec!["spf".to_owned(), "v=STSv1; id=1".to_owned()], Some("1"), "another record beside it"),
            (vec!["v=STSv1; id=1".to_owned(), "v=STSv1; id=2".to_owned()], None, "two: nobody knows which"),
            (one("v=STSv1"), None, "no id"),
            (one("v=STSv1; id="), None, "an empty one"),
            (one("v=STSv1; id=a-b"), None, "letters and digits only"),
            (one("v=STSv1; id=012345678901234567890123456789012"), None, "33 characters"),
            (one("v=STSv2; id=1"), None, "another version"),
            (one(" v=STSv1; id=1"), None, "it must begin so"),
            (Vec::new(), None, "no record"),
        ];
        for (records, expected, why) in rows {
            assert_eq!(id(&records), expected, "{why}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Policy::parse(&octets);
        }

        #[test]
        fn what_is_read_is_within_bounds(
            age in "[0-9]{1,12}", host in "(\\*\\.)?[a-z*.-]{1,12}", mode in "enforce|testing|none|Enforce", end in "\r\n|\n|\r",
        ) {
            let text = format!("version: STSv1{end}mode: {mode}{end}mx: {host}{end}max_age: {age}{end}");
            if let Ok(policy) = Policy::parse(text.as_bytes()) {
                prop_assert!(policy.max_age <= AGE_MAX && policy.mx.len() == 1 && end != "\r");
                prop_assert!(!policy.names("other.example"));
            }
        }
    }
}
