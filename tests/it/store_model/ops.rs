//! What may happen to a store, at random.

use super::*;

pub(super) type Picks = (Option<usize>, Option<usize>);

#[derive(Clone, Debug)]
pub(super) enum Op {
    Accept {
        tenant: u8,
        lane: u8,
        legs: Vec<(u8, u8)>,
        held: Option<Option<u64>>,
        size: usize,
    },
    Claim {
        most: usize,
    },
    Settle {
        pick: usize,
        fates: Vec<u8>,
        owe: bool,
        then: u8,
    },
    /// `picks`: one message, and the one behind which the others lie.
    Act {
        action: u8,
        tenant: Option<u8>,
        from_domain: Option<u8>,
        cause: Option<Cause>,
        picks: Picks,
    },
    Supersede {
        pick: usize,
    },
    Tell {
        most: usize,
    },
    Waive {
        pick: usize,
    },
    Remember {
        memos: Vec<Memo>,
    },
    Wait {
        ms: u64,
    },
    Reopen,
    Crash,
    Rebuild,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    let legs = prop::collection::vec((0u8..5, 1u8..4), 1..4);
    let until = prop::option::of(0..8 * DAY);
    let cause =
        prop_oneof![Just(Cause::Seal), Just(Cause::Operator), Just(Cause::Route), Just(Cause::Credentials)];
    prop_oneof![
        8 => (0u8..3, 0u8..4, legs, prop::option::weighted(0.3, until), prop_oneof![9 => 0usize..6000, 1 => 1_100_000usize..1_100_010])
            .prop_map(|(tenant, lane, legs, held, size)| Op::Accept { tenant, lane, legs, held, size }),
        5 => (1usize..12).prop_map(|most| Op::Claim { most }),
        9 => (any::<usize>(), prop::collection::vec(0u8..4, 0..4), any::<bool>(), 0u8..8)
            .prop_map(|(pick, fates, owe, then)| Op::Settle { pick, fates, owe, then }),
        3 => (0u8..5, rare(0u8..3), rare(0u8..3), rare(cause), (prop::option::of(any::<usize>()), rare(any::<usize>())))
            .prop_map(|(action, tenant, from_domain, cause, picks)| {
                Op::Act { action, tenant, from_domain, cause, picks }
            }),
        3 => any::<usize>().prop_map(|pick| Op::Supersede { pick }),
        2 => (1usize..5).prop_map(|most| Op::Tell { most }),
        1 => any::<usize>().prop_map(|pick| Op::Waive { pick }),
        4 => prop::collection::vec(memo(), 0..4).prop_map(|memos| Op::Remember { memos }),
        2 => (0u64..DAY).prop_map(|ms| Op::Wait { ms }),
        1 => Just(Op::Reopen),
        1 => Just(Op::Crash),
        1 => Just(Op::Rebuild),
    ]
}

fn rare<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    prop::option::weighted(0.25, strategy)
}

/// Few keys, so that they are replaced often, some of which begin like others; a size beyond what is allowed now and then.
fn memo() -> impl Strategy<Value = Memo> {
    let key = prop_oneof![
        30 => prop::sample::select(vec!["", "dns/a", "dns/a\0b", "dns/ab", "dns/b", "gone/ä"]).prop_map(str::to_owned),
        1 => (MEMO_KEY_MAX - 1..MEMO_KEY_MAX + 2).prop_map(|length| "k".repeat(length)),
    ];
    let size =
        prop_oneof![6 => 0usize..100, 3 => 3000usize..9000, 1 => MEMO_VALUE_MAX - 1..MEMO_VALUE_MAX + 2];
    let value = prop::option::weighted(0.75, (size, any::<u8>()).prop_map(|(size, octet)| vec![octet; size]));
    (key, value).prop_map(|(key, value)| Memo { key, value })
}
