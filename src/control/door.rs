//! The sockets of the admin API, and who is at the other end.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, UnixListener};

use crate::config::Admin;

/// Bound sockets that do not serve yet.
#[derive(Debug)]
pub struct Doors {
    pub(super) socket: UnixListener,
    pub(super) path: Place,
    pub(super) http: Option<TcpListener>,
}

impl Doors {
    /// Binds the unix socket (mode 0600, in a directory of mode 0700 if it must be made) and the TCP address, if any.
    ///
    /// # Errors
    /// Which of them cannot be bound, and why.
    pub async fn bind(admin: &Admin) -> io::Result<Self> {
        let named = |what: &dyn std::fmt::Display, error: io::Error| {
            io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        let socket = bind(&admin.socket).map_err(|error| named(&admin.socket.display(), error))?;
        let http = match admin.http {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| named(&address, error))?),
            None => None,
        };
        Ok(Self { socket, path: Place::of(&admin.socket)?, http })
    }

    /// Where metrics and health are served by TCP.
    #[must_use]
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|socket| socket.local_addr().ok())
    }
}

/// A socket in the file system, known again by its inode.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    inode: (u64, u64),
}

impl Place {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), inode: (found.dev(), found.ino()) })
    }

    /// Removes it, unless a successor has put its own there: that one may start as soon as the store is closed, which is before
    /// the last answers.
    pub(super) fn leave(self) {
        if Self::of(&self.path).is_ok_and(|now| now.inode == self.inode) {
            let _ = fs::remove_file(self.path);
        }
    }
}

/// Binds under another name and renames: nobody ever sees the socket with a wider mode, and one left by a crash is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers there"));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let socket = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs::rename(&beside, path)?;
    Ok(socket)
}

/// Who is at the other end of the unix socket, as the kernel says (SO_PEERCRED).
#[derive(Clone, Debug)]
pub struct Peer {
    /// `uid 0 (pid 4711)`.
    pub actor: String,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let actor = match stream.io().peer_cred() {
            Ok(peer) => match peer.pid() {
                Some(pid) => format!("uid {} (pid {pid})", peer.uid()),
                None => format!("uid {}", peer.uid()),
            },
            Err(_) => "unknown".to_owned(),
        };
        Self { actor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store's lock is free before the last answers: a successor may have bound its own socket by then.
    #[tokio::test]
    async fn an_ending_daemon_leaves_its_successors_socket() {
        let dir = tempfile::tempdir().unwrap();
        let admin = Admin { socket: dir.path().join("admin.sock"), http: None };
        let Doors { socket, path, .. } = Doors::bind(&admin).await.unwrap();
        drop(socket);
        let successor = Doors::bind(&admin).await.unwrap();
        path.leave();
        assert!(admin.socket.exists(), "the successor answers there");
        successor.path.leave();
        assert!(!admin.socket.exists(), "its own goes with it");
    }
}
