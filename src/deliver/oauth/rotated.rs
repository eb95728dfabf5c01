//! Refresh tokens that an endpoint gave in the place of those that a person put into a file (RFC 6749 section 6): kept in the state
//! directory, each under the digest of the person's own. So a new one in the file is used at once, and the configuration, which
//! the daemon may not be allowed to write, stays as it is.
//!
//! A tenant that is gone, or has another route, may be back tomorrow, and the token in its file is then worth nothing without
//! the one kept here. So one that no file names is kept for `UNNAMED` more, from when that was first seen: the time of an empty file
//! beside it says when that was.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};

use crate::fsx;
use crate::mail::secret::{ExposeSecret, SecretString};
use crate::mail::time::Time;
use crate::tenant::oauth::Grant;
use crate::tenant::{Directory, Route};

/// Longest token, as in a tenant's file.
const TOKEN_MAX: usize = 4096;
/// How long one is kept that no tenant's file names any more.
const UNNAMED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Those kept.
#[derive(Debug)]
pub(super) struct Rotated {
    dir: PathBuf,
    /// By digest: those that could not be written.
    unwritten: Mutex<HashMap<String, SecretString>>,
}

impl Rotated {
    /// Below this state directory.
    pub(super) fn new(state: &Path) -> Self {
        Self { dir: state.join("secrets/oauth"), unwritten: Mutex::default() }
    }

    /// The token that is shown now for the one in the tenant's file.
    ///
    /// # Errors
    /// One was kept, or may have been, and cannot be read. The one that it replaced must not be shown in its place: an endpoint takes
    /// that for theft, and takes the grant back (RFC 9700 section 4.14.2).
    pub(super) async fn current(&self, given: &SecretString) -> io::Result<SecretString> {
        let name = name(given);
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(token) = unwritten {
            return Ok(token);
        }
        let path = self.dir.join(name);
        let read = tokio::task::spawn_blocking(move || read(&path)).await.map_err(io::Error::other).flatten();
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(given.clone()),
            other => other,
        }
    }

    /// The endpoint replaced it by this one. What cannot be written down is used until the process ends.
    pub(super) async fn keep(&self, given: &SecretString, token: SecretString) {
        let (dir, name) = (self.dir.clone(), name(given));
        let (path, text) = (dir.join(&name), token.clone());
        let write = move || -> io::Result<()> {
            fsx::create_dir(&dir)?;
            fsx::write_atomically(&path, text.expose_secret().as_bytes(), 0o600)
        };
        let written = tokio::task::spawn_blocking(write).await.map_err(io::Error::other).flatten();
        let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) => drop(unwritten.remove(&name)),
            Err(error) => {
                let dir = self.dir.display();
                tracing::error!(%error, "a refresh token that was replaced cannot be written below {dir}: it is lost with this process");
                unwritten.insert(name, token);
            }
        }
    }
}

impl Rotated {
    /// Takes note of those that no tenant's file names, and removes those of which that was first seen long ago.
    pub(super) async fn tidy(&self, tenants: &Directory, now: Time) {
        let (dir, named) = (self.dir.clone(), named(tenants));
        let tidying = tokio::task::spawn_blocking(move || sweep(&dir, &named, now));
        if let Ok(Err(error)) = tidying.await
            && error.kind() != io::ErrorKind::NotFound
        {
            let dir = self.dir.display();
            tracing::warn!(%error, "refresh tokens below {dir} that nobody uses any more cannot be removed");
        }
    }
}

/// The names of all tokens that tenants' files hold.
fn named(tenants: &Directory) -> HashSet<String> {
    let routes = tenants.tenants().flat_map(|tenant| {
        std::iter::once(&tenant.route).chain(tenant.fallbacks.iter().map(|fallback| &fallback.route))
    });
    let grants = routes.filter_map(|route| match &**route {
        Route::Upstream(upstream) => upstream.oauth.as_ref().map(|oauth| &oauth.grant),
        Route::Mx => None,
    });
    let tokens = grants.filter_map(|grant| match grant {
        Grant::RefreshToken(given) => Some(name(given)),
        Grant::ClientCredentials => None,
    });
    tokens.collect()
}

fn sweep(dir: &Path, named: &HashSet<String>, now: Time) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Only what can be one of ours.
        if name.len() != 64 || !name.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            continue;
        }
        let mark = dir.join(format!("{name}.unnamed"));
        let since = seen(&mark)?;
        if named.contains(&name) {
            if since.is_some() {
                std::fs::remove_file(&mark)?;
            }
            continue;
        }
        let Some(since) = since else {
            let file = std::fs::File::create(&mark)?;
            file.set_modified(UNIX_EPOCH + Duration::from_millis(now.0))?;
            continue;
        };
        if now.since(since) > UNNAMED {
            // The mark first: with it alone left, a token kept later would be removed at once.
            std::fs::remove_file(&mark)?;
            std::fs::remove_file(entry.path())?;
            tracing::info!(
                file = name,
                "a refresh token is removed that no tenant's file has named for long"
            );
        }
    }
    Ok(())
}

/// When it was first seen that nobody names the token, if that was.
fn seen(mark: &Path) -> io::Result<Option<Time>> {
    let modified = match std::fs::metadata(mark) {
        Ok(metadata) => metadata.modified()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Some(Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
}

fn name(given: &SecretString) -> String {
    let digest = digest(&SHA256, given.expose_secret().as_bytes());
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

fn read(path: &Path) -> io::Result<SecretString> {
    fsx::check_secret_mode(path)?;
    let text = std::fs::read_to_string(path)?;
    if is_sound(&text) {
        Ok(text.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "no token"))
    }
}

/// Whether a text can be a refresh token.
pub(super) fn is_sound(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_MAX && !text.chars().any(char::is_control)
}
