//! What a rig is given: a keyring, a tenant, the facts of a message; and what a notification says, for a test to read.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::DAY;
use mail_parser::{MessageParser, MimeHeaders};
use waxseal::config::{Class, Classes};
use waxseal::mail::envelope::{Envelope, Notify, Recipient};
use waxseal::mail::id::Id;
use waxseal::mail::message::{Facts, Kind, Lane, Needs};
use waxseal::mail::time::Time;
use waxseal::seal::Keyring;
use waxseal::tenant::{BareNewlines, OnFail, OwnedDomain, Route, Tenant, TenantLimits};

/// The relay's key, so that no test waits for one to be made.
const KEY: &str = include_str!("../data/rsa2048.pem");

pub fn keyring(dir: &Path) -> Keyring {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let keys = dir.join("keys/relay.test");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = keys.join("wx1.pem");
    let mut open = std::fs::OpenOptions::new();
    let mut key = open.write(true).create(true).truncate(true).mode(0o600).open(file).unwrap();
    std::io::Write::write_all(&mut key, KEY.as_bytes()).unwrap();
    Keyring::load(&dir.join("keys")).unwrap()
}

/// A tenant with the domain `<name>.test`, by MX.
pub fn tenant(name: &str, notify: &[&str]) -> Tenant {
    let own = OwnedDomain {
        name: format!("{name}.test").parse().unwrap(),
        on_fail: OnFail::default(),
        return_path: None,
        subdomains: false,
    };
    Tenant {
        name: name.into(),
        networks: Vec::new(),
        notify: notify.iter().map(|address| address.parse().unwrap()).collect(),
        logins: Vec::new(),
        domains: vec![own],
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: waxseal::tenant::Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::default(),
        classes: waxseal::config::Classes::default(),
        suppression: waxseal::tenant::SuppressionRules::default(),
    }
}

/// The built-in classes, one of them changed.
pub fn classes(name: &str, change: impl FnOnce(&mut Class)) -> Classes {
    let mut all: Vec<Class> = Classes::default().iter().cloned().collect();
    change(all.iter_mut().find(|class| *class.name == *name).unwrap());
    Classes::new(all)
}

pub fn facts(tenant: &str, rcpts: &[&str], now: Time) -> Facts {
    let rcpt = |address: &&str| Recipient {
        address: address.parse().unwrap(),
        orcpt: None,
        notify: Notify::default(),
    };
    let from = Some(format!("noreply@{tenant}.test").parse().unwrap());
    Facts {
        id: Id::new(now, rand::random()),
        tenant: tenant.into(),
        login: None,
        header_from: None,
        class: None,
        lane: Lane::Normal,
        kind: Kind::Mail,
        envelope: Envelope { from, rcpts: rcpts.iter().map(rcpt).collect(), ret: None, envid: None },
        received: now,
        expires: now.after(Duration::from_millis(5 * DAY)),
        return_path: None,
        unsealed: None,
        needs: Needs::default(),
        asked: waxseal::mail::message::Asked::default(),
        priority: waxseal::mail::priority::Priority::default(),
        deliver_by: None,
        size: 80,
    }
}

/// The delivery-status part of a notification, with its CRLFs as LFs.
pub fn report(message: &[u8]) -> String {
    let parsed = MessageParser::default().parse(message).unwrap();
    let is_report = |part: &&mail_parser::MessagePart<'_>| {
        part.content_type().is_some_and(|kind| kind.subtype() == Some("delivery-status"))
    };
    let part = parsed.parts.iter().find(is_report).unwrap();
    String::from_utf8_lossy(part.contents()).replace("\r\n", "\n")
}
