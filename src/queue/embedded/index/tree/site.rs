//! Where the tree lies: one of two directories, and a file that says which.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::rows::doubt;
use crate::fsx;

/// Times that a directory just closed is asked for again, and the wait between two of them: sled's threads let go of its
/// lock a moment after it is dropped.
const LOCKED_TRIES: u32 = 500;
const LOCKED_WAIT: Duration = Duration::from_millis(10);

/// Where a tree lies and what it may take.
#[derive(Clone, Debug)]
pub(in super::super) struct Site {
    /// Where the two directories are.
    pub(in super::super) dir: PathBuf,
    /// Octets that sled may keep in memory.
    pub(in super::super) cache: u64,
    /// Octets that its files may take whatever lives in them.
    pub(in super::super) slack: u64,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    const ALL: [Self; 2] = [Self::A, Self::B];

    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl Site {
    /// sled's directory.
    pub(super) fn path(&self, side: Side) -> PathBuf {
        self.dir.join(side.name())
    }

    /// Which counts.
    pub(super) fn current(&self) -> sled::Result<Side> {
        match fs::read(self.says()) {
            Ok(said) => {
                let side = Side::ALL.into_iter().find(|side| side.name().as_bytes() == said);
                side.ok_or_else(|| doubt("what says where the index lies says nothing"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Side::A),
            Err(error) => Err(error.into()),
        }
    }

    /// From now on this one counts, after a power cut too.
    pub(super) fn choose(&self, side: Side) -> io::Result<()> {
        fsx::write_atomically(&self.says(), side.name().as_bytes(), 0o600)
    }

    pub(super) fn open(&self, side: Side) -> sled::Result<sled::Db> {
        let dir = self.path(side);
        let mut tries = 0;
        loop {
            let config = sled::Config::new().path(&dir).cache_capacity(self.cache).flush_every_ms(None);
            match config.open() {
                Err(sled::Error::Io(error)) if is_locked(&error) && tries < LOCKED_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCKED_WAIT);
                }
                opened => return opened,
            }
        }
    }

    /// Syncs every file of sled's, and the directories that name them.
    pub(super) fn sync(&self, side: Side) -> io::Result<()> {
        let mut paths = vec![self.dir.clone(), self.path(side)];
        while let Some(path) = paths.pop() {
            fs::File::open(&path)?.sync_all()?;
            if path != self.dir && path.is_dir() {
                for entry in fs::read_dir(&path)? {
                    paths.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    fn says(&self) -> PathBuf {
        self.dir.join("current")
    }
}

/// sled says it in words only.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// Removes a directory with all that is in it, if it is there.
pub(in super::super) fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
