//! The walk's names, and the readers of its records.

use proptest::prelude::*;

use super::*;
use crate::seal::dmarc::{LABELS_MAX, names};

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
        let walk = Walk { steps, exists: true, reports: Vec::new() };
        let domains: Vec<_> =
            foreign(&"acme.example".parse().unwrap(), &walk).into_iter().map(|(_, domain)| domain).collect();
        assert_eq!(domains, expected, "{why}");
    }
}

proptest! {
    #[test]
    fn any_record_is_survived(octets in proptest::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&octets).into_owned();
        let record = format!("v=DMARC1; rua={text}");
        let steps = vec![("b.c".to_owned(), vec![record, text])];
        let walk = Walk { steps, exists: true, reports: Vec::new() };
        prop_assert!(foreign(&"b.c".parse().unwrap(), &walk).len() <= REPORTS_MAX);
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
