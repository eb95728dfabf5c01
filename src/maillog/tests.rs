//! The mail log: what is written, in which order, across rotations and full disks; and that docs/log.md says all of it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::Value;

use super::kind::Type;
use super::*;
use crate::mail::attempt::{Decided, Fate, Hop, Timings, TlsFacts};
use crate::mail::class::{By, Classed};
use crate::mail::envelope::{Envelope, Notify, Recipient};
use crate::mail::id::Id;
use crate::mail::meaning::Reason;
use crate::mail::message::{Facts, Kind, Lane, Needs, TlsNeed};
use crate::mail::priority::Priority;
use crate::mail::reply::{Enhanced, PeerReply, Reply};
use crate::mail::time::Time;

const NOON: Time = Time(1_769_860_800_000);

fn clock() -> Clock {
    Clock::Set(Arc::new(AtomicU64::new(NOON.0)))
}

fn facts() -> Facts {
    let to = |address: &str| Recipient {
        address: address.parse().unwrap(),
        orcpt: None,
        notify: Notify::default(),
    };
    Facts {
        id: Id::new(NOON, 7),
        tenant: "acme".into(),
        login: Some("acme".into()),
        header_from: Some("rewards@acme.test".parse().unwrap()),
        class: Some(Classed { name: "reward".into(), by: By::Login }),
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope {
            from: Some("bounce@acme.test".parse().unwrap()),
            rcpts: vec![to("a@there.test"), to("b@there.test")],
            ret: None,
            envid: None,
        },
        received: NOON,
        expires: NOON.after(Duration::from_secs(432_000)),
        return_path: None,
        unsealed: None,
        needs: Needs { tls: TlsNeed::Required, ..Needs::default() },
        asked: crate::mail::message::Asked::default(),
        priority: Priority::default(),
        deliver_by: None,
        size: 4_096,
    }
}

fn tls() -> TlsFacts {
    TlsFacts {
        version: "TLSv1.3".into(),
        cipher: "TLS13_AES_256_GCM_SHA384".into(),
        verified: true,
        by: Some("class".into()),
    }
}

fn decided(fate: Fate, code: u16, enhanced: Enhanced) -> Decided {
    let all = Some(1);
    Decided {
        rcpt: 1,
        fate,
        reply: PeerReply { code, enhanced: Some(enhanced), text: b"said\x1b[2J".to_vec() },
        hop: Hop {
            route: "mx",
            host: Some("mx.there.test".into()),
            ip: Some([192, 0, 2, 7].into()),
            tls: Some(tls()),
            site: Some("there.test".into()),
            rests: Some(NOON),
            source: Some([192, 0, 2, 1].into()),
            ..Hop::default()
        },
        ms: Timings { queue: all, dns: all, connect: all, tls: all, smtp: all, total: all },
    }
}

/// Says every event with every field that it can have.
fn say_everything(log: &MailLog) {
    let by = "600;R".parse::<crate::mail::deliver_by::By>().unwrap();
    let (facts, tls) = (facts(), tls());
    let facts = Facts { priority: Priority::HIGHEST, deliver_by: Some(by.from(facts.received)), ..facts };
    let seals =
        [Seal { domain: "acme.test".parse().unwrap(), selector: "wx1".into(), algorithm: "rsa-sha256" }];
    log.received(
        &facts,
        &Arrival {
            ip: Some([192, 0, 2, 1].into()),
            helo: "pod-7",
            tls: Some(&tls),
            message_id: Some("1@acme.test"),
            unsigned: Some("held"),
            expected: Some(Expected { spf: "pass", dmarc: "pass", aligned_by: Some("both") }),
            seals: &seals,
            repairs: &["date"],
            took: Some(3),
        },
    );
    log.rejected(&Rejected {
        id: Some(facts.id),
        tenant: Some("acme"),
        login: Some("acme"),
        ip: [192, 0, 2, 1].into(),
        helo: "pod-7",
        tls: Some(&tls),
        from: Some(None),
        to: &["a@there.test".parse().unwrap()],
        header_from: Some("x@other.test"),
        reply: &Reply::new(550, Enhanced(5, 7, 1), "not yours"),
        reason: "from",
    });
    log.health(&HealthChange {
        tenant: "acme",
        domain: "acme.test",
        now: "fail",
        before: Some("both"),
        reason: "dkim: wx1._domainkey.acme.test is not published",
    });
    log.probe(&Probe {
        tenant: Some("acme"),
        login: Some("acme"),
        ip: [192, 0, 2, 1].into(),
        helo: "pod-7",
        tls: None,
        mechanism: Some("PLAIN"),
        exposed: true,
        advice: Some("use TLS"),
    });
    log.held(&facts, &[0], "uid 0", "asked by phone");
    log.released(&facts, &[0], "uid 0", "asked for");
    log.attempt(
        &facts,
        &AttemptStart { rcpts: &[0, 1], attempt: 1, route: "mx", destination: "there.test", why: None },
    );
    say_what_becomes_of_it(log, &facts);
    log.dsn(&facts, &Dsn { kind: DsnKind::Failed, about: &[facts.id] });
    say_what_came_back(log, &facts, &seals);
    log.audit(&Audit { actor: "uid 0", action: "reload", detail: "ok", tenant: Some("acme") });
}

/// The events of what becomes of a message.
fn say_what_becomes_of_it(log: &MailLog, facts: &Facts) {
    log.decided(facts, &decided(Fate::Deferred, 451, Enhanced(4, 7, 1)), 1, Some(NOON));
    log.decided(facts, &decided(Fate::Delivered, 250, Enhanced(2, 0, 0)), 2, None);
    log.relayed(facts, &decided(Fate::Delivered, 250, Enhanced(2, 0, 0)), 2);
    log.decided(facts, &decided(Fate::Failed, 550, Enhanced(5, 1, 1)), 2, None);
    log.expired(facts, 0, &Expiry { attempts: 9, life: "queue", heard: "451 later", reason: Reason::Busy });
    log.dropped(facts, &[0], "uid 0", "asked for");
    log.alert(facts, "acme", "the upstream refuses the password");
}

/// The events of what comes back.
fn say_what_came_back(log: &MailLog, facts: &Facts, seals: &[Seal]) {
    log.disposed(facts, 0, Disposal::Suppressed, "on the list since yesterday");
    log.superseded(facts, 0, facts.id, "by a newer one");
    let tls = tls();
    log.remote_bounce(&RemoteBounce {
        id: facts.id,
        tenant: Some("acme"),
        to: Some(&"a@there.test".parse().unwrap()),
        action: "failed",
        reply: &decided(Fate::Failed, 550, Enhanced(5, 1, 1)).reply,
        host: Some("mx.there.test"),
        ip: [192, 0, 2, 9].into(),
        helo: "mx.there.test",
        tls: Some(&tls),
        failed: true,
        untold: None,
    });
    log.complaint(&Complained {
        id: facts.id,
        tenant: Some("acme"),
        to: None,
        ip: [192, 0, 2, 9].into(),
        helo: "fbl.there.test",
        tls: None,
        kind: "abuse",
        host: Some("fbl.there.test"),
    });
    log.platform_seal(facts, seals, &["date"]);
    log.seal_check(facts, seals, &["date"], "body hash mismatch");
    log.volume(&Volume { tenant: "acme", domain: "acme.test", provider: "gmail", count: 2_500 });
    log.tls_report(&TlsReported {
        domain: "there.test",
        place: "mailto:tls@there.test",
        good: 3,
        bad: 1,
        failed: None,
    });
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The names of a record's fields, with dots where they nest.
fn names(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    let Some(fields) = value.as_object() else { return };
    for (name, value) in fields {
        let name = format!("{prefix}{name}");
        names(value, &format!("{name}."), into);
        for element in value.as_array().into_iter().flatten() {
            names(element, &format!("{name}."), into);
        }
        into.insert(name);
    }
}

/// What docs/log.md lists in the first column of the table below this heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/log.md")).unwrap();
    let (_, below) = text.split_once(heading).unwrap();
    let section = below.split_once("\n## ").map_or(below, |(section, _)| section);
    let first = |line: &str| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned());
    section.lines().filter_map(first).collect()
}

#[test]
fn the_catalogue_and_the_code_name_the_same_events_and_fields() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.jsonl");
    let log = MailLog::open(&path, clock()).unwrap();
    say_everything(&log);
    log.flush();
    let records = read(&path);
    let said: BTreeSet<String> = records.iter().map(|r| r["type"].as_str().unwrap().to_owned()).collect();
    let all: BTreeSet<String> = Type::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(said, all, "every type has a method that says it");
    assert_eq!(documented("## Events"), all);
    let mut fields = BTreeSet::new();
    records.iter().for_each(|record| names(record, "", &mut fields));
    assert_eq!(documented("## Fields"), fields);
}

#[test]
fn a_record_has_what_the_contract_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.jsonl");
    let log = MailLog::open(&path, clock()).unwrap();
    log.decided(&facts(), &decided(Fate::Delivered, 250, Enhanced(2, 0, 0)), 1, None);
    log.close();
    let line = std::fs::read_to_string(&path).unwrap();
    let id = facts().id;
    assert_eq!(
        line,
        format!(
            "{{\"v\":1,\"ts\":\"2026-01-31T12:00:00.000Z\",\"type\":\"delivered\",\"id\":\"{id}\",\
             \"tenant\":\"acme\",\"login\":\"acme\",\"class\":\"reward\",\"from\":\"bounce@acme.test\",\
             \"header_from\":\"rewards@acme.test\",\"to\":\"b@there.test\",\"to_domain\":\"there.test\",\
             \"rcpt\":1,\"size\":4096,\"route\":\"mx\",\"host\":\"mx.there.test\",\"site\":\"there.test\",\"ip\":\"192.0.2.7\",\
             \"source\":\"192.0.2.1\",\
             \"tls\":{{\"version\":\"TLSv1.3\",\"cipher\":\"TLS13_AES_256_GCM_SHA384\",\"verified\":true,\
             \"by\":\"class\"}},\"tls_need\":\"required\",\"attempt\":1,\"reply\":{{\"code\":250,\"enhanced\":\"2.0.0\",\"text\":\"said\\\\u{{1b}}[2J\"}},\
             \"reason_class\":\"ok\",\"rests_until\":\"2026-01-31T12:00:00.000Z\",\"ms\":{{\"queue\":1,\"dns\":1,\"connect\":1,\"tls\":1,\"smtp\":1,\
             \"total\":1}}}}\n"
        )
    );
}

#[test]
fn nothing_a_stranger_says_leaves_its_line_or_drives_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.jsonl");
    let log = MailLog::open(&path, clock()).unwrap();
    let evil = "a\r\n{\"v\":1}\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}";
    let reply = Reply::new(550, Enhanced(5, 7, 1), evil);
    log.probe(&Probe {
        tenant: None,
        login: Some(evil),
        ip: [192, 0, 2, 1].into(),
        helo: evil,
        tls: None,
        mechanism: None,
        exposed: false,
        advice: Some(&reply.lines[1]),
    });
    log.close();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches('\n').count(), 1);
    assert!(!text.trim_end().chars().any(escape::is_unsafe), "{text}");
    assert_eq!(read(&path)[0]["helo"], evil, "and it is still the same text to a program");
}

#[test]
fn many_threads_keep_their_order_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.jsonl");
    let log = MailLog::open(&path, clock()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let log = &log;
            scope.spawn(move || {
                for count in 0..2_000 {
                    let (action, actor) = (count.to_string(), thread.to_string());
                    log.audit(&Audit { actor: &actor, action: &action, detail: "", tenant: None });
                }
            });
        }
    });
    log.close();
    let mut next = [0u64; 8];
    for record in read(&path) {
        let thread: usize = record["actor"].as_str().unwrap().parse().unwrap();
        assert_eq!(record["action"], next[thread].to_string());
        next[thread] += 1;
    }
    assert_eq!(next, [2_000; 8]);
}

#[test]
fn a_rotation_parts_the_lines_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let (path, old) = (dir.path().join("mail.jsonl"), dir.path().join("mail.jsonl.1"));
    let log = MailLog::open(&path, clock()).unwrap();
    let say = |action| log.audit(&Audit { actor: "t", action, detail: "", tenant: None });
    say("before");
    std::fs::rename(&path, &old).unwrap();
    say("between");
    log.reopen().unwrap();
    say("after");
    log.close();
    let actions = |path| read(path).iter().map(|r| r["action"].to_string()).collect::<Vec<_>>();
    assert_eq!(actions(&old), ["\"before\"", "\"between\""]);
    assert_eq!(actions(&path), ["\"after\""]);
    assert_eq!(tail::files(&path).unwrap(), [old, path]);
}

#[test]
fn a_full_disk_is_counted_and_stops_nobody() {
    if !Path::new("/dev/full").exists() {
        return;
    }
    let metrics = Arc::new(Metrics::new());
    let log = MailLog::open_with(Path::new("/dev/full"), clock(), Arc::clone(&metrics)).unwrap();
    say_everything(&log);
    log.flush();
    assert!(metrics.log_errors.get() > 0);
    log.close();
    assert_eq!(metrics.log_lost.get(), Type::ALL.len() as u64, "what could not be written is counted");
}

#[test]
fn saying_an_event_costs_the_caller_less_than_50_microseconds() {
    let dir = tempfile::tempdir().unwrap();
    let log = MailLog::open(&dir.path().join("mail.jsonl"), clock()).unwrap();
    let (facts, decided) = (facts(), decided(Fate::Delivered, 250, Enhanced(2, 0, 0)));
    // This thread's time on a processor, and the best of several rounds: what it costs, not what a busy machine adds.
    let Some(_) = on_processor() else { return };
    let round = || {
        let start = on_processor().unwrap();
        (0..1_000).for_each(|_| log.decided(&facts, &decided, 1, None));
        (on_processor().unwrap() - start) / 1_000
    };
    let best = (0..20).map(|_| round()).min().unwrap();
    println!("{best:?} an event");
    // A bound against gross regressions only: 18 µs were measured on a busy machine, and the aim is a few.
    assert!(best < Duration::from_micros(50), "{best:?}");
}

/// How long this thread has run, as Linux counts.
fn on_processor() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[test]
fn a_follower_goes_on_across_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mail.jsonl");
    std::fs::write(&path, "1\n2\n3\n4 torn").unwrap();
    let (mut follow, last) = tail::Follow::open(&path, 2).unwrap();
    assert_eq!(last, [b"2\n".to_vec(), b"3\n".to_vec()]);
    assert_eq!(follow.next_line().unwrap(), None, "a line without its end is not shown");
    let append = |text: &str| {
        use std::io::Write;
        std::fs::File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
    };
    append(" no more\n");
    assert_eq!(follow.next_line().unwrap().unwrap(), b"4 torn no more\n");
    append("5\n");
    std::fs::rename(&path, dir.path().join("mail.jsonl.1")).unwrap();
    std::fs::write(&path, "6\n").unwrap();
    assert_eq!(follow.next_line().unwrap().unwrap(), b"5\n", "what the old file still got comes first");
    assert_eq!(follow.next_line().unwrap().unwrap(), b"6\n");
    assert_eq!(follow.next_line().unwrap(), None);
}
