//! The whole way, in one process: a platform's client, the relay, the zone, an exchanger that verifies.

use std::time::Duration;

use waxseal::sandbox::client::{self, Method};
use waxseal::sandbox::exchanger::Arrival;
use waxseal::sandbox::journey::queue_id;
use waxseal::sandbox::world::{Extra, METHODS, World};

/// A world, and the directory it lives in.
pub async fn start(extra: &Extra) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path(), extra).await.unwrap();
    (world, dir)
}

/// The next message that arrives, within a minute.
pub async fn arrival(world: &mut World) -> Arrival {
    let next = tokio::time::timeout(Duration::from_secs(60), world.exchanger.arrival()).await;
    next.unwrap_or_else(|_| panic!("nothing arrives:\n{}", log(world))).unwrap()
}

/// Every line of the mail log so far.
pub fn log(world: &World) -> String {
    world.daemon.log().flush();
    std::fs::read_to_string(&world.config.log.path).unwrap()
}

/// Submits one message; answers its queue id.
pub async fn submit(world: &World, method: Method) -> String {
    let form = world.form(method).unwrap();
    let reply = client::send(&form, "rewards@acme.test", "you@inbox.test", "Your reward").await.unwrap();
    reply.rsplit_once("queued as ").unwrap().1.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_by_each_method_arrives_sealed_and_aligned() {
    let (mut world, _dir) = start(&Extra::default()).await;
    for method in METHODS {
        let id = submit(&world, method).await;
        let arrival = arrival(&mut world).await;
        let text = String::from_utf8_lossy(&arrival.message).into_owned();
        assert!(arrival.verdict.passes(), "{method:?}: {:?}\n{text}", arrival.verdict);
        assert_eq!(
            queue_id(&arrival.message),
            Some(id),
            "{method:?}: one id, from the 250 to Received:\n{text}"
        );
        assert_eq!(
            (arrival.from.as_str(), arrival.to.as_slice()),
            ("rewards@acme.test", &["you@inbox.test".to_owned()][..])
        );
        assert!(arrival.tls, "an exchanger that offers STARTTLS is taken at its word");
    }
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_from_domain_that_is_not_the_tenants_is_refused_and_nothing_is_queued() {
    let (world, _dir) = start(&Extra::default()).await;
    let form = world.form(Method::Tls).unwrap();
    let refused = client::send(&form, "ceo@other.test", "you@inbox.test", "Hello").await.unwrap_err();
    assert!(refused.to_string().contains("5.7.1"), "{refused}");
    let log = log(&world);
    assert!(log.contains(r#""type":"rejected""#) && !log.contains(r#""type":"received""#), "{log}");
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused() {
    let (world, _dir) = start(&Extra::default()).await;
    let mut form = world.form(Method::Ssl).unwrap();
    form.login = Some(("acme".to_owned(), "guess".to_owned()));
    let refused = client::send(&form, "rewards@acme.test", "you@inbox.test", "Hello").await.unwrap_err();
    assert!(refused.to_string().contains("5.7.8"), "{refused}");
    world.end().await.unwrap();
}
