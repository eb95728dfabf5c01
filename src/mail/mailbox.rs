//! Address lists as they stand in header fields (RFC 5322 section 3.4), read strictly: of what receivers' parsers are known to
//! read in different ways nothing is accepted where it matters who the author is.

use super::address::{Address, BadAddress};

/// Pieces of one field; the header section's own bound holds too.
const PIECES_MAX: usize = 20_000;

/// Why an address list is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// A quote, comment or bracket is not closed.
    #[error("a quote, comment or bracket is not closed")]
    Open,
    /// A character stands where only a quoted string may hold it.
    #[error("`{0}` must stand in quotes")]
    Stray(char),
    /// Group syntax (`name: ...;`).
    #[error("group syntax is not accepted")]
    Group,
    /// Words without an address.
    #[error("there is no address in it")]
    NoAddress,
    /// An address outside the angle brackets, which some read as the author.
    #[error("an address stands outside the angle brackets; put the display name in quotes")]
    TwoAddresses,
    /// The address itself.
    #[error(transparent)]
    Address(#[from] BadAddress),
}

/// One token of an address list, with its delimiters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// White space, kept for writing the list again.
    Space(&'a str),
    /// Letters, digits, atom specials, dots and `@`: a word, or a bare address.
    Atom(&'a str),
    /// `"..."`.
    Quoted(&'a str),
    /// `(...)`.
    Comment(&'a str),
    /// `<...>`.
    Angle(&'a str),
    /// `,` `:` or `;`.
    Mark(&'a str),
}

/// Splits an unfolded field value.
///
/// # Errors
/// What is not closed, and characters that may not stand bare.
pub fn pieces<'a>(value: &'a str) -> Result<Vec<Piece<'a>>, BadList> {
    let mut found = Vec::new();
    let mut rest = value;
    while let Some(first) = rest.chars().next() {
        let (length, make): (usize, fn(&'a str) -> Piece<'a>) = match first {
            ' ' | '\t' => (run(rest, |c| c == ' ' || c == '\t'), Piece::Space),
            '"' => (closing(rest, '"').ok_or(BadList::Open)?, Piece::Quoted),
            '(' => (comment(rest).ok_or(BadList::Open)?, Piece::Comment),
            '<' => (closing(rest, '>').ok_or(BadList::Open)?, Piece::Angle),
            ',' | ':' | ';' => (1, Piece::Mark),
            c if is_atom(c) => (run(rest, is_atom), Piece::Atom),
            c => return Err(BadList::Stray(c)),
        };
        let (piece, tail) = rest.split_at_checked(length).ok_or(BadList::Open)?;
        found.push(make(piece));
        rest = tail;
        if found.len() > PIECES_MAX {
            return Err(BadList::Open);
        }
    }
    Ok(found)
}

/// The addresses of a field that must name mailboxes and nothing else, such as From (RFC 5322 section 3.6.2).
///
/// # Errors
/// Why it does not.
pub fn mailboxes(value: &str) -> Result<Vec<Address>, BadList> {
    let pieces = pieces(value)?;
    if pieces.iter().any(|piece| matches!(piece, Piece::Mark(":" | ";"))) {
        return Err(BadList::Group);
    }
    pieces.split(|piece| *piece == Piece::Mark(",")).map(mailbox).collect()
}

/// `name-addr` or `addr-spec` (RFC 5322 section 3.4); the latter without white space or comments inside (section 4.4 had them).
fn mailbox(pieces: &[Piece<'_>]) -> Result<Address, BadList> {
    let quiet = |piece: &&Piece<'_>| matches!(piece, Piece::Space(_) | Piece::Comment(_));
    let mut words = pieces.split(|piece| matches!(piece, Piece::Angle(_)));
    let (before, after) = (words.next().unwrap_or_default(), words.next());
    let Some(after) = after else { return bare(before) };
    if words.next().is_some() || after.iter().any(|piece| !quiet(&piece)) {
        return Err(BadList::TwoAddresses);
    }
    if before.iter().any(|piece| matches!(piece, Piece::Atom(word) if word.contains('@'))) {
        return Err(BadList::TwoAddresses);
    }
    let angle = pieces.iter().find_map(|piece| match piece {
        Piece::Angle(text) => text.strip_prefix('<').and_then(|text| text.strip_suffix('>')),
        Piece::Space(_) | Piece::Atom(_) | Piece::Quoted(_) | Piece::Comment(_) | Piece::Mark(_) => None,
    });
    match angle.unwrap_or_default().trim_matches([' ', '\t']) {
        "" => Err(BadList::NoAddress),
        text => Ok(text.parse()?),
    }
}

fn bare(pieces: &[Piece<'_>]) -> Result<Address, BadList> {
    let words = pieces.iter().filter(|piece| !matches!(piece, Piece::Space(_) | Piece::Comment(_)));
    match words.collect::<Vec<_>>().as_slice() {
        [Piece::Atom(text)] if text.contains('@') => Ok(text.parse()?),
        [] | [Piece::Atom(_) | Piece::Quoted(_)] => Err(BadList::NoAddress),
        // A quoted local part reads as a display name to many: only within angle brackets.
        [.., Piece::Atom(text)] if text.contains('@') => Err(BadList::TwoAddresses),
        _ => Err(BadList::NoAddress),
    }
}

/// RFC 5322 section 3.2.3 atext, with dots (obs-phrase), `@`, and RFC 6532's UTF-8.
fn is_atom(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.@".contains(c) || (!c.is_ascii() && !c.is_control())
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// Length up to and with the closing mark; a backslash guards the next character, and quotes guard `>`.
fn closing(text: &str, mark: char) -> Option<usize> {
    let (mut guarded, mut quoted) = (false, false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if guarded => guarded = false,
            '\\' => guarded = true,
            c if c == mark && !quoted => return Some(at + 1),
            '"' => quoted = !quoted,
            _ => {}
        }
    }
    None
}

/// Comments nest (RFC 5322 section 3.2.2).
fn comment(text: &str) -> Option<usize> {
    let (mut guarded, mut depth) = (false, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            _ if guarded => guarded = false,
            '\\' => guarded = true,
            '(' => depth += 1,
            ')' if depth == 1 => return Some(at + 1),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_author_is_read_in_one_way_or_not_at_all() {
        let good: &[(&str, &[&str], &str)] = &[
            (" a@t.example", &["a@t.example"], "bare"),
            (" Ann Example <a@t.example>", &["a@t.example"], "a display name"),
            (" \"Ann, of \\\"T\\\"\" <a@t.example>", &["a@t.example"], "quoted, with an escaped quote"),
            (
                " =?utf-8?q?J=C3=B6rg?= <a@T.Example>",
                &["a@t.example"],
                "an encoded word; the domain in lower case",
            ),
            (" J. R. Example <a@t.example> (home)", &["a@t.example"], "dots, and a comment behind"),
            (" (x@bank.test) a@t.example", &["a@t.example"], "an address in a comment is none"),
            (" \"x@bank.test\" <a@t.example>", &["a@t.example"], "an address in a quoted name is none"),
            (" < a@t.example >", &["a@t.example"], "space within the brackets"),
            (" a@t.example, b@t.example", &["a@t.example", "b@t.example"], "two"),
            (" <\"a b\"@t.example>", &["\"a b\"@t.example"], "a quoted local part"),
            (" Jörg <a@bücher.example>", &["a@xn--bcher-kva.example"], "UTF-8, compared as A-labels"),
        ];
        for (value, addresses, why) in good {
            let found: Vec<_> = mailboxes(value).expect(why).iter().map(Address::to_string).collect();
            assert_eq!(found, *addresses, "{why}");
        }
    }

    #[test]
    fn tricks_are_no_authors() {
        for (value, why) in [
            ("", "nothing"),
            (" <>", "the null path is no author"),
            (" Ann Example", "display name only"),
            (" undisclosed-recipients:;", "an empty group"),
            (" Team: a@t.example;", "a group"),
            (" ann", "no domain"),
            (" ann@", "no domain"),
            (" =?utf-8?q?ceo=40bank.test?=", "an encoded word is no address"),
            (" \"ceo@bank.test\"@t.example", "a quoted local part outside brackets"),
            (" <@bank.test:x@t.example>", "a route"),
            (" x@bank.test <a@t.example>", "an address before the brackets"),
            (" <x@bank.test> <a@t.example>", "two brackets"),
            (" <a@t.example> x@bank.test", "an address behind the brackets"),
            (" a@t.example,", "an empty element"),
            (" a@t.example b@t.example", "no comma"),
            (" a@[127.0.0.1]", "an address literal"),
            (" <a@t.example", "not closed"),
            (" \"Ann <a@t.example>", "quote not closed"),
            (" (Ann <a@t.example>", "comment not closed"),
            (" Acme, Inc. <a@t.example>", "the comma parts two authors"),
            (" a@t.example\\", "a backslash outside quotes"),
            (" a@b@t.example", "two at signs"),
            (" a @t.example", "white space within an address"),
            (" a(x)@t.example", "a comment within an address"),
        ] {
            assert!(mailboxes(value).is_err(), "{why}: {:?}", mailboxes(value));
        }
    }

    proptest! {
        #[test]
        fn the_pieces_add_up(value in "[ -~é\t]{0,60}") {
            if let Ok(found) = pieces(&value) {
                let text: String = found.iter().map(|piece| match piece {
                    Piece::Space(text) | Piece::Atom(text) | Piece::Quoted(text) | Piece::Comment(text)
                    | Piece::Angle(text) | Piece::Mark(text) => *text,
                }).collect();
                prop_assert_eq!(text, value);
            }
        }
    }
}
