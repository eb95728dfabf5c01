//! Every kind of record beside what may stand there.

use super::*;

fn record(name: &str, kind: Kind, value: &str) -> Record {
    Record { name: name.to_owned(), kind, value: value.to_owned(), why: "because".to_owned() }
}

const KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";

#[allow(clippy::too_many_lines, clippy::type_complexity, reason = "a table")]
#[test]
fn each_record_beside_what_stands_there() {
    use Kind::{Cname, Mx, Txt};
    type Stands<'a> = &'a [(&'a str, Kind, &'a [&'a str])];
    let spf = || record("a.example", Txt, "v=spf1 ip4:192.0.2.1 ~all");
    let dkim = || record("wx1._domainkey.a.example", Txt, KEY);
    let alias = || record("wx1._domainkey.a.example", Cname, "wx1.a-example.dkim.r.example");
    let dmarc = || record("_dmarc.news.a.example", Txt, "v=DMARC1; p=none");
    let mx = || record("b.a.example", Mx, "10 r.example");
    let rows: Vec<(Record, Stands<'_>, &str, Option<bool>, &[&str], &str)> = vec![
        (spf(), &[], "v=spf1 ip4:192.0.2.1 ~all", None, &[], "DNS did not say"),
        (
            spf(),
            &[("a.example", Txt, &["google-site=1"])],
            "v=spf1 ip4:192.0.2.1 ~all",
            Some(false),
            &[],
            "other TXT",
        ),
        (
            spf(),
            &[("a.example", Txt, &["x", "v=spf1 mx -all"])],
            "v=spf1 mx ip4:192.0.2.1 -all",
            Some(false),
            &["v=spf1 mx -all"],
            "merged",
        ),
        (
            spf(),
            &[("a.example", Txt, &["v=spf1 ip4:192.0.2.0/24 -all"])],
            "v=spf1 ip4:192.0.2.0/24 -all",
            Some(true),
            &[],
            "already right",
        ),
        (
            spf(),
            &[("a.example", Txt, &["v=spf1 mx ~all", "v=spf1 include:c.example -ip4:192.0.2.9 -all"])],
            "v=spf1 ip4:192.0.2.1 mx include:c.example -ip4:192.0.2.9 ~all",
            Some(false),
            &["v=spf1 mx ~all", "v=spf1 include:c.example -ip4:192.0.2.9 -all"],
            "two become one",
        ),
        (
            spf(),
            &[("a.example", Txt, &["v=spf10 mx"])],
            "v=spf1 ip4:192.0.2.1 ~all",
            Some(false),
            &[],
            "not SPF",
        ),
        (dkim(), &[("wx1._domainkey.a.example", Txt, &[])], KEY, Some(false), &[], "no key yet"),
        (
            dkim(),
            &[(
                "wx1._domainkey.a.example",
                Txt,
                &["k=ed25519;p=11qYAYKxCrfVS/7TyW QHOg7hcvPapiMlrwIaaPcHURo="],
            )],
            KEY,
            Some(true),
            &[],
            "the key, in another writing",
        ),
        (
            dkim(),
            &[(
                "wx1._domainkey.a.example",
                Txt,
                &["v=DKIM1; k=ed25519; s=tlsrpt; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
            )],
            KEY,
            Some(false),
            &["v=DKIM1; k=ed25519; s=tlsrpt; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
            "the key, but not for mail: receivers refuse it",
        ),
        (
            dkim(),
            &[("wx1._domainkey.a.example", Txt, &["v=DKIM1; p="])],
            KEY,
            Some(false),
            &["v=DKIM1; p="],
            "a revoked key",
        ),
        (
            alias(),
            &[("wx1._domainkey.a.example", Cname, &["WX1.a-example.dkim.r.example"])],
            "wx1.a-example.dkim.r.example",
            Some(true),
            &[],
            "the alias",
        ),
        (
            alias(),
            &[("wx1._domainkey.a.example", Cname, &[]), ("wx1._domainkey.a.example", Txt, &[KEY])],
            "wx1.a-example.dkim.r.example",
            Some(false),
            &[KEY],
            "a CNAME stands alone",
        ),
        (
            alias(),
            &[
                ("wx1._domainkey.a.example", Cname, &["else.example"]),
                ("wx1._domainkey.a.example", Txt, &[KEY]),
            ],
            "wx1.a-example.dkim.r.example",
            Some(false),
            &["else.example"],
            "another alias, and what it leads to",
        ),
        (
            mx(),
            &[("b.a.example", Mx, &["5 R.example"])],
            "10 r.example",
            Some(true),
            &[],
            "another preference is no harm",
        ),
        (
            mx(),
            &[("b.a.example", Mx, &["10 r.example", "20 else.example"])],
            "10 r.example",
            Some(false),
            &["10 r.example", "20 else.example"],
            "bounces would go elsewhere",
        ),
        (
            dmarc(),
            &[
                ("_dmarc.news.a.example", Txt, &["x"]),
                ("_dmarc.a.example", Txt, &[]),
                ("_dmarc.example", Txt, &[]),
            ],
            "v=DMARC1; p=none",
            Some(false),
            &[],
            "none anywhere",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &[]), ("_dmarc.a.example", Txt, &[])],
            "v=DMARC1; p=none",
            None,
            &[],
            "DNS did not say whether the registry has one",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &["v = DMARC1; p=reject"])],
            "v = DMARC1; p=reject",
            Some(true),
            &[],
            "blanks around the = are allowed: a second record would undo it",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &[" v=DMARC1; p=reject"])],
            "v=DMARC1; p=reject",
            Some(false),
            &[" v=DMARC1; p=reject"],
            "receivers discard what begins with a blank",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &["v=DMARC10; p=reject"])],
            "v=DMARC1; p=reject",
            Some(false),
            &["v=DMARC10; p=reject"],
            "receivers discard another version",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &["v=DMARC1; p=reject", "v=DMARC1; p=none"])],
            "v=DMARC1; p=none",
            Some(false),
            &["v=DMARC1; p=reject", "v=DMARC1; p=none"],
            "two are no policy",
        ),
        (
            dmarc(),
            &[
                ("_dmarc.news.a.example", Txt, &[]),
                ("_dmarc.a.example", Txt, &[" v=DMARC1; p=none"]),
                ("_dmarc.example", Txt, &["v=DMARC1; p=reject; psd=y"]),
            ],
            "v=DMARC1; p=reject; psd=y",
            Some(true),
            &[],
            "a registry's, where the domain has none",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &[])],
            "v=DMARC1; p=none",
            None,
            &[],
            "DNS did not say whether there is one above",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &["v=DMARC1; p=reject"])],
            "v=DMARC1; p=reject",
            Some(true),
            &[],
            "a stricter one stays",
        ),
        (
            dmarc(),
            &[("_dmarc.news.a.example", Txt, &[]), ("_dmarc.a.example", Txt, &["v=DMARC1; p=reject"])],
            "v=DMARC1; p=reject",
            Some(true),
            &[],
            "one above it, too",
        ),
    ];
    for (wanted, stands, value, published, instead_of, why) in rows {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let zone =
            stands.iter().map(|(name, kind, texts)| (((*name).to_owned(), *kind), list(texts))).collect();
        let entry = merge(&[wanted], &zone).remove(0);
        assert_eq!((entry.record.value.as_str(), entry.published), (value, published), "{why}");
        assert_eq!(entry.instead_of, list(instead_of), "{why}");
    }
}

#[test]
fn the_text_says_what_stands_there_and_what_goes() {
    let wanted =
        [record("a.example", Kind::Txt, "v=spf1 mx ~all"), record("b.a.example", Kind::Mx, "10 r.example")];
    let zone = Zone::from([
        (("a.example".to_owned(), Kind::Txt), vec!["v=spf1 -all\n".to_owned()]),
        (("b.a.example".to_owned(), Kind::Mx), vec!["10 r.example".to_owned()]),
    ]);
    let text = zone_text(&merge(&wanted, &zone));
    assert!(text.contains("; in place of: v=spf1 -all\\n\na.example. IN TXT \"v=spf1 mx -all\"\n"), "{text}");
    assert!(text.ends_with("b.a.example. IN MX 10 r.example. ; published\n"), "{text}");
}

#[test]
fn what_is_looked_at() {
    let wanted = [
        record("_dmarc.x.a.example", Kind::Txt, "v=DMARC1; p=none"),
        record("c.example", Kind::Cname, "d.example"),
    ];
    let asked: Vec<_> =
        questions(&wanted).into_iter().map(|(name, kind)| format!("{name} {kind:?}")).collect();
    assert_eq!(
        asked,
        [
            "_dmarc.x.a.example Txt",
            "_dmarc.a.example Txt",
            "_dmarc.example Txt",
            "c.example Cname",
            "c.example Txt",
            "c.example Mx"
        ]
    );
}
