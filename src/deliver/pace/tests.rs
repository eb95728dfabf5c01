//! The pace of a site, by tables and by chance.

use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { most: 20, rest: Duration::from_secs(600) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A site that has opened as far as it goes.
fn open() -> Pace {
    let mut pace = Pace::default();
    while pace.slots(BOUNDS) < BOUNDS.most {
        round(&mut pace, Sign::Taken, at(1));
    }
    pace
}

/// Uses every connection there is at this moment, and each ends like this. Answers how many there were.
fn round(pace: &mut Pace, sign: Sign, now: Duration) -> usize {
    let used = std::iter::from_fn(|| (pace.ask(false, now, BOUNDS) == Leave::Go).then_some(())).count();
    for _ in 0..used {
        pace.end(sign, (now, now), 0.0, BOUNDS);
    }
    used
}

/// One attempt that ends like this; how long the site then rests.
fn one(pace: &mut Pace, sign: Sign, now: Duration) -> Option<u64> {
    assert_eq!(pace.ask(false, now, BOUNDS), Leave::Go);
    pace.end(sign, (now, now), 0.0, BOUNDS);
    pace.rests(now).map(|(until, _)| (until - now).as_secs())
}

#[test]
fn a_flood_begins_with_one_probing_connection_and_doubles() {
    let mut pace = Pace::default();
    let used: Vec<usize> = (0..6).map(|_| round(&mut pace, Sign::Taken, at(1))).collect();
    assert_eq!(used, [1, 2, 4, 8, 16, 20], "each message taken opens one more, up to the bound");
}

/// Once it stayed at two for as long as mail came one by one, so that the first burst after a quiet week was held up.
#[test]
fn messages_one_after_the_other_open_it_too() {
    let mut pace = Pace::default();
    let mut slots = Vec::new();
    for now in 0..11 {
        one(&mut pace, Sign::Taken, at(now));
        slots.push(pace.slots(BOUNDS));
    }
    assert_eq!(slots, [2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5], "two at once, then one more a round");
    assert_eq!(round(&mut pace, Sign::Taken, at(11)), 5);
    assert_eq!(pace.slots(BOUNDS), 10, "what was in use at once doubles");
    for now in 12..600 {
        one(&mut pace, Sign::Taken, at(now));
    }
    assert_eq!(pace.slots(BOUNDS), BOUNDS.most, "and never more than the bound");
}

#[test]
fn what_each_end_does_to_an_open_site() {
    let rows = [
        (Sign::Taken, 20, None, "as far open as it goes"),
        (Sign::Spoke, 20, None, "550 and greylisting say nothing of how much it can take"),
        (Sign::Busy, 10, None, "421 halves it"),
        (Sign::Limited, 1, Some(600), "Gmail's 4.7.28: ten minutes, then one connection"),
        (Sign::Dead, 1, Some(5), "no host answers: a short rest, then one connection"),
    ];
    for (sign, slots, rest, why) in rows {
        let mut pace = open();
        assert_eq!(one(&mut pace, sign, at(2)), rest, "{why}");
        assert_eq!(pace.slots(BOUNDS), slots, "{why}");
    }
}

#[test]
fn twenty_connections_refused_together_close_it_once() {
    let mut pace = open();
    assert_eq!(round(&mut pace, Sign::Busy, at(2)), 20);
    assert_eq!(pace.slots(BOUNDS), 1, "in one moment each is a round of its own");
    let mut pace = open();
    for _ in 0..20 {
        assert_eq!(pace.ask(false, at(2), BOUNDS), Leave::Go);
    }
    for later in 3..23 {
        pace.end(Sign::Busy, (at(2), at(later)), 0.0, BOUNDS);
    }
    assert_eq!(pace.slots(BOUNDS), 10, "they began before the first of them closed it");
}

#[test]
fn after_a_closing_it_opens_by_one_a_round() {
    let mut pace = open();
    one(&mut pace, Sign::Busy, at(2));
    let used: Vec<usize> = (3..6).map(|now| round(&mut pace, Sign::Taken, at(now))).collect();
    assert_eq!(used, [10, 11, 12]);
}

#[test]
fn rests_grow_to_their_bound_and_an_answer_ends_them() {
    let mut pace = Pace::default();
    let mut now = 0;
    let rests: Vec<u64> = (0..7)
        .map(|_| {
            let rest = one(&mut pace, Sign::Dead, at(now)).unwrap();
            now += rest;
            rest
        })
        .collect();
    assert_eq!(rests, [5, 15, 45, 135, 405, 600, 600]);
    assert_eq!(one(&mut pace, Sign::Unasked, at(now)), None, "nobody asked it");
    assert_eq!(one(&mut pace, Sign::Spoke, at(now)), None, "a 550 comes from a living server");
    assert_eq!(one(&mut pace, Sign::Dead, at(now)), Some(5), "the next failure is a first one again");
}

#[test]
fn who_asks_while_it_rests() {
    let mut pace = Pace::default();
    one(&mut pace, Sign::Dead, at(0));
    assert_eq!(pace.ask(false, at(4), BOUNDS), Leave::Resting(at(5)), "a first short rest: everybody waits");
    assert_eq!(pace.ask(true, at(4), BOUNDS), Leave::Resting(at(5)), "urgent mail too");
    assert_eq!(pace.ask(false, at(5), BOUNDS), Leave::Go, "then one may look");
    assert_eq!(pace.ask(false, at(5), BOUNDS), Leave::Full, "and only one");
    pace.end(Sign::Dead, (at(5), at(5)), 0.0, BOUNDS);
    one(&mut pace, Sign::Dead, at(20));
    let until = at(65);
    assert_eq!(
        pace.shut(at(21)),
        None,
        "the third in a row: it is out of order, and whoever asks is told so"
    );
    assert_eq!(pace.ask(false, at(21), BOUNDS), Leave::OutOfOrder(until));
    assert_eq!(pace.ask(true, at(21), BOUNDS), Leave::Go, "urgent mail looks by its own schedule");
    assert_eq!(pace.ask(true, at(21), BOUNDS), Leave::OutOfOrder(until), "one at a time");
    pace.end(Sign::Taken, (at(21), at(22)), 0.0, BOUNDS);
    assert_eq!(pace.ask(false, at(22), BOUNDS), Leave::Go, "it has come back");
}

#[test]
fn nobody_looks_while_it_rests_from_too_much() {
    let mut pace = Pace::default();
    for now in [0, 1000, 2000] {
        one(&mut pace, Sign::Limited, at(now));
    }
    assert_eq!(
        pace.ask(true, at(2001), BOUNDS),
        Leave::OutOfOrder(at(2600)),
        "urgent mail would make it worse"
    );
}

#[test]
fn what_began_before_a_closing_is_no_news() {
    let mut pace = open();
    assert_eq!((pace.ask(false, at(2), BOUNDS), pace.ask(false, at(2), BOUNDS)), (Leave::Go, Leave::Go));
    pace.end(Sign::Limited, (at(2), at(3)), 0.0, BOUNDS);
    pace.end(Sign::Taken, (at(2), at(4)), 0.0, BOUNDS);
    assert!(pace.rests(at(5)).is_some(), "the last message of the connection before does not end the rest");
}

#[test]
fn a_site_unused_for_long_is_probed_again() {
    let mut pace = open();
    assert_eq!(round(&mut pace, Sign::Taken, at(601)), 1);
}

#[test]
fn without_rests_it_only_closes() {
    let bounds = Bounds { rest: Duration::ZERO, ..BOUNDS };
    let mut pace = open();
    assert_eq!(pace.ask(false, at(2), bounds), Leave::Go);
    assert_eq!(pace.end(Sign::Dead, (at(2), at(2)), 0.0, bounds), None);
    assert_eq!((pace.rests(at(2)), pace.ask(false, at(2), bounds)), (None, Leave::Go));
}

proptest! {
    /// Whatever happens in whatever order: never more at once than the bound, never a rest longer than the longest, and when all
    /// is over somebody gets through.
    #[test]
    fn it_stays_within_its_bounds_and_never_shuts_for_good(
        steps in prop::collection::vec((0u8..4, 0usize..6, 0u64..700, -1.0f64..1.0), 0..300),
        most in 1usize..30,
    ) {
        let bounds = Bounds { most, rest: Duration::from_secs(600) };
        let signs = [Sign::Taken, Sign::Spoke, Sign::Busy, Sign::Limited, Sign::Dead, Sign::Unasked];
        let (mut pace, mut now, mut out) = (Pace::default(), at(0), Vec::new());
        let longest = Duration::from_secs(660);
        for (step, sign, wait, chance) in steps {
            match step {
                0 | 1 if pace.ask(step == 1, now, bounds) == Leave::Go => out.push(now),
                2 if !out.is_empty() => {
                    let began = out.swap_remove(0);
                    pace.end(signs[sign], (began, now), chance, bounds);
                }
                _ => now += at(wait),
            }
            prop_assert_eq!(pace.active(), out.len());
            prop_assert!(out.len() <= most);
            prop_assert!((1..=most).contains(&pace.slots(bounds)));
            if let Some((until, _)) = pace.rests(now) {
                prop_assert!(until <= now + longest);
            }
        }
        for _ in out {
            pace.give_back();
        }
        prop_assert_eq!(pace.ask(false, now + longest, bounds), Leave::Go);
    }
}
