//! Nanoseconds for one judgement with warm facts: good mail, and mail with everything wrong.
//! Run: cargo bench --bench judge
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures and stops where it cannot go on"
)]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use waxseal::mail::time::Time;
use waxseal::seal::facts::{Exchange, KeyAnswer, Known, Picture, Presence, SpfAnswer, SpfResult, Walk};
use waxseal::seal::judge::{Believed, Candidate, Case, judge};
use waxseal::seal::keys::{Kind, generate};

const ROUNDS: usize = 200;
const BATCH: u32 = 200;

fn known<T>(value: T) -> Option<Known<T>> {
    Some(Known { value, seen: Time(0), until: Time(1) })
}

fn picture(name: &str, dmarc: &[&str]) -> Picture {
    let mut picture = Picture::blank(name.parse().unwrap());
    picture.presence = known(Presence::Exists { zone: Some("acme.example".to_owned()) });
    picture.exchange = known(Exchange::Hosts(vec![(10, "mx.acme.example".to_owned())]));
    let above = name.match_indices('.').map(|(at, _)| name.get(at + 1..).unwrap_or_default());
    let record = |name: &str| {
        if name == "acme.example" { dmarc.iter().map(|text| (*text).to_owned()).collect() } else { vec![] }
    };
    let steps = std::iter::once(name).chain(above).map(|name| (name.to_owned(), record(name))).collect();
    picture.dmarc = known(Walk { steps, exists: true, reports: vec![] });
    picture
}

fn spf(record: &str, result: SpfResult, egress: &[IpAddr]) -> Option<Known<SpfAnswer>> {
    known(SpfAnswer {
        records: vec![record.to_owned()],
        results: egress.iter().map(|address| (*address, result)).collect(),
        ..SpfAnswer::default()
    })
}

fn main() {
    let (rsa, ed, other) = (
        generate(Kind::Rsa2048).unwrap(),
        generate(Kind::Ed25519).unwrap(),
        generate(Kind::Rsa2048).unwrap(),
    );
    let keys = [
        Candidate { selector: "wx1", public: &rsa.public },
        Candidate { selector: "wx2", public: &ed.public },
    ];
    let egress: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let good = "v=DMARC1; p=reject; rua=mailto:dmarc@acme.example";
    let text = "v=spf1 include:spf.provider.example ip4:192.0.2.1 ip6:2001:db8::1 ~all";

    let author = picture("news.acme.example", &[good]);
    let mut signer = picture("acme.example", &[good]);
    for (selector, public) in [("wx1", &rsa.public), ("wx2", &ed.public)] {
        let answer = KeyAnswer { alias: None, records: vec![public.record()] };
        signer.keys.insert(selector.to_owned(), known(answer));
    }
    let mut sender = picture("bounce.acme.example", &[good]);
    sender.spf = spf(text, SpfResult::Pass, &egress);
    let case = Case {
        author: &author,
        signer: &signer,
        keys: &keys,
        sender: &sender,
        null: false,
        direct: true,
        egress: &egress,
        wanted: &[],
    };
    figure("good mail", &case, Believed::Both);

    let broken = ["v=DMARC1; p=reject; rua=mailto:a@acme.example", "v=DMARC1; p=nein; pct=1"];
    let author = picture("news.acme.example", &broken);
    let mut signer = picture("acme.example", &broken);
    for selector in ["wx1", "wx2"] {
        let answer = KeyAnswer { alias: None, records: vec![other.public.record()] };
        signer.keys.insert(selector.to_owned(), known(answer));
    }
    let mut sender = picture("bounce.acme.example", &broken);
    sender.spf = spf("v=spf1 mx foo ip4:300.1.1.1 -all", SpfResult::PermError, &egress);
    figure(
        "everything wrong",
        &Case { author: &author, signer: &signer, sender: &sender, ..case },
        Believed::Fail,
    );
}

/// The median of batches, so that what else the machine does counts little.
fn figure(name: &str, case: &Case<'_>, wanted: Believed) {
    assert_eq!(judge(case).dmarc, wanted);
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..BATCH {
                black_box(judge(black_box(case)));
            }
            start.elapsed() / BATCH
        })
        .collect();
    times.sort_unstable();
    println!("{name}: {:?} a judgement", times.get(times.len() / 2).copied().unwrap_or_default());
}
