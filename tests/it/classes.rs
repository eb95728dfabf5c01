//! Classes from the tenant's file to the queue: what is read, what a message is taken for, and that a guess changes nothing but its turn.

use std::sync::Arc;

use proptest::prelude::*;
use waxseal::admit::Submission;
use waxseal::admit::classify::ControlKey;
use waxseal::config::{Classes, Config};
use waxseal::mail::class::By;
use waxseal::mail::message::{Lane, TlsNeed};
use waxseal::queue::store::Accept;
use waxseal::tenant::{self, Tenant, TenantLimits};

use crate::intake::{Intake, envelope};

const START: &str = "hostname = \"relay.test\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n";

/// What loading both files says: the server's classes and the tenant.
fn load(server: &str, of_tenant: &str) -> Result<(Config, Arc<Tenant>), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waxseal.toml");
    std::fs::write(&path, format!("{START}{server}")).unwrap();
    std::fs::create_dir(dir.path().join("tenants")).unwrap();
    std::fs::write(dir.path().join("tenants/a.toml"), format!("name = \"a\"\n{of_tenant}")).unwrap();
    let config = Config::load_with(Some(&path), &|_| None).map_err(|error| error.to_string())?;
    let tenants = tenant::load(&config).map_err(|error| error.to_string())?;
    let tenant = Arc::clone(tenants.tenant("a").unwrap());
    Ok((config, tenant))
}

#[test]
fn a_tenant_changes_what_it_says_and_keeps_the_rest() {
    let server = "[[class]]\nname = \"reward\"\nlane = \"important\"\nretry = [\"1m\"]\n[[class]]\nname = \"alert\"\nsubject = [\"new login\"]\n";
    let own = "default_class = \"reward\"\n[[class]]\nname = \"reward\"\nretry = [\"2m\"]\n[[class]]\nname = \"alert\"\nlane = \"urgent\"\n";
    let (config, tenant) = load(server, own).unwrap();
    let reward = |classes: &Classes| {
        let class = classes.find("reward").unwrap();
        (class.lane, class.retry[0].as_secs(), class.subject.len())
    };
    assert_eq!(reward(&config.classes), (Lane::Important, 60, 3));
    assert_eq!(
        reward(&tenant.classes),
        (Lane::Important, 120, 3),
        "the lane as the server has it, the rules as built in"
    );
    assert_eq!(tenant.classes.find("alert").unwrap().lane, Lane::Urgent);
    assert_eq!(config.classes.find("alert").unwrap().lane, Lane::Normal, "another tenant's stays");
    assert_eq!(&*tenant.classes.default_class().unwrap().name, "reward");
}

#[allow(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_mistake_is_named_with_its_place() {
    let login = "[[login]]\nusername = \"a\"\npassword = \"$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$VjxZbB9Wl2bxlD0gYcYHcYOZtTLE0mrKsP5JpL8nJhw\"\n";
    let many: String = (0..27).map(|at| format!("[[class]]\nname = \"c{at}\"\n")).collect();
    let rows: &[(String, String, &str, &str, &str)] = &[
        (
            String::new(),
            "default_class = \"rewards\"\n".into(),
            "a.toml:2:17:",
            "unknown class `rewards`; did you mean `reward`?",
            "a default",
        ),
        (
            String::new(),
            format!("{login}class = \"pasword_reset\"\n"),
            "a.toml:5:9:",
            "did you mean `password_reset`?",
            "a login's",
        ),
        (
            String::new(),
            "[[class]]\nname = \"program_mail\"\n".into(),
            "a.toml:3:8:",
            "did you mean `program_email`?",
            "a tenant makes no class",
        ),
        (
            String::new(),
            "default_class = \"zzz\"\n".into(),
            "a.toml:2:17:",
            "known here: password_reset, verification",
            "like none",
        ),
        (
            "[[class]]\nname = \"A b\"\n".into(),
            String::new(),
            "waxseal.toml:6:8:",
            "a class's name is",
            "no name",
        ),
        (
            "[[class]]\nname = \"w9\"\n[[class]]\nname = \"w9\"\n".into(),
            String::new(),
            "waxseal.toml:8:8:",
            "written twice",
            "twice",
        ),
        (
            "[[class]]\nname = \"w9\"\nlane = \"urgnt\"\n".into(),
            String::new(),
            "waxseal.toml:7:8:",
            "did you mean `urgent`?",
            "a lane",
        ),
        (
            "[[class]]\nname = \"w9\"\nhide = [\"subjects\"]\n".into(),
            String::new(),
            "waxseal.toml:7:9:",
            "did you mean `subject`?",
            "a hiding",
        ),
        (
            "[[class]]\nname = \"w9\"\ntls = \"verify\"\n".into(),
            String::new(),
            "waxseal.toml:7:7:",
            "did you mean `verified`?",
            "a need of TLS",
        ),
        (
            "[[class]]\nname = \"w9\"\nretry = [\"5\"]\n".into(),
            String::new(),
            "waxseal.toml:7:10:",
            "a duration such as",
            "no unit",
        ),
        (
            "[[class]]\nname = \"w9\"\nlinks = []\n".into(),
            String::new(),
            "waxseal.toml:7:1:",
            "did you mean `link`?",
            "a key",
        ),
        (
            "[[class]]\nname = \"w9\"\nlink = [\"a=\", \"oobCode\"]\n".into(),
            String::new(),
            "waxseal.toml:7:15:",
            "a rule for links is",
            "a rule",
        ),
        (
            "[[class]]\nname = \"w9\"\nfrom = [\"@acme.test\"]\n".into(),
            String::new(),
            "waxseal.toml:7:9:",
            "a rule for From is",
            "every mail",
        ),
        (
            "[[class]]\nname = \"w9\"\nsubject = [\"?\"]\n".into(),
            String::new(),
            "waxseal.toml:7:12:",
            "letter or digit",
            "no words",
        ),
        (
            "[[class]]\nlane = \"bulk\"\n".into(),
            String::new(),
            "waxseal.toml:5:1:",
            "missing key `name`",
            "no name at all",
        ),
        (many, String::new(), "waxseal.toml:", "at most 32 classes", "too many"),
    ];
    for (server, own, place, what, why) in rows {
        let error = load(server, own).map(|_| ()).unwrap_err();
        assert!(error.contains(place) && error.contains(what) && !error.contains('\n'), "{why}: {error}");
    }
}

fn key() -> ControlKey {
    ControlKey::new(&[7; 32])
}

fn control(intake: &Intake, class: &str) -> String {
    key().address(&"relay.example".parse().unwrap(), &intake.tenant.name, class).unwrap().to_string()
}

fn to(intake: &Intake, message: &str, rcpts: &[&str]) -> Submission {
    let mut submission = intake.submission(message.as_bytes());
    submission.envelope = envelope("a@t.example", rcpts);
    submission
}

const PLAIN: &str = "From: a@t.example\r\nTo: r@rcpt.example\r\nSubject: Hello\r\n\r\nbody\r\n";

#[tokio::test]
async fn a_control_address_tells_the_class_and_is_gone() {
    let intake = Intake::new();
    let bcc = control(&intake, "program_email").to_uppercase();
    let taken = intake.take(to(&intake, PLAIN, &["r@rcpt.example", &bcc, "s@rcpt.example"])).await;
    let facts = &taken.message.facts;
    let class = facts.class.as_ref().unwrap();
    assert_eq!((&*class.name, class.by, facts.lane), ("program_email", By::Control, Lane::Bulk));
    let named: Vec<String> = facts.envelope.rcpts.iter().map(|rcpt| rcpt.address.to_string()).collect();
    assert_eq!(named, ["r@rcpt.example", "s@rcpt.example"]);
    assert_eq!(taken.legs.len(), 1, "nothing is on its way to it");
    assert_eq!(taken.legs[0].1, [0, 1]);
    let logged = intake.logged();
    assert!(logged.contains(r#""class":"program_email","class_by":"control""#), "{logged}");
    assert!(!logged.contains("class+") && !logged.contains("CLASS+"), "{logged}");
}

#[tokio::test]
async fn a_control_address_that_proves_nothing_is_dropped_and_logged() {
    let intake = Intake::new();
    let wrong = "class+password_reset.0123456789abcdef0123@in.relay.example";
    let taken = intake.take(to(&intake, PLAIN, &[wrong, "r@rcpt.example"])).await;
    assert_eq!((taken.message.facts.class.as_ref(), taken.message.facts.envelope.rcpts.len()), (None, 1));
    let logged = intake.logged();
    let line = logged.lines().find(|line| line.contains(r#""type":"dropped""#)).unwrap();
    assert!(
        line.contains(wrong) && line.contains("its code is wrong") && !line.contains(r#""rcpt""#),
        "{line}"
    );
    assert!(line.contains(&taken.message.facts.id.to_string()), "{line}");
}

#[tokio::test]
async fn a_control_address_alone_is_no_recipient() {
    let intake = Intake::new();
    let good = control(&intake, "reward");
    for only in [good.as_str(), "class+reward.00@in.relay.example"] {
        let reply = intake.admit.submit(to(&intake, PLAIN, &[only])).await;
        assert_eq!((reply.code, reply.enhanced.unwrap().to_string().as_str()), (550, "5.1.1"), "{reply}");
    }
    assert!(intake.taken().is_empty());
    assert_eq!(intake.logged().matches(r#""reason_class":"control""#).count(), 2);
}

/// The message with this header section as it leaves, without what differs each time: signature, id and date of arrival.
fn stable(taken: &Accept) -> String {
    let text =
        String::from_utf8_lossy(&taken.message.body).replace(&taken.message.facts.id.to_string(), "ID");
    let text = text.split_once("Received: ").unwrap().1.to_owned();
    let (received, rest) = text.split_once("+0000\r\n").unwrap();
    assert!(received.contains("by relay.example"), "{received}");
    rest.to_owned()
}

#[tokio::test]
async fn the_header_never_leaves_and_nothing_else_is_touched() {
    let intake = Intake::new();
    let head = "From: a@t.example\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@t.example>\r\nMIME-Version: 1.0\r\n";
    let without = stable(&intake.accepted(format!("{head}Subject: x\r\n\r\nbody\r\n").as_bytes()).await);
    for header in [
        "X-Waxseal-Class: reward\r\n",
        "x-waxseal-class: no such class\r\n",
        "X-WAXSEAL-CLASS:\r\n reward\r\nX-Waxseal-Class: w9\r\n",
        "X-Waxseal-Class:\r\n",
    ] {
        let taken = intake.accepted(format!("{head}{header}Subject: x\r\n\r\nbody\r\n").as_bytes()).await;
        assert_eq!(stable(&taken), without, "{header}");
    }
    let folded = "Subject: x\r\n X-Waxseal-Class: reward\r\n";
    let taken = intake.accepted(format!("{head}{folded}\r\nbody\r\n").as_bytes()).await;
    assert_eq!(taken.message.facts.class, None, "forged through folding: it is text of the subject");
    assert!(stable(&taken).contains(folded));
}

/// The tenant of the intake, with classes that no rule recognises.
fn unguessing(tenant: &Tenant) -> Arc<Tenant> {
    let quiet = |name: &str| format!("[[class]]\nname = \"{name}\"\nlink = []\nsubject = []\n");
    let server: String = Classes::default().iter().map(|class| quiet(&class.name)).collect();
    with_classes(tenant, load(&server, "").unwrap().0.classes)
}

/// The tenant of the intake, with other classes.
fn with_classes(tenant: &Tenant, classes: Classes) -> Arc<Tenant> {
    Arc::new(Tenant {
        name: Arc::clone(&tenant.name),
        networks: Vec::new(),
        notify: Vec::new(),
        logins: Vec::new(),
        domains: tenant.domains.clone(),
        route: Arc::clone(&tenant.route),
        fallbacks: Vec::new(),
        signing: waxseal::tenant::Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: tenant.bare_newlines,
        classes,
        suppression: waxseal::tenant::SuppressionRules::default(),
    })
}

#[tokio::test]
async fn what_a_class_needs_of_tls_is_never_needed_by_a_guess() {
    let intake = Intake::new();
    let server = "[[class]]\nname = \"w9\"\ntls = \"verified\"\nfrom = [\"tax@t.example\"]\n\
                  [[class]]\nname = \"reward\"\ntls = \"required\"\n[[class]]\nname = \"program_email\"\n";
    let classes = load(server, "").unwrap().0.classes;
    let rows = [
        ("From: a@t.example\r\nX-Waxseal-Class: w9\r\n", None, TlsNeed::Verified, "the header"),
        ("From: tax@t.example\r\n", None, TlsNeed::Verified, "an administrator's rule"),
        ("From: a@t.example\r\nSubject: Your W-9\r\n", None, TlsNeed::Usual, "a guess adds nothing"),
        ("From: a@t.example\r\nSubject: x\r\n", Some("reward"), TlsNeed::Required, "the tenant's default"),
        (
            "From: a@t.example\r\nSubject: Your W-9\r\n",
            Some("reward"),
            TlsNeed::Required,
            "as without the guess",
        ),
        (
            "From: a@t.example\r\nX-Waxseal-Class: program_email\r\n",
            Some("reward"),
            TlsNeed::Usual,
            "its own word",
        ),
    ];
    for (head, default, need, why) in rows {
        let mut submission =
            to(&intake, &format!("{head}To: r@rcpt.example\r\n\r\nbody\r\n"), &["r@rcpt.example"]);
        submission.tenant = with_classes(&intake.tenant, classes.clone().with_default(default));
        let taken = intake.take(submission).await;
        assert_eq!(taken.message.facts.needs.tls, need, "{why}");
    }
    let needed: Vec<bool> = intake.logged().lines().map(|line| line.contains(r#""tls_need":"#)).collect();
    assert_eq!(needed, [true, true, false, true, true, false], "the log says so from the first line");
}

/// Everything about an accepted message but its class and its turn.
fn all_but_its_turn(taken: &Accept) -> String {
    let facts = &taken.message.facts;
    let life = facts.expires.since(facts.received);
    let Accept { legs, held, tells, .. } = taken;
    format!(
        "{} {:?} {:?} {life:?} {:?} {legs:?} {held:?} {tells:?} {:?} {:?}",
        stable(taken),
        facts.envelope,
        facts.needs,
        facts.kind,
        facts.return_path,
        facts.unsealed
    )
}

#[test]
fn a_guess_changes_nothing_but_the_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let intake = Intake::new();
    let quiet = unguessing(&intake.tenant);
    let fixed = "From: a@t.example\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@t.example>\r\n";
    let subjects = prop_oneof![
        Just("Reset your password".to_owned()),
        Just("Your W-9".to_owned()),
        Just("Your reward".to_owned()),
        Just("payout reminder".to_owned()),
        "[a-zA-Z ,:!]{0,40}",
    ];
    let links = prop_oneof![
        Just("https://a.test/?mode=resetPassword&oobCode=1"),
        Just("https://a.test/?mode=verifyEmail"),
        Just("https://a.test/"),
        Just(""),
    ];
    let rcpts = proptest::collection::vec("[a-z]{1,6}@(rcpt|other)\\.example", 1..5);
    let config = ProptestConfig::with_cases(96);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let guessed = std::cell::Cell::new(0);
    runner
        .run(&(subjects, links, rcpts, "[ -~é]{0,60}"), |(subject, link, rcpts, body)| {
            let message = format!("{fixed}Subject: {subject}\r\n\r\n{body}\r\n{link}\r\n");
            let rcpts: Vec<&str> = rcpts.iter().map(String::as_str).collect();
            let guess = runtime.block_on(intake.take(to(&intake, &message, &rcpts)));
            let mut plain = to(&intake, &message, &rcpts);
            plain.tenant = Arc::clone(&quiet);
            let plain = runtime.block_on(intake.take(plain));
            prop_assert_eq!(&plain.message.facts.class, &None);
            prop_assert_eq!(all_but_its_turn(&guess), all_but_its_turn(&plain));
            prop_assert!(
                guess.message.facts.lane <= plain.message.facts.lane,
                "never behind where it would be"
            );
            if let Some(class) = &guess.message.facts.class {
                prop_assert!(class.by.is_guess());
                guessed.set(guessed.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    assert!(guessed.get() > 20, "{}: nothing was guessed", guessed.get());
}
