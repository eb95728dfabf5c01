//! Tag lists, `name=value; name=value`, as key records and DMARC records are written (RFC 6376 section 3.2).

/// The tags in their order, values trimmed of white space.
///
/// # Errors
/// What is wrong, as a receiver that is strict would find it: no `=`, a name that is none, a name twice, an empty place
/// between two semicolons.
pub(super) fn parse(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let text = text.trim_matches(space);
    // RFC 6376 section 3.2: one semicolon at the end is allowed.
    let text = text.strip_suffix(';').unwrap_or(text);
    let mut tags: Vec<(&str, &str)> = Vec::new();
    for part in text.split(';') {
        let part = part.trim_matches(space);
        let Some((name, value)) = part.split_once('=') else {
            return Err(if part.is_empty() {
                "two semicolons with nothing between".to_owned()
            } else {
                format!("`{}` is no tag", short(part))
            });
        };
        let (name, value) = (name.trim_matches(space), value.trim_matches(space));
        if !is_name(name) {
            return Err(format!("`{}` is no tag", short(part)));
        }
        // RFC 6376 section 3.2: a name that occurs twice makes the whole list invalid.
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(format!("the tag {name}= stands there twice"));
        }
        tags.push((name, value));
    }
    Ok(tags)
}

/// The value of a tag.
pub(super) fn get<'t>(tags: &[(&str, &'t str)], name: &str) -> Option<&'t str> {
    tags.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// A piece of a record for a sentence: what a stranger's zone holds is bounded and has no control characters.
pub(super) fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// FWS of RFC 6376 section 2.8, as a TXT record can hold it.
pub(super) fn space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_and_what_is_wrong_with_them() {
        let rows: &[(&str, Result<usize, &str>, &str)] = &[
            ("v=DKIM1; k=rsa; p=AB", Ok(3), "as everybody writes it"),
            ("v = DKIM1 ;\tp = A B ; ", Ok(2), "white space anywhere around, a semicolon at the end"),
            ("p=a=b=", Ok(1), "only the first = counts"),
            ("p=", Ok(1), "an empty value is one"),
            ("", Err("two semicolons with nothing between"), "nothing at all"),
            ("v=DKIM1;; p=A", Err("two semicolons with nothing between"), "dkimpy refuses it"),
            ("v=DKIM1; junk", Err("`junk` is no tag"), "no ="),
            ("v=DKIM1; 1a=b", Err("`1a=b` is no tag"), "a name begins with a letter"),
            ("p=A; p=B", Err("the tag p= stands there twice"), "RFC 6376 section 3.2"),
            ("p=A; P=B", Ok(2), "names are case-sensitive"),
        ];
        for (text, wanted, why) in rows {
            let got = parse(text).map(|tags| tags.len());
            assert_eq!(got.as_ref().copied().map_err(String::as_str), *wanted, "{why}: {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}") {
            if let Ok(tags) = parse(&text) {
                prop_assert!(tags.iter().all(|(name, _)| is_name(name)));
            }
        }
    }
}
