//! Fairness: nobody waits for somebody else's slow server or somebody else's burst (QU8, QU9, RM8).

use std::sync::Arc;

use waxseal::queue::store::{StateName, Turns};

use crate::rig::{Plan, Rig};

#[tokio::test]
async fn a_slow_destination_holds_up_only_itself() {
    let mut rig = Rig::new(Turns { per_destination: 2, total: 8 });
    rig.script.slow.lock().unwrap().push("slow.test".to_owned());
    rig.script.plan([Plan::All(250)]);
    for n in 0..100 {
        rig.accept("acme", &[&format!("r{n}@slow.test")]).await;
    }
    rig.start();
    assert_eq!([rig.seen().await.destination, rig.seen().await.destination], ["slow.test", "slow.test"]);
    for n in 0..20 {
        rig.accept("acme", &[&format!("r{n}@fast.test")]).await;
        assert_eq!(rig.seen().await.destination, "fast.test", "nothing more is begun at the slow one");
    }
    rig.until(|all| all.len() == 100).await;
    rig.script.gate.add_permits(100);
    rig.until(<[_]>::is_empty).await;
}

#[tokio::test]
async fn a_burst_of_one_tenant_does_not_delay_another() {
    let mut rig = Rig::new(Turns { per_destination: 4, total: 4 });
    rig.script.plan([Plan::Gate]);
    for n in 0..200 {
        rig.accept("acme", &[&format!("r{n}@d{n}.test")]).await;
    }
    rig.start();
    for _ in 0..3 {
        assert_eq!(&*rig.seen().await.tenant, "acme");
    }
    // It leaves a quarter of the turns free: the small tenant's mail waits for nothing of the burst.
    rig.accept("blue", &["one@blue-friend.test"]).await;
    assert_eq!(&*rig.seen().await.tenant, "blue");
    // As turns become free they are shared: the next comes up at once, not after the burst.
    rig.accept("blue", &["two@blue-friend.test"]).await;
    rig.accept("blue", &["three@blue-friend.test"]).await;
    let mut before = 0;
    for _ in 0..2 {
        loop {
            rig.script.gate.add_permits(1);
            if &*rig.seen().await.tenant == "blue" {
                break;
            }
            before += 1;
            assert!(before <= 4, "the burst goes first");
        }
    }
    rig.script.gate.add_permits(1000);
    rig.until(<[_]>::is_empty).await;
}

/// A leg that is under way is nobody else's: each message is attempted once, however often the scheduler looks.
#[tokio::test]
async fn nothing_is_attempted_twice_while_it_is_under_way() {
    let mut rig = Rig::new(Turns { per_destination: 100, total: 100 });
    rig.script.plan([Plan::Gate]);
    for n in 0..40 {
        rig.accept("acme", &[&format!("r{n}@example.test")]).await;
    }
    rig.start();
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(rig.seen().await.id);
        rig.scheduler().nudge();
    }
    rig.script.gate.add_permits(40);
    rig.until(<[_]>::is_empty).await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 40);
    assert_eq!(rig.logged("delivered").len(), 40);
    let _ = (StateName::Active, Arc::strong_count(&rig.script));
}
