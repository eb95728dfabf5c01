//! DANE (faults.md OB5): a signed root, exchangers that show one certificate or another, and what becomes of mail.

use std::path::PathBuf;

use aws_lc_rs::digest;
use hickory_server::proto::rr::RecordType;
use waxseal::config::{Config, Dnssec};
use waxseal::mail::attempt::Fate::{Deferred, Delivered, Failed};
use waxseal::mail::message::TlsNeed::{self, RequireTls, Usual, Verified, Waived};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::deliver::{World, fates, words, world_at};
use crate::exchanger::{Script, script};
use crate::pki::{Authority, Served, alone};
use crate::signed::Signed;
use crate::vouching::{Finding, Finds, Vouching};

const TAKE: &str =
    "-> MAIL*\n<- 250 ok\n-> RCPT*\n<- 250 ok\n-> DATA\n<- 354 go\n-- body\n<- 250 ok\n-- silence";
const MX: &str = "b.test. 60 IN MX 10 mx2.test.\nmx2.test. 60 IN A 127.0.0.2\n";
const TLSA: &str = "_25._tcp.mx2.test.";

fn clear() -> Script {
    script(&format!("<- 220 mx\n-> EHLO relay.test\n<- 250 mx\n{TAKE}"))
}

/// No STARTTLS, and no MAIL may come.
fn bare() -> Script {
    script("<- 220 mx\n-> EHLO relay.test\n<- 250 mx\n-> QUIT\n<- 221 bye")
}

fn secure() -> Script {
    script(&format!(
        "<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n-> EHLO relay.test\n\
         <- 250 mx\n{TAKE}"
    ))
}

/// `3 1 1` of a certificate.
fn key_of(certificate: &[u8]) -> String {
    let spki = X509Certificate::from_der(certificate).unwrap().1.tbs_certificate.subject_pki.raw;
    hex(digest::digest(&digest::SHA256, spki).as_ref())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn sha(certificate: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

/// A relay that validates from the zone's own key.
async fn world(zone: &Signed, script: Script, served: Served) -> World {
    let served = std::sync::Mutex::new(Some(served));
    let address = zone.address;
    let world = world_at(
        address,
        vec![vec![script]],
        |_| served.lock().unwrap().take().unwrap(),
        |config| {
            let file: PathBuf = config.state.join("anchors");
            zone.write_anchors(&file);
            validate(config, file);
        },
    );
    world.await
}

fn validate(config: &mut Config, anchors: PathBuf) {
    config.dns.dnssec = Dnssec::Validate;
    config.dns.trust_anchors = Some(anchors);
}

/// What the TLSA records are for what the exchanger shows.
struct Row {
    why: &'static str,
    served: Served,
    tlsa: Vec<String>,
    good: bool,
}

fn row(why: &'static str, served: Served, tlsa: &[String], good: bool) -> Row {
    Row { why, served, tlsa: tlsa.to_vec(), good }
}

/// An authority's certificate that is not sent along (RFC 7671 section 5.2.2): it must then stand in the record, in full.
fn rows_of_an_authority_that_is_not_sent() -> Vec<Row> {
    let authority = Authority::new();
    let served = || {
        let mut served = authority.issue(&["mx2.test"]);
        let ca = served.chain.pop().unwrap().to_vec();
        (served, ca)
    };
    let ((full, full_ca), (digest, digest_ca), (key, key_ca)) = (served(), served(), served());
    let spki = X509Certificate::from_der(&key_ca).unwrap().1.tbs_certificate.subject_pki.raw.to_vec();
    let other = Authority::new().issue(&["mx2.test"]).chain.pop().unwrap();
    vec![
        row("DANE-TA in full, not sent", full, &[format!("2 0 0 {}", hex(&full_ca))], true),
        row("a digest, of which nobody can make it", digest, &[format!("2 0 1 {}", sha(&digest_ca))], false),
        row("a bare key (section 5.2.3)", key, &[format!("2 1 0 {}", hex(&spki))], false),
        row("another authority, in full", served().0, &[format!("2 0 0 {}", hex(&other))], false),
    ]
}

fn rows() -> Vec<Row> {
    let authority = Authority::new();
    let own = || alone(&["another-name.test"]);
    let leaf = |served: &Served| served.chain[0].to_vec();
    let (plain, second, old) = (own(), own(), authority.expired(&["mx9.test"]));
    let (of_authority, misnamed, stale) =
        (authority.issue(&["mx2.test"]), authority.issue(&["mx9.test"]), authority.expired(&["mx2.test"]));
    let ca = |served: &Served| served.chain[1].to_vec();
    let ee = |served: &Served| format!("3 1 1 {}", key_of(&leaf(served)));
    let ta = |served: &Served| format!("2 0 1 {}", sha(&ca(served)));
    let wrong = format!("3 1 1 {}", "ab".repeat(32));
    let pkix = format!("1 1 1 {}", "ab".repeat(32));
    let (plain_ee, second_ee, old_ee) = (ee(&plain), ee(&second), ee(&old));
    let (ta_good, ta_misnamed, ta_stale) = (ta(&of_authority), ta(&misnamed), ta(&stale));
    vec![
        row("DANE-EE: name and authority do not matter", plain, &[plain_ee], true),
        row("OB5: an expired certificate with DANE-EE", old, &[old_ee], true),
        row("OB5: a usable one beside one that is not", second, &[pkix.clone(), second_ee], true),
        row("OB5: mismatch", own(), std::slice::from_ref(&wrong), false),
        row("OB5: mismatch, beside one that is not usable", own(), &[wrong, pkix.clone()], false),
        row("OB5: none is usable: any TLS", own(), &[pkix], true),
        row("DANE-TA", of_authority, &[ta_good], true),
        row("DANE-TA: the name counts", misnamed, &[ta_misnamed], false),
        row("DANE-TA: the dates count", stale, &[ta_stale], false),
    ]
}

#[tokio::test]
async fn a_certificate_is_what_the_zone_says() {
    for Row { why, served, tlsa, good } in rows().into_iter().chain(rows_of_an_authority_that_is_not_sent()) {
        let records: String = tlsa.iter().map(|tlsa| format!("{TLSA} 60 IN TLSA {tlsa}\n")).collect();
        let zone = Signed::start(&format!("{MX}{records}"), "", &[]).await;
        let world = world(&zone, secure(), served).await;
        let decided = world.needing(Usual).await;
        if good {
            assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
            assert_eq!(decided[0].hop.tls.as_ref().unwrap().by.as_deref(), Some("dane"), "{why}");
        } else {
            assert_eq!(decided[0].fate, Deferred, "{why}");
            assert!(words(&decided).starts_with("4.7.5 mx2.test: "), "{why}: {}", words(&decided));
            assert_eq!(world.exchangers[0].connections(), 1, "{why}: OB6, no second try in clear text");
        }
    }
}

const ALIAS: &str =
    "b.test. 60 IN MX 10 mx2.test.\nmx2.test. 60 IN CNAME host.test.\nhost.test. 60 IN A 127.0.0.2\n";

/// RFC 7672 section 2.2.2: the records of an exchanger whose name is an alias are at the name that it stands for.
#[tokio::test]
async fn an_alias_has_the_records_of_the_name_that_it_stands_for() {
    let rows = [
        (Some(true), None, true, "there they are"),
        (Some(false), None, false, "and count"),
        (Some(true), Some(false), true, "before those of the alias"),
        (None, Some(true), true, "which count where there are no others"),
        (None, Some(false), false, "the same"),
    ];
    for (at_host, at_alias, good, why) in rows {
        let served = alone(&["another-name.test"]);
        let tlsa = |name: &str, fits: Option<bool>| {
            let of = fits.map(|fits| if fits { key_of(&served.chain[0]) } else { "ab".repeat(32) });
            of.map(|key| format!("_25._tcp.{name} 60 IN TLSA 3 1 1 {key}\n")).unwrap_or_default()
        };
        let records = [ALIAS, &tlsa("host.test.", at_host), &tlsa("mx2.test.", at_alias)].concat();
        let zone = Signed::start(&records, "", &[]).await;
        let decided = world(&zone, secure(), served).await.needing(Usual).await;
        assert_eq!(decided[0].fate == Delivered, good, "{why}: {}", words(&decided));
        let by = decided[0].hop.tls.as_ref().and_then(|tls| tls.by.as_deref());
        assert!(!good || by == Some("dane"), "{why}");
        assert!(good || words(&decided).starts_with("4.7.5 mx2.test: "), "{why}: {}", words(&decided));
    }
}

/// RFC 7672 section 3.2.2.
#[tokio::test]
async fn an_authoritys_certificate_may_be_for_any_name_on_the_way() {
    let rows = [
        ("host.test", true, "where the records are"),
        ("mx2.test", true, "the exchanger's"),
        ("b.test", true, "the recipient's domain"),
        ("c.test", false, "another domain of the same exchanger"),
    ];
    for (name, good, why) in rows {
        let served = Authority::new().issue(&[name]);
        let tlsa = format!("_25._tcp.host.test. 60 IN TLSA 2 0 1 {}\n", sha(&served.chain[1]));
        let zone = Signed::start(&format!("{ALIAS}{tlsa}"), "", &[]).await;
        let decided = world(&zone, secure(), served).await.needing(Usual).await;
        assert_eq!(decided[0].fate == Delivered, good, "{name}, {why}: {}", words(&decided));
        assert!(good || words(&decided).starts_with("4.7.5 mx2.test: "), "{why}: {}", words(&decided));
    }
}

#[tokio::test]
async fn there_is_no_clear_text_where_there_are_tlsa_records() {
    for usage in [3, 1] {
        let records = format!("{MX}{TLSA} 60 IN TLSA {usage} 1 1 {}\n", "ab".repeat(32));
        let zone = Signed::start(&records, "", &[]).await;
        let decided = world(&zone, bare(), alone(&["mx2.test"])).await.needing(Usual).await;
        assert_eq!(decided[0].fate, Deferred, "usage {usage}");
        assert!(words(&decided).starts_with("4.7.10"), "{}", words(&decided));
    }
}

#[tokio::test]
async fn what_is_forged_is_no_answer() {
    let records = format!("{MX}{TLSA} 60 IN TLSA 3 1 1 {}\n", "ab".repeat(32));
    for (forge, why) in
        [((TLSA, RecordType::TLSA), "OB5: bogus TLSA"), (("b.test.", RecordType::MX), "OB5: bogus MX")]
    {
        let zone = Signed::start(&records, "", &[forge]).await;
        let world = world(&zone, bare(), alone(&["mx2.test"])).await;
        let decided = world.needing(Usual).await;
        assert_eq!(decided[0].fate, Deferred, "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "{why}: nobody is asked");
    }
}

#[tokio::test]
async fn a_zone_that_is_not_signed_gets_its_mail_as_ever() {
    let plain = "plain.test. 60 IN MX 10 mx.plain.test.\nmx.plain.test. 60 IN A 127.0.0.2\n\
                 _25._tcp.mx.plain.test. 60 IN TLSA 3 1 1 abababababababababababababababababababababababababababababababab\n";
    let zone = Signed::start("", plain, &[]).await;
    let world = world(&zone, clear(), alone(&["mx2.test"])).await;
    let decided = world.mx(&["b@plain.test"]).await;
    assert_eq!(
        fates(&decided),
        [(Delivered, 250)],
        "records that nobody signed count for nothing: {}",
        words(&decided)
    );
}

/// A relay that takes a resolver's word; the exchanger's certificate, and whether its TLSA record fits.
async fn trusting(finding: Finds, script: Script, fits: bool) -> (World, Vouching, Signed) {
    let served = alone(&["another-name.test"]);
    let tlsa = if fits { key_of(&served.chain[0]) } else { "ab".repeat(32) };
    let zone = Signed::start(&format!("{MX}{TLSA} 60 IN TLSA 3 1 1 {tlsa}\n"), "", &[]).await;
    let vouching = Vouching::start(zone.address, finding).await;
    let served = std::sync::Mutex::new(Some(served));
    let world = world_at(
        vouching.address,
        vec![vec![script]],
        |_| served.lock().unwrap().take().unwrap(),
        |config| config.dns.dnssec = Dnssec::TrustAd,
    );
    (world.await, vouching, zone)
}

#[tokio::test]
async fn the_word_of_a_resolver_on_this_machine_is_taken() {
    let fitting: Finds = |_| Finding::Signed;
    let (world, _vouching, _zone) = trusting(fitting, secure(), true).await;
    let decided = world.needing(Usual).await;
    assert_eq!(fates(&decided), [(Delivered, 250)], "{}", words(&decided));
    assert_eq!(decided[0].hop.tls.as_ref().unwrap().by.as_deref(), Some("dane"));

    let (world, _vouching, _zone) = trusting(fitting, secure(), false).await;
    let decided = world.needing(Usual).await;
    assert_eq!(decided[0].fate, Deferred);
    assert!(words(&decided).starts_with("4.7.5 mx2.test: "), "{}", words(&decided));
}

/// Where the system's name servers are nobody knows: perhaps behind a network.
#[test]
fn whose_word_is_taken_must_be_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("waxseal.toml");
    let start = "hostname = \"relay.test\"\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\n[dns]\n";
    for (servers, taken) in [("", false), ("servers = [\"127.0.0.1:53\", \"[::1]:53\"]\n", true)] {
        std::fs::write(&path, format!("{start}{servers}dnssec = \"trust_ad\"\n")).unwrap();
        let loaded = Config::load_with(Some(&path), &|_| None);
        assert_eq!(
            loaded.map(|config| config.dns.dnssec).ok(),
            taken.then_some(Dnssec::TrustAd),
            "{servers}"
        );
    }
}

#[tokio::test]
async fn without_its_word_dns_proves_nothing() {
    let rows: [(Finds, &str); 4] = [
        (|_| Finding::Unsigned, "it does not validate, or nobody signs"),
        (|name| if name == "b.test." { Finding::Unsigned } else { Finding::Signed }, "the MX is anybody's"),
        (|name| if name == "mx2.test." { Finding::Unsigned } else { Finding::Signed }, "so is the address"),
        (|name| if name == TLSA { Finding::Unsigned } else { Finding::Signed }, "so are the records"),
    ];
    for (finding, why) in rows {
        let (world, _vouching, _zone) = trusting(finding, clear(), false).await;
        let decided = world.needing(Usual).await;
        assert_eq!(fates(&decided), [(Delivered, 250)], "{why}: {}", words(&decided));
    }
}

#[tokio::test]
async fn what_it_finds_forged_is_no_answer() {
    let rows: [(Finds, &str); 3] = [
        (|name| if name == "b.test." { Finding::Forged } else { Finding::Signed }, "the MX"),
        (|name| if name == "mx2.test." { Finding::Forged } else { Finding::Signed }, "the address"),
        (|name| if name == TLSA { Finding::Forged } else { Finding::Signed }, "the records"),
    ];
    for (finding, why) in rows {
        let (world, _vouching, _zone) = trusting(finding, bare(), true).await;
        let decided = world.needing(Usual).await;
        assert_eq!(decided[0].fate, Deferred, "{why}: {}", words(&decided));
        assert_eq!(world.exchangers[0].connections(), 0, "{why}: nobody is asked");
    }
}

#[tokio::test]
async fn what_the_message_needs_beside_dane() {
    let rows: [(&str, TlsNeed, bool, waxseal::mail::attempt::Fate); 3] = [
        ("a class that needs verified TLS is content with DANE", Verified, true, Delivered),
        ("TLS-Required: No", Waived, false, Delivered),
        ("REQUIRETLS: DNSSEC vouches for the exchanger, which does not offer it", RequireTls, true, Failed),
    ];
    for (why, need, fits, fate) in rows {
        let served = alone(&["another-name.test"]);
        let tlsa = if fits { key_of(&served.chain[0]) } else { "ab".repeat(32) };
        let zone = Signed::start(&format!("{MX}{TLSA} 60 IN TLSA 3 1 1 {tlsa}\n"), "", &[]).await;
        let decided = world(&zone, secure_or_quit(fate), served).await.needing(need).await;
        assert_eq!(decided[0].fate, fate, "{why}: {}", words(&decided));
        if fate == Failed {
            assert!(words(&decided).starts_with("5.7.30"), "{why}: {}", words(&decided));
        }
    }
}

fn secure_or_quit(fate: waxseal::mail::attempt::Fate) -> Script {
    if fate == Delivered {
        return secure();
    }
    script(
        "<- 220 mx\n-> EHLO relay.test\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS\n<- 220 go\n-- tls\n-> EHLO relay.test\n\
         <- 250 mx\n-> QUIT\n<- 221 bye",
    )
}
