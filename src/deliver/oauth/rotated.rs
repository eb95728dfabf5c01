//! Refresh tokens that an endpoint gave in the place of those that a person put into a file (RFC 6749 section 6): kept in the state
//! directory, each under the digest of the person's own. So a new one in the file is used at once, and the configuration, which
//! the daemon may not be allowed to write, stays as it is.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};

use crate::fsx;
use crate::mail::secret::{ExposeSecret, SecretString};

/// Longest token, as in a tenant's file.
const TOKEN_MAX: usize = 4096;

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
    pub(super) async fn current(&self, given: &SecretString) -> SecretString {
        let name = name(given);
        let unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(token) = unwritten {
            return token;
        }
        let path = self.dir.join(name);
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        read.ok().flatten().unwrap_or_else(|| given.clone())
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

fn name(given: &SecretString) -> String {
    let digest = digest(&SHA256, given.expose_secret().as_bytes());
    digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

fn read(path: &Path) -> Option<SecretString> {
    fsx::check_secret_mode(path).ok()?;
    let text = std::fs::read_to_string(path).ok()?;
    is_sound(&text).then(|| text.into())
}

/// Whether a text can be a refresh token.
pub(super) fn is_sound(text: &str) -> bool {
    !text.is_empty() && text.len() <= TOKEN_MAX && !text.chars().any(char::is_control)
}
