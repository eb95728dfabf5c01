//! The records that a domain publishes so that receivers believe its mail, as data and as zone-file text.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::keyring::{Key, Keyring};
use super::lifecycle;
use super::stages::Stage;
use crate::mail::address::Domain;

/// RFC 1035 section 3.3: octets of one character-string of a TXT record.
const STRING_MAX: usize = 255;
/// RFC 1035 section 2.3.4.
const LABEL_MAX: usize = 63;

/// One record to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where, without the trailing dot.
    pub name: String,
    /// What.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The text of a TXT record in one piece; the target of the others.
    pub value: String,
    /// What it is for, in a sentence.
    pub why: String,
}

/// A record's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Text.
    Txt,
    /// Another name for.
    Cname,
    /// Preference and exchanger.
    Mx,
}

/// What the records depend on apart from the domain and its keys.
#[derive(Clone, Copy, Debug)]
pub struct Setting<'a> {
    /// The relay's name.
    pub hostname: &'a Domain,
    /// Zone that the CNAMEs of tenants' keys point into; `None`: the domain publishes the keys itself.
    pub dkim_zone: Option<&'a Domain>,
    /// Name that return paths point at with a CNAME; `None`: each has its own MX and SPF.
    pub bounce_host: Option<&'a Domain>,
    /// The addresses receivers see; empty: those of `hostname`.
    pub public_addresses: &'a [IpAddr],
    /// The domain of the reverse-path, where it is not the From domain.
    pub return_path: Option<&'a Domain>,
    /// Mail leaves through the tenant's own server: SPF is that server's matter.
    pub upstream: bool,
}

/// The records of a From domain: each key that signs, will sign or signed a while ago, the return path, SPF, DMARC.
#[must_use]
pub fn for_domain(domain: &Domain, keyring: &Keyring, setting: &Setting<'_>) -> Vec<Record> {
    let mut records: Vec<_> = live(keyring.keys(domain)).map(|key| dkim(domain, key, setting)).collect();
    // The From domain's own MX is where its people get their mail.
    let below = setting.return_path.filter(|path| *path != domain);
    match (below, setting.bounce_host) {
        (Some(path), Some(host)) => records.push(Record {
            name: path.to_string(),
            kind: Kind::Cname,
            value: host.to_string(),
            why: "bounces come back to the relay, and SPF finds the relay's record".to_owned(),
        }),
        (Some(path), None) => {
            records.push(mx(path, setting));
            records.extend((!setting.upstream).then(|| spf(path, setting)));
        }
        (None, _) => records.extend((!setting.upstream).then(|| spf(domain, setting))),
    }
    records.push(Record {
        name: format!("_dmarc.{domain}"),
        kind: Kind::Txt,
        value: "v=DMARC1; p=none".to_owned(),
        why: "large receivers want a DMARC record; a value to start with, keep a stricter one that is there"
            .to_owned(),
    });
    records
}

/// The CNAMEs of selectors that the next keys will have: published together with the first, they make every renewal the
/// relay's affair alone. Nothing where keys are published as TXT.
#[must_use]
pub fn spare(domain: &Domain, keyring: &Keyring, setting: &Setting<'_>) -> Vec<Record> {
    let keys = keyring.keys(domain);
    let next = |rsa: bool| {
        let mut family = live(keys).filter(|key| key.public.algorithm.is_rsa() == rsa);
        let (only, None) = (family.next()?, family.next()) else { return None };
        let selector = lifecycle::free_selector(keys, only.public.algorithm);
        Some(Record {
            name: dkim_name(&selector, domain),
            kind: Kind::Cname,
            value: target(&selector, domain, setting.dkim_zone?)?,
            why: "for the next renewal of the key: nothing needs to be published then".to_owned(),
        })
    };
    [true, false].into_iter().filter_map(next).collect()
}

/// What the relay publishes at the name that tenants' return paths point at.
#[must_use]
pub fn for_bounces(host: &Domain, setting: &Setting<'_>) -> Vec<Record> {
    vec![mx(host, setting), spf(host, setting)]
}

/// SPF at the EHLO name, which receivers look at where the reverse-path is empty (RFC 7208 section 2.4).
#[must_use]
pub fn for_hostname(setting: &Setting<'_>) -> Record {
    spf(setting.hostname, setting)
}

fn live(keys: &[Key]) -> impl Iterator<Item = &Key> {
    keys.iter().filter(|key| key.stage != Stage::Retired)
}

/// What the relay publishes in its own zone for the keys of these domains: the targets of their CNAMEs.
#[must_use]
pub fn delegated<'d>(
    domains: impl IntoIterator<Item = &'d Domain>,
    keyring: &Keyring,
    zone: &Domain,
) -> Vec<Record> {
    let of = |domain: &'d Domain| live(keyring.keys(domain)).map(move |key| (domain, key));
    let keys = domains.into_iter().flat_map(of);
    keys.filter_map(|(domain, key)| {
        let name = target(&key.selector, domain, zone)?;
        Some(key_record(name, key, format!("{domain} points here for its DKIM key")))
    })
    .collect()
}

fn dkim(domain: &Domain, key: &Key, setting: &Setting<'_>) -> Record {
    let name = dkim_name(&key.selector, domain);
    match setting.dkim_zone.and_then(|zone| target(&key.selector, domain, zone)) {
        Some(value) => {
            let why =
                "receivers find the DKIM key through it, also after the relay renews the key".to_owned();
            Record { name, kind: Kind::Cname, value, why }
        }
        None => key_record(name, key, "receivers check the DKIM signature with it".to_owned()),
    }
}

/// RFC 6376 section 3.6.2.1.
#[must_use]
pub fn dkim_name(selector: &str, domain: &Domain) -> String {
    format!("{selector}._domainkey.{domain}")
}

fn mx(path: &Domain, setting: &Setting<'_>) -> Record {
    Record {
        name: path.to_string(),
        kind: Kind::Mx,
        value: format!("10 {}", setting.hostname),
        why: "bounces come back to the relay".to_owned(),
    }
}

fn key_record(name: String, key: &Key, why: String) -> Record {
    Record { name, kind: Kind::Txt, value: key.public.record(), why }
}

/// `wx1.acme-com.dkim.relay.example.com`. Hyphens are doubled, so that no two domains share a name; a domain too long for
/// one label publishes its key itself.
fn target(selector: &str, domain: &Domain, zone: &Domain) -> Option<String> {
    let label = domain.as_str().replace('-', "--").replace('.', "-");
    (label.len() <= LABEL_MAX).then(|| format!("{selector}.{label}.{zone}"))
}

/// RFC 7208, at the domain of the reverse-path.
fn spf(domain: &Domain, setting: &Setting<'_>) -> Record {
    let mut value = "v=spf1".to_owned();
    for address in setting.public_addresses {
        let mechanism = if address.is_ipv4() { "ip4" } else { "ip6" };
        let _ = write!(value, " {mechanism}:{address}");
    }
    if setting.public_addresses.is_empty() {
        let _ = write!(value, " a:{}", setting.hostname);
    }
    value.push_str(" ~all");
    let why = "the relay may send for this domain; where there is an SPF record already, add the mechanism to it, since two \
               records fail"
        .to_owned();
    Record { name: domain.to_string(), kind: Kind::Txt, value, why }
}

impl Record {
    /// The record as a line of a zone file.
    #[must_use]
    pub fn line(&self) -> String {
        let kind = match self.kind {
            Kind::Txt => "TXT",
            Kind::Cname => "CNAME",
            Kind::Mx => "MX",
        };
        format!("{}. IN {kind} {}", self.name, self.data())
    }

    /// The record's data as a zone file has it: TXT split into strings of 255 octets, names with their dot.
    #[must_use]
    pub fn data(&self) -> String {
        match self.kind {
            Kind::Txt => self.strings().map(quoted).collect::<Vec<_>>().join(" "),
            Kind::Cname | Kind::Mx => format!("{}.", self.value),
        }
    }

    /// A TXT record's character-strings, at most 255 octets each.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.value.as_str();
        std::iter::from_fn(move || {
            let cut = rest.floor_char_boundary(STRING_MAX);
            let (head, tail) = rest.split_at_checked(cut).filter(|(head, _)| !head.is_empty())?;
            rest = tail;
            Some(head)
        })
    }
}

/// RFC 1035 section 5.1. A record that is there already may hold any octet: none of them ends the line or reaches a terminal.
fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for octet in text.bytes() {
        match octet {
            b'"' | b'\\' => shown.extend(['\\', char::from(octet)]),
            b' '..=b'~' => shown.push(char::from(octet)),
            _ => {
                let _ = write!(shown, "\\{octet:03}");
            }
        }
    }
    shown.push('"');
    shown
}

/// The records as zone-file text, each below what it is for.
#[must_use]
pub fn zone_text(records: &[Record]) -> String {
    let mut text = String::new();
    for record in records {
        let _ = writeln!(text, "; {}\n{}", record.why, record.line());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::mail::secret::ExposeSecret;
    use crate::seal::keys::{self, generate};

    fn ring() -> Keyring {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a-b.example/wx1.pem");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, generate(keys::Kind::Rsa2048).unwrap().pem.expose_secret()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Keyring::load(dir.path()).unwrap()
    }

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_zone_of_the_relays_the_key_is_split_into_strings() {
        let (ring, hostname) = (ring(), domain("relay.example"));
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let setting = Setting {
            hostname: &hostname,
            dkim_zone: None,
            bounce_host: None,
            public_addresses: &addresses,
            return_path: None,
            upstream: false,
        };
        let records = for_domain(&domain("a-b.example"), &ring, &setting);
        let lengths: Vec<_> = records[0].strings().map(str::len).collect();
        assert_eq!(lengths, [255, 410 - 255]);
        assert_eq!(records[0].strings().collect::<String>(), records[0].value);
        assert_eq!(records[1].value, "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 ~all");
        let text = zone_text(&records);
        assert!(text.contains("\nwx1._domainkey.a-b.example. IN TXT \"v=DKIM1; k=rsa; p=MII"), "{text}");
        assert!(text.contains("\n_dmarc.a-b.example. IN TXT \"v=DMARC1; p=none\"\n"), "{text}");
    }

    #[test]
    fn a_text_with_any_octets_is_one_line_of_a_zone_file() {
        let rows = [
            ("p=none; rua=a", "\"p=none; rua=a\"", "plain"),
            ("a\"b\\c", r#""a\"b\\c""#, "what ends a string, and what escapes"),
            ("a\nb. IN A 192.0.2.1", r#""a\010b. IN A 192.0.2.1""#, "a line feed would begin another record"),
            ("\u{1b}[2J\u{7f}\t\0", r#""\027[2J\127\009\000""#, "a terminal obeys these"),
            ("é\u{9b}", r#""\195\169\194\155""#, "octets, not characters"),
        ];
        for (value, expected, why) in rows {
            let (name, value) = ("a.example".to_owned(), value.to_owned());
            let record = Record { name, kind: Kind::Txt, value, why: String::new() };
            assert_eq!(record.data(), expected, "{why}");
        }
    }

    #[test]
    fn with_a_zone_the_tenant_points_at_a_name_that_no_other_domain_shares() {
        let (ring, hostname, zone) = (ring(), domain("relay.example"), domain("dkim.relay.example"));
        let bounce = domain("bounce.a-b.example");
        let setting = Setting {
            hostname: &hostname,
            dkim_zone: Some(&zone),
            bounce_host: None,
            public_addresses: &[],
            return_path: Some(&bounce),
            upstream: false,
        };
        let acme = domain("a-b.example");
        let records = for_domain(&acme, &ring, &setting);
        assert_eq!(records[0].data(), "wx1.a--b-example.dkim.relay.example.");
        assert_eq!(records[1].data(), "10 relay.example.");
        assert_eq!(
            (records[2].name.as_str(), records[2].value.as_str()),
            ("bounce.a-b.example", "v=spf1 a:relay.example ~all")
        );
        let ours = delegated([&acme], &ring, &zone);
        assert_eq!(format!("{}.", ours[0].name), records[0].data());
        let shown = serde_json::to_value(&records[0]).unwrap();
        assert_eq!(shown["type"], "CNAME");
    }
}
