//! The seam through which the journal does all its I/O, so that a disk that fails on command, or keeps only what was synced,
//! can stand behind it.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::sync_dir;

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
    /// What is in a directory.
    ///
    /// # Errors
    /// Whatever the file system said.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
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

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
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
