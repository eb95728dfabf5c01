//! The walk's names, and the readers of its records.

use proptest::prelude::*;

use super::*;

#[test]
fn the_walk_asks_at_most_eight_names() {
    let rows: [(&str, &[&str], &str); 4] = [
        ("acme.example", &["acme.example", "example"], "up to the top"),
        (
            "a.b.c.d.e.f.g",
            &["a.b.c.d.e.f.g", "b.c.d.e.f.g", "c.d.e.f.g", "d.e.f.g", "e.f.g", "f.g", "g"],
            "seven labels: each",
        ),
        (
            "a.b.c.d.e.f.g.h",
            &["a.b.c.d.e.f.g.h", "b.c.d.e.f.g.h", "c.d.e.f.g.h", "d.e.f.g.h", "e.f.g.h", "f.g.h", "g.h", "h"],
            "eight labels: to seven, which is one less",
        ),
        (
            "z.y.x.a.b.c.d.e.f.g.h",
            &[
                "z.y.x.a.b.c.d.e.f.g.h",
                "b.c.d.e.f.g.h",
                "c.d.e.f.g.h",
                "d.e.f.g.h",
                "e.f.g.h",
                "f.g.h",
                "g.h",
                "h",
            ],
            "more: the ones between are skipped",
        ),
    ];
    for (start, expected, why) in rows {
        assert_eq!(names(start), expected, "{why}");
    }
}

#[test]
fn the_organization_is_where_the_walk_ends() {
    type Steps = &'static [(&'static str, &'static str)];
    let rows: [(Steps, Option<&str>, &str); 6] = [
        (&[("a.b.c", ""), ("b.c", ""), ("c", "")], None, "no record"),
        (
            &[("a.b.c", "v=DMARC1; p=none"), ("b.c", "v=DMARC1; p=none"), ("c", "")],
            Some("b.c"),
            "the shortest",
        ),
        (
            &[("a.b.c", "v=DMARC1; psd=n"), ("b.c", "v=DMARC1; p=none"), ("c", "")],
            Some("a.b.c"),
            "psd=n ends it",
        ),
        (&[("a.b.c", ""), ("b.c", ""), ("c", "v=DMARC1; psd=y")], Some("b.c"), "one label below psd=y"),
        (&[("b.c", "v=DMARC1; psd=y"), ("c", "")], Some("b.c"), "psd=y at the start is its own"),
        (&[("b.c", "v=DMARC1"), ("c", "v=dmarc1; psd=y")], Some("b.c"), "another case is another record"),
    ];
    for (steps, expected, why) in rows {
        let steps: Vec<_> =
            steps.iter().map(|(name, record)| ((*name).to_owned(), vec![(*record).to_owned()])).collect();
        assert_eq!(organization(&steps), expected, "{why}");
    }
    let several = vec![("b.c".to_owned(), vec!["v=DMARC1".to_owned(), "v=DMARC1; p=none".to_owned()])];
    assert_eq!(organization(&several), None, "of several records none counts");
}

#[test]
fn only_strangers_are_asked_whether_they_take_reports() {
    let rows: [(&str, &[&str], &str); 6] = [
        ("v=DMARC1; rua=mailto:a@acme.example", &[], "its own"),
        ("v=DMARC1; rua=mailto:a@reports.acme.example", &[], "below it"),
        ("v=DMARC1; rua=mailto:a@notacme.example", &["notacme.example"], "another that ends alike"),
        (
            "v=DMARC1; RUA = MAILTO:a@One.example!10m , mailto:b@one.example; ruf=mailto:c@two.example",
            &["one.example", "two.example"],
            "both lists, sizes and case aside",
        ),
        ("v=DMARC1; rua=https://x.example/, mailto:nobody, mailto:a@", &[], "what is no address"),
        ("v=DMARC1; p=none", &[], "nobody"),
    ];
    for (record, expected, why) in rows {
        let steps =
            vec![("acme.example".to_owned(), vec![record.to_owned()]), ("example".to_owned(), vec![])];
        let domains: Vec<_> = foreign(&steps).into_iter().map(|(_, domain)| domain).collect();
        assert_eq!(domains, expected, "{why}");
    }
}

proptest! {
    #[test]
    fn any_record_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&octets).into_owned();
        let record = format!("v=DMARC1; rua={text}");
        prop_assert!(destinations(&text).len() <= 300);
        let steps = vec![("b.c".to_owned(), vec![record, text])];
        prop_assert!(foreign(&steps).len() <= REPORTS_MAX);
    }

    #[test]
    fn any_name_is_walked_to_its_top(labels in proptest::collection::vec("[a-z]{1,9}", 1..30)) {
        let start = labels.join(".");
        let walk = names(&start);
        prop_assert!(walk.len() <= LABELS_MAX);
        prop_assert_eq!(walk.first(), Some(&start.as_str()));
        prop_assert_eq!(walk.last().copied(), labels.last().map(String::as_str));
    }
}
