//! Paths, a row a reason.

use super::*;

#[test]
fn paths_are_split_from_what_follows() {
    let shape = Err(BadPath::Mailbox(BadAddress::Shape));
    let rows = [
        ("<a@b>", Ok(("a@b", "")), "the usual"),
        (" <a@b>", Ok(("a@b", "")), "a space that many clients write"),
        ("<a@b> SIZE=1", Ok(("a@b", " SIZE=1")), "parameters follow"),
        ("<>", Ok(("", "")), "the null reverse-path"),
        ("<\"a>b\"@c>", Ok(("\"a>b\"@c", "")), "a bracket within quotes is text"),
        ("<@x,@y:a@b>", Ok(("a@b", "")), "a source route is dropped"),
        ("<@x:>", shape, "a route to nowhere"),
        ("<@x y:a@b>", shape, "a route that names no host"),
        ("a@b", Err(BadPath::Brackets), "no brackets"),
        ("<a@b", Err(BadPath::Brackets), "not closed"),
        ("<<a@b>", Err(BadPath::Brackets), "nested"),
        ("<a@b>x", Err(BadPath::Brackets), "no space behind"),
    ];
    for (text, expected, why) in rows {
        assert_eq!(split(text), expected, "{text}: {why}");
    }
    assert_eq!(split(&format!("<{}>", "x".repeat(255))), Err(BadPath::TooLong), "257 octets");
    assert!(split(&format!("<{}>", "x".repeat(254))).is_ok(), "256 octets");
}
