//! The test suite of RFC 7208 (pyspf's rfc7208-tests.yml), its zones served by a real name server, evaluated as the survey
//! does. Where mail-auth differs from it, the table of exceptions says why, and whether the lint tells the sender.

use std::time::Duration;

use hickory_resolver::proto::rr::RecordType;
use mail_auth::MessageAuthenticator;
use mail_auth::spf::verify::SpfParameters;
use saphyr::{LoadableYamlNode, Yaml};
use waxseal::mail::time::Time;
use waxseal::seal::survey::{Wanted, survey};

use crate::oracle::{self, Entry, Oracle};
use crate::strangers;

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// mail-auth lets through what a strict receiver calls permerror; the lint says so.
    ByTheLint,
    /// mail-auth is the stricter one, or what it computes differs in nothing that a sender could mend.
    Nobody,
}
use Told::{ByTheLint, Nobody};

/// A case that mail-auth 0.13.3 answers otherwise, what it answers, who tells the sender, why.
type Exception = (&'static str, &'static str, Told, &'static str);

const EXCEPTIONS: &[Exception] = &[
    ("emptylabel", "permerror", Nobody, NO_NAME),
    ("helo-domain-literal", "permerror", Nobody, NO_NAME),
    ("domain-literal", "permerror", Nobody, NO_NAME),
    ("non-ascii-policy", "fail", ByTheLint, "octets outside ASCII are read as a name"),
    ("non-ascii-mech", "fail", ByTheLint, "octets outside ASCII make an unknown mechanism, which is skipped"),
    ("control-char-policy", "pass", ByTheLint, "a carriage return parts terms"),
    ("badip4", "pass", ByTheLint, "a line feed parts terms"),
    ("multitxt1", "fail", ByTheLint, FIRST),
    ("multitxt2", "fail", ByTheLint, FIRST),
    ("modifier-charset-good", "permerror", Nobody, SLASH),
    ("redirect-after-mechanisms2", "permerror", Nobody, SLASH),
    ("invalid-domain", "fail", ByTheLint, TOP),
    ("invalid-domain-empty-label", "temperror", ByTheLint, UNASKABLE),
    ("invalid-domain-long", "temperror", ByTheLint, UNASKABLE),
    ("invalid-domain-long-via-macro", "temperror", Nobody, HELLO),
    ("ptr-match-implicit", "fail", Nobody, POINTER),
    ("ptr-match-ip6", "fail", Nobody, POINTER),
    ("a-bad-cidr4", "fail", ByTheLint, LENGTH),
    ("a-bad-cidr6", "fail", ByTheLint, LENGTH),
    ("a-dual-cidr-ip4-err", "pass", ByTheLint, LENGTH),
    ("a-bad-domain", "temperror", ByTheLint, TOP),
    ("a-null", "temperror", ByTheLint, "a NUL is read as part of a name"),
    ("a-numeric", "neutral", ByTheLint, TOP),
    ("a-numeric-toplabel", "neutral", ByTheLint, TOP),
    ("a-bad-toplabel", "temperror", ByTheLint, TOP),
    ("a-only-toplabel", "neutral", ByTheLint, TOP),
    ("a-only-toplabel-trailing-dot", "neutral", ByTheLint, TOP),
    ("a-colon-domain", "permerror", Nobody, SLASH),
    ("a-colon-domain-ip4mapped", "permerror", Nobody, SLASH),
    ("mx-bad-cidr4", "fail", ByTheLint, LENGTH),
    ("mx-bad-cidr6", "fail", ByTheLint, LENGTH),
    ("mx-bad-domain", "temperror", ByTheLint, TOP),
    ("mx-null", "temperror", ByTheLint, "a NUL is read as part of a name"),
    ("mx-numeric-top-label", "neutral", ByTheLint, TOP),
    ("mx-colon-domain", "permerror", Nobody, SLASH),
    ("mx-colon-domain-ip4mapped", "permerror", Nobody, SLASH),
    ("mx-bad-toplab", "temperror", ByTheLint, TOP),
    ("exists-ip6only", "pass", ByTheLint, "content with an AAAA record where only A counts"),
    ("cidr4-33", "pass", ByTheLint, LENGTH),
    ("cidr4-032", "pass", ByTheLint, LENGTH),
    ("cidr6-0-ip4", "pass", ByTheLint, MAPPED),
    ("cidr6-ip4", "pass", ByTheLint, MAPPED),
    ("cidr6-129", "neutral", ByTheLint, LENGTH),
    ("redirect-syntax-error", "neutral", ByTheLint, TOP),
    ("invalid-modifier", "neutral", ByTheLint, "the name of a modifier is not looked at"),
    ("empty-modifier-name", "neutral", ByTheLint, "the name of a modifier is not looked at"),
    ("exp-syntax-error", "neutral", ByTheLint, TOP),
    (
        "macro-mania-in-domain",
        "temperror",
        Nobody,
        "a name with spaces in it is not asked for; SPF counts as unknown",
    ),
    (
        "p-macro-multiple",
        "temperror",
        Nobody,
        "%{p} ends in a dot; SPF counts as unknown, and the lint warns of %{p}",
    ),
    ("invalid-hello-macro", "temperror", Nobody, HELLO),
    ("hello-domain-literal", "temperror", Nobody, HELLO),
    ("void-over-limit", "neutral", ByTheLint, "lookups of nothing are not counted"),
];

const NO_NAME: &str = "the sender's domain is no name: the survey is only asked for names";
const FIRST: &str = "of several records the first is taken";
const SLASH: &str = "a slash in a name or a modifier's value is refused: stricter than receivers, so no mail is believed in vain";
const TOP: &str = "the end of a name is not looked at";
const UNASKABLE: &str = "a label that is empty or too long counts as DNS failing";
const HELLO: &str = "the EHLO name is none: ours always is";
const POINTER: &str = "the PTR name must lie below the domain, and may not be it: stricter than receivers; the lint warns of ptr";
const LENGTH: &str = "a prefix length that is too long is cut, zeros before it are skipped";
const MAPPED: &str = "an IPv4 address is matched in its mapped form";

/// One case of the suite.
struct Case {
    id: String,
    host: String,
    hello: String,
    sender: String,
    results: Vec<String>,
}

fn text(node: &Yaml<'_>, field: &str) -> String {
    node.as_mapping_get(field).unwrap().as_str().unwrap_or_default().to_owned()
}

fn cases(scenario: &Yaml<'_>) -> Vec<Case> {
    let tests = scenario.as_mapping_get("tests").unwrap().as_mapping().unwrap();
    let cases = tests.iter().map(|(id, test)| {
        let result = test.as_mapping_get("result").unwrap();
        let results = match result.as_vec() {
            Some(several) => several.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
            None => vec![result.as_str().unwrap().to_owned()],
        };
        Case {
            id: id.as_str().unwrap().to_owned(),
            host: text(test, "host"),
            hello: text(test, "helo"),
            sender: text(test, "mailfrom"),
            results,
        }
    });
    cases.collect()
}

/// Strings of the suite hold octets as the characters of Latin-1.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn spoken(value: &Yaml<'_>) -> Entry {
    let parts: Vec<Vec<u8>> = match value.as_vec() {
        Some(several) => several.iter().map(|one| octets(one.as_str().unwrap())).collect(),
        None => octets(value.as_str().unwrap()).chunks(255).map(<[u8]>::to_vec).collect(),
    };
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    // A record without strings cannot be served (RFC 1035 section 3.3.14): it has an empty one.
    Entry::Is(3600, oracle::strings(if parts.is_empty() { &[b""] } else { &parts }))
}

/// As the suite's own driver reads a zone: SPF records (type 99, which is gone) stand for TXT, unless there is a TXT; a
/// timeout concerns the types that have no record. It is served as SERVFAIL, which evaluates alike and takes no time.
fn entries(records: &Yaml<'_>) -> Vec<Entry> {
    let records = records.as_vec().unwrap();
    let has_txt = records.iter().any(|record| record.as_mapping_get("TXT").is_some());
    let mut entries = Vec::new();
    for record in records {
        let Some(record) = record.as_mapping() else {
            let fails = [RecordType::A, RecordType::AAAA, RecordType::MX, RecordType::PTR, RecordType::TXT];
            let there = |kind: &RecordType| {
                entries.iter().any(|entry| matches!(entry, Entry::Is(_, data) if data.record_type() == *kind))
            };
            let fails: Vec<_> = fails.into_iter().filter(|kind| !there(kind)).collect();
            entries.extend(fails.into_iter().map(|kind| Entry::Fails(Some(kind))));
            continue;
        };
        for (kind, value) in record {
            let plain = || value.as_str().unwrap();
            entries.push(match kind.as_str().unwrap() {
                "TXT" if value.as_str() == Some("NONE") => continue,
                "SPF" if has_txt => continue,
                "TXT" | "SPF" => spoken(value),
                "A" | "AAAA" => Entry::Is(3600, oracle::address(plain())),
                "PTR" => Entry::Is(3600, oracle::ptr(plain())),
                "CNAME" => Entry::Is(3600, oracle::cname(plain())),
                "MX" => {
                    let pair = value.as_vec().unwrap();
                    let preference = pair[0].as_integer().unwrap().try_into().unwrap();
                    Entry::Is(3600, oracle::mx(preference, pair[1].as_str().unwrap()))
                }
                other => panic!("a record of type {other}"),
            });
        }
    }
    entries
}

async fn serve(scenario: &Yaml<'_>) -> Oracle {
    let oracle = Oracle::start().await;
    for (name, records) in scenario.as_mapping_get("zonedata").unwrap().as_mapping().unwrap() {
        oracle.set(name.as_str().unwrap(), entries(records));
    }
    oracle
}

/// What mail-auth computes, and whether the survey of the sender's domain has something to complain of.
async fn outcome(oracle: &Oracle, case: &Case) -> (String, bool) {
    let resolver = oracle.resolver(Duration::from_secs(20));
    let authenticator = MessageAuthenticator(resolver.afresh().unwrap().hickory().clone());
    let address = case.host.parse::<std::net::IpAddr>().unwrap().to_canonical();
    let parameters = SpfParameters::verify_mail_from(address, &case.hello, &case.hello, &case.sender);
    let result = authenticator.verify_spf(parameters).await.result().to_string().to_ascii_lowercase();
    let domain = case.sender.rsplit_once('@').map_or(case.hello.as_str(), |(_, domain)| domain);
    let (Ok(domain), Ok(hostname)) = (domain.parse(), case.hello.parse().or("relay.example".parse())) else {
        return (result, false);
    };
    let wanted = Wanted { domain, selectors: vec![], egress: vec![address], hostname };
    let picture = Box::pin(survey(&resolver, &wanted, None, Time(0))).await;
    (result, picture.spf.is_some_and(|known| !known.value.is_sound()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rfc_7208_suite_is_passed_but_for_the_exceptions_named() {
    if strangers::absent("rfc7208-tests") {
        return;
    }
    let path = strangers::root().join("rfc7208-tests.yml");
    let suite = std::fs::read_to_string(path).expect("run `make strangers` first");
    let (mut total, mut passed, mut caught) = (0, 0, 0);
    let mut wrong = Vec::new();
    for scenario in Yaml::load_from_str(&suite).unwrap() {
        let oracle = serve(&scenario).await;
        for case in cases(&scenario) {
            total += 1;
            let (result, complained) = Box::pin(outcome(&oracle, &case)).await;
            let right = case.results.contains(&result);
            passed += u32::from(right);
            let told = if complained { ByTheLint } else { Nobody };
            let said = EXCEPTIONS.iter().find(|(id, ..)| *id == case.id);
            caught += u32::from(!right && complained);
            match said {
                None if right => {}
                Some((_, expected, who, _)) if !right && *expected == result && *who == told => {}
                _ => wrong.push(format!(
                    "{}: {:?} wanted, {result} computed, told {told:?}; exception: {said:?}",
                    case.id, case.results
                )),
            }
        }
    }
    println!(
        "RFC 7208 suite: {passed} of {total} as the suite says; of {} others the lint tells of {caught}:",
        total - passed
    );
    for (id, result, told, why) in EXCEPTIONS {
        println!("  {id}: {result}, told {told:?}: {why}");
    }
    assert_eq!(total, 203, "the suite's size");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
