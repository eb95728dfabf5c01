//! Debian's Postfix takes our mail, cannot pass it on, and bounces it to the return path: a report that nobody here wrote.

use crate::follow::Follow;
use crate::postfix::{Postfix, Taking};
use crate::relay::{Layout, Relay, free_address, smtp};
use crate::strangers;
use crate::strangers_submit::zone;

/// What Postfix has it passes on to our own listener for what comes back: the message is refused there, for it is not for one of
/// our addresses, and the report on that is taken, for it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_postfixs_bounce_is_read_and_told() {
    if strangers::absent("postfix") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let back = free_address();
    let postfix = Postfix::start(dir.path(), free_address(), Taking::Exchanger, back);
    let zone = zone(postfix.address.ip()).await;
    let layout = Layout {
        tables: format!(
            "[[listener]]\naddress = \"{back}\"\nrole = \"inbound\"\ntls = \"none\"\n[dns]\nservers = [\"{}\"]",
            zone.address()
        ),
        delivery: format!("port = {}\ngather = \"0s\"", postfix.address.port()),
        route: "[route]\nvia = \"mx\"\n".to_owned(),
        ..Layout::upstream(postfix.address)
    };
    let relay = Relay::lay_out(dir.path(), &layout);
    let file = dir.path().join("config/tenants/bench.toml");
    let tenant = std::fs::read_to_string(&file).unwrap();
    let tenant = tenant
        .replacen("name = \"bench\"\n", "name = \"bench\"\nnotify = [\"desk@dest.test\"]\n", 1)
        .replacen("on_fail", "return_path = \"bounce.bench.test\"\non_fail", 1);
    crate::relay::secret(&file, &tenant);
    let mut daemon = relay.start();
    let message = b"From: a@bench.test\r\nTo: b@dest.test\r\nSubject: s\r\n\r\nbody\r\n";
    let reply = smtp::Session::open(relay.address())
        .unwrap()
        .send("a@bench.test", &["b@dest.test"], message)
        .unwrap();
    let id = reply.rsplit_once("queued as ").unwrap().1.to_owned();
    let line = bounce(&relay, &postfix).await;
    assert_eq!((line["id"].as_str(), line["tenant"].as_str()), (Some(&*id), Some("bench")), "{line}");
    assert_eq!((&line["action"], &line["reply"]["code"]), (&"failed".into(), &550.into()), "{line}");
    assert_eq!((&line["to"], &line["reply"]["enhanced"]), (&"b@dest.test".into(), &"5.7.1".into()), "{line}");
    assert!(line["reply"]["text"].as_str().unwrap().contains("No mail is relayed here"), "{line}");
    let log = std::fs::read_to_string(dir.path().join("data/mail.jsonl")).unwrap();
    assert!(
        log.contains("\"to\":[\"desk@dest.test\"]") && log.contains(&format!("\"about\":[\"{id}\"]")),
        "{log}"
    );
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// The log's word of the bounce, once the notification that is written after it has been told of too.
async fn bounce(relay: &Relay, postfix: &Postfix) -> serde_json::Value {
    let path = relay.dir.join("data/mail.jsonl");
    let look = |text: &str| {
        let lines: Vec<serde_json::Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let of = |kind: &str| lines.iter().find(|line| line["type"] == kind).cloned();
        of("remote_bounce").filter(|_| of("dsn").is_some())
    };
    let got = Follow::new(&path).until(look).await;
    got.unwrap_or_else(|| panic!("{}\n{}", postfix.log(), std::fs::read_to_string(&path).unwrap_or_default()))
}
