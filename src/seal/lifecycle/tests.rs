//! Rows of the lifecycle, and that whatever happens in whatever order, mail can be signed with a key that was seen.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::mail::secret::ExposeSecret;
use crate::seal::Keyring;
use crate::seal::keys::{self, Public};

const DAY: u64 = 86_400_000;
const POLICY: Lifecycle =
    Lifecycle { give_up: Duration::from_secs(5 * 86_400), rotate_after: Duration::from_secs(180 * 86_400) };

fn acme() -> Domain {
    "acme.example".parse().unwrap()
}

/// A key of this kind as far as the lifecycle looks: what it would sign with does not matter here.
fn key(selector: &str, algorithm: Algorithm, stage: Stage, since: u64) -> Key {
    let made = keys::generate(Kind::Ed25519).unwrap();
    let (signer, public) = keys::read(made.pem.expose_secret().as_bytes()).unwrap();
    let public = Public { algorithm, octets: public.octets };
    Key { selector: selector.to_owned(), public, stage, since: Some(Time(since)), replaces: None, signer }
}

fn rsa(selector: &str, stage: Stage, since: u64) -> Key {
    key(selector, Algorithm::Rsa(2048), stage, since)
}

fn replacing(mut key: Key, old: &str) -> Key {
    key.replaces = Some(old.to_owned());
    key
}

/// `wx1 pending>ready`, and `make wx2` for what is to be made.
fn due(keys: &[Key], seen: &[&str], silent: &[&str], now: u64) -> Vec<String> {
    let says = |selector: &str| (!silent.contains(&selector)).then(|| seen.contains(&selector));
    let next = advance(&acme(), keys, &says, &POLICY, Time(now));
    let moves = next.moves.iter().map(|step| format!("{} {}>{}", step.selector, step.from, step.to));
    moves.chain(next.makes.iter().map(|make| format!("make {}", make.selector))).collect()
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_is_due() {
    use Stage::{Active, Pending, Ready, Retired, Retiring};
    let ed = |selector: &str, stage| key(selector, Algorithm::Ed25519, stage, 0);
    let half_year = 180 * DAY;
    #[allow(clippy::type_complexity, reason = "a table")]
    let rows: &[(Vec<Key>, &[&str], &[&str], u64, &[&str], &str)] = &[
        (vec![rsa("wx1", Pending, 0)], &[], &[], 0, &[], "not published yet"),
        (
            vec![rsa("wx1", Pending, 0)],
            &["wx1"],
            &[],
            0,
            &["wx1 pending>active"],
            "the first key at first sight",
        ),
        (vec![rsa("wx1", Pending, 0)], &[], &["wx1"], 0, &[], "DNS does not answer: nothing is concluded"),
        (
            vec![rsa("wx1", Pending, 0), rsa("wx2", Pending, 0)],
            &["wx1", "wx2"],
            &[],
            0,
            &["wx1 pending>active", "wx2 pending>ready"],
            "two at once: the first by selector signs",
        ),
        (
            vec![rsa("wx1", Pending, 0), rsa("wx2", Pending, 0)],
            &["wx2"],
            &[],
            0,
            &["wx2 pending>active"],
            "the one that can be seen signs, whatever its name",
        ),
        (
            vec![rsa("wx1", Active, 0), ed("wxe1", Pending)],
            &["wx1", "wxe1"],
            &[],
            0,
            &["wxe1 pending>active"],
            "the first of each kind",
        ),
        (
            vec![rsa("wx1", Active, 0), rsa("wx2", Ready, 0)],
            &["wx1", "wx2"],
            &[],
            100 * DAY,
            &[],
            "a later key waits for the administrator",
        ),
        (
            vec![rsa("wx1", Active, 0), rsa("wx2", Ready, 0)],
            &["wx1"],
            &[],
            0,
            &["wx2 ready>pending"],
            "its record is gone again",
        ),
        (vec![rsa("wx1", Active, 0)], &[], &[], 0, &[], "the active key's record is gone: the judge says so"),
        (
            vec![rsa("wx1", Active, 0), replacing(rsa("wx2", Ready, 0), "wx1")],
            &["wx1", "wx2"],
            &[],
            DAY - 1,
            &[],
            "a renewed key waits a day",
        ),
        (
            vec![rsa("wx1", Active, 0), replacing(rsa("wx2", Ready, 0), "wx1")],
            &["wx1", "wx2"],
            &[],
            DAY,
            &["wx2 ready>active", "wx1 active>retiring"],
            "then it takes over",
        ),
        (
            vec![rsa("wx1", Active, 0), replacing(rsa("wx2", Ready, 0), "wx1")],
            &["wx1"],
            &["wx2"],
            DAY,
            &[],
            "not while DNS does not answer",
        ),
        (
            vec![
                rsa("wx1", Retired, 0),
                rsa("wx2", Ready, 0),
                replacing(rsa("wx3", Ready, 0), "wx1"),
                rsa("wx4", Active, 0),
            ],
            &["wx2", "wx3", "wx4"],
            &[],
            DAY,
            &[],
            "what it was to replace does not sign any more",
        ),
        (vec![rsa("wx1", Active, 0)], &["wx1"], &[], half_year - 1, &[], "not old enough"),
        (
            vec![rsa("wx1", Active, 0)],
            &["wx1"],
            &[],
            half_year,
            &["make wx2"],
            "old enough: the other selector",
        ),
        (
            vec![rsa("wx1", Retired, 0), rsa("wx2", Active, 0)],
            &["wx2"],
            &[],
            half_year,
            &["make wx1"],
            "and back",
        ),
        (
            vec![rsa("wx1", Retiring, half_year), rsa("wx2", Active, 0)],
            &["wx2"],
            &[],
            half_year,
            &["make wx3"],
            "the other selector is still needed",
        ),
        (
            vec![rsa("s2024", Active, 0)],
            &["s2024"],
            &[],
            half_year,
            &["make wx1"],
            "a selector from elsewhere",
        ),
        (
            vec![rsa("wx1", Active, 0), rsa("wx2", Pending, 0)],
            &["wx1"],
            &[],
            half_year,
            &[],
            "there is a new key already; somebody must publish it",
        ),
        (
            vec![rsa("wx1", Active, 0), rsa("wx2", Ready, 0)],
            &["wx1", "wx2"],
            &[],
            half_year,
            &["wx2 ready>active", "wx1 active>retiring"],
            "a key that waited is the new one",
        ),
        (vec![ed("wxe1", Active)], &["wxe1"], &[], half_year, &["make wxe2"], "Ed25519 is renewed, too"),
        (vec![rsa("wx1", Retiring, 0)], &["wx1"], &[], 12 * DAY - 1, &[], "mail may still be on its way"),
        (
            vec![rsa("wx1", Retiring, 0)],
            &["wx1"],
            &[],
            12 * DAY,
            &["wx1 retiring>retired"],
            "none is any more",
        ),
        (vec![rsa("wx1", Retired, 0)], &["wx1"], &[], 900 * DAY, &[], "a retired key stays retired"),
    ];
    for (keys, seen, silent, now, moves, why) in rows {
        assert_eq!(due(keys, seen, silent, *now), *moves, "{why}");
    }
}

#[test]
fn without_a_schedule_no_key_is_made() {
    let never = Lifecycle { rotate_after: Duration::ZERO, ..POLICY };
    let keys = [rsa("wx1", Stage::Active, 0)];
    assert_eq!(advance(&acme(), &keys, &|_| Some(true), &never, Time(u64::MAX)), Next::default());
}

#[test]
fn an_administrators_choice_stops_the_key_that_signed() {
    let keys = [rsa("wx1", Stage::Active, 0), rsa("wx2", Stage::Pending, 0)];
    let steps: Vec<_> = activate(&acme(), &keys, "wx2").iter().map(|step| (step.from, step.to)).collect();
    assert_eq!(steps, [(Stage::Pending, Stage::Active), (Stage::Active, Stage::Retiring)]);
}

#[test]
fn a_renewed_key_is_of_its_predecessors_kind() {
    for (old, new) in [
        (Algorithm::Rsa(1024), Kind::Rsa2048),
        (Algorithm::Rsa(2048), Kind::Rsa2048),
        (Algorithm::Rsa(2049), Kind::Rsa3072),
        (Algorithm::Rsa(8192), Kind::Rsa4096),
        (Algorithm::Ed25519, Kind::Ed25519),
    ] {
        assert_eq!(kind_like(old), new, "{old:?}");
    }
}

/// What can happen to a domain's keys.
#[derive(Clone, Debug)]
enum Event {
    Publish(usize),
    Unpublish(usize),
    Silence(bool),
    Generate(bool),
    Activate(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_usize..8).prop_map(Event::Publish),
        1 => (0_usize..8).prop_map(Event::Unpublish),
        1 => any::<bool>().prop_map(Event::Silence),
        1 => any::<bool>().prop_map(Event::Generate),
        1 => (0_usize..8).prop_map(Event::Activate),
        4 => (0_u64..40).prop_map(|days| Event::Pass(days * DAY)),
    ]
}

/// A domain with its keys, its zone, and what was ever seen there.
struct World {
    keys: Vec<Key>,
    published: BTreeSet<String>,
    seen: BTreeSet<String>,
    silent: bool,
    now: u64,
}

impl World {
    fn happen(&mut self, event: &Event) {
        let name = |keys: &[Key], at: usize| keys.get(at).map(|key| key.selector.clone());
        match event {
            Event::Publish(at) => self.published.extend(name(&self.keys, *at)),
            // Nobody takes a record away that something may still be verified with.
            Event::Unpublish(at) => {
                let idle =
                    self.keys.get(*at).filter(|key| !matches!(key.stage, Stage::Active | Stage::Retiring));
                if let Some(key) = idle {
                    self.published.remove(&key.selector);
                }
            }
            Event::Silence(silent) => self.silent = *silent,
            Event::Generate(is_rsa) => {
                let algorithm = if *is_rsa { Algorithm::Rsa(2048) } else { Algorithm::Ed25519 };
                let selector = free_selector(&self.keys, algorithm);
                self.lay(key(&selector, algorithm, Stage::Pending, self.now));
            }
            Event::Activate(at) => self.activate(*at),
            Event::Pass(by) => self.now += by,
        }
        self.advance();
    }

    /// As the command line does it: only what can be seen now, and never a retired one.
    fn activate(&mut self, at: usize) {
        let Some(key) = self.keys.get(at) else { return };
        if self.silent || !self.published.contains(&key.selector) {
            return;
        }
        if !matches!(key.stage, Stage::Active | Stage::Retired) {
            self.seen.insert(key.selector.clone());
            let moves = activate(&acme(), &self.keys, &key.selector.clone());
            self.settle(&moves);
        }
    }

    fn lay(&mut self, key: Key) {
        self.keys.retain(|old| old.selector != key.selector);
        self.published.remove(&key.selector);
        self.seen.remove(&key.selector);
        self.keys.push(key);
        self.keys.sort_by(|a, b| a.selector.cmp(&b.selector));
    }

    fn advance(&mut self) {
        let says = |selector: &str| (!self.silent).then(|| self.published.contains(selector));
        let next = advance(&acme(), &self.keys, &says, &POLICY, Time(self.now));
        if !self.silent {
            self.seen.extend(self.published.iter().cloned());
        }
        self.settle(&next.moves);
        for make in next.makes {
            let algorithm =
                if make.kind == Kind::Ed25519 { Algorithm::Ed25519 } else { Algorithm::Rsa(2048) };
            let mut made = key(&make.selector, algorithm, Stage::Pending, self.now);
            made.replaces = make.replaces;
            self.lay(made);
        }
    }

    fn settle(&mut self, moves: &[Move]) {
        for step in moves {
            let key = self.keys.iter_mut().find(|key| key.selector == step.selector).unwrap();
            assert_eq!(key.stage, step.from);
            if step.to == Stage::Active {
                assert!(self.published.contains(&key.selector), "{} signs unseen", key.selector);
            }
            key.stage = step.to;
            key.since = Some(Time(self.now));
        }
    }

    /// Whether a key that signs, and is published, was seen; vacuous until one was ever seen.
    fn can_sign(&self) -> bool {
        let ring = Keyring::of(acme(), self.keys.iter().map(copy).collect());
        let mut signs = ring.signing(&acme());
        let any = self.keys.iter().any(|key| key.stage != Stage::Pending);
        !any || signs.any(|key| self.seen.contains(&key.selector) && self.published.contains(&key.selector))
    }
}

#[test]
fn the_last_key_that_signs_or_will_is_known() {
    use Stage::{Active, Pending, Ready, Retired, Retiring};
    let ed = |stage| key("wxe1", Algorithm::Ed25519, stage, 0);
    let rows = [
        (rsa("wx1", Pending, 0), vec![], true, "there is no other"),
        (rsa("wx1", Pending, 0), vec![ed(Pending)], true, "Ed25519 alone is believed by few"),
        (rsa("wx1", Ready, 0), vec![rsa("wx2", Retired, 0)], true, "that one never signs again"),
        (rsa("wx1", Ready, 0), vec![rsa("wx2", Retiring, 0)], true, "that one signs no more"),
        (rsa("wx1", Pending, 0), vec![rsa("wx2", Pending, 0)], false, "the other may come to sign"),
        (rsa("wx1", Active, 0), vec![rsa("wx2", Ready, 0)], true, "first the other takes its place"),
        (rsa("wx1", Active, 0), vec![ed(Active)], true, "Ed25519 alone again"),
        (rsa("wx1", Active, 0), vec![rsa("wx2", Active, 0)], false, "two sign, as a person wrote it"),
        (ed(Active), vec![rsa("wx1", Active, 0)], false, "RSA stays"),
        (ed(Pending), vec![rsa("wx1", Pending, 0)], false, "the same"),
    ];
    for (key, mut others, is_the_last, why) in rows {
        others.push(copy(&key));
        assert_eq!(is_last(&others, &key), is_the_last, "{key:?}: {why}");
    }
}

fn copy(old: &Key) -> Key {
    let mut new = key(&old.selector, old.public.algorithm, old.stage, 0);
    new.replaces.clone_from(&old.replaces);
    new
}

proptest! {
    #[test]
    fn in_any_order_of_events_a_seen_key_signs_once_one_was_seen(events in prop::collection::vec(event(), 0..60)) {
        let mut world = World {
            keys: vec![rsa("wx1", Stage::Pending, 0)],
            published: BTreeSet::new(),
            seen: BTreeSet::new(),
            silent: false,
            now: 1,
        };
        for event in &events {
            world.happen(event);
            prop_assert!(world.can_sign(), "after {event:?}: {:?}, {:?}", world.keys, world.published);
            let retired = world.keys.iter().filter(|key| key.stage == Stage::Retired);
            let ring = Keyring::of(acme(), world.keys.iter().map(copy).collect());
            for key in retired {
                prop_assert!(ring.signing(&acme()).all(|signs| signs.selector != key.selector));
            }
        }
    }
}
