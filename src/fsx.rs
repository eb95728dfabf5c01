//! The file system, where order and durability matter: atomic replacement, modes of secret files, the lock that keeps
//! a second process out, and the small seam (`Disk`) through which the journal does all its I/O, so that a disk that
//! fails on command can stand behind it.

mod disk;
mod own;

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use zeroize::Zeroizing;

pub use self::disk::{Disk, DiskFile, LocalDisk, read_exact_at};
use self::own::give;

/// Permission bits that let somebody else than the owner and the group's readers in.
const OTHERS: u32 = 0o037;
/// The bit that lets the group read.
const GROUP_READS: u32 = 0o040;

/// Replaces a file as a whole: a reader, or a crash, sees the old content or the new one, never a part. Who could read the old one by
/// its group can read the new one.
///
/// # Errors
/// Whatever the file system said; the old file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = parent(path);
    let temp = temporary(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
        let old = std::fs::metadata(path).ok();
        give(&file, &old.clone().map_or_else(|| std::fs::metadata(dir), Ok)?)?;
        let gid = file.metadata()?.gid();
        let group = old.filter(|old| old.gid() == gid).map_or(0, |old| old.mode() & GROUP_READS);
        if group & !mode != 0 {
            file.set_permissions(Permissions::from_mode(mode | group))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&temp));
    }
    written.and_then(|()| sync_dir(dir))
}

/// A name that nobody can guess: what somebody else put there is never written to, and two writers of a file keep apart.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Makes a directory, and those above it, for the owner alone; one that exists is left as it is.
///
/// # Errors
/// Whatever the file system said.
pub fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    create_dir(above)?;
    match DirBuilder::new().mode(0o700).create(path) {
        // Another was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made?,
    }
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::DIRECTORY).bits()).unwrap_or(0);
    let made = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    give(&made, &std::fs::metadata(above)?)?;
    sync_dir(above)
}

/// Makes names made, renamed or removed in this directory durable.
///
/// # Errors
/// Whatever the file system said.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Refuses a secret that others can read, or that the group can change.
///
/// # Errors
/// `PermissionDenied` with the mode in its text, or whatever `stat` said.
pub fn check_secret_mode(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.mode() & 0o777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let text = format!("{} has mode {mode:04o}; a secret needs 0600 or 0640", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// The secret of this name in the state directory, made if there is none yet.
///
/// # Errors
/// As `secret`, with the file's name.
pub fn secret_of(state: &Path, name: &str) -> io::Result<Zeroizing<[u8; SECRET]>> {
    let path = state.join("secrets").join(name);
    secret(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Octets of a secret that we make ourselves.
pub const SECRET: usize = 32;

/// A secret of ours, such as `<state>/secrets/control`: what the file holds, or, where there is none, 32 random octets that are then
/// in it, mode 0600. Two processes that both find none end with the same one.
///
/// # Errors
/// Whatever the file system said; `PermissionDenied` where others can read it, `InvalidData` where it is no secret.
pub fn secret(path: &Path) -> io::Result<Zeroizing<[u8; SECRET]>> {
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(octets) => {
            check_secret_mode(path)?;
            let what = || io::Error::new(io::ErrorKind::InvalidData, "not a secret of 32 octets");
            Ok(Zeroizing::new(octets.as_slice().try_into().map_err(|_| what())?))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(path),
        Err(error) => Err(error),
    }
}

fn make_secret(path: &Path) -> io::Result<Zeroizing<[u8; SECRET]>> {
    create_dir(parent(path))?;
    let made = Zeroizing::new(rand::random::<[u8; SECRET]>());
    let temp = parent(path).join(format!(".{:016x}", rand::random::<u64>()));
    write_atomically(&temp, &*made, 0o600)?;
    // A link does not replace: whoever comes second takes the first one's.
    let linked = std::fs::hard_link(&temp, path);
    std::fs::remove_file(&temp)?;
    match linked {
        Ok(()) => sync_dir(parent(path)).map(|()| made),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => secret(path),
        Err(error) => Err(error),
    }
}

/// Held while this process owns a directory; the kernel lets go when the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` where another process (or another opener in this one) holds it.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock of a directory, and waits while another holds it: for changes that are short.
    ///
    /// # Errors
    /// Whatever the file system said.
    pub fn of_dir(path: &Path) -> io::Result<Self> {
        // The directory itself is locked: a lock file made by root could not be opened by the daemon's user.
        let file = File::open(path)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_atomically(&path, b"one", 0o600).unwrap();
        write_atomically(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    /// Bug: a password changed by root was for root alone where the group's right to read was how the daemon read it.
    #[test]
    fn who_could_read_a_file_by_its_group_can_read_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (was, next, why) in
            [(0o640, 0o640, "the group"), (0o666, 0o640, "others never"), (0o600, 0o600, "nobody")]
        {
            write_atomically(&path, b"one", 0o600).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(was)).unwrap();
            write_atomically(&path, b"two", 0o600).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, next, "{why}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for (mode, good) in [(0o600, true), (0o640, true), (0o400, true), (0o660, false), (0o644, false)] {
            write_atomically(&path, b"x", 0o600).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(check_secret_mode(&path).is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn a_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets/control");
        let made: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| secret(&path).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(made.windows(2).all(|two| two[0] == two[1]), "whoever comes second takes the first one's");
        assert_eq!(
            secret(&path).unwrap(),
            made[0],
            "and it stays: what was made with it is in other people's hands"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(secret(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(secret(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::take(&path).unwrap();
        assert_eq!(Lock::take(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        Lock::take(&path).unwrap();
    }
}
