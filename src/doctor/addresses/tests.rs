//! What receivers make of an address, and of the names that providers give to everybody.

use super::*;
use crate::seal::judge::Level::{self, Error, Ok as Good, Warning};

const FOUR: &str = "192.0.2.17";
const SIX: &str = "2001:db8::17";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn hostname() -> Domain {
    "relay.acme.com".parse().unwrap()
}

fn silence() -> Failure {
    Failure::Transient("timed out".into())
}

/// An address as it should be.
fn sound(address: &str) -> Seen {
    let address = ip(address);
    Seen {
        address,
        names: Ok(vec!["relay.acme.com".into()]),
        back: vec![Ok(vec![address])],
        own: Ok(vec![ip(FOUR), ip(SIX)]),
    }
}

fn levels(seen: &Seen) -> Vec<(String, Level)> {
    judge(seen, &hostname()).into_iter().map(|finding| (finding.check, finding.level)).collect()
}

#[test]
fn each_address_is_judged_as_receivers_do() {
    let named = |name: &str| Seen { names: Ok(vec![name.into()]), ..sound(FOUR) };
    let rows: [(Seen, Level, Level, &str); 12] = [
        (sound(FOUR), Good, Good, "as it should be"),
        (sound(SIX), Good, Good, "the same over IPv6"),
        (
            Seen { names: Err(Failure::NoSuchName), back: vec![], ..sound(FOUR) },
            Error,
            Warning,
            "no PTR: 550-5.7.25",
        ),
        (Seen { names: Err(Failure::NoRecords), back: vec![], ..sound(SIX) }, Error, Warning, "no PTR, IPv6"),
        (
            Seen { names: Err(silence()), back: vec![], ..sound(FOUR) },
            Warning,
            Warning,
            "silence decides nothing",
        ),
        (Seen { back: vec![Ok(vec![ip("192.0.2.99")])], ..sound(FOUR) }, Error, Good, "it leads elsewhere"),
        (Seen { back: vec![Err(Failure::NoSuchName)], ..sound(FOUR) }, Error, Good, "it leads nowhere"),
        (Seen { back: vec![Err(silence())], ..sound(FOUR) }, Warning, Good, "nobody says where it leads"),
        (named("ec2-192-0-2-17.cloud.example"), Warning, Warning, "a provider's name, and not ours"),
        (named("mx1.acme.com"), Good, Warning, "a good name, but another than in EHLO"),
        (Seen { own: Ok(vec![ip("192.0.2.99")]), ..sound(FOUR) }, Good, Warning, "EHLO leads elsewhere"),
        (Seen { own: Err(Failure::NoSuchName), ..sound(FOUR) }, Good, Error, "EHLO leads nowhere"),
    ];
    for (seen, ptr, ehlo, why) in rows {
        assert_eq!(levels(&seen), [("ptr".into(), ptr), ("ehlo".into(), ehlo)], "{why}");
    }
}

#[test]
fn everything_but_good_says_what_to_do() {
    let bad =
        Seen { names: Err(Failure::NoSuchName), back: vec![], own: Err(Failure::NoSuchName), ..sound(SIX) };
    let findings = judge(&bad, &hostname());
    let expected =
        "7.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. IN PTR relay.acme.com.";
    assert!(findings[0].fix.contains(expected), "{}", findings[0].fix);
    assert!(findings[0].fix.contains("delivery.sources"), "IPv6 can be left alone: {}", findings[0].fix);
    assert_eq!(findings[1].fix, "publish relay.acme.com. IN AAAA 2001:db8::17");
}

#[test]
fn an_address_behind_a_router_is_not_asked_about() {
    for address in ["10.0.0.1", "192.168.1.1", "127.0.0.1", "169.254.1.1", "fd00::1", "::1"] {
        assert_eq!(
            levels(&Seen { address: ip(address), ..sound(FOUR) }),
            [("egress".into(), Warning)],
            "{address}"
        );
    }
}

#[test]
fn names_made_of_the_address_are_known() {
    let rows = [
        ("ec2-192-0-2-17.compute.example", FOUR, true, "hyphens"),
        ("17.2.0.192.static.isp.example", FOUR, true, "reversed"),
        ("ip192x0x2x17.isp.example", FOUR, true, "letters between"),
        ("host-192000002017.isp.example", FOUR, true, "padded"),
        ("c0000211.pool.example", FOUR, true, "hexadecimal"),
        ("mail.acme.com", FOUR, false, "a name that somebody chose"),
        ("mx17.acme.com", FOUR, false, "one number is a coincidence"),
        ("mx-2-17.acme.com", FOUR, false, "so are two"),
        ("2001-db8--17.isp.example", SIX, true, "groups"),
        ("7.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.isp.example", SIX, true, "nibbles"),
        ("20010db8000000000000000000000017.isp.example", SIX, true, "all digits"),
        ("mail.acme.com", SIX, false, "a name that somebody chose"),
        ("be.acme.com", SIX, false, "a word of hexadecimal digits"),
    ];
    for (name, address, generic, why) in rows {
        assert_eq!(is_generic(name, ip(address)), generic, "{name}: {why}");
    }
}

#[test]
fn an_ipv6_address_that_nobody_thought_of_is_named() {
    let stated = Egress { addresses: vec![ip(FOUR)], stated: true };
    assert!(unlisted(ip("2600::1"), &stated).is_some(), "mail leaves from it all the same");
    assert!(unlisted(ip("fe80::1"), &stated).is_none(), "link-local reaches nobody");
    assert!(unlisted(ip("2600::1"), &Egress { addresses: vec![ip("2600::1")], stated: true }).is_none());
}
