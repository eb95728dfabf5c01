//! Messages a second through admission on one core, without the store: signing apart from the rest.
//! Run: cargo bench --bench admit
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "a bench prints its figures and stops where it cannot go on; the world it uses is the tests'"
)]

use std::time::{Duration, Instant};

use waxseal::mail::time::Time;
use waxseal::seal::Keyring;

#[path = "../tests/it/intake.rs"]
mod intake;

use intake::{DOMAIN, Intake};

const ROUNDS: u32 = 4_000;

fn message(size: usize, line: &str) -> Vec<u8> {
    let head = "From: Acme <a@t.example>\r\nTo: Ann <r@rcpt.example>\r\nSubject: Reset your password\r\n\
                Date: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <x@t.example>\r\nMIME-Version: 1.0\r\n\
                Content-Type: text/html; charset=utf-8\r\n\r\n";
    let mut message = head.as_bytes().to_vec();
    while message.len() < size {
        message.extend_from_slice(line.as_bytes());
    }
    message
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let intake = runtime.block_on(async { Intake::new() });
    let keyring = Keyring::load(&intake.dir.path().join("keys")).unwrap();
    let domain = DOMAIN.parse().unwrap();
    let ascii = "<p>One line of a template, as long as lines usually are in mail.</p>\r\n";
    for (name, message) in [
        ("4 KiB", message(4 << 10, ascii)),
        ("50 KiB", message(50 << 10, ascii)),
        ("4 KiB, 8-bit", message(4 << 10, "<p>Grüße, eine Zeile, wie sie in Vorlagen üblich ist.</p>\r\n")),
    ] {
        let sign = each(|| drop(keyring.sign(&domain, &message, Time(0), Duration::from_secs(60)).unwrap()));
        let all = each(|| {
            let reply = runtime.block_on(intake.admit.submit(intake.submission(&message)));
            assert_eq!(reply.code, 250);
            drop(intake.taken());
        });
        let rest = all.saturating_sub(sign);
        let rate = 1.0 / all.as_secs_f64();
        println!("{name}: {rate:.0}/s, each {all:?}: signing {sign:?}, the rest {rest:?}");
    }
}

/// The median of rounds, so that what else the machine does counts little.
fn each(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
