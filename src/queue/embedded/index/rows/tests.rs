//! What marks lead to.

use std::sync::Arc;

use super::*;
use crate::mail::class::{By, Classed};
use crate::queue::embedded::index::row::Place;
use crate::queue::embedded::record::OpenLeg;
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

/// Bug: of a row in several pieces a kill between two of them left one that said it was new, and was not.
#[test]
fn a_row_of_which_only_the_first_piece_is_new_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let mut rows = Rows::open(Site { dir: dir.path().join("index"), cache: 1 << 20, slack: 0 }).unwrap();
    let mut long = row(1);
    let leg = long.standing.legs[0].clone();
    long.standing.legs = (0..200).map(|leg_number| OpenLeg { leg: leg_number, ..leg.clone() }).collect();
    let id = long.facts.id;
    rows.slot(id).unwrap().row = Some(long.clone());
    rows.touch(id, Position::default());
    while rows.spill(Position::default()).unwrap() {}
    assert_eq!(rows.look(id).unwrap().as_ref(), Some(&long));
    let newer = Row { at: Position { segment: 0, offset: 7 }, ..long.clone() };
    let (old, new) = (long.encode().unwrap(), newer.encode().unwrap());
    assert!(old.len() == new.len() && new.len() > PIECE, "or the pieces would not fit together");
    rows.tree().insert(&keys::piece_key(id, 0), &new[..PIECE]).unwrap();
    assert!(rows.look(id).is_err());
    let mixed = [&new[..PIECE], &old[PIECE..]].concat();
    let believed: Row = postcard::from_bytes(&mixed[4..]).unwrap();
    assert_eq!(believed.at, newer.at, "but for the checksum it would be");
    let behind = [old.as_slice(), b"an old piece"].concat();
    assert_eq!(Row::decode(&behind).as_ref(), Some(&long), "what is behind it is not of it");
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
