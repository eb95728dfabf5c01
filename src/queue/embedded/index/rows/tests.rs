//! What marks lead to.

use std::sync::Arc;

use super::*;
use crate::mail::class::{By, Classed};
use crate::queue::embedded::index::row::Place;
use crate::queue::embedded::tests::message;

const MOST: usize = 10;

/// A message that may be superseded, as accepted.
fn row(serial: u128) -> Row {
    let accept = message(serial);
    let mut facts = accept.message.facts.clone();
    facts.header_from = Some("news@a.example".parse().unwrap());
    facts.class = Some(Classed { name: "news".into(), by: By::Login });
    facts.asked.supersede = true;
    let at = Position::default();
    let place = Place { at, length: 0, body_at: 0, body: 0, crc: 0, file: None };
    Row::accepted(at, place, Arc::new(facts), accept.legs, None)
}

#[test]
fn messages_that_have_ended_hide_no_living_one_from_what_supersedes_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Rows::open(Site { dir: dir.path().join("index"), cache: 1 << 20, slack: 0 }).unwrap();
    let put = |rows: &mut Rows, serial: u128, row: Option<Row>| {
        let id = Id::new(crate::mail::time::Time(1), serial);
        rows.slot(id).unwrap().row = row;
        rows.touch(id, Position::default());
        id
    };
    let first = row(0);
    let mark = supersede::marks(&first.facts)[0];
    // So many are in sled, as many in memory only; then all of these end.
    for serial in 0..20 {
        put(&mut rows, serial, Some(row(serial)));
        while serial < 10 && rows.spill(Position::default()).unwrap() {}
    }
    let living = [put(&mut rows, 30, Some(row(30))), put(&mut rows, 31, Some(row(31)))];
    assert_eq!(rows.marked(mark, MOST).unwrap().len(), 2 * MOST, "the bound, in sled and in memory");
    for serial in 0..20 {
        put(&mut rows, serial, None);
    }
    assert_eq!(rows.marked(mark, MOST).unwrap(), living);
    while rows.spill(Position::default()).unwrap() {}
    assert_eq!(rows.marked(mark, MOST).unwrap(), living, "and once sled knows it");
}
