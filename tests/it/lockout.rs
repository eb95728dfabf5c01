//! An upstream that refuses its tenant's password (OB7): mail is held and not failed, the tenant is told once, nobody knocks again
//! before the time, and everything leaves by itself when the password is right.

use std::sync::Arc;

use waxseal::clock::Clock;
use waxseal::deliver::Deliverer;
use waxseal::dns::Resolver;
use waxseal::mail::meaning::Reason;
use waxseal::queue::store::{Cause, StateName, Turns};
use waxseal::sandbox::zone::Zone;
use waxseal::tenant::{Directory, Route, Tenant, Upstream, UpstreamTls};

use crate::exchanger::{Exchanger, Script, script, street};
use crate::rig::{DAY, Rig, report, tenant};

/// One after the other, so that a script can say what comes.
const TURNS: Turns = Turns { per_destination: 1, total: 20 };
const OFFER: &str = "<- 220 up\n-> EHLO*\n<- 250-up\n<- 250 AUTH PLAIN\n";
const REFUSED: &str = "-> AUTH PLAIN*\n<- 535 5.7.8 bad credentials\n-> QUIT\n<- 221 bye";
const MAIL: &str = "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n";

fn refusing() -> Script {
    script(&format!("{OFFER}{REFUSED}"))
}

/// Takes the password, and so many mails over the same connection.
fn taking(mails: usize) -> Script {
    script(&format!("{OFFER}-> AUTH PLAIN*\n<- 235 ok\n{}-- silence", MAIL.repeat(mails)))
}

fn by(upstream: &Upstream) -> Tenant {
    Tenant { route: Arc::new(Route::Upstream(upstream.clone())), ..tenant("acme", &["desk@help.test"]) }
}

struct Scene {
    rig: Rig,
    server: Exchanger,
    upstream: Upstream,
    deliverer: Arc<Deliverer>,
    _zone: Zone,
}

/// Nobody listens where the relay's own mail goes: it waits in the queue.
async fn scene(scripts: Vec<Script>) -> Scene {
    let rig = Rig::new(TURNS);
    let (mut servers, port) = street(vec![scripts]).await;
    let server = servers.remove(0);
    let zone = Zone::start(
        "up.test. 60 IN A 127.0.0.2\nhelp.test. 60 IN MX 10 mx.help.test.\nmx.help.test. 60 IN A 127.0.0.9\n",
    )
    .await
    .unwrap();
    rig.configure(|config| {
        config.delivery.allow_private_destinations = true;
        config.dns.servers = vec![zone.address()];
    });
    let config = rig.config.load_full();
    let resolver = Resolver::new(&config.dns).unwrap();
    let deliverer = Arc::new(Deliverer::new(
        &config,
        resolver,
        Vec::new(),
        (Arc::default(), Clock::Set(Arc::clone(&rig.hand))),
    ));
    let upstream = Upstream {
        host: "up.test".into(),
        port,
        tls: UpstreamTls::None,
        credentials: Some(("user".into(), "s3cret".into())),
        oauth: None,
        cleartext_auth: true,
        ca_file: None,
    };
    rig.tenants.store(Arc::new(Directory::new([by(&upstream)])));
    Scene { rig, server, upstream, deliverer, _zone: zone }
}

impl Scene {
    fn start(&mut self) {
        self.rig.start_with(Arc::clone(&self.deliverer) as _);
    }

    /// What a reload does.
    fn reload(&self, upstream: &Upstream) {
        self.deliverer.reconfigure(&self.rig.config.load(), Vec::new());
        self.rig.tenants.store(Arc::new(Directory::new([by(upstream)])));
        self.rig.scheduler().nudge();
    }

    async fn held(&self, count: usize) {
        self.rig
            .until(|all| {
                all.iter().filter(|entry| entry.leg.state.cause() == Some(Cause::Credentials)).count()
                    == count
            })
            .await;
    }

    fn logins(&self) -> usize {
        self.server.lines().iter().filter(|line| line.starts_with("AUTH")).count()
    }
}

#[tokio::test]
async fn a_refused_password_holds_the_tenants_mail_and_a_new_one_lets_all_of_it_go() {
    let mut scene = scene(vec![refusing(), taking(6)]).await;
    for n in 0..5 {
        scene.rig.accept("acme", &[&format!("b{n}@example.test")]).await;
    }
    scene.start();
    scene.held(5).await;
    scene.rig.accept("acme", &["late@example.test"]).await;
    scene.held(6).await;
    assert_eq!(scene.logins(), 1, "no lock-out storm: six messages, one login");
    let list = scene.rig.list().await;
    let waiting: Vec<_> = list.iter().filter(|entry| &*entry.leg.tenant == "acme").collect();
    assert!(waiting.iter().all(|entry| entry.state == StateName::Held && entry.leg.attempts == 0));
    assert!(waiting.iter().all(|entry| entry.leg.last.as_ref().unwrap().reason == Reason::Credentials));
    // The event is written after the last of them is held.
    scene.rig.until(|_| !scene.rig.logged("alert").is_empty()).await;
    let told = scene.rig.logged("alert");
    assert_eq!(told.len(), 1, "told once");
    assert_eq!(told[0]["to"], serde_json::json!(["desk@help.test"]), "whom the tenant names");
    assert!(scene.rig.logged("bounced").is_empty() && scene.rig.logged("expired").is_empty());

    let upstream = Upstream { credentials: Some(("user".into(), "new".into())), ..scene.upstream.clone() };
    scene.reload(&upstream);
    scene.rig.until(|all| all.iter().all(|entry| &*entry.leg.tenant == "relay")).await;
    scene.rig.drain().await;
    assert_eq!(scene.rig.logged("relayed").len(), 6);
    let logins = scene.logins();
    assert!((2..=7).contains(&logins), "one try let go first; then no more logins than messages: {logins}");
}

#[tokio::test]
async fn what_the_tenant_is_told_says_what_to_do() {
    let mut scene = scene(vec![refusing()]).await;
    scene.rig.accept("acme", &["b@example.test"]).await;
    scene.start();
    scene.held(1).await;
    scene.rig.until(|all| all.iter().any(|entry| &*entry.leg.tenant == "relay")).await;
    let list = scene.rig.list().await;
    let alert = list.iter().find(|entry| &*entry.leg.tenant == "relay").unwrap();
    let message = scene.rig.store.message(alert.leg.id).await.unwrap().unwrap();
    let text = String::from_utf8(message.body.to_vec()).unwrap();
    assert!(text.starts_with("DKIM-Signature:"), "sealed: {text}");
    assert!(text.contains("5.7.8 bad credentials") && text.contains("waxseal tenant upstream-password acme"));
    assert!(!text.contains("s3cret"), "never the password");
    scene.rig.drain().await;
}

#[tokio::test]
async fn after_a_restart_one_is_tried_and_the_tenant_is_not_told_again() {
    let mut scene = scene(vec![refusing()]).await;
    for n in 0..3 {
        scene.rig.accept("acme", &[&format!("b{n}@example.test")]).await;
    }
    scene.start();
    scene.held(3).await;
    scene.rig.until(|all| all.iter().any(|entry| &*entry.leg.tenant == "relay")).await;
    scene.rig.drain().await;
    let before = scene.logins();
    // Another process: it knows of no login that was refused.
    scene.deliverer.reconfigure(&scene.rig.config.load(), Vec::new());
    scene.rig.restart_with(Arc::clone(&scene.deliverer) as _).await;
    scene.rig.until(|_| scene.logins() == before + 1).await;
    scene.held(3).await;
    scene.rig.drain().await;
    assert_eq!(scene.logins(), before + 1, "one try for three messages");
    assert_eq!(scene.rig.logged("alert").len(), 1);
}

/// More is held than is looked at in one go, and all of it another tenant's.
#[tokio::test]
async fn after_a_restart_also_the_tenant_is_found_whose_mail_lies_behind_much_of_anothers() {
    let mut scene = scene(vec![refusing(), refusing(), taking(1)]).await;
    let blue = |upstream: &Upstream| Tenant {
        route: Arc::new(Route::Upstream(upstream.clone())),
        ..tenant("blue", &["desk@help.test"])
    };
    let nowhere = Upstream { port: 1, ..scene.upstream.clone() };
    scene.rig.tenants.store(Arc::new(Directory::new([by(&scene.upstream), blue(&scene.upstream)])));
    for n in 0..200 {
        scene.rig.accept("acme", &[&format!("b{n}@example.test")]).await;
    }
    scene.start();
    scene.held(200).await;
    scene.rig.pass(1);
    scene.rig.accept("blue", &["late@other.test"]).await;
    scene.held(201).await;
    scene.rig.drain().await;
    scene.rig.tenants.store(Arc::new(Directory::new([by(&nowhere), blue(&scene.upstream)])));
    scene.deliverer.reconfigure(&scene.rig.config.load(), Vec::new());
    scene.rig.restart_with(Arc::clone(&scene.deliverer) as _).await;
    scene.rig.until(|all| all.iter().all(|entry| &*entry.leg.tenant != "blue")).await;
    scene.rig.drain().await;
    assert_eq!(scene.rig.logged("relayed").len(), 1);
}

#[tokio::test]
async fn what_is_held_to_the_end_of_its_life_fails_and_is_told() {
    let mut scene = scene(vec![refusing()]).await;
    scene.rig.accept("acme", &["b@example.test"]).await;
    scene.start();
    scene.held(1).await;
    scene.rig.pass(5 * DAY + 1);
    // A line with a reason says why nobody is told: of the alert's own failure.
    let notification = || scene.rig.logged("dsn").into_iter().find(|line| line.get("reason").is_none());
    scene.rig.until(|_| notification().is_some()).await;
    let told = notification().unwrap()["id"].as_str().unwrap().parse().unwrap();
    let message = scene.rig.store.message(told).await.unwrap().unwrap();
    scene.rig.drain().await;
    let mut expired = scene.rig.logged("expired");
    // The relay's own notifications have nowhere to go in this world.
    expired.retain(|line| line["tenant"] == "acme");
    assert_eq!((expired.len(), &expired[0]["reason_class"]), (1, &"credentials".into()), "{expired:?}");
    assert!(report(&message.body).contains("b@example.test"), "a failure that is told");
}

#[tokio::test]
async fn a_login_that_fails_for_now_is_left_alone_and_nothing_is_held() {
    let busy = script(&format!("{OFFER}-> AUTH PLAIN*\n<- 454 4.7.0 later\n-> QUIT\n<- 221 bye"));
    let mut scene = scene(vec![busy]).await;
    for n in 0..5 {
        scene.rig.accept("acme", &[&format!("b{n}@example.test")]).await;
    }
    scene.start();
    scene.rig.until(|all| all.iter().any(|entry| entry.state == StateName::Deferred)).await;
    scene.rig.drain().await;
    assert_eq!(scene.logins(), 1, "one login for five messages");
    assert!(scene.rig.logged("held").is_empty() && scene.rig.logged("alert").is_empty());
}

#[tokio::test]
async fn a_tenant_that_leaves_by_another_way_is_held_no_longer() {
    let mut scene =
        scene(vec![refusing(), script(&format!("<- 220 up\n-> EHLO*\n<- 250 up\n{MAIL}-- silence"))]).await;
    scene.rig.accept("acme", &["b@example.test"]).await;
    scene.start();
    scene.held(1).await;
    scene.reload(&Upstream { credentials: None, ..scene.upstream.clone() });
    scene.rig.until(|all| all.iter().all(|entry| &*entry.leg.tenant == "relay")).await;
    scene.rig.drain().await;
    assert_eq!(scene.rig.logged("relayed").len(), 1);
}

/// Offers no STARTTLS, or shows a certificate that nobody signed.
fn untrusted(starttls: bool) -> Script {
    let rest = if starttls {
        "<- 250-up\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n-- hangup"
    } else {
        "<- 250-up\n<- 250 AUTH PLAIN\n-> QUIT\n<- 221 bye"
    };
    script(&format!("<- 220 up\n-> EHLO*\n{rest}"))
}

#[tokio::test]
async fn a_server_that_cannot_be_trusted_puts_mail_off_and_the_tenant_is_told_once() {
    for starttls in [true, false] {
        let mut scripts = vec![untrusted(starttls); 3];
        scripts.push(taking(3));
        let mut scene = scene(scripts).await;
        let strict = Upstream { tls: UpstreamTls::Starttls, ..scene.upstream.clone() };
        scene.rig.tenants.store(Arc::new(Directory::new([by(&strict)])));
        for n in 0..3 {
            scene.rig.accept("acme", &[&format!("b{n}@example.test")]).await;
        }
        scene.start();
        let off = |entry: &waxseal::queue::store::Entry| {
            entry.state == StateName::Deferred && &*entry.leg.tenant == "acme"
        };
        scene.rig.until(|all| all.iter().filter(|entry| off(entry)).count() == 3).await;
        scene.rig.until(|all| all.iter().any(|entry| &*entry.leg.tenant == "relay")).await;
        assert_eq!(scene.logins(), 0, "OB7: no password");
        let list = scene.rig.list().await;
        let told = list.iter().find(|entry| &*entry.leg.tenant == "relay").unwrap();
        let message = scene.rig.store.message(told.leg.id).await.unwrap().unwrap();
        let text = String::from_utf8(message.body.to_vec()).unwrap();
        assert!(text.contains("waxseal tenant test acme"), "what to do: {text}");
        assert!(text.contains(if starttls { "certificate" } else { "STARTTLS" }), "and why: {text}");

        let upstream = scene.upstream.clone();
        scene.reload(&upstream);
        scene.rig.pass(DAY);
        scene.rig.until(|all| all.iter().all(|entry| &*entry.leg.tenant == "relay")).await;
        while !scene.rig.store.recall("withheld/".into()).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        scene.rig.drain().await;
        assert_eq!(scene.rig.logged("relayed").len(), 3, "it leaves by itself");
        assert_eq!(scene.rig.logged("alert").len(), 1, "told once");
        assert!(scene.rig.logged("held").is_empty());
    }
}

#[tokio::test]
async fn after_a_restart_the_tenant_is_not_told_again_of_a_server_that_cannot_be_trusted() {
    let mut scene = scene(vec![untrusted(false); 2]).await;
    let strict = Upstream { tls: UpstreamTls::Starttls, ..scene.upstream.clone() };
    scene.rig.tenants.store(Arc::new(Directory::new([by(&strict)])));
    scene.rig.accept("acme", &["b0@example.test"]).await;
    scene.start();
    scene.rig.until(|all| all.iter().any(|entry| &*entry.leg.tenant == "relay")).await;
    scene.rig.drain().await;
    scene.rig.restart_with(Arc::clone(&scene.deliverer) as _).await;
    scene.rig.accept("acme", &["b1@example.test"]).await;
    let off = |entry: &waxseal::queue::store::Entry| {
        entry.state == StateName::Deferred && &*entry.leg.tenant == "acme"
    };
    scene.rig.until(|all| all.iter().filter(|entry| off(entry)).count() == 2).await;
    scene.rig.drain().await;
    assert_eq!(scene.rig.logged("alert").len(), 1);
}
