//! Delivery to exchangers: preference, fallback, null MX, ourselves, inside addresses, kept connections, STARTTLS.

use std::net::SocketAddr;
use std::sync::Arc;

use waxseal::mail::attempt::Fate::{Deferred, Delivered, Failed};
use waxseal::tenant::Route;

use crate::deliver::{BODY, fates, message, words, world, world_with};
use crate::exchanger::{Act, Script, group, loopback, say, script};

/// Greets and offers PIPELINING.
fn hello() -> Script {
    script("<- 220 mx ESMTP\n-> EHLO relay.test\n<- 250-mx\n<- 250 PIPELINING")
}

/// Takes one message for b@b.test.
fn take() -> Script {
    vec![
        group(&["MAIL FROM:<a@acme.test>", "RCPT TO:<b@b.test>", "DATA"]),
        say("250 ok\n250 ok\n354 go"),
        Act::Body,
        say("250 2.0.0 taken"),
    ]
}

fn good() -> Script {
    [hello(), take(), script("-- silence")].concat()
}

fn busy() -> Script {
    script("<- 421 busy\n-- silence")
}

const TWO: &str = "b.test. 60 IN MX 20 mx3.test.\nb.test. 60 IN MX 10 mx2.test.\n";

#[tokio::test]
async fn the_best_preference_is_tried_first() {
    let world = world(TWO, vec![vec![good()], vec![good()]]).await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(fates(&decided), [(Delivered, 250)]);
    assert_eq!(decided[0].hop.host.as_deref(), Some("mx2.test"));
    assert_eq!(decided[0].hop.ip, Some(loopback(2)));
    assert_eq!(world.exchangers[0].bodies(), [[BODY, b".\r\n"].concat()]);
    assert_eq!(world.exchangers[1].connections(), 0);
}

#[tokio::test]
async fn a_host_that_does_not_serve_us_is_passed_over() {
    let rows: [(&str, Vec<Script>); 9] = [
        ("RM3: 554 greeting", vec![script("<- 554 no\n-- silence")]),
        ("RM3: 421 greeting", vec![busy()]),
        ("RM3: HTTP", vec![script("<- HTTP/1.1 400 Bad Request\n-- silence")]),
        ("RM3: TLS octets", vec![vec![Act::Raw(b"\x15\x03\x01\0\x02\x02\n".to_vec()), Act::Silence]]),
        ("closed before the greeting", vec![script("-- reset")]),
        ("nobody listens in a useful way: closed at once", vec![vec![]]),
        ("RM1: mixed codes", vec![script("<- 220-a\n<- 250 b\n-- silence")]),
        ("RM1: a line without end", vec![vec![Act::Raw(vec![b'2'; 1 << 20]), Act::Silence]]),
        (
            "EHLO and HELO refused",
            vec![script("<- 220 mx\n-> EHLO*\n<- 502 no\n-> HELO*\n<- 550 no\n-- silence")],
        ),
    ];
    for (why, bad) in rows {
        let world = world(TWO, vec![bad, vec![good()]]).await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(decided[0].hop.host.as_deref(), Some("mx3.test"), "{why}");
    }
}

#[tokio::test]
async fn when_no_host_serves_us_it_is_deferred() {
    let world = world(TWO, vec![vec![script("<- 554 no\n-- silence")], vec![busy()]]).await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(
        fates(&decided),
        [(Deferred, 421)],
        "RFC 5321 3.1: even where every greeting is 554, only time decides"
    );
}

#[tokio::test]
async fn silence_is_waited_for_and_then_the_next_host_is_tried() {
    let world = world_with(TWO, vec![vec![script("-- silence")], vec![good()]], |config, _| {
        // The good one's, too.
        config.delivery.command_timeout = std::time::Duration::from_secs(6);
        Vec::new()
    })
    .await;
    assert_eq!(fates(&world.mx(&["b@b.test"]).await), [(Delivered, 250)]);
}

#[tokio::test]
async fn what_dns_says_about_the_domain_decides() {
    let zone = "null.test. 60 IN MX 0 .\n\
                bare.test. 60 IN A 127.0.0.2\n\
                cname.test. 60 IN CNAME bare.test.\n\
                lost.test. 60 IN MX 10 gone.test.\n\
                next.test. 60 IN MX 10 gone.test.\nnext.test. 60 IN MX 20 mx2.test.\n\
                text.test. 60 IN TXT \"x\"\n\
                loop.test. 60 IN CNAME pool.test.\npool.test. 60 IN CNAME loop.test.\n";
    let any = || {
        let rest = script(
            "-> MAIL*\n-> RCPT*\n-> DATA\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n<- 250 ok\n-- silence",
        );
        [hello(), rest].concat()
    };
    let rows = [
        ("b@null.test", Failed, "5.1.10", "RFC 7505: null MX, at once"),
        ("b@none.test", Failed, "5.1.2", "no such domain"),
        ("b@bare.test", Delivered, "", "implicit MX"),
        ("b@cname.test", Delivered, "", "a CNAME is followed"),
        ("b@lost.test", Deferred, "4.4.4", "DN7: its exchanger does not exist; a mistake that may be mended"),
        ("b@next.test", Delivered, "", "DN7: the next exchanger does"),
        ("b@text.test", Failed, "5.1.2", "it exists, without MX and address"),
        ("b@loop.test", Deferred, "4.4.3", "DN3: a CNAME loop is no answer"),
    ];
    for (rcpt, fate, code, why) in rows {
        let world = world(zone, vec![vec![any()]]).await;
        let decided = world.mx(&[rcpt]).await;
        assert_eq!(decided[0].fate, fate, "{why}: {}", words(&decided));
        assert!(words(&decided).starts_with(code), "{why}: {}", words(&decided));
    }
}

#[tokio::test]
async fn a_silent_name_server_defers() {
    let hole = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = hole.local_addr().unwrap();
    let world = world_with("", vec![vec![good()]], |config, _| {
        config.dns.servers = vec![address];
        config.dns.timeout = std::time::Duration::from_millis(300);
        Vec::new()
    })
    .await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(fates(&decided), [(Deferred, 0)]);
    assert!(words(&decided).starts_with("4.4.3"), "{}", words(&decided));
}

#[tokio::test]
async fn we_never_connect_to_ourselves() {
    let rows = [
        (10, 20, Failed, "5.4.6", 0, "we are the best exchanger: a loop"),
        (20, 10, Deferred, "", 1, "a better one is tried; when it is busy we are not"),
    ];
    for (ours, theirs, fate, code, connections, why) in rows {
        let zone = format!("b.test. 60 IN MX {ours} mx2.test.\nb.test. 60 IN MX {theirs} mx3.test.\n");
        let world = world_with(&zone, vec![vec![good()], vec![busy()]], |_, port| {
            vec![SocketAddr::new(loopback(2), port)]
        })
        .await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(decided[0].fate, fate, "{why}");
        assert!(words(&decided).starts_with(code), "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "{why}");
        assert_eq!(world.exchangers[1].connections(), connections, "{why}");
    }
}

#[tokio::test]
async fn inside_addresses_are_never_connected_to() {
    for (ip, kind) in [
        ("127.0.0.2", "A"),
        ("10.0.0.1", "A"),
        ("169.254.169.254", "A"),
        ("::1", "AAAA"),
        ("::ffff:127.0.0.2", "AAAA"),
    ] {
        let zone = format!("b.test. 60 IN MX 10 in.test.\nin.test. 60 IN {kind} {ip}\n");
        let world = world_with(&zone, vec![vec![good()]], |config, _| {
            config.delivery.allow_private_destinations = false;
            Vec::new()
        })
        .await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Failed, 0)], "{ip}");
        assert!(words(&decided).starts_with("5.4.4"), "{ip}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "{ip}");
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_message() {
    let script = [hello(), take(), take(), take(), vec![Act::Silence]].concat();
    let world = world(TWO, vec![vec![script], vec![good()]]).await;
    for _ in 0..3 {
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    }
    assert_eq!(world.exchangers[0].connections(), 1);
    world.deliverer.close_idle().await;
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced_without_a_word() {
    let rows = [
        ("reset while idle", [hello(), take(), vec![Act::Reset]].concat()),
        ("421 while idle", [hello(), take(), script("<- 421 idle too long")].concat()),
        ("closed at the next MAIL", [hello(), take(), script("-> MAIL*\n-- reset")].concat()),
        ("421 to the next MAIL", [hello(), take(), script("-> MAIL*\n<- 421 enough\n-- reset")].concat()),
    ];
    for (why, first) in rows {
        let world = world(TWO, vec![vec![first, good()], vec![]]).await;
        for _ in 0..2 {
            let decided = world.mx(&["b@b.test"]).await;
            assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        }
        assert_eq!(world.exchangers[0].connections(), 2, "{why}");
    }
}

#[tokio::test]
async fn an_open_transaction_is_reset_before_the_next() {
    let refused = vec![
        group(&["MAIL FROM:<a@acme.test>", "RCPT TO:<b@b.test>", "DATA"]),
        say("250 ok\n450 later\n503 no rcpt"),
        group(&["RSET", "MAIL FROM:<a@acme.test>", "RCPT TO:<b@b.test>", "DATA"]),
        say("250 ok\n250 ok\n250 ok\n354 go"),
        Act::Body,
        say("250 ok"),
        Act::Silence,
    ];
    let world = world(TWO, vec![vec![[hello(), refused].concat()], vec![]]).await;
    assert_eq!(fates(&world.mx(&["b@b.test"]).await), [(Deferred, 450)]);
    assert_eq!(fates(&world.mx(&["b@b.test"]).await), [(Delivered, 250)]);
}

#[tokio::test]
async fn bodies_arrive_as_they_were_sealed() {
    let body = b".first\r\n..two\r\nmid.dle\r\n.\r\n\r\n.\r\nend\r\n".to_vec();
    let big: Vec<u8> = b".line\r\n".repeat(200_000);
    for body in [body, big] {
        let world = world(TWO, vec![vec![good()], vec![]]).await;
        let decided = world.send(message(&["b@b.test"], &body), &Arc::new(Route::Mx)).await;
        assert_eq!(fates(&decided), [(Delivered, 250)]);
        let text = String::from_utf8(world.exchangers[0].bodies().remove(0)).unwrap();
        let text = text.strip_suffix(".\r\n").unwrap();
        let plain: String =
            text.split_inclusive("\r\n").map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
        assert_eq!(plain.as_bytes(), body);
    }
}

fn starttls() -> Script {
    script("<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS")
}

#[tokio::test]
async fn the_return_path_is_said_instead_of_the_sender() {
    let said = vec![
        group(&["MAIL FROM:<b+token@bounce.acme.test>", "RCPT TO:<b@b.test>", "DATA"]),
        say("250 ok\n250 ok\n354 go"),
        Act::Body,
        say("250 2.0.0 taken"),
        Act::Silence,
    ];
    let world = world(TWO, vec![vec![[hello(), said].concat()], vec![]]).await;
    let mut message = message(&["b@b.test"], BODY);
    message.facts.return_path = Some("b+token@bounce.acme.test".parse().unwrap());
    assert_eq!(fates(&world.send(message, &Arc::new(Route::Mx)).await), [(Delivered, 250)]);
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_and_its_quality_recorded() {
    let secure = script("<- 220 go\n-- tls\n-> EHLO relay.test\n<- 250-mx\n<- 250 PIPELINING");
    let world =
        world(TWO, vec![vec![[starttls(), secure, take(), script("-- silence")].concat()], vec![]]).await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    let tls = decided[0].hop.tls.clone().unwrap();
    assert_eq!(
        (tls.version.as_str(), tls.verified),
        ("TLSv1.3", false),
        "self-signed is good enough, and said"
    );
    assert!(tls.cipher.starts_with("TLS_"), "{}", tls.cipher);
}

#[tokio::test]
async fn without_working_tls_mail_goes_in_clear_text() {
    let plain = "<- 454 not now\n-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
    let rows = [
        ("OB6: 454", 1, vec![[starttls(), script(plain)].concat()]),
        (
            "OB6: garbage for a handshake",
            2,
            vec![[starttls(), script("<- 220 go"), vec![Act::Garble], script("-- reset")].concat(), good()],
        ),
        (
            "OB6: closed in the handshake",
            2,
            vec![[starttls(), script("<- 220 go\n-- reset")].concat(), good()],
        ),
    ];
    for (why, connections, scripts) in rows {
        let world = world(TWO, vec![scripts, vec![]]).await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(decided[0].hop.tls, None, "{why}");
        assert_eq!(world.exchangers[0].connections(), connections, "{why}");
    }
}

#[tokio::test]
async fn what_is_injected_behind_starttls_is_not_believed() {
    let injected = [starttls(), script("<- 220 go\n<- 250-evil\n<- 250 AUTH PLAIN\n-- silence")].concat();
    let world = world(TWO, vec![vec![injected], vec![]]).await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(decided[0].fate, Deferred, "TL8, CVE-2021-38371");
}
