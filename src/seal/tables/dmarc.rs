//! Walks and what they mean, under RFC 9989 and under the older reading; a row says why it is there.

use proptest::prelude::*;

use super::*;
use crate::seal::dmarc_record::{is_meant, merged};

fn walk(steps: &[(&str, &[&str])], exists: bool) -> Walk {
    let steps = steps
        .iter()
        .map(|(name, records)| ((*name).to_owned(), records.iter().map(|text| (*text).to_owned()).collect()))
        .collect();
    Walk { steps, exists, reports: Vec::new() }
}

/// Policy, the name whose record applies, the organizational domain.
type Answer<'a> = (Option<Policy>, Option<&'a str>, &'a str);

struct Row<'a> {
    author: &'a str,
    steps: &'a [(&'a str, &'a [&'a str])],
    exists: bool,
    walk: Answer<'a>,
    suffix: Answer<'a>,
    why: &'a str,
}

const NONE: Option<Policy> = Some(Policy::None);
const QUARANTINE: Option<Policy> = Some(Policy::Quarantine);
const REJECT: Option<Policy> = Some(Policy::Reject);

const ROWS: &[Row<'_>] = &[
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=reject"]), ("example", &[])],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "the author's own record",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &[]), ("example", &[])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "no record anywhere: the name is its own organizational domain",
    },
    Row {
        author: "news.acme.example",
        steps: &[
            ("news.acme.example", &[]),
            ("acme.example", &["v=DMARC1; p=reject; sp=quarantine"]),
            ("example", &[]),
        ],
        exists: true,
        walk: (QUARANTINE, Some("acme.example"), "acme.example"),
        suffix: (QUARANTINE, Some("acme.example"), "acme.example"),
        why: "sp= for a subdomain that exists",
    },
    Row {
        author: "news.acme.example",
        steps: &[
            ("news.acme.example", &[]),
            ("acme.example", &["v=DMARC1; p=none; sp=quarantine; np=reject"]),
            ("example", &[]),
        ],
        exists: false,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (QUARANTINE, Some("acme.example"), "acme.example"),
        why: "np= for one that does not; the older reading knows only sp=",
    },
    Row {
        author: "news.acme.example",
        steps: &[("news.acme.example", &[]), ("acme.example", &["v=DMARC1; p=reject; sp=none"])],
        exists: false,
        walk: (NONE, Some("acme.example"), "acme.example"),
        suffix: (NONE, Some("acme.example"), "acme.example"),
        why: "without np= a name that does not exist has sp=",
    },
    Row {
        author: "news.acme.example",
        steps: &[("news.acme.example", &[]), ("acme.example", &["v=DMARC1; p=reject; np=none"])],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "without sp= a subdomain has p=, and np= is not for one that exists",
    },
    Row {
        author: "news.acme.example",
        steps: &[
            ("news.acme.example", &["v=DMARC1; p=none; sp=reject"]),
            ("acme.example", &["v=DMARC1; p=reject"]),
        ],
        exists: true,
        walk: (NONE, Some("news.acme.example"), "acme.example"),
        suffix: (NONE, Some("news.acme.example"), "acme.example"),
        why: "the author's own p= wins, and the organization is the shortest name with a record",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=reject; t=y"])],
        exists: true,
        walk: (QUARANTINE, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "t=y lowers a level; older receivers do not know it",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=quarantine; t=y"])],
        exists: true,
        walk: (NONE, Some("acme.example"), "acme.example"),
        suffix: (QUARANTINE, Some("acme.example"), "acme.example"),
        why: "t=y lowers quarantine to none",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; rua=mailto:d@acme.example"])],
        exists: true,
        walk: (NONE, Some("acme.example"), "acme.example"),
        suffix: (NONE, Some("acme.example"), "acme.example"),
        why: "no p=, but somebody wants reports: p=none",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; adkim=s"])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "no p= and no reports: it does not apply",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=reject; sp=maybe"])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "an sp= that cannot be read takes p= with it (section 4.10.1)",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=reject", "v=DMARC1; p=none"])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "two records are none",
    },
    Row {
        author: "news.acme.example",
        steps: &[
            ("news.acme.example", &["v=DMARC1; p=none", "v=DMARC1; p=none"]),
            ("acme.example", &["v=DMARC1; p=reject"]),
        ],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "two records: the walk goes on, the older discovery ends",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=spf1 -all", "v=DMARC1; p=reject", "dmarc is nice"])],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "what is not DMARC's is discarded",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=dmarc1; p=reject"])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "the version is exact",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["p=reject; v=DMARC1"])],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "and first",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v = DMARC1 ; p = Reject ;"])],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "white space around, values in any case",
    },
    Row {
        author: "a.b.acme.example",
        steps: &[
            ("a.b.acme.example", &[]),
            ("b.acme.example", &["v=DMARC1; p=quarantine; psd=n"]),
            ("acme.example", &["v=DMARC1; p=reject"]),
        ],
        exists: true,
        walk: (QUARANTINE, Some("b.acme.example"), "b.acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "psd=n is the organizational domain, and the walk ends there",
    },
    Row {
        author: "shop.city.example",
        steps: &[
            ("shop.city.example", &[]),
            ("city.example", &["v=DMARC1; p=reject; sp=quarantine; psd=y"]),
            ("example", &[]),
        ],
        exists: true,
        walk: (QUARANTINE, Some("city.example"), "shop.city.example"),
        suffix: (QUARANTINE, Some("city.example"), "city.example"),
        why: "psd=y: the organization is the name below, and the suffix's own record applies, its sp= or np=",
    },
    Row {
        author: "a.shop.city.example",
        steps: &[
            ("a.shop.city.example", &[]),
            ("shop.city.example", &["v=DMARC1; p=none; sp=reject"]),
            ("city.example", &["v=DMARC1; p=reject; psd=y"]),
        ],
        exists: true,
        walk: (REJECT, Some("shop.city.example"), "shop.city.example"),
        suffix: (REJECT, Some("city.example"), "city.example"),
        why: "below a public suffix the organization's record comes before the suffix's",
    },
    Row {
        author: "city.example",
        steps: &[("city.example", &["v=DMARC1; p=reject; psd=y"]), ("example", &[])],
        exists: true,
        walk: (REJECT, Some("city.example"), "city.example"),
        suffix: (REJECT, Some("city.example"), "city.example"),
        why: "psd=y where the walk began makes nothing of the name below",
    },
    Row {
        author: "acme.example",
        steps: &[("acme.example", &["v=DMARC1; p=reject; psd=u"]), ("example", &["v=DMARC1; p=none"])],
        exists: true,
        walk: (REJECT, Some("acme.example"), "example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "psd=u says nothing: the shortest name with a record, even one label",
    },
    Row {
        author: "a.b.c.d.e.f.g.h.acme.example",
        steps: &[
            ("a.b.c.d.e.f.g.h.acme.example", &[]),
            ("d.e.f.g.h.acme.example", &[]),
            ("acme.example", &["v=DMARC1; p=reject"]),
        ],
        exists: true,
        walk: (REJECT, Some("acme.example"), "acme.example"),
        suffix: (REJECT, Some("acme.example"), "acme.example"),
        why: "more than eight labels: the walk jumps to seven",
    },
    Row {
        author: "shop.acme.co.uk",
        steps: &[
            ("shop.acme.co.uk", &[]),
            ("acme.co.uk", &[]),
            ("co.uk", &["v=DMARC1; p=reject"]),
            ("uk", &[]),
        ],
        exists: true,
        walk: (REJECT, Some("co.uk"), "co.uk"),
        suffix: (None, None, "acme.co.uk"),
        why: "a suffix that does not say psd=y is an organization to the walk, not to the list",
    },
    Row {
        author: "me.github.io",
        steps: &[("me.github.io", &[]), ("github.io", &[]), ("io", &[])],
        exists: true,
        walk: (None, None, "me.github.io"),
        suffix: (None, None, "me.github.io"),
        why: "the list's private part counts",
    },
    Row {
        author: "acme.example",
        steps: &[],
        exists: true,
        walk: (None, None, "acme.example"),
        suffix: (None, None, "acme.example"),
        why: "a walk without steps",
    },
];

#[test]
fn walks_and_what_they_mean() {
    for row in ROWS {
        let got = readings(&row.author.parse().unwrap(), &walk(row.steps, row.exists));
        for (name, got, wanted) in [("RFC 9989", &got.walk, row.walk), ("RFC 7489", &got.suffix, row.suffix)]
        {
            let shown = (got.policy, got.source.as_deref(), got.organization.as_str());
            assert_eq!(shown, wanted, "{name}: {}: {}", row.author, row.why);
        }
    }
}

/// Text, faults, oddities, the record when mended, why.
type Case<'a> = (&'a str, &'a [&'a str], usize, &'a str, &'a str);

const RECORDS: &[Case<'_>] = &[
    ("v=DMARC1; p=reject", &[], 0, "v=DMARC1; p=reject", "as it should be"),
    (
        "v=DMARC1;p=quarantine;sp=none;np=reject;adkim=s;aspf=r;psd=n;t=y;fo=1:d;rua=mailto:a@b.example",
        &[],
        0,
        "v=DMARC1; p=quarantine; sp=none; np=reject; adkim=s; aspf=r; psd=n; t=y; fo=1:d; rua=mailto:a@b.example",
        "every tag",
    ),
    (
        "v=DMARC1; p=reject; pct=50; rf=afrf; ri=86400",
        &[],
        3,
        "v=DMARC1; p=reject; pct=50",
        "tags that RFC 9989 removed; without pct older receivers would reject twice as much",
    ),
    (
        "v=DMARC1; p=rejct; rua=mailto:a@b.example",
        &["p=rejct cannot be read"],
        0,
        "v=DMARC1; p=none; rua=mailto:a@b.example",
        "a typing mistake; reports are kept",
    ),
    (
        "v=DMARC1; p=reject; adkim=strict",
        &["adkim=strict cannot be read"],
        0,
        "v=DMARC1; p=reject",
        "a word where a letter belongs",
    ),
    ("v=DMARC1; p=none; p=reject", &["p= stands there twice"], 0, "v=DMARC1; p=none", "twice"),
    ("v=DMARC1; p=none; rua", &["`rua` is no tag"], 0, "v=DMARC1; p=none", "no ="),
    (
        "v=DMARC1; p=none;; rua=mailto:a@b.example",
        &["`` is no tag"],
        0,
        "v=DMARC1; p=none; rua=mailto:a@b.example",
        "nothing between semicolons",
    ),
    ("v=DMARC1; sp=none; p=reject", &[], 1, "v=DMARC1; p=reject; sp=none", "older receivers want p= second"),
    (
        "v=DMARC1; p=none; rua=a@b.example",
        &[],
        1,
        "v=DMARC1; p=none; rua=mailto:a@b.example",
        "an address without mailto:",
    ),
    ("v=DMARC1; p=none; rua=https://b.example", &[], 1, "v=DMARC1; p=none", "what reports are not sent to"),
    (
        "v=DMARC1; p=none; rua=mailto:a@b.example!10m,mailto:c@d.example",
        &[],
        0,
        "v=DMARC1; p=none; rua=mailto:a@b.example!10m,mailto:c@d.example",
        "a list, with the obsolete size",
    ),
    ("v=DMARC1; p=none; zz=1", &[], 1, "v=DMARC1; p=none", "an unknown tag is ignored"),
    ("v=DMARC1", &[], 1, "v=DMARC1; p=none", "nothing said"),
];

#[test]
fn records_what_is_wrong_with_them_and_how_they_read_when_mended() {
    for (text, faults, oddities, mended, why) in RECORDS {
        let record = Record::read(text);
        assert_eq!(
            (record.faults.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), record.oddities.len()),
            (*faults, *oddities),
            "{why}: {record:?}"
        );
        assert_eq!(record.mended(&[]), *mended, "{why}");
        let again = Record::read(&record.mended(&[]));
        let sound = again.oddities.iter().all(|odd| odd.starts_with("pct="));
        assert!(again.faults.is_empty() && sound, "mended is sound: {why}");
    }
}

#[test]
fn several_become_one_with_the_mildest_policy_and_all_reports() {
    let merge = |records: &[&str]| merged(&records.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        merge(&[
            "v=DMARC1; p=reject; rua=mailto:a@x.example",
            "v=DMARC1; p=quarantine; rua=mailto:b@x.example,mailto:a@x.example; adkim=s"
        ]),
        "v=DMARC1; p=quarantine; rua=mailto:a@x.example,mailto:b@x.example; adkim=s"
    );
    assert_eq!(merge(&["v=DMARC1; p=reject", "v=DMARC1; p=bogus", "v=spf1 -all"]), "v=DMARC1; p=none");
    for meant in ["V=dmarc1; p=none", " v=DMARC1 p=none", "\"v=DMARC1; p=none\"", "p=none; v=DMARC1"] {
        assert!(is_meant(meant), "{meant}");
    }
    assert!(!is_meant("v=DMARC1; p=none") && !is_meant("v=spf1 -all"));
}

proptest! {
    #[test]
    fn any_walk_is_survived(records in proptest::collection::vec("(v=DMARC1; )?\\PC{0,40}", 0..4), exists: bool) {
        let steps = vec![("a.acme.example".to_owned(), records.clone()), ("acme.example".to_owned(), records.clone())];
        let author: Domain = "a.acme.example".parse().unwrap();
        let read = readings(&author, &Walk { steps, exists, reports: vec![] });
        prop_assert!(author.as_str().ends_with(&read.walk.organization));
        let again = Record::read(&merged(&records));
        prop_assert!(again.faults.is_empty(), "{:?}", again);
    }
}
