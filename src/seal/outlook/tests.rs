//! What is remembered, what is looked at, and what the judge is asked.

use super::*;
use crate::mail::secret::ExposeSecret;
use crate::seal::facts::{KeyAnswer, Known, Presence};
use crate::seal::keys::{Kind, generate, read};
use crate::seal::stages::Stage;
use crate::tenant::tests::{owned, tenant};
use crate::tenant::{Directory, OnFail, OwnedDomain, SignWith, Tenant};

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn key(selector: &str, kind: Kind, stage: Stage) -> Key {
    let (signer, public) = read(generate(kind).unwrap().pem.expose_secret().as_bytes()).unwrap();
    Key { selector: selector.to_owned(), public, stage, since: None, replaces: None, signer }
}

fn ring(keys: Vec<Key>) -> Arc<Keyring> {
    Arc::new(Keyring::of(domain("acme.example"), keys))
}

struct Scene {
    config: Arc<Config>,
    keyring: Arc<Keyring>,
    outlook: Outlook,
}

impl Scene {
    fn new(keyring: Arc<Keyring>) -> Self {
        let mut config = Config::new(domain("relay.example"), std::path::Path::new("/nowhere"));
        // Nobody answers there, and nobody is asked.
        config.dns.servers = vec!["127.0.0.1:9".parse().unwrap()];
        let outlook = Outlook::new(Resolver::new(&config.dns).unwrap(), Clock::System);
        Self { config: Arc::new(config), keyring, outlook }
    }

    fn force(&self) -> Force<'_> {
        Force { config: &self.config, keyring: &self.keyring }
    }
}

fn names_of(wanted: &[Wanted]) -> Vec<&str> {
    wanted.iter().map(|wanted| wanted.domain.as_str()).collect()
}

fn some_picture(name: &str) -> Picture {
    let mut picture = Picture::blank(domain(name));
    picture.presence = Some(Known { value: Presence::Absent, seen: Time(1), until: Time(2) });
    picture.looked = Time(1);
    picture
}

#[tokio::test]
async fn names_below_judged_domains_are_looked_at_again_after_a_restart() {
    let scene = Scene::new(ring(Vec::new()));
    let mut shop = owned("shop.acme.example", false);
    shop.return_path = Some(domain("bounce.shop.acme.example"));
    let off = OwnedDomain { on_fail: OnFail::Off, ..owned("off.example", true) };
    let directory = Directory::new([tenant("acme", vec![owned("acme.example", true), shop, off])]);
    let recalled = [
        "acme.example",
        "news.acme.example",
        "shop.acme.example",
        "bounce.shop.acme.example",
        "relay.example",
        "news.off.example",
        "stranger.example",
    ];
    scene.outlook.recall(recalled.map(some_picture), below(&directory, scene.force()));
    let found: Vec<String> = scene.outlook.below().iter().map(ToString::to_string).collect();
    assert_eq!(found, ["news.acme.example"]);
    let names = names(&directory, scene.force(), &scene.outlook.below());
    assert!(names_of(&names).contains(&"news.acme.example"), "{names:?}");

    let gone = scene.outlook.keep_only(&names);
    let mut gone: Vec<&str> = gone.pictures.iter().map(Domain::as_str).collect();
    gone.sort_unstable();
    assert_eq!(gone, ["news.off.example", "stranger.example"], "nobody's, and nobody's to judge");
}

#[tokio::test]
async fn how_a_domain_stood_is_forgotten_with_it() {
    let scene = Scene::new(ring(Vec::new()));
    let own = owned("acme.example", false);
    let off = OwnedDomain { on_fail: OnFail::Off, ..owned("off.example", true) };
    let directory = Directory::new([tenant("acme", vec![own, off])]);
    for name in ["acme.example", "off.example", "removed.example"] {
        scene.outlook.note(&domain(name), Believed::Fail);
    }
    let mut gone = scene.outlook.keep_only(&names(&directory, scene.force(), &[])).health;
    gone.sort();
    assert_eq!(gone, [domain("off.example"), domain("removed.example")]);
    assert!(scene.outlook.failing_since(&domain("acme.example")).is_some());
    assert!(scene.outlook.failing_since(&domain("off.example")).is_none());
}

#[tokio::test]
async fn the_relays_own_domain_is_looked_at_where_it_has_keys() {
    let directory = Directory::new([tenant("t", vec![owned("tenant.example", false)])]);
    let rows = [
        (Vec::new(), vec!["relay.example", "tenant.example"], "it signs nothing"),
        (
            vec![key("wx1", Kind::Ed25519, Stage::Pending)],
            vec!["acme.example", "relay.example", "tenant.example"],
            "its key is pending until it is seen",
        ),
    ];
    for (keys, wanted, why) in rows {
        let mut scene = Scene::new(ring(keys));
        let mut config = Config::clone(&scene.config);
        config.relay.domain = domain("acme.example");
        scene.config = Arc::new(config);
        assert_eq!(names_of(&names(&directory, scene.force(), &[])), wanted, "{why}");
    }
}

/// The verdict on usual mail of acme.example.
fn verdict(scene: &Scene, tenant: &Arc<Tenant>) -> Arc<Verdict> {
    let own = &tenant.domains[0];
    let subject = Subject { tenant, own, author: &own.name, sender: Some(&own.name) };
    scene.outlook.verdict(&subject, scene.force())
}

#[tokio::test]
async fn verdicts_do_not_keep_keys_that_are_no_longer_in_force() {
    let mut scene = Scene::new(ring(vec![key("wx1", Kind::Ed25519, Stage::Active)]));
    let tenant = Arc::new(tenant("acme", vec![owned("acme.example", false)]));
    verdict(&scene, &tenant);
    let first = verdict(&scene, &tenant);
    assert!(Arc::ptr_eq(&first, &verdict(&scene, &tenant)), "made once");
    let old = Arc::downgrade(&scene.keyring);
    scene.keyring = ring(Vec::new());
    assert!(old.upgrade().is_some(), "the verdict rests on it");
    verdict(&scene, &tenant);
    assert!(old.upgrade().is_none(), "and with other keys there is another verdict");
}

#[tokio::test]
async fn the_judge_is_asked_about_the_keys_that_the_route_takes() {
    let keys = vec![key("wx1", Kind::Rsa2048, Stage::Active), key("wxe1", Kind::Ed25519, Stage::Active)];
    let ed25519 = keys[1].public.record();
    let scene = Scene::new(ring(keys));
    let mut picture = some_picture("acme.example");
    let seen =
        |records| Some(Known { value: KeyAnswer { alias: None, records }, seen: Time(1), until: Time(2) });
    picture.keys.insert("wx1".to_owned(), seen(Vec::new()));
    picture.keys.insert("wxe1".to_owned(), seen(vec![ed25519]));
    scene.outlook.recall([picture], |_| false);
    let rows = [
        (SignWith::Both, vec!["wxe1".to_owned()], "it was seen and signs"),
        (
            SignWith::Rsa,
            Vec::new(),
            "the upstream takes no Ed25519, so none signs, and the mail is not refused for it",
        ),
    ];
    for (with, verified, why) in rows {
        let mut tenant = tenant("acme", vec![owned("acme.example", false)]);
        tenant.signing.keys = with;
        assert_eq!(verdict(&scene, &Arc::new(tenant)).verified, verified, "{why}");
    }
}

#[tokio::test]
async fn only_the_return_path_gets_the_records_of_one() {
    let scene = Scene::new(ring(Vec::new()));
    let mut own = owned("acme.example", false);
    own.return_path = Some(domain("bounce.acme.example"));
    let tenant = Arc::new(tenant("acme", vec![own]));
    let own = &tenant.domains[0];
    let rows = [
        (Some("bounce.acme.example"), true, "what comes back there comes back to us"),
        (Some("people.acme.example"), false, "somebody's mailboxes: their MX is not ours"),
        (Some("acme.example"), false, "the From domain itself"),
        (None, false, "the null reverse-path"),
    ];
    for (sender, has_mx, why) in rows {
        let sender = sender.map(domain);
        let subject = Subject { tenant: &tenant, own, author: &own.name, sender: sender.as_ref() };
        let records = wanted_records(&scene.config, &scene.keyring, &subject, &own.name);
        assert_eq!(records.iter().any(|record| record.kind == records::Kind::Mx), has_mx, "{why}");
    }
}
