//! Where connections to exchangers come from, and how long one serves.

use waxseal::mail::attempt::Fate::{Deferred, Delivered};

use crate::deliver::{fates, words, world, world_with};
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
