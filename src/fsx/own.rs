//! Whose a file is that root makes.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

/// What root makes belongs to whom its like belongs to: the relay's own user must read what an administrator made by `sudo`.
/// The open file is given, not its name, which somebody might have put another file behind.
pub(super) fn give(made: &File, like: &Metadata) -> io::Result<()> {
    let now = made.metadata()?;
    if !rustix::process::geteuid().is_root() {
        // Of one's own groups one may give it to any: then those who read the like of it read it too.
        let other = like.gid() != now.gid() && like.is_file();
        drop(other.then(|| std::os::unix::fs::fchown(made, None, Some(like.gid()))));
        return Ok(());
    }
    if (like.uid(), like.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    std::os::unix::fs::fchown(made, Some(like.uid()), Some(like.gid()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{create_dir, write_atomically};
    use super::*;

    #[test]
    fn what_root_makes_belongs_to_whom_its_like_belongs_to() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(12_345), Some(12_346)).unwrap();
            (12_345, 12_346)
        } else {
            (rustix::process::geteuid().as_raw(), std::fs::metadata(dir.path()).unwrap().gid())
        };
        let made = dir.path().join("keys/acme.test");
        create_dir(&made).unwrap();
        let key = made.join("wx1.pem");
        write_atomically(&key, b"a", 0o600).unwrap();
        write_atomically(&key, b"b", 0o600).unwrap();
        for path in [&dir.path().join("keys"), &made, &key] {
            let meta = std::fs::metadata(path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (uid, gid), "{}", path.display());
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&made), mode(&key)), (0o700, 0o600));
    }
}
