//! `waxseal sandbox --once`, the real program: what a newcomer runs first.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::relay::smtp;

#[test]
fn sandbox_once_shows_the_journey_and_exits_0() {
    let output = Command::new(env!("CARGO_BIN_EXE_waxseal")).args(["sandbox", "--once"]).output().unwrap();
    let (said, noted) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{noted}");
    let steps: Vec<_> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    // When the platform gets to read its 250 is its own affair: the message may by then be on its way.
    assert!(steps.contains(&"queued"), "{said}");
    let steps: Vec<_> = steps.into_iter().filter(|step| *step != "queued").collect();
    // Two domains' keys are seen in DNS and so come into use; then the tenant's mail would be believed.
    let journey = ["key", "key", "health", "submit", "received", "attempt", "arrived", "delivered"];
    assert_eq!(steps, journey, "{said}");
    assert!(said.contains("dkim=pass spf=pass dmarc=pass"), "{said}");
    let ids: std::collections::BTreeSet<_> =
        said.lines().filter_map(|line| line.split_whitespace().nth(2)).filter(|id| id.len() == 26).collect();
    assert_eq!(ids.len(), 1, "one id from the first step to the last:\n{said}");
}

#[test]
fn sandbox_speaks_json() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_waxseal")).args(["sandbox", "--once", "--json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["v"], 1);
        assert!(record["event"]["ts"].is_string() && record["event"]["step"].is_string(), "{line}");
    }
}

/// The JSON lines of a running sandbox, up to the one that `wanted` picks.
fn until(
    lines: &mut impl Iterator<Item = std::io::Result<String>>,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).find(wanted).unwrap()
}

#[test]
fn sandbox_stays_up_for_a_platform_and_keeps_what_arrives() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_waxseal"))
        .args(["sandbox", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let open = until(&mut lines, |line| line["servers"].is_array());
    assert_eq!(open["servers"].as_array().unwrap().len(), 3, "None, TLS and SSL: {open}");

    let server = open["servers"][0]["server"].as_str().unwrap().parse().unwrap();
    let mut session = smtp::Session::open(server).unwrap();
    let message = b"From: shop@acme.test\r\nTo: me@anywhere.example\r\nSubject: mine\r\n\r\nHello.\r\n";
    let reply = session.send("shop@acme.test", &["me@anywhere.example"], message).unwrap();
    let id = reply.rsplit_once("queued as ").unwrap().1.to_owned();
    let ours = |line: &serde_json::Value| line["event"]["step"] == "arrived" && line["event"]["id"] == *id;
    let arrived = until(&mut lines, ours);
    assert!(arrived["event"]["text"].as_str().unwrap().contains("dmarc=pass"), "{arrived}");

    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(lines.all(|line| line.is_ok()) && child.wait().unwrap().success());
    let mail = Path::new(open["mail"].as_str().unwrap());
    let kept = std::fs::read_to_string(mail.join(format!("{id}.eml"))).unwrap();
    assert!(kept.starts_with("DKIM-Signature:") && kept.contains("Subject: mine"), "{kept}");
    std::fs::remove_dir_all(mail.parent().unwrap()).unwrap();
}
