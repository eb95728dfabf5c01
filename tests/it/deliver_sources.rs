//! Where connections to exchangers come from, and how long one serves.

use std::sync::Arc;

use waxseal::mail::attempt::Decided;
use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::tenant::Route;

use crate::deliver::{BODY, World, fates, job, message, words, world, world_with};
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

/// Bug: what the last host is for us, one that cannot be asked from here, stood for what the others had said.
#[tokio::test]
async fn a_host_that_cannot_be_asked_from_here_hides_no_reply() {
    let zone = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 20 six.test.\nsix.test. 60 IN AAAA ::ffff:127.0.0.7\n";
    let world = world_with(zone, vec![vec![script("<- 421 4.3.2 too busy")]], |config, _| {
        config.delivery.sources = vec!["127.0.0.1".parse().unwrap()];
        Vec::new()
    })
    .await;
    let decided = world.mx(&["b@b.test"]).await;
    assert_eq!(fates(&decided), [(Deferred, 421)], "{}", words(&decided));
    assert_eq!(decided[0].hop.host.as_deref(), Some("mx2.test"));
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

/// Exchangers of one preference by IPv4 and by IPv6, and one that has IPv6 alone.
const BOTH: &str = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 10 six.test.\nsix.test. 60 IN AAAA ::ffff:127.0.0.7\n\
                    c.test. 60 IN MX 10 six.test.\n";

/// An IPv6 address on loopback that can have a reverse record: of `::1` every resolver knows by itself that it leads back.
const SIX: &str = "::ffff:127.0.0.9";

/// Where that stands.
const REVERSE: &str = "9.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.";

/// Sources of both families. The exchanger that is reached by IPv6 hangs up before it greets, and the other one gets the mail.
struct Families {
    world: World,
    six: tokio::sync::watch::Receiver<u32>,
}

impl Families {
    async fn new(zone: &str) -> Self {
        let once = [hello(), take(), script("-> QUIT\n<- 221 bye")].concat();
        let world = world_with(&format!("{BOTH}{zone}"), vec![vec![once; 100]], |config, _| {
            config.delivery.sources = vec!["127.0.0.1".parse().unwrap(), SIX.parse().unwrap()];
            config.delivery.idle = std::time::Duration::ZERO;
            Vec::new()
        })
        .await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.7", world.port)).await.unwrap();
        let (count, six) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                drop(stream);
            }
        });
        Self { world, six }
    }

    fn tries(&self) -> u32 {
        *self.six.borrow()
    }

    async fn attempt(&self, to: &str, unnamed: &[&str]) -> Vec<Decided> {
        let mut job = job(message(&[to], BODY), &Arc::new(Route::Mx));
        job.unnamed = unnamed.iter().map(|address| address.parse().unwrap()).collect();
        self.world.attempt(&job).await
    }

    /// Used where there is no other way, and nowhere else.
    async fn comes_last(&self, unnamed: &[&str]) {
        for _ in 0..12 {
            assert_eq!(fates(&self.attempt("b@b.test", unnamed).await), [(Delivered, 250)]);
        }
        assert_eq!(self.tries(), 0, "IPv4 is another way");
        assert_eq!(self.attempt("b@c.test", unnamed).await[0].fate, Deferred);
        assert_eq!(self.tries(), 1, "there is no other way");
    }

    async fn is_as_good_as_any(&self) {
        let (before, mut tries) = (self.tries(), 0);
        while self.tries() == before {
            assert_eq!(fates(&self.attempt("b@b.test", &[]).await), [(Delivered, 250)]);
            tries += 1;
            assert!(tries < 80, "one of two, at random");
        }
    }

    /// What DNS says of the reverse record, once it has said it.
    async fn leads_back(&self) -> bool {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            match self.world.deliverer.leads_back(SIX.parse().unwrap()) {
                Some(known) => break known,
                None => tokio::task::yield_now().await,
            }
            assert!(std::time::Instant::now() < deadline, "DNS does not say");
        }
    }
}

#[tokio::test]
async fn an_ipv6_source_that_spf_does_not_name_comes_last() {
    let families = Families::new("").await;
    families.comes_last(&[SIX]).await;
}

#[tokio::test]
async fn an_ipv6_source_whose_reverse_record_does_not_lead_back_comes_last() {
    for (zone, why) in [
        ("", "it has none"),
        ("ONE 60 IN PTR six.other.test.\nsix.other.test. 60 IN AAAA 2001:db8::1\n", "to another address"),
        ("ONE 60 IN PTR nobody.test.\n", "to a name that does not exist"),
    ] {
        let families = Families::new(&zone.replace("ONE", REVERSE)).await;
        assert!(!families.leads_back().await, "{why}");
        families.comes_last(&[]).await;
    }
}

#[tokio::test]
async fn an_ipv6_source_that_leads_back_is_as_good_as_any() {
    let zone = format!("{REVERSE} 60 IN PTR out.test.\nout.test. 60 IN AAAA {SIX}\n");
    let families = Families::new(&zone).await;
    assert!(families.leads_back().await);
    families.is_as_good_as_any().await;
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
