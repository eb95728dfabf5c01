//! Which of our IPv6 addresses an attempt is told to come from last: what the sender's SPF says of each, read from a real name server.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use waxseal::clock::Clock;
use waxseal::config::Dns;
use waxseal::deliver::{Job, Witness};
use waxseal::dns::Resolver;
use waxseal::mail::attempt::{Decided, Fate, Hop, Timings};
use waxseal::mail::message::Facts;
use waxseal::mail::reply::{Enhanced, PeerReply};
use waxseal::queue::store::Turns;
use waxseal::sandbox::zone::Zone;
use waxseal::schedule::{Courier, Scheduler};
use waxseal::seal::outlook::Outlook;
use waxseal::seal::survey::Wanted;

use crate::rig::{Rig, patiently};
use crate::vouching::{Finding, Finds, Vouching};

const TURNS: Turns = Turns { per_destination: 1, total: 1 };
const NAMED: &str = "2001:db8::1";
const OTHER: &str = "2001:db8::2";
/// No mail leaves by IPv6 from here, whatever SPF says of it.
const FOUR: &str = "192.0.2.1";

/// Delivers everything, and tells which addresses it was to come from last.
struct Listener(mpsc::UnboundedSender<Vec<IpAddr>>);

impl Courier for Listener {
    fn attempt<'a>(
        &'a self,
        job: &'a Job,
        witness: Witness<'a>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            witness.begins();
            self.0.send(job.unnamed.clone()).unwrap();
            let reply = PeerReply { code: 250, enhanced: Some(Enhanced(2, 0, 0)), text: "ok".into() };
            let one = |rcpt: &u16| Decided {
                rcpt: *rcpt,
                fate: Fate::Delivered,
                reply: reply.clone(),
                hop: Hop { route: "mx", ..Hop::default() },
                ms: Timings::default(),
            };
            witness.decided(job.leg.rcpts.iter().map(one).collect());
        })
    }
}

/// For names that are answered, and for one that is not.
const PATIENT: Duration = Duration::from_secs(20);
const HASTY: Duration = Duration::from_secs(1);

/// Asks DNS about these names, then sends one mail; answers which addresses its attempt was told of.
async fn told(zone: &str, looked_at: &[&str], change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let zone = Zone::start(zone).await.unwrap();
    told_by(zone.address(), PATIENT, looked_at, change).await
}

/// Asks this server, and waits so long for each answer.
async fn told_by(
    server: SocketAddr,
    timeout: Duration,
    looked_at: &[&str],
    change: impl FnOnce(&mut Facts),
) -> Vec<String> {
    let rig = Rig::new(TURNS);
    let sources: Vec<IpAddr> = [FOUR, NAMED, OTHER].map(|ip| ip.parse().unwrap()).into();
    rig.configure(|config| config.delivery.sources = sources.clone());
    let dns = Dns { servers: vec![server], timeout, ..Dns::default() };
    let outlook = Outlook::new(Resolver::new(&dns).unwrap(), Clock::Set(Arc::clone(&rig.hand)));
    for name in looked_at {
        let hostname = "relay.test".parse().unwrap();
        let domain = name.parse().unwrap();
        outlook.look(&Wanted { domain, selectors: Vec::new(), egress: sources.clone(), hostname }).await;
    }
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut parts = rig.parts(Arc::new(Listener(sender)));
    parts.outlook = Arc::new(outlook);
    let scheduler = Scheduler::start(parts);
    assert!(rig.list().await.is_empty(), "the index is there");
    rig.accept_with("acme", &["d@there.test"], change).await;
    scheduler.nudge();
    let unnamed = patiently(seen.recv()).await.unwrap();
    patiently(scheduler.drain()).await.unwrap();
    unnamed.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ipv6_address_that_spf_does_not_pass_comes_last() {
    let rows: [(&str, &[&str], &str); 9] = [
        ("acme.test. 60 IN TXT \"v=spf1 ip6:2001:db8::/64 -all\"", &[], "both are named"),
        ("acme.test. 60 IN TXT \"v=spf1 ip6:2001:db8::1 -all\"", &[OTHER], "one is named: fail"),
        ("acme.test. 60 IN TXT \"v=spf1 ip6:2001:db8::2 ~all\"", &[NAMED], "the other is named: softfail"),
        ("acme.test. 60 IN TXT \"v=spf1 ip4:192.0.2.1 ?all\"", &[NAMED, OTHER], "IPv4 alone: neutral"),
        ("acme.test. 60 IN TXT \"v=spf1 -all\"", &[NAMED, OTHER], "nobody: of the IPv4 one nothing is said"),
        ("acme.test. 60 IN MX 1 mx.acme.test.", &[NAMED, OTHER], "no SPF: Google asks for it over IPv6"),
        ("acme.test. 60 IN TXT \"v=spf1 ip6:2001:db8::/200 -all\"", &[NAMED, OTHER], "permerror"),
        (
            "acme.test. 60 IN TXT \"v=spf1 include:out.test -all\"\nout.test. 60 IN TXT \"v=spf1 ip6:2001:db8::/64 -all\"",
            &[],
            "named by an include",
        ),
        (
            "acme.test. 60 IN TXT \"v=spf1 a:out.test -all\"\nout.test. 60 IN AAAA 2001:db8::2",
            &[NAMED],
            "named by its own AAAA record",
        ),
    ];
    for (zone, expected, why) in rows {
        assert_eq!(told(&format!("{zone}\n"), &["acme.test"], |_| ()).await, expected, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spf_is_read_at_the_reverse_path_that_receivers_see() {
    let zone = "acme.test. 60 IN TXT \"v=spf1 ip6:2001:db8::/64 -all\"\nbounce.acme.test. 60 IN TXT \"v=spf1 -all\"\n";
    let both = ["acme.test", "bounce.acme.test"];
    let returning = |facts: &mut Facts| facts.return_path = Some("b@bounce.acme.test".parse().unwrap());
    assert_eq!(told(zone, &both, returning).await, [NAMED, OTHER], "the return path's");
    assert!(told(zone, &both, |_| ()).await.is_empty(), "the sender's own, where there is no return path");
}

/// A guess holds nothing back: what nobody has looked at, or DNS does not say, counts as named.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_counts_as_named() {
    let zone = "acme.test. 60 IN TXT \"v=spf1 -all\"\n";
    assert!(told(zone, &[], |_| ()).await.is_empty(), "nobody has looked at it");
    assert!(told(zone, &["acme.test"], |facts| facts.envelope.from = None).await.is_empty(), "no sender");
    let silent =
        "acme.test. 60 IN TXT \"v=spf1 include:loop.test -all\"\nloop.test. 60 IN CNAME loop.test.\n";
    assert!(told(silent, &["acme.test"], |_| ()).await.is_empty(), "an include that DNS cannot answer");
}

/// Whether DNS fails at this name or says nothing, it is not known whether the address is named: silence as long as the record is a sound
/// one, and a temperror (RFC 7208 section 2.6.6) of one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_dns_does_not_answer_counts_as_named() {
    let include =
        "acme.test. 60 IN TXT \"v=spf1 include:out.test -all\"\nout.test. 60 IN TXT \"v=spf1 -all\"\n";
    // Asked for each address. That what is included has no record makes it unsound.
    let exists = format!(
        "acme.test. 60 IN TXT \"v=spf1 exists:%{{i}}.out.test include:none.test -all\"\n{}.out.test. 60 IN A 127.0.0.2\n",
        nibbles(NAMED)
    );
    let rows: [(&str, Finds, Duration, &[&str], &str); 6] = [
        (include, |_| Finding::Unsigned, PATIENT, &[NAMED, OTHER], "it answers: fail"),
        (include, |name| at(name, "out.test.", Finding::Forged), PATIENT, &[], "SERVFAIL"),
        (include, |name| at(name, "out.test.", Finding::Silent), HASTY, &[], "no answer"),
        (
            &exists,
            |_| Finding::Unsigned,
            PATIENT,
            &[OTHER],
            "one is named; of the other it answers: permerror",
        ),
        (&exists, |name| at(name, &nibbles(OTHER), Finding::Forged), PATIENT, &[], "temperror by SERVFAIL"),
        (&exists, |name| at(name, &nibbles(OTHER), Finding::Silent), HASTY, &[], "temperror by no answer"),
    ];
    for (zone, finding, timeout, expected, why) in rows {
        let zone = Zone::start(zone).await.unwrap();
        let server = Vouching::start(zone.address(), finding).await;
        assert_eq!(told_by(server.address, timeout, &["acme.test"], |_| ()).await, expected, "{why}");
    }
}

/// What is found of names that begin like this; the rest is answered.
fn at(name: &str, begin: &str, finding: Finding) -> Finding {
    if name.starts_with(begin) { finding } else { Finding::Unsigned }
}

/// An IPv6 address as `%{i}` writes it (RFC 7208 section 7.3).
fn nibbles(address: &str) -> String {
    let octets = address.parse::<Ipv6Addr>().unwrap().octets();
    let nibbles = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
}
