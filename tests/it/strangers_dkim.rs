//! Our seals are judged by verifiers that others wrote: dkimpy and OpenDKIM. mail-auth cannot judge what mail-auth made.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use waxseal::seal::keys::Kind;

use crate::intake::{DOMAIN, Intake};
use crate::strangers;

/// Messages that both verifiers judge.
const MESSAGES: usize = 1_040;
/// The generator's seed: the same messages every time.
const SEED: u64 = 6376;

const BODIES: [&str; 16] = [
    "",
    "\r\n",
    "\r\n\r\n\r\n",
    " \r\n",
    " \t \r\n\t\r\n",
    "text",
    "text\r\n",
    "text \t\r\n",
    "text\r\n\r\n\r\n",
    "text\r\n \r\n\t\r\n  \r\n",
    "text\r\n \r\nmore\t  words \r\n\t",
    "  leading\r\n\tand   inner\t\tspace\r\n",
    ".\r\n..\r\n.text\r\n",
    "Grüße, 日本語\r\n",
    "a\x0cb\x0b\r\n",
    "=C3=BC =\r\nsoft\r\n",
];

const HEADERS: [&str; 14] = [
    "",
    "Subject: plain\r\n",
    "Subject:\r\n",
    "Subject:no space\r\n",
    "Subject:   spaces   and\ttabs  \r\n",
    "Subject: folded\r\n over\r\n\t three lines\r\n",
    "Subject: Grüße aus Köln\r\n",
    "To: Jörg Example <j@rcpt.example>, (comment) b@rcpt.example\r\nCc: c@rcpt.example\r\n",
    "List-Unsubscribe: <https://t.example/u?x=1>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
    "Date: Tue, 24 Nov 2026 10:00:00 +0100\r\nMessage-ID: <x@t.example>\r\nMIME-Version: 1.0\r\n",
    "X-Odd_Name.1: v\r\nReceived: from a by b; Tue, 24 Nov 2026 00:00:00 +0000\r\n",
    "SUBJECT: upper\r\nreply-to: lower@t.example\r\n",
    "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n",
    "References: <a@t.example>\r\n <b@t.example>\r\nIn-Reply-To: <b@t.example>\r\n",
];

/// A message of every body with every header, then random ones with long lines, long headers and odd octets.
fn message(number: usize, random: &mut StdRng) -> Vec<u8> {
    let (header, body) = (HEADERS[number % HEADERS.len()], BODIES[number / HEADERS.len() % BODIES.len()]);
    let mut head = format!("From: Ann  Example\r\n <a@t.example>\r\n{header}");
    if number < HEADERS.len() * BODIES.len() {
        return format!("{head}\r\n{body}").into_bytes();
    }
    let _ = write!(head, "X-Long: {}\r\n", "long words ".repeat(random.random_range(1..80)));
    for _ in 0..random.random_range(0..20) {
        let _ = write!(
            head,
            "X-Fold: {}\r\n\t{}\r\n",
            random.next_u64(),
            " x".repeat(random.random_range(1..30))
        );
    }
    let mut message = format!("{head}\r\n{body}").into_bytes();
    for _ in 0..random.random_range(0..12) {
        let length = if random.random_ratio(1, 40) { 50_000 } else { random.random_range(0..1_200) };
        let octets = [b' ', b'\t', b'a', b'=', b'.', b'-', 0xc3, 0xa9, 0xff, b'x'];
        message.extend((0..length).map(|_| octets[random.random_range(0..octets.len())]));
        message.extend_from_slice(if random.random_ratio(9, 10) { b"\r\n" } else { b" " });
    }
    message
}

/// Takes generated messages through admission and writes what would leave, and the key records, below `dir`.
async fn write_sealed(intake: &Intake, count: usize, dir: &Path) {
    let mut random = StdRng::seed_from_u64(SEED);
    for number in 0..count {
        let taken = intake.accepted(&message(number, &mut random)).await;
        fs::write(dir.join(number.to_string()), &taken.message.body).unwrap();
    }
    let records: String = intake
        .keys
        .iter()
        .map(|(selector, key)| format!("{selector}._domainkey.{DOMAIN} {}\n", key.public.record()))
        .collect();
    fs::write(dir.join("keys"), records).unwrap();
}

/// dkimpy on every message below the directory; says which signatures fail, and how many it saw.
const DKIMPY: &str = r#"
import os, sys, dkim
keys = dict(line.split(" ", 1) for line in open("keys").read().splitlines())
def txt(name, timeout=5):
    return keys.get(name.decode().rstrip(".")).encode()
seen = 0
for name in sorted(os.listdir("."), key=lambda n: (len(n), n)):
    if name == "keys": continue
    verifier = dkim.DKIM(open(name, "rb").read(), minkey=1024)
    for index in range(int(sys.argv[1])):
        seen += 1
        try:
            if verifier.verify(idx=index, dnsfunc=txt): continue
            print("refused", name, index)
        except Exception as error:
            print("refused", name, index, repr(error))
print("seen", seen)
"#;

fn dkimpy(dir: &Path, signatures: usize) -> String {
    let mut command = Command::new(strangers::python());
    let out = command.args(["-c", DKIMPY, &signatures.to_string()]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[tokio::test]
async fn dkimpy_believes_every_message() {
    if strangers::absent("dkimpy") {
        return;
    }
    let (intake, dir) = (Intake::new(), tempfile::tempdir().unwrap());
    write_sealed(&intake, MESSAGES, dir.path()).await;
    assert_eq!(dkimpy(dir.path(), 1).trim(), format!("seen {MESSAGES}"));
}

#[tokio::test]
async fn dkimpy_believes_both_signatures() {
    if strangers::absent("dkimpy") {
        return;
    }
    let intake = Intake::with(&[("rsa", Kind::Rsa2048), ("ed", Kind::Ed25519)]);
    let dir = tempfile::tempdir().unwrap();
    write_sealed(&intake, 60, dir.path()).await;
    assert_eq!(dkimpy(dir.path(), 2).trim(), "seen 120");
}

/// DK1: what is added to a sealed message on the way breaks the seal.
#[tokio::test]
async fn dkimpy_refuses_what_was_added_on_the_way() {
    if strangers::absent("dkimpy") {
        return;
    }
    let (intake, dir) = (Intake::new(), tempfile::tempdir().unwrap());
    write_sealed(&intake, 1, dir.path()).await;
    let sealed = fs::read(dir.path().join("0")).unwrap();
    let names = ["From", "Subject", "To", "Cc", "Date", "Reply-To", "MIME-Version", "Content-Type"];
    for (number, name) in names.iter().enumerate() {
        let forged = [format!("{name}: x@evil.example\r\n").as_bytes(), &sealed].concat();
        fs::write(dir.path().join(number.to_string()), forged).unwrap();
    }
    fs::write(dir.path().join(names.len().to_string()), [sealed.as_slice(), b"appended\r\n"].concat())
        .unwrap();
    let said = dkimpy(dir.path(), 1);
    assert_eq!(said.matches("refused").count(), names.len() + 1, "{said}");
}

#[tokio::test]
async fn opendkim_believes_every_message() {
    if strangers::absent("opendkim") {
        return;
    }
    let (intake, dir) = (Intake::new(), tempfile::tempdir().unwrap());
    write_sealed(&intake, MESSAGES, dir.path()).await;
    fs::write(dir.path().join("conf"), "Mode v\nTestPublicKeys keys\n").unwrap();
    let names: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
    let mut command = strangers::command("opendkim");
    let out =
        command.args(["-x", "conf", "-v", "-t", &names.join(",")]).current_dir(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    let good = said.lines().filter(|line| line.ends_with("succeeded")).count();
    assert_eq!(
        good,
        MESSAGES,
        "{}",
        said.lines().filter(|line| !line.ends_with("succeeded")).take(20).collect::<Vec<_>>().join("\n")
    );
}
