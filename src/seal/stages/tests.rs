//! What the file says, what it must not say, and that no change is lost.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::seal::Keyring;

struct Keys(tempfile::TempDir);

const NOW: Time = Time(1_800_000_000_000);

impl Keys {
    fn new(selectors: &[&str]) -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        for selector in selectors {
            keys.put(selector);
        }
        keys
    }

    fn put(&self, selector: &str) {
        let dir = self.0.path().join("acme.example");
        fsx::create_dir(&dir).unwrap();
        let made = keys::generate(Kind::Ed25519).unwrap();
        let pem = made.pem.expose_secret().as_bytes();
        fsx::write_atomically(&dir.join(format!("{selector}.pem")), pem, 0o600).unwrap();
    }

    fn state(&self, text: &str) {
        std::fs::write(self.0.path().join("acme.example").join(FILE), text).unwrap();
    }

    fn stages(&self) -> Vec<(String, Stage)> {
        let ring = Keyring::load(self.0.path()).unwrap();
        ring.keys(&acme()).iter().map(|key| (key.selector.clone(), key.stage)).collect()
    }

    fn settle(&self, moves: &[Move]) -> Result<(), KeyError> {
        settle(self.0.path(), &acme(), moves, NOW)
    }
}

fn acme() -> Domain {
    "acme.example".parse().unwrap()
}

fn step(selector: &str, from: Stage, to: Stage) -> Move {
    Move { domain: acme(), selector: selector.to_owned(), from, to, why: String::new() }
}

fn order(selector: &str, replaces: Option<&str>) -> Make {
    Make {
        domain: acme(),
        selector: selector.to_owned(),
        kind: Kind::Ed25519,
        replaces: replaces.map(str::to_owned),
        why: String::new(),
    }
}

#[test]
fn what_is_settled_is_read_back_and_the_rest_is_pending() {
    let keys = Keys::new(&["wx1", "wx2", "wx3"]);
    keys.settle(&[
        step("wx1", Stage::Pending, Stage::Active),
        step("wx2", Stage::Pending, Stage::Ready),
        step("wx2", Stage::Ready, Stage::Active),
        step("wx1", Stage::Active, Stage::Retiring),
    ])
    .unwrap();
    let named = |selector: &str, stage| (selector.to_owned(), stage);
    let stages = [named("wx1", Stage::Retiring), named("wx2", Stage::Active), named("wx3", Stage::Pending)];
    assert_eq!(keys.stages(), stages);
    let ring = Keyring::load(keys.0.path()).unwrap();
    assert_eq!(ring.keys(&acme())[1].since, Some(NOW));
    let signs: Vec<_> = ring.signing(&acme()).map(|key| key.selector.as_str()).collect();
    assert_eq!(signs, ["wx2"]);
}

#[test]
fn a_key_that_waits_is_made_the_successor() {
    let keys = Keys::new(&["wx1", "wx2"]);
    keys.settle(&[step("wx1", Stage::Pending, Stage::Active)]).unwrap();
    succeed(keys.0.path(), &acme(), "wx2", "wx1").unwrap();
    let ring = Keyring::load(keys.0.path()).unwrap();
    assert_eq!(ring.keys(&acme())[1].replaces.as_deref(), Some("wx1"));
    let refused = succeed(keys.0.path(), &acme(), "wx1", "wx2");
    assert!(matches!(refused, Err(KeyError::Changed { .. })), "it signs already: {refused:?}");
}

#[test]
fn either_all_moves_are_made_or_none() {
    let keys = Keys::new(&["wx1", "wx2"]);
    keys.settle(&[step("wx1", Stage::Pending, Stage::Active)]).unwrap();
    let before = keys.stages();
    for (second, why) in [
        (step("wx1", Stage::Ready, Stage::Retiring), "the command line moved it meanwhile"),
        (step("wx9", Stage::Active, Stage::Retiring), "its PEM was taken away"),
    ] {
        let refused = keys.settle(&[step("wx2", Stage::Pending, Stage::Ready), second]);
        assert!(matches!(refused, Err(KeyError::Changed { .. })), "{why}: {refused:?}");
        assert_eq!(keys.stages(), before, "{why}");
    }
}

#[test]
fn no_change_is_lost_between_many_who_change() {
    let names: Vec<String> = (1..=8).map(|n| format!("wx{n}")).collect();
    let keys = Keys::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for name in &names {
            let keys = &keys;
            scope.spawn(move || keys.settle(&[step(name, Stage::Pending, Stage::Ready)]).unwrap());
        }
    });
    assert!(keys.stages().iter().all(|(_, stage)| *stage == Stage::Ready), "{:?}", keys.stages());
}

#[test]
fn a_key_laid_in_anothers_place_by_hand_is_a_new_one() {
    let keys = Keys::new(&["wx1"]);
    keys.settle(&[step("wx1", Stage::Pending, Stage::Active)]).unwrap();
    keys.put("wx1");
    assert_eq!(keys.stages(), [("wx1".to_owned(), Stage::Pending)]);
}

#[test]
fn a_key_is_made_where_there_is_none_or_a_retired_one() {
    let keys = Keys::new(&["wx1"]);
    let made = make(keys.0.path(), &order("wx2", Some("wx1")), NOW).unwrap();
    let ring = Keyring::load(keys.0.path()).unwrap();
    let key = &ring.keys(&acme())[1];
    assert_eq!((&key.public, key.stage), (&made, Stage::Pending));
    assert_eq!((key.since, key.replaces.as_deref()), (Some(NOW), Some("wx1")));
    let mode = keys.0.path().join("acme.example/wx2.pem").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let taken = make(keys.0.path(), &order("wx1", None), NOW);
    assert!(matches!(taken, Err(KeyError::Changed { .. })), "a pending key is not overwritten: {taken:?}");
    keys.settle(&[step("wx1", Stage::Pending, Stage::Retired)]).unwrap();
    let renewed = make(keys.0.path(), &order("wx1", None), NOW).unwrap();
    let ring = Keyring::load(keys.0.path()).unwrap();
    assert_eq!((&ring.keys(&acme())[0].public, ring.keys(&acme())[0].stage), (&renewed, Stage::Pending));
}

#[test]
fn a_mistake_in_the_file_is_named_with_its_place() {
    let rows = [
        (
            "[[key]]\nselector = \"wx1\"\nstage = \"activ\"\n",
            ":3:9: ",
            "did you mean `active`?",
            "a mistyped stage",
        ),
        (
            "[[key]]\nselector = \"wx1\"\nstage = \"active\"\nfrom = 1\n",
            ":4:1: ",
            "unknown key",
            "an unknown key",
        ),
        ("[[key]]\nstage = \"active\"\n", ":1:1: ", "missing key `selector`", "whose?"),
        (
            "[[key]]\nselector = \"a\"\nstage = \"ready\"\nsince = \"today\"\n",
            ":4:9: ",
            "no time",
            "not a time",
        ),
        (
            "[[key]]\nselector = \"a\"\nstage = \"ready\"\n[[key]]\nselector = \"a\"\nstage = \"active\"\n",
            ":5:12: ",
            "twice",
            "two stages at once",
        ),
    ];
    let keys = Keys::new(&["wx1"]);
    for (text, place, what, why) in rows {
        keys.state(text);
        let error = Keyring::load(keys.0.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("state.toml{place}")) && error.contains(what), "{why}: {error}");
    }
    keys.state("");
    assert_eq!(keys.stages(), [("wx1".to_owned(), Stage::Pending)], "an empty file says nothing");
}
