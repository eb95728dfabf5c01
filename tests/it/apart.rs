//! Tenants are apart: what one has, knows or does says and does nothing in another's name.
//!
//! | what of another's | held by |
//! |---|---|
//! | domains, in From and envelope; its signature | `open_relay`, `admit::each_identity_trick_is_refused_logged_and_not_queued` |
//! | login, control address, unsubscribe link, return path | here |
//! | suppression list, hourly limit, queue, log | here |
//! | guesses at its password | here |
//! | newer mail, which takes an older one's place | `disposal::only_the_same_tenants_mail_of_that_from_class_and_recipient_gives_way` |
//! | bounces and complaints | `suppress::reports_are_believed_only_of_whom_the_message_went_to` |
//! | connections and credentials at an upstream | `deliver_upstream::connections_belong_to_tenant_and_credentials` |
//! | addresses without AUTH, user names, domains, return paths: given to two is a mistake | `config` |
//! | turns and time | `fairness` |
//! | notifications of failures | `inbound_tell::who_is_told`, `schedule::gather::what_is_not_shared` |

use std::sync::Arc;
use std::time::Duration;

use waxseal::admit::classify::ControlKey;
use waxseal::config::class::Suppression;
use waxseal::inbound::Returns;
use waxseal::mail::address::Address;
use waxseal::mail::id::Id;
use waxseal::mail::return_path::{self, Token};
use waxseal::mail::secret::SecretString;
use waxseal::mail::time::Time;
use waxseal::queue::store::{Action, Filter, Turns};
use waxseal::suppress::{Entry, Links, Question, Reason};
use waxseal::tenant::auth::{Gate, Verdict};
use waxseal::tenant::meter::Meter;
use waxseal::tenant::{Directory, Login, SuppressionRules, Tenant, password};

use crate::dialogue::secret;
use crate::intake::{Intake, envelope};
use crate::relay::{Layout, Relay};
use crate::rig::{Rig, tenant};

const TURNS: Turns = Turns { per_destination: 4, total: 20 };

fn named(text: &str) -> Address {
    text.parse().unwrap()
}

fn with_login(name: &str) -> Tenant {
    let password = password::hash(&SecretString::from(format!("{name}'s"))).unwrap();
    Tenant { logins: vec![Login { username: name.into(), password, class: None }], ..tenant(name, &[]) }
}

#[tokio::test]
async fn anothers_password_opens_nothing() {
    let directory = Directory::new([with_login("acme"), with_login("blue")]);
    let gate = Gate::new(Arc::new(waxseal::tenant::Tenants::from_pointee(directory)));
    let ip = [192, 0, 2, 1].into();
    for (name, password, whose) in [
        ("acme", "acme's", Some("acme")),
        ("acme", "blue's", None),
        ("blue", "acme's", None),
        ("blue", "blue's", Some("blue")),
        // The cache of good logins knows both passwords by now.
        ("acme", "blue's", None),
    ] {
        let verdict = gate.check(ip, name, SecretString::from(password)).await;
        let tenant = match &verdict {
            Verdict::Ok { tenant, .. } => Some(&*tenant.name),
            Verdict::Refused | Verdict::Throttled { .. } => None,
        };
        assert_eq!(tenant, whose, "{name} with {password}: {verdict:?}");
    }
}

/// Whoever guesses at one login shuts out nobody else, who may come from an address never seen.
#[tokio::test]
async fn guesses_at_anothers_password_shut_nobody_out() {
    let cheap = crate::front::tenant(&crate::dialogue::Options::default()).logins[0].password.clone();
    let named = |name: &str| {
        let login = Login { username: name.into(), password: cheap.clone(), class: None };
        Tenant { logins: vec![login], ..tenant(name, &[]) }
    };
    let directory = Directory::new([named("acme"), named("blue")]);
    let gate = Gate::new(Arc::new(waxseal::tenant::Tenants::from_pointee(directory)));
    let check = |last: u8, name, password: &str| {
        gate.check([192, 0, 2, last].into(), name, SecretString::from(password.to_owned()))
    };
    let mut throttled = false;
    for guess in 0..60 {
        let verdict = check(100 + guess % 6, "acme", &format!("guess {guess}")).await;
        throttled |= matches!(verdict, Verdict::Throttled { .. });
    }
    assert!(throttled, "no more guesses at that one");
    let blue = check(1, "blue", "secret").await;
    assert!(matches!(&blue, Verdict::Ok { tenant, .. } if &*tenant.name == "blue"), "{blue:?}");
}

#[tokio::test]
async fn anothers_control_address_names_no_class() {
    let intake = Intake::new();
    let (key, relay) = (ControlKey::new(&[7; 32]), "relay.example".parse().unwrap());
    for (whose, class) in [("t", Some("program_email")), ("other", None)] {
        let control = key.address(&relay, whose, "program_email").unwrap().to_string();
        let mut submission =
            intake.submission(b"From: a@t.example\r\nTo: r@rcpt.example\r\nSubject: Hello\r\n\r\nbody\r\n");
        submission.envelope = envelope("a@t.example", &["r@rcpt.example", &control]);
        let facts = intake.take(submission).await.message.facts.clone();
        assert_eq!(facts.class.as_ref().map(|class| &*class.name), class, "{whose}'s");
        assert_eq!(facts.envelope.rcpts.len(), 1, "and no mail goes to it, {whose}'s or not");
    }
}

/// The code in a return path is over its domain: carried to another tenant's it is no address, and a report there reaches nobody.
#[test]
fn a_return_path_carried_to_anothers_domain_is_nobodys() {
    let returning = |name: &str| {
        let mut tenant = tenant(name, &[]);
        tenant.domains[0].return_path = Some(format!("bounce.{name}.test").parse().unwrap());
        tenant
    };
    let directory = Directory::new([returning("acme"), returning("blue")]);
    let returns = Returns::new(Arc::new(secret()), Arc::new(directory), "relay.test".parse().unwrap());
    let id = Id::new(Time(1_767_225_600_000), 7);
    let own = "bounce.acme.test".parse().unwrap();
    let to = named("reader@there.test");
    for path in [return_path::make(&secret(), id, &own), return_path::make_for(&secret(), id, &own, &to)] {
        assert_eq!(returns.token(&path), Some(Token::Bounce(id)));
        let carried = named(&format!("{}@bounce.blue.test", path.local()));
        assert_eq!(returns.token(&carried), None, "{carried}");
        assert!(!return_path::proves(&secret(), &carried, &to), "nor does it prove whom mail went to");
    }
    let left = return_path::make(&secret(), id, &"bounce.gone.test".parse().unwrap());
    assert_eq!(returns.token(&left), None, "of a tenant that is gone, though we made it");
}

/// A link says whose mail it ends, and no part of it can be put in another's.
#[test]
fn a_link_ends_its_own_tenants_mail() {
    let (links, reader) = (Links::new(&[7; 32]), named("reader@there.test"));
    let [acme, blue] = ["acme", "blue"].map(|tenant| links.token(tenant, "program_email", &reader));
    assert_eq!(links.read(&acme).unwrap().tenant, "acme");
    let ((said, _), (_, code)) = (acme.split_once('.').unwrap(), blue.split_once('.').unwrap());
    assert_eq!(links.read(&format!("{said}.{code}")), None);
    let joined = links.token("acme\nprogram_email", "x", &reader);
    assert_ne!(joined, acme, "no tenant's name can be read as name and class");
}

#[tokio::test]
async fn anothers_suppression_list_stops_nothing() {
    let mut rig = Rig::new(TURNS);
    let rules = SuppressionRules { apply: Suppression::All, ..SuppressionRules::default() };
    let [acme, blue] = ["acme", "blue"].map(|name| Tenant { suppression: rules, ..tenant(name, &[]) });
    rig.tenants.store(Arc::new(Directory::new([acme, blue])));
    assert!(rig.list().await.is_empty(), "the index is there");
    let gone = named("d@there.test");
    let entry = Entry::new(&gone, Reason::Bounce, rig.now(), "said so");
    rig.suppressions.add("acme", vec![entry]).await.unwrap();
    let question = |tenant| Question { tenant, class: None, rule: Suppression::All };
    assert!(rig.suppressions.find(&question("acme"), &gone).is_some());
    assert!(rig.suppressions.find(&question("blue"), &gone).is_none());
    let id = rig.accept("blue", &["d@there.test"]).await;
    rig.start();
    let seen = rig.seen().await;
    assert_eq!((seen.id, &*seen.tenant), (id, "blue"), "its mail goes out");
    rig.drain().await;
    assert_eq!(rig.logged("suppressed").len(), 0);
}

/// What is asked of one tenant's mail shows and touches no other's.
#[tokio::test]
async fn a_view_and_a_verb_of_one_tenants_mail_leave_anothers_alone() {
    let rig = Rig::new(TURNS);
    assert!(rig.list().await.is_empty(), "the index is there");
    let [acme, blue] =
        [rig.accept("acme", &["d@there.test"]).await, rig.accept("blue", &["d@there.test"]).await];
    let of = |tenant: &str, ids: &[Id]| Filter {
        tenant: Some(tenant.to_owned()),
        ids: ids.to_vec(),
        limit: Some(10),
        ..Filter::default()
    };
    let ids = |entries: Vec<waxseal::queue::store::Entry>| -> Vec<Id> {
        entries.iter().map(|entry| entry.leg.id).collect()
    };
    assert_eq!(ids(rig.store.list(of("acme", &[]), rig.now()).await.unwrap()), [acme]);
    assert_eq!(ids(rig.store.list(of("acme", &[blue]), rig.now()).await.unwrap()), [], "by its id neither");
    for action in [Action::Hold { reason: "x".into() }, Action::Bounce { reason: "x".into() }, Action::Drop] {
        assert!(rig.store.act(of("acme", &[blue]), action, rig.now()).await.unwrap().is_empty());
    }
    assert_eq!(ids(rig.store.act(of("acme", &[]), Action::Drop, rig.now()).await.unwrap()), [acme]);
    assert_eq!(ids(rig.list().await), [blue]);
}

/// Nor does a view of the log.
#[test]
fn a_view_of_one_tenants_log_shows_nothing_of_anothers() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::lay_out(dir.path(), &Layout::upstream("127.0.0.1:9".parse().unwrap()));
    let line = |tenant: &str| {
        let id = Id::new(Time(1_767_225_600_000), u128::from(tenant.len() as u64));
        format!(
            r#"{{"v":1,"ts":"2026-01-01T00:00:00.000Z","type":"received","id":"{id}","tenant":"{tenant}","from":"a@{tenant}.test"}}"#
        )
    };
    let both = format!("{}\n{}\n", line("acme"), line("bluest"));
    std::fs::write(relay.dir.join("data/mail.jsonl"), both).unwrap();
    for verb in [&["log", "search", "--json"][..], &["log", "tail", "--no-follow", "--json"]] {
        let output = relay.run(&[verb, &["--tenant", "acme"]].concat());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", line("acme")), "{verb:?}");
    }
}

#[test]
fn anothers_mail_uses_up_no_limit() {
    let (meter, now) = (Meter::default(), Time(1_767_225_600_000));
    let limited = |name: &str| {
        let mut tenant = tenant(name, &[]);
        tenant.limits.per_hour = Some(2);
        tenant
    };
    let (acme, blue) = (limited("acme"), limited("blue"));
    assert!((0..2).all(|_| meter.take(&acme, now).is_ok()));
    assert!(meter.take(&acme, now).is_err());
    assert!((0..2).all(|_| meter.take(&blue, now).is_ok()), "the other's two are there");
    assert!(meter.take(&acme, now.after(Duration::from_secs(3_601))).is_ok(), "and its own come back");
}
