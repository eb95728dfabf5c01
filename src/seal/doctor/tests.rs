//! Return paths, replies, limits and policies, a row each with its reason.

use std::sync::Arc;

use super::*;
use crate::mail::time::Time;
use crate::seal::facts::{Known, Walk};
use crate::seal::judge::Level::{Error, Ok as Good, Warning};
use crate::tenant::Route;
use crate::tenant::{BareNewlines, OnFail, TenantLimits};

const OURS: &str = "192.0.2.17";

fn known<T>(value: T) -> Option<Known<T>> {
    Some(Known { value, seen: Time(0), until: Time(1) })
}

fn tenant(notify: &[&str]) -> Tenant {
    Tenant {
        name: "acme".into(),
        networks: Vec::new(),
        notify: notify.iter().map(|address| address.parse().unwrap()).collect(),
        logins: Vec::new(),
        domains: Vec::new(),
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: crate::tenant::Signing::default(),
        classes: crate::config::Classes::default(),
        suppression: crate::tenant::SuppressionRules::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::default(),
    }
}

/// What a row changes.
struct Given {
    return_path: bool,
    replies: Option<Exchange>,
    bounces: Option<Exchange>,
    homes: Vec<(&'static str, Result<Vec<&'static str>, Failure>)>,
    addresses: Vec<&'static str>,
    inbound: bool,
    notify: Vec<&'static str>,
    spf: (u32, u32),
    policy: Option<Policy>,
    dmarc: &'static str,
    omit: Vec<&'static str>,
}

/// All as it should be.
fn sound() -> Given {
    Given {
        return_path: true,
        replies: hosts(&["mx.acme.com"]),
        bounces: hosts(&["relay.example.com"]),
        homes: vec![("mx.acme.com", Ok(vec!["192.0.2.80"]))],
        addresses: vec![OURS],
        inbound: true,
        notify: vec!["ops@acme.com"],
        spf: (2, 0),
        policy: Some(Policy::Reject),
        dmarc: "v=DMARC1; p=reject; rua=mailto:d@acme.com",
        omit: vec![],
    }
}

#[allow(clippy::unnecessary_wraps, reason = "a row's form")]
fn hosts(names: &[&str]) -> Option<Exchange> {
    let hosts = names.iter().zip(1..).map(|(name, preference)| (preference * 10, (*name).to_owned()));
    Some(Exchange::Hosts(hosts.collect()))
}

fn look(given: &Given) -> Vec<Finding> {
    let (name, path): (Domain, Domain) = ("acme.com".parse().unwrap(), "bounce.acme.com".parse().unwrap());
    let own = OwnedDomain {
        name: name.clone(),
        on_fail: OnFail::default(),
        return_path: given.return_path.then(|| path.clone()),
        subdomains: false,
    };
    let mut author = Picture::blank(name);
    author.exchange = given.replies.clone().and_then(known);
    let steps = vec![("acme.com".to_owned(), vec![given.dmarc.to_owned()])];
    author.dmarc = known(Walk { steps, exists: true, reports: vec![] });
    let mut sender = Picture::blank(path);
    sender.exchange = given.bounces.clone().and_then(known);
    let (lookups, voids) = given.spf;
    sender.spf =
        known(SpfAnswer { records: vec!["v=spf1 -all".into()], lookups, voids, ..SpfAnswer::default() });
    let ips = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
    let home = |(host, found): &(&str, Result<Vec<&str>, Failure>)| Home {
        host: (*host).to_owned(),
        addresses: found.clone().map(|found| ips(&found)),
    };
    let homes: Vec<Home> = given.homes.iter().map(home).collect();
    let omit: Vec<String> = given.omit.iter().map(|field| (*field).to_owned()).collect();
    of_domain(&DomainCase {
        tenant: &tenant(&given.notify),
        own: &own,
        omit: &omit,
        author: &author,
        sender: &sender,
        policy: given.policy,
        homes: &homes,
        us: &Us {
            bounce_host: None,
            hostname: &"relay.example.com".parse().unwrap(),
            addresses: &ips(&given.addresses),
            inbound: given.inbound,
        },
    })
}

fn level(findings: &[Finding], check: &str) -> Option<Level> {
    findings.iter().find(|finding| finding.check == check).map(|finding| finding.level)
}

#[test]
fn who_is_told_without_notify_is_said() {
    let tenant = tenant(&[]);
    let own = crate::tenant::OwnedDomain {
        name: "acme.com".parse().unwrap(),
        on_fail: OnFail::Reject,
        return_path: Some("bounce.acme.com".parse().unwrap()),
        subdomains: false,
    };
    let picture = Picture::blank(own.name.clone());
    let hostname = "relay.example.com".parse().unwrap();
    let us = Us { hostname: &hostname, bounce_host: None, addresses: &[], inbound: true };
    let case = DomainCase {
        tenant: &tenant,
        own: &own,
        omit: &[],
        author: &picture,
        sender: &picture,
        policy: None,
        homes: &[],
        us: &us,
    };
    let finding = notify(&case).unwrap();
    assert!(finding.says.ends_with("each message's sender is"), "{finding:?}");
}

#[test]
fn what_is_as_it_should_be_is_ok_throughout() {
    let findings = look(&sound());
    assert!(findings.iter().all(|finding| finding.level == Good), "{findings:#?}");
    assert_eq!(findings.len(), 7, "{findings:#?}");
}

#[allow(clippy::too_many_lines, reason = "a table")]
#[test]
fn each_thing_that_is_wrong_is_noticed() {
    let gone = || vec![("mx.acme.com", Err(Failure::NoSuchName))];
    let silent = || vec![("mx.acme.com", Err(Failure::Transient("timed out".into())))];
    let other = || vec![("mx.acme.com", Ok(vec!["192.0.2.80"])), ("other.net", Ok(vec!["192.0.2.90"]))];
    let alias = || vec![("mx.acme.com", Ok(vec!["192.0.2.80"])), ("other.net", Ok(vec![OURS]))];
    let rows: [(&str, Given, Option<Level>, &str); 20] = [
        ("replies", Given { homes: gone(), ..sound() }, Some(Warning), "the MX names a host that is gone"),
        ("replies", Given { homes: silent(), ..sound() }, Some(Warning), "silence decides nothing"),
        ("replies", Given { replies: Some(Exchange::Null), ..sound() }, None, "the judge's matter"),
        ("return-path", Given { return_path: false, ..sound() }, Some(Good), "bounces go to the senders"),
        ("return-path", Given { bounces: None, ..sound() }, Some(Warning), "DNS is silent"),
        (
            "return-path",
            Given { bounces: Some(Exchange::Nowhere), ..sound() },
            Some(Error),
            "no record at all",
        ),
        (
            "return-path",
            Given { bounces: hosts(&["other.net"]), homes: other(), ..sound() },
            Some(Error),
            "elsewhere",
        ),
        (
            "return-path",
            Given { bounces: hosts(&["other.net"]), homes: alias(), ..sound() },
            Some(Good),
            "another name of ours",
        ),
        (
            "return-path",
            Given { bounces: hosts(&["relay.example.com", "other.net"]), homes: other(), ..sound() },
            Some(Warning),
            "a backup exchanger takes bounces that nobody reads",
        ),
        (
            "return-path",
            Given { bounces: hosts(&["other.net"]), homes: other(), addresses: vec![], ..sound() },
            Some(Warning),
            "we do not know our own addresses",
        ),
        ("inbound", Given { inbound: false, ..sound() }, Some(Error), "bounces knock at a closed door"),
        ("inbound", Given { return_path: false, inbound: false, ..sound() }, None, "nothing comes back"),
        ("notify", Given { notify: vec![], ..sound() }, Some(Warning), "only the senders would be told"),
        ("notify", Given { return_path: false, notify: vec![], ..sound() }, None, "the sender is told"),
        ("spf-lookups", Given { spf: (9, 0), ..sound() }, Some(Warning), "the next include may break it"),
        ("spf-lookups", Given { spf: (3, 2), ..sound() }, Some(Warning), "so may the next dead name"),
        ("spf-lookups", Given { spf: (11, 0), ..sound() }, None, "the judge's matter"),
        (
            "dmarc-policy",
            Given { policy: Some(Policy::None), ..sound() },
            Some(Good),
            "a good value to start with",
        ),
        ("dmarc-reports", Given { dmarc: "v=DMARC1; p=reject; rua=", ..sound() }, Some(Good), "a hint"),
        (
            "unsubscribe",
            Given { omit: vec!["list-unsubscribe"], ..sound() },
            Some(Warning),
            "RFC 8058 section 4",
        ),
    ];
    for (check, given, expected, why) in rows {
        let findings = look(&given);
        assert_eq!(level(&findings, check), expected, "{check}: {why}: {findings:#?}");
        let wordless = findings.iter().find(|finding| finding.level != Good && finding.fix.is_empty());
        assert_eq!(wordless, None, "{check}: {why}: whatever is not good says what to do");
    }
}

#[test]
fn the_record_that_brings_bounces_back_is_given() {
    let rows = [
        (Some(Exchange::Nowhere), false, "nothing stands there"),
        (hosts(&["other.net"]), true, "another's stands there"),
    ];
    for (bounces, replaces, why) in rows {
        let findings =
            look(&Given { bounces, homes: vec![("other.net", Ok(vec!["192.0.2.90"]))], ..sound() });
        let found = findings.iter().find(|finding| finding.check == "return-path").unwrap();
        let (record, replaced) = match found.change.as_ref().unwrap() {
            Change::Replace { record, .. } => (record, true),
            Change::Publish(record) => (record, false),
            Change::Remove { .. } => panic!("{why}: {found:?}"),
        };
        assert_eq!(replaced, replaces, "{why}");
        assert_eq!(
            (record.name.as_str(), record.data().as_str()),
            ("bounce.acme.com", "10 relay.example.com.")
        );
    }
}
