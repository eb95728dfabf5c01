//! Key records and what receivers read in them.

use proptest::prelude::*;

use super::*;
use crate::seal::keys::{Kind, generate};

fn key(kind: Kind) -> Public {
    generate(kind).unwrap().public
}

fn at(records: &[String]) -> KeyAnswer {
    KeyAnswer { alias: None, records: records.to_vec() }
}

/// Records, with `{p}` for our RSA key, `{head}` and `{tail}` for its parts, `{bare}` for its PKCS#1 form, `{ed}` for our Ed25519
/// key, `{other}` for a stranger's; whether the record is looked at for the Ed25519 key; whether our octets are seen; what is
/// wrong; what is noted; why.
type Row<'a> = (&'a [&'a str], bool, bool, &'a [&'a str], &'a [Note], &'a str);

const ROWS: &[Row<'_>] = &[
    (&["v=DKIM1; k=rsa; p={p}"], false, true, &[], &[], "our own record"),
    (&["v=DKIM1; k=ed25519; p={ed}"], true, true, &[], &[], "our own Ed25519 record"),
    (&["p={p}"], false, true, &[], &[], "only p= is required"),
    (&["k=rsa;p={p};"], false, true, &[], &[], "v= may be absent"),
    (&["v=DKIM1; p={head} \t{tail}"], false, true, &[], &[], "white space in base64"),
    (&["v=DKIM1; x=1; n=note; p={p}"], false, true, &[], &[], "unknown tags are ignored"),
    (&["v=DKIM1; t=s; p={p}"], false, true, &[], &[], "t=s: our i= is our d="),
    (&["v=DKIM1; t=s : y; p={p}"], false, true, &[], &[Note::Testing], "t=y in a list"),
    (&["v=DKIM1; h=sha1:sha256; p={p}"], false, true, &[], &[], "h= allows it"),
    (&["v=DKIM1; h=sha1; p={p}"], false, true, &["does not allow SHA-256 (h=sha1)"], &[], "h= does not"),
    (&["v=DKIM1; s=*; p={p}"], false, true, &[], &[], "every service"),
    (&["v=DKIM1; s=email; p={p}"], false, true, &[], &[], "mail"),
    (
        &["v=DKIM1; s=tlsrpt; p={p}"],
        false,
        true,
        &["is not for mail (s=tlsrpt)"],
        &[],
        "RFC 8460's service only",
    ),
    (
        &["v=DKIM1; p={bare}"],
        false,
        true,
        &["holds our key as PKCS#1, which some receivers cannot read (they want SubjectPublicKeyInfo)"],
        &[],
        "the same key as RFC 6376 words it: dkimpy verifies by it, OpenDKIM says permerror",
    ),
    (
        &["v=DKIM1; k=rsa; p={other}"],
        false,
        false,
        &["holds another key than the one we sign with"],
        &[],
        "somebody else's",
    ),
    (&["v=DKIM1; k=rsa; p="], false, false, &["is revoked (p= is empty)"], &[], "revoked"),
    (&[], false, false, &["is not published"], &[], "nothing"),
    (
        &["v=DKIM1; k=ed25519; p={p}"],
        false,
        true,
        &["says k=ed25519, which is not our key's type"],
        &[],
        "k= of the other kind",
    ),
    (
        &["v=DKIM1; p={ed}"],
        true,
        true,
        &["says k=rsa, which is not our key's type"],
        &[],
        "Ed25519 without k=: taken for RSA",
    ),
    (
        &["k=rsa; v=DKIM1; p={p}"],
        false,
        true,
        &["is no key record that receivers can read: v=DKIM1 is not at the beginning"],
        &[],
        "v= is not first",
    ),
    (
        &["v=DKIM2; p={p}"],
        false,
        true,
        &["is no key record that receivers can read: v=DKIM2 is not v=DKIM1"],
        &[],
        "another version",
    ),
    (
        &["v=DKIM1\\; k=rsa\\; p={p}"],
        false,
        true,
        &[
            "is no key record that receivers can read: v=DKIM1\\ is not v=DKIM1",
            "says k=rsa\\, which is not our key's type",
        ],
        &[],
        "semicolons escaped by a web form",
    ),
    (
        &["v=DKIM1; k=rsa; p=A!"],
        false,
        false,
        &["is no key record that receivers can read: p= is not base64"],
        &[],
        "broken base64",
    ),
    (
        &["v=DKIM1; k=rsa; p={p}; p={p}"],
        false,
        false,
        &["is no key record that receivers can read: the tag p= stands there twice"],
        &[],
        "pasted twice",
    ),
    (
        &["v=spf1 -all"],
        false,
        false,
        &[
            "is no key record that receivers can read: v=spf1 -all is not v=DKIM1",
            "is no key record that receivers can read: it has no p=",
        ],
        &[],
        "a wildcard's SPF",
    ),
    (
        &["v=DKIM1; k=rsa; p={other}", "v=DKIM1; k=rsa; p={p}"],
        false,
        true,
        &["holds 2 TXT records, where receivers want exactly one"],
        &[],
        "an old record left beside the new one",
    ),
];

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_receivers_read() {
    let (rsa, other, ed) = (key(Kind::Rsa2048), key(Kind::Rsa2048), key(Kind::Ed25519));
    let encoded = STANDARD.encode(&rsa.octets);
    let (head, tail) = encoded.split_at(100);
    let filled = |text: &str| {
        text.replace("{p}", &encoded)
            .replace("{head}", head)
            .replace("{tail}", tail)
            .replace("{bare}", &STANDARD.encode(rsa_within(&rsa.octets).unwrap()))
            .replace("{ed}", &STANDARD.encode(&ed.octets))
            .replace("{other}", &STANDARD.encode(&other.octets))
    };
    for (records, for_ed, ours, faults, notes, why) in ROWS {
        let records: Vec<_> = records.iter().map(|text| filled(text)).collect();
        let seen = read(&at(&records), if *for_ed { &ed } else { &rsa });
        let told: Vec<_> = seen.faults.iter().map(Fault::to_string).collect();
        assert_eq!((seen.ours, told, seen.notes.as_slice()), (*ours, owned(faults), *notes), "{why}");
        assert_eq!(seen.verifies(), faults.is_empty(), "{why}");
    }
}

#[test]
fn small_keys_are_named_by_their_size() {
    let mut small = key(Kind::Rsa2048);
    for (bits, faults, notes) in [
        (768, vec![Fault::TooSmall(768)], vec![]),
        (1024, vec![], vec![Note::Small(1024)]),
        (2048, vec![], vec![]),
    ] {
        small.algorithm = Algorithm::Rsa(bits);
        let seen = read(&at(&[small.record()]), &small);
        assert_eq!((seen.faults, seen.notes), (faults, notes), "{bits}");
    }
}

proptest! {
    #[test]
    fn any_text_is_survived_and_is_not_our_key(text in "\\PC{0,120}", octets: Vec<u8>) {
        let ours = Public { algorithm: Algorithm::Rsa(2048), octets: vec![0x30; 40] };
        prop_assert!(!read(&at(&[text]), &ours).verifies());
        prop_assert!(rsa_within(&octets).is_none_or(|inner| inner.len() < octets.len()));
    }
}
