//! The judge on pictures made by hand: what DNS servers do not easily do (silence), what is no matter of zones (upstreams,
//! unknown addresses, keys of our own), and how the parts are weighed. Zones are judged in tests/it/tables/seal_zones.rs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::mail::address::Domain;
use crate::mail::id::Id;
use crate::mail::time::Time;
use crate::seal::facts::{Exchange, KeyAnswer, Known, Presence, SpfAnswer, SpfFault, SpfResult, Walk};
use crate::seal::keys::{Algorithm, Public};
use crate::seal::refusal::{About, hold_reason, refusal, summary};

/// What a case is made of, good to begin with.
struct Scene {
    author: Picture,
    signer: Picture,
    sender: Picture,
    keys: Vec<(&'static str, Public)>,
    null: bool,
    direct: bool,
    egress: Vec<IpAddr>,
    wanted: Vec<Record>,
}

fn known<T>(value: T) -> Option<Known<T>> {
    Some(Known { value, seen: Time(0), until: Time(1) })
}

fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

fn key(algorithm: Algorithm, filler: u8) -> Public {
    Public { algorithm, octets: vec![filler; 294] }
}

fn steps(list: &[(&str, &str)]) -> Option<Known<Walk>> {
    let records = |text: &str| if text.is_empty() { vec![] } else { vec![text.to_owned()] };
    let steps = list.iter().map(|(name, text)| ((*name).to_owned(), records(text))).collect();
    known(Walk { steps, exists: true, reports: vec![] })
}

fn picture(name: &str) -> Picture {
    let mut picture = Picture::blank(domain(name));
    picture.presence = known(Presence::Exists { zone: Some("acme.example".to_owned()) });
    picture.exchange = known(Exchange::Hosts(vec![(10, "mx.acme.example".to_owned())]));
    picture.dmarc = if name == "acme.example" {
        steps(&[("acme.example", "v=DMARC1; p=reject"), ("example", "")])
    } else {
        steps(&[(name, ""), ("acme.example", "v=DMARC1; p=reject"), ("example", "")])
    };
    picture
}

fn spf(results: &[(&str, SpfResult)]) -> SpfAnswer {
    SpfAnswer {
        records: vec!["v=spf1 ip4:192.0.2.1 ~all".to_owned()],
        results: results.iter().map(|(address, result)| (address.parse().unwrap(), *result)).collect(),
        ..SpfAnswer::default()
    }
}

fn answer(text: impl Into<String>) -> Option<Known<KeyAnswer>> {
    known(KeyAnswer { alias: None, records: vec![text.into()] })
}

impl Scene {
    fn good() -> Self {
        let rsa = key(Algorithm::Rsa(2048), 7);
        let mut signer = picture("acme.example");
        signer.keys = BTreeMap::from([("wx1".to_owned(), answer(rsa.record()))]);
        let mut sender = picture("bounce.acme.example");
        sender.spf = known(spf(&[("192.0.2.1", SpfResult::Pass)]));
        Self {
            author: signer.clone(),
            signer,
            sender,
            null: false,
            keys: vec![("wx1", rsa)],
            direct: true,
            egress: vec!["192.0.2.1".parse().unwrap()],
            wanted: vec![],
        }
    }

    fn judged(&self) -> Verdict {
        let keys: Vec<_> =
            self.keys.iter().map(|(selector, public)| Candidate { selector, public }).collect();
        judge(&Case {
            author: &self.author,
            signer: &self.signer,
            keys: &keys,
            sender: &self.sender,
            null: self.null,
            direct: self.direct,
            egress: &self.egress,
            wanted: &self.wanted,
        })
    }

    fn without_key(&mut self) -> &mut Self {
        self.signer.keys.insert("wx1".to_owned(), known(KeyAnswer::default()));
        self
    }

    fn without_spf(&mut self) -> &mut Self {
        self.sender.spf = known(spf(&[("192.0.2.1", SpfResult::Fail)]));
        self
    }

    fn strict(&mut self, record: &str) -> &mut Self {
        self.author.dmarc = steps(&[("acme.example", record)]);
        self
    }
}

/// What is done to the good scene, DKIM, SPF, the two together, a word of the worst finding, and why.
type Row = (fn(&mut Scene), Finds, Finds, Believed, &'static str, &'static str);

use Believed::{Both, DkimOnly, Fail, SpfOnly, Unknown};
use Finds::{Fail as No, Pass as Yes, Unknown as Dark};

const ROWS: &[Row] = &[
    (|_| {}, Yes, Yes, Both, "holds our key", "all is well"),
    (
        |s| {
            s.without_spf();
        },
        Yes,
        No,
        DkimOnly,
        "does not let 192.0.2.1 send",
        "DKIM carries it",
    ),
    (
        |s| {
            s.without_key();
        },
        No,
        Yes,
        SpfOnly,
        "is not published",
        "SPF carries it",
    ),
    (
        |s| {
            s.without_key().without_spf();
        },
        No,
        No,
        Fail,
        "is not published",
        "neither",
    ),
    (
        |s| {
            s.without_key().without_spf().strict("v=DMARC1; p=none");
        },
        No,
        No,
        Fail,
        "is not published",
        "p=none: providers refuse it all the same",
    ),
    (
        |s| {
            s.without_key().without_spf();
            s.author.dmarc = steps(&[("acme.example", "")]);
        },
        No,
        No,
        Fail,
        "is not published",
        "no record: the same",
    ),
    (|s| s.direct = false, Yes, Dark, DkimOnly, "holds our key", "an upstream: SPF is its own"),
    (
        |s| {
            s.without_key();
            s.direct = false;
        },
        No,
        Dark,
        Fail,
        "is not published",
        "an upstream without DKIM has nothing",
    ),
    (|s| s.egress.clear(), Yes, Dark, DkimOnly, "are not configured", "addresses unknown: DKIM carries it"),
    (
        |s| {
            s.without_key();
            s.egress.clear();
        },
        No,
        Dark,
        Fail,
        "is not published",
        "addresses unknown, no DKIM: that cannot pass",
    ),
    (
        |s| {
            s.without_spf();
            s.signer.keys.insert("wx1".to_owned(), None);
        },
        Dark,
        No,
        Unknown,
        "does not let",
        "DNS is silent about the key, which would decide",
    ),
    (
        |s| {
            s.signer.keys.clear();
        },
        Dark,
        Yes,
        SpfOnly,
        "did not answer for wx1._domainkey.acme.example",
        "silent about the key, but SPF passes",
    ),
    (
        |s| {
            s.without_key();
            s.sender.spf = None;
        },
        No,
        Dark,
        Unknown,
        "is not published",
        "silent about SPF, which would decide",
    ),
    (
        |s| s.sender.spf = None,
        Yes,
        Dark,
        DkimOnly,
        "did not answer for SPF",
        "silent about SPF, but DKIM passes",
    ),
    (
        |s| {
            s.without_key();
            s.sender.spf = known(spf(&[("192.0.2.1", SpfResult::TempError)]));
        },
        No,
        Dark,
        Unknown,
        "is not published",
        "temperror is silence",
    ),
    (
        |s| {
            s.without_key();
            s.sender.domain = domain("other.example");
            s.sender.spf = None;
        },
        No,
        No,
        Fail,
        "is not published",
        "silent about an SPF that could not align",
    ),
    (
        |s| {
            s.without_spf();
            s.signer.domain = domain("other.example");
            s.signer.keys.clear();
        },
        No,
        No,
        Fail,
        "is not aligned",
        "silent about a key that could not align",
    ),
    (
        |s| s.author.dmarc = None,
        Yes,
        Dark,
        DkimOnly,
        "DNS did not answer",
        "silent about DMARC: an equal d= aligns anyhow",
    ),
    (
        |s| {
            s.author.dmarc = None;
            s.author.domain = domain("news.acme.example");
            s.without_spf();
        },
        Dark,
        No,
        Unknown,
        "does not let",
        "silent about DMARC: relaxed or strict would decide",
    ),
    (
        |s| {
            s.author = picture("news.acme.example");
            s.without_spf();
            s.signer.dmarc = None;
        },
        Dark,
        No,
        Unknown,
        "does not let",
        "silent about the walk from d=",
    ),
    (
        |s| s.author = picture("news.acme.example"),
        Yes,
        Yes,
        Both,
        "holds our key",
        "d= above the From domain, a reverse-path beside it: one organization",
    ),
    (
        |s| {
            s.strict("v=DMARC1; p=reject; aspf=s");
        },
        Yes,
        No,
        DkimOnly,
        "aspf=s",
        "aspf=s: a name below is not equal",
    ),
    (
        |s| {
            s.author = picture("news.acme.example");
            s.author.dmarc =
                steps(&[("news.acme.example", ""), ("acme.example", "v=DMARC1; p=reject; adkim=s; aspf=s")]);
        },
        No,
        No,
        Fail,
        "adkim=s",
        "both strict, neither equal",
    ),
    (
        |s| {
            s.author = picture("news.acme.example");
            s.author.dmarc = steps(&[("news.acme.example", "v=DMARC1; p=reject; psd=n")]);
        },
        No,
        No,
        Fail,
        "psd= tag parts the two",
        "psd=n parts the names for RFC 9989 alone: not every receiver lets it pass",
    ),
    (
        |s| {
            s.author = picture("shop.co.uk");
            s.author.dmarc = steps(&[("shop.co.uk", ""), ("co.uk", "v=DMARC1; p=none")]);
            s.signer.domain = domain("other.co.uk");
            s.signer.dmarc = steps(&[("other.co.uk", ""), ("co.uk", "v=DMARC1; p=none")]);
            s.sender.domain = domain("shop.co.uk");
        },
        No,
        Yes,
        SpfOnly,
        "public suffix list",
        "the walk alone would align two owners",
    ),
    (
        |s| s.author.exchange = known(Exchange::Null),
        Yes,
        Yes,
        Fail,
        "null MX",
        "receivers refuse it whatever aligns",
    ),
    (|s| s.author.presence = known(Presence::Absent), Yes, Yes, Fail, "does not exist", "the same"),
    (
        |s| s.sender.exchange = known(Exchange::Null),
        Yes,
        Yes,
        Fail,
        "reverse-path",
        "null MX at the reverse-path",
    ),
    (
        |s| {
            s.null = true;
            s.sender.exchange = known(Exchange::Null);
        },
        Yes,
        Yes,
        Both,
        "holds our key",
        "a null reverse-path has no domain: that of our EHLO name is another matter",
    ),
    (
        |s| s.author.exchange = known(Exchange::Nowhere),
        Yes,
        Yes,
        Both,
        "neither MX nor address",
        "only some refuse it",
    ),
    (|s| s.author.presence = None, Yes, Yes, Both, "did not say", "silence refuses nothing"),
    (
        |s| s.keys = vec![("wx2", key(Algorithm::Ed25519, 9))],
        No,
        Yes,
        SpfOnly,
        "only an Ed25519 key",
        "an Ed25519 key alone is no DKIM for some",
    ),
    (|s| s.keys.clear(), No, Yes, SpfOnly, "no DKIM key", "no key"),
    (
        |s| {
            s.keys.push(("wx2", key(Algorithm::Ed25519, 9)));
            s.signer.keys.insert("wx2".to_owned(), known(KeyAnswer::default()));
        },
        Yes,
        Yes,
        Both,
        "signs alone",
        "RSA is enough; Ed25519 is not published yet",
    ),
    (
        |s| s.keys = vec![("wx1", key(Algorithm::Rsa(1024), 7))],
        Yes,
        Yes,
        Both,
        "1024 bits",
        "small, and verified",
    ),
    (|s| s.keys = vec![("wx1", key(Algorithm::Rsa(1000), 7))], No, Yes, SpfOnly, "1000 bits", "too small"),
    (
        |s| {
            let text = format!("{}; t=y", s.keys[0].1.record());
            s.signer.keys.insert("wx1".to_owned(), answer(text));
        },
        Yes,
        Yes,
        Both,
        "t=y",
        "a key that says it is only tested",
    ),
    (
        |s| {
            s.egress.push("2001:db8::1".parse().unwrap());
            s.sender.spf =
                known(spf(&[("192.0.2.1", SpfResult::Pass), ("2001:db8::1", SpfResult::SoftFail)]));
        },
        Yes,
        No,
        DkimOnly,
        "2001:db8::1 send (softfail)",
        "one of our addresses is not named: mail may leave by it",
    ),
    (
        |s| {
            s.egress.push("192.0.2.2".parse().unwrap());
        },
        Yes,
        Dark,
        DkimOnly,
        "did not answer for all",
        "an address that nobody evaluated yet",
    ),
    (
        |s| {
            let mut answer = spf(&[("192.0.2.1", SpfResult::Pass)]);
            answer.lookups = 11;
            s.sender.spf = known(answer);
        },
        Yes,
        No,
        DkimOnly,
        "11 lookups",
        "what lenient receivers let pass is no pass",
    ),
    (
        |s| {
            let mut answer = spf(&[("192.0.2.1", SpfResult::Pass)]);
            answer.voids = 3;
            s.sender.spf = known(answer);
        },
        Yes,
        No,
        DkimOnly,
        "3 names that do not exist",
        "the same",
    ),
    (
        |s| {
            let mut answer = spf(&[("192.0.2.1", SpfResult::Pass)]);
            answer.faults =
                vec![SpfFault { name: "p.example".into(), what: "unknown mechanism `foo`".into() }];
            s.sender.spf = known(answer);
        },
        Yes,
        No,
        DkimOnly,
        "which bounce.acme.example includes",
        "a fault in an include",
    ),
    (
        |s| {
            s.strict("v=DMARC1; p=rejekt");
        },
        Yes,
        Yes,
        Fail,
        "cannot be read",
        "strict receivers refuse the whole record",
    ),
    (
        |s| {
            s.strict("v=DMARC1; p=reject; pct=50");
        },
        Yes,
        Yes,
        Both,
        "removed by RFC 9989",
        "a warning",
    ),
    (
        |s| {
            s.strict("v=DMARC1; p=reject; t=y");
        },
        Yes,
        Yes,
        Both,
        "receivers differ",
        "t=y: a warning",
    ),
    (
        |s| {
            s.strict("");
        },
        Yes,
        Yes,
        Both,
        "no DMARC record",
        "a warning: those who send much need one",
    ),
];

#[test]
fn pictures_and_what_receivers_will_find() {
    for (change, dkim, spf, dmarc, word, why) in ROWS {
        let mut scene = Scene::good();
        change(&mut scene);
        let verdict = scene.judged();
        assert_eq!((verdict.dkim, verdict.spf, verdict.dmarc), (*dkim, *spf, *dmarc), "{why}: {verdict:#?}");
        assert!(verdict.findings.iter().any(|finding| finding.says.contains(word)), "{why}: {verdict:#?}");
        let order: Vec<_> = verdict.findings.iter().map(|finding| finding.level).collect();
        assert!(order.is_sorted(), "the worst first: {why}");
        let failed = order.first() == Some(&Level::Error);
        assert!(failed || *dmarc != Fail, "a failure has its reason: {why}: {verdict:#?}");
        assert!(!(failed && dmarc.passes()), "what passes has no error: {why}: {verdict:#?}");
        let bad = verdict.findings.iter().filter(|finding| finding.level == Level::Error);
        assert!(bad.clone().all(|finding| !finding.fix.is_empty()), "and what to do: {why}: {verdict:#?}");
        assert!(!summary(&verdict).contains('\n') && !hold_reason(&verdict).contains('\n'));
    }
}

#[test]
fn a_key_is_verified_when_its_octets_were_seen() {
    let mut scene = Scene::good();
    assert_eq!(scene.judged().verified, ["wx1"]);
    let ours = scene.keys[0].1.record();
    scene
        .signer
        .keys
        .insert("wx1".to_owned(), known(KeyAnswer { alias: None, records: vec![ours, "v=spf1".into()] }));
    let verdict = scene.judged();
    assert_eq!((verdict.dkim, verdict.verified.as_slice()), (No, ["wx1".to_owned()].as_slice()));
    scene.signer.keys.insert("wx1".to_owned(), answer(key(Algorithm::Rsa(2048), 8).record()));
    assert!(scene.judged().verified.is_empty());
}

fn refused(scene: &Scene, since: Option<Time>) -> Vec<String> {
    let (hostname, author) = (domain("relay.example.com"), scene.author.domain.clone());
    let about = About { hostname: &hostname, author: &author, id: Id::new(Time(0), 1), since };
    let mut wire = Vec::new();
    refusal(&scene.judged(), &about).write(&mut wire);
    let wire = String::from_utf8(wire).unwrap();
    assert!(wire.lines().all(|line| line.len() + 2 <= REPLY_LINE), "{wire}");
    wire.lines().map(str::to_owned).collect()
}

const REPLY_LINE: usize = crate::mail::reply::REPLY_LINE_MAX;

#[test]
fn a_refusal_says_what_fails_and_what_to_publish() {
    let mut scene = Scene::good();
    scene.without_key().wanted.push(Record {
        name: "wx1._domainkey.acme.example".into(),
        kind: Kind::Cname,
        value: "wx1.acme-example.dkim.relay.example.com".into(),
        why: String::new(),
    });
    scene.sender.domain = domain("other.example");
    let lines = refused(&scene, Some(Time(0)));
    assert_eq!(
        lines,
        [
            "550-5.7.26 relay.example.com: acme.example would fail DMARC at receivers (p=reject):",
            "550-5.7.26 dkim: wx1._domainkey.acme.example is not published; spf: not aligned: the reverse-path's domain is \
             other.example, the author's acme.example",
            "550-5.7.26 publish: wx1._domainkey.acme.example CNAME wx1.acme-example.dkim.relay.example.com",
            "550-5.7.26 failing since 1970-01-01T00:00:00.000Z",
            "550 5.7.26 then: waxseal domain check acme.example   (id 00000000000000000000000001)",
        ]
    );
}

/// What is done to the good scene, how the reply begins, what its first line says, why.
type Refusal = (fn(&mut Scene), &'static str, &'static str, &'static str);

const REFUSALS: &[Refusal] = &[
    (
        |s| {
            s.without_key().without_spf();
        },
        "550-5.7.26 ",
        "(p=reject)",
        "both",
    ),
    (
        |s| {
            s.without_key();
            s.direct = false;
        },
        "550-5.7.20 ",
        "(p=reject)",
        "an upstream: DKIM alone",
    ),
    (
        |s| {
            s.without_spf();
            s.signer.domain = domain("other.example");
        },
        "550-5.7.26 ",
        "(p=reject)",
        "d= that does not align",
    ),
    (|s| s.author.exchange = known(Exchange::Null), "550-5.7.27 ", "would refuse mail", "RFC 7505"),
    (|s| s.author.presence = known(Presence::Absent), "550-5.1.8 ", "would refuse mail", "no such name"),
    (
        |s| {
            s.strict("v=DMARC1; p=x");
        },
        "550-5.7.1 ",
        "would refuse mail",
        "an unreadable record",
    ),
    (
        |s| {
            s.without_key().without_spf().strict("v=DMARC1; p=none");
        },
        "550-5.7.26 ",
        "p=none, but mailbox providers refuse such mail too",
        "words to match",
    ),
    (
        |s| {
            s.without_key().without_spf().strict("");
        },
        "550-5.7.26 ",
        "no DMARC record, but mailbox providers refuse such mail too",
        "words to match",
    ),
];

#[test]
fn codes_and_words_follow_what_failed() {
    for (change, code, word, why) in REFUSALS {
        let mut scene = Scene::good();
        change(&mut scene);
        let lines = refused(&scene, None);
        assert!(lines[0].starts_with(code) && lines[0].contains(word), "{why}: {lines:#?}");
        let (rest, last) = (code.trim_end(), code.replacen('-', " ", 1));
        assert!(lines.iter().rev().skip(1).all(|line| line.starts_with(rest)), "{why}: {lines:#?}");
        assert!(lines.last().unwrap().starts_with(&last), "{why}: {lines:#?}");
    }
}

#[test]
fn a_key_too_long_for_a_line_is_told_in_pieces_that_join_to_the_record() {
    let mut scene = Scene::good();
    scene.keys[0].1.octets = vec![7; 550];
    scene.without_key().direct = false;
    let lines = refused(&scene, None);
    let pieces = lines.iter().filter_map(|line| line.split_once("publish:   \"")?.1.strip_suffix('"'));
    assert_eq!(pieces.collect::<String>(), scene.keys[0].1.record(), "{lines:#?}");
    scene.keys[0].1.octets = vec![7; 294];
    let lines = refused(&scene, None);
    let whole = format!("550-5.7.20 publish: wx1._domainkey.acme.example TXT {}", scene.keys[0].1.record());
    assert!(lines.contains(&whole), "RSA-2048 fits in one: {lines:#?}");
}
