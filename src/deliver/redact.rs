//! What is not shown of mail whose class hides it: its subject, and what follows the host in links. Other servers quote both in their
//! replies, and replies go into the mail log, listings and notifications; header sections go into notifications and `queue show`.

use mail_parser::{HeaderName, MessageParser};

use crate::config::class::Hides;
use crate::mail::header::Headers;
use crate::mail::reply::PeerReply;

/// What stands in the place of what is hidden.
const HIDDEN: &[u8] = b"[hidden]";
/// Octets of a header section that are looked at.
const SECTION_MAX: usize = 1024 * 1024;
/// A subject shorter than this would hide half of every reply.
const SUBJECT_MIN: usize = 4;
/// A reply that begins to quote the subject with so many octets, and then breaks off, is cut there.
const QUOTED_MIN: usize = 16;
/// Parameters whose value is hidden also where no link stands before it.
const SECRETS: [&[u8]; 2] = [b"oobcode=", b"token="];

/// What hides one message's secrets.
#[derive(Clone, Debug, Default)]
pub struct Veil {
    hides: Hides,
    subject: Option<String>,
}

impl Veil {
    /// For this message, in the octets that leave.
    #[must_use]
    pub fn new(hides: Hides, message: &[u8]) -> Self {
        let subject = if hides.subject { subject(message) } else { None };
        Self { hides, subject }
    }

    /// Hides in what a server said.
    pub fn reply(&self, reply: &mut PeerReply) {
        self.text(&mut reply.text);
    }

    /// Hides in a text that another server wrote.
    pub fn text(&self, text: &mut Vec<u8>) {
        if self.hides.link {
            *text = without_links(text);
        }
        if let Some(subject) = &self.subject {
            *text = without_subject(text, subject);
        }
    }
}

/// The header section without the fields that show what is hidden. A section that cannot be read is not shown at all.
#[must_use]
pub fn headers(section: &[u8], hides: Hides) -> Vec<u8> {
    // Also where nothing is hidden: a stranger's section that two could read differently does not leave under our seal.
    let Ok(headers) = Headers::parse(section, section.len()) else { return Vec::new() };
    let shown = headers.fields.iter().filter(|field| {
        let subject = field.is("Subject") || field.is("Thread-Topic");
        let link = memchr::memmem::find(field.value(), b"://").is_some();
        !(hides.subject && subject || hides.link && link)
    });
    shown.flat_map(|field| field.raw.iter().copied()).collect()
}

/// Decoded, as a person sees it.
fn subject(message: &[u8]) -> Option<String> {
    let end = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    let headers = Headers::parse(message.get(..end)?, SECTION_MAX).ok()?;
    let section = [headers.first("Subject")?.raw, b"\r\n"].concat();
    let parser = MessageParser::new().header_text(HeaderName::Subject).default_header_ignore();
    let subject = parser.parse_headers(&section)?.subject()?.trim().to_owned();
    (subject.len() >= SUBJECT_MIN).then_some(subject)
}

fn without_links(text: &[u8]) -> Vec<u8> {
    let parts = |octet: &u8| octet.is_ascii_whitespace() || b"<>\"'()[]".contains(octet);
    let mut out = Vec::with_capacity(text.len());
    // Whether the line ended within a link: what follows may be the rest of it.
    let mut broken = false;
    for piece in text.split_inclusive(parts) {
        let (word, end) = match piece.split_last() {
            Some((last, word)) if parts(last) => (word, piece.get(word.len()..).unwrap_or_default()),
            _ => (piece, &[][..]),
        };
        let over = word.is_empty() || is_status(word);
        let shown = if broken && !over { Some(0) } else { shown(word) };
        match shown {
            Some(shown) if shown < word.len() => {
                out.extend_from_slice(word.get(..shown).unwrap_or_default());
                out.extend_from_slice(HIDDEN);
            }
            Some(_) | None => out.extend_from_slice(word),
        }
        broken = broken && over || shown.is_some() && matches!(end, b"\n" | b"\r");
        out.extend_from_slice(end);
    }
    out
}

/// Whether it can be the enhanced code (RFC 2034) that each line of a reply begins with.
fn is_status(word: &[u8]) -> bool {
    let digits = |part: &[u8]| matches!(part.len(), 1..=3) && part.iter().all(u8::is_ascii_digit);
    word.split(|octet| *octet == b'.').count() == 3 && word.split(|octet| *octet == b'.').all(digits)
}

/// How much of a word may be shown, if it is or holds a link, or a parameter.
fn shown(word: &[u8]) -> Option<usize> {
    let lower = word.to_ascii_lowercase();
    let find = |sought: &[u8]| memchr::memmem::find(&lower, sought);
    let scheme = find(b"://").map(|at| at + 3);
    let link = scheme.or_else(|| lower.starts_with(b"www.").then_some(0)).map(|start| {
        let rest = lower.get(start..).unwrap_or_default();
        start + rest.iter().position(|octet| b"/?#".contains(octet)).map_or(rest.len(), |end| end + 1)
    });
    let query =
        find(b"?").filter(|at| lower.get(*at..).is_some_and(|rest| rest.contains(&b'='))).map(|at| at + 1);
    let secret = SECRETS.iter().filter_map(|name| Some(find(name)? + name.len())).min();
    let encoded = find(b"%3a%2f%2f").map(|at| at + 9);
    [link, query, secret, encoded].into_iter().flatten().min()
}

fn without_subject(text: &[u8], subject: &str) -> Vec<u8> {
    let subject = subject.as_bytes();
    let text = without_encoded_words(text);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_slice();
    while let Some(at) = find(rest, subject) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(HIDDEN);
        rest = rest.get(at + subject.len()..).unwrap_or_default();
    }
    let begun = subject.get(..QUOTED_MIN).and_then(|head| find(rest, head));
    out.extend_from_slice(rest.get(..begun.unwrap_or(rest.len())).unwrap_or_default());
    out.extend_from_slice(if begun.is_some() { HIDDEN } else { b"" });
    out
}

/// Without regard to the case of ASCII letters.
fn find(text: &[u8], sought: &[u8]) -> Option<usize> {
    text.windows(sought.len().max(1)).position(|window| window.eq_ignore_ascii_case(sought))
}

/// RFC 2047: a subject quoted as it was written.
fn without_encoded_words(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, b"=?") {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(HIDDEN);
        let tail = rest.get(at..).unwrap_or_default();
        let word = tail.iter().position(u8::is_ascii_whitespace).unwrap_or(tail.len());
        rest = tail.get(word..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Hides = Hides { subject: true, link: true };

    fn veiled(hides: Hides, message: &str, text: &str) -> String {
        let mut reply = PeerReply { code: 550, enhanced: None, text: text.into() };
        Veil::new(hides, message.as_bytes()).reply(&mut reply);
        String::from_utf8(reply.text).unwrap()
    }

    #[test]
    fn what_servers_quote() {
        let message = "Subject: Reset your\r\n password, Ann\r\n\r\nbody";
        for (text, expected, why) in [
            ("5.1.1 no such user", "5.1.1 no such user", "nothing is quoted"),
            (
                "bad URL https://acme.test/r?oobCode=S3CRET here",
                "bad URL https://acme.test/[hidden] here",
                "a link",
            ),
            ("<HTTP://acme.test/reset/S3CRET>", "<HTTP://acme.test/[hidden]>", "a secret in the path"),
            ("see https://acme.test", "see https://acme.test", "a host alone"),
            ("(www.acme.test/?x=S3CRET)", "(www.acme.test/[hidden])", "without a scheme"),
            ("acme.test/r?oobCode=S3CRET", "acme.test/r?[hidden]", "without any of it"),
            (
                "bad https://acme.test/r?oobCode=S3\nCRET&x=1\nsorry",
                "bad https://acme.test/[hidden]\n[hidden]\n[hidden]",
                "broken by a line end, perhaps more than once",
            ),
            (
                "5.7.1 https://acme.test/r?oobCode=\n5.7.1 S3CRET",
                "5.7.1 https://acme.test/[hidden]\n5.7.1 [hidden]",
                "with the code that each line begins with",
            ),
            ("at https://acme.test\n/S3CRET no", "at https://acme.test\n[hidden] no", "before its path"),
            (
                "(https://acme.test/S3CRET)\nno",
                "(https://acme.test/[hidden])\nno",
                "it ended before the line",
            ),
            ("wrapped oob\noobCode=S3CRET&x=1", "wrapped oob\noobCode=[hidden]", "cut by the line end"),
            ("go.test/x%3A%2F%2Facme.test%2FS3CRET", "go.test/x%3A%2F%2F[hidden]", "percent"),
            ("spam: \"reset your PASSWORD, Ann\" no", "spam: \"[hidden]\" no", "the subject"),
            ("subject Reset your password...", "subject [hidden]", "the subject, cut"),
            ("subject =?utf-8?q?Reset_your?= refused", "subject [hidden] refused", "the subject as written"),
        ] {
            assert_eq!(veiled(ALL, message, text), expected, "{why}");
        }
        let link = "https://acme.test/r?oobCode=S3CRET";
        assert_eq!(veiled(Hides::default(), message, link), link, "only where the class hides it");
        let short = "Subject: no\r\n\r\n";
        assert_eq!(veiled(ALL, short, "no such user"), "no such user", "a subject like any word");
        assert_eq!(veiled(ALL, "Subject: hidden\r\n\r\n", "hidden"), "[hidden]", "and one like ours");
    }

    #[test]
    fn what_goes_back_of_a_header_section() {
        let section = b"From: a@acme.test\r\nSubject: Reset\r\n it\r\nList-Unsubscribe: <https://a.test/S3CRET>\r\nTo: b@c.test\r\n";
        let shown = String::from_utf8(headers(section, ALL)).unwrap();
        assert_eq!(shown, "From: a@acme.test\r\nTo: b@c.test\r\n");
        assert_eq!(headers(section, Hides::default()), section);
        assert!(headers(b"no header", ALL).is_empty(), "what cannot be read is not shown");
    }

    proptest! {
        #[test]
        fn no_secret_of_a_link_is_left(before in "[ -~]{0,30}", path in "[a-z/]{0,10}", after in "[ -~]{0,30}") {
            let text = format!("{before} https://a.test/{path}S3CRET?x=S3CRET {after}");
            let shown = without_links(text.as_bytes());
            prop_assert!(memchr::memmem::find(&shown, b"S3CRET").is_none());
        }

        #[test]
        fn any_octets_are_survived(text in proptest::collection::vec(any::<u8>(), 0..200), subject in "[ -~é]{4,30}") {
            let _ = without_subject(&without_links(&text), &subject);
        }
    }
}
