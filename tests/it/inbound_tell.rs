//! Who is told of a bounce that came back, with the real store and the scheduler that sends what is written.

use std::sync::Arc;

use waxseal::inbound::{Inbound, Parts, Peer, Returned};
use waxseal::mail::address::Address;
use waxseal::mail::envelope::Notify;
use waxseal::mail::id::Id;
use waxseal::mail::reply::Reply;
use waxseal::mail::return_path::{self, Token};
use waxseal::memory::Permit;
use waxseal::queue::store::{StoreError, Turns};
use waxseal::seal::Keyring;
use waxseal::tenant::Directory;

use crate::dialogue::secret;
use crate::inbound::report;
use crate::rig::{self, Plan, Rig, tenant};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };

/// A rig whose tenants have return paths, and the room for what comes back to them.
fn room() -> (Rig, Inbound) {
    let rig = Rig::new(TURNS);
    let with_return_path = |name: &str, notify: &[&str]| {
        let mut tenant = tenant(name, notify);
        tenant.domains[0].return_path = Some(format!("bounce.{name}.test").parse().unwrap());
        tenant
    };
    let directory =
        Directory::new([with_return_path("acme", &[]), with_return_path("blue", &["desk@help.test"])]);
    rig.tenants.store(Arc::new(directory));
    let inbound = inbound(&rig);
    (rig, inbound)
}

pub fn inbound(rig: &Rig) -> Inbound {
    let parts = rig.parts(Arc::clone(&rig.script) as _);
    Inbound::new(Parts {
        config: parts.config,
        tenants: parts.tenants,
        store: parts.store,
        keyring: parts.keyring,
        log: parts.log,
        suppressions: parts.suppressions,
        secret: Arc::new(secret()),
        clock: parts.clock,
    })
}

/// A report on the message comes back to its tenant.
async fn comes_back(inbound: &Inbound, id: Id, tenant: &str, body: String) -> Reply {
    let to = return_path::make(&secret(), id, &format!("bounce.{tenant}.test").parse().unwrap());
    assert_eq!(inbound.returns().token(&to), Some(Token::Bounce(id)));
    let peer = Peer { ip: [192, 0, 2, 1].into(), helo: "mx.there.test".into(), tls: None };
    let held = Permit::default();
    let returned = Returned { peer, from: None, to, token: Token::Bounce(id), body: body.into_bytes(), held };
    inbound.take(returned).await
}

fn failed(rcpt: &str, returned: &str) -> String {
    report(rcpt, "failed", "5.1.1", returned)
}

fn to(seen: &rig::Seen) -> Vec<String> {
    seen.message.facts.envelope.rcpts.iter().map(|rcpt| rcpt.address.to_string()).collect()
}

#[tokio::test]
async fn who_is_told() {
    let (mut rig, inbound) = room();
    assert!(rig.list().await.is_empty(), "the index is there");
    rig.script.plan([Plan::Gate]);
    let gone = Id::new(rig.now(), 7);
    let own = "From: Acme <billing@acme.test>\r\nSubject: s\r\n";
    let known = rig.accept("acme", &["a@there.test"]).await;
    let rows = [
        (known, "acme", "a@there.test", "", "noreply@acme.test", "the sender, while the queue knows it"),
        (gone, "acme", "b@there.test", own, "billing@acme.test", "else the author of what was returned"),
        (gone, "blue", "c@there.test", own, "desk@help.test", "whom the tenant names, whatever was returned"),
        (gone, "blue", "d@there.test", "", "desk@help.test", "also where nothing was"),
    ];
    rig.start();
    assert_eq!(&*rig.seen().await.tenant, "acme", "the message itself, whose reply is awaited");
    for (id, tenant, rcpt, returned, expected, why) in rows {
        let reply = comes_back(&inbound, id, tenant, failed(rcpt, returned)).await;
        assert_eq!(reply.code, 250, "{why}: {reply}");
        let told = rig.notification().await;
        assert_eq!(to(&told), [expected], "{why}");
        let words = rig::report(&told.message.body);
        assert!(
            words.contains(rcpt) && words.contains(&format!("X-Waxseal-Queue-ID: {id}\n")),
            "{why}: {words}"
        );
    }
    rig.script.gate.add_permits(100);
    rig.drain().await;
}

#[tokio::test]
async fn nobody_is_told_where_nobody_may_be() {
    let (rig, inbound) = room();
    assert!(rig.list().await.is_empty(), "the index is there");
    let never = Notify { success: false, failure: false, delay: false, stated: true };
    let silent =
        rig.accept_with("acme", &["a@there.test"], |facts| facts.envelope.rcpts[0].notify = never).await;
    let gone = Id::new(rig.now(), 7);
    let rows = [
        (silent, "a@there.test", "", "its sender asked not to be told"),
        (gone, "b@there.test", "", "does not show who of the tenant sent it"),
        (gone, "c@there.test", "From: ceo@victim.test\r\n", "does not show who of the tenant sent it"),
    ];
    for (id, rcpt, returned, why) in rows {
        assert_eq!(comes_back(&inbound, id, "acme", failed(rcpt, returned)).await.code, 250);
        let line = rig.logged("remote_bounce").pop().unwrap();
        assert!(line["reason"].as_str().unwrap().contains(why), "{why}: {line}");
        assert!(line["dsn"].is_null(), "{line}");
    }
    assert_eq!(rig.list().await.len(), 1, "QU4: nothing was written to anybody");
}

#[tokio::test]
async fn a_failure_that_cannot_be_told_now_comes_again() {
    let (mut rig, inbound) = room();
    assert!(rig.list().await.is_empty(), "the index is there");
    let gone = Id::new(rig.now(), 7);
    let key = rig.keyring.swap(Arc::new(Keyring::default()));
    let reply = comes_back(&inbound, gone, "blue", failed("a@there.test", "")).await;
    assert_eq!(reply.code, 451, "never unsigned, and not forgotten: {reply}");
    let line = rig.logged("remote_bounce").pop().expect("what was not told is logged");
    assert!(line["dsn"].is_null(), "{line}");
    assert!(line["reason"].as_str().unwrap().contains("no notification can be made now"), "{line}");
    rig.keyring.store(key);
    assert_eq!(comes_back(&inbound, gone, "blue", failed("a@there.test", "")).await.code, 250);
    assert_eq!(rig.list().await.len(), 1);
    rig.fail_store();
    let dead = self::inbound(&rig);
    assert_eq!(comes_back(&dead, gone, "blue", failed("b@there.test", "")).await.code, 451);
    drop(rig);

    let shelf = Arc::new(crate::intake::Shelf::default());
    *shelf.fault.lock().unwrap() = Some(StoreError::Full("disk".into()));
    let rig = Rig::new(TURNS);
    let mut tenant = tenant("blue", &["desk@help.test"]);
    tenant.domains[0].return_path = Some("bounce.blue.test".parse().unwrap());
    rig.tenants.store(Arc::new(Directory::new([tenant])));
    let parts = rig.parts(Arc::clone(&rig.script) as _);
    let full = Inbound::new(Parts {
        config: parts.config,
        tenants: parts.tenants,
        store: shelf,
        keyring: parts.keyring,
        log: parts.log,
        suppressions: parts.suppressions,
        secret: Arc::new(secret()),
        clock: parts.clock,
    });
    assert_eq!(comes_back(&full, gone, "blue", failed("c@there.test", "")).await.code, 452);
}

#[tokio::test]
async fn a_recipient_that_cannot_be_read_is_told_of_all_the_same() {
    let (mut rig, inbound) = room();
    assert!(rig.list().await.is_empty(), "the index is there");
    let gone = Id::new(rig.now(), 7);
    let body = failed("not an address", "");
    assert_eq!(comes_back(&inbound, gone, "blue", body).await.code, 250);
    rig.start();
    let told = rig.notification().await;
    let unknown = Address::unknown().to_string();
    assert!(rig::report(&told.message.body).contains(&unknown), "better told of nobody than not told");
    rig.drain().await;
}

/// Who once had a message can make reports up on recipients that it never had: its tenant is not flooded with them.
#[tokio::test]
async fn one_message_is_told_of_fifty_times_at_most() {
    let (rig, inbound) = room();
    assert!(rig.list().await.is_empty(), "the index is there");
    let gone = Id::new(rig.now(), 7);
    for at in 0..53 {
        let reply = comes_back(&inbound, gone, "blue", failed(&format!("made-up{at}@there.test"), "")).await;
        assert_eq!(reply.code, 250);
    }
    let lines = rig.logged("remote_bounce");
    let told = lines.iter().filter(|line| !line["dsn"].is_null()).count();
    assert_eq!((lines.len(), told), (53, 50));
    assert_eq!(lines[52]["reason"], "too much was told of this message already");
    assert_eq!(rig.list().await.len(), 50);
}
