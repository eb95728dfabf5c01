//! What comes back, through the real daemon: mail leaves with a return path of ours, and a bounce that comes to it is told.

use std::net::{IpAddr, SocketAddr};

use waxseal::mail::id::Id;
use waxseal::mail::return_path::{self, Secret};
use waxseal::sandbox::client::Method;
use waxseal::sandbox::world::{Extra, World};

use crate::follow::{Follow, events};
use crate::relay::{own_ip, smtp};
use crate::rig;
use crate::world::{arrival, log, start, submit};

/// A loopback address of this process's own.
pub fn home() -> IpAddr {
    own_ip(78).into()
}

/// A world with a listener for what comes back, and a mailbox for the tenant's postmaster.
pub async fn world(extra: Extra) -> (World, tempfile::TempDir) {
    let (world, dir) = start(&Extra { inbound: Some(home()), ..extra }).await;
    world.zone.publish("acme.test. 1 IN MX 10 mx.sandbox.test.\n").await.unwrap();
    (world, dir)
}

/// The listener for what comes back.
pub fn back_door(world: &World) -> SocketAddr {
    *world.daemon.addresses().last().unwrap()
}

/// Brings a message there as another server does; answers the last reply: to RCPT where that is refused.
pub fn bring(door: SocketAddr, from: &str, to: &str, message: &str) -> String {
    let mut session = smtp::Session::open(door).unwrap();
    let taken = session.say(&format!("MAIL FROM:<{from}>")).unwrap();
    assert!(taken.starts_with("250"), "anybody may bring what comes back: {taken}");
    let rcpt = session.say(&format!("RCPT TO:<{to}>")).unwrap();
    if !rcpt.starts_with("250") {
        return rcpt;
    }
    session.say("RSET").unwrap();
    session.send(from, &[to], message.as_bytes()).unwrap()
}

/// A report on one recipient, with the header section of what it is about.
pub fn report(rcpt: &str, action: &str, status: &str, returned: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.there.test\r\nTo: x@y.test\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nSorry.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.there.test\r\n\r\n\
         Final-Recipient: rfc822; {rcpt}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 {status} mailbox full\r\n\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--b--\r\n"
    )
}

/// The log's lines of this type.
pub fn logged(world: &World, kind: &str) -> Vec<serde_json::Value> {
    events(&log(world)).filter(|line| line["type"] == kind).collect()
}

/// The log's lines of this type, once there is one.
pub async fn waited_for(world: &World, kind: &str) -> Vec<serde_json::Value> {
    let mut log_file = Follow::new(&world.config.log.path);
    let found = log_file.until(|_| Some(logged(world, kind)).filter(|lines| !lines.is_empty())).await;
    found.unwrap_or_else(|| panic!("{}", log(world)))
}

/// The secret of a running relay.
fn secret(world: &World) -> Secret {
    let octets: [u8; 32] = std::fs::read(world.config.bounce_secret()).unwrap().try_into().unwrap();
    Secret::new(&octets.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_comes_back_is_told_once_and_logged_each_time() {
    let (mut world, _dir) = world(Extra::default()).await;
    let id = submit(&world, Method::Tls).await;
    let out = arrival(&mut world).await;
    assert!(out.verdict.passes(), "SPF aligns at the return path: {:?}", out.verdict);
    assert!(out.from.starts_with("b+") && out.from.ends_with("@bounce.acme.test"), "{}", out.from);
    let spoken = return_path::read(&secret(&world), &out.from.parse().unwrap());
    assert_eq!(spoken, Some(return_path::Token::Bounce(id.parse::<Id>().unwrap())));

    let text =
        report("you@inbox.test", "failed", "5.2.2", "From: rewards@acme.test\r\nSubject: Your reward\r\n");
    // A server on the way folded the local part.
    let folded = out.from.replacen("b+0", "B+0", 1);
    let taken = bring(back_door(&world), "", &folded, &text);
    assert!(taken.starts_with("250 2.0.0"), "{taken}");
    let told = arrival(&mut world).await;
    assert_eq!((told.from.as_str(), told.to.as_slice()), ("", &["postmaster@acme.test".to_owned()][..]));
    assert!(told.verdict.passes(), "a notification is sealed with the relay's own key: {:?}", told.verdict);
    let words = rig::report(&told.message);
    assert!(
        words.contains("Final-Recipient: rfc822; you@inbox.test\nAction: failed\nStatus: 5.2.2\n"),
        "{words}"
    );
    assert!(words.contains(&format!("X-Waxseal-Queue-ID: {id}\n")), "{words}");
    // Not the Subject: the queue may have forgotten of which class it was, and some class hides it.
    assert!(String::from_utf8_lossy(&told.message).contains("From: rewards@acme.test"));

    assert!(
        bring(back_door(&world), "", &out.from, &text).starts_with("250 2.0.0"),
        "taken, and not told again"
    );
    let bounces = logged(&world, "remote_bounce");
    assert_eq!(bounces.len(), 2);
    for (bounce, reason) in bounces.iter().zip([None, Some("it was told before")]) {
        assert_eq!((bounce["id"].as_str(), bounce["tenant"].as_str()), (Some(&*id), Some("acme")));
        assert_eq!((&bounce["to"], &bounce["action"]), (&"you@inbox.test".into(), &"failed".into()));
        assert_eq!((&bounce["reply"]["code"], &bounce["reply"]["enhanced"]), (&550.into(), &"5.2.2".into()));
        assert_eq!(
            (&bounce["host"], &bounce["reason_class"]),
            (&"mx.there.test".into(), &"mailbox_full".into())
        );
        assert_eq!(bounce["reason"].as_str(), reason);
    }
    let dsn = logged(&world, "dsn");
    assert_eq!((dsn.len(), dsn[0]["about"][0].as_str()), (1, Some(&*id)));
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_comes_back_is_logged_or_refused() {
    let (mut world, _dir) = world(Extra::default()).await;
    let id = submit(&world, Method::Ssl).await;
    let out = arrival(&mut world).await;
    let door = back_door(&world);
    let late = report("you@inbox.test", "delayed", "4.4.1", "");
    assert!(bring(door, "", &out.from, &late).starts_with("250"));
    let there = report("you@inbox.test", "delivered", "2.0.0", "");
    assert!(bring(door, "mailer@there.test", &out.from, &there).starts_with("250"));
    let spam = "From: fbl@there.test\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
        --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x/1\r\nVersion: 1\r\n\
        Original-Rcpt-To: you@inbox.test\r\n\r\n--b--\r\n";
    assert!(bring(door, "", &out.from, spam).starts_with("250"));
    let person = bring(door, "you@inbox.test", &out.from, "From: you@inbox.test\r\n\r\nThank you!\r\n");
    assert!(person.starts_with("550 5.7.1") && person.contains("postmaster@relay.sandbox.test"), "{person}");
    for (to, why) in [
        (out.from.replace("bounce.acme.test", "acme.test"), "the same token at another domain"),
        (out.from.replacen('.', ".a", 1), "another MAC"),
        ("you@inbox.test".to_owned(), "RE1: it relays nothing"),
        ("postmaster@relay.sandbox.test".to_owned(), "nor takes mail for the relay itself"),
    ] {
        assert!(bring(door, "", &to, "x").starts_with("550 5.7.1"), "{why}");
    }
    let actions: Vec<_> =
        logged(&world, "remote_bounce").iter().map(|line| line["action"].to_string()).collect();
    assert_eq!(actions, ["\"delayed\"", "\"delivered\""]);
    let complaints = logged(&world, "complaint");
    assert_eq!((&complaints[0]["id"], &complaints[0]["reason"]), (&id.into(), &"abuse".into()));
    assert_eq!(logged(&world, "dsn").len(), 0, "nobody is told of any of these");
    world.end().await.unwrap();
}

/// The secret is made at the first start and kept: bounces of mail sent before a restart are still known.
#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_the_owners_alone_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let (world, _dir) = world(Extra::default()).await;
    let path = world.config.bounce_secret();
    let before = std::fs::read(&path).unwrap();
    assert_eq!((before.len(), std::fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
    let config = world.config.clone();
    world.end().await.unwrap();
    let again = waxseal::daemon::Daemon::start(config).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), before);
    again.drain().await.unwrap();
}
