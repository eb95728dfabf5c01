//! What each key is for now, kept in `<keys>/<domain>/state.toml` beside the PEMs.
//!
//! | stage | who moves it on | what a crash leaves |
//! |---|---|---|
//! | pending: made, not yet seen in DNS | its record is seen | a PEM without an entry, which is pending |
//! | ready: seen, signs when it is its turn | the first of its kind at once; a renewal after a day; `key activate` | the same |
//! | active: signs | a younger one takes its place, or `key retire` | the same: old and new move in one write |
//! | retiring: signs no more, stays published | the queue's life and a week have passed | the same |
//! | retired: its record can go; never signs again | its selector is used again | the same |
//!
//! The file is written whole, under a lock of the directory, and only where each key still is at the stage that a move starts
//! from: daemon and command line cannot lose each other's change. An entry counts for the key that it was written for; a
//! PEM put in its place by hand is a new key, and pending.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rsa::sha2::{Digest, Sha256};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use zeroize::Zeroizing;

use super::KeyError;
use super::keyring::{self, Key};
use super::keys::{self, Kind, Public};
use crate::config::ConfigError;
use crate::fsx;
use crate::mail::address::Domain;
use crate::mail::secret::ExposeSecret;
use crate::mail::time::Time;

/// The file's name.
const FILE: &str = "state.toml";
/// No secret is in it, and the directory lets only its owner in: so it may be read by whoever runs the daemon.
const MODE: u32 = 0o644;
/// Octets of SHA-256 that tell a domain's keys apart.
const FINGERPRINT: usize = 8;

/// What a key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Not yet seen in DNS.
    #[default]
    Pending,
    /// Seen in DNS; waits for its turn.
    Ready,
    /// Signs.
    Active,
    /// Signs no more; stays published for what is still on its way.
    Retiring,
    /// Never signs again; its record can be removed.
    Retired,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
        })
    }
}

/// A key goes from one stage to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Whose key.
    pub domain: Domain,
    /// Which.
    pub selector: String,
    /// Where it must be; it has not moved otherwise.
    pub from: Stage,
    /// Where it goes.
    pub to: Stage,
    /// Why, for the log.
    pub why: String,
}

/// A key must be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// Whose key.
    pub domain: Domain,
    /// Where: free, or a retired key's.
    pub selector: String,
    /// What.
    pub kind: Kind,
    /// The selector of the active key whose place it takes by itself once it can be seen.
    pub replaces: Option<String>,
    /// Why, for the log.
    pub why: String,
}

/// What the file says of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stage: Stage,
    pub(super) since: Option<Time>,
    pub(super) replaces: Option<String>,
    fingerprint: Option<String>,
}

impl Entry {
    /// Whether it was written for this key.
    pub(super) fn is_of(&self, public: &Public) -> bool {
        self.fingerprint.as_ref().is_none_or(|written| *written == fingerprint(public))
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    selector: Spanned<String>,
    stage: Stage,
    since: Option<Spanned<String>>,
    replaces: Option<String>,
    fingerprint: Option<String>,
}

/// What the directory's file says; nothing where there is none.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<String, Entry>, KeyError> {
    let path = dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(parse(&path, &text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(KeyError::Io { path, source }),
    }
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Entry>, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| ConfigError::from_toml(path, text, &error))?;
    let mut entries = BTreeMap::new();
    for Written { selector, stage, since, replaces, fingerprint } in file.key {
        let since = since.map(|at| instant(path, text, &at)).transpose()?;
        let place = selector.span().start;
        let entry = Entry { stage, since, replaces, fingerprint };
        if let Some(_twice) = entries.insert(selector.into_inner(), entry) {
            return Err(ConfigError::at(path, text, place, "this selector is named twice"));
        }
    }
    Ok(entries)
}

fn instant(path: &Path, text: &str, at: &Spanned<String>) -> Result<Time, ConfigError> {
    let parsed = jiff::Timestamp::from_str(at.get_ref()).ok();
    let time = parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok()).map(Time);
    let wrong = || ConfigError::at(path, text, at.span().start, "no time such as 2026-01-31T12:00:00.000Z");
    time.ok_or_else(wrong)
}

/// Moves keys of one domain: all of these moves, or none.
///
/// # Errors
/// `Changed` where a key is not where its move starts from; a key that is not there; the file system.
pub fn settle(keys_dir: &Path, domain: &Domain, moves: &[Move], now: Time) -> Result<(), KeyError> {
    change(keys_dir, domain, |keys| {
        for step in moves.iter().filter(|step| step.domain == *domain) {
            let key = keys.iter_mut().find(|key| key.selector == step.selector && key.stage == step.from);
            let changed = || KeyError::Changed { domain: domain.clone(), selector: step.selector.clone() };
            let key = key.ok_or_else(changed)?;
            key.stage = step.to;
            key.since = Some(now);
            if step.to != Stage::Pending && step.to != Stage::Ready {
                key.replaces = None;
            }
        }
        Ok(())
    })
}

/// A key that waits will take the place of `old` by itself.
///
/// # Errors
/// `Changed` where it does not wait any more; the file system's.
pub fn succeed(keys_dir: &Path, domain: &Domain, selector: &str, old: &str) -> Result<(), KeyError> {
    change(keys_dir, domain, |keys| {
        let waits =
            |key: &&mut Key| key.selector == selector && matches!(key.stage, Stage::Pending | Stage::Ready);
        let changed = || KeyError::Changed { domain: domain.clone(), selector: selector.to_owned() };
        let key = keys.iter_mut().find(waits).ok_or_else(changed)?;
        key.replaces = Some(old.to_owned());
        Ok(())
    })
}

/// Makes a key, pending. A retired key at this selector is replaced; any other is left alone.
///
/// # Errors
/// `Changed` where the selector is taken; the provider's; the file system's.
pub fn make(keys_dir: &Path, order: &Make, now: Time) -> Result<Public, KeyError> {
    let made = keys::generate(order.kind)?;
    place(keys_dir, order, made.pem.expose_secret().as_bytes(), now)?;
    Ok(made.public)
}

/// Copies a private key from elsewhere to a free selector, pending.
///
/// # Errors
/// What is there is no key, or the selector is taken; the file system's.
pub fn import(
    keys_dir: &Path,
    (domain, selector): (&Domain, &str),
    file: &Path,
    now: Time,
) -> Result<Public, KeyError> {
    let (pem, public) = read_foreign(file)?;
    if keys_dir.join(domain.as_str()).join(format!("{selector}.pem")).exists() {
        return Err(KeyError::Changed { domain: domain.clone(), selector: selector.to_owned() });
    }
    // What kind it is stands in the PEM.
    let (domain, selector) = (domain.clone(), selector.to_owned());
    let order = Make { domain, selector, kind: Kind::default(), replaces: None, why: String::new() };
    place(keys_dir, &order, &pem, now)?;
    Ok(public)
}

/// The public half of a private key that stands elsewhere.
///
/// # Errors
/// What is there is no key, or cannot be read.
pub fn look_at(file: &Path) -> Result<Public, KeyError> {
    Ok(read_foreign(file)?.1)
}

/// Its mode is not ours to judge: the copy gets 0600.
fn read_foreign(file: &Path) -> Result<(Zeroizing<Vec<u8>>, Public), KeyError> {
    let pem = keyring::read_pem(file)?;
    let unfit = |what| KeyError::Unfit { path: file.to_owned(), what };
    let (_, public) = keys::read(&pem).map_err(unfit)?;
    Ok((pem, public))
}

/// Lays a key's PEM at the order's selector, pending.
pub(super) fn place(keys_dir: &Path, order: &Make, pem: &[u8], now: Time) -> Result<(), KeyError> {
    let Make { domain, selector, .. } = order;
    let dir = keys_dir.join(domain.as_str());
    fsx::create_dir(&dir).map_err(|source| KeyError::Io { path: dir.clone(), source })?;
    let path = dir.join(format!("{selector}.pem"));
    let lock = lock(&dir)?;
    let keys = keyring::read_domain(domain, &dir)?.keys;
    if keys.iter().any(|key| key.selector == *selector && key.stage != Stage::Retired) {
        return Err(KeyError::Changed { domain: domain.clone(), selector: selector.clone() });
    }
    // First the PEM: without its entry it is a pending key, while an entry without its PEM would be nothing.
    fsx::write_atomically(&path, pem, 0o600).map_err(|source| KeyError::Io { path, source })?;
    let mut keys = keyring::read_domain(domain, &dir)?.keys;
    for key in keys.iter_mut().filter(|key| key.selector == *selector) {
        key.since = Some(now);
        key.replaces.clone_from(&order.replaces);
    }
    write(&dir, domain, &keys)?;
    drop(lock);
    Ok(())
}

fn lock(dir: &Path) -> Result<fsx::Lock, KeyError> {
    fsx::Lock::of_dir(dir).map_err(|source| KeyError::Io { path: dir.to_owned(), source })
}

fn change(
    keys_dir: &Path,
    domain: &Domain,
    with: impl FnOnce(&mut Vec<Key>) -> Result<(), KeyError>,
) -> Result<(), KeyError> {
    let dir = keys_dir.join(domain.as_str());
    let lock = lock(&dir)?;
    let mut keys = keyring::read_domain(domain, &dir)?.keys;
    with(&mut keys)?;
    write(&dir, domain, &keys)?;
    drop(lock);
    Ok(())
}

/// The whole file: an entry for each key that there is, so that one whose PEM is gone is forgotten.
fn write(dir: &Path, domain: &Domain, keys: &[Key]) -> Result<(), KeyError> {
    let mut document = toml_edit::DocumentMut::new();
    let mut tables = toml_edit::ArrayOfTables::new();
    for key in keys {
        let mut table = toml_edit::Table::new();
        table.insert("selector", toml_edit::value(&key.selector));
        table.insert("stage", toml_edit::value(key.stage.to_string()));
        if let Some(since) = key.since {
            table.insert("since", toml_edit::value(since.utc().to_string()));
        }
        if let Some(replaces) = &key.replaces {
            table.insert("replaces", toml_edit::value(replaces));
        }
        table.insert("fingerprint", toml_edit::value(fingerprint(&key.public)));
        tables.push(table);
    }
    document.insert("key", toml_edit::Item::ArrayOfTables(tables));
    let text = format!(
        "# What each DKIM key of {domain} is for. Waxseal writes this file whole; `waxseal key list {domain}` shows it.\n\n{document}"
    );
    let path = dir.join(FILE);
    fsx::write_atomically(&path, text.as_bytes(), MODE).map_err(|source| KeyError::Io { path, source })
}

fn fingerprint(public: &Public) -> String {
    let digest = Sha256::digest(&public.octets);
    digest.iter().take(FINGERPRINT).map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests;
