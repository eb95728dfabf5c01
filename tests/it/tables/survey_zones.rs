//! Situations of a zone, and what a survey must know of them.

use hickory_resolver::proto::rr::RecordType;
use waxseal::seal::facts::{Exchange, Picture, Presence, SpfAnswer, SpfResult};

use super::{KEY, holds, key, result, says, spf, walk};
use crate::oracle::{Entry, Oracle, address, cname, mx, ptr, strings, txt};

/// A zone, what is said of the picture, why.
pub type Row = (&'static str, fn(&Oracle), fn(&Picture) -> bool);

pub const ROWS: &[Row] = &[
    (
        "nothing at all: NXDOMAIN everywhere, and everything is known",
        |_| {},
        |seen| {
            seen.silence.is_empty()
                && seen.presence.as_ref().unwrap().value == Presence::Absent
                && seen.exchange.as_ref().unwrap().value == Exchange::Nowhere
                && key(seen) == (None, vec![])
                && *spf(seen) == SpfAnswer { results: spf(seen).results.clone(), ..SpfAnswer::default() }
                && result(seen) == SpfResult::None
                && !walk(seen).exists
        },
    ),
    (
        "a name without records but with names below it exists",
        |zone| {
            zone.add(KEY, txt("p="));
        },
        |seen| {
            walk(seen).exists
                && seen.presence.as_ref().unwrap().value == Presence::Exists { zone: Some(String::new()) }
        },
    ),
    (
        "the zone is the SOA's",
        |zone| zone.world.lock().unwrap().zones.push("acme.example".into()),
        |seen| {
            let zone = Some("acme.example".to_owned());
            seen.presence.as_ref().unwrap().value == Presence::Exists { zone }
        },
    ),
    (
        "a key of one string",
        |zone| {
            zone.add(KEY, txt("v=DKIM1; p=AAAA"));
        },
        |seen| key(seen) == (None, vec!["v=DKIM1; p=AAAA"]),
    ),
    (
        "a key of several strings is one text, without anything between them",
        |zone| {
            zone.add(KEY, strings(&[b"v=DKIM1; p=AA", b"", b"BB"]));
        },
        |seen| key(seen) == (None, vec!["v=DKIM1; p=AABB"]),
    ),
    (
        "two records at a selector are both kept",
        |zone| {
            zone.add(KEY, txt("p=A")).add(KEY, txt("p=B"));
        },
        |seen| key(seen).1.len() == 2,
    ),
    (
        "a CNAME is followed, and its target named",
        |zone| {
            zone.add(KEY, cname("wx1.acme-example.dkim.relay.example"))
                .add("wx1.acme-example.dkim.relay.example", txt("p=A"));
        },
        |seen| key(seen) == (Some("wx1.acme-example.dkim.relay.example"), vec!["p=A"]),
    ),
    (
        "of a chain the first target is named",
        |zone| {
            zone.add(KEY, cname("one.example"))
                .add("one.example", cname("two.example"))
                .add("two.example", txt("p=A"));
        },
        |seen| key(seen) == (Some("one.example"), vec!["p=A"]),
    ),
    (
        "a CNAME into nothing: the target is named all the same",
        |zone| {
            zone.add(KEY, cname("gone.example"));
        },
        |seen| key(seen) == (Some("gone.example"), vec![]) && seen.silence.is_empty(),
    ),
    (
        "a CNAME that leads in a circle says nothing",
        |zone| {
            zone.add(KEY, cname("b.example")).add("b.example", cname(KEY));
        },
        |seen| seen.keys["wx1"].is_none() && seen.silence.len() == 1,
    ),
    (
        "octets that are no UTF-8 are replaced",
        |zone| {
            zone.add(KEY, strings(&[b"p=\xff\x00A"]));
        },
        |seen| key(seen).1 == ["p=\u{fffd}\0A"],
    ),
    (
        "an answer too long for UDP comes over TCP, and of it no more is kept than makes sense",
        |zone| {
            for at in 0..40 {
                zone.add(KEY, txt(&format!("{at}{}", "x".repeat(900))));
            }
        },
        |seen| key(seen).1.len() == 8,
    ),
    (
        "an empty answer that names no zone is silence",
        |zone| {
            zone.entry(KEY, Entry::Lame);
        },
        |seen| {
            seen.keys["wx1"].is_none()
                && seen.silence.iter().any(|silent| silent.question == format!("{KEY} TXT"))
        },
    ),
    (
        "exchangers, by preference",
        |zone| {
            zone.add("acme.example", mx(20, "b.example")).add("acme.example", mx(10, "A.Example"));
        },
        |seen| {
            seen.exchange.as_ref().unwrap().value
                == Exchange::Hosts(vec![(10, "a.example".into()), (20, "b.example".into())])
        },
    ),
    (
        "null MX",
        |zone| {
            zone.add("acme.example", mx(0, "."));
        },
        |seen| seen.exchange.as_ref().unwrap().value == Exchange::Null,
    ),
    (
        "no MX, but an IPv6 address",
        |zone| {
            zone.add("acme.example", address("2001:db8::1"));
        },
        |seen| seen.exchange.as_ref().unwrap().value == Exchange::Implicit,
    ),
    (
        "no MX, no A, and AAAA is not answered: nothing is known",
        |zone| {
            zone.add("acme.example", txt("x")).entry("acme.example", Entry::Fails(Some(RecordType::AAAA)));
        },
        |seen| {
            seen.exchange.is_none()
                && seen.presence.is_some()
                && seen.silence[0].question == "acme.example AAAA"
        },
    ),
    (
        "TTL 0 holds for 30 s",
        |zone| {
            zone.entry(KEY, Entry::Is(0, txt("p=A")));
        },
        |seen| holds(&seen.keys["wx1"]) == 30,
    ),
    (
        "TTL 2^31 holds for a day",
        |zone| {
            zone.entry(KEY, Entry::Is(1 << 31, txt("p=A")));
        },
        |seen| holds(&seen.keys["wx1"]) == 86_400,
    ),
    (
        "TTL 3600 is taken as it is",
        |zone| {
            zone.add(KEY, txt("p=A"));
        },
        |seen| holds(&seen.keys["wx1"]) == 3600,
    ),
    (
        "the smallest TTL of a chain counts",
        |zone| {
            zone.entry(KEY, Entry::Is(120, cname("one.example"))).add("one.example", txt("p=A"));
        },
        |seen| holds(&seen.keys["wx1"]) == 120,
    ),
    ("a denial holds as long as its SOA says", |_| {}, |seen| holds(&seen.keys["wx1"]) == 60),
    (
        "but never longer than five minutes, for somebody is about to publish",
        |zone| zone.world.lock().unwrap().denied_ttl = 86_400,
        |seen| holds(&seen.keys["wx1"]) == 300 && holds(&seen.presence) == 300,
    ),
    (
        "SPF passes; other TXT records beside it are not SPF's",
        |zone| {
            zone.add("acme.example", txt("site-verification=1"))
                .add("acme.example", txt("v=spf1 ip4:192.0.2.0/24 -all"));
        },
        |seen| {
            result(seen) == SpfResult::Pass
                && spf(seen).records == ["v=spf1 ip4:192.0.2.0/24 -all"]
                && spf(seen).is_sound()
        },
    ),
    (
        "two SPF records: mail-auth takes one, and the answer is not sound",
        |zone| {
            zone.add("acme.example", txt("v=spf1 ip4:192.0.2.1 -all"))
                .add("acme.example", txt("v=spf1 -all"));
        },
        |seen| spf(seen).records.len() == 2 && !spf(seen).is_sound(),
    ),
    (
        "an include in a circle ends, and is told",
        |zone| {
            zone.add("acme.example", txt("v=spf1 include:a.example -all"))
                .add("a.example", txt("v=spf1 include:acme.example -all"));
        },
        |seen| {
            says(seen, "a.example", "`include:acme.example` leads back to itself")
                && result(seen) == SpfResult::PermError
        },
    ),
    (
        "a redirect to itself",
        |zone| {
            zone.add("acme.example", txt("v=spf1 redirect=acme.example"));
        },
        |seen| says(seen, "acme.example", "`redirect=acme.example` leads back") && spf(seen).lookups == 1,
    ),
    (
        "eleven lookups over three records are counted, and drawn",
        |zone| {
            zone.add("acme.example", txt("v=spf1 include:a.example include:b.example mx -all"))
                .add("acme.example", mx(1, "h.example"));
            zone.add("a.example", txt("v=spf1 a:h.example a:h.example a:h.example a:h.example -all"));
            zone.add("b.example", txt("v=spf1 a:h.example a:h.example a:h.example a:h.example -all"));
            zone.add("h.example", address("192.0.2.9"));
        },
        |seen| {
            spf(seen).lookups == 11
                && spf(seen).voids == 0
                && spf(seen).faults.is_empty()
                && !spf(seen).is_sound()
                && spf(seen).tree.len() == 12
                && spf(seen).tree[2] == "    2. a:h.example: 192.0.2.9"
                && result(seen) == SpfResult::PermError
        },
    ),
    (
        "three lookups of nothing, which mail-auth does not mind",
        |zone| {
            zone.add(
                "acme.example",
                txt("v=spf1 a:x.example a:y.example exists:z.example ip4:192.0.2.1 -all"),
            );
        },
        |seen| spf(seen).voids == 3 && !spf(seen).is_sound() && result(seen) == SpfResult::Pass,
    ),
    (
        "an include of a name without SPF",
        |zone| {
            zone.add("acme.example", txt("v=spf1 include:none.example ip4:192.0.2.1 -all"));
        },
        |seen| {
            says(seen, "acme.example", "`include:none.example` leads to a name without")
                && spf(seen).voids == 0
        },
    ),
    (
        "a mistake in an include is its owner's",
        |zone| {
            zone.add("acme.example", txt("v=spf1 include:a.example ip4:192.0.2.1 -all"))
                .add("a.example", txt("v=spf1 ip4:1.2.3 -all"));
        },
        |seen| says(seen, "a.example", "`ip4:1.2.3`") && spf(seen).faults.len() == 1,
    ),
    (
        "an mx of eleven hosts",
        |zone| {
            zone.add("acme.example", txt("v=spf1 mx -all"));
            for at in 0..11 {
                zone.add("acme.example", mx(at, &format!("h{at}.example")))
                    .add(&format!("h{at}.example"), address("192.0.2.9"));
            }
        },
        |seen| says(seen, "acme.example", "more than 10 exchangers") && result(seen) == SpfResult::PermError,
    ),
    (
        "a macro is filled in for our address; ptr costs a lookup and is warned of",
        |zone| {
            zone.add("acme.example", txt("v=spf1 exists:%{ir}.%{v}.l.acme.example ptr -all"));
            zone.add("1.2.0.192.in-addr.l.acme.example", address("127.0.0.2"));
            zone.add("1.2.0.192.in-addr.arpa", ptr("mail.acme.example"));
        },
        |seen| {
            result(seen) == SpfResult::Pass
                && spf(seen).lookups == 2
                && spf(seen).voids == 0
                && spf(seen).warnings.len() == 1
        },
    ),
    (
        "SPF that ends in SERVFAIL is not known",
        |zone| {
            zone.add("acme.example", txt("v=spf1 include:a.example -all"))
                .entry("a.example", Entry::Fails(None));
        },
        |seen| seen.spf.is_none() && seen.silence.iter().any(|silent| silent.question == "a.example TXT"),
    ),
    (
        "DMARC is asked at the name and above it, other texts beside it are kept",
        |zone| {
            zone.add("_dmarc.acme.example", txt("v=DMARC1; p=none")).add("_dmarc.acme.example", txt("hello"));
        },
        |seen| {
            walk(seen).steps.len() == 2
                && walk(seen).steps[0].1.len() == 2
                && walk(seen).steps[1] == ("example".into(), vec![])
        },
    ),
    (
        "a psd= that ends the walk hides nothing: older receivers look above it",
        |zone| {
            zone.add("_dmarc.acme.example", txt("v=DMARC1; psd=n"))
                .add("_dmarc.example", txt("v=DMARC1; psd=y"));
        },
        |seen| walk(seen).steps[1].1 == ["v=DMARC1; psd=y"],
    ),
    (
        "who gets reports agreed, or did not",
        |zone| {
            zone.add(
                "_dmarc.acme.example",
                txt("v=DMARC1; rua=mailto:a@yes.example,mailto:b@no.example,mailto:c@acme.example"),
            );
            zone.add("acme.example._report._dmarc.yes.example", txt("v=DMARC1"));
        },
        |seen| walk(seen).reports == [("no.example".to_owned(), false), ("yes.example".to_owned(), true)],
    ),
    (
        "one silent name above means that the walk is not known",
        |zone| {
            zone.add("_dmarc.acme.example", txt("v=DMARC1")).entry("_dmarc.example", Entry::Fails(None));
        },
        |seen| seen.dmarc.is_none() && seen.keys["wx1"].is_some(),
    ),
];
