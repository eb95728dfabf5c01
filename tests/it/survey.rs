//! The survey, through a real name server that also misbehaves: what is known of a name afterwards, how long that holds, and
//! what was silent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use waxseal::dns::Family;
use waxseal::mail::time::Time;
use waxseal::seal::facts::{Picture, SpfAnswer, SpfResult, Walk};
use waxseal::seal::survey::{SURVEY_MAX, Wanted, survey};

use crate::oracle::{Entry, Oracle, address, mx, ptr, txt};

/// Longer than a busy machine takes for an answer.
const PATIENT: Duration = Duration::from_secs(20);
/// For what never gets one.
const HASTY: Duration = Duration::from_millis(300);
const NOW: Time = Time(1_700_000_000_000);

fn wanted(domain: &str) -> Wanted {
    Wanted {
        domain: domain.parse().unwrap(),
        selectors: vec!["wx1".into()],
        egress: vec!["192.0.2.1".parse().unwrap()],
        hostname: "relay.example".parse().unwrap(),
    }
}

async fn look(oracle: &Oracle, before: Option<&Picture>) -> Picture {
    survey(&oracle.resolver(PATIENT), &wanted("acme.example"), before, NOW).await
}

#[path = "tables/survey_zones.rs"]
mod zones;

fn holds(known: &Option<waxseal::seal::facts::Known<impl Clone>>) -> u64 {
    known.as_ref().unwrap().until.since(NOW).as_secs()
}

fn key(picture: &Picture) -> (Option<&str>, Vec<&str>) {
    let answer = &picture.keys["wx1"].as_ref().unwrap().value;
    (answer.alias.as_deref(), answer.records.iter().map(String::as_str).collect())
}

fn spf(picture: &Picture) -> &SpfAnswer {
    &picture.spf.as_ref().unwrap().value
}

fn walk(picture: &Picture) -> &Walk {
    &picture.dmarc.as_ref().unwrap().value
}

fn result(picture: &Picture) -> SpfResult {
    spf(picture).results[0].1
}

fn says(picture: &Picture, name: &str, what: &str) -> bool {
    spf(picture).faults.iter().any(|fault| fault.name == name && fault.what.contains(what))
}

const KEY: &str = "wx1._domainkey.acme.example";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_zone_says_is_what_is_known() {
    for (why, zone, is_so) in zones::ROWS {
        let oracle = Oracle::start().await;
        zone(&oracle);
        let seen = look(&oracle, None).await;
        assert!(is_so(&seen), "{why}: {seen:#?}");
        let text = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Picture>(&text).unwrap(), seen, "{why}: survives a restart");
    }
}

fn published(oracle: &Oracle) {
    oracle.world.lock().unwrap().zones.push("acme.example".into());
    oracle
        .set(
            "acme.example",
            [Entry::Is(60, txt("v=spf1 ip4:192.0.2.1 -all")), Entry::Is(60, mx(1, "mx.acme.example"))],
        )
        .set(KEY, [Entry::Is(60, txt("p=A"))])
        .set("_dmarc.acme.example", [Entry::Is(60, txt("v=DMARC1; rua=mailto:a@yes.example"))])
        .set("acme.example._report._dmarc.yes.example", [Entry::Is(60, txt("v=DMARC1"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn servfail_leaves_what_was_known_and_says_so() {
    let oracle = Oracle::start().await;
    published(&oracle);
    let before = look(&oracle, None).await;
    for at in ["acme.example", KEY, "_dmarc.acme.example"] {
        oracle.set(at, [Entry::Fails(None)]);
    }
    let later = NOW.after(Duration::from_secs(90));
    let after = survey(&oracle.resolver(PATIENT), &wanted("acme.example"), Some(&before), later).await;
    assert!(after.says_what(&before), "what was known stays");
    assert_eq!(after.looked, later);
    let (known, was) = (after.keys["wx1"].as_ref().unwrap(), before.keys["wx1"].as_ref().unwrap());
    assert_eq!(known.seen, was.seen, "and when it was seen");
    assert_eq!(known.until, later.after(Duration::from_secs(30)), "it is asked again, but not at once");
    let asked: Vec<_> = after.silence.iter().map(|silent| silent.question.as_str()).collect();
    for question in [
        "acme.example SOA",
        "acme.example MX",
        "acme.example TXT",
        "wx1._domainkey.acme.example TXT",
        "_dmarc.acme.example TXT",
    ] {
        assert!(asked.contains(&question), "{question} is among {asked:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_silent_answer_touches_no_other() {
    let oracle = Oracle::start().await;
    published(&oracle);
    let before = look(&oracle, None).await;
    oracle
        .set(KEY, [Entry::Silent(None)])
        .set("acme.example._report._dmarc.yes.example", [Entry::Silent(None)]);
    let later = NOW.after(Duration::from_secs(90));
    // Time for those that are answered, within what a survey may take.
    let resolver = oracle.resolver(Duration::from_secs(4));
    let after = survey(&resolver, &wanted("acme.example"), Some(&before), later).await;
    assert_eq!(key(&after), key(&before), "the key as it was last seen");
    assert_eq!(after.keys["wx1"].as_ref().unwrap().seen, NOW);
    assert_eq!(
        after.dmarc.as_ref().unwrap().value,
        before.dmarc.as_ref().unwrap().value,
        "the agreement too"
    );
    assert_eq!(after.dmarc.unwrap().seen, later, "but the walk itself was answered");
    assert_eq!(after.spf.unwrap().seen, later);
    assert_eq!(after.silence.len(), 2, "{:?}", after.silence);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_in_another_order_are_no_news() {
    let oracle = Oracle::start().await;
    published(&oracle);
    let set = |first: &str, second: &str| {
        let records =
            [Entry::Is(60, txt("v=spf1 mx -all")), Entry::Is(60, mx(1, first)), Entry::Is(60, mx(1, second))];
        oracle.set("acme.example", records);
    };
    for (host, last) in [("a.acme.example", 1), ("b.acme.example", 2)] {
        oracle.set(host, [Entry::Is(60, address(&format!("192.0.2.{last}")))]);
    }
    set("a.acme.example", "b.acme.example");
    let before = look(&oracle, None).await;
    assert_eq!(result(&before), SpfResult::Pass, "{:?}", spf(&before));
    set("b.acme.example", "a.acme.example");
    let after = look(&oracle, Some(&before)).await;
    assert!(after.says_what(&before), "{before:#?}\n{after:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_goes_away_replaces_what_was_known() {
    let oracle = Oracle::start().await;
    published(&oracle);
    let before = look(&oracle, None).await;
    oracle.forget(KEY);
    let after = look(&oracle, Some(&before)).await;
    assert_eq!(key(&after), (None, vec![]), "NXDOMAIN is an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_costs_a_bounded_time_and_everything_is_silence() {
    let oracle = Oracle::start().await;
    oracle
        .set("acme.example", [Entry::Silent(None)])
        .set(KEY, [Entry::Silent(None)])
        .set("_dmarc.acme.example", [Entry::Silent(None)]);
    let began = Instant::now();
    let seen = survey(&oracle.resolver(HASTY), &wanted("acme.example"), None, NOW).await;
    assert!(began.elapsed() < SURVEY_MAX + Duration::from_secs(60), "{:?}", began.elapsed());
    let known = (&seen.presence, &seen.exchange, &seen.spf, &seen.dmarc, &seen.keys["wx1"]);
    assert!(matches!(known, (None, None, None, None, None)), "{seen:#?}");
    assert!(seen.silence.len() >= 5, "{:?}", seen.silence);
    assert_eq!(seen.until(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_longer_than_the_survey_does_not_lengthen_it() {
    let oracle = Oracle::start().await;
    published(&oracle);
    oracle.set(KEY, [Entry::Silent(None)]);
    let began = Instant::now();
    let seen = survey(&oracle.resolver(Duration::from_secs(300)), &wanted("acme.example"), None, NOW).await;
    assert!(began.elapsed() < SURVEY_MAX + Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(seen.keys["wx1"].is_none() && seen.spf.is_some());
    assert_eq!(seen.silence[0].why, "no answer within 10 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_survey_asks_dns_whatever_the_shared_cache_holds() {
    let oracle = Oracle::start().await;
    published(&oracle);
    let resolver = oracle.resolver(PATIENT);
    for _ in 0..2 {
        resolver.mx(&"acme.example".parse().unwrap()).await.unwrap();
    }
    assert_eq!(oracle.asked("acme.example MX"), 1, "mail that is delivered asks once");
    let wanted = wanted("acme.example");
    let before = survey(&resolver, &wanted, None, NOW).await;
    oracle.set(KEY, [Entry::Is(60, txt("p=B"))]);
    let after = survey(&resolver, &wanted, Some(&before), NOW).await;
    assert_eq!((key(&before).1, key(&after).1), (vec!["p=A"], vec!["p=B"]));
    assert_eq!(oracle.asked("acme.example MX"), 3, "a survey asks each time");
    // SPF is read by the lint and evaluated by mail-auth, which share what was answered.
    assert_eq!(oracle.asked("acme.example TXT"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_of_a_long_name_takes_eight_questions() {
    let oracle = Oracle::start().await;
    let wanted = wanted("z.y.x.a.b.c.d.e.f.acme.example");
    let seen = survey(&oracle.resolver(PATIENT), &wanted, None, NOW).await;
    let names: Vec<_> = walk(&seen).steps.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "z.y.x.a.b.c.d.e.f.acme.example",
        "c.d.e.f.acme.example",
        "d.e.f.acme.example",
        "e.f.acme.example",
        "f.acme.example",
        "acme.example",
        "example",
    ];
    assert_eq!(names[0], expected[0]);
    assert_eq!(names[2..], expected[1..], "one label less each time");
    let asked =
        oracle.world.lock().unwrap().asked.iter().filter(|asked| asked.starts_with("_dmarc.")).count();
    assert_eq!((names.len(), asked), (8, 8), "RFC 9989 section 4.10 allows eight");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_egress_address_is_evaluated_and_the_dearer_family_counts() {
    let oracle = Oracle::start().await;
    oracle
        .add("acme.example", txt("v=spf1 a:one.example a:two.example a:three.example ip6:2001:db8::1 -all"));
    for host in ["one.example", "two.example", "three.example"] {
        oracle.add(host, address("192.0.2.7"));
    }
    let egress: Vec<IpAddr> =
        ["192.0.2.7", "192.0.2.8", "2001:db8::1"].map(|text| text.parse().unwrap()).to_vec();
    let wanted = Wanted { egress, ..wanted("acme.example") };
    let seen = survey(&oracle.resolver(PATIENT), &wanted, None, NOW).await;
    let results: Vec<_> = spf(&seen).results.iter().map(|(_, result)| *result).collect();
    assert_eq!(results, [SpfResult::Pass, SpfResult::Fail, SpfResult::Pass]);
    assert_eq!((spf(&seen).lookups, spf(&seen).voids), (3, 3), "for an IPv6 sender each host is void");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_egress_addresses_the_records_are_read_and_not_evaluated() {
    let oracle = Oracle::start().await;
    oracle.add("acme.example", txt("v=spf1 include:%{i}.example a:gone.example -all"));
    let wanted = Wanted { egress: vec![], ..wanted("acme.example") };
    let seen = survey(&oracle.resolver(PATIENT), &wanted, None, NOW).await;
    assert!(spf(&seen).results.is_empty() && spf(&seen).faults.is_empty());
    assert_eq!((spf(&seen).lookups, spf(&seen).voids), (2, 1));
    assert!(spf(&seen).tree[1].ends_with("depends on the address"), "{:?}", spf(&seen).tree);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_include_tree_without_end_is_given_up() {
    let oracle = Oracle::start().await;
    oracle.add("acme.example", txt("v=spf1 include:n0.example include:n0.example include:n0.example -all"));
    for at in 0..60 {
        let next = format!("include:n{}.example", at + 1);
        oracle.add(&format!("n{at}.example"), txt(&format!("v=spf1 {next} {next} {next} -all")));
    }
    let seen = look(&oracle, None).await;
    assert_eq!(spf(&seen).lookups, 30, "three times the limit says enough");
    assert_eq!(result(&seen), SpfResult::PermError);
}

/// mail-auth says pass here, and receivers neutral: the outer include's qualifier decides (RFC 7208 section 5.2).
#[tokio::test(flavor = "multi_thread")]
async fn an_include_that_does_not_let_send_and_leads_to_others_is_no_pass() {
    let oracle = Oracle::start().await;
    oracle.add("acme.example", txt("v=spf1 ?include:a.example ~all"));
    oracle.add("a.example", txt("v=spf1 include:b.example -all"));
    oracle.add("b.example", txt("v=spf1 ip4:192.0.2.1 -all"));
    let seen = look(&oracle, None).await;
    let faults = &spf(&seen).faults;
    assert_eq!((faults.len(), faults[0].name.as_str()), (1, "acme.example"), "{faults:?}");
    assert!(faults[0].what.starts_with("`?include:a.example` leads to further includes"), "{faults:?}");
    oracle.add("c.example", txt("v=spf1 include:a.example ~all"));
    let plain = survey(&oracle.resolver(PATIENT), &wanted("c.example"), None, NOW).await;
    assert!(spf(&plain).faults.is_empty(), "an include that lets send may lead on: {plain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_record_of_nothing_but_faults_costs_little() {
    let oracle = Oracle::start().await;
    let junk: String = (0..9_000).map(|n| format!(" j{n}")).collect();
    oracle.add("acme.example", txt("v=spf1 include:big.example -all"));
    oracle.add("big.example", txt(&format!("v=spf1{junk}")));
    let seen = look(&oracle, None).await;
    assert_eq!(spf(&seen).faults.len(), 32, "no more than helps");
    assert!(spf(&seen).tree.iter().all(|line| line.len() <= 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_leads_back_to_its_names() {
    let oracle = Oracle::start().await;
    oracle.add("1.2.0.192.in-addr.arpa", ptr("Mail.Acme.example"));
    oracle.entry("2.2.0.192.in-addr.arpa", Entry::Fails(None));
    let resolver = oracle.resolver(PATIENT).afresh().unwrap();
    let names = resolver.pointers("192.0.2.1".parse().unwrap()).await.unwrap();
    assert_eq!((names.value, names.ttl), (vec!["mail.acme.example".to_owned()], Duration::from_secs(3600)));
    assert!(resolver.pointers("192.0.2.2".parse().unwrap()).await.is_err(), "SERVFAIL is silence");
    assert_eq!(resolver.pointers("2001:db8::1".parse().unwrap()).await.unwrap().value, Vec::<String>::new());
    assert_eq!(resolver.hosts("none.example", Family::V6).await.unwrap().value, Vec::<IpAddr>::new());
    let endless = format!("{}.example", "a".repeat(64));
    assert_eq!(
        resolver.text(&endless).await.unwrap().value.records,
        Vec::<String>::new(),
        "no such name can be"
    );
}
