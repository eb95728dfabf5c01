//! Whose results an `Authentication-Results` field claims to be (RFC 8601 section 2.2): those that claim to be ours are removed,
//! for whoever reads them further on believes them. The name may be quoted, hide behind comments within comments, or be
//! written in Unicode: what any reader could take for our name counts.

use crate::mail::address::Domain;
use crate::mail::header::Field;

/// Whether the field's authserv-id is this host's name.
pub(super) fn claims(field: &Field<'_>, hostname: &Domain) -> bool {
    let value = String::from_utf8_lossy(field.value());
    let Some(id) = identifier(&value) else {
        return value.to_ascii_lowercase().contains(hostname.as_str());
    };
    let id = id.trim_end_matches('.');
    id.eq_ignore_ascii_case(hostname.as_str()) || id.parse().is_ok_and(|name: Domain| name == *hostname)
}

/// The first word, comments and quotes undone. `None`: a comment never ends, and every reader makes something else of that.
fn identifier(value: &str) -> Option<String> {
    let mut rest = value.trim_start();
    while rest.starts_with('(') {
        rest = behind_comment(rest)?.trim_start();
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        return Some(unquoted(quoted).trim().to_owned());
    }
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ';' | '(' | '/' | '"' | ','));
    rest.get(..end.unwrap_or(rest.len())).map(str::to_owned)
}

/// What follows a comment (RFC 5322 section 3.2.2: they nest, and a backslash takes the next character with it).
fn behind_comment(text: &str) -> Option<&str> {
    let (mut depth, mut escaped) = (0_u32, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return text.get(at + 1..),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// A quoted string up to its end, each escaped character as itself.
fn unquoted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => out.extend(rest.next()),
            '\r' | '\n' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header::Headers;

    #[test]
    fn what_claims_to_be_ours() {
        let hostname: Domain = "relay.example".parse().unwrap();
        let rows = [
            (" relay.example; dmarc=pass", true, "plainly"),
            (" RELAY.Example 1; dmarc=pass", true, "with a version, in another case"),
            ("\r\n\trelay.example;\r\n dmarc=pass", true, "folded"),
            (" (ours) relay.example; x", true, "behind a comment"),
            (" (a (b) c) relay.example; x", true, "behind one within another"),
            (" (a \\) b) relay.example; x", true, "behind one with an escaped bracket"),
            (" (a (b) relay.example; x", true, "behind one that never ends"),
            (" \"relay.example\"; x", true, "quoted"),
            (" \"relay\\.example\"; x", true, "with an escape in it"),
            (" relay.example.; x", true, "with a dot at the end"),
            (" relay.example/1; x", true, "with a version as some write it"),
            (" relay\u{3002}example; x", true, "an ideographic full stop"),
            (" relay.example", true, "and nothing else"),
            (" mx.relay.example; x", false, "a name below ours"),
            (" other.example; smtp.mailfrom=relay.example", false, "ours only as a result"),
            (" relay.example.evil.test; x", false, "ours as the beginning of another"),
            ("", false, "empty"),
        ];
        for (value, ours, why) in rows {
            let text = format!("Authentication-Results:{value}\r\n");
            let headers = Headers::parse(text.as_bytes(), text.len()).unwrap();
            assert_eq!(claims(&headers.fields[0], &hostname), ours, "{why}: {value:?}");
        }
    }
}
