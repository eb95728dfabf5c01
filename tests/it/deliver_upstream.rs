//! Delivery through a tenant's own server: the three methods, AUTH, and credentials that go nowhere they should not.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::mail::attempt::Login;
use waxseal::tenant::{Route, Upstream, UpstreamTls};

use crate::deliver::{BODY, World, fates, message, words, world, world_with};
use crate::exchanger::{Script, script};

const MAIL: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
/// `\0user\0secret`.
const PLAIN: &str = "-> AUTH PLAIN AHVzZXIAc2VjcmV0\n<- 235 ok\n";
const LOGIN: &str =
    "-> AUTH LOGIN\n<- 334 VXNlcm5hbWU6\n-> dXNlcg==\n<- 334 UGFzc3dvcmQ6\n-> c2VjcmV0\n<- 235 ok\n";

fn offers(keyword: &str) -> String {
    format!("-> EHLO relay.test\n<- 250-up\n<- 250 {keyword}\n")
}

fn clear(rest: &str) -> Script {
    script(&format!("<- 220 up\n{rest}"))
}

fn starttls(rest: &str) -> Script {
    script(&format!("<- 220 up\n{}-> STARTTLS\n<- 220 go\n-- tls\n{rest}", offers("STARTTLS")))
}

async fn attempt(
    scripts: Vec<Script>,
    make: impl FnOnce(&World) -> Upstream,
) -> (World, Vec<waxseal::mail::attempt::Decided>) {
    let world = world("", vec![scripts]).await;
    let route = Arc::new(Route::Upstream(make(&world)));
    let decided = world.send(message(&["b@b.test"], BODY), &route).await;
    (world, decided)
}

/// Trusts the exchanger's certificate, by name.
fn trusting(world: &World, upstream: Upstream) -> Upstream {
    let file = world.config.state.join("ca.pem");
    std::fs::write(&file, &world.exchangers[0].certificate).unwrap();
    Upstream { ca_file: Some(file), ..upstream }
}

#[tokio::test]
async fn clear_text_without_credentials() {
    let (_world, decided) = attempt(vec![clear(&format!("{}{MAIL}", offers("HELP")))], |world| {
        world.upstream(UpstreamTls::None, false)
    })
    .await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert_eq!(decided[0].hop.route, "upstream");
}

#[tokio::test]
async fn the_password_travels_in_clear_text_only_where_the_tenant_says_so() {
    let rows = [
        (true, Delivered, format!("{}{PLAIN}{MAIL}", offers("AUTH PLAIN LOGIN"))),
        (false, Deferred, format!("{}-> QUIT\n<- 221 bye\n", offers("AUTH PLAIN LOGIN"))),
    ];
    for (allowed, fate, rest) in rows {
        let (_world, decided) = attempt(vec![clear(&rest)], |world| Upstream {
            cleartext_auth: allowed,
            ..world.upstream(UpstreamTls::None, true)
        })
        .await;
        assert_eq!(decided[0].fate, fate, "{}", words(&decided));
    }
}

async fn by_name(
    scripts: Vec<Script>,
    tls: UpstreamTls,
    trusted: bool,
) -> (World, Vec<waxseal::mail::attempt::Decided>) {
    let zone = "up.test. 60 IN A 127.0.0.2\nother.test. 60 IN A 127.0.0.2\n";
    let world = world(zone, vec![scripts]).await;
    let mut upstream = Upstream { host: "up.test".into(), ..world.upstream(tls, true) };
    if trusted {
        upstream = trusting(&world, upstream);
    }
    let decided = world.send(message(&["b@b.test"], BODY), &Arc::new(Route::Upstream(upstream))).await;
    (world, decided)
}

#[tokio::test]
async fn starttls_and_implicit_tls_with_plain_and_login() {
    let implicit = |rest: &str| script(&format!("-- tls\n<- 220 up\n{rest}"));
    let rows = [
        (
            UpstreamTls::Starttls,
            starttls(&format!("{}{PLAIN}{MAIL}", offers("AUTH PLAIN LOGIN"))),
            "PLAIN first",
        ),
        (
            UpstreamTls::Starttls,
            starttls(&format!("{}{LOGIN}{MAIL}", offers("AUTH LOGIN"))),
            "OB7: only LOGIN",
        ),
        (
            UpstreamTls::Implicit,
            implicit(&format!("{}{PLAIN}{MAIL}", offers("AUTH=PLAIN"))),
            "the old spelling",
        ),
        (
            UpstreamTls::Implicit,
            implicit(&format!("{}{LOGIN}{MAIL}", offers("AUTH CRAM-MD5 LOGIN"))),
            "what we know of them",
        ),
    ];
    for (tls, play, why) in rows {
        let (_world, decided) = by_name(vec![play], tls, true).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert!(decided[0].hop.tls.as_ref().unwrap().verified, "{why}");
    }
}

#[tokio::test]
async fn no_credential_is_sent_to_a_server_that_is_not_the_upstream() {
    let rows = [
        ("OB7: the certificate is nobody's", vec![starttls("-- hangup")], UpstreamTls::Starttls),
        (
            "OB7: the same with implicit TLS",
            vec![script("-- tls\n<- 220 up\n-- hangup")],
            UpstreamTls::Implicit,
        ),
        (
            "OB7: STARTTLS stripped",
            vec![clear(&format!("{}-> QUIT", offers("AUTH PLAIN")))],
            UpstreamTls::Starttls,
        ),
        (
            "OB7: STARTTLS refused",
            vec![clear(&format!("{}-> STARTTLS\n<- 454 no\n-> QUIT", offers("STARTTLS")))],
            UpstreamTls::Starttls,
        ),
        (
            "TL8: injected behind 220",
            vec![clear(&format!(
                "{}-> STARTTLS\n<- 220 go\n<- 250-fake\n<- 250 AUTH PLAIN\n-- hangup",
                offers("STARTTLS")
            ))],
            UpstreamTls::Starttls,
        ),
    ];
    for (why, play, tls) in rows {
        let (world, decided) = by_name(play, tls, false).await;
        assert_eq!(decided[0].fate, Deferred, "{why}: the tenant can mend it");
        assert!(world.exchangers[0].lines().iter().all(|line| !line.starts_with("AUTH")), "{why}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_refused() {
    let world = world("other.test. 60 IN A 127.0.0.2\n", vec![vec![starttls("-- hangup")]]).await;
    let upstream = Upstream { host: "other.test".into(), ..world.upstream(UpstreamTls::Starttls, true) };
    let upstream = trusting(&world, upstream);
    let decided = world.send(message(&["b@b.test"], BODY), &Arc::new(Route::Upstream(upstream))).await;
    assert_eq!(decided[0].fate, Deferred, "RM12, OB7");
    assert!(words(&decided).starts_with("4.7.5"), "{}", words(&decided));
}

#[tokio::test]
async fn refused_credentials_defer_and_say_what_to_do() {
    let auth = offers("AUTH PLAIN");
    for (code, why) in [(535, "OB7: wrong"), (454, "OB7: not now"), (534, "too weak"), (530, "needs more")] {
        let play = format!("{auth}-> AUTH*\n<- {code} 5.7.8 no\n-> QUIT\n<- 221 bye");
        let (world, decided) = attempt(vec![clear(&play)], |world| Upstream {
            cleartext_auth: true,
            ..world.upstream(UpstreamTls::None, true)
        })
        .await;
        assert_eq!(fates(&decided), [(Deferred, code)], "{why}");
        assert_eq!(
            world.exchangers[0].connections(),
            1,
            "{why}: one guess an attempt, or the account is locked"
        );
        assert!(code == 454 || words(&decided).contains("tenant's route"), "{}", words(&decided));
    }
}

#[tokio::test]
async fn connections_belong_to_tenant_and_credentials() {
    let one = "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n";
    let play = clear(&format!("{}{PLAIN}{one}{one}-- silence", offers("AUTH PLAIN")));
    let other = clear(&format!("{}-> AUTH*\n<- 235 ok\n{one}-- silence", offers("AUTH PLAIN")));
    let world = world("", vec![vec![play, other.clone(), other]]).await;
    let upstream = Upstream { cleartext_auth: true, ..world.upstream(UpstreamTls::None, true) };
    let route = Arc::new(Route::Upstream(upstream.clone()));
    let again = Arc::new(Route::Upstream(upstream.clone()));
    let changed = Upstream { credentials: Some(("user".into(), "new".to_owned().into())), ..upstream };
    let changed = Arc::new(Route::Upstream(changed));
    let mut jobs = [&route, &again, &changed, &route]
        .map(|route| crate::deliver::job(message(&["b@b.test"], BODY), route));
    jobs[3].tenant = "other".into();
    // A kept session says nothing of the password: it may have been changed since.
    let logins = [Login::Accepted, Login::None, Login::Accepted, Login::Accepted];
    for ((job, connections), login) in jobs.iter().zip([1, 1, 2, 3]).zip(logins) {
        let mut decided = Vec::new();
        let mut witness = |more| decided.extend::<Vec<_>>(more);
        world.deliverer.attempt(job, &mut witness).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), connections);
        assert_eq!(decided[0].hop.login, login, "{connections}");
    }
}

#[tokio::test]
async fn an_upstream_that_is_an_inside_address_or_ourselves_is_not_connected_to() {
    for own in [false, true] {
        let world = world_with("", vec![vec![clear("-- hangup")]], |config, port| {
            config.delivery.allow_private_destinations = own;
            if own { vec![format!("127.0.0.2:{port}").parse().unwrap()] } else { Vec::new() }
        })
        .await;
        let upstream = world.upstream(UpstreamTls::None, false);
        let decided = world.send(message(&["b@b.test"], BODY), &Arc::new(Route::Upstream(upstream))).await;
        assert_eq!(decided[0].fate, Deferred, "OB8: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "OB8");
    }
}

/// RFC 4954 section 4: that is a mistake of the server's, and no word on the password.
#[tokio::test]
async fn a_server_that_asks_for_more_than_plain_has_refuses_no_password() {
    let play = format!(
        "{}{}",
        offers("AUTH PLAIN"),
        "-> AUTH*\n<- 334 \n-> *\n<- 501 5.7.0 cancelled\n-> QUIT\n<- 221 bye"
    );
    let (world, decided) = attempt(vec![clear(&play)], |world| Upstream {
        cleartext_auth: true,
        ..world.upstream(UpstreamTls::None, true)
    })
    .await;
    assert_eq!(decided[0].fate, Deferred);
    assert!(matches!(decided[0].hop.login, Login::None), "{}", words(&decided));
    assert!(words(&decided).ends_with("said: 501 5.7.0 cancelled"), "{}", words(&decided));
    assert_eq!(world.exchangers[0].lines()[2], "*", "cancelled");
}

/// A connection lost at EHLO says nothing of what the server offers, and HELO would offer nothing.
#[tokio::test]
async fn an_upstream_that_hangs_up_at_ehlo_is_not_told_to_offer_nothing() {
    let lost = script("<- 220 up\n-> EHLO*\n-- reset");
    for (tls, credentials, why) in
        [(UpstreamTls::Starttls, false, "STARTTLS"), (UpstreamTls::None, true, "AUTH")]
    {
        let (world, decided) = attempt(vec![lost.clone()], |world| Upstream {
            cleartext_auth: true,
            ..world.upstream(tls, credentials)
        })
        .await;
        assert_eq!(decided[0].fate, Deferred, "{why}");
        assert!(words(&decided).starts_with("4.4.2"), "{why}: {}", words(&decided));
        assert!(matches!(decided[0].hop.login, Login::None), "{why}: nobody is told");
        assert_eq!(world.exchangers[0].connections(), 1, "{why}: HELO is not tried");
    }
}

#[tokio::test]
async fn starttls_that_is_refused_for_now_is_nothing_to_tell_the_tenant() {
    for (code, withheld) in [(454, false), (502, true)] {
        let refused = format!("{}-> STARTTLS\n<- {code} no\n-> QUIT", offers("STARTTLS"));
        let (_world, decided) =
            attempt(vec![clear(&refused)], |world| world.upstream(UpstreamTls::Starttls, true)).await;
        assert_eq!(decided[0].fate, Deferred, "{code}");
        assert_eq!(matches!(decided[0].hop.login, Login::Withheld), withheld, "{code}: {}", words(&decided));
    }
}

#[tokio::test]
async fn a_password_whose_answer_was_lost_is_not_tried_at_the_next_address() {
    let zone = "up.test. 60 IN A 127.0.0.2\nup.test. 60 IN A 127.0.0.3\n";
    let lost = clear(&format!("{}-> AUTH*\n-- reset", offers("AUTH PLAIN")));
    let world = world(zone, vec![vec![lost.clone()], vec![lost]]).await;
    let upstream = world.upstream(UpstreamTls::None, true);
    let upstream = Upstream { host: "up.test".into(), cleartext_auth: true, ..upstream };
    let route = Arc::new(Route::Upstream(upstream));
    for why in ["one guess an attempt, or the account is locked", "and none before it is let alone"] {
        let decided = world.send(message(&["b@b.test"], BODY), &route).await;
        assert_eq!(decided[0].fate, Deferred, "{why}");
        assert!(words(&decided).contains("awaiting the reply to AUTH"), "{why}: {}", words(&decided));
        let guesses: usize = world.exchangers.iter().map(|one| one.connections()).sum();
        assert_eq!(guesses, 1, "{why}");
    }
}
