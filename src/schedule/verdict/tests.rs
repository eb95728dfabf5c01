//! What decisions come to, a case at a time.

use proptest::prelude::*;

use super::*;
use crate::deliver::bounce::fixture::{DAY, decided, facts, leg, message};
use crate::mail::envelope::Notify;
use crate::queue::store::{Cause, Hold};

const HOUR: Duration = Duration::from_secs(3600);
const WAITS: [Duration; 2] = [Duration::from_secs(300), HOUR];

fn when(age: Duration) -> When<'static> {
    When {
        wall: Time(5_000),
        turn: Time(6_000),
        way: Way::First,
        life: Life { age, most: Duration::from_millis(5 * DAY) },
        waits: &WAITS,
        chance: 0.0,
        delay_notice: Some(HOUR * 4),
    }
}

fn verdict(rcpts: &[&str], nobody: Option<&'static str>) -> Verdict {
    let facts = facts("acme", Some("noreply@acme.test"), rcpts);
    Verdict::new(leg(&facts), message(facts), nobody)
}

fn three() -> Verdict {
    verdict(&["a@example.test", "b@example.test", "c@example.test"], None)
}

/// What a settlement says: each recipient's fate, whether failures are owed, and what comes next.
fn told(settlement: &Settlement) -> (Vec<(u16, Fate)>, bool, Then) {
    let fates = settlement.fates.iter().map(|(rcpt, fate, _)| (*rcpt, *fate)).collect();
    (fates, settlement.owe, settlement.then.clone())
}

fn due(at: u64, delay_told: bool) -> Then {
    Then::Due { at: Time(at), delay_told }
}

#[test]
fn a_mix_is_settled_at_once_and_only_the_failure_is_owed() {
    let mut verdict = three();
    let mix = vec![decided(0, Fate::Delivered), decided(1, Fate::Deferred), decided(2, Fate::Failed)];
    let ruling = verdict.rule(mix, &when(Duration::ZERO));
    assert!(verdict.complete());
    let settled: Vec<_> = ruling.settlements.iter().map(told).collect();
    assert_eq!(
        settled,
        [
            (vec![(2, Fate::Failed)], true, Then::Continue),
            (vec![(0, Fate::Delivered), (1, Fate::Deferred)], false, due(306_000, false)),
        ]
    );
    let next: Vec<_> = ruling.said.iter().map(|(one, next)| (one.rcpt, *next)).collect();
    assert_eq!(next, [(0, None), (1, Some(Time(306_000))), (2, None)]);
}

#[test]
fn each_reply_is_settled_when_it_arrives_and_the_last_ends_the_attempt() {
    let mut verdict = three();
    let first = verdict.rule(vec![decided(1, Fate::Deferred)], &when(Duration::ZERO));
    assert_eq!(told(&first.settlements[0]), (vec![(1, Fate::Deferred)], false, Then::Continue));
    let later = When { turn: Time(90_000), ..when(Duration::ZERO) };
    let second = verdict.rule(vec![decided(0, Fate::Deferred), decided(2, Fate::Delivered)], &later);
    assert_eq!(second.settlements[0].then, due(306_000, false), "one attempt, one next time");
}

#[test]
fn what_was_turned_away_waits_for_its_site_unless_others_of_it_were_put_off() {
    let left = |verdict: &Verdict| {
        let ruling = verdict.turned_away(&when(HOUR * 4));
        let told: Vec<u16> = ruling.delayed.iter().map(|(rcpt, _)| *rcpt).collect();
        (ruling.settlements[0].then.clone(), told)
    };
    let mut verdict = three();
    assert_eq!(left(&verdict), (Then::Unclaim, vec![]), "nobody was asked");
    verdict.rule(vec![decided(0, Fate::Delivered)], &when(Duration::ZERO));
    assert_eq!(left(&verdict), (Then::Unclaim, vec![]), "nobody waits");
    verdict.rule(vec![decided(1, Fate::Deferred)], &when(HOUR * 4));
    assert_eq!(
        left(&verdict),
        (due(306_000, true), vec![2]),
        "one would be asked again at once; the delay of both is told"
    );
}

#[test]
fn the_way_by_which_mail_may_have_arrived_is_kept() {
    let last = |ruling: &Ruling| ruling.settlements[0].fates[0].2.clone();
    let facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
    let mut verdict = Verdict::new(leg(&facts), message(facts.clone()), None);
    let mut gone = decided(0, Fate::Deferred);
    gone.hop.lost = true;
    let second = When { way: Way::Second, ..when(Duration::ZERO) };
    let lost = last(&verdict.rule(vec![gone], &second));
    assert_eq!(lost.lost, Some(Way::Second));
    let mut later = Verdict::new(Leg { last: Some(lost), ..leg(&facts) }, message(facts), None);
    let ruling = later.rule(vec![decided(0, Fate::Deferred)], &when(Duration::ZERO));
    assert_eq!(last(&ruling).lost, Some(Way::Second), "whatever was heard since");
}

#[test]
fn a_recipient_has_one_fate() {
    let mut verdict = verdict(&["a@example.test"], None);
    verdict.rule(vec![decided(0, Fate::Delivered)], &when(Duration::ZERO));
    let again = verdict.rule(vec![decided(0, Fate::Failed), decided(7, Fate::Failed)], &when(Duration::ZERO));
    assert!(again.settlements.is_empty() && again.said.is_empty());
}

#[test]
fn giving_up_says_how_long_was_tried_and_what_was_heard() {
    let mut verdict = verdict(&["a@example.test"], None);
    let ruling = verdict.rule(vec![decided(0, Fate::Deferred)], &when(Duration::from_millis(5 * DAY)));
    let (_, fate, last) = &ruling.settlements[0].fates[0];
    assert_eq!((*fate, last.code, last.enhanced), (Fate::Failed, 0, Some(Enhanced(4, 4, 7))));
    assert_eq!(last.text, "given up after 5 days; last: mx.example.test: 451 4.7.1 later");
    assert!(ruling.settlements[0].owe);
    assert!(ruling.said.is_empty(), "expired, not deferred");
    assert_eq!(ruling.expired[0].0, 0);
}

#[test]
fn a_refusal_on_the_last_day_is_a_refusal() {
    let mut verdict = verdict(&["a@example.test"], None);
    let ruling = verdict.rule(vec![decided(0, Fate::Failed)], &when(Duration::from_millis(9 * DAY)));
    assert!(ruling.expired.is_empty());
    assert_eq!(ruling.settlements[0].fates[0].2.code, 550);
}

#[test]
fn a_hold_that_outlives_its_message_ends_it() {
    let facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
    let held = Hold { reason: "asked".into(), cause: Cause::Operator, until: None }.since(Time(0));
    let mut verdict = Verdict::new(Leg { state: held, ..leg(&facts) }, message(facts), None);
    // Whatever the clock says: the store found that its time has come.
    let ruling = verdict.expire("it was held until its life ended: asked", &when(Duration::ZERO));
    assert_eq!(ruling.settlements[0].fates[0].1, Fate::Failed);
    assert!(ruling.expired[0].1.text.contains("held until its life ended: asked"));
}

#[test]
fn nobody_is_owed_where_nobody_may_be_told() {
    let mut verdict = verdict(&["a@example.test"], Some("its reverse-path is null"));
    let ruling = verdict.rule(vec![decided(0, Fate::Failed)], &when(Duration::ZERO));
    assert!(!ruling.settlements[0].owe);
    assert_eq!(ruling.silent, [(0, "its reverse-path is null")]);
}

/// QU6: what NOTIFY asks for, and nothing else.
#[test]
fn notify_decides_what_is_told() {
    let late = HOUR * 5;
    let says = |success, failure, delay| Notify { success, failure, delay, stated: true };
    let rows = [
        (Notify::default(), [false, true, true], "unstated: failures and delays"),
        (says(false, false, false), [false, false, false], "NEVER"),
        (says(true, false, false), [true, false, false], "SUCCESS"),
        (says(false, true, false), [false, true, false], "FAILURE"),
        (says(false, false, true), [false, false, true], "DELAY"),
    ];
    for (notify, [relayed, owed, delayed], why) in rows {
        let outcome = |fate| {
            let mut facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
            facts.envelope.rcpts[0].notify = notify;
            let mut verdict = Verdict::new(leg(&facts), message(facts), None);
            verdict.rule(vec![decided(0, fate)], &when(late))
        };
        assert_eq!(!outcome(Fate::Delivered).relayed.is_empty(), relayed, "{why}: success");
        assert_eq!(outcome(Fate::Failed).settlements[0].owe, owed, "{why}: failure");
        assert_eq!(!outcome(Fate::Deferred).delayed.is_empty(), delayed, "{why}: delay");
    }
}

#[test]
fn a_next_hop_with_dsn_reports_success_itself() {
    let mut facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
    facts.envelope.rcpts[0].notify = Notify { success: true, failure: true, delay: false, stated: true };
    let mut verdict = Verdict::new(leg(&facts), message(facts.clone()), None);
    let mut delivered = decided(0, Fate::Delivered);
    delivered.hop.dsn = true;
    assert!(verdict.rule(vec![delivered.clone()], &when(Duration::ZERO)).relayed.is_empty());
    facts.return_path = Some("b+token@bounce.acme.test".parse().unwrap());
    let mut verdict = Verdict::new(leg(&facts), message(facts), None);
    let told = verdict.rule(vec![delivered], &when(Duration::ZERO)).relayed.len();
    assert_eq!(told, 1, "its report comes back to the return path, so the sender hears it from us");
}

#[test]
fn a_delay_is_told_once() {
    let rows = [
        (HOUR * 3, false, false, "not late yet"),
        (HOUR * 4, false, true, "late"),
        (HOUR * 9, true, false, "told before"),
    ];
    for (age, before, tells, why) in rows {
        let facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
        let mut verdict = Verdict::new(Leg { delay_told: before, ..leg(&facts) }, message(facts), None);
        let ruling = verdict.rule(vec![decided(0, Fate::Deferred)], &when(age));
        assert_eq!(!ruling.delayed.is_empty(), tells, "{why}");
        assert_eq!(ruling.settlements[0].then, due(306_000, tells || before), "{why}");
    }
    let mut verdict = verdict(&["a@example.test"], None);
    let never = When { delay_notice: None, ..when(HOUR * 9) };
    assert!(verdict.rule(vec![decided(0, Fate::Deferred)], &never).delayed.is_empty(), "never");
}

/// Only an attempt that deferred tells of a delay: by the schedule alone the notice came up to four hours late.
#[test]
fn an_attempt_falls_on_the_age_at_which_a_delay_is_told() {
    let minutes = |minutes: u32| HOUR / 60 * minutes;
    let told = Notify { delay: true, ..Notify::default() };
    let never = Notify { delay: false, failure: true, stated: true, ..Notify::default() };
    let rows = [
        (minutes(150), false, told, 60, "the schedule's hour ends before"),
        (minutes(210), false, told, 30, "half an hour is left"),
        (minutes(240), false, told, 60, "told now: the schedule again"),
        (minutes(210), true, told, 60, "told before"),
        (minutes(210), false, never, 60, "the sender asked not to be told"),
    ];
    for (age, delay_told, notify, wait, why) in rows {
        let mut facts = facts("acme", Some("noreply@acme.test"), &["a@example.test"]);
        facts.envelope.rcpts[0].notify = notify;
        let mut verdict = Verdict::new(Leg { delay_told, attempts: 1, ..leg(&facts) }, message(facts), None);
        let ruling = verdict.rule(vec![decided(0, Fate::Deferred)], &when(age));
        assert_eq!(ruling.said[0].1, Some(Time(6_000).after(minutes(wait))), "{why}");
    }
}

#[test]
fn what_broke_an_attempt_waits_its_turn() {
    let mut verdict = three();
    verdict.rule(vec![decided(1, Fate::Delivered)], &when(Duration::ZERO));
    let ruling = verdict.defer("internal error of the relay", &when(Duration::ZERO));
    let (fates, owe, then) = told(&ruling.settlements[0]);
    assert_eq!((fates.len(), owe, then), (2, false, due(306_000, false)));
    assert_eq!(ruling.said[0].0.reply.enhanced, Some(Enhanced(4, 3, 0)));
}

#[test]
fn a_long_answer_is_kept_within_bounds() {
    let mut verdict = verdict(&["a@example.test"], None);
    let mut long = decided(0, Fate::Failed);
    long.reply.text = "é".repeat(4000).into_bytes();
    let ruling = verdict.rule(vec![long], &when(Duration::ZERO));
    assert_eq!(ruling.settlements[0].fates[0].2.text.len(), 512);
}

proptest! {
    /// However the replies come, each recipient is settled once, and only the last settlement lets the leg go.
    #[test]
    fn every_recipient_is_settled_once(fates in prop::collection::vec((0u8..3, any::<bool>()), 1..40)) {
        let rcpts: Vec<String> = (0..fates.len()).map(|n| format!("r{n}@example.test")).collect();
        let rcpts: Vec<&str> = rcpts.iter().map(String::as_str).collect();
        let mut verdict = verdict(&rcpts, None);
        let mut settlements = Vec::new();
        let mut batch = Vec::new();
        for (at, (fate, flush)) in fates.iter().enumerate() {
            let fate = [Fate::Delivered, Fate::Deferred, Fate::Failed][usize::from(*fate)];
            batch.push(decided(u16::try_from(at).unwrap(), fate));
            if *flush || at + 1 == fates.len() {
                settlements.extend(verdict.rule(std::mem::take(&mut batch), &when(Duration::ZERO)).settlements);
            }
        }
        let mut seen: Vec<u16> = settlements.iter().flat_map(|one| one.fates.iter().map(|fate| fate.0)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..u16::try_from(fates.len()).unwrap()).collect::<Vec<_>>());
        let (last, before) = settlements.split_last().unwrap();
        let ended = matches!(last.then, Then::Due { .. });
        prop_assert!(ended);
        prop_assert!(before.iter().all(|one| one.then == Then::Continue));
        for one in &settlements {
            let failed = one.fates.iter().any(|fate| fate.1 == Fate::Failed);
            prop_assert_eq!(failed, one.owe, "owed exactly where it failed");
        }
    }
}
