//! Where connections to exchangers come from, and how long one serves.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::tenant::Route;

use crate::deliver::{BODY, fates, job, message, words, world, world_with};
use crate::exchanger::{Act, Script, group, loopback, say, script};

const ZONE: &str = "b.test. 60 IN MX 10 mx2.test.\n";

fn hello() -> Script {
    script("<- 220 mx ESMTP\n-> EHLO relay.test\n<- 250-mx\n<- 250 PIPELINING")
}

fn take() -> Script {
    vec![
        group(&["MAIL FROM:<a@acme.test>", "RCPT TO:<b@b.test>", "DATA"]),
        say("250 ok\n250 ok\n354 go"),
        Act::Body,
        say("250 2.0.0 taken"),
    ]
}

fn taking(messages: usize) -> Script {
    let mut script = hello();
    script.extend((0..messages).flat_map(|_| take()));
    script.push(Act::Silence);
    script
}

#[tokio::test]
async fn connections_come_from_the_configured_source() {
    for (sources, expected, why) in [
        (vec!["127.0.0.9".parse().unwrap()], loopback(9), "the one address"),
        (vec!["::1".parse().unwrap(), "127.0.0.9".parse().unwrap()], loopback(9), "the one of its family"),
    ] {
        let world = world_with(ZONE, vec![vec![taking(1)]], |config, _| {
            config.delivery.sources = sources;
            Vec::new()
        })
        .await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].peers(), [expected], "{why}");
    }
}

#[tokio::test]
async fn a_source_greets_with_its_own_name_and_serves_its_own() {
    let greeting = |name: &str| {
        let mut acts = script(&format!("<- 220 mx ESMTP\n-> EHLO {name}\n<- 250-mx\n<- 250 PIPELINING"));
        acts.extend(take());
        acts.push(Act::Silence);
        acts
    };
    for (tenants, expected, name, why) in [
        (vec!["acme".to_owned()], loopback(9), "out9.test", "its tenant's mail"),
        (vec!["blue".to_owned()], loopback(8), "relay.test", "another tenant's source is not for it"),
    ] {
        let world = world_with(ZONE, vec![vec![greeting(name)]], |config, _| {
            config.delivery.sources = vec!["127.0.0.8".parse().unwrap(), "127.0.0.9".parse().unwrap()];
            config.delivery.source = vec![waxseal::config::Source {
                address: "127.0.0.9".parse().unwrap(),
                hostname: "out9.test".parse().unwrap(),
                tenants,
                classes: Vec::new(),
            }];
            Vec::new()
        })
        .await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].peers(), [expected], "{why}");
        assert_eq!(decided[0].hop.source, Some(expected), "{why}");
    }
}

/// Another address would leave from one that SPF does not name: rather not at all.
#[tokio::test]
async fn without_a_source_that_can_be_used_mail_is_put_off() {
    for (source, why) in
        [("::1", "no source of the exchanger's family"), ("192.0.2.1", "not an address of ours")]
    {
        let world = world_with(ZONE, vec![vec![taking(1)]], |config, _| {
            config.delivery.sources = vec![source.parse().unwrap()];
            Vec::new()
        })
        .await;
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(decided[0].fate, Deferred, "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "{why}");
    }
}

#[tokio::test]
async fn after_a_hundred_messages_a_connection_is_closed() {
    let full: Script = {
        let mut acts = hello();
        acts.extend((0..100).flat_map(|_| take()));
        acts.extend(script("-> QUIT\n<- 221 bye"));
        acts
    };
    let world = world(ZONE, vec![vec![full, taking(1)]]).await;
    for n in 1..=101 {
        let decided = world.mx(&["b@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{n}: {}", words(&decided));
        let connections = if n > 100 { 2 } else { 1 };
        assert_eq!(world.exchangers[0].connections(), connections, "{n}");
    }
}

/// An IPv6 source that the sender's SPF does not name is used where there is no other way, and nowhere else.
#[tokio::test]
async fn an_ipv6_source_that_spf_does_not_name_comes_last() {
    let zone = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 10 six.test.\nsix.test. 60 IN AAAA ::1\n\
                c.test. 60 IN MX 10 six.test.\n";
    let once = [hello(), take(), script("-> QUIT\n<- 221 bye")].concat();
    let world = world_with(zone, vec![vec![once; 100]], |config, _| {
        config.delivery.sources = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        config.delivery.idle = std::time::Duration::ZERO;
        Vec::new()
    })
    .await;
    // It hangs up before it greets, and the other exchanger gets the mail.
    let six = tokio::net::TcpListener::bind(("::1", world.port)).await.unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = six.accept().await {
            count.send_modify(|count| *count += 1);
            drop(stream);
        }
    });
    let attempt = async |to: &str, unnamed: &[&str]| {
        let mut job = job(message(&[to], BODY), &Arc::new(Route::Mx));
        job.unnamed = unnamed.iter().map(|address| address.parse().unwrap()).collect();
        let mut decided = Vec::new();
        world.deliverer.attempt(&job, &mut |mut some: Vec<_>| decided.append(&mut some)).await;
        decided
    };
    for _ in 0..12 {
        assert_eq!(fates(&attempt("b@b.test", &["::1"]).await), [(Delivered, 250)]);
    }
    assert_eq!(*counted.borrow(), 0, "IPv4 is another way");
    assert_eq!(attempt("b@c.test", &["::1"]).await[0].fate, Deferred);
    assert_eq!(*counted.borrow(), 1, "there is no other way");
    let mut tries = 0;
    while *counted.borrow() == 1 {
        assert_eq!(fates(&attempt("b@b.test", &[]).await), [(Delivered, 250)]);
        tries += 1;
        assert!(tries < 80, "named, it is as good as any");
    }
}

#[tokio::test]
async fn whether_an_address_leads_back_to_itself() {
    let reverse = |last: &str| {
        format!("{last}.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.")
    };
    let zone = [
        format!("{} 60 IN PTR good.test.\ngood.test. 60 IN AAAA 2001:db8::1\n", reverse("1")),
        format!("{} 60 IN PTR other.test.\nother.test. 60 IN AAAA 2001:db8::9\n", reverse("2")),
        format!("{} 60 IN PTR nobody.test.\n", reverse("3")),
    ];
    let world = world(&zone.concat(), vec![vec![]]).await;
    for (address, expected, why) in [
        ("2001:db8::1", true, "there and back"),
        ("2001:db8::2", false, "to another address"),
        ("2001:db8::3", false, "to nobody"),
        ("2001:db8::4", false, "nowhere"),
    ] {
        let known = async || loop {
            match world.deliverer.leads_back(address.parse().unwrap()) {
                Some(known) => break known,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(known().await, expected, "{why}");
    }
}
