//! A disk that fails on command: the k-th thing that changes it, the k-th that only looks, or every read of one file. And a store's lock,
//! waited for.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use waxseal::fsx::{Disk, DiskFile, LocalDisk};
use waxseal::queue::embedded::OpenError;

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With this error, and nothing was done.
    With(Errno),
    /// A write is done by half, then this error.
    Short(Errno),
    /// A sync fails, and the kernel forgets what it could not write: the next sync would say that all is well.
    Forgotten,
}

#[derive(Default)]
struct Plan {
    /// Things done so far that change the disk.
    done: usize,
    fail: Option<(usize, How)>,
    /// Looks at the disk so far.
    looks: usize,
    blind: Option<(usize, Errno)>,
    /// What failed.
    failed: Option<PathBuf>,
    /// Writes to the journal after that.
    later: usize,
    unreadable: Option<(PathBuf, Range<u64>)>,
}

/// The disk.
#[derive(Clone, Default)]
pub struct Faulty(Arc<Mutex<Plan>>);

impl Faulty {
    /// The k-th change fails, from 0.
    pub fn at(k: usize, how: How) -> Self {
        Self(Arc::new(Mutex::new(Plan { fail: Some((k, how)), ..Plan::default() })))
    }

    /// The k-th time that something is opened, listed, measured or read, it fails.
    pub fn blind_at(k: usize, error: Errno) -> Self {
        Self(Arc::new(Mutex::new(Plan { blind: Some((k, error)), ..Plan::default() })))
    }

    /// From now on this file cannot be read.
    pub fn spoil(&self, path: &Path) {
        self.spoil_at(path, 0..u64::MAX);
    }

    /// From now on these octets of this file cannot be read.
    pub fn spoil_at(&self, path: &Path, at: Range<u64>) {
        self.0.lock().unwrap().unreadable = Some((path.to_owned(), at));
    }

    /// The file that the failure hit, if it came to that.
    pub fn failed(&self) -> Option<PathBuf> {
        self.0.lock().unwrap().failed.clone()
    }

    /// How often the journal was written or synced after the failure.
    pub fn later(&self) -> usize {
        self.0.lock().unwrap().later
    }

    /// Counts a change; answers how it is to fail.
    fn change(&self, path: &Path) -> Option<How> {
        let mut plan = self.0.lock().unwrap();
        let at = plan.done;
        plan.done += 1;
        if plan.failed.is_some() && is_segment(path) {
            plan.later += 1;
        }
        let (_, how) = plan.fail.filter(|(k, _)| *k == at)?;
        plan.failed = Some(path.to_owned());
        Some(how)
    }

    fn try_to(&self, path: &Path) -> io::Result<()> {
        self.change(path).map_or(Ok(()), |how| Err(error(how)))
    }

    /// Counts a look; one that takes no descriptor cannot fail for want of one, and does not count then.
    fn look(&self, path: &Path, opens: bool) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        if !opens && plan.blind.is_some_and(|(_, error)| error == Errno::MFILE) {
            return Ok(());
        }
        let at = plan.looks;
        plan.looks += 1;
        let Some((_, error)) = plan.blind.filter(|(k, _)| *k == at) else { return Ok(()) };
        plan.failed = Some(path.to_owned());
        Err(error.into())
    }

    fn file(&self, path: &Path, inner: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(File { disk: self.clone(), path: path.to_owned(), inner, unsynced: Mutex::default() })
    }
}

/// Whether a file is a part of the journal.
fn is_segment(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("seg-") && name.ends_with(".log")
}

fn error(how: How) -> io::Error {
    match how {
        How::With(error) | How::Short(error) => error.into(),
        How::Forgotten => Errno::IO.into(),
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn DiskFile>> {
        self.try_to(path)?;
        Ok(self.file(path, LocalDisk.create(path, room)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.look(path, true)?;
        Ok(self.file(path, LocalDisk.open(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.try_to(to)?;
        LocalDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        // What is removed is no journal any more.
        self.try_to(&path.with_extension("gone"))?;
        LocalDisk.remove(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.try_to(path)?;
        LocalDisk.sync_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.look(dir, true)?;
        LocalDisk.list(dir)
    }
    fn free(&self, path: &Path) -> io::Result<u64> {
        self.look(path, false)?;
        LocalDisk.free(path)
    }
}

struct File {
    disk: Faulty,
    path: PathBuf,
    inner: Box<dyn DiskFile>,
    /// Where it was written since the last sync.
    unsynced: Mutex<Vec<(u64, usize)>>,
}

impl DiskFile for File {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        match self.disk.change(&self.path) {
            // A failure of the sync is meant.
            None | Some(How::Forgotten) => {
                self.unsynced.lock().unwrap().push((offset, all.len()));
                self.inner.write_at(slices, offset)
            }
            Some(short @ How::Short(_)) => {
                self.inner.write_at(&mut [IoSlice::new(&all[..all.len() / 2])], offset)?;
                Err(error(short))
            }
            Some(how) => Err(error(how)),
        }
    }
    fn sync(&self) -> io::Result<()> {
        match self.disk.change(&self.path) {
            None => {
                self.unsynced.lock().unwrap().clear();
                self.inner.sync()
            }
            Some(How::Forgotten) => {
                for (offset, length) in self.unsynced.lock().unwrap().drain(..) {
                    self.inner.write_at(&mut [IoSlice::new(&vec![0; length])], offset)?;
                }
                Err(error(How::Forgotten))
            }
            Some(how) => Err(error(how)),
        }
    }
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let hit = |(path, at): &(PathBuf, Range<u64>)| {
            *path == self.path && at.start < offset + into.len() as u64 && offset < at.end
        };
        if self.disk.0.lock().unwrap().unreadable.as_ref().is_some_and(hit) {
            return Err(Errno::IO.into());
        }
        self.disk.look(&self.path, false)?;
        self.inner.read_at(into, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.disk.look(&self.path, false)?;
        self.inner.size()
    }
    fn cut(&self, length: u64) -> io::Result<()> {
        self.disk.try_to(&self.path)?;
        self.inner.cut(length)
    }
}

/// Opens a store once nobody else holds it: the threads of the one before let go of it a moment after it is dropped, and a program
/// that another test starts holds this process's locks until it is that program.
pub fn unlocked<T>(open: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match open() {
            Err(OpenError::Locked(_)) if Instant::now() < deadline => std::thread::yield_now(),
            opened => return opened,
        }
    }
}
