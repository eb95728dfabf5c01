//! Keys from made to retired, and records beside what a zone has: the program's own verbs against a real name server.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hickory_resolver::proto::rr::RecordType;
use serde_json::Value;
use waxseal::sandbox::zone::Zone;

use crate::cli_files::{Place, json};

const KEY: &str = include_str!("data/rsa2048.pem");

/// A place with the tenant acme and its domain, whose name server is this zone.
fn place(zone: &Zone) -> Place {
    let place = Place::init();
    place.change("servers = [\"127.0.0.1:9\"]", &format!("servers = [\"{}\"]", zone.address()));
    place.text(&["tenant", "add", "acme"]);
    place.text(&["domain", "add", "acme.example", "--tenant", "acme"]);
    place
}

/// What a command that fails says.
fn refused(place: &Place, args: &[&str]) -> String {
    let output = place.run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// `wx1 active`, a key each.
fn stages(place: &Place) -> Vec<String> {
    let text = place.text(&["key", "list", "acme.example", "--json"]);
    let one = |line: &str| {
        let key = json(line);
        format!("{} {}", key["selector"].as_str().unwrap(), key["stage"].as_str().unwrap())
    };
    text.lines().map(one).collect()
}

/// The line of a zone file for the key at a selector.
fn record(place: &Place, selector: &str) -> String {
    let text = place.text(&["domain", "dns", "acme.example", "--offline"]);
    let name = format!("{selector}._domainkey.");
    format!(
        "$TTL 60\n{}\n",
        text.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{text}"))
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_signs_only_once_its_record_is_seen_and_the_last_one_stays() {
    let zone = Zone::start("").await.unwrap();
    let place = place(&zone);
    assert_eq!(stages(&place), ["wx1 pending"]);
    let said = refused(&place, &["key", "activate", "acme.example", "wx1"]);
    assert!(said.contains("not published") && said.contains("wx1._domainkey.acme.example. IN TXT"), "{said}");
    let said = refused(&place, &["key", "rotate", "acme.example"]);
    assert!(said.contains("no key of acme.example is active yet"), "{said}");

    zone.publish(&record(&place, "wx1")).await.unwrap();
    place.text(&["key", "activate", "acme.example", "wx1"]);
    assert_eq!(stages(&place), ["wx1 active"]);
    let said = refused(&place, &["key", "retire", "acme.example", "wx1"]);
    assert!(said.contains("the only key that signs"), "{said}");

    let printed = place.text(&["key", "rotate", "acme.example"]);
    assert!(printed.contains("wx2._domainkey.acme.example. IN TXT"), "{printed}");
    let again = place.text(&["key", "rotate", "acme.example"]);
    assert_eq!(
        (again, stages(&place)),
        (printed.clone(), vec!["wx1 active".to_owned(), "wx2 pending".to_owned()])
    );
    // Another key's bytes at the selector are not ours.
    zone.publish(&record(&place, "wx1").replace("wx1.", "wx2.")).await.unwrap();
    let said = refused(&place, &["key", "activate", "acme.example", "wx2"]);
    assert!(said.contains("not published with this key"), "{said}");
    zone.withdraw("wx2._domainkey.acme.example.", RecordType::TXT).await.unwrap();
    zone.publish(&format!("$TTL 60\n{printed}")).await.unwrap();
    place.text(&["key", "activate", "acme.example", "wx2"]);
    assert_eq!(stages(&place), ["wx1 retiring", "wx2 active"]);
    // Back again, while the old record still stands.
    place.text(&["key", "activate", "acme.example", "wx1"]);
    assert_eq!(stages(&place), ["wx1 active", "wx2 retiring"]);
    assert_eq!(place.run(&["key", "activate", "acme.example", "wx9"]).status.code(), Some(4), "no such key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_keys_record_is_said_to_be_free_to_go_as_long_as_it_is_there() {
    let zone = Zone::start("").await.unwrap();
    let place = place(&zone);
    place.text(&["key", "generate", "acme.example", "--selector", "s2025"]);
    zone.publish(&record(&place, "s2025")).await.unwrap();
    place.text(&["key", "retire", "acme.example", "s2025"]);
    let note = "; the key is retired, its record can go: s2025._domainkey.acme.example";
    let text = place.text(&["domain", "dns", "acme.example"]);
    assert!(text.ends_with(&format!("{note}\n")), "{text}");
    let told = json(&place.text(&["domain", "dns", "acme.example", "--json"]));
    assert_eq!(told["remove"], serde_json::json!(["s2025._domainkey.acme.example"]));
    zone.withdraw("s2025._domainkey.acme.example.", RecordType::TXT).await.unwrap();
    assert!(!place.text(&["domain", "dns", "acme.example"]).contains("can go"), "it is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_made_by_hand_is_renewed_with_and_the_only_rsa_key_stays() {
    let zone = Zone::start("").await.unwrap();
    let place = place(&zone);
    place.text(&["key", "generate", "acme.example", "--algorithm", "ed25519"]);
    let said = refused(&place, &["key", "retire", "acme.example", "wx1"]);
    assert!(said.contains("the only key that signs"), "Ed25519 alone is no replacement: {said}");
    zone.publish(&record(&place, "wx1")).await.unwrap();
    place.text(&["key", "activate", "acme.example", "wx1"]);

    place.text(&["key", "generate", "acme.example", "--selector", "s2026"]);
    place.text(&["key", "rotate", "acme.example"]);
    let listed = place.text(&["key", "list", "acme.example", "--json"]);
    let key = listed.lines().map(json).find(|key| key["selector"] == "s2026").unwrap();
    assert_eq!(key["replaces"], "wx1", "{listed}");

    // The right octets, for something else than mail.
    let unfit = record(&place, "s2026").replace("v=DKIM1; ", "v=DKIM1; s=tlsrpt; ");
    zone.publish(&unfit).await.unwrap();
    let said = refused(&place, &["key", "activate", "acme.example", "s2026"]);
    assert!(said.contains("nothing was changed"), "{said}");
}

#[test]
fn keys_are_made_beside_one_another_and_none_is_overwritten() {
    let place = Place::init();
    place.text(&["key", "generate", "acme.example"]);
    place.text(&["key", "generate", "acme.example"]);
    assert_eq!(stages(&place), ["wx1 pending"], "it is kept");
    place.text(&["key", "generate", "acme.example", "--algorithm", "ed25519"]);
    place.text(&["key", "generate", "acme.example", "--algorithm", "rsa3072", "--selector", "s2026"]);
    assert_eq!(stages(&place), ["s2026 pending", "wx1 pending", "wxe1 pending"]);
    let text = place.text(&["key", "list", "--json"]);
    let kinds: Vec<Value> = text.lines().map(json).collect();
    let kind = |selector: &str| kinds.iter().find(|key| key["selector"] == selector).unwrap();
    assert_eq!((&kind("s2026")["algorithm"], &kind("s2026")["bits"]), (&"rsa".into(), &3072.into()));
    assert_eq!(kind("wxe1")["algorithm"], "ed25519");
    assert!(kinds.iter().any(|key| key["domain"] == "relay.test"), "the relay's own, too: {kinds:?}");
    let file = Path::new(kind("wx1")["file"].as_str().unwrap()).to_owned();
    let before = std::fs::read(&file).unwrap();

    let said = refused(&place, &["key", "generate", "acme.example", "--selector", "wx1"]);
    assert!(said.contains("already; nothing was changed"), "{said}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    // A key that nobody ever saw is of no use to anybody.
    place.text(&["key", "retire", "acme.example", "s2026"]);
    assert!(stages(&place).contains(&"s2026 retired".to_owned()));
    assert_eq!(place.run(&["key", "list", "other.example"]).status.code(), Some(4));
}

#[test]
fn a_pem_is_taken_over_where_its_selector_is_free() {
    let place = Place::init();
    let pem = place.tenants().with_file_name("elsewhere.txt");
    std::fs::write(&pem, KEY).unwrap();
    let import = |selector| {
        let file = pem.to_str().unwrap();
        place.run(&["key", "import", "acme.example", "--selector", selector, "--file", file]).status.code()
    };
    assert_eq!(import("mail"), Some(0));
    assert_eq!(stages(&place), ["mail pending"]);
    assert_eq!(import("mail"), Some(1), "the selector is taken");
    let key = json(&place.text(&["key", "list", "acme.example", "--json"]));
    let mode = Path::new(key["file"].as_str().unwrap()).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "whatever mode it came with");
    std::fs::write(&pem, "no key").unwrap();
    assert_eq!(import("other"), Some(78), "no key");
    assert_eq!(import("a b"), Some(2), "no selector");
    assert_eq!(stages(&place), ["mail pending"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_merged_with_the_zone_and_once_published_are_said_to_be() {
    let zone = Zone::start(
        "$TTL 60\n\
         acme.example. IN TXT \"google-site-verification=x\"\n\
         acme.example. IN TXT \"v=spf1 mx include:_spf.acme.example -all\"\n\
         _dmarc.acme.example. IN TXT \"v=DMARC1; p=reject\"\n",
    )
    .await
    .unwrap();
    let place = place(&zone);
    let text = place.text(&["domain", "dns", "acme.example"]);
    let merged = "\"v=spf1 mx include:_spf.acme.example a:relay.test -all\"";
    assert!(text.contains(&format!("\nacme.example. IN TXT {merged}\n")), "{text}");
    assert!(text.contains("; in place of: v=spf1 mx include:_spf.acme.example -all\n"), "{text}");
    assert!(text.contains("_dmarc.acme.example. IN TXT \"v=DMARC1; p=reject\" ; published\n"), "{text}");
    assert!(!text.contains("p=none"), "a stricter one stays: {text}");

    zone.withdraw("acme.example.", RecordType::TXT).await.unwrap();
    zone.publish(&format!("$TTL 60\n{text}")).await.unwrap();
    let after = json(&place.text(&["domain", "dns", "acme.example", "--json"]));
    let records = after["records"].as_array().unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    assert!(records.iter().all(|record| record["published"] == true), "{records:?}");
    let plain = json(&place.text(&["domain", "dns", "acme.example", "--json", "--offline"]));
    assert!(
        plain["records"].as_array().unwrap().iter().all(|record| record["published"].is_null()),
        "{plain}"
    );
}

#[test]
fn without_a_name_server_the_records_are_printed_and_that_nobody_looked_is_said() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    let output = place.run(&["domain", "add", "acme.example", "--tenant", "acme"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(
        text.contains("acme.example. IN TXT \"v=spf1 a:relay.test ~all\"") && !text.contains("; published"),
        "{text}"
    );
    assert!(said.contains("DNS could not be asked") && !said.contains("_domainkey"), "{said}");
    let said = refused(&place, &["key", "activate", "acme.example", "wx1"]);
    assert!(said.contains("DNS did not answer"), "{said}");
    assert_eq!(stages(&place), ["wx1 pending"]);
}

#[test]
fn with_a_zone_of_the_relays_own_the_next_keys_name_is_printed_with_the_first() {
    let place = Place::init();
    place.change("# dkim_zone = \"dkim.relay.example.com\"", "dkim_zone = \"dkim.relay.test\"");
    place.change("# bounce_host = \"bounces.relay.example.com\"", "bounce_host = \"bounces.relay.test\"");
    place.text(&["tenant", "add", "acme"]);
    place.text(&["domain", "add", "acme.example", "--tenant", "acme", "--offline"]);
    let file = place.tenants().join("acme.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let named = "name = \"acme.example\"\n";
    std::fs::write(&file, text.replace(named, &format!("{named}return_path = \"b.acme.example\"\n")))
        .unwrap();
    let text = place.text(&["domain", "dns", "acme.example", "--offline"]);
    for line in [
        "wx1._domainkey.acme.example. IN CNAME wx1.acme-example.dkim.relay.test.",
        "wx2._domainkey.acme.example. IN CNAME wx2.acme-example.dkim.relay.test.",
        "b.acme.example. IN CNAME bounces.relay.test.",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let ours = place.text(&["domain", "dns", "--relay", "--offline"]);
    for line in [
        "bounces.relay.test. IN MX 10 relay.test.",
        "bounces.relay.test. IN TXT \"v=spf1 a:relay.test ~all\"",
        "wx1.acme-example.dkim.relay.test. IN TXT \"v=DKIM1; k=rsa; p=",
    ] {
        assert!(ours.contains(line), "{line}: {ours}");
    }
    assert!(!ours.contains("wx2."), "there is no such key yet: {ours}");
}

#[test]
fn where_the_upstream_signs_no_key_record_is_asked_for() {
    let place = Place::init();
    place.text(&["tenant", "add", "acme"]);
    place.text(&["domain", "add", "acme.example", "--tenant", "acme", "--offline"]);
    let file = place.tenants().join("acme.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let upstream =
        "via = \"upstream\"\nsignatures = \"none\"\n[route.upstream]\nhost = \"smtp.provider.example\"\n";
    std::fs::write(&file, text.replace("via = \"mx\"", upstream)).unwrap();
    let output = place.run(&["domain", "dns", "acme.example", "--offline"]);
    let (text, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("_dmarc.") && !text.contains("_domainkey") && !text.contains("v=spf1"), "{text}");
    assert!(said.contains("signed by its upstream"), "{said}");
}

#[test]
fn an_opendkims_keys_are_taken_over_as_planned_and_only_then() {
    let place = Place::init();
    let dir = place.tenants().with_file_name("opendkim");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("acme.private"), KEY).unwrap();
    std::fs::write(dir.join("broken.private"), "no key").unwrap();
    let (keys, signing) = (dir.join("KeyTable"), dir.join("SigningTable"));
    std::fs::write(&keys, "acme acme.example:mail:./acme.private\nbad bad.example:x:./broken.private\n")
        .unwrap();
    std::fs::write(&signing, "*@acme.example acme\n*@else.example acme\n").unwrap();
    let import = |more: &[&str]| {
        let tables = [
            "--opendkim-keytable",
            keys.to_str().unwrap(),
            "--opendkim-signingtable",
            signing.to_str().unwrap(),
        ];
        let output = place.run(&[&["key", "import"], &tables[..], more].concat());
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text, said) = import(&[]);
    assert_eq!(code, Some(0), "{text}{said}");
    assert!(text.contains("take   acme.example mail ") && text.contains("leave  SigningTable:2: "), "{text}");
    assert!(text.contains("leave  KeyTable:2: no line of the SigningTable uses bad"), "{text}");
    assert!(
        said.contains("nothing was changed") && said.contains("domain add acme.example --tenant"),
        "{said}"
    );
    assert_eq!(place.run(&["key", "list", "acme.example"]).status.code(), Some(4), "a plan changes nothing");

    let (code, text, said) = import(&["--apply"]);
    assert!(code == Some(0) && text.contains("taken  acme.example mail "), "{text}{said}");
    assert_eq!(stages(&place), ["mail pending"]);
    let (code, text, _) = import(&["--apply", "--json"]);
    let first = json(text.lines().next().unwrap());
    assert_eq!((code, &first["do"], &first["selector"]), (Some(0), &"here".into(), &"mail".into()));

    std::fs::write(&signing, "*@acme.example acme\n*@bad.example bad\n").unwrap();
    let (code, text, said) = import(&["--apply"]);
    assert!(
        code == Some(1) && text.contains("leave  bad.example x ") && said.contains("1 of 2"),
        "{text}{said}"
    );
}
