//! Links in a text: found, taken apart, and compared with a class's rules. Only http and https; what a link leads to is not asked.

use std::borrow::Cow;

use memchr::memmem;

use crate::config::class::{LinkRule, Term};

/// Links of one message that are looked at, those within links included.
pub(super) const LINKS_MAX: usize = 500;
/// Octets of one link.
const LENGTH_MAX: usize = 4096;
/// A link may hold another as a parameter (`?link=https%3A%2F%2F...`), so deep.
const NESTED_MAX: usize = 3;

/// A link, decoded; all in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) host: String,
    pub(super) path: String,
    params: Vec<(String, String)>,
}

impl Link {
    /// Whether every term of the rule holds of it.
    pub(super) fn is(&self, rule: &LinkRule) -> bool {
        rule.0.iter().all(|term| match term {
            Term::Path(part) => self.path.contains(part.as_str()),
            Term::Has(name) => self.params.iter().any(|(is, value)| is == name && !value.is_empty()),
            Term::Is(name, wanted) => self.params.iter().any(|(is, value)| is == name && value == wanted),
        })
    }
}

/// The links of a text, in order, each with those within it behind it; at most `most`.
pub(super) fn links(text: &[u8], html: bool, most: usize) -> Vec<Link> {
    let mut found = Vec::new();
    let mut ends = 0;
    for at in memmem::find_iter(text, b"://") {
        if found.len() >= most {
            break;
        }
        // Within the last link: it is a part of that.
        if at < ends {
            continue;
        }
        let before = text.get(..at).unwrap_or_default();
        if !["http", "https"].iter().any(|scheme| ends_with(before, scheme)) {
            continue;
        }
        let rest = text.get(at + 3..).unwrap_or_default();
        let length = rest
            .iter()
            .take(LENGTH_MAX)
            .position(|octet| ends_link(*octet))
            .unwrap_or_else(|| rest.len().min(LENGTH_MAX));
        ends = at + 3 + length;
        let written = String::from_utf8_lossy(rest.get(..length).unwrap_or_default());
        let written = if html { entities(&written) } else { Cow::Borrowed(unmarked(&written)) };
        take_apart(&written, NESTED_MAX, most, &mut found);
    }
    found
}

fn ends_with(text: &[u8], scheme: &str) -> bool {
    text.len() >= scheme.len()
        && text
            .get(text.len() - scheme.len()..)
            .is_some_and(|tail| tail.eq_ignore_ascii_case(scheme.as_bytes()))
}

/// RFC 3986 appendix C: white space, quotes and angle brackets part links from text.
fn ends_link(octet: u8) -> bool {
    octet <= b' ' || octet == 0x7f || b"<>\"'`\\".contains(&octet)
}

/// Without the marks of the sentence around it.
fn unmarked(link: &str) -> &str {
    link.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']', '}', '*', '_'])
}

/// Host, path and parameters, and the same of links within the parameters. Applications in one page keep path and parameters behind
/// the `#`, so these count too.
fn take_apart(link: &str, nested: usize, most: usize, found: &mut Vec<Link>) {
    if found.len() >= most {
        return;
    }
    let end = link.find(['/', '?', '#']).unwrap_or(link.len());
    let (host, rest) = link.split_at_checked(end).unwrap_or((link, ""));
    let mut taken = Link { host: host.to_lowercase(), ..Link::default() };
    let mut within = Vec::new();
    for piece in rest.splitn(2, '#') {
        let (path, query) = piece.split_once('?').unwrap_or((piece, ""));
        taken.path.push_str(&decoded(path).to_lowercase());
        for parameter in query.split(['&', ';']) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(value);
            if let Some((scheme, inner)) = value.split_once("://")
                && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
            {
                within.push(inner.to_owned());
            }
            taken.params.push((decoded(name).to_lowercase(), value.to_lowercase()));
        }
    }
    found.push(taken);
    if let Some(nested) = nested.checked_sub(1) {
        within.iter().for_each(|inner| take_apart(inner, nested, most, found));
    }
}

/// RFC 3986 section 2.1; what is not encoded rightly stays.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let octet = hex.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        out.push(octet.unwrap_or(*first));
        rest = if octet.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// HTML's character references as far as links have them: `&amp;` and numbers.
fn entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let named = after.split_once(';').filter(|(name, _)| name.len() <= 8);
        match named.and_then(|(name, tail)| Some((reference(name)?, tail))) {
            Some((c, tail)) => {
                out.push(c);
                rest = tail;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn reference(name: &str) -> Option<char> {
    if name.eq_ignore_ascii_case("amp") {
        return Some('&');
    }
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => number.parse().ok()?,
    };
    char::from_u32(code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_and_what_they_say() {
        let rule = |text: &str| text.parse::<LinkRule>().unwrap();
        let rows: &[(&str, bool, &str, bool, &str)] = &[
            (
                "see https://a.test/x?mode=resetPassword&oobCode=1.",
                false,
                "mode=resetPassword",
                true,
                "plain",
            ),
            ("HTTPS://A.TEST/?MODE=RESETPASSWORD", false, "mode=resetPassword", true, "case"),
            (
                "<a href=\"https://a.test/?oobCode=1&amp;mode=resetPassword\">",
                true,
                "mode=resetPassword",
                true,
                "&amp;",
            ),
            ("https://a.test/?a=1&#38;mode&#x3D;resetPassword", true, "mode=resetPassword", true, "numbers"),
            (
                "https://a.test/?a=1&amp;mode=resetPassword",
                false,
                "mode=resetPassword",
                true,
                "`;` parts parameters too",
            ),
            ("https://a.test/?mode=reset%50assword", false, "mode=resetPassword", true, "percent"),
            (
                "https://go.test/?link=https%3A%2F%2Fa.test%2F%3Fmode%3DresetPassword",
                false,
                "mode=resetPassword",
                true,
                "a link within",
            ),
            ("https://a.test/#/reset?token=1", false, "token= /reset", true, "behind the #"),
            ("https://a.test/reset?token=", false, "token= /reset", false, "a parameter without a value"),
            ("https://a.test/?mode=resetPasswords", false, "mode=resetPassword", false, "another value"),
            ("https://reset.test/?token=1", false, "token= /reset", false, "the host is no path"),
            ("mode=resetPassword", false, "mode=resetPassword", false, "no link"),
            ("ftp://a.test/?mode=resetPassword", false, "mode=resetPassword", false, "another scheme"),
            ("xhttps://a.test/?mode=resetPassword", false, "mode=resetPassword", true, "glued to a word"),
            (
                "https://a.test/?x=%zz%&mode=resetPassword%",
                false,
                "x=%zz%",
                true,
                "what is not encoded rightly stays",
            ),
        ];
        for (text, html, terms, expected, why) in rows {
            let found = links(text.as_bytes(), *html, 10).iter().any(|link| link.is(&rule(terms)));
            assert_eq!(found, *expected, "{why}: {text}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_survived_and_bounded(
            text in proptest::collection::vec(prop_oneof![any::<u8>().prop_map(|octet| vec![octet]), Just(b"https://".to_vec()),
                Just(b"%3A%2F%2F".to_vec()), Just(b"?a=https://".to_vec()), Just(b"&#x26;".to_vec())], 0..200),
            html in any::<bool>(), most in 0usize..20,
        ) {
            prop_assert!(links(&text.concat(), html, most).len() <= most);
        }
    }
}
