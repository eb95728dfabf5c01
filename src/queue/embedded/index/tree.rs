//! sled as the index uses it: one tree of small values, and the copy of it that gives disk back. sled itself never does: a
//! backlog of a million leaves its file as large as it ever was. When it has grown far beyond what lives in it, everything
//! is copied into a new one, a little at a time, beside the work; what is written meanwhile is written to both. Then the
//! copy takes the old one's place. A kill in between leaves the old one, or none: then the index is rebuilt from the journal.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rows::doubt;

/// How many times what lives in it sled's files may take.
const GROWTH_MAX: u64 = 4;
/// Writes between two looks at the size of sled's files.
const LOOK_EVERY: u64 = 4096;
/// After a copy that could not be made it is looked at so much less often, down to this.
const PATIENCE: u64 = 16;
const LOOK_SELDOM: u64 = LOOK_EVERY * 1024;
/// Room on the disk that a copy begins with, in terms of what lives.
const COPY_ROOM: u64 = 2;
/// Entries copied at once: the index's thread has other work.
const COPY_AT_ONCE: usize = 256;
/// Times that a directory just closed is asked for again, and the wait between two of them: sled's threads let go of its
/// lock a moment after it is dropped.
const LOCKED_TRIES: u32 = 500;
const LOCKED_WAIT: Duration = Duration::from_millis(10);
/// Where octets that live are counted. Written with `applied`, so after a kill it is what it was a little earlier.
const LIVE: &[u8] = b"live";

/// Where a tree lies and what it may take.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// sled's directory.
    pub(super) dir: PathBuf,
    /// Octets that sled may keep in memory.
    pub(super) cache: u64,
    /// Octets that its files may take whatever lives in them.
    pub(super) slack: u64,
}

/// The tree.
pub(super) struct Tree {
    site: Site,
    /// `None` only while a copy takes its place.
    db: Option<sled::Db>,
    /// Octets of keys and values.
    live: Cell<u64>,
    /// Writes since its size was last looked at.
    writes: Cell<u64>,
    /// Writes until it is looked at again.
    every: u64,
    /// Octets its files took when it was last made anew.
    settled: u64,
    copy: Option<Copy>,
}

/// A copy on its way.
struct Copy {
    db: sled::Db,
    /// The last key that was copied.
    last: Vec<u8>,
    /// Something could not be written to it.
    broken: Cell<bool>,
}

impl Tree {
    /// Opens it; made if it is not there.
    pub(super) fn open(site: Site) -> sled::Result<Self> {
        drop(clear(&site.copy()));
        drop(clear(&site.old()));
        let db = site.open(&site.dir)?;
        let live = db.get(LIVE)?.and_then(|octets| Some(u64::from_be_bytes(*octets.first_chunk()?)));
        let (live, writes) = (Cell::new(live.unwrap_or_default()), Cell::new(LOOK_EVERY));
        Ok(Self { site, db: Some(db), live, writes, every: LOOK_EVERY, settled: 0, copy: None })
    }

    /// sled's, to read from.
    pub(super) fn read(&self) -> sled::Result<&sled::Db> {
        self.db.as_ref().ok_or_else(|| doubt("the index is being replaced"))
    }

    /// Writes a value; answers the one that stood there.
    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> sled::Result<Option<sled::IVec>> {
        if let Some(copy) = &self.copy {
            copy.check(copy.db.insert(key, value));
        }
        let old = self.read()?.insert(key, value)?;
        self.count(key, Some(value), old.as_deref());
        Ok(old)
    }

    /// Takes a key away.
    pub(super) fn remove(&self, key: &[u8]) -> sled::Result<()> {
        if let Some(copy) = &self.copy {
            copy.check(copy.db.remove(key));
        }
        let old = self.read()?.remove(key)?;
        self.count(key, None, old.as_deref());
        Ok(())
    }

    /// Hands what was written to the system. This is not a sync.
    pub(super) fn flush(&self) -> sled::Result<()> {
        self.read()?.flush().map(drop)
    }

    /// Writes down what lives, for the next start.
    pub(super) fn note_live(&self) -> sled::Result<()> {
        self.insert(LIVE, &self.live.get().to_be_bytes()).map(drop)
    }

    /// Whether `renew` has something to do.
    pub(super) fn busy(&self) -> bool {
        self.copy.is_some() || self.writes.get() >= self.every
    }

    /// Looks at the size of sled's files from time to time, and a little at a time makes them anew where they have grown too
    /// large. `spare` says how many octets the disk has to spare. A copy that cannot be made is given up: nothing depends on it.
    pub(super) fn renew(&mut self, spare: &dyn Fn() -> u64) -> sled::Result<()> {
        let went = match self.copy.take() {
            Some(copy) => self.go_on(copy),
            None => self.look(spare),
        };
        match went {
            Ok(()) => Ok(()),
            Err(error) if self.db.is_none() => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the index could not be made smaller; tried again later");
                self.copy = None;
                self.writes.set(0);
                self.every = (self.every * PATIENCE).min(LOOK_SELDOM);
                drop(clear(&self.site.copy()));
                Ok(())
            }
        }
    }

    fn count(&self, key: &[u8], new: Option<&[u8]>, old: Option<&[u8]>) {
        let octets = |value: Option<&[u8]>| value.map_or(0, |value| (key.len() + value.len()) as u64);
        self.live.set((self.live.get() + octets(new)).saturating_sub(octets(old)));
        self.writes.set(self.writes.get() + 1);
    }

    fn look(&mut self, spare: &dyn Fn() -> u64) -> sled::Result<()> {
        if self.writes.get() < self.every {
            return Ok(());
        }
        self.writes.set(0);
        let (size, live) = (self.read()?.size_on_disk()?, self.live.get());
        // What a new one took is the best there is, whatever lives in it.
        let small = size <= self.site.slack || size <= GROWTH_MAX * live || size <= 2 * self.settled;
        if small || spare() < COPY_ROOM * live {
            return Ok(());
        }
        tracing::info!(octets = size, live, "the index is made anew to give disk back");
        // What an earlier copy left behind must not come back to life in this one.
        clear(&self.site.copy())?;
        let db = self.site.open(&self.site.copy())?;
        self.copy = Some(Copy { db, last: Vec::new(), broken: Cell::new(false) });
        Ok(())
    }

    fn go_on(&mut self, mut copy: Copy) -> sled::Result<()> {
        let mut copied = 0;
        for entry in self.read()?.range(copy.last.clone()..).take(COPY_AT_ONCE) {
            let (key, value) = entry?;
            copy.db.insert(&key, value)?;
            copied += 1;
            copy.last = [&*key, &[0]].concat();
        }
        if copy.broken.get() {
            return Err(doubt("a change could not be written to the copy"));
        }
        if copied == COPY_AT_ONCE {
            self.copy = Some(copy);
            return Ok(());
        }
        copy.db.flush()?;
        drop(copy);
        self.replace()
    }

    /// Puts the copy into the old one's place.
    fn replace(&mut self) -> sled::Result<()> {
        clear(&self.site.old())?;
        self.db = None;
        fs::rename(&self.site.dir, self.site.old())?;
        fs::rename(self.site.copy(), &self.site.dir)?;
        drop(clear(&self.site.old()));
        let db = self.site.open(&self.site.dir)?;
        self.settled = db.size_on_disk()?;
        self.every = LOOK_EVERY;
        self.db = Some(db);
        tracing::info!(octets = self.settled, "the index was made anew");
        Ok(())
    }
}

impl Copy {
    fn check<T>(&self, written: sled::Result<T>) {
        if let Err(error) = written {
            tracing::warn!(%error, "a change could not be written to the index's copy");
            self.broken.set(true);
        }
    }
}

impl Site {
    /// Where the copy is made.
    fn copy(&self) -> PathBuf {
        self.dir.with_extension("next")
    }

    /// Where the old one stands until it is removed.
    fn old(&self) -> PathBuf {
        self.dir.with_extension("old")
    }

    fn open(&self, dir: &Path) -> sled::Result<sled::Db> {
        let mut tries = 0;
        loop {
            let config = sled::Config::new().path(dir).cache_capacity(self.cache).flush_every_ms(None);
            match config.open() {
                Err(sled::Error::Io(error)) if is_locked(&error) && tries < LOCKED_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCKED_WAIT);
                }
                opened => return opened,
            }
        }
    }
}

/// sled says it in words only.
fn is_locked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn clear(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEPT: u32 = 1000;

    fn site(dir: &Path) -> Site {
        Site { dir: dir.join("index"), cache: 1 << 20, slack: 0 }
    }

    fn key(n: u32) -> Vec<u8> {
        [b"m".as_slice(), &n.to_be_bytes()].concat()
    }

    fn content(tree: &Tree) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let pair = |entry: sled::Result<(sled::IVec, sled::IVec)>| {
            entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()
        };
        tree.read().unwrap().iter().map(pair).collect()
    }

    /// A tree that held a backlog, of which little is left.
    fn drained(dir: &Path) -> Tree {
        let tree = Tree::open(site(dir)).unwrap();
        for n in 0..20_000 {
            tree.insert(&key(n), &[7; 800]).unwrap();
        }
        for n in KEPT..20_000 {
            tree.remove(&key(n)).unwrap();
        }
        tree.flush().unwrap();
        tree
    }

    #[test]
    fn disk_is_given_back_and_what_is_written_meanwhile_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = drained(dir.path());
        let before = tree.read().unwrap().size_on_disk().unwrap();
        assert!(before > GROWTH_MAX * tree.live.get(), "sled gives nothing back by itself: {before}");
        let mut steps = 0;
        while tree.busy() {
            tree.renew(&|| u64::MAX).unwrap();
            steps += 1;
            if steps == 2 {
                tree.insert(&key(3), b"changed behind the copy").unwrap();
                tree.insert(&key(KEPT - 1), b"changed before the copy").unwrap();
                tree.remove(&key(4)).unwrap();
                tree.remove(&key(KEPT - 2)).unwrap();
                tree.insert(&key(90_000), b"new").unwrap();
            }
        }
        assert!(steps > 3, "a little at a time");
        let after = tree.read().unwrap().size_on_disk().unwrap();
        assert!(!site(dir.path()).old().exists() && !site(dir.path()).copy().exists());
        assert!(after * GROWTH_MAX < before, "{before} octets became {after}");
        let mut expected: BTreeMap<_, _> = (0..KEPT).map(|n| (key(n), vec![7; 800])).collect();
        expected.insert(key(3), b"changed behind the copy".to_vec());
        expected.insert(key(KEPT - 1), b"changed before the copy".to_vec());
        expected.insert(key(90_000), b"new".to_vec());
        expected.remove(&key(4));
        expected.remove(&key(KEPT - 2));
        assert_eq!(content(&tree), expected);
        let octets: usize = expected.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert_eq!(tree.live.get(), octets as u64, "what lives is counted exactly");
    }

    #[test]
    fn a_copy_that_a_kill_left_behind_is_removed_and_the_old_one_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = drained(dir.path());
        tree.note_live().unwrap();
        let live = tree.live.get();
        tree.renew(&|| u64::MAX).unwrap();
        tree.renew(&|| u64::MAX).unwrap();
        assert!(site(dir.path()).copy().exists(), "it is under way");
        drop(tree);
        let tree = Tree::open(site(dir.path())).unwrap();
        assert!(!site(dir.path()).copy().exists());
        assert_eq!(content(&tree).len(), KEPT as usize + 1, "and the count of what lives");
        assert_eq!(tree.live.get() + 12, live, "it was written down, its own entry not yet in it");
    }

    #[test]
    fn a_copy_that_cannot_be_written_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = drained(dir.path());
        let before = tree.read().unwrap().size_on_disk().unwrap();
        tree.renew(&|| 100).unwrap();
        assert!(tree.copy.is_none(), "the disk has no room for a copy");
        tree.writes.set(LOOK_EVERY);
        fs::write(site(dir.path()).copy(), b"a file stands where the copy would be made").unwrap();
        while tree.busy() {
            tree.renew(&|| u64::MAX).unwrap();
        }
        assert_eq!(content(&tree).len(), KEPT as usize);
        assert_eq!(tree.read().unwrap().size_on_disk().unwrap(), before);
        assert!(tree.every > LOOK_EVERY, "and not tried again at once");
    }
}
