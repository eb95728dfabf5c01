//! Reads an SPF record as the strictest receivers do (RFC 7208 sections 4.6, 5, 6, 7): its terms, and everything that makes one
//! of them answer permerror. mail-auth evaluates; this only says what it would let pass.

use std::net::{Ipv4Addr, Ipv6Addr};

/// RFC 7208 section 3.3: 512 octets with name and question is what every resolver takes by UDP.
const SAFE_LENGTH: usize = 450;
/// Octets of a record that are read: more is wrong anyway.
const LENGTH_MAX: usize = 8 * 1024;

/// A term that leads to other names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// Another record that counts as part of this one.
    Include(String),
    /// Another record instead of this one.
    Redirect(String),
    /// Addresses of a name; `None`: of the name itself.
    A(Option<String>),
    /// Exchangers of a name; `None`: of the name itself.
    Mx(Option<String>),
    /// A name that exists or not.
    Exists(String),
    /// Names that the address points back to.
    Ptr,
}

/// What a record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The terms that cost a lookup, in order. A redirect beside `all` is not in it: it never counts.
    pub terms: Vec<Term>,
    /// What makes a strict receiver answer permerror, with the term.
    pub faults: Vec<String>,
    /// What is unwise.
    pub notes: Vec<String>,
}

/// Whether a TXT record is SPF's (RFC 7208 section 4.5).
#[must_use]
pub fn is_spf(text: &str) -> bool {
    let version = text.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("v=spf1"));
    version && matches!(text.as_bytes().get(6), None | Some(b' '))
}

/// Reads a record.
#[must_use]
pub fn read(record: &str) -> Reading {
    let mut reader = Reader::default();
    if record.len() > SAFE_LENGTH {
        let octets = record.len();
        reader
            .reading
            .notes
            .push(format!("{octets} octets: some resolvers cut answers that are longer than 512"));
    }
    let record = record.get(..record.floor_char_boundary(LENGTH_MAX)).unwrap_or_default();
    if !record.bytes().all(|octet| (0x20..0x7f).contains(&octet)) {
        reader.fault("it holds characters that are not printable ASCII".to_owned());
    }
    for term in record.split(' ').skip(1).filter(|term| !term.is_empty()) {
        reader.term(term);
    }
    reader.done()
}

#[derive(Default)]
struct Reader {
    reading: Reading,
    all: bool,
    redirect: Option<String>,
    explained: bool,
}

impl Reader {
    fn fault(&mut self, what: String) {
        self.reading.faults.push(what);
    }

    fn done(mut self) -> Reading {
        match self.redirect.take() {
            Some(_) if self.all => {
                self.reading.notes.push("redirect= beside all is never looked at".to_owned());
            }
            Some(target) => self.reading.terms.push(Term::Redirect(target)),
            None => {}
        }
        self.reading
    }

    fn term(&mut self, term: &str) {
        let name_end = term.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
        let is_modifier = name_end.is_some_and(|at| at > 0 && term.get(at..=at) == Some("="));
        match name_end {
            Some(at) if is_modifier => {
                let (name, value) = term.split_at(at);
                self.modifier(term, name, value.get(1..).unwrap_or_default());
            }
            _ => self.mechanism(term),
        }
    }

    /// RFC 7208 section 6.
    fn modifier(&mut self, term: &str, name: &str, value: &str) {
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return self.fault(format!("`{term}` is no modifier"));
        }
        match name.to_ascii_lowercase().as_str() {
            "redirect" if self.redirect.is_some() => self.fault(format!("`{term}`: a second redirect=")),
            "exp" if self.explained => self.fault(format!("`{term}`: a second exp=")),
            "redirect" if is_domain(value) => self.redirect = Some(value.to_owned()),
            "exp" if is_domain(value) => self.explained = true,
            "redirect" | "exp" => self.fault(format!("`{term}` names no domain")),
            _ if is_macro_string(value) => {
                self.reading.notes.push(format!("`{term}` means nothing to receivers"));
            }
            _ => self.fault(format!("`{term}` is malformed")),
        }
    }

    /// RFC 7208 section 5.
    fn mechanism(&mut self, term: &str) {
        let bare = term.strip_prefix(['+', '-', '~', '?']).unwrap_or(term);
        let end = bare.find([':', '/']).unwrap_or(bare.len());
        let (name, rest) = bare.split_at(end);
        if self.all {
            self.reading.notes.push(format!("`{term}` stands behind all and is never looked at"));
        }
        let read = match name.to_ascii_lowercase().as_str() {
            "all" => self.everybody(term, rest),
            "include" => target(rest).map(|to| Some(Term::Include(to))),
            "exists" => target(rest).map(|to| Some(Term::Exists(to))),
            "a" => with_lengths(rest).map(|to| Some(Term::A(to))),
            "mx" => with_lengths(rest).map(|to| Some(Term::Mx(to))),
            "ptr" => self.pointer(term, rest),
            "ip4" => is_ip4(rest).then_some(None).ok_or("no IPv4 address or network"),
            "ip6" => is_ip6(rest).then_some(None).ok_or("no IPv6 address or network"),
            _ => Err("no mechanism that receivers know"),
        };
        match read {
            Ok(Some(found)) if !self.all => self.reading.terms.push(found),
            Ok(_) => {}
            Err(why) => self.fault(format!("`{term}`: {why}")),
        }
    }

    fn everybody(&mut self, term: &str, rest: &str) -> Result<Option<Term>, &'static str> {
        if !rest.is_empty() {
            return Err("all takes nothing behind it");
        }
        if matches!(term.to_ascii_lowercase().as_str(), "all" | "+all") {
            self.reading.notes.push(format!("`{term}` lets everybody send"));
        }
        self.all = true;
        Ok(None)
    }

    /// RFC 7208 section 5.5: should not be published.
    fn pointer(&mut self, term: &str, rest: &str) -> Result<Option<Term>, &'static str> {
        self.reading.notes.push(format!("`{term}`: ptr is slow, and RFC 7208 says not to use it"));
        if !rest.is_empty() {
            target(rest)?;
        }
        Ok(Some(Term::Ptr))
    }
}

/// `:domain-spec`.
fn target(rest: &str) -> Result<String, &'static str> {
    let name = rest.strip_prefix(':').unwrap_or_default();
    if is_domain(name) { Ok(name.to_owned()) } else { Err("it names no domain") }
}

/// `[:domain-spec][/n][//n]`.
fn with_lengths(rest: &str) -> Result<Option<String>, &'static str> {
    let lengths = rest.find('/').unwrap_or(rest.len());
    // A slash within a macro's braces is a delimiter.
    let lengths = rest.rfind('}').and_then(|brace| Some(brace + rest.get(brace..)?.find('/')?)).unwrap_or({
        if rest.contains('}') && rest.rfind('}') > Some(lengths) { rest.len() } else { lengths }
    });
    let (name, lengths) = rest.split_at(lengths);
    if !are_lengths(lengths) {
        return Err("the length of the network is malformed");
    }
    if name.is_empty() { Ok(None) } else { target(name).map(Some) }
}

fn are_lengths(text: &str) -> bool {
    let (four, six) = match text.split_once("//") {
        Some((four, six)) => (four, Some(six)),
        None => (text, None),
    };
    let four = four.is_empty() || four.strip_prefix('/').is_some_and(|digits| is_length(digits, 32));
    four && six.is_none_or(|digits| is_length(digits, 128))
}

fn is_length(digits: &str, most: u8) -> bool {
    let sound = digits == "0" || !digits.starts_with('0');
    sound && digits.bytes().all(|c| c.is_ascii_digit()) && digits.parse::<u8>().is_ok_and(|n| n <= most)
}

fn is_ip4(rest: &str) -> bool {
    let Some(text) = rest.strip_prefix(':') else { return false };
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    address.parse::<Ipv4Addr>().is_ok() && is_length(length, 32)
}

fn is_ip6(rest: &str) -> bool {
    let Some(text) = rest.strip_prefix(':') else { return false };
    let (address, length) = text.split_once('/').unwrap_or((text, "128"));
    address.parse::<Ipv6Addr>().is_ok() && is_length(length, 128)
}

/// RFC 7208 section 7.1, domain-spec: a macro-string that ends in a top label or a macro.
fn is_domain(text: &str) -> bool {
    if !is_macro_string(text) {
        return false;
    }
    if text.ends_with('}') {
        return true;
    }
    let plain = text.strip_suffix('.').unwrap_or(text);
    let Some((_, top)) = plain.rsplit_once('.') else { return false };
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !top.is_empty()
        && top.chars().all(sound)
        && !top.starts_with('-')
        && !top.ends_with('-')
        && !top.chars().all(|c| c.is_ascii_digit())
}

fn is_macro_string(text: &str) -> bool {
    let mut rest = text;
    while let Some((plain, tail)) = rest.split_once('%') {
        if !is_visible(plain) {
            return false;
        }
        let after = match tail.as_bytes().first() {
            Some(b'%' | b'_' | b'-') => tail.get(1..),
            Some(b'{') => tail.split_once('}').filter(|(within, _)| is_macro(within)).map(|(_, rest)| rest),
            _ => None,
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    is_visible(rest)
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|octet| (0x21..0x7f).contains(&octet))
}

/// `{` letter, digits, `r`, delimiters: what stands between the braces. `c`, `r` and `t` are for explanations only.
fn is_macro(within: &str) -> bool {
    let Some(body) = within.strip_prefix('{') else { return false };
    let mut chars = body.chars();
    let letter = chars.next().is_some_and(|c| "slodiphv".contains(c.to_ascii_lowercase()));
    let rest = chars.as_str();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, rest) = rest.split_at(digits);
    let sound = number.is_empty() || number.parse::<u32>().is_ok_and(|n| n > 0);
    let rest = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
    letter && sound && rest.chars().all(|c| ".-+,/_=".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sound_records_have_no_fault() {
        let rows = [
            ("v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all", 0, "networks cost nothing"),
            ("v=spf1 include:spf.example.com a mx ~all", 3, "three lookups"),
            ("v=spf1 a:mail.example.com/24//64 mx//48 ?all", 2, "both lengths"),
            ("v=spf1 exists:%{ir}.%{l1r+-}.example.com ptr -all", 2, "macros"),
            ("v=spf1 redirect=_spf.example.com", 1, "a redirect is a lookup"),
            ("v=spf1 -all redirect=_spf.example.com", 0, "a redirect beside all never counts"),
            ("V=SPF1 IP4:192.0.2.1 -ALL", 0, "names have no case"),
            ("v=spf1 unknown=%{d} exp=why.example.com -all", 0, "unknown modifiers are skipped"),
            ("v=spf1", 0, "nothing is said"),
        ];
        for (record, lookups, why) in rows {
            let reading = read(record);
            assert_eq!(
                (reading.faults.as_slice(), reading.terms.len()),
                (&[][..], lookups),
                "{record}: {why}"
            );
        }
    }

    #[test]
    fn what_makes_strict_receivers_give_up() {
        let rows = [
            ("v=spf1 ip4:300.1.1.1 -all", "an octet over 255"),
            ("v=spf1 ip4:192.0.2.0/33 -all", "33 bits"),
            ("v=spf1 ip4:192.0.2.0/024 -all", "a leading zero"),
            ("v=spf1 ip4 -all", "no address"),
            ("v=spf1 ip6:192.0.2.1 -all", "the wrong family"),
            ("v=spf1 ipv4:192.0.2.1 -all", "a misspelt mechanism"),
            ("v=spf1 include: -all", "no domain"),
            ("v=spf1 include -all", "no domain at all"),
            ("v=spf1 include:localhost -all", "one label is no domain"),
            ("v=spf1 a:example.com:8080 -all", "a port"),
            ("v=spf1 all:example.com", "all takes nothing"),
            ("v=spf1 redirect=a.example.com redirect=b.example.com", "two redirects"),
            ("v=spf1 exists:%{x}.example.com -all", "no such macro"),
            ("v=spf1 exists:%{d0}.example.com -all", "no label is asked for"),
            ("v=spf1 exists:%(d).example.com -all", "the wrong bracket"),
            ("v=spf1 mx/ -all", "no length"),
            ("v=spf1 a:example.123 -all", "a top label of digits"),
            ("v=spf1 \u{fc} -all", "not ASCII"),
            ("v=spf1 =x -all", "no name"),
        ];
        for (record, why) in rows {
            assert!(!read(record).faults.is_empty(), "{record}: {why}");
        }
    }

    #[test]
    fn what_is_spf_s_and_what_is_not() {
        for (text, wanted) in [
            ("v=spf1 -all", true),
            ("v=spf1", true),
            ("V=SpF1 a", true),
            ("v=spf10 -all", false),
            ("v=spf1-all", false),
            ("spf1", false),
        ] {
            assert_eq!(is_spf(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            let _ = (is_spf(&text), read(&text), read(&format!("v=spf1 {text}")));
        }
    }
}
