//! Sites: what is one, who is told what, and whose seats are taken.

use super::*;

const BOUNDS: Bounds = Bounds { most: 20, rest: Duration::from_secs(600) };

fn sites() -> (Arc<Sites>, Arc<std::sync::atomic::AtomicU64>) {
    let hand = Arc::new(std::sync::atomic::AtomicU64::new(1_767_225_600_000));
    (Sites::new(Clock::Set(Arc::clone(&hand)), Arc::default()), hand)
}

#[test]
fn what_is_one_site() {
    let roofs: Vec<Domain> = ["google.com", "icloud.com"].iter().map(|roof| roof.parse().unwrap()).collect();
    let rows: [(&[&str], &str, &str); 6] = [
        (&["gmail-smtp-in.l.google.com"], "google.com", "Gmail"),
        (&["aspmx.l.google.com"], "google.com", "a Workspace domain: the same machines"),
        (&["b.example", "a.example"], "a.example,b.example", "the same set in whatever order"),
        (&["a.google.com", "mx.example"], "a.google.com,mx.example", "one below is not enough"),
        (&["notgoogle.com"], "notgoogle.com", "a name that only ends alike"),
        (&["mx02.mail.icloud.com", "mx01.mail.icloud.com"], "icloud.com", "all below"),
    ];
    let (sites, _) = sites();
    for (names, expected, why) in rows {
        names.iter().for_each(|name| sites.answered(name, &roofs));
        let (site, whose) = sites.name(names.iter().copied(), &roofs);
        assert_eq!((&*site, &*whose), (expected, expected), "{why}");
    }
}

/// Anybody may point a domain at a name below Google's.
#[test]
fn a_name_that_never_answered_is_not_its_providers_site() {
    let roofs: Vec<Domain> = vec!["google.com".parse().unwrap()];
    let (sites, _) = sites();
    let gmail = "gmail-smtp-in.l.google.com";
    let (site, whose) = sites.name([gmail].into_iter(), &roofs);
    assert_eq!((&*site, &*whose), (gmail, "google.com"), "not yet");
    sites.answered(gmail, &roofs);
    assert_eq!(&*sites.name([gmail].into_iter(), &roofs).0, "google.com");
    for dead in [&["www.google.com"][..], &["nx.google.com"], &[gmail, "www.google.com"]] {
        assert_eq!(*sites.name(dead.iter().copied(), &roofs).0, dead.join(","), "it stands for itself");
    }
    for n in 0..2 * ANSWERED_MAX {
        sites.answered(&format!("mx{n}.google.com"), &roofs);
        sites.answered(&format!("mx{n}.example"), &roofs);
    }
    assert!(sites.known().answered.len() <= ANSWERED_MAX, "and memory is bounded");
}

#[test]
fn memory_is_bounded_whatever_happens_to_the_sites() {
    let (sites, _) = sites();
    for n in 0..3 * SITES_MAX {
        let site: Arc<str> = format!("mx{n}.test").into();
        let (answer, _) = sites.ask(&site, false, BOUNDS);
        let Answer::Go(turn) = answer else { panic!("a new site is probed") };
        turn.end(Sign::Dead, Some(&Trouble::hung_up()));
    }
    assert!(sites.known().sites.len() <= SITES_MAX, "{}", sites.known().sites.len());
}

#[test]
fn a_turn_that_is_dropped_is_given_back() {
    let (sites, _) = sites();
    let site: Arc<str> = "mx.test".into();
    let (answer, standing) = sites.ask(&site, false, BOUNDS);
    assert_eq!((standing.slots, standing.shut), (1, None));
    assert!(matches!(sites.ask(&site, false, BOUNDS).0, Answer::Later), "one probes");
    drop(answer);
    assert!(matches!(sites.ask(&site, false, BOUNDS).0, Answer::Go(_)));
}

#[test]
fn kept_connections_have_the_seats_that_others_need() {
    let (sites, _) = sites();
    let site: Arc<str> = "mx.test".into();
    let (Answer::Go(first), _) = sites.ask(&site, false, BOUNDS) else { panic!("it is probed") };
    let kept = first.sit().unwrap();
    assert!(first.sit().is_none(), "one connection is what it is given");
    first.end(Sign::Spoke, None);
    let (Answer::Go(second), _) = sites.ask(&site, false, BOUNDS) else { panic!("the turn is free again") };
    assert!(second.sit().is_none(), "the seat is not: that connection is kept");
    assert_eq!(sites.excess(&site, BOUNDS), 0);
    let more = second.squeeze_in();
    assert_eq!(sites.excess(&site, BOUNDS), 1);
    drop((kept, more));
    assert!(second.sit().is_some());
}

#[test]
fn whoever_comes_to_a_site_out_of_order_hears_why() {
    let (sites, hand) = sites();
    let site: Arc<str> = "mx.test".into();
    for _ in 0..3 {
        let (Answer::Go(turn), _) = sites.ask(&site, false, BOUNDS) else { panic!("its rest is over") };
        let refused = Trouble::transient(Scope::Host, Enhanced(4, 4, 1), "connection refused");
        assert!(turn.end(Sign::Dead, Some(&refused)).1.is_some());
        hand.fetch_add(50_000, std::sync::atomic::Ordering::Relaxed);
    }
    hand.fetch_sub(45_000, std::sync::atomic::Ordering::Relaxed);
    let (Answer::OutOfOrder(trouble, until), standing) = sites.ask(&site, false, BOUNDS) else {
        panic!("three failures in a row")
    };
    assert_eq!(standing.shut, None, "mail that falls due is deferred, not kept waiting");
    let text = trouble.reply.escaped();
    assert!(text.contains("mx.test rests until") && text.ends_with("last: connection refused"), "{text}");
    assert_eq!(sites.seen(10, BOUNDS)[0].rest, Some((until, Why::Dead)));
    assert_eq!(sites.count(BOUNDS), [0, 0, 1]);
}

/// A 421 in answer to DATA may quote what it was about.
#[test]
fn words_about_one_tenants_mail_are_not_shown_to_another() {
    for (scope, shown, why) in [
        (Scope::Host, true, "a greeting is everybody's"),
        (Scope::Session, false, "later words may be one tenant's"),
    ] {
        let (sites, _) = sites();
        let site: Arc<str> = "mx.test".into();
        let (Answer::Go(turn), _) = sites.ask(&site, false, BOUNDS) else { panic!("it is probed") };
        let text = b"4.3.2 not for ann@acme.test https://acme.test/r?oobCode=S3CRET".to_vec();
        let reply = PeerReply { code: 421, enhanced: Some(Enhanced(4, 3, 2)), text };
        turn.end(Sign::Busy, Some(&Trouble::replied(scope, reply)));
        let said = sites.seen(10, BOUNDS)[0].said.clone().unwrap();
        assert_eq!(said.contains("ann@acme.test"), shown, "{why}: {said}");
        assert!(shown || said == "421 4.3.2", "{why}: {said}");
    }
}
