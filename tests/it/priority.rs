//! MT-PRIORITY (RFC 6710) and its header field (RFC 6758): what a sender asks for chooses the lane, goes along to the next hop, and
//! takes nothing from another tenant that the lane's rules do not give.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::Delivered;
use waxseal::mail::message::{Kind, Lane};
use waxseal::mail::priority::Priority;
use waxseal::mail::reply::Enhanced;
use waxseal::queue::store::Turns;
use waxseal::tenant::{Route, Tenant, TenantLimits};

use crate::deliver::{BODY, fates, message, words, world};
use crate::exchanger::{Script, script};
use crate::intake::Intake;
use crate::rig::{Plan, Rig};

const TEXT: &str = "From: a@t.example\r\nTo: r@rcpt.example\r\nSubject: s\r\n\r\nbody\r\n";

fn text(field: &str) -> Vec<u8> {
    TEXT.replacen("Subject", &format!("{field}Subject"), 1).into_bytes()
}

/// The same tenant, which may ask for no more than this.
fn bounded(tenant: &Arc<Tenant>, most: i8) -> Arc<Tenant> {
    let Tenant { name, domains, signing, route, .. } = &**tenant;
    Arc::new(Tenant {
        name: Arc::clone(name),
        domains: domains.clone(),
        signing: signing.clone(),
        route: Arc::clone(route),
        limits: TenantLimits { priority: Some(Priority::nearest(most)), ..TenantLimits::default() },
        ..crate::rig::tenant("t", &[])
    })
}

#[tokio::test]
async fn what_is_asked_for_is_kept_and_chooses_the_lane() {
    let intake = Intake::new();
    for (parameter, field, priority, lane, why) in [
        (Some(9), "", 9, Lane::Urgent, "the parameter"),
        (
            Some(-9),
            "X-Waxseal-Class: password_reset\r\n",
            -9,
            Lane::Bulk,
            "against the class: it is no guess",
        ),
        (None, "X-Waxseal-Class: password_reset\r\n", 4, Lane::Urgent, "the class"),
        (None, "MT-Priority: 2\r\n", 2, Lane::Important, "the field where there is no parameter"),
        (Some(1), "MT-Priority: 9\r\n", 1, Lane::Important, "and only there"),
        (None, "", 0, Lane::Normal, "nothing"),
    ] {
        let mut submission = intake.submission(&text(field));
        submission.priority = parameter.map(Priority::nearest);
        let facts = intake.take(submission).await.message.facts.clone();
        assert_eq!((facts.priority.number(), facts.lane), (priority, lane), "{why}");
    }
    let logged = intake.logged();
    let seen = |what: &str| logged.lines().filter(|line| line.contains(what)).count();
    assert_eq!(
        (seen(r#""priority":9"#), seen(r#""priority":-9"#), seen(r#""priority":0"#)),
        (1, 1, 0),
        "{logged}"
    );
}

#[tokio::test]
async fn a_tenant_that_may_not_ask_for_it_is_told_what_it_got() {
    let intake = Intake::new();
    let asking = |priority: Option<i8>| {
        let mut submission = intake.submission(TEXT.as_bytes());
        submission.tenant = bounded(&submission.tenant, 2);
        submission.priority = priority.map(Priority::nearest);
        intake.admit.submit(submission)
    };
    let reply = asking(Some(9)).await;
    assert_eq!((reply.code, reply.enhanced), (250, Some(Enhanced(2, 3, 6))), "{reply}");
    let said = &reply.lines[0];
    assert!(
        said.starts_with("2 ") && said.contains("queued as "),
        "RFC 6710, X.3.6: the number first: {said}"
    );
    assert_eq!(asking(Some(2)).await.enhanced, Some(Enhanced(2, 0, 0)), "as asked");
    assert_eq!(asking(None).await.enhanced, Some(Enhanced(2, 0, 0)), "not asked");
}

/// What the sender wrote goes, what it was given stands there once, and the seal does not cover it: a server that replaces the
/// field (RFC 6758 section 3.3) must not break the signature.
#[tokio::test]
async fn the_field_is_replaced_before_sealing_and_not_sealed() {
    let intake = Intake::new();
    for (parameter, field, expected, why) in [
        (Some(4), "", vec!["4"], "for hops without the extension"),
        (Some(4), "MT-Priority: 9\r\nmt-priority: 8\r\n", vec!["4"], "those of the sender go"),
        (None, "MT-Priority: 6 (high)\r\n", vec!["6"], "the tunnelled value goes on"),
        (None, "MT-Priority: high\r\n", vec![], "what says nothing goes"),
        (None, "X-Waxseal-Class: password_reset\r\n", vec![], "a class alone is not shown to receivers"),
    ] {
        let mut submission = intake.submission(&text(field));
        submission.priority = parameter.map(Priority::nearest);
        let taken = intake.take(submission).await;
        let sealed = String::from_utf8_lossy(&taken.message.body).into_owned();
        let (head, _) = sealed.split_once("\r\n\r\n").unwrap();
        let lines = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("mt-priority:"));
        let values: Vec<&str> = lines.map(|line| line.split_once(": ").unwrap().1).collect();
        assert_eq!(values, expected, "{why}:\n{head}");
        let signature = head.split("\r\nReceived:").next().unwrap();
        assert!(
            signature.contains("DKIM-Signature") && !signature.to_lowercase().contains("mt-priority"),
            "{signature}"
        );
    }
}

/// RFC 6710 section 4.1: what MAIL said stands in our Received field, and nothing that only the class or the header field has.
#[tokio::test]
async fn the_trace_shows_what_mail_said() {
    let intake = Intake::new();
    for (parameter, field, clause, why) in [
        (Some(-4), "", Some("\r\n\tPRIORITY -4;\r\n"), "as it was said"),
        (None, "MT-Priority: 6\r\n", None, "the parameter alone is meant"),
        (None, "X-Waxseal-Class: password_reset\r\n", None, "a class is not shown to receivers"),
    ] {
        let mut submission = intake.submission(&text(field));
        submission.priority = parameter.map(Priority::nearest);
        let sealed = String::from_utf8_lossy(&intake.take(submission).await.message.body).into_owned();
        let (_, received) = sealed.split_once("Received: from ").unwrap();
        let (received, _) = received.split_once("+0000\r\n").unwrap();
        let found = clause.map_or(!received.contains("PRIORITY"), |clause| received.contains(clause));
        assert!(found, "{why}: {received}");
    }
}

/// RFC 6710 section 4.6: what is told of a message is as urgent as the message.
#[tokio::test]
async fn a_notification_has_the_priority_of_its_message() {
    for number in [4, -9] {
        let mut rig = Rig::new(Turns { per_destination: 4, total: 20 });
        rig.script.plan([Plan::All(550)]);
        rig.start();
        rig.accept_with("acme", &["d@there.test"], |facts| prioritise(facts, number)).await;
        assert_eq!(rig.notification().await.message.facts.priority.number(), number);
    }
}

const ONE: &str = "b.test. 60 IN MX 10 mx2.test.\n";

fn exchanger(offers: &str, mail: &str) -> Script {
    script(&format!(
        "<- 220 mx\n-> EHLO*\n<- 250-mx\n<- 250 {offers}\n-> {mail}\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n\
         -- body\n<- 250 ok\n-- silence"
    ))
}

#[tokio::test]
async fn it_goes_along_where_the_next_hop_offers_it() {
    for (offers, number, mail, why) in [
        ("MT-PRIORITY", 4, "MAIL FROM:<a@acme.test> MT-PRIORITY=4", "as it is"),
        ("MT-PRIORITY MIXER", -3, "MAIL FROM:<a@acme.test> MT-PRIORITY=-3", "whatever its policy"),
        ("MT-PRIORITY", 0, "MAIL FROM:<a@acme.test> MT-PRIORITY=0", "RFC 6758 3.2: also where nobody asked"),
        ("HELP", 9, "MAIL FROM:<a@acme.test>", "not offered"),
    ] {
        let world = world(ONE, vec![vec![exchanger(offers, mail)]]).await;
        let mut mail = message(&["b@b.test"], BODY);
        mail.facts.priority = Priority::nearest(number);
        let decided = world.send(mail, &Arc::new(Route::Mx)).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
    }
}

/// How many of the first turns that a relay under load gives are whose: acme floods it at its highest priority, blue has some mail.
async fn turns(blue: i8, turns: usize) -> usize {
    let mut rig = Rig::new(Turns { per_destination: 1000, total: 1 });
    rig.script.plan([Plan::Gate]);
    for n in 0..120 {
        rig.accept_with("acme", &[&format!("r{n}@d{n}.test")], |facts| prioritise(facts, 9)).await;
    }
    for n in 0..30 {
        rig.accept_with("blue", &[&format!("r{n}@b{n}.test")], |facts| prioritise(facts, blue)).await;
    }
    rig.start();
    let mut own = 0;
    for _ in 0..turns {
        own += usize::from(&*rig.seen().await.tenant == "blue");
        rig.script.gate.add_permits(1);
    }
    rig.script.gate.add_permits(1000);
    rig.until(<[_]>::is_empty).await;
    own
}

fn prioritise(facts: &mut waxseal::mail::message::Facts, number: i8) {
    facts.priority = Priority::nearest(number);
    facts.lane = facts.priority.lane();
}

#[tokio::test]
async fn a_flood_at_the_highest_priority_takes_no_turn_of_another_tenants_beyond_its_lane() {
    // Within a lane tenants take turns, however much one of them has there and whatever number it says.
    let equal = turns(3, 40).await;
    assert!((19..=21).contains(&equal), "half of the urgent lane's turns, with 3 against 9: {equal}");
    // A lower lane keeps its weight (4 beside 16): one turn in five.
    let normal = turns(0, 40).await;
    assert!((7..=9).contains(&normal), "normal mail beside it: {normal}");
}

/// A priority is about turns: nothing else of the message changes by it.
#[tokio::test]
async fn it_neither_shortens_nor_drops() {
    let intake = Intake::new();
    let mut lives = Vec::new();
    for number in [None, Some(-9), Some(9)] {
        let mut submission = intake.submission(TEXT.as_bytes());
        submission.priority = number.map(Priority::nearest);
        let taken = intake.take(submission).await;
        let facts = &taken.message.facts;
        lives.push((facts.expires.since(facts.received), facts.asked.clone(), facts.needs, facts.kind));
        assert!(taken.held.is_none());
    }
    assert!(lives.iter().all(|life| *life == lives[0] && life.3 == Kind::Mail), "{lives:?}");
}
