//! Whoever finds room, the counts are true, and nothing is held once nobody holds it.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn tenant(name: &str) -> Holder {
    Some(name.into())
}

#[test]
fn one_sender_gets_half_and_the_next_finds_room() {
    let budget = Arc::new(Budget::default());
    let most = 100 * MIB;
    let mut a = vec![budget.take(tenant("a"), 25 * MIB, most).unwrap()];
    a.push(budget.take(tenant("a"), 25 * MIB, most).unwrap());
    assert_eq!(
        budget.take(tenant("a"), MIB, most).unwrap_err(),
        Full,
        "half is held: no more than is left free"
    );
    assert!(
        budget.has_room(&tenant("a"), SMALL, most),
        "small mail of the same sender is not kept out by its large mail"
    );
    let b = budget.take(tenant("b"), 25 * MIB, most).unwrap();
    assert_eq!(budget.take(tenant("b"), MIB, most).unwrap_err(), Full);
    assert!(budget.take(None, 12 * MIB, most).is_ok(), "nor does it keep out what comes back");
    drop((a, b));
    assert_eq!(budget.held(), 0);
    assert!(budget.counts().by_holder.is_empty(), "nothing is kept of senders that hold nothing");
}

#[test]
fn a_message_that_is_alone_may_take_all() {
    let budget = Arc::new(Budget::default());
    let mut only = budget.take(tenant("a"), 9 * MIB, 10 * MIB).unwrap();
    assert_eq!(only.grow_to(10 * MIB), Ok(()));
    assert_eq!(only.grow_to(10 * MIB + 1), Err(Full));
    assert_eq!(only.octets(), 10 * MIB, "a refusal takes nothing");
    assert_eq!(budget.take(tenant("b"), 1, 10 * MIB).unwrap_err(), Full);
}

#[test]
fn a_bound_that_a_reload_lowers_holds_for_what_comes_then() {
    let budget = Arc::new(Budget::default());
    let held = budget.take(tenant("a"), 9 * MIB, 10 * MIB).unwrap();
    assert_eq!(budget.take(tenant("b"), 1, 5 * MIB).unwrap_err(), Full, "and nothing overflows");
    drop(held);
    assert!(budget.take(tenant("b"), 5 * MIB, 5 * MIB).is_ok());
}

#[test]
fn what_has_no_budget_has_no_bound() {
    let mut free = Permit::default();
    assert_eq!(free.grow_to(u64::MAX), Ok(()));
}

/// What happens to one of four messages.
#[derive(Clone, Debug)]
enum Change {
    Take(usize, u64),
    Grow(usize, u64),
    Settle(usize, u64),
    Drop(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let octets = 0..4 * MIB;
    prop_oneof![
        (0..4_usize, octets.clone()).prop_map(|(at, octets)| Change::Take(at, octets)),
        (0..4_usize, octets.clone()).prop_map(|(at, octets)| Change::Grow(at, octets)),
        (0..4_usize, octets).prop_map(|(at, octets)| Change::Settle(at, octets)),
        (0..4_usize).prop_map(Change::Drop),
    ]
}

proptest! {
    #[test]
    fn the_counts_are_the_sum_of_the_permits(changes in proptest::collection::vec(change(), 0..60)) {
        let most = 6 * MIB;
        let budget = Arc::new(Budget::default());
        let mut slots: [Option<Permit>; 4] = Default::default();
        for change in changes {
            let (before, mut forced) = (budget.held(), false);
            match change {
                Change::Take(at, octets) => slots[at] = budget.take(tenant(["a", "b"][at % 2]), octets, most).ok(),
                Change::Grow(at, octets) => {
                    let _ = slots[at].as_mut().map(|permit| permit.grow_to(octets));
                }
                Change::Settle(at, octets) => {
                    forced = true;
                    if let Some(permit) = &mut slots[at] {
                        permit.settle_at(octets);
                    }
                }
                Change::Drop(at) => slots[at] = None,
            }
            let sum: u64 = slots.iter().flatten().map(Permit::octets).sum();
            prop_assert_eq!(budget.held(), sum);
            prop_assert_eq!(budget.gauge.get(), i64::try_from(sum).unwrap());
            prop_assert!(forced || sum <= most.max(before), "only what is taken already goes beyond the bound");
        }
        drop(slots);
        prop_assert_eq!(budget.held(), 0);
        prop_assert!(budget.counts().by_holder.is_empty());
    }

    /// Many sessions at once, with budget for a few: somebody always gets through, and every octet is given back.
    #[test]
    fn sessions_never_wait_for_one_another(sizes in proptest::collection::vec(1..8_u64, 1..30)) {
        let most = 8 * MIB;
        let budget = Arc::new(Budget::default());
        let mut under_way: Vec<(Permit, u64)> = Vec::new();
        for size in &sizes {
            under_way.extend(budget.take(tenant("a"), START, most).ok().map(|permit| (permit, size * MIB)));
        }
        let mut done = 0;
        // Each grows in turn by a step; one that finds no room is refused and lets go.
        while !under_way.is_empty() {
            under_way.retain_mut(|(permit, size)| {
                let next = (permit.octets() + MIB / 2).min(*size);
                if permit.grow_to(next).is_err() {
                    return false;
                }
                done += usize::from(next == *size);
                next < *size
            });
        }
        prop_assert!(done > 0, "no session got through");
        prop_assert_eq!(budget.held(), 0);
    }
}
