//! The private keys of every From domain, read from `<keys>/<domain>/<selector>.pem` and parsed once.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::keys::{self, Algorithm, Public, RSA_BITS_SOUND, Signer};
use super::signature::{Covered, Terms};
use super::stages::{self, Stage};
use super::{KeyError, SealError};
use crate::mail::address::Domain;
use crate::mail::header::Headers;
use crate::mail::time::Time;
use crate::tenant::{SignWith, Signing};

/// A PEM of RSA-8192 has 6 KiB; more is no key.
const PEM_MAX: u64 = 64 * 1024;

/// Every key. Immutable; a reload makes a new one, and a change of one domain's keys one that shares the others.
///
/// The active RSA key of a domain signs, and below it the active Ed25519 key (`stages`). Where none is active yet, the first
/// by selector that may become it stands in (`wx2` comes before `wx10`).
#[derive(Debug, Default)]
pub struct Keyring {
    domains: HashMap<Domain, Arc<Found>>,
    warnings: Vec<String>,
}

/// One private key.
pub struct Key {
    /// Its selector, the file's name.
    pub selector: String,
    /// What its record publishes.
    pub public: Public,
    /// What it is for.
    pub stage: Stage,
    /// When it got there; `None`: nobody has written that down.
    pub since: Option<Time>,
    /// The selector of the active key whose place it takes once it can.
    pub replaces: Option<String>,
    pub(super) signer: Signer,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}, {})", self.selector, self.public.algorithm, self.stage)
    }
}

/// What is to be sealed by whom.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// `d=`.
    pub domain: &'a Domain,
    /// The selectors that may sign: those that were seen in DNS. `None`: all.
    pub only: Option<&'a [String]>,
    /// What the way of the mail allows.
    pub signing: &'a Signing,
    /// `t=`.
    pub now: Time,
    /// How long the signature is valid.
    pub life: Duration,
}

/// A signature that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// `s=`.
    pub selector: String,
    /// `a=`.
    pub algorithm: &'static str,
}

/// What goes in front of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// `d=`.
    pub domain: Domain,
    /// `DKIM-Signature:` fields.
    pub fields: Vec<u8>,
    /// Which, from the top.
    pub by: Vec<Signed>,
}

impl Sealed {
    /// Nothing: the message leaves unsealed, and the log says so.
    #[must_use]
    pub fn none(domain: Domain) -> Self {
        Self { domain, fields: Vec::new(), by: Vec::new() }
    }
}

impl Keyring {
    /// Reads every `<dir>/<domain>/<selector>.pem`. A directory that is not there holds no keys.
    ///
    /// # Errors
    /// The first key that cannot be used, with what to do: one bad key must not turn into unsigned mail later.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let mut domains = HashMap::new();
        for (name, path) in listed(dir)? {
            if !path.is_dir() {
                continue;
            }
            let domain: Domain = name.parse().map_err(|_| KeyError::Unfit {
                path: path.clone(),
                what: "the directory's name is not a domain".to_owned(),
            })?;
            let found = read_domain(&domain, &path)?;
            domains.insert(domain, Arc::new(found));
        }
        Ok(Self::new(domains))
    }

    /// The same keys, but those of one domain as its directory has them now.
    ///
    /// # Errors
    /// As `load`, about that domain alone.
    pub fn with_domain(&self, dir: &Path, domain: &Domain) -> Result<Self, KeyError> {
        let found = read_domain(domain, &dir.join(domain.as_str()))?;
        let mut domains = self.domains.clone();
        domains.insert(domain.clone(), Arc::new(found));
        Ok(Self::new(domains))
    }

    fn new(mut domains: HashMap<Domain, Arc<Found>>) -> Self {
        domains.retain(|_, found| !found.keys.is_empty());
        let mut sorted: Vec<_> = domains.iter().collect();
        sorted.sort_by_key(|(domain, _)| *domain);
        let warnings = sorted.iter().flat_map(|(_, found)| found.warnings.iter().cloned()).collect();
        Self { domains, warnings }
    }

    /// A ring of one domain's keys.
    #[cfg(test)]
    pub(super) fn of(domain: Domain, keys: Vec<Key>) -> Self {
        Self::new(HashMap::from([(domain, Arc::new(Found { keys, warnings: Vec::new() }))]))
    }

    /// What an administrator should know about the keys.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What an administrator should know where no key seals the relay's own mail.
    #[must_use]
    pub fn without_seal(&self, relay: &Domain) -> Option<String> {
        self.signing(relay).next().is_none().then(|| {
            format!(
                "relay.domain {relay} has no DKIM key: no notification of a failure is sent until it has one, all stay owed. \
                 `waxseal key generate {relay}` makes it, `waxseal domain dns --relay` prints what to publish"
            )
        })
    }

    /// The domains that have keys, in no order.
    pub fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.keys()
    }

    /// The keys of a domain, in the order of preference.
    #[must_use]
    pub fn keys(&self, domain: &Domain) -> &[Key] {
        self.domains.get(domain).map_or(&[], |found| found.keys.as_slice())
    }

    /// The keys that sign for a domain: the active RSA key, and the active Ed25519 key if there is one. Where no RSA key is
    /// active, or none at all, the first that may become it stands in: whether DNS has it is for the judge to say.
    pub fn signing(&self, domain: &Domain) -> impl Iterator<Item = &Key> + use<'_> {
        let keys = self.keys(domain);
        let of = move |rsa: bool, stages: &[Stage]| {
            keys.iter().find(|key| key.public.algorithm.is_rsa() == rsa && stages.contains(&key.stage))
        };
        let young = [Stage::Pending, Stage::Ready];
        let none = !keys.iter().any(|key| key.stage == Stage::Active);
        // Ed25519 alone is believed by few receivers: an RSA key stands in beside an active Ed25519 key, not the reverse.
        let rsa = of(true, &[Stage::Active]).or_else(|| of(true, &young));
        let ed25519 = of(false, &[Stage::Active]).or_else(|| of(false, &young).filter(|_| none));
        rsa.into_iter().chain(ed25519)
    }

    /// The `DKIM-Signature:` fields to put in front of `message`, valid for `life` from `now`.
    ///
    /// # Errors
    /// No key for the domain, or a key that would not sign: the message must not leave.
    pub fn sign(
        &self,
        domain: &Domain,
        message: &[u8],
        now: Time,
        life: Duration,
    ) -> Result<Vec<u8>, SealError> {
        let headers =
            Headers::parse(message, message.len()).map_err(|error| SealError::Failed(error.to_string()))?;
        let body = message.get(headers.body..).unwrap_or_default();
        let signing = Signing::default();
        let order = Order { domain, only: None, signing: &signing, now, life };
        Ok(self.seal(&order, (&headers, body))?.fields)
    }

    /// The same for a message whose header section and body lie apart. Where the way of the mail leaves signing to an
    /// upstream, no field is made.
    ///
    /// # Errors
    /// As `sign`; and `NoneAllowed` where the domain's keys may not sign.
    pub fn seal(
        &self,
        order: &Order<'_>,
        (headers, body): (&Headers<'_>, &[u8]),
    ) -> Result<Sealed, SealError> {
        let Order { domain, only, signing, now, life } = *order;
        let mut sealed = Sealed::none(domain.clone());
        let with_ed25519 = match signing.keys {
            SignWith::None => return Ok(sealed),
            SignWith::Rsa => false,
            SignWith::Both => true,
        };
        if self.keys(domain).is_empty() {
            return Err(SealError::NoKey(domain.clone()));
        }
        let allowed = |key: &&Key| {
            (with_ed25519 || key.public.algorithm != Algorithm::Ed25519)
                && only.is_none_or(|only| only.contains(&key.selector))
        };
        let covered = Covered::new(headers, body, &signing.omit);
        for key in self.signing(domain).filter(allowed) {
            let terms = Terms { domain, selector: &key.selector, now, life };
            sealed.fields.extend_from_slice(&covered.sign(&key.signer, &terms)?);
            let algorithm = key.public.algorithm.signature_tag();
            sealed.by.push(Signed { selector: key.selector.clone(), algorithm });
        }
        if sealed.by.is_empty() {
            return Err(SealError::NoneAllowed(domain.clone()));
        }
        Ok(sealed)
    }
}

/// The keys of one domain, in the order of preference, and what an administrator should know about them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: Vec<Key>,
    warnings: Vec<String>,
}

/// Reads one domain's directory.
pub(super) fn read_domain(domain: &Domain, dir: &Path) -> Result<Found, KeyError> {
    let mut found = Found::default();
    let entries = stages::read(dir)?;
    for (name, path) in listed(dir)? {
        let Some(selector) = name.strip_suffix(".pem") else { continue };
        let unfit = |what: String| KeyError::Unfit { path: path.clone(), what };
        // A selector is one or more labels below _domainkey (RFC 6376 section 3.1).
        if selector.parse::<Domain>().is_err() {
            return Err(unfit("the file's name is not a selector".to_owned()));
        }
        let pem = read_secret(&path)?;
        let (signer, public) = keys::read(&pem).map_err(unfit)?;
        if let Algorithm::Rsa(bits) = public.algorithm
            && bits < RSA_BITS_SOUND
        {
            found.warnings.push(format!(
                "{}: RSA key of {bits} bits: {RSA_BITS_SOUND} are recommended, some receivers want them; make a new one \
                 with `waxseal key rotate {domain}`",
                path.display()
            ));
        }
        let entry = entries.get(selector).filter(|entry| entry.is_of(&public)).cloned().unwrap_or_default();
        let (stage, since, replaces) = (entry.stage, entry.since, entry.replaces);
        found.keys.push(Key { selector: selector.to_owned(), public, stage, since, replaces, signer });
    }
    found.keys.sort_by(|a: &Key, b| natural(&a.selector).cmp(&natural(&b.selector)));
    Ok(found)
}

/// Names and paths in a directory, hidden ones left out, in a settled order.
fn listed(dir: &Path) -> Result<Vec<(String, std::path::PathBuf)>, KeyError> {
    let failed = |source| KeyError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a private key that nobody but its owner may read.
fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let unfit = |what: String| KeyError::Unfit { path: path.to_owned(), what };
    let meta = fs::metadata(path).map_err(failed)?;
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(unfit(format!("mode {mode:04o} lets others read the key; run: chmod 600 {shown}")));
    }
    read_pem(path)
}

/// Reads what may be a private key, and is no larger than one.
pub(super) fn read_pem(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::Io { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > PEM_MAX {
        let what = format!("{length} octets: no private key is that large");
        return Err(KeyError::Unfit { path: path.to_owned(), what });
    }
    fs::read(path).map(Zeroizing::new).map_err(failed)
}

/// A selector's order: text, and numbers by value, so that `wx9` comes before `wx10`.
fn natural(selector: &str) -> Vec<(&str, u64)> {
    let mut parts = Vec::new();
    let mut rest = selector;
    while !rest.is_empty() {
        let (text, tail) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (number, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()));
        parts.push((text, number.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests;
