//! A zone whose denials and signatures are made to keep a resolver busy (faults.md DN4): NSEC3 of many iterations (CVE-2023-50868), keys
//! and signatures of which most are nobody's (KeyTrap, CVE-2023-50387). What would be too much is not counted out, whatever
//! would come of it, and mail to others goes on.

use hickory_server::dnssec::NxProofKind;
use hickory_server::proto::dnssec::Nsec3HashAlgorithm;
use waxseal::config::Dnssec;
use waxseal::mail::attempt::Fate::{Deferred, Delivered};

use crate::deliver::{World, fates, words, world_at};
use crate::exchanger::script;
use crate::pki::alone;
use crate::signed::{Signed, Trap};

const GOOD: &str = "good.test. 60 IN MX 10 mx2.good.test.\nmx2.good.test. 60 IN A 127.0.0.2\n";
const TRAPPED: &str = "trap.test. 60 IN MX 10 mx2.trap.test.\nmx2.trap.test. 60 IN A 127.0.0.2\n";
/// Clear text is taken: there are no TLSA records, and it takes a denial to know that.
const TAKING: &str = "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n\
    <- 250 ok\n-- silence";

/// Each name hashed so many times more (RFC 5155 section 5).
fn hashed(iterations: u16) -> NxProofKind {
    NxProofKind::Nsec3 {
        algorithm: Nsec3HashAlgorithm::SHA1,
        salt: [0xab].into(),
        iterations,
        opt_out: false,
    }
}

/// A relay that validates, beside the trap.
async fn world(trap: &Trap<'_>, exchanger: &str) -> (World, Signed) {
    let zone = Signed::beside(GOOD, trap).await;
    let world = world_at(
        zone.address,
        vec![vec![script(exchanger)]],
        |_| alone(&["mx2.test"]),
        |config| {
            let anchors = config.state.join("anchors");
            zone.write_anchors(&anchors);
            config.dns.dnssec = Dnssec::Validate;
            config.dns.trust_anchors = Some(anchors);
            config.delivery.idle = std::time::Duration::ZERO;
        },
    );
    (world.await, zone)
}

/// Mail to a domain that is no trap is delivered.
async fn others_are_served(world: &World, why: &str) {
    let good = world.mx(&["b@good.test"]).await;
    assert_eq!(fates(&good), [(Delivered, 250)], "after {why}: {}", words(&good));
}

/// RFC 9276 section 3.2: the zone is then as good as unsigned, and mail goes to it as to any such.
#[tokio::test(flavor = "multi_thread")]
async fn dn4_a_zone_that_hashes_without_end_is_taken_for_an_unsigned_one() {
    let rows = [
        (0, "as RFC 9276 would have it"),
        (100, "the most that is counted out"),
        (101, "one more"),
        (2_500, "the most of RFC 5155 section 10.3"),
        (u16::MAX, "the most that can be written"),
    ];
    for (iterations, why) in rows {
        let trap = Trap { text: TRAPPED, denial: hashed(iterations), keys: 0, signatures: 0 };
        let (world, _zone) = world(&trap, TAKING).await;
        let decided = world.mx(&["b@trap.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{iterations}, {why}: {}", words(&decided));
        others_are_served(&world, why).await;
    }
}

/// Only what is denied takes hashes: what is there is proven as ever.
#[tokio::test(flavor = "multi_thread")]
async fn dn4_the_records_of_a_zone_that_hashes_without_end_are_obeyed() {
    let text = format!("{TRAPPED}_25._tcp.mx2.trap.test. 60 IN TLSA 3 1 1 {}\n", "ab".repeat(32));
    let trap = Trap { text: &text, denial: hashed(2_500), keys: 0, signatures: 0 };
    let (world, _zone) = world(&trap, "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> QUIT\n<- 221 bye").await;
    let decided = world.mx(&["b@trap.test"]).await;
    assert_eq!(decided[0].fate, Deferred);
    assert!(words(&decided).starts_with("4.7.10"), "no clear text: {}", words(&decided));
}

#[tokio::test(flavor = "multi_thread")]
async fn dn4_the_right_key_or_signature_behind_too_many_wrong_ones_is_not_found() {
    let rows = [
        (1, 0, Delivered, "a tag that two keys have by chance"),
        (15, 0, Deferred, "KeyTrap: sixteen keys of one tag"),
        (0, 5, Delivered, "five signatures of a key that is gone"),
        (0, 40, Deferred, "KeyTrap: forty signatures by nobody"),
        (15, 40, Deferred, "KeyTrap: both"),
    ];
    for (keys, signatures, fate, why) in rows {
        let trap = Trap { text: TRAPPED, denial: NxProofKind::Nsec, keys, signatures };
        let (world, _zone) = world(&trap, TAKING).await;
        let decided = world.mx(&["b@trap.test"]).await;
        assert_eq!(decided[0].fate, fate, "{why}: {}", words(&decided));
        if fate == Deferred {
            assert!(words(&decided).starts_with("4.4.3"), "{why}: {}", words(&decided));
            assert_eq!(world.exchangers[0].connections(), 0, "{why}: nobody is connected to");
        }
        others_are_served(&world, why).await;
    }
}
