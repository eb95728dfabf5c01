//! `tenant test`: what is shown of a conversation with a tenant's next hop, and that nothing of the password is.

use std::sync::Arc;

use waxseal::deliver::reach::Reach;
use waxseal::deliver::trial::{Speaker, Trial};
use waxseal::dns::Resolver;
use waxseal::mail::meaning::Reason;
use waxseal::tenant::{Route, Tenant, Upstream, UpstreamTls};

use crate::cli_files::{Place, json};
use crate::deliver::{World, world, world_with};
use crate::exchanger::{Script, script};
use crate::rig::tenant;

const ZONE: &str = "up.test. 60 IN A 127.0.0.2\nb.test. 60 IN MX 10 mx2.test.\n";
const SECURE: &str = "<- 220 up\n-> EHLO relay.test\n<- 250-up\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n\
                      -> EHLO relay.test\n<- 250-up\n<- 250 AUTH PLAIN LOGIN\n";

async fn tried(scripts: Vec<Script>, route: impl FnOnce(&World) -> Route) -> (Trial, World) {
    let world = world(ZONE, vec![scripts]).await;
    let acme = Tenant { route: Arc::new(route(&world)), ..tenant("acme", &[]) };
    let reach = Reach::new(&world.config, Resolver::new(&world.config.dns).unwrap());
    let trial = Box::pin(reach.try_route(&acme, &"b.test".parse().unwrap())).await;
    (trial, world)
}

fn upstream(world: &World) -> Route {
    let file = world.config.state.join("ca.pem");
    std::fs::write(&file, &world.exchangers[0].certificate).unwrap();
    let upstream = world.upstream(UpstreamTls::Starttls, true);
    Route::Upstream(Upstream { host: "up.test".into(), ca_file: Some(file), ..upstream })
}

fn shown(trial: &Trial) -> String {
    let mark = |who| match who {
        Speaker::Us => "->",
        Speaker::Them => "<-",
        Speaker::Note => "--",
    };
    trial.transcript.iter().map(|line| format!("{} {}\n", mark(line.who), line.text)).collect()
}

#[tokio::test]
async fn a_good_upstream_is_followed_to_its_login_and_no_further() {
    let script =
        script(&format!("{SECURE}-> AUTH PLAIN AHVzZXIAc2VjcmV0\n<- 235 welcome\n-> QUIT\n<- 221 bye"));
    let (trial, _world) = tried(vec![script], upstream).await;
    let text = shown(&trial);
    assert!(trial.works() && trial.authenticated, "{text}");
    assert!(trial.tls.as_ref().unwrap().verified, "{text}");
    for line in [
        "-- connected to up.test (127.0.0.2:",
        "<- 250-up\n<- 250 AUTH PLAIN LOGIN\n",
        "certificate verified",
        "-> AUTH PLAIN (not shown)\n<- 235 welcome\n-> QUIT\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("AHVzZXIAc2VjcmV0") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_bad_one_says_what_to_mend() {
    let refused = format!(
        "{SECURE}-> AUTH PLAIN*\n<- 535 5.7.8 no: AUTH PLAIN AHVzZXIAc2VjcmV0 is secret\n-> QUIT\n<- 221 bye"
    );
    let stripped = "<- 220 up\n-> EHLO relay.test\n<- 250-up\n<- 250 AUTH PLAIN\n-> QUIT\n<- 221 bye";
    let rows = [
        (script(&refused), Reason::Credentials, "535"),
        (script(stripped), Reason::TlsFailure, "OB7: STARTTLS stripped, and no password said"),
    ];
    for (script, reason, why) in rows {
        let (trial, _world) = tried(vec![script], upstream).await;
        assert!(!trial.works() && !trial.authenticated, "{why}");
        let text = shown(&trial);
        assert_eq!(trial.meaning().unwrap().reason, reason, "{why}: {text}");
        assert!(
            !text.contains("AHVzZXIAc2VjcmV0") && !text.contains("secret"),
            "also where it is quoted: {text}"
        );
    }
}

/// What the test shows is what a delivery meets: the provider may let in one address of ours, by one name.
#[tokio::test]
async fn a_trial_leaves_from_the_tenants_own_source() {
    let script = script("<- 220 mx\n-> EHLO out9.test\n<- 250 mx\n-> QUIT\n<- 221 bye");
    let world = world_with(ZONE, vec![vec![script]], |config, _| {
        config.delivery.sources = vec!["127.0.0.8".parse().unwrap(), "127.0.0.9".parse().unwrap()];
        config.delivery.source = vec![waxseal::config::Source {
            address: "127.0.0.9".parse().unwrap(),
            hostname: "out9.test".parse().unwrap(),
            tenants: vec!["acme".to_owned()],
            classes: Vec::new(),
        }];
        Vec::new()
    })
    .await;
    let reach = Reach::new(&world.config, Resolver::new(&world.config.dns).unwrap());
    let trial = Box::pin(reach.try_route(&tenant("acme", &[]), &"b.test".parse().unwrap())).await;
    assert!(trial.works(), "{}", shown(&trial));
    assert_eq!(world.exchangers[0].peers(), [crate::exchanger::loopback(9)]);
}

#[tokio::test]
async fn by_mx_an_exchanger_is_greeted() {
    let script = script("<- 220 mx\n-> EHLO relay.test\n<- 250 mx\n-> QUIT\n<- 221 bye");
    let (trial, _world) = tried(vec![script], |_| Route::Mx).await;
    assert!(trial.works() && !trial.authenticated, "{}", shown(&trial));
    assert_eq!((trial.route, trial.tls.as_ref()), ("mx", None));
}

#[test]
fn the_verb_ends_with_1_where_a_delivery_would_not_get_through() {
    let place = Place::init();
    place.change("# allow_private_destinations = false", "allow_private_destinations = true");
    place.text(&["tenant", "add", "acme"]);
    // Bound and not listening: nobody answers there, and nobody else gets it.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = closed.local_addr().unwrap().as_socket().unwrap().port().to_string();
    place.text(&["tenant", "route", "acme", "--host", "127.0.0.1", "--port", &port]);
    let failed = place.run(&["--json", "tenant", "test", "acme"]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let value = json(&String::from_utf8(failed.stdout).unwrap());
    assert_eq!((&value["ok"], &value["reason_class"]), (&false.into(), &"network".into()), "{value}");
    assert!(value["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{value}");
}
