//! A key is renewed while mail flows: no message leaves that a receiver could not verify at that moment.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use waxseal::control::Client;
use waxseal::sandbox::client::{self, Method};
use waxseal::sandbox::world::{Extra, World};
use waxseal::seal::check::Report;

use super::world::{arrival, start};

/// Messages that arrive by each key before the test has seen enough.
const ENOUGH: usize = 30;

/// What a command of the program says, with `--json`.
fn told(world: &World, args: &[&str]) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_waxseal"));
    let output = command.arg("--config").arg(&world.config.file).arg("--json").args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Publishes what `domain dns` prints and the zone does not have.
async fn publish(world: &World) {
    for record in
        told(world, &["domain", "dns", "acme.test"]).iter().flat_map(|all| all["records"].as_array().unwrap())
    {
        let (name, value) = (record["name"].as_str().unwrap(), record["value"].as_str().unwrap());
        if name.contains("._domainkey.") {
            let halves: Vec<String> = value
                .as_bytes()
                .chunks(255)
                .map(|half| format!("\"{}\"", String::from_utf8_lossy(half)))
                .collect();
            world.zone.publish(&format!("{name}. 1 IN TXT {}\n", halves.join(" "))).await.unwrap();
        }
    }
}

/// The selector that signed a message.
fn selector(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let (_, rest) = text.split_once("s=").unwrap();
    rest.split(';').next().unwrap().to_owned()
}

/// Submits without a pause until told to stop; answers how many were accepted.
fn load(world: &World, stop: &Arc<AtomicBool>, sent: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<()> {
    let (form, stop, sent) = (world.form(Method::None).unwrap(), Arc::clone(stop), Arc::clone(sent));
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            client::send(&form, "rewards@acme.test", "you@inbox.test", "Your reward").await.unwrap();
            sent.fetch_add(1, Ordering::Relaxed);
        }
    })
}

/// Takes messages in until so many came by this key; every one of them verifies.
async fn verified(world: &mut World, by: &str) -> usize {
    let (mut all, mut of_key) = (0, 0);
    while of_key < ENOUGH {
        let arrived = arrival(world).await;
        assert_eq!(arrived.verdict.dkim, "pass", "signed by {}", selector(&arrived.message));
        all += 1;
        of_key += usize::from(selector(&arrived.message) == by);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_rotated_under_load_and_every_message_verifies() {
    let (mut world, _dir) = start(&Extra::default()).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let loading = load(&world, &stop, &sent);
    let mut arrived = verified(&mut world, "wx1").await;

    told(&world, &["key", "rotate", "acme.test"]);
    // The new key is there, and nobody can see it: the old one goes on signing.
    arrived += verified(&mut world, "wx1").await;
    publish(&world).await;
    let admin = Client::new(&world.config.admin.socket);
    let report: Report = admin.post("/v1/domain/acme.test/check", &()).await.unwrap();
    assert!(report.believed.passes(), "{report:?}");
    arrived += verified(&mut world, "wx1").await;

    told(&world, &["key", "activate", "acme.test", "wx2"]);
    arrived += verified(&mut world, "wx2").await;
    let stages = told(&world, &["key", "list", "acme.test"]);
    let stage =
        |selector: &str| stages.iter().find(|key| key["selector"] == selector).unwrap()["stage"].clone();
    assert_eq!((stage("wx1"), stage("wx2")), ("retiring".into(), "active".into()));

    stop.store(true, Ordering::Relaxed);
    loading.await.unwrap();
    while arrived < sent.load(Ordering::Relaxed) {
        let last = arrival(&mut world).await;
        assert_eq!(last.verdict.dkim, "pass");
        arrived += 1;
    }
    world.end().await.unwrap();
}
