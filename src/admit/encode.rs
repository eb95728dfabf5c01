//! Raw UTF-8 in header fields, written in ASCII: encoded words (RFC 2047), parameters (RFC 2231), A-labels. Fields without any
//! never come here.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::mail::address::Address;
use crate::mail::header::{Field, LINE_MAX};
use crate::mail::mailbox::{Piece, pieces};

/// RFC 2047 section 2 allows words of 75 octets and lines of 76; 39 octets make a word of 64, which leaves room for a name.
const WORD_OCTETS: usize = 39;
/// RFC 5322 section 2.1.1: where a line should end.
const FOLD_AT: usize = 78;

/// Fields that hold address lists.
const ADDRESSES: [&str; 9] =
    ["From", "Sender", "Reply-To", "To", "Cc", "Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc"];
/// Fields whose values are ASCII by grammar, so that an encoded word would say something else.
const ASCII_ONLY: [&str; 12] = [
    "Message-ID",
    "In-Reply-To",
    "References",
    "Content-ID",
    "Date",
    "Received",
    "MIME-Version",
    "Content-Transfer-Encoding",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "DKIM-Signature",
    "Authentication-Results",
];

/// Whether a field names a mailbox that cannot be written in ASCII (RFC 6531: its local part is not).
pub(super) fn needs_smtputf8(field: &Field<'_>) -> bool {
    if field.raw.is_ascii() || !ADDRESSES.iter().any(|name| field.is(name)) {
        return false;
    }
    let value = unfolded(field).unwrap_or_default();
    let pieces = pieces(&value).unwrap_or_default();
    pieces.iter().filter_map(address_of).any(|address| address.needs_smtputf8())
}

/// The field in ASCII, CRLF included; `None` where its grammar or its octets leave no way.
pub(super) fn in_ascii(field: &Field<'_>) -> Option<Vec<u8>> {
    let value = unfolded(field)?;
    let name = std::str::from_utf8(field.name()).ok()?;
    let is_one_of = |names: &[&str]| names.iter().any(|name| field.is(name));
    let text = match () {
        () if is_one_of(&ASCII_ONLY) => return None,
        () if is_one_of(&ADDRESSES) => addresses(&value)?,
        () if is_one_of(&["Content-Type", "Content-Disposition"]) => parameters(&value)?,
        () => words(&value),
    };
    let field = fold(name, &text);
    field.split('\n').all(|line| line.len() <= LINE_MAX).then(|| field.into_bytes())
}

fn unfolded(field: &Field<'_>) -> Option<String> {
    let value = std::str::from_utf8(field.value()).ok()?;
    Some(value.replace("\r\n", "").trim().to_owned())
}

/// Runs of words that are not ASCII become encoded words; all space within a run is encoded with them, since readers drop
/// the space between two encoded words (RFC 2047 section 6.2). Of two spaces in a row an empty word lies between: it ends no run.
fn words(value: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut run: Vec<&str> = Vec::new();
    for word in value.split([' ', '\t']) {
        let in_run = !word.is_ascii() || word.is_empty() && !run.is_empty();
        if in_run {
            run.push(word);
        } else {
            let before = out.last().map(String::as_str);
            out.extend(between(before, &run.join(" "), Some(word)));
            run.clear();
            out.push(word.to_owned());
        }
    }
    let before = out.last().map(String::as_str);
    out.extend(between(before, &run.join(" "), None));
    out.join(" ")
}

/// The encoded words of a text between two words. Where one of these came encoded, the space beside it is encoded too, or readers
/// would drop it.
fn between(before: Option<&str>, text: &str, behind: Option<&str>) -> Option<String> {
    let space = |word: Option<&str>| if word.is_some_and(is_encoded) { " " } else { "" };
    if text.is_empty() { None } else { encoded(&format!("{}{text}{}", space(before), space(behind))) }
}

/// Whether a word came as an encoded word.
fn is_encoded(word: &str) -> bool {
    let inner = word.strip_prefix("=?").and_then(|word| word.strip_suffix("?="));
    inner.is_some_and(|inner| inner.split('?').count() == 3)
}

/// The encoded words of a text; none for an empty one. No character is torn (RFC 2047 section 5).
fn encoded(text: &str) -> Option<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.floor_char_boundary(WORD_OCTETS));
        words.push(format!("=?utf-8?B?{}?=", STANDARD.encode(head)));
        rest = tail;
    }
    (!words.is_empty()).then(|| words.join(" "))
}

/// Display names and comments become encoded words, domains A-labels.
fn addresses(value: &str) -> Option<String> {
    let pieces = pieces(value).ok()?;
    let mut out = String::new();
    let mut phrase: Vec<String> = Vec::new();
    let mut before = None;
    for piece in &pieces {
        match piece {
            Piece::Space(_) => {}
            Piece::Atom(text) if !text.contains('@') && !text.is_ascii() => phrase.push((*text).to_owned()),
            Piece::Quoted(text) if !text.is_ascii() => phrase.push(unquoted(text)),
            Piece::Atom(_) | Piece::Quoted(_) | Piece::Comment(_) | Piece::Angle(_) | Piece::Mark(_) => {
                let behind = if let Piece::Atom(text) = piece { Some(*text) } else { None };
                word(&mut out, between(before, &phrase.join(" "), behind).as_deref());
                phrase.clear();
                before = behind;
                write_piece(&mut out, piece)?;
            }
        }
    }
    word(&mut out, between(before, &phrase.join(" "), None).as_deref());
    Some(out)
}

fn write_piece(out: &mut String, piece: &Piece<'_>) -> Option<()> {
    match piece {
        Piece::Mark(mark) => out.push_str(mark),
        Piece::Comment(text) if !text.is_ascii() => {
            let inner = text.strip_prefix('(')?.strip_suffix(')')?;
            word(out, Some(&format!("({})", encoded(inner)?)));
        }
        Piece::Angle(text) if !text.is_ascii() => word(out, Some(&format!("<{}>", address_of(piece)?))),
        Piece::Atom(text) if !text.is_ascii() => word(out, Some(&address_of(piece)?.to_string())),
        Piece::Space(text)
        | Piece::Atom(text)
        | Piece::Quoted(text)
        | Piece::Comment(text)
        | Piece::Angle(text) => word(out, Some(text)),
    }
    Some(())
}

fn word(out: &mut String, word: Option<&str>) {
    let Some(word) = word else { return };
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(word);
}

fn address_of(piece: &Piece<'_>) -> Option<Address> {
    match piece {
        Piece::Angle(text) => text.trim_matches(['<', '>', ' ', '\t']).parse().ok(),
        Piece::Atom(text) if text.contains('@') => text.parse().ok(),
        Piece::Atom(_) | Piece::Space(_) | Piece::Quoted(_) | Piece::Comment(_) | Piece::Mark(_) => None,
    }
}

fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut plain = String::with_capacity(inner.len());
    let mut guarded = false;
    for c in inner.chars() {
        guarded = c == '\\' && !guarded;
        if !guarded {
            plain.push(c);
        }
    }
    plain
}

/// RFC 2231 section 4: `filename="é"` becomes `filename*=utf-8''%C3%A9`.
fn parameters(value: &str) -> Option<String> {
    let mut out: Vec<String> = Vec::new();
    for part in split_parameters(value) {
        if part.is_ascii() {
            out.push(part.trim().to_owned());
            continue;
        }
        let (name, text) = part.split_once('=')?;
        let name = name.trim().trim_end_matches('*');
        let mut parameter = format!("{name}*=utf-8''");
        for octet in unquoted(text.trim()).bytes() {
            let plain = octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
            if plain {
                parameter.push(octet.into());
            } else {
                let _ = write!(parameter, "%{octet:02X}");
            }
        }
        out.push(parameter);
    }
    Some(out.join("; "))
}

/// At semicolons outside quotes.
fn split_parameters(value: &str) -> Vec<&str> {
    let (mut quoted, mut guarded) = (false, false);
    let parts = value.split(|c: char| {
        let (was_guarded, was_quoted) = (guarded, quoted);
        guarded = was_quoted && c == '\\' && !was_guarded;
        if c == '"' && !was_guarded {
            quoted = !was_quoted;
        }
        c == ';' && !was_quoted
    });
    parts.collect()
}

/// Folds at spaces where a line would grow too long: not before another space, for a line of spaces alone is none to some readers,
/// and not before what would be taken for a From line by those that skip the space (espoofer's A9 and A10).
fn fold(name: &str, text: &str) -> String {
    let mut out = format!("{name}:");
    let mut column = out.len();
    for word in text.split(' ') {
        let unfit = word.is_empty() || word.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("From"));
        if column + 1 + word.len() > FOLD_AT && column > name.len() + 1 && !unfit {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += 1 + word.len();
    }
    out.push_str("\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header::Headers;

    fn ascii(field: &str) -> Option<String> {
        let raw = format!("{field}\r\n");
        let headers = Headers::parse(raw.as_bytes(), 100_000).unwrap();
        let text = String::from_utf8(in_ascii(&headers.fields[0])?).unwrap();
        Some(text.trim_end().to_owned())
    }

    #[test]
    fn raw_utf8_is_written_in_ascii() {
        for (field, expected, why) in [
            ("Subject: Grüße an alle", "Subject: =?utf-8?B?R3LDvMOfZQ==?= an alle", "a word"),
            (
                "Subject: Grüße für alle",
                "Subject: =?utf-8?B?R3LDvMOfZSBmw7xy?= alle",
                "a run keeps its space",
            ),
            ("X-Note: a =?utf-8?q?b?= ü", "X-Note: a =?utf-8?q?b?= =?utf-8?B?IMO8?=", "encoded words stay"),
            ("From: Jörg <a@t.example>", "From: =?utf-8?B?SsO2cmc=?= <a@t.example>", "a display name"),
            (
                "From: \"Jörg \\\"J\\\"\" <a@t.example>",
                "From: =?utf-8?B?SsO2cmcgIkoi?= <a@t.example>",
                "quoted",
            ),
            (
                "To: a@bücher.example, Ann <b@t.example>",
                "To: a@xn--bcher-kva.example, Ann <b@t.example>",
                "a domain",
            ),
            ("To: a@t.example (Jörg)", "To: a@t.example (=?utf-8?B?SsO2cmc=?=)", "a comment"),
            (
                "Content-Type: text/plain; charset=utf-8; name=\"é;x.txt\"",
                "Content-Type: text/plain; charset=utf-8; name*=utf-8''%C3%A9%3Bx.txt",
                "a parameter",
            ),
        ] {
            assert_eq!(ascii(field).as_deref(), Some(expected), "{why}");
        }
        assert_eq!(ascii("Message-ID: <é@t.example>"), None, "no encoded words in identifiers");
        assert_eq!(
            ascii("To: jörg@t.example"),
            Some("To: jörg@t.example".to_owned()),
            "the caller asked needs_smtputf8"
        );
    }

    /// What a reader of the field as it came would see is what one of the encoded field sees.
    #[test]
    fn spaces_between_words_outlive_the_encoding() {
        for (text, why) in [
            ("é  ü", "two between two words"),
            ("é    ü  ö", "more of them"),
            ("a é  ü  b", "beside plain words"),
            ("é   b", "before a plain word"),
        ] {
            assert_eq!(shown(text)[0], text, "{why}");
        }
        for (text, expected, why) in [
            ("é =?utf-8?q?=C3=BC?=", "é ü", "before a word that came encoded"),
            ("=?utf-8?q?=C3=BC?= é b", "ü é b", "behind one"),
            ("=?utf-8?q?a?= é =?utf-8?q?b?=", "a é b", "between two"),
        ] {
            assert_eq!(shown(text), [expected, expected], "{why}");
        }
    }

    /// What is shown of a text, as a subject and as a display name.
    fn shown(text: &str) -> [String; 2] {
        let subject = ascii(&format!("Subject: {text}")).unwrap();
        let from = ascii(&format!("From: {text} <a@t.example>")).unwrap_or_default();
        let message = format!("{subject}\r\n{from}\r\n\r\n");
        let parsed = mail_parser::MessageParser::new().parse(message.as_bytes()).unwrap();
        let name = parsed.from().and_then(|from| from.first()).and_then(|from| from.name.as_deref());
        [parsed.subject().unwrap().to_owned(), name.unwrap_or_default().to_owned()]
    }

    /// Bug: what is refused or mended where a client sends it was made here.
    #[test]
    fn folding_makes_no_line_that_reads_as_another() {
        for (text, why) in [
            (format!("é {} From: ceo@bank.test", "x".repeat(60)), "a From line"),
            (format!("é {} fRom : ceo@bank.test", "x".repeat(60)), "another"),
            (format!("é a{}b", " ".repeat(200)), "nothing but spaces"),
        ] {
            let field = ascii(&format!("Subject: {text}")).unwrap();
            for line in field.split("\r\n").skip(1) {
                let line = line.trim_start().to_ascii_lowercase();
                assert!(!line.is_empty() && !line.starts_with("from"), "{why}: {field}");
            }
        }
    }

    #[test]
    fn long_text_is_folded_and_no_character_torn() {
        let text = ascii(&format!("Subject: {}", "日本語".repeat(60))).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= FOLD_AT), "{text}");
        let message = format!("{text}\r\n\r\n");
        let parsed = mail_parser::MessageParser::new().parse(message.as_bytes()).unwrap();
        assert_eq!(parsed.subject().unwrap(), "日本語".repeat(60));
    }
}
