//! List-Unsubscribe from end to end: the header is sealed in, the link works, a look changes nothing, and only its class ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use waxseal::sandbox::client::Method;
use waxseal::sandbox::exchanger::Arrival;
use waxseal::sandbox::world::{Extra, World};

use crate::relay::smtp;
use crate::world::{arrival, log, start};

const TABLES: &str = "[unsubscribe]\naddress = \"127.0.0.1:0\"\nbase_url = \"https://u.sandbox.test/leave/\"\n\
                      [[class]]\nname = \"program_email\"\nunsubscribe = \"one_click\"\nsubject = [\"newsletter\"]\n";

/// Sends one message with these header fields.
fn send(world: &World, to: &[&str], head: &str) {
    let mut session = smtp::Session::open(world.door(Method::None).unwrap()).unwrap();
    let message = format!("From: a@acme.test\r\nTo: you@inbox.test\r\n{head}\r\nhello\r\n");
    let reply = session.send("a@acme.test", to, message.as_bytes()).unwrap();
    assert!(reply.starts_with("250"), "{reply}");
}

fn field(arrival: &Arrival, name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(&arrival.message).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap().to_owned();
    let value = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    value.map(|value| value.trim().to_owned())
}

/// One request; answers the status and the whole answer.
fn ask(door: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: u.sandbox.test\r\nContent-Length: {length}\r\n");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    write!(stream, "{head}{form}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

/// A world, and the path of the link in a first mail, whose header was sealed.
async fn linked() -> (World, tempfile::TempDir, String) {
    let delivery = "gather = \"0s\"\n".to_owned();
    let extra = Extra { tables: TABLES.to_owned(), delivery, ..Extra::default() };
    let (mut world, dir) = start(&extra).await;
    send(&world, &["you@inbox.test"], "X-Waxseal-Class: program_email\r\n");
    let first = arrival(&mut world).await;
    assert!(first.verdict.passes(), "{:?}", first.verdict);
    assert_eq!(field(&first, "List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let text = String::from_utf8_lossy(&first.message).to_lowercase().replace("\r\n", "");
    let signed = text.split("h=").nth(1).unwrap().split(';').next().unwrap();
    assert!(
        signed.contains("list-unsubscribe:") || signed.contains("list-unsubscribe-post"),
        "RFC 8058: {signed}"
    );
    let link = field(&first, "List-Unsubscribe").unwrap();
    let path = link.strip_prefix("<https://u.sandbox.test").and_then(|rest| rest.strip_suffix('>')).unwrap();
    assert!(path.starts_with("/leave/") && !path.contains("//"), "{link}");
    (world, dir, path.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_press_ends_mail_of_the_class_and_no_other() {
    let (mut world, _dir, path) = linked().await;
    let door = world.daemon.unsubscribe().unwrap();
    let (status, page) = ask(door, "GET", &path, "");
    assert!(status == 200 && page.contains("<form method=\"post\">") && !page.contains("inbox"), "{page}");
    assert_eq!(ask(door, "POST", &path, "").0, 400, "a scanner that posts nothing");
    assert_eq!(ask(door, "PUT", &path, "").0, 405);
    assert!(!log(&world).contains("suppress.add"), "none of these ended anything");
    let (status, page) = ask(door, "POST", &path, "List-Unsubscribe=One-Click");
    assert!(status == 200 && page.contains("Unsubscribed"), "{page}");
    assert_eq!(ask(door, "POST", &path, "List-Unsubscribe=One-Click").0, 200, "pressed twice");
    assert_eq!(log(&world).matches("suppress.add").count(), 1, "it was there already");

    send(&world, &["you@inbox.test"], "X-Waxseal-Class: program_email\r\n");
    let told = arrival(&mut world).await;
    assert_eq!(told.from, "", "the tenant is told: {:?}", told.to);
    assert!(String::from_utf8_lossy(&told.message).contains("its reader unsubscribed"));
    for (head, why) in [
        ("Subject: your newsletter\r\n", "a guess does not end it"),
        ("X-Waxseal-Class: password_reset\r\n", "another class"),
        ("Subject: hello\r\n", "no class"),
    ] {
        send(&world, &["you@inbox.test"], head);
        let arrived = arrival(&mut world).await;
        assert_eq!(arrived.to, ["you@inbox.test"], "{why}");
        assert_eq!(field(&arrived, "List-Unsubscribe"), None, "{why}");
    }
    world.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_link_and_what_is_no_link() {
    let (mut world, _dir, path) = linked().await;
    let certain = "X-Waxseal-Class: program_email\r\n";
    let own = "List-Unsubscribe: <mailto:leave@acme.test>\r\n";
    for (to, head, expected, why) in [
        (
            &["you@inbox.test", "me@inbox.test"][..],
            certain.to_owned(),
            None,
            "one link cannot stand for two readers",
        ),
        (&["you@inbox.test"], format!("{certain}{own}"), Some("<mailto:leave@acme.test>"), "its own stays"),
    ] {
        send(&world, to, &head);
        let arrived = arrival(&mut world).await;
        assert_eq!(field(&arrived, "List-Unsubscribe").as_deref(), expected, "{why}");
        assert_eq!(field(&arrived, "List-Unsubscribe-Post"), None, "{why}");
    }
    let door = world.daemon.unsubscribe().unwrap();
    let forged = path.replacen("leave/", "leave/A", 1);
    let same = ask(door, "GET", "/", "").1.split("\r\n\r\n").nth(1).unwrap().to_owned();
    for (path, why) in [
        (forged.as_str(), "a link nobody made"),
        ("/metrics", "it is not the admin port"),
        ("/v1/status", "nor its verbs"),
        ("/livez", "nor its health"),
    ] {
        let (status, page) = ask(door, "GET", path, "");
        assert!(status == 404 && page.ends_with(&same), "{why}: {page}");
        assert_eq!(ask(door, "POST", path, "List-Unsubscribe=One-Click").0, 404, "{why}");
    }
    let long = ask(door, "POST", &path, &format!("List-Unsubscribe=One-Click&{}", "x".repeat(9_000)));
    assert_eq!(long.0, 400, "more than a form holds");
    world.end().await.unwrap();
}
