//! Whose turn it is, by the numbers: lanes share by 16:6:4:1, tenants and destinations take turns, and nobody starves.

use std::collections::{HashMap, VecDeque};

use proptest::prelude::*;

use super::*;

const ALL: [Lane; LANES] = [Lane::Urgent, Lane::Important, Lane::Normal, Lane::Bulk];
const NOW: Time = Time(1_000_000);

fn turns(per_destination: usize, total: usize) -> Turns {
    Turns { per_destination, total }
}

fn key(lane: Lane, tenant: &str, destination: &str) -> StreamKey {
    StreamKey { lane, tenant: tenant.into(), destination: Destination(destination.into()), held: false }
}

/// `count` legs of one stream that are all due.
fn fill(lanes: &mut Lanes, key: &StreamKey, count: u64) {
    for n in 0..count {
        let over = lanes.push(key.clone(), Item { due: Time(n), id: Id::new(Time(n), 1), leg: 0 });
        assert_eq!(over, None, "everything fits into memory here");
    }
}

fn nothing(_: &StreamKey, _: Item) -> Loaded {
    (Vec::new(), None)
}

/// Claims one leg and ends it at once.
fn turn(lanes: &mut Lanes) -> Option<StreamKey> {
    let (key, _) = lanes.claim(NOW, &mut nothing)?;
    lanes.release(&key);
    Some(key)
}

/// How often each name had a turn.
fn count<K: std::hash::Hash + Eq>(turns: impl Iterator<Item = K>) -> HashMap<K, usize> {
    turns.fold(HashMap::new(), |mut counts, key| {
        *counts.entry(key).or_default() += 1;
        counts
    })
}

#[test]
fn lanes_share_by_16_6_4_1_in_any_27_turns() {
    let mut lanes = Lanes::new(turns(100, 100), 100_000);
    for lane in ALL {
        fill(&mut lanes, &key(lane, "t", &format!("{lane:?}")), 400);
    }
    let order: Vec<Lane> = (0..270).map(|_| turn(&mut lanes).unwrap().lane).collect();
    for round in order.chunks(27) {
        let counts = count(round.iter().map(|lane| *lane as usize));
        assert_eq!(ALL.map(|lane| counts[&(lane as usize)]), [16, 6, 4, 1], "{round:?}");
    }
    // Spread out, not in bursts: no three turns pass without the most urgent lane.
    assert!(order.windows(3).all(|three| three.contains(&Lane::Urgent)), "{order:?}");
}

#[test]
fn who_has_nothing_to_send_leaves_the_turns_to_the_others() {
    let rows: [(&[Lane], [usize; LANES], &str); 4] = [
        (&[Lane::Bulk], [0, 0, 0, 54], "alone, the least lane has every turn"),
        (&[Lane::Urgent, Lane::Bulk], [51, 0, 0, 3], "16 to 1: of 54 turns 50.8 and 3.2"),
        (&[Lane::Important, Lane::Normal], [0, 32, 22, 0], "6 to 4: of 54 turns 32.4 and 21.6"),
        (
            &[Lane::Important, Lane::Normal, Lane::Bulk],
            [0, 30, 19, 5],
            "6 to 4 to 1: of 54 turns 29.5, 19.6, 4.9",
        ),
    ];
    for (ready, expected, why) in rows {
        let mut lanes = Lanes::new(turns(100, 100), 100_000);
        for lane in ready {
            fill(&mut lanes, &key(*lane, "t", &format!("{lane:?}")), 100);
        }
        let counts = count((0..54).map(|_| turn(&mut lanes).unwrap().lane as usize));
        let got = ALL.map(|lane| counts.get(&(lane as usize)).copied().unwrap_or(0));
        let close = got.iter().zip(expected).all(|(got, expected)| got.abs_diff(expected) <= 1);
        assert!(close, "{why}: {got:?}");
    }
}

/// A lane that was silent does not come back with saved-up turns.
#[test]
fn turns_that_were_not_used_are_not_saved() {
    let mut lanes = Lanes::new(turns(100, 100), 100_000);
    fill(&mut lanes, &key(Lane::Bulk, "t", "bulk"), 500);
    (0..200).for_each(|_| assert_eq!(turn(&mut lanes).unwrap().lane, Lane::Bulk));
    fill(&mut lanes, &key(Lane::Urgent, "t", "urgent"), 100);
    fill(&mut lanes, &key(Lane::Important, "t", "important"), 100);
    let counts = count((0..23).map(|_| turn(&mut lanes).unwrap().lane as usize));
    assert_eq!(counts[&(Lane::Urgent as usize)], 16);
    assert_eq!(counts[&(Lane::Important as usize)], 6);
    assert_eq!(counts[&(Lane::Bulk as usize)], 1);
}

/// Slots that bulk mail may not fill: a lane's ceiling, in eighths of all.
#[test]
fn a_lane_leaves_slots_to_the_more_urgent() {
    for (lane, most) in [(Lane::Urgent, 16), (Lane::Important, 14), (Lane::Normal, 14), (Lane::Bulk, 12)] {
        let mut lanes = Lanes::new(turns(100, 16), 100_000);
        ["t", "v"].iter().for_each(|tenant| fill(&mut lanes, &key(lane, tenant, "d"), 50));
        let claimed = std::iter::from_fn(|| lanes.claim(NOW, &mut nothing)).count();
        assert_eq!(claimed, most, "{lane:?} of 16 slots");
        fill(&mut lanes, &key(Lane::Urgent, "u", "e"), 50);
        let more = std::iter::from_fn(|| lanes.claim(NOW, &mut nothing)).count();
        assert_eq!(most + more, 16, "the rest is for the urgent");
    }
}

/// A tenant with a hundred thousand legs, and one with a single one.
#[test]
fn tenants_take_turns_however_much_they_have() {
    let mut lanes = Lanes::new(turns(100, 100), 100_000);
    for destination in 0..10 {
        fill(&mut lanes, &key(Lane::Normal, "big", &format!("d{destination}")), 1000);
    }
    fill(&mut lanes, &key(Lane::Normal, "small", "d0"), 1);
    fill(&mut lanes, &key(Lane::Normal, "other", "d1"), 2);
    let first: Vec<_> = (0..6).map(|_| turn(&mut lanes).unwrap().tenant).collect();
    assert_eq!(first.iter().filter(|tenant| &***tenant == "small").count(), 1, "{first:?}");
    assert_eq!(first.iter().filter(|tenant| &***tenant == "other").count(), 2, "{first:?}");
}

/// Bug: the slot that came free went to a tenant who held all that he may, and the others waited for an attempt of his to end.
#[test]
fn a_free_slot_goes_to_whoever_may_use_it() {
    type Row<'a> = (&'a str, [(Lane, &'a str); 3], &'a str);
    let rows: [Row<'_>; 2] = [
        (
            "a tenant at his share",
            [(Lane::Normal, "big"), (Lane::Normal, "big"), (Lane::Normal, "small")],
            "small",
        ),
        (
            "a lane at its ceiling",
            [(Lane::Bulk, "big"), (Lane::Bulk, "more"), (Lane::Normal, "small")],
            "small",
        ),
    ];
    for (why, waits, goes_on) in rows {
        let mut lanes = Lanes::new(turns(1, 16), 100_000);
        // One has the site's only slot, and the others wait for it.
        fill(&mut lanes, &key(Lane::Normal, "first", "site"), 1);
        let (first, _) = lanes.claim(NOW, &mut nothing).unwrap();
        for (n, (lane, tenant)) in waits.into_iter().enumerate() {
            let held = n == 1;
            fill(&mut lanes, &StreamKey { held, ..key(lane, tenant, "site") }, 1);
        }
        assert!(lanes.claim(NOW, &mut nothing).is_none(), "{why}: all wait for the slot");
        // Then others than the one who goes on fill what they may have.
        let (lane, tenant) = waits[0];
        for n in 0..16 {
            let whose = if lane == Lane::Bulk { ["t", "v"][n % 2] } else { tenant };
            fill(&mut lanes, &key(lane, whose, &format!("d{n}")), 1);
        }
        let filled: Vec<_> = std::iter::from_fn(|| lanes.claim(NOW, &mut nothing)).collect();
        assert!(!lanes.shares.may(lane as usize, tenant) && filled.len() < 16, "{why}: {}", filled.len());
        lanes.release(&first);
        let (next, _) = lanes.claim(NOW, &mut nothing).unwrap();
        assert_eq!(&*next.tenant, goes_on, "{why}");
        lanes.release(&next);
        assert!(lanes.claim(NOW, &mut nothing).is_none(), "{why}: nobody else may");
        for (key, _) in filled {
            lanes.release(&key);
        }
        let rest =
            std::iter::from_fn(|| turn(&mut lanes)).filter(|key| &*key.destination.0 == "site").count();
        assert_eq!(rest, 2, "{why}: and the others have their turn when they may");
    }
}

/// Bug: whoever had two thousand domains at one site stood there two thousand times before another tenant's one.
#[test]
fn at_a_site_tenants_take_turns_however_many_destinations_they_have() {
    let mut lanes = Lanes::new(turns(1, 100), 100_000);
    let site = |lanes: &mut Lanes, destination: &str| {
        let (destination, site) = (Destination(destination.into()), Arc::from("site"));
        lanes.pace(&Pacing { destination, site, slots: 1, from: None });
    };
    for n in 0..20 {
        fill(&mut lanes, &key(Lane::Normal, "big", &format!("d{n}")), 5);
        site(&mut lanes, &format!("d{n}"));
    }
    fill(&mut lanes, &key(Lane::Normal, "small", "e"), 5);
    site(&mut lanes, "e");
    let first: Vec<_> = (0..8).map(|_| turn(&mut lanes).unwrap().tenant).collect();
    let small = first.iter().filter(|tenant| &***tenant == "small").count();
    assert!((3..=5).contains(&small), "{first:?}");
}

#[test]
fn a_tenants_destinations_take_turns() {
    let mut lanes = Lanes::new(turns(100, 100), 100_000);
    fill(&mut lanes, &key(Lane::Normal, "t", "heavy"), 900);
    fill(&mut lanes, &key(Lane::Normal, "t", "light"), 10);
    let counts = count((0..20).map(|_| turn(&mut lanes).unwrap().destination.0.to_string()));
    assert_eq!((counts["heavy"], counts["light"]), (10, 10));
}

/// A destination that takes every slot it has and gives none back holds up nobody else.
#[test]
fn a_stuck_destination_holds_up_nobody_else() {
    let mut lanes = Lanes::new(turns(3, 100), 100_000);
    fill(&mut lanes, &key(Lane::Urgent, "t", "stuck"), 50);
    let held = std::iter::from_fn(|| lanes.claim(NOW, &mut nothing)).count();
    assert_eq!(held, 3, "the slots of one destination");
    fill(&mut lanes, &key(Lane::Bulk, "t", "fine"), 10);
    (0..10).for_each(|_| assert_eq!(&*turn(&mut lanes).unwrap().destination.0, "fine"));
    assert!(turn(&mut lanes).is_none());
    assert_eq!(lanes.next(NOW), (None, None), "only a slot that is given back can move the rest");
    lanes.release(&key(Lane::Urgent, "t", "stuck"));
    assert_eq!(&*turn(&mut lanes).unwrap().destination.0, "stuck");
}

/// However much a tenant sends and wherever to, others find slots free.
#[test]
fn a_tenant_leaves_slots_to_the_others() {
    let mut lanes = Lanes::new(turns(5, 100), 100_000);
    for n in 0..50 {
        fill(&mut lanes, &key(Lane::Normal, "big", &format!("d{n}")), 10);
    }
    assert_eq!(claim_all(&mut lanes, NOW), 66, "three quarters of the 88 that the lane may fill");
    assert_eq!(lanes.next(NOW), (None, None), "and there is nothing to look for until one ends");
    fill(&mut lanes, &key(Lane::Normal, "small", "d0"), 1);
    assert_eq!(&*lanes.claim(NOW, &mut nothing).unwrap().0.tenant, "small", "at once, behind no other");
    fill(&mut lanes, &key(Lane::Urgent, "big", "reset"), 5);
    assert_eq!(claim_all(&mut lanes, NOW), 5, "its own urgent mail may have some more");
    lanes.release(&key(Lane::Normal, "big", "d0"));
    assert_eq!(claim_all(&mut lanes, NOW), 0, "which count");
    (0..5).for_each(|_| lanes.release(&key(Lane::Urgent, "big", "reset")));
    assert_eq!(claim_all(&mut lanes, NOW), 1);
}

/// Lanes that wait for slots of one destination share those by the same weights.
#[test]
fn the_slots_of_one_destination_are_shared_by_the_weights() {
    let mut lanes = Lanes::new(turns(1, 100), 100_000);
    for lane in ALL {
        fill(&mut lanes, &key(lane, "t", "one"), 400);
    }
    let counts = count((0..270).map(|_| turn(&mut lanes).unwrap().lane as usize));
    let got = ALL.map(|lane| counts.get(&(lane as usize)).copied().unwrap_or(0));
    let close = got.iter().zip([160, 60, 40, 10]).all(|(got, expected)| got.abs_diff(expected) <= 2);
    assert!(close, "{got:?}");
}

proptest! {
    /// Whatever waits: every leg that is due is claimed, once, and a stream's legs in the order of their due times.
    #[test]
    fn everything_due_is_claimed_once_and_in_order(
        legs in prop::collection::vec((0usize..LANES, 0u8..3, 0u8..3, 0u64..50), 1..200),
        per_destination in 1usize..4,
        total in 1usize..12,
        at_once in 1usize..8,
    ) {
        let mut lanes = Lanes::new(turns(per_destination, total), 100_000);
        let mut open = std::collections::BTreeSet::new();
        for (n, (lane, tenant, destination, due)) in (0u64..).zip(&legs) {
            let item = Item { due: Time(*due), id: Id::new(Time(n), 1), leg: 0 };
            prop_assert_eq!(lanes.push(key(ALL[*lane], &format!("t{tenant}"), &format!("d{destination}")), item), None);
            open.insert(item.id);
        }
        let mut last: HashMap<StreamKey, Item> = HashMap::new();
        let mut flying = VecDeque::new();
        loop {
            while flying.len() < at_once {
                let Some((key, item)) = lanes.claim(NOW, &mut nothing) else { break };
                prop_assert!(open.remove(&item.id), "claimed twice");
                if let Some(before) = last.insert(key.clone(), item) {
                    prop_assert!(before < item, "out of order");
                }
                flying.push_back(key);
            }
            let Some(key) = flying.pop_front() else { break };
            lanes.release(&key);
        }
        prop_assert!(open.is_empty(), "{} starved", open.len());
        prop_assert!(lanes.shares.are_empty());
        prop_assert!(lanes.slots.is_empty() && lanes.streams.is_empty(), "nothing is remembered of what has ended");
    }
}

fn pacing(destination: &str, site: &str, slots: usize, from: Option<u64>) -> Pacing {
    Pacing { destination: Destination(destination.into()), site: site.into(), slots, from: from.map(Time) }
}

/// Claims as much as there is, without ending any.
fn claim_all(lanes: &mut Lanes, now: Time) -> usize {
    std::iter::from_fn(|| lanes.claim(now, &mut nothing)).count()
}

#[test]
fn destinations_of_one_site_share_its_slots() {
    let mut lanes = Lanes::new(turns(5, 100), 100_000);
    for name in ["a.test", "b.test", "other.test"] {
        fill(&mut lanes, &key(Lane::Urgent, "t", name), 50);
    }
    assert_eq!(claim_all(&mut lanes, NOW), 15, "of whom nothing is known, each has its own");
    lanes.pace(&pacing("a.test", "mx.test", 8, None));
    lanes.pace(&pacing("b.test", "mx.test", 8, None));
    assert_eq!(claim_all(&mut lanes, NOW), 0, "ten are under way already, though eight would be enough");
    let [a, b] = ["a.test", "b.test"].map(|name| key(Lane::Urgent, "t", name));
    for _ in 0..2 {
        lanes.release(&a);
        assert_eq!(claim_all(&mut lanes, NOW), 0, "still eight or more");
    }
    lanes.release(&b);
    assert_eq!(claim_all(&mut lanes, NOW), 1, "a place that one of them leaves is taken by either");
    lanes.pace(&pacing("b.test", "mx.test", 12, None));
    assert_eq!(claim_all(&mut lanes, NOW), 4, "and more when it opens");
    lanes.pace(&pacing("b.test", "elsewhere.test", 20, None));
    assert!(claim_all(&mut lanes, NOW) > 8, "one that moved away counts there, and frees its places here");
}

#[test]
fn a_site_that_rests_is_left_alone_until_its_time() {
    let mut lanes = Lanes::new(turns(5, 100), 100_000);
    fill(&mut lanes, &key(Lane::Urgent, "t", "a.test"), 50);
    fill(&mut lanes, &key(Lane::Urgent, "t", "b.test"), 3);
    let until = NOW.0 + 60_000;
    lanes.pace(&pacing("a.test", "mx.test", 1, Some(until)));
    assert_eq!(claim_all(&mut lanes, NOW), 3, "others go on");
    assert_eq!(lanes.next(NOW).0, Some(Time(until)), "and the scheduler knows when to look again");
    assert_eq!(claim_all(&mut lanes, Time(until - 1)), 0);
    assert_eq!(claim_all(&mut lanes, Time(until)), 1, "then one looks");
    assert!(lanes.pace(&pacing("a.test", "mx.test", 4, None)), "and opens it");
    assert_eq!(claim_all(&mut lanes, Time(until)), 3);
}

#[test]
fn a_rest_that_ends_early_is_no_rest() {
    let mut lanes = Lanes::new(turns(5, 100), 100_000);
    fill(&mut lanes, &key(Lane::Bulk, "t", "a.test"), 50);
    lanes.pace(&pacing("a.test", "mx.test", 1, Some(NOW.0 + 60_000)));
    assert_eq!(claim_all(&mut lanes, NOW), 0);
    assert!(lanes.pace(&pacing("a.test", "mx.test", 1, None)));
    assert_eq!((claim_all(&mut lanes, NOW), lanes.slots.wakes()), (1, None));
}

#[test]
fn bulk_mail_leaves_places_of_a_site_to_the_more_urgent() {
    let mut lanes = Lanes::new(turns(5, 100), 100_000);
    fill(&mut lanes, &key(Lane::Bulk, "t", "a.test"), 50);
    lanes.pace(&pacing("a.test", "mx.test", 8, None));
    assert_eq!(claim_all(&mut lanes, NOW), 6, "six eighths");
    fill(&mut lanes, &key(Lane::Urgent, "t", "a.test"), 50);
    assert_eq!(claim_all(&mut lanes, NOW), 2, "the rest is there for a password reset");
    lanes.release(&key(Lane::Urgent, "t", "a.test"));
    assert_eq!(claim_all(&mut lanes, NOW), 1, "a free place goes to whom it may go to");
}

proptest! {
    /// Whatever is said of sites: nobody gets more than the site has, and whoever waits gets through in the end.
    #[test]
    fn pacing_never_loses_a_leg(
        said in prop::collection::vec((0usize..3, 0usize..2, 1usize..5, prop::option::of(0u64..50), 0usize..4), 1..60),
    ) {
        let mut lanes = Lanes::new(turns(2, 10), 100_000);
        let keys: Vec<StreamKey> =
            (0..3).map(|n| key(ALL[n], "t", &format!("d{n}.test"))).collect();
        keys.iter().for_each(|key| fill(&mut lanes, key, 20));
        let (mut under_way, mut ended) = (Vec::new(), 0);
        let mut now = NOW;
        for (which, site, slots, rest, turns) in said {
            let from = rest.map(|rest| now.0 + rest);
            lanes.pace(&pacing(&format!("d{which}.test"), &format!("site{site}.test"), slots, from));
            for _ in 0..turns {
                match lanes.claim(now, &mut nothing) {
                    Some((key, _)) => under_way.push(key),
                    None if !under_way.is_empty() => {
                        let key = under_way.swap_remove(0);
                        lanes.release(&key);
                        ended += 1;
                    }
                    None => now = Time(now.0 + 10),
                }
            }
        }
        now = Time(now.0 + 1000);
        loop {
            under_way.extend(std::iter::from_fn(|| lanes.claim(now, &mut nothing)).map(|(key, _)| key));
            let Some(key) = under_way.pop() else { break };
            lanes.release(&key);
            ended += 1;
        }
        prop_assert_eq!(ended, 60);
        prop_assert!(lanes.slots.is_empty() && lanes.streams.is_empty(), "nothing is remembered of what has ended");
    }
}
