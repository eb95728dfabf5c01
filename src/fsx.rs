//! The file system, where order and durability matter: atomic replacement, modes of secret files, the lock that keeps
//! a second process out, and the small seam (`Disk`) through which the journal does all its I/O, so that a disk that
//! fails on command can stand behind it.

mod own;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};
use zeroize::Zeroizing;

use self::own::give;

/// Permission bits that let somebody else than the owner and the group's readers in.
const OTHERS: u32 = 0o037;

/// Replaces a file as a whole: a reader, or a crash, sees the old content or the new one, never a part.
///
/// # Errors
/// Whatever the file system said; the old file is then untouched.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = parent(path);
    let temp = temporary(path);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temp)?;
        give(&temp, if path.exists() { path } else { dir })?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temp, path)
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&temp));
    }
    written.and_then(|()| sync_dir(dir))
}

/// The name is the process's own: two processes that write the same file do not write into one another's half.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
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
    give(path, above)?;
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

/// What the journal asks of a disk.
pub trait Disk: Send + Sync + 'static {
    /// A new file with this much room set aside.
    ///
    /// # Errors
    /// Whatever the file system said; `AlreadyExists` if it is there.
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there, to read and to cut.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name in its directory. Durable after `sync_dir`.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a name away. Durable after `sync_dir`.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names durable.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Octets that this process may still use on the file system.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// An open file on a `Disk`.
pub trait DiskFile: Send + Sync {
    /// Writes all of it at this offset, in as few system calls as the kernel allows.
    ///
    /// # Errors
    /// Whatever the file system said; how much was written is then unknown.
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes what was written durable (fdatasync).
    ///
    /// # Errors
    /// After an error nothing is known of what was written since the last sync.
    fn sync(&self) -> io::Result<()>;
    /// Reads up to the buffer's length; 0 at the end.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Octets, set aside or written.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn size(&self) -> io::Result<u64>;
    /// Cuts the file at this length.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn cut(&self, length: u64) -> io::Result<()>;
}

/// Reads exactly as much as the buffer holds.
///
/// # Errors
/// `UnexpectedEof` where the file ends before.
pub fn read_exact_at(file: &dyn DiskFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The machine's own disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        if room > 0 {
            set_aside(&file, room).inspect_err(|_| drop(std::fs::remove_file(path)))?;
        }
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sync_dir(path)
    }

    fn free(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file system without fallocate (tmpfs before 3.5, NFS before 4.2) grows the file as it is written instead.
fn set_aside(file: &File, room: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, room) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}

/// The kernel takes at most so many slices in one call (UIO_MAXIOV).
const SLICES_MAX: usize = 1024;

impl DiskFile for File {
    fn write_at(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        while !slices.is_empty() {
            let now = slices.get(..SLICES_MAX).unwrap_or(slices);
            match rustix::io::pwritev(self, now, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset = offset.saturating_add(written as u64);
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
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

    #[test]
    fn more_slices_than_one_call_takes_are_all_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = LocalDisk.create(&dir.path().join("f"), 0).unwrap();
        let pieces: Vec<[u8; 2]> = (0..3000u16).map(u16::to_be_bytes).collect();
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        file.write_at(&mut slices, 5).unwrap();
        let mut back = vec![0; 6000];
        read_exact_at(&*file, &mut back, 5).unwrap();
        assert_eq!(back, pieces.concat());
    }
}
