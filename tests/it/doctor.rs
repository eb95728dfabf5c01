//! The doctor against a real name server with reverse zones, scripted exchangers as the way out, certificates of an
//! authority of the test's own, and once as the real program.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use waxseal::config::Config;
use waxseal::dns::{Failure, Resolver};
use waxseal::doctor::{Scope, instance};
use waxseal::mail::address::Domain;
use waxseal::mail::time::Time;
use waxseal::sandbox::zone::Zone;
use waxseal::seal::doctor::{Home, homes};
use waxseal::seal::facts::{Exchange, Known, Picture};
use waxseal::seal::judge::{Finding, Level};

use crate::exchanger::{Act, Exchanger, Script, script, street};
use crate::relay::{Layout, Relay};

/// The relay's records as they should be, for the documentation address 192.0.2.17 and its IPv6 sister.
const SOUND: &str = "\
relay.acme.com. 60 IN A 192.0.2.17
relay.acme.com. 60 IN AAAA 2001:db8::17
17.2.0.192.in-addr.arpa. 60 IN PTR relay.acme.com.
7.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR relay.acme.com.
reference.net. 60 IN MX 10 mx2.reference.net.
mx2.reference.net. 60 IN A 127.0.0.2
17.2.0.192.list.example. 60 IN A 127.0.0.2
";

const ALL: &[&str] = &["192.0.2.17", "2001:db8::17"];

/// A zone, a reference exchanger, and what is looked at.
struct Ward {
    _zone: Zone,
    exchangers: Vec<Exchanger>,
    scope: Scope,
    _dir: tempfile::TempDir,
}

async fn ward(zone: &str, scripts: Vec<Script>, public: &[&str]) -> Ward {
    let (exchangers, port) = street(vec![scripts]).await;
    let zone = Zone::start(zone).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.acme.com".parse().unwrap(), dir.path());
    config.dns.servers = vec![zone.address()];
    config.delivery.port = port;
    config.delivery.allow_private_destinations = true;
    config.delivery.public_addresses = public.iter().map(|ip| ip.parse().unwrap()).collect();
    let scope = Scope {
        resolver: Resolver::new(&config.dns).unwrap(),
        config,
        reference: None,
        blocklists: Vec::new(),
        ca_file: None,
        direct: true,
        now: Time(1_780_272_000_000),
    };
    Ward { _zone: zone, exchangers, scope, _dir: dir }
}

fn of<'f>(findings: &'f [Finding], check: &str) -> Vec<&'f Finding> {
    findings.iter().filter(|finding| finding.check == check).collect()
}

fn levels(findings: &[Finding], check: &str) -> Vec<Level> {
    of(findings, check).iter().map(|finding| finding.level).collect()
}

#[tokio::test]
async fn addresses_are_looked_up_both_ways() {
    let ward = ward(SOUND, vec![], ALL).await;
    let findings = instance(&ward.scope).await;
    for check in ["ptr", "ehlo"] {
        assert_eq!(levels(&findings, check), [Level::Ok, Level::Ok], "{check}: {findings:#?}");
    }
    assert_eq!(levels(&findings, "resolver"), [Level::Ok]);
    assert_eq!(levels(&findings, "hostname"), [Level::Ok]);
}

#[tokio::test]
async fn an_ipv6_address_without_a_name_is_an_error_with_the_record_to_ask_for() {
    let zone: String = SOUND
        .lines()
        .filter(|line| !line.contains("ip6.arpa"))
        .fold(String::new(), |all, line| all + line + "\n");
    let ward = ward(&zone, vec![], ALL).await;
    let findings = instance(&ward.scope).await;
    let ptr = of(&findings, "ptr");
    assert_eq!([ptr[0].level, ptr[1].level], [Level::Ok, Level::Error], "{ptr:#?}");
    assert!(ptr[1].fix.contains(".ip6.arpa. IN PTR relay.acme.com."), "{}", ptr[1].fix);
}

#[tokio::test]
async fn without_stated_addresses_those_of_the_hostname_are_looked_at() {
    let ward = ward(SOUND, vec![], &[]).await;
    let findings = instance(&ward.scope).await;
    assert_eq!(levels(&findings, "ptr"), [Level::Ok, Level::Ok], "{findings:#?}");
    assert_eq!(of(&findings, "egress")[0].level, Level::Warning);
    assert!(of(&findings, "egress")[0].fix.contains("public_addresses"), "{findings:#?}");
}

#[tokio::test]
async fn a_silent_resolver_is_an_error_and_nothing_else_is_decided_by_it() {
    let mut ward = ward(SOUND, vec![], ALL).await;
    // Nobody answers there: the port belongs to a socket that never reads.
    let mute = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    ward.scope.config.dns.servers = vec![mute.local_addr().unwrap()];
    ward.scope.config.dns.timeout = std::time::Duration::from_millis(300);
    ward.scope.resolver = Resolver::new(&ward.scope.config.dns).unwrap();
    let findings = instance(&ward.scope).await;
    assert_eq!(levels(&findings, "resolver"), [Level::Error], "{findings:#?}");
    assert_eq!(levels(&findings, "ptr"), [Level::Warning, Level::Warning], "{findings:#?}");
}

/// Greets, and offers STARTTLS.
fn offering(hostname: &str) -> Script {
    script(&format!("<- 220 mx ESMTP\n-> EHLO {hostname}\n<- 250-mx\n<- 250 STARTTLS\n-> STARTTLS"))
}

fn secured(hostname: &str) -> Script {
    let rest = format!("<- 220 go\n-- tls\n-> EHLO {hostname}\n<- 250 mx\n-> QUIT\n<- 221 bye\n-- hangup");
    [offering(hostname), script(&rest)].concat()
}

#[tokio::test]
async fn the_way_out_is_tried_up_to_starttls_and_no_further() {
    let plain = "<- 220 mx ESMTP\n-> EHLO relay.acme.com\n<- 250-mx\n<- 250 PIPELINING\n-> QUIT\n<- 221 bye\n-- hangup";
    let rows: [(Vec<Script>, Level, &str, &str); 7] = [
        (vec![secured("relay.acme.com")], Level::Ok, "with STARTTLS (TLSv1.3)", "as it should be"),
        (vec![script(plain)], Level::Warning, "without STARTTLS", "a firewall that takes STARTTLS out"),
        (
            vec![script("<- 554 5.7.1 listed\n-> QUIT\n<- 221 bye\n-- hangup")],
            Level::Error,
            "554 5.7.1 listed",
            "a blocklist at the door",
        ),
        (
            vec![[offering("relay.acme.com"), script("<- 220 go"), vec![Act::Garble]].concat()],
            Level::Warning,
            "TLS fails",
            "somebody meddles with TLS",
        ),
        (
            vec![script("<- HTTP/1.1 400 Bad Request\n-- silence")],
            Level::Error,
            "not an SMTP reply",
            "a captive portal",
        ),
        (vec![script("-- silence")], Level::Error, "no answer within 5 s", "it accepts and never greets"),
        (vec![], Level::Error, "no connection to port 25", "nobody listens: refused"),
    ];
    for (scripts, level, says, why) in rows {
        let nobody = scripts.is_empty();
        let mut ward = ward(SOUND, scripts, ALL).await;
        ward.scope.config.delivery.sources = vec!["127.0.0.1".parse().unwrap()];
        ward.scope.reference = Some("reference.net".parse().unwrap());
        let findings = instance(&ward.scope).await;
        let found = of(&findings, "port25");
        assert_eq!(found.len(), 1, "{why}: one way, one finding: {found:#?}");
        assert_eq!(found[0].level, level, "{why}: {found:#?}");
        assert!(found[0].says.contains(says), "{why}: {}", found[0].says);
        assert!(found[0].says.contains("127.0.0.1"), "{why}: from where is said: {}", found[0].says);
        assert_eq!(ward.exchangers[0].connections(), usize::from(!nobody), "{why}");
    }
}

#[tokio::test]
async fn the_way_out_matters_less_where_everybody_has_an_upstream() {
    let mut ward = ward(SOUND, vec![], &["192.0.2.17"]).await;
    ward.scope.reference = Some("reference.net".parse().unwrap());
    ward.scope.direct = false;
    let findings = instance(&ward.scope).await;
    assert_eq!(levels(&findings, "port25"), [Level::Warning], "{findings:#?}");
}

#[tokio::test]
async fn inside_addresses_are_not_connected_to_for_a_look_either() {
    let mut ward = ward(SOUND, vec![script("-- hangup")], &["192.0.2.17"]).await;
    ward.scope.config.delivery.allow_private_destinations = false;
    ward.scope.reference = Some("reference.net".parse().unwrap());
    let findings = instance(&ward.scope).await;
    assert_eq!(levels(&findings, "port25"), [Level::Warning], "{findings:#?}");
    assert_eq!(ward.exchangers[0].connections(), 0);
}

#[tokio::test]
async fn blocklists_are_asked_only_when_named() {
    let mut ward = ward(SOUND, vec![], ALL).await;
    assert!(of(&instance(&ward.scope).await, "blocklist").is_empty());
    ward.scope.blocklists = vec!["list.example".parse().unwrap()];
    let findings = instance(&ward.scope).await;
    assert_eq!(
        levels(&findings, "blocklist"),
        [Level::Error, Level::Ok],
        "listed over IPv4 alone: {findings:#?}"
    );
}

#[tokio::test]
async fn exchangers_of_a_picture_are_looked_up() {
    let ward = ward(SOUND, vec![], ALL).await;
    let mut picture = Picture::blank("reference.net".parse().unwrap());
    let hosts = vec![(10, "mx2.reference.net".to_owned()), (20, "gone.reference.net".to_owned())];
    picture.exchange = Some(Known { value: Exchange::Hosts(hosts), seen: Time(0), until: Time(1) });
    let mut found = homes(&ward.scope.resolver, &[&picture, &picture]).await;
    found.sort_by(|one, other| one.host.cmp(&other.host));
    let home = |host: &str, addresses| Home { host: host.to_owned(), addresses };
    let expected = [
        home("gone.reference.net", Err(Failure::NoSuchName)),
        home("mx2.reference.net", Ok(vec!["127.0.0.2".parse().unwrap()])),
    ];
    assert_eq!(found, expected, "each host once");
}

/// Every check has its row in docs/doctor.md; the verdict's own are named there in a line.
#[track_caller]
fn documented(group: &Value) {
    let page = include_str!("../../docs/doctor.md");
    let without: Vec<String> = seen(group)
        .into_iter()
        .map(|(check, _)| check)
        .filter(|check| !page.contains(&format!("`{check}`")))
        .collect();
    assert!(without.is_empty(), "docs/doctor.md says nothing of {without:?}");
}

/// The real program's JSON and exit code.
fn program(relay: &Relay, args: &[&str]) -> (Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_waxseal"))
        .arg("--config")
        .arg(relay.dir.join("config/waxseal.toml"))
        .args(["doctor", "--json"])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let json = serde_json::from_str(&text);
    let json =
        json.unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (json, output.status.code())
}

/// Checks and levels of a group.
fn seen(group: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let list = group.as_array().unwrap();
    list.iter().map(|finding| (text(&finding["check"]), text(&finding["level"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_prints_one_object_and_exits_by_the_worst() {
    let hostname: Domain = "relay.bench.test".parse().unwrap();
    let records =
        SOUND.replace("relay.acme.com", hostname.as_str()) + "bench.test. 60 IN MX 10 relay.bench.test.\n";
    let zone = Zone::start(&records).await.unwrap();
    let (_exchangers, port) = street(vec![vec![secured("relay.bench.test")]]).await;
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout {
        listeners: &["starttls"],
        tables: format!("[dns]\nservers = [\"{}\"]", zone.address()),
        delivery: format!("port = {port}\npublic_addresses = [\"192.0.2.17\"]\n"),
        route: String::new(),
    };
    let relay = Relay::lay_out(dir.path(), &layout);

    // The layout's certificate is signed by itself: for a platform that verifies, an error.
    let (report, code) = program(&relay, &["--no-outbound"]);
    assert_eq!(
        (&report["v"], &report["ok"], code),
        (&Value::from(1), &Value::from(false), Some(1)),
        "{report}"
    );
    let instance = seen(&report["instance"]);
    assert!(instance.contains(&("certificate".into(), "error".into())), "{report}");
    assert!(instance.contains(&("ptr".into(), "ok".into())), "{report}");
    assert!(
        !instance.iter().any(|(check, _)| check == "port25"),
        "--no-outbound connects to nobody: {report}"
    );
    assert_eq!(
        (&report["domains"][0]["domain"], &report["domains"][0]["tenant"]),
        (&Value::from("bench.test"), &Value::from("bench"))
    );
    assert!(seen(&report["domains"][0]["findings"]).contains(&("replies".into(), "ok".into())), "{report}");

    let listed = program(&relay, &["--no-outbound", "--dnsbl", "list.example"]).0;
    assert!(seen(&listed["instance"]).contains(&("blocklist".into(), "error".into())), "{listed}");

    documented(&listed["instance"]);
    documented(&listed["domains"][0]["findings"]);

    authority(&relay.certificate, &dir.path().join("certs/relay.key"), &dir.path().join("ca.pem"));
    let ca = dir.path().join("ca.pem");
    let args = ["--reference", "reference.net", "--ca-file", ca.to_str().unwrap()];
    let (report, _) = program(&relay, &args);
    let instance = seen(&report["instance"]);
    assert!(instance.contains(&("port25".into(), "ok".into())), "{report}");
    assert!(!instance.contains(&("certificate".into(), "error".into())), "{report}");
}

/// Puts a certificate in place that an authority of the test's own signed.
fn authority(certificate: &Path, key: &Path, ca: &Path) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["relay.bench.test".to_owned()]).unwrap();
    leaf.distinguished_name.push(rcgen::DnType::CommonName, "the relay");
    std::fs::write(certificate, leaf.signed_by(&leaf_key, &root).unwrap().pem()).unwrap();
    std::fs::write(ca, root.pem()).unwrap();
    crate::relay::secret(key, &leaf_key.serialize_pem());
}
