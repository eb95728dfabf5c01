//! A tenant's second way: taken for what the first one puts off in so many words, and never for mail that may have arrived.

use std::sync::Arc;
use std::time::Duration;

use waxseal::clock::Clock;
use waxseal::deliver::Deliverer;
use waxseal::dns::Resolver;
use waxseal::mail::attempt::Fate::Delivered;
use waxseal::mail::class::{By, Classed};
use waxseal::queue::store::Turns;
use waxseal::sandbox::zone::Zone;
use waxseal::tenant::{Directory, Fallback, Route, Tenant, Upstream, UpstreamTls};

use crate::deliver::{BODY, fates, message, world};
use crate::exchanger::{Exchanger, Script, script, street};
use crate::rig::{HOUR, Rig, tenant};

const TURNS: Turns = Turns { per_destination: 4, total: 8 };
const HELLO: &str = "<- 220 up\n-> EHLO*\n<- 250 up\n";
const LATER: &str = "-> MAIL*\n<- 451 4.3.0 later\n-> QUIT\n<- 221 bye";
const TAKEN: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
const LOST: &str = "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n-- reset";

struct Scene {
    rig: Rig,
    /// The upstream, and the recipients' exchanger.
    servers: Vec<Exchanger>,
    _zone: Zone,
}

/// A tenant whose mail leaves by an upstream, and by MX after one attempt.
async fn scene(upstream: &[&str]) -> Scene {
    scene_of(upstream, &[TAKEN], &[], None).await
}

/// The second way is for mail of these classes only; the mail is of this one.
async fn scene_of(
    upstream: &[&str],
    exchanger: &[&str],
    classes: &[&str],
    classed: Option<Classed>,
) -> Scene {
    let mut rig = Rig::new(TURNS);
    let scripts = |rests: &[&str]| -> Vec<Script> {
        rests.iter().map(|rest| script(&format!("{HELLO}{rest}"))).collect()
    };
    let (servers, port) = street(vec![scripts(upstream), scripts(exchanger)]).await;
    let zone = "example.test. 60 IN MX 10 mx.example.test.\nmx.example.test. 60 IN A 127.0.0.3\n";
    let zone = Zone::start(zone).await.unwrap();
    rig.configure(|config| {
        config.delivery.port = port;
        config.delivery.delay_notice = Duration::ZERO;
        // Each attempt by a connection of its own.
        config.delivery.idle = Duration::ZERO;
        config.delivery.allow_private_destinations = true;
        config.dns.servers = vec![zone.address()];
    });
    let upstream = Upstream {
        host: "127.0.0.2".into(),
        port,
        tls: UpstreamTls::None,
        credentials: None,
        oauth: None,
        cleartext_auth: false,
        ca_file: None,
    };
    let acme = Tenant {
        route: Arc::new(Route::Upstream(upstream)),
        fallbacks: vec![Fallback {
            classes: classes.iter().map(|class| Arc::from(*class)).collect(),
            route: Arc::new(Route::Mx),
            attempts: 1,
            after: Duration::ZERO,
        }],
        ..tenant("acme", &[])
    };
    rig.tenants.store(Arc::new(Directory::new([acme])));
    let config = rig.config.load_full();
    let resolver = Resolver::new(&config.dns).unwrap();
    rig.accept_with("acme", &["b@example.test"], |facts| facts.class = classed).await;
    rig.start_with(Arc::new(Deliverer::new(
        &config,
        resolver,
        Vec::new(),
        (Arc::default(), Clock::Set(Arc::clone(&rig.hand))),
    )));
    Scene { rig, servers, _zone: zone }
}

impl Scene {
    async fn attempts(&self, count: u32) {
        self.rig.until(|all| all.iter().all(|entry| entry.leg.attempts == count)).await;
    }

    /// So many attempts in vain, hours apart, and one that is not.
    async fn is_taken_after(&mut self, attempts: u32) {
        for made in 1..=attempts {
            self.attempts(made).await;
            self.rig.pass(3 * HOUR);
        }
        self.rig.until(<[_]>::is_empty).await;
        self.rig.drain().await;
    }
}

#[tokio::test]
async fn what_is_put_off_leaves_by_the_second_way_and_the_log_says_why() {
    let mut scene = scene(&[LATER]).await;
    scene.attempts(1).await;
    scene.rig.pass(3 * HOUR);
    scene.rig.until(<[_]>::is_empty).await;
    scene.rig.drain().await;
    let tried = scene.rig.logged("attempt");
    let ways: Vec<_> = tried.iter().map(|line| line["route"].as_str().unwrap()).collect();
    assert_eq!(ways, ["upstream", "mx"]);
    let why = tried[1]["reason"].as_str().unwrap();
    assert!(why.starts_with("fallback: 127.0.0.2 put it off 1 times, last with 451"), "{why}");
    assert_eq!((tried[0].get("reason"), scene.rig.logged("delivered").len()), (None, 1));
}

#[tokio::test]
async fn mail_that_may_have_arrived_keeps_to_its_way() {
    let mut scene = scene(&[LOST, LATER, LATER, TAKEN]).await;
    scene.is_taken_after(3).await;
    assert_eq!(scene.servers[0].connections(), 4, "every attempt");
    assert_eq!(scene.servers[1].connections(), 0, "not even after a 451 that came later");
    assert_eq!(scene.rig.logged("relayed").len(), 1);
}

#[tokio::test]
async fn mail_that_may_have_arrived_by_the_second_way_keeps_to_that() {
    let mut scene = scene_of(&[LATER], &[LOST, LATER, TAKEN], &[], None).await;
    scene.is_taken_after(3).await;
    assert_eq!(scene.servers[0].connections(), 1, "the first way has no turn any more");
    assert_eq!(scene.servers[1].connections(), 3, "not even after a 451 that came later");
    let tried = scene.rig.logged("attempt");
    let why = tried[2]["reason"].as_str().unwrap();
    assert!(why.starts_with("fallback: it may have arrived by this way"), "{why}");
}

/// A leg made for an upstream holds recipients of several domains; each goes to its own exchanger.
#[tokio::test]
async fn by_mx_each_domain_of_a_leg_goes_to_its_own_exchanger() {
    let zone = "b.test. 60 IN MX 10 mx2.test.\nc.test. 60 IN MX 10 mx3.test.\n";
    let taken = || vec![script(&format!("{HELLO}{TAKEN}"))];
    let world = world(zone, vec![taken(), taken()]).await;
    let decided = world.send(message(&["b@b.test", "c@c.test"], BODY), &Arc::new(Route::Mx)).await;
    assert_eq!(fates(&decided), [(Delivered, 250), (Delivered, 250)]);
    for (server, rcpt) in world.exchangers.iter().zip(["b@b.test", "c@c.test"]) {
        let rcpts: Vec<_> = server.lines().into_iter().filter(|line| line.starts_with("RCPT")).collect();
        assert_eq!(rcpts, [format!("RCPT TO:<{rcpt}>")]);
    }
}

#[tokio::test]
async fn the_second_way_of_a_class_is_for_mail_that_is_of_it_for_certain() {
    let of = |name: &str, by| Some(Classed { name: name.into(), by });
    let rows = [
        (of("password_reset", By::Login), true, "its sender said so"),
        (of("password_reset", By::Subject), false, "a guess leads nowhere else"),
        (of("program_email", By::Header), false, "another class"),
        (None, false, "no class"),
    ];
    for (classed, taken, why) in rows {
        let upstream: &[&str] = if taken { &[LATER] } else { &[LATER, TAKEN] };
        let mut scene = scene_of(upstream, &[TAKEN], &["alert", "password_reset"], classed).await;
        scene.attempts(1).await;
        scene.rig.pass(3 * HOUR);
        scene.rig.until(<[_]>::is_empty).await;
        scene.rig.drain().await;
        assert_eq!(scene.servers[1].connections(), usize::from(taken), "{why}");
    }
}
