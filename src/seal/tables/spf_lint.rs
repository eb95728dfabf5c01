//! SPF records, and what a strict receiver says of them.

use proptest::prelude::*;

use super::*;

/// A record, a word of its only fault ("": none), why.
type Row<'a> = (&'a str, &'a str, &'a str);

const ROWS: &[Row<'_>] = &[
    ("v=spf1", "", "nothing is said, which is allowed"),
    ("V=SPF1 IP4:192.0.2.1 -ALL", "", "RFC 5234: literals are in any case"),
    ("v=spf1  a   -all  ", "", "several spaces, and some at the end (section 4.5)"),
    ("v=spf1 +a -mx ~ptr ?include:x.example all", "", "the four qualifiers"),
    ("v=spf1 a/24 mx//64 a:x.example/24//64 mx:x.example//128 -all", "", "prefix lengths in both families"),
    ("v=spf1 a:%{d1/}.x.example/24 -all", "", "a slash in a macro, then a length"),
    ("v=spf1 a:a/b.example -all", "", "a slash may stand in a name"),
    ("v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all", "", "macros, one at the end"),
    ("v=spf1 exists:%{L-+,/_=}.%%%_%-.x.example -all", "", "every delimiter and every escape"),
    ("v=spf1 include:x.xn--p1ai -all", "", "a top-level domain with hyphens"),
    ("v=spf1 a:x.example. -all", "", "a dot at the end"),
    ("v=spf1 redirect=_spf.x.example exp=why.%{d}", "", "both modifiers"),
    ("v=spf1 moo.cow-far_out=man:dog/cat%{c} -all", "", "section 6: unknown modifiers are skipped"),
    ("v=spf1 include=x.example -all", "", "with = it is a modifier that nobody knows, not an include"),
    ("v=spf1 ip4:300.1.1.1 -all", "IPv4", "no octet is 300; mail-auth takes it"),
    ("v=spf1 ip4:1.2.3 -all", "IPv4", "three octets"),
    ("v=spf1 ip4:192.0.2.01 -all", "IPv4", "a leading zero (qnum)"),
    ("v=spf1 ip4:2001:db8::1 -all", "IPv4", "the other family"),
    ("v=spf1 ip4:192.0.2.0/33 -all", "prefix length", "longer than the address"),
    ("v=spf1 ip4:192.0.2.0/032 -all", "prefix length", "a leading zero"),
    ("v=spf1 ip4:192.0.2.0/ -all", "prefix length", "no digits"),
    ("v=spf1 ip4:192.0.2.1:25 -all", "IPv4", "a port"),
    ("v=spf1 ip4 -all", "colon", "no address"),
    ("v=spf1 ip6:192.0.2.1 -all", "IPv6", "the other family"),
    ("v=spf1 ip6:2001:db8::/129 -all", "prefix length", "longer than the address"),
    ("v=spf1 ip6:2001:db8::g -all", "IPv6", "no hexadecimal digit"),
    (
        "v=spf1 ip6:::/0 -all",
        "for some receivers",
        "mail-auth lets IPv4 through here, others do not (section 5)",
    ),
    ("v=spf1 ip6:::ffff:192.0.2.1 -all", "for some receivers", "an IPv4 address in IPv6's clothes"),
    ("v=spf1 ip6:2001:db8::/32 ip6:::1 -all", "", "other networks cover no IPv4"),
    ("v=spf1 a/33 -all", "prefix length", "of an a"),
    ("v=spf1 a//129 -all", "prefix length", "of an a, in IPv6"),
    ("v=spf1 a/ -all", "prefix length", "no digits"),
    ("v=spf1 mx/24/64 -all", "prefix length", "IPv6 takes two slashes"),
    ("v=spf1 a: -all", "lacks a domain", "a colon and nothing"),
    ("v=spf1 a:x.example:8080 -all", "does not end", "a port"),
    ("v=spf1 a:localhost -all", "does not end", "one label is no name"),
    ("v=spf1 a:x.example.-com -all", "does not end", "a hyphen first"),
    ("v=spf1 mx:192.0.2.1 -all", "does not end", "an address is no name"),
    ("v=spf1 include -all", "colon", "no name"),
    ("v=spf1 include: -all", "lacks a domain", "a colon and nothing"),
    ("v=spf1 include:x.example/24 -all", "does not end", "an include has no length"),
    ("v=spf1 exists:%{x}.example -all", "macro", "an unknown letter"),
    ("v=spf1 exists:%{d0}.example -all", "macro", "no labels (section 7.3)"),
    ("v=spf1 exists:%{d.example -all", "macro", "no closing brace"),
    ("v=spf1 exists:%{dx}.example -all", "macro", "no delimiter"),
    ("v=spf1 exists:%d.example -all", "%", "no brace"),
    ("v=spf1 exists:100%.example -all", "%", "a bare per cent sign"),
    ("v=spf1 exists:%{r}.example -all", "explanation", "%{r} outside an explanation"),
    ("v=spf1 ptr: -all", "lacks a domain", "a colon and nothing"),
    ("v=spf1 all: -all", "behind `all`", "all takes nothing"),
    ("v=spf1 all/8", "behind `all`", "nor a length"),
    ("v=spf1 ipv4:192.0.2.1 -all", "do not know", "the commonest mistake; mail-auth skips it"),
    ("v=spf1 a:x.example, -all", "does not end", "a comma between terms"),
    ("v=spf1 , -all", "do not know", "a comma alone"),
    ("v=spf1 - all", "do not know", "a qualifier alone; then all"),
    ("v=spf1 --all", "do not know", "two qualifiers"),
    ("v=spf1 v=spf1 -all", "", "the version again is a modifier that nobody knows"),
    ("v=spf1 -redirect=x.example", "qualifier", "a modifier takes none"),
    ("v=spf1 redirect= -all", "lacks a domain", "no name"),
    ("v=spf1 redirect=x.example redirect=y.example", "second", "section 6: at most once"),
    ("v=spf1 exp=x.example exp=x.example -all", "second", "section 6: at most once"),
    ("v=spf1 1up=x -all", "no mechanism", "a modifier's name begins with a letter"),
    ("v=spf1 x=%{ -all", "macro", "an unknown modifier's macros are read too"),
    ("v=spf1\ta -all", "U+0009", "a tab is no space; mail-auth takes it"),
    ("v=spf1 a:ex\u{e4}mple.com -all", "U+00E4", "not ASCII"),
    ("v=spf1 a:\u{fffd}.example -all", "U+FFFD", "octets that were no UTF-8"),
];

#[test]
fn records_are_read_by_the_letter() {
    for (text, fault, why) in ROWS {
        // A tab behind the version makes it no SPF record at all; the row is about the term.
        let record = Record::read(&text.replace("spf1\t", "spf1 x\t"));
        match record.faults.as_slice() {
            [] => assert!(fault.is_empty(), "{text}: no fault. {why}"),
            [only] => assert!(!fault.is_empty() && only.contains(fault), "{text}: {only}. {why}"),
            more => panic!("{text}: {more:?}. {why}"),
        }
    }
}

#[test]
fn what_is_not_wrong_but_not_meant_is_a_warning() {
    let rows = [
        ("v=spf1 -all a", "`a` stands behind `all`", "section 5.1"),
        ("v=spf1 redirect=x.example -all", "`redirect=x.example` counts for nothing", "section 6.1"),
        ("v=spf1 ptr -all", "`ptr` is slow", "section 5.5"),
        ("v=spf1 exists:%{P}.x.example -all", "`exists:%{P}.x.example` holds %{p}", "section 7.2"),
    ];
    for (text, warning, why) in rows {
        let record = Record::read(text);
        assert!(record.faults.is_empty(), "{text}: {why}");
        assert!(
            matches!(record.warnings.as_slice(), [only] if only.starts_with(warning)),
            "{record:?}: {why}"
        );
    }
    let long = format!("v=spf1 {}-all", "ip4:192.0.2.1 ".repeat(40));
    assert!(Record::read(&long).warnings[0].contains("450"), "section 3.4");
}

#[test]
fn only_a_version_and_a_space_make_a_record() {
    for (text, is) in [
        ("v=spf1", true),
        ("v=spf1 ", true),
        ("V=spF1 -all", true),
        ("v=spf10", false),
        ("v=spf1,", false),
        (" v=spf1", false),
        ("spf2.0/pra", false),
        ("", false),
        ("v=sp\u{e4}1", false),
    ] {
        assert_eq!(is_spf(text), is, "{text}");
    }
}

#[test]
fn receivers_come_to_the_terms_before_all_and_else_to_the_redirect() {
    let reached = |text| {
        let record = Record::read(text);
        record.reached().map(|term| term.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(reached("v=spf1 redirect=r.example a x=y mx"), ["a", "mx", "redirect=r.example"]);
    assert_eq!(reached("v=spf1 redirect=r.example a ?all mx"), ["a"]);
}

#[test]
fn a_fault_shows_no_more_than_the_beginning_of_a_term() {
    let fault = Record::read(&format!("v=spf1 {}", "\u{e4}".repeat(5000))).faults.remove(0);
    assert!(fault.len() < 250, "{fault}");
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let record = Record::read(&String::from_utf8_lossy(&octets));
        prop_assert!(record.terms.len() + record.faults.len() <= 602);
    }

    /// Near misses of the grammar, and names made of them for an address.
    #[test]
    fn near_records_are_survived(text in "v=spf1( {1,2}[-+~?]?(a|mx|ptr|ip4|ip6|all|exists|include|redirect|exp|x)[:=/]?[%{}a-z0-9./:_-]{0,20}){0,6}") {
        let record = Record::read(&text);
        let sender = super::name::Sender { address: [192, 0, 2, 1].into(), hello: "relay.example", mailbox: "a@b.example" };
        for term in record.reached() {
            let (Kind::Include(spec) | Kind::Exists(spec) | Kind::Redirect(spec)) = &term.kind else { continue };
            for name in [spec.name("b.example", Some(sender)), spec.name("b.example", None)].into_iter().flatten() {
                prop_assert!(name.len() <= 253 || !name.contains('.'), "{name}");
            }
        }
    }
}
