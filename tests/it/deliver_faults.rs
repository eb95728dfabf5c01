//! Remote servers that misbehave (faults.md section 10): each recipient has one fate, and nothing is lost or sent twice.

use std::sync::Arc;

use waxseal::mail::attempt::Fate::{self, Deferred, Delivered, Failed};
use waxseal::mail::envelope::{Notify, Ret};
use waxseal::mail::message::Message;
use waxseal::tenant::Route;

use crate::deliver::{BODY, fates, message, words, world};
use crate::exchanger::{Act, Script, script};

const ONE: &str = "b.test. 60 IN MX 10 mx2.test.\nb.test. 60 IN MX 20 mx3.test.\n";
const RCPTS: [&str; 3] = ["x@b.test", "y@b.test", "z@b.test"];

/// Behind the greeting and PIPELINING, three RCPTs; then this.
fn after_group(rest: &str) -> Script {
    let group = "<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 PIPELINING\n\
                 -> MAIL*\n-> RCPT TO:<x@b.test>\n-> RCPT TO:<y@b.test>\n-> RCPT TO:<z@b.test>\n-> DATA\n";
    script(&format!("{group}{rest}\n-- silence"))
}

struct Row {
    why: &'static str,
    rest: &'static str,
    expected: [(Fate, u16); 3],
}

fn row(why: &'static str, rest: &'static str, expected: [(Fate, u16); 3]) -> Row {
    Row { why, rest, expected }
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let all = |fate, code| [(fate, code); 3];
    vec![
        row("RM7: a mix is split", "<- 250 ok\n<- 250 ok\n<- 450 later\n<- 550 never\n<- 354 go\n-- body\n<- 250 ok",
            [(Delivered, 250), (Deferred, 450), (Failed, 550)]),
        row("RM7: all refused, but 354: a lone dot", "<- 250 ok\n<- 550 a\n<- 550 b\n<- 551 c\n<- 354 go\n-> .\n<- 554 nobody",
            [(Failed, 550), (Failed, 550), (Failed, 551)]),
        row("RM7: all refused, DATA too", "<- 250 ok\n<- 550 a\n<- 450 b\n<- 550 c\n<- 503 no",
            [(Failed, 550), (Deferred, 450), (Failed, 550)]),
        row("MAIL refused for good", "<- 550 not you\n<- 503 x\n<- 503 x\n<- 503 x\n<- 503 x", all(Failed, 550)),
        row("MAIL refused for now", "<- 451 not now\n<- 503 x\n<- 503 x\n<- 503 x\n<- 503 x", all(Deferred, 451)),
        row("MAIL refused, but 354: a lone dot", "<- 550 not you\n<- 503 x\n<- 503 x\n<- 503 x\n<- 354 go\n-> .\n<- 250 ok",
            all(Failed, 550)),
        row("RM2: 250 to DATA", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 550 never\n<- 250 what",
            [(Deferred, 0), (Deferred, 0), (Failed, 550)]),
        row("RM2: 354 to RCPT", "<- 250 ok\n<- 550 never\n<- 354 what",
            [(Failed, 550), (Deferred, 0), (Deferred, 0)]),
        row("RM2: 199", "<- 199 what", all(Deferred, 0)),
        row("RM4: 421 after MAIL", "<- 421 bye", all(Deferred, 421)),
        row("RM4: 421 at RCPT 2 of 3", "<- 250 ok\n<- 550 never\n<- 421 bye",
            [(Failed, 550), (Deferred, 421), (Deferred, 421)]),
        row("RM4: 421 at DATA", "<- 250 ok\n<- 250 ok\n<- 550 never\n<- 250 ok\n<- 421 bye",
            [(Deferred, 421), (Failed, 550), (Deferred, 421)]),
        row("RM4: 421 at the dot", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n<- 421 bye",
            all(Deferred, 421)),
        row("451 at the dot", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n<- 451 later", all(Deferred, 451)),
        row("554 at the dot", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n<- 554 spam", all(Failed, 554)),
        row("RM5: lost after the dot", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n-- reset", all(Deferred, 0)),
        row("RM6: 250, then a reset", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- body\n<- 250 ok\n-- reset",
            all(Delivered, 250)),
        row("a 250 before the message was sent is not believed", "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n<- 250 ok",
            all(Deferred, 0)),
        row("RM1: mixed codes in one reply", "<- 250 ok\n<- 250-ok\n<- 550 no", all(Deferred, 0)),
    ]
}

#[tokio::test]
async fn each_recipient_has_one_fate() {
    for Row { why, rest, expected } in rows() {
        let world =
            world(ONE, vec![vec![after_group(rest)], vec![script("<- 554 the next host must not be asked")]])
                .await;
        let decided = world.mx(&RCPTS).await;
        assert_eq!(fates(&decided), expected, "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[1].connections(), 0, "{why}: what was said holds for every exchanger");
        let shared = decided.iter().all(|one| one.hop.shared);
        match why {
            "554 at the dot" => assert!(shared, "{why}: of whom it speaks nobody knows"),
            "RM7: all refused, but 354: a lone dot" => assert!(!shared, "{why}: each has a reply of its own"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn recipients_that_found_no_room_go_into_the_next_transaction() {
    let rest = "<- 250 ok\n<- 250 ok\n<- 452 4.5.3 too many\n<- 552 too many\n<- 354 go\n-- body\n<- 250 one\n\
                -> MAIL*\n-> RCPT TO:<y@b.test>\n-> RCPT TO:<z@b.test>\n-> DATA\n\
                <- 250 ok\n<- 250 ok\n<- 452 4.5.3 too many\n<- 354 go\n-- body\n<- 250 two\n\
                -> MAIL*\n-> RCPT TO:<z@b.test>\n-> DATA\n<- 250 ok\n<- 452 4.5.3 too many\n<- 503 none";
    let world = world(ONE, vec![vec![after_group(rest)], vec![]]).await;
    let decided = world.mx(&RCPTS).await;
    assert_eq!(fates(&decided), [(Delivered, 250), (Delivered, 250), (Deferred, 452)], "RM7: 452 after n");
    assert_eq!(world.exchangers[0].connections(), 1);
}

#[tokio::test]
async fn a_reset_in_the_middle_of_the_body_defers() {
    let rest = "<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 250 ok\n<- 354 go\n-- reset";
    let world = world(ONE, vec![vec![after_group(rest)], vec![]]).await;
    let big = message(&RCPTS, &b"0123456789abcdef\r\n".repeat(1_000_000));
    let decided = world.send(big, &Arc::new(Route::Mx)).await;
    assert_eq!(decided.iter().map(|one| one.fate).collect::<Vec<_>>(), [Deferred; 3], "RM4: mid-body");
}

#[tokio::test]
async fn a_server_without_pipelining_is_asked_step_by_step() {
    let lockstep = "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT TO:<x*\n<- 550 no\n-> RCPT TO:<y*\n<- 250 ok\n\
                    -> RCPT TO:<z*\n<- 450 no\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
    let world = world(ONE, vec![vec![script(lockstep)], vec![]]).await;
    let decided = world.mx(&RCPTS).await;
    assert_eq!(fates(&decided), [(Failed, 550), (Delivered, 250), (Deferred, 450)]);
}

#[tokio::test]
async fn without_pipelining_nobody_accepted_means_no_data() {
    let lockstep = "<- 220 mx\n-> EHLO*\n<- 250 mx\n-> MAIL*\n<- 250 ok\n-> RCPT TO:<x@b.test>\n<- 550 no\n\
                    -> RSET\n<- 250 ok\n-> MAIL*\n<- 550 no\n-- silence";
    let world = world(ONE, vec![vec![script(lockstep)], vec![]]).await;
    assert_eq!(fates(&world.mx(&["x@b.test"]).await), [(Failed, 550)]);
    assert_eq!(fates(&world.mx(&["x@b.test"]).await), [(Failed, 550)]);
}

#[tokio::test]
async fn helo_is_said_where_ehlo_is_not_understood() {
    let rest = "-> MAIL FROM:<a@acme.test>\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
    let helo = format!("-> HELO relay.test\n<- 250 mx\n{rest}");
    let rows = [
        ("RM11: 500", 1, vec![script(&format!("<- 220 mx\n-> EHLO*\n<- 500 what\n{helo}"))]),
        ("RM11: 502", 1, vec![script(&format!("<- 220 mx\n-> EHLO*\n<- 502 what\n{helo}"))]),
        (
            "RM11: it hangs up",
            2,
            vec![script("<- 220 mx\n-> EHLO*\n-- reset"), script(&format!("<- 220 mx\n{helo}"))],
        ),
    ];
    for (why, connections, scripts) in rows {
        let world = world(ONE, vec![scripts, vec![]]).await;
        let decided = world.mx(&["x@b.test"]).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), connections, "{why}");
    }
}

/// It may have hung up by chance, and HELO would not say that it can carry the message.
#[tokio::test]
async fn helo_is_not_said_by_guess_with_mail_that_needs_more() {
    let world = world(ONE, vec![vec![script("<- 220 mx\n-> EHLO*\n-- reset")], vec![]]).await;
    let mut mail = message(&["x@b.test"], BODY);
    mail.facts.needs.smtputf8 = true;
    let decided = world.send(mail, &Arc::new(Route::Mx)).await;
    assert_eq!(fates(&decided), [(Deferred, 0)], "{}", words(&decided));
    assert_eq!(world.exchangers[0].connections(), 1);
}

/// What was not heard at EHLO is not known of the next message's needs either.
#[tokio::test]
async fn a_connection_with_helo_by_guess_is_not_kept() {
    let once = "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-> QUIT\n<- 221 bye";
    let scripts = vec![
        script("<- 220 mx\n-> EHLO*\n-- reset"),
        script(&format!("<- 220 mx\n-> HELO*\n<- 250 mx\n{once}")),
        offering(
            "SMTPUTF8,8BITMIME",
            "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok",
        ),
    ];
    let world = world(ONE, vec![scripts, vec![]]).await;
    assert_eq!(fates(&world.mx(&["x@b.test"]).await), [(Delivered, 250)]);
    let mut mail = message(&["x@b.test"], BODY);
    mail.facts.needs.smtputf8 = true;
    let decided = world.send(mail, &Arc::new(Route::Mx)).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
}

fn offering(keywords: &str, rest: &str) -> Script {
    let offers: String = keywords.split(',').map(|keyword| format!("<- 250-{keyword}\n")).collect();
    script(&format!("<- 220 mx\n-> EHLO*\n<- 250-mx\n{offers}<- 250 HELP\n{rest}\n-- silence"))
}

#[tokio::test]
async fn what_the_server_cannot_carry_is_not_sent_to_it() {
    let eight: fn(&mut Message) = |message| message.facts.needs.eight_bit = true;
    let utf8: fn(&mut Message) = |message| message.facts.needs.smtputf8 = true;
    let plain: fn(&mut Message) = |_| {};
    let rows = [
        ("RM10: SIZE smaller than the mail", "SIZE 5", plain, "5.3.4"),
        ("RM10: no 8BITMIME", "SIZE", eight, "5.6.3"),
        ("RM10: no SMTPUTF8", "8BITMIME", utf8, "5.6.7"),
    ];
    for (why, keywords, change, code) in rows {
        let world = world(ONE, vec![vec![offering(keywords, "")], vec![]]).await;
        let mut mail = message(&["x@b.test"], BODY);
        change(&mut mail);
        let decided = world.send(mail, &Arc::new(Route::Mx)).await;
        assert_eq!(fates(&decided), [(Failed, 0)], "{why}");
        assert!(words(&decided).starts_with(code), "{why}: {}", words(&decided));
        assert!(world.exchangers[0].lines().iter().all(|line| !line.starts_with("MAIL")), "{why}");
    }
}

#[tokio::test]
async fn parameters_are_passed_on_where_they_are_offered_and_only_there() {
    let end = "<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok";
    let rows = [
        (
            "SIZE,8BITMIME,SMTPUTF8,DSN",
            "-> MAIL FROM:<a@acme.test> SIZE=28 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=q+2B1\n<- 250 ok\n\
          -> RCPT TO:<x@b.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;x@b.test",
            true,
            "all of them",
        ),
        (
            "8BITMIME,SMTPUTF8",
            "-> MAIL FROM:<a@acme.test> BODY=8BITMIME SMTPUTF8\n<- 250 ok\n-> RCPT TO:<x@b.test>",
            false,
            "no DSN, no SIZE",
        ),
    ];
    for (keywords, begin, dsn, why) in rows {
        let world = world(ONE, vec![vec![offering(keywords, &format!("{begin}\n{end}"))], vec![]]).await;
        let mut mail = message(&["x@b.test"], BODY);
        mail.facts.needs.eight_bit = true;
        mail.facts.needs.smtputf8 = true;
        mail.facts.envelope.ret = Some(Ret::Hdrs);
        mail.facts.envelope.envid = Some("q+1".into());
        let rcpt = &mut mail.facts.envelope.rcpts[0];
        rcpt.orcpt = Some("rfc822;x@b.test".into());
        rcpt.notify = Notify { success: true, failure: true, delay: false, stated: true };
        let decided = world.send(mail, &Arc::new(Route::Mx)).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
        assert_eq!(decided[0].hop.dsn, dsn, "{why}");
    }
}

#[tokio::test]
async fn a_witness_hears_of_a_refusal_when_its_reply_arrives() {
    let rest = "<- 250 ok\n<- 550 never\n-- silence";
    let world = world(ONE, vec![vec![after_group(rest)], vec![]]).await;
    let job = crate::deliver::job(message(&RCPTS, BODY), &Arc::new(Route::Mx));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut witness = |decided: Vec<_>| tell.send(decided).unwrap();
    tokio::select! {
        () = world.deliverer.attempt(&job, &mut witness) => panic!("the second RCPT has no reply yet"),
        decided = told.recv() => assert_eq!(fates(&decided.unwrap()), [(Failed, 550)]),
    }
}

#[tokio::test]
async fn a_tarpit_is_left_at_the_deadline_of_the_reply() {
    let mut drip = vec![Act::Raw(b"2".to_vec())];
    drip.extend(script("-- silence"));
    let world = crate::deliver::world_with(ONE, vec![vec![drip], vec![]], |config, _| {
        config.delivery.command_timeout = std::time::Duration::from_millis(300);
        Vec::new()
    })
    .await;
    let decided = world.mx(&["x@b.test"]).await;
    assert_eq!(decided[0].fate, Deferred, "RM8: an octet does not prolong it");
}
