//! MTA-STS (faults.md OB1 to OB4): a policy that was fetched is obeyed and kept, and one that cannot be had stops nothing.

use std::time::Duration;

use waxseal::config::Config;
use waxseal::deliver::Deliverer;
use waxseal::deliver::sts::{Kept, Mode};
use waxseal::dns::Resolver;
use waxseal::mail::attempt::Fate::{Deferred, Delivered};
use waxseal::mail::message::TlsNeed::{RequireTls, Usual};
use waxseal::mail::time::Time;

use crate::deliver::{World, fates, message, words, world_made};
use crate::exchanger::{Script, script};
use crate::pki::{Authority, Served, alone};
use crate::web::{Web, answer};

const TAKE: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx2.test\nmx: mx3.test\nmax_age: 86400\n";
/// Where the policy's host is.
const WEB: &str = "mta-sts.b.test. 60 IN A 127.0.0.40\n";
const ONE: &str = "b.test. 60 IN MX 10 mx2.test.\n";
const RECORD: &str = "_mta-sts.b.test. 60 IN TXT \"v=STSv1; id=1;\"\n";
const DAY: u64 = 86_400_000;

fn clear() -> Script {
    script(&format!("<- 220 mx\n-> EHLO relay.test\n<- 250 mx\n{TAKE}"))
}

/// No STARTTLS, and no MAIL may come.
fn bare() -> Script {
    script("<- 220 mx\n-> EHLO relay.test\n<- 250 mx\n-> QUIT\n<- 221 bye")
}

fn secure() -> Script {
    script(&format!(
        "<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n-> EHLO relay.test\n\
         <- 250 mx\n{TAKE}"
    ))
}

fn text(body: &str) -> Vec<u8> {
    answer("200 OK", "text/plain; charset=utf-8", body)
}

/// Makes a certificate.
type Make = fn(&Authority) -> Served;

/// What stands where.
struct Place {
    authority: Authority,
    web: Web,
    world: World,
}

/// b.test with a policy's host that answers this; `served` makes the exchangers' certificates.
async fn place(
    zone: &str,
    answer: Vec<u8>,
    scripts: Vec<Vec<Script>>,
    served: impl Fn(&Authority) -> Served,
) -> Place {
    let authority = Authority::new();
    let web = Web::start("127.0.0.40:0", &authority.issue(&["mta-sts.b.test"]), answer).await;
    place_with(zone, authority, web, scripts, served).await
}

async fn place_with(
    zone: &str,
    authority: Authority,
    web: Web,
    scripts: Vec<Vec<Script>>,
    served: impl Fn(&Authority) -> Served,
) -> Place {
    let port = web.address.port();
    let zone = format!("{zone}{WEB}");
    let mut world = world_made(
        &zone,
        scripts,
        |_| served(&authority),
        |config, _| {
            config.delivery.mta_sts_port = port;
            // Every message comes on a connection of its own, and so by the next script.
            config.delivery.idle = Duration::ZERO;
            Vec::new()
        },
    )
    .await;
    world.trust(&authority.pem());
    Place { authority, web, world }
}

impl Place {
    /// Another relay with the same configuration, a resolver that remembers nothing, and what the first one remembered.
    fn restarted(&mut self, change: impl FnOnce(&mut Config)) {
        let kept: Vec<Kept> =
            self.world.deliverer.policies().list(Time(1)).iter().map(|kept| (**kept).clone()).collect();
        change(&mut self.world.config);
        let resolver = Resolver::new(&self.world.config.dns).unwrap();
        self.world.deliverer = Deliverer::new(&self.world.config, resolver, Vec::new(), Default::default());
        self.world.deliverer.policies().recall(kept);
    }
}

fn good(authority: &Authority) -> Served {
    authority.issue(&["mx2.test", "mx3.test"])
}

fn zone() -> String {
    format!("{ONE}{RECORD}")
}

#[tokio::test]
async fn a_policy_is_fetched_once_and_obeyed() {
    let place = place(&zone(), text(POLICY), vec![vec![secure()]], good).await;
    let decided = place.world.needing(Usual).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    let tls = decided[0].hop.tls.clone().unwrap();
    assert!(tls.verified);
    assert_eq!(tls.by.as_deref(), Some("mta-sts"));
    let asked = place.web.asked();
    let request = String::from_utf8_lossy(&asked[0]).to_ascii_lowercase();
    assert!(request.starts_with("get /.well-known/mta-sts.txt http/1.1\r\n"), "{request}");
    let host = format!("\r\nhost: mta-sts.b.test:{}\r\n", place.web.address.port());
    assert!(request.contains(&host), "{request}");
    place.world.needing(Usual).await;
    assert_eq!(place.web.connections(), 1, "the second message asks nobody");
}

#[tokio::test]
async fn enforce_never_sends_in_clear_text_or_to_who_does_not_prove_itself() {
    let rows: [(&str, Make, Script, &str); 4] = [
        ("OB3: no STARTTLS", good, bare(), "4.7.10 "),
        ("OB3: another name", |authority| authority.issue(&["mx9.test"]), secure(), "4.7.5 mx2.test: "),
        ("OB3: expired", |authority| authority.expired(&["mx2.test"]), secure(), "4.7.5 mx2.test: "),
        ("OB3: self-signed", |_| alone(&["mx2.test"]), secure(), "4.7.5 mx2.test: "),
    ];
    for (why, served, script, said) in rows {
        let place = place(&zone(), text(POLICY), vec![vec![script]], served).await;
        let decided = place.world.needing(Usual).await;
        assert_eq!(decided[0].fate, Deferred, "{why}");
        assert!(words(&decided).starts_with(said), "{why}: {}", words(&decided));
        assert!(words(&decided).contains("MTA-STS policy"), "{why}: {}", words(&decided));
        assert_eq!(place.world.exchangers[0].connections(), 1, "{why}: OB6, no second try in clear text");
    }
}

#[tokio::test]
async fn an_exchanger_that_the_policy_does_not_name_is_passed_over() {
    let two = format!("b.test. 60 IN MX 10 mx4.test.\nb.test. 60 IN MX 20 mx2.test.\n{RECORD}");
    let scripts = vec![vec![secure()], vec![], vec![script("<- 554 nobody may come here")]];
    let place = place(&two, text(POLICY), scripts, good).await;
    let decided = place.world.needing(Usual).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert_eq!(decided[0].hop.host.as_deref(), Some("mx2.test"));
    assert_eq!(place.world.exchangers[2].connections(), 0);

    let other = format!("b.test. 60 IN MX 10 mx4.test.\n{RECORD}");
    let scripts = vec![vec![], vec![], vec![script("<- 554 nobody may come here")]];
    let place = self::place(&other, text(POLICY), scripts, good).await;
    let decided = place.world.needing(Usual).await;
    assert_eq!(decided[0].fate, Deferred);
    assert!(words(&decided).starts_with("4.7.5 mx4.test is not among"), "{}", words(&decided));
    assert_eq!(place.world.exchangers[2].connections(), 0, "OB3: not even greeted");
}

#[tokio::test]
async fn testing_and_none_stop_nothing() {
    for mode in ["testing", "none"] {
        let place = place(&zone(), text(&POLICY.replace("enforce", mode)), vec![vec![clear()]], good).await;
        let decided = place.world.needing(Usual).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{mode}: {}", words(&decided));
        assert_eq!(place.web.connections(), 1, "{mode}");
    }
}

/// OB2: what is no policy, or does not come as one.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let long = format!("{POLICY}{}", "x: y\n".repeat(20_000));
    let mut slow = text(POLICY);
    slow.truncate(slow.len() - 20);
    vec![
        ("a redirect", answer("301 Moved Permanently", "text/plain", POLICY)),
        ("another redirect", answer("302 Found", "text/plain", POLICY)),
        ("404", answer("404 Not Found", "text/plain", POLICY)),
        ("500", answer("500 Oops", "text/plain", POLICY)),
        ("a wrong content type", answer("200 OK", "text/html", POLICY)),
        ("more than 64 KiB", text(&long)),
        (ENDLESS, slow),
        ("no HTTP", b"220 mx ESMTP\r\n".to_vec()),
        ("CR only", text(&POLICY.replace('\n', "\r"))),
        ("max_age 1e12", text(&POLICY.replace("86400", "1000000000000"))),
        ("a mistyped mode", text(&POLICY.replace("enforce", "enforced"))),
    ]
}

/// What never ends, the one row that is waited for.
const ENDLESS: &str = "an answer that does not end";

/// How long a bad policy is waited for, and the exchanger.
fn patience(why: &str) -> Duration {
    Duration::from_secs(if why == ENDLESS { 4 } else { 20 })
}

#[tokio::test]
async fn what_is_no_policy_stops_nothing() {
    for (why, answer) in bad() {
        let mut place = place(&zone(), answer, vec![vec![clear()]], good).await;
        place.world.config.delivery.command_timeout = patience(why);
        place.world.deliverer.reconfigure(&place.world.config, Vec::new());
        for _ in 0..2 {
            let decided = place.world.needing(Usual).await;
            assert_eq!(fates(&decided), [(Delivered, 250)], "OB2: {why}: {}", words(&decided));
        }
        assert_eq!(
            place.web.connections(),
            1,
            "{why}: no redirect is followed, and not every message asks again"
        );
    }
}

#[tokio::test]
async fn what_is_no_policy_does_not_undo_the_one_that_is_kept() {
    for (why, answer) in bad() {
        let mut place = place(&zone(), text(POLICY), vec![vec![secure(), bare()]], good).await;
        assert_eq!(place.world.needing(Usual).await[0].fate, Delivered, "{why}");
        let next = "b.test. 60 IN MX 10 mx2.test.\n_mta-sts.b.test. 60 IN TXT \"v=STSv1; id=2;\"\n";
        let other = waxseal::sandbox::zone::Zone::start(&format!("{next}{WEB}mx2.test. 60 IN A 127.0.0.2\n"))
            .await
            .unwrap();
        place.web.answers(answer);
        place.restarted(|config| {
            config.dns.servers = vec![other.address()];
            config.delivery.command_timeout = patience(why);
        });
        let decided = place.world.needing(Usual).await;
        assert_eq!(decided[0].fate, Deferred, "OB2: {why}: the old policy holds: {}", words(&decided));
        assert_eq!(place.web.connections(), 2, "{why}: the new one was asked for");
    }
}

/// The new one may be the word that the sender asked for (RFC 8689 section 4.2.1): the mail waits until it is known.
#[tokio::test]
async fn a_new_policy_that_cannot_be_had_fails_no_mail() {
    let testing = text(&POLICY.replace("enforce", "testing"));
    let mut place = place(&zone(), testing, vec![vec![clear()]], good).await;
    assert_eq!(place.world.needing(Usual).await[0].fate, Delivered);
    let next =
        format!("{ONE}_mta-sts.b.test. 60 IN TXT \"v=STSv1; id=2;\"\n{WEB}mx2.test. 60 IN A 127.0.0.2\n");
    let other = waxseal::sandbox::zone::Zone::start(&next).await.unwrap();
    place.web.answers(answer("500 Oops", "text/plain", POLICY));
    place.restarted(|config| config.dns.servers = vec![other.address()]);
    let decided = place.world.needing(RequireTls).await;
    assert_eq!(fates(&decided), [(Deferred, 0)], "{}", words(&decided));
    assert!(words(&decided).starts_with("4.7.10"), "{}", words(&decided));
}

#[tokio::test]
async fn a_host_whose_certificate_is_not_good_publishes_nothing() {
    let rows: [(&str, Make); 3] = [
        ("another name", |authority| authority.issue(&["b.test"])),
        ("expired", |authority| authority.expired(&["mta-sts.b.test"])),
        ("self-signed", |_| alone(&["mta-sts.b.test"])),
    ];
    for (why, served) in rows {
        let authority = Authority::new();
        let web = Web::start("127.0.0.40:0", &served(&authority), text(POLICY)).await;
        let place = place_with(&zone(), authority, web, vec![vec![clear()]], good).await;
        let decided = place.world.needing(Usual).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "OB2: {why}: {}", words(&decided));
        assert_eq!(place.web.asked().len(), 0, "{why}: nothing was asked of it");
    }
}

#[tokio::test]
async fn a_policys_host_at_an_inside_address_is_not_connected_to() {
    let mut place = place(&zone(), text(POLICY), vec![vec![clear()]], good).await;
    place.restarted(|config| {
        config.delivery.allow_private_destinations = false;
        config.delivery.allow_destinations = vec!["127.0.0.2/32".parse().unwrap()];
    });
    assert_eq!(place.world.needing(Usual).await[0].fate, Delivered);
    assert_eq!(place.web.connections(), 0, "OB1: a private address");

    let admin = place.web.address;
    place.restarted(|config| {
        config.delivery.allow_private_destinations = true;
        config.admin.http = Some(admin);
    });
    assert_eq!(place.world.needing(Usual).await[0].fate, Delivered);
    assert_eq!(place.web.connections(), 0, "OB1: our own admin port");
}

#[tokio::test]
async fn a_policy_outlives_the_record_that_announced_it() {
    let mut place = place(&zone(), text(POLICY), vec![vec![secure(), bare(), clear()]], good).await;
    assert_eq!(place.world.needing(Usual).await[0].fate, Delivered);
    let silent = format!("{ONE}mx2.test. 60 IN A 127.0.0.2\n");
    let silent = waxseal::sandbox::zone::Zone::start(&silent).await.unwrap();
    place.restarted(|config| config.dns.servers = vec![silent.address()]);
    let decided = place.world.needing(Usual).await;
    assert_eq!(
        decided[0].fate,
        Deferred,
        "OB4: DNS no longer says that there is a policy: {}",
        words(&decided)
    );

    let mut job = crate::deliver::job(
        message(&["b@b.test"], b"a: b\r\n\r\n"),
        &std::sync::Arc::new(waxseal::tenant::Route::Mx),
    );
    job.started = Time(1 + DAY + 1);
    let decided = place.world.attempt(&job).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "max_age is over: {}", words(&decided));
    drop(place.authority);
}

#[tokio::test]
async fn a_policy_is_renewed_before_it_runs_out_and_kept_where_that_fails() {
    let place = place(&zone(), text(POLICY), vec![vec![secure()]], good).await;
    assert_eq!(place.world.needing(Usual).await[0].fate, Delivered);
    let policies = place.world.deliverer.policies();
    assert_eq!(policies.next_refresh(), Some(Time(1 + DAY / 2)), "half its life");
    place.web.answers(text("what?"));
    assert_eq!(place.world.deliverer.refresh_policies(Time(DAY / 2 + 2)).await, 0);
    assert_eq!(policies.list(Time(DAY / 2 + 2))[0].policy.mode, Mode::Enforce, "the old one is kept");
    place.web.answers(text(&POLICY.replace("enforce", "testing")));
    assert_eq!(
        place.world.deliverer.refresh_policies(Time(DAY / 2 + 3)).await,
        0,
        "not again within an hour"
    );
    assert_eq!(place.world.deliverer.refresh_policies(Time(DAY)).await, 1);
    assert_eq!(policies.list(Time(DAY + 2))[0].policy.mode, Mode::Testing);
    assert_eq!(place.web.connections(), 3);
}
