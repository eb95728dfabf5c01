//! Every dialogue, over both layers, in one write, octet by octet, and in seeded random splits; and what no split and no
//! octets may ever do.

use proptest::prelude::*;

use crate::dialogue::{Case, House, cases};

/// Random splits a case and layer.
const SPLITS: u64 = 20;

fn layers(case: &Case) -> Vec<bool> {
    [(case.options.clear, false), (case.options.tls, true)]
        .into_iter()
        .filter_map(|(wanted, tls)| wanted.then_some(tls))
        .collect()
}

/// Cuts by a small generator (xorshift), so that a failing seed can be played again.
fn split(octets: &[u8], seed: u64) -> Vec<&[u8]> {
    let (mut state, mut rest, mut pieces) =
        (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, octets, Vec::new());
    while !rest.is_empty() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = usize::try_from(state % 23).unwrap().clamp(1, rest.len());
        let (piece, tail) = rest.split_at(length);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[test]
fn dialogues_end_the_same_however_they_are_split() {
    let cases = cases();
    assert!(cases.len() > 60, "only {} cases were found", cases.len());
    for case in &cases {
        for tls in layers(case) {
            let play = |pieces: Vec<&[u8]>| House::new(&case.options, tls).play(pieces);
            let whole = play(vec![&case.sent]);
            whole.check(case, &format!("one write, tls {tls}"));
            assert_eq!(
                whole,
                play(case.sent.chunks(1).collect()),
                "{} octet by octet, tls {tls}",
                case.title
            );
            for seed in 0..SPLITS {
                assert_eq!(whole, play(split(&case.sent, seed)), "{} split {seed}, tls {tls}", case.title);
            }
        }
    }
}

/// TL1 (CVE-2011-0411): what is sent behind STARTTLS in the same segment ends the connection; nothing of it is run.
#[test]
fn tl1_commands_behind_starttls_are_never_run() {
    let sent = b"EHLO a\r\nSTARTTLS\r\nMAIL FROM:<a@t.example>\r\n";
    let outcome = House::new(&crate::dialogue::Options::default(), false).play([&sent[..]]);
    assert_eq!(outcome.replies.last().map(String::as_str), Some("CLOSE"));
    assert!(outcome.replies.iter().any(|line| line.starts_with("421 4.7.0")), "{:?}", outcome.replies);
    assert!(!outcome.replies.iter().any(|line| line.starts_with("250 2.1.0")));
}

/// CM1: ten megabytes without CRLF get one reply, and the buffer stays small.
#[test]
fn cm1_an_endless_line_is_answered_once_and_not_kept() {
    let piece = vec![b'x'; 4096];
    let pieces = std::iter::repeat_n(&piece[..], 2500).chain([&b"\r\nNOOP\r\n"[..]]);
    let outcome = House::new(&crate::dialogue::Options::default(), false).play(pieces);
    assert_eq!(outcome.replies[1..], ["500 5.5.2 Line too long", "250 2.0.0 Ok"]);
}

/// CM5: the hundred recipients allowed are kept when more are named, and the message goes to them.
#[test]
fn cm5_recipients_over_the_bound_are_refused_and_the_others_kept() {
    let mut sent = b"HELO c\r\nMAIL FROM:<a@t.example>\r\n".to_vec();
    for n in 0..103 {
        sent.extend(format!("RCPT TO:<r{n}@c.test>\r\n").bytes());
    }
    sent.extend(b"DATA\r\nx\r\n.\r\n");
    let outcome = House::new(&crate::dialogue::Options::default(), false).play([&sent[..]]);
    let count = |head: &str| outcome.replies.iter().filter(|line| line.starts_with(head)).count();
    assert_eq!((count("250 2.1.5"), count("452 4.5.3"), count("250 2.0.0 Ok: queued")), (100, 3, 1));
    assert_eq!(outcome.envelopes[0].split(' ').count(), 100);
}

/// CM11: a hundred commands that do nothing end the session; a message in between starts the count again.
#[test]
fn cm11_commands_that_do_nothing_are_bounded() {
    let play = |sent: &[u8]| House::new(&crate::dialogue::Options::default(), false).play([sent]);
    let outcome = play(&b"NOOP\r\n".repeat(10_000));
    assert_eq!(outcome.replies.len(), 1 + 100 + 2, "the banner, a hundred answers, 421, and the end");
    assert!(outcome.replies[101].starts_with("421 4.7.0"));
    let mail = b"MAIL FROM:<>\r\nRCPT TO:<b@c.test>\r\nDATA\r\nx\r\n.\r\n";
    let busy = [b"HELO c\r\n".to_vec(), [&b"RSET\r\n".repeat(90)[..], mail].concat().repeat(3)].concat();
    assert_eq!(play(&busy).bodies.len(), 3);
}

/// RE4: quoted local parts reach the envelope as they were written.
#[test]
fn re4_quoted_local_parts_are_kept() {
    let sent =
        b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<\"user@a\"@b.test>\r\nRCPT TO:<@r.test:\"a\\\"b\"@x.test>\r\n\
                 RCPT TO:<postmaster>\r\nDATA\r\nx\r\n.\r\n";
    let outcome = House::new(&crate::dialogue::Options::default(), false).play([&sent[..]]);
    assert_eq!(outcome.envelopes, ["\"user@a\"@b.test \"a\\\"b\"@x.test postmaster@relay.test"]);
}

#[test]
fn what_mail_asks_of_the_whole_way_goes_on_with_its_message_alone() {
    let message = |asked: &str| {
        format!("MAIL FROM:<a@t.example>{asked}\r\nRCPT TO:<b@c.test>\r\nDATA\r\nx: y\r\n\r\nz\r\n.\r\n")
    };
    let sent = format!(
        "EHLO c\r\n{}MAIL FROM:<a@t.example> BY=9;N\r\nRSET\r\n{}{}",
        message(" MT-PRIORITY=-4 BY=+120;rt"),
        message(""),
        message(" BY=-20;N"),
    );
    let outcome = House::new(&crate::dialogue::Options::default(), true).play([sent.as_bytes()]);
    assert_eq!(
        outcome.envelopes,
        ["b@c.test MT-PRIORITY=-4 BY=120;RT", "b@c.test", "b@c.test BY=-20;N"],
        "{:?}",
        outcome.replies
    );
}

/// Fragments that lead deep into the machine, for the property below.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"EHLO a\r\n".to_vec()),
        Just(b"MAIL FROM:<a@t.example>\r\n".to_vec()),
        Just(b"RCPT TO:<b@c.test>\r\n".to_vec()),
        Just(b"DATA\r\n".to_vec()),
        Just(b"\r\n.\r\n".to_vec()),
        Just(b"BDAT 5\r\n".to_vec()),
        Just(b"BDAT 3 LAST\r\n".to_vec()),
        Just(b"AUTH PLAIN\r\n".to_vec()),
        Just(b"AUTH LOGIN dA==\r\n".to_vec()),
        Just(b"RSET\r\n".to_vec()),
        proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), any::<u8>()],
            0..12
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_octets_panic_and_no_split_changes_the_outcome(
        fragments in proptest::collection::vec(fragment(), 0..24),
        seed in any::<u64>(),
    ) {
        let sent = fragments.concat();
        let play = |pieces: Vec<&[u8]>| House::new(&crate::dialogue::Options::default(), true).play(pieces);
        prop_assert_eq!(play(vec![&sent]), play(split(&sent, seed)));
    }
}
