//! Connections that are kept have their place among those that a site is given: it never sees one more because of them.

use waxseal::config::Source;

use crate::pacing::{Manner, World, world};
use crate::rig::patiently;

impl World {
    /// Waits until so many connections are open.
    async fn until_open(&self, fits: impl Fn(usize) -> bool) {
        patiently(async {
            while !fits(self.mx.open()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Opens the site, and leaves four connections to it kept.
    async fn keep_four(&mut self) {
        self.accept(8).await;
        self.start();
        for count in [1, 2, 4] {
            self.until_open(|open| open == count).await;
            self.mx.gate.add_permits(count);
        }
        self.mx.gate.add_permits(100);
        self.rig.until(<[_]>::is_empty).await;
        assert_eq!((self.mx.open(), self.mx.peak()), (4, 4), "all of them are kept");
    }
}

/// Tenants that have a source each cannot share connections: the second one's was one more than the site permits.
#[tokio::test]
async fn a_kept_connection_makes_room_for_one_that_cannot_be_shared() {
    let own = |address: &str, tenant: &str| Source {
        address: address.parse().unwrap(),
        hostname: "relay.test".parse().unwrap(),
        tenants: vec![tenant.to_owned()],
        classes: Vec::new(),
    };
    let mut world = world(Manner::Takes, |config| {
        config.delivery.concurrency_per_destination = 1;
        config.delivery.sources = vec!["127.0.0.8".parse().unwrap(), "127.0.0.9".parse().unwrap()];
        config.delivery.source = vec![own("127.0.0.8", "acme"), own("127.0.0.9", "blue")];
    })
    .await;
    world.start();
    for tenant in ["acme", "blue", "acme", "acme"] {
        world.rig.accept(tenant, &["r@d0.test"]).await;
        world.rig.until(<[_]>::is_empty).await;
    }
    assert_eq!((world.mx.peak(), world.mx.connections()), (1, 3), "the last one shares with the one before");
}

#[tokio::test]
async fn what_is_kept_is_closed_when_the_site_rests() {
    let mut world = world(Manner::Holds, |_| ()).await;
    world.keep_four().await;
    world.mx.is(Manner::AtMail("421 4.7.28 too much"));
    world.rig.accept("acme", &["late@d0.test"]).await;
    world.until_open(|open| open <= 1).await;
}

/// A site that takes half as many is not left with the other half open.
#[tokio::test]
async fn what_is_kept_is_closed_when_the_site_is_given_fewer() {
    let mut world = world(Manner::Holds, |_| ()).await;
    world.keep_four().await;
    world.mx.is(Manner::AtRcpt("421 4.3.2 too busy"));
    world.rig.accept("acme", &["late@d0.test"]).await;
    world.until_open(|open| open <= 2).await;
    assert_eq!(world.mx.peak(), 4);
}
