//! What a class needs of TLS is obeyed: no clear text, no certificate that is not good, the next host, and in the end a wait.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::mail::message::TlsNeed::{Required, Usual, Verified};
use waxseal::tenant::{Route, UpstreamTls};

use crate::deliver::{BODY, fates, message, words, world, world_serving};
use crate::exchanger::{Act, Script, script};
use crate::pki::{Authority, Served, alone};

const TWO: &str = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 20 mx3.test.\n";
const TAKE: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";

/// Never offers STARTTLS, and hears no MAIL.
fn clear() -> Script {
    script("<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 PIPELINING\n-> QUIT\n<- 221 bye")
}

/// Offers STARTTLS; then this.
fn starttls(rest: &str) -> Script {
    script(&format!("<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n{rest}"))
}

/// Takes one message under TLS.
fn secure() -> Script {
    starttls(&format!("<- 220 go\n-- tls\n-> EHLO relay.test\n<- 250 mx\n{TAKE}"))
}

#[tokio::test]
async fn clear_text_is_nothing_for_mail_that_needs_tls() {
    let garbage = [starttls("<- 220 go"), vec![Act::Garble], script("-- reset")].concat();
    let rows = [
        ("not offered", vec![clear()], "4.7.10"),
        (
            "454",
            vec![starttls("<- 454 4.7.0 not now\n-> QUIT\n<- 221 bye")],
            "4.7.10 STARTTLS is refused: 454 ",
        ),
        ("OB6: garbage for a handshake, and no second try without", vec![garbage], "4.7.5"),
    ];
    for need in [Required, Verified] {
        for (why, scripts, said) in &rows {
            let world = world(TWO, vec![scripts.clone(), scripts.clone()]).await;
            let decided = world.needing(need).await;
            assert_eq!(decided[0].fate, Deferred, "{why}");
            assert!(words(&decided).starts_with(said), "{why}: {}", words(&decided));
            assert!(
                words(&decided).contains("the class of this mail needs TLS"),
                "{why}: {}",
                words(&decided)
            );
            for exchanger in &world.exchangers {
                assert_eq!(exchanger.connections(), 1, "{why}: each host once");
            }
        }
    }
}

#[tokio::test]
async fn the_next_host_may_do_better() {
    let world = world(TWO, vec![vec![clear()], vec![secure()]]).await;
    let decided = world.needing(Required).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert_eq!(decided[0].hop.host.as_deref(), Some("mx3.test"));
    assert!(decided[0].hop.tls.is_some());
}

/// Makes a certificate.
type Make = fn(&Authority) -> Served;

#[tokio::test]
async fn verified_is_a_good_chain_and_the_exchangers_name() {
    let authority = Authority::new();
    let rows: [(&str, Make, bool, &str); 4] = [
        ("good", |authority: &Authority| authority.issue(&["mx2.test"]), true, ""),
        ("another name", |authority: &Authority| authority.issue(&["mx9.test"]), false, "not valid for name"),
        ("expired", |authority: &Authority| authority.expired(&["mx2.test"]), false, "expired"),
        ("self-signed", |_: &Authority| alone(&["mx2.test"]), false, "UnknownIssuer"),
    ];
    for (why, served, good, said) in rows {
        let one = "b.test. 60 IN MX 10 mx2.test.\n";
        let scripts = vec![vec![secure()]];
        let mut world = world_serving(one, scripts.clone(), |_| served(&authority)).await;
        world.trust(&authority.pem());
        let decided = world.needing(Verified).await;
        let verified = decided[0].hop.tls.as_ref().map(|tls| tls.verified);
        if good {
            assert_eq!((decided[0].fate, verified), (Delivered, Some(true)), "{why}: {}", words(&decided));
            continue;
        }
        assert_eq!((decided[0].fate, verified), (Deferred, None), "{why}");
        assert!(words(&decided).starts_with("4.7.5 mx2.test: "), "{why}: {}", words(&decided));
        assert!(words(&decided).contains(said), "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].bodies(), [[0_u8; 0]; 0], "{why}: nothing was sent");

        let mut world = world_serving(one, scripts, |_| served(&authority)).await;
        world.trust(&authority.pem());
        assert_eq!(world.needing(Required).await[0].fate, Delivered, "{why}: TLS is TLS");
    }
}

#[tokio::test]
async fn a_connection_that_was_not_verified_is_not_used_again_where_it_must_be() {
    let world = world(TWO, vec![vec![secure()], vec![secure()]]).await;
    assert_eq!(world.needing(Usual).await[0].fate, Delivered, "an unknown root is good enough");
    assert_eq!(world.needing(Verified).await[0].fate, Deferred);
    assert_eq!(world.exchangers[0].connections(), 2);
}

#[tokio::test]
async fn an_upstream_in_clear_text_gets_no_mail_that_needs_tls() {
    let world = world("", vec![vec![script("-- silence")]]).await;
    let route = Arc::new(Route::Upstream(world.upstream(UpstreamTls::None, false)));
    let mut message = message(&["b@b.test"], BODY);
    message.facts.needs.tls = Required;
    let decided = world.send(message, &route).await;
    assert_eq!(fates(&decided), [(Deferred, 0)]);
    assert!(
        words(&decided).starts_with("4.7.10 the tenant's route says tls = \"none\""),
        "{}",
        words(&decided)
    );
    assert_eq!(world.exchangers[0].connections(), 0, "nobody is even asked");
}
