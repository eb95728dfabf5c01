//! sled as the index uses it: one tree of small values, and the copy of it that gives disk back. sled itself never does: a
//! backlog of a million leaves its file as large as it ever was. When it has grown far beyond what lives in it, everything
//! is copied into a new one, a little at a time, beside the work; what is written meanwhile is written to both. Then the
//! new one is the one that counts, and the old one goes. A kill in between leaves the old one in force.

mod site;

use std::cell::Cell;
use std::thread::JoinHandle;

use self::site::Side;
pub(super) use self::site::{Site, clear};
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
/// Entries copied between two syncs of the copy: much to be synced at once would hold up the journal's syncs.
const FLUSH_EVERY: usize = 4096;
/// Where octets that live are counted. Written with `applied`, so after a kill it is what it was a little earlier.
const LIVE: &[u8] = b"live";

/// The tree.
pub(super) struct Tree {
    site: Site,
    db: sled::Db,
    side: Side,
    /// Octets of keys and values.
    live: Cell<u64>,
    /// Writes since its size was last looked at.
    writes: Cell<u64>,
    /// Writes until it is looked at again.
    every: u64,
    /// Octets its files took when it was last made anew.
    settled: u64,
    copy: Option<Copy>,
    /// The end of an old one: closing it takes a while, and nobody waits for that.
    closing: Option<JoinHandle<()>>,
}

/// A copy on its way.
struct Copy {
    db: sled::Db,
    /// The last key that was copied.
    last: Vec<u8>,
    /// Something could not be written to it.
    broken: Cell<bool>,
    /// Entries since it was last handed to the disk.
    unflushed: usize,
    /// All is copied.
    whole: bool,
    /// It is being handed to the disk.
    flushing: Option<JoinHandle<sled::Result<usize>>>,
}

impl Tree {
    /// Opens it; made if it is not there.
    pub(super) fn open(site: Site) -> sled::Result<Self> {
        let side = site.current()?;
        drop(clear(&site.path(side.other())));
        let db = site.open(side)?;
        let live = db.get(LIVE)?.and_then(|octets| Some(u64::from_be_bytes(*octets.first_chunk()?)));
        let (live, writes) = (Cell::new(live.unwrap_or_default()), Cell::new(LOOK_EVERY));
        Ok(Self { site, db, side, live, writes, every: LOOK_EVERY, settled: 0, copy: None, closing: None })
    }

    /// sled's, to read from.
    pub(super) fn read(&self) -> &sled::Db {
        &self.db
    }

    /// Writes a value; answers the one that stood there.
    pub(super) fn insert(&self, key: &[u8], value: &[u8]) -> sled::Result<Option<sled::IVec>> {
        if let Some(copy) = &self.copy {
            copy.check(copy.db.insert(key, value));
        }
        let old = self.db.insert(key, value)?;
        self.count(key, Some(value), old.as_deref());
        Ok(old)
    }

    /// Takes a key away.
    pub(super) fn remove(&self, key: &[u8]) -> sled::Result<()> {
        if let Some(copy) = &self.copy {
            copy.check(copy.db.remove(key));
        }
        let old = self.db.remove(key)?;
        self.count(key, None, old.as_deref());
        Ok(())
    }

    /// Hands what was written to the system. This is not a sync.
    pub(super) fn flush(&self) -> sled::Result<()> {
        self.db.flush().map(drop)
    }

    /// Brings all that was written to the disk, which sled by itself never does.
    pub(super) fn sync(&self) -> sled::Result<()> {
        self.flush()?;
        Ok(self.site.sync(self.side)?)
    }

    /// Writes down what lives, for the next start.
    pub(super) fn note_live(&self) -> sled::Result<()> {
        self.insert(LIVE, &self.live.get().to_be_bytes()).map(drop)
    }

    /// Whether `renew` has something to do.
    pub(super) fn busy(&self) -> bool {
        match &self.copy {
            Some(copy) => copy.flushing.as_ref().is_none_or(JoinHandle::is_finished),
            None => self.writes.get() >= self.every,
        }
    }

    /// Looks at the size of sled's files from time to time, and a little at a time makes them anew where they have grown too
    /// large. `spare` says how many octets the disk has to spare. A copy that cannot be made is given up: nothing depends on it.
    pub(super) fn renew(&mut self, spare: &dyn Fn() -> u64) {
        if !self.busy() {
            return;
        }
        let went = match self.copy.take() {
            Some(copy) => self.go_on(copy),
            None => self.look(spare),
        };
        if let Err(error) = went {
            tracing::warn!(%error, "the index could not be made smaller; tried again later");
            self.copy = None;
            self.writes.set(0);
            self.every = (self.every * PATIENCE).min(LOOK_SELDOM);
            drop(clear(&self.site.path(self.side.other())));
        }
    }

    fn count(&self, key: &[u8], new: Option<&[u8]>, old: Option<&[u8]>) {
        let octets = |value: Option<&[u8]>| value.map_or(0, |value| (key.len() + value.len()) as u64);
        self.live.set((self.live.get() + octets(new)).saturating_sub(octets(old)));
        self.writes.set(self.writes.get() + 1);
    }

    fn look(&mut self, spare: &dyn Fn() -> u64) -> sled::Result<()> {
        self.writes.set(0);
        if self.closing.as_ref().is_some_and(|closing| !closing.is_finished()) {
            return Ok(());
        }
        let (size, live) = (self.db.size_on_disk()?, self.live.get());
        // What a new one took is the best there is, whatever lives in it.
        let small = size <= self.site.slack || size <= GROWTH_MAX * live || size <= 2 * self.settled;
        if small || spare() < COPY_ROOM * live {
            return Ok(());
        }
        tracing::info!(octets = size, live, "the index is made anew to give disk back");
        // What an earlier copy left behind must not come back to life in this one.
        clear(&self.site.path(self.side.other()))?;
        let db = self.site.open(self.side.other())?;
        let (last, broken) = (Vec::new(), Cell::new(false));
        self.copy = Some(Copy { db, last, broken, unflushed: 0, whole: false, flushing: None });
        Ok(())
    }

    fn go_on(&mut self, mut copy: Copy) -> sled::Result<()> {
        if copy.broken.get() {
            return Err(doubt("a change could not be written to the copy"));
        }
        if let Some(flushing) = copy.flushing.take() {
            flushing.join().map_err(|_| doubt("a defect in sled"))??;
        }
        if copy.whole {
            return self.replace(copy);
        }
        let mut copied = 0;
        for entry in self.db.range(copy.last.clone()..).take(COPY_AT_ONCE) {
            let (key, value) = entry?;
            copy.db.insert(&key, value)?;
            copied += 1;
            copy.last = [&*key, &[0]].concat();
        }
        copy.whole = copied < COPY_AT_ONCE;
        copy.unflushed += copied;
        if copy.whole || copy.unflushed >= FLUSH_EVERY {
            copy.unflushed = 0;
            let db = copy.db.clone();
            copy.flushing =
                Some(std::thread::Builder::new().name("index-flush".into()).spawn(move || db.flush())?);
        }
        self.copy = Some(copy);
        Ok(())
    }

    /// The copy is the one that counts from now on.
    fn replace(&mut self, copy: Copy) -> sled::Result<()> {
        // What was written since the flush, which is not much.
        copy.db.flush()?;
        self.settled = copy.db.size_on_disk()?;
        self.site.choose(self.side.other())?;
        let old = (std::mem::replace(&mut self.db, copy.db), self.site.path(self.side));
        self.side = self.side.other();
        self.every = LOOK_EVERY;
        let close = move || {
            drop(old.0);
            drop(clear(&old.1));
        };
        self.closing = std::thread::Builder::new().name("index-close".into()).spawn(close).ok();
        tracing::info!(octets = self.settled, "the index was made anew");
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let flushing = self.copy.take().and_then(|copy| copy.flushing);
        drop(flushing.map(JoinHandle::join));
        drop(self.closing.take().map(JoinHandle::join));
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

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
        tree.read().iter().map(pair).collect()
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
        let before = tree.read().size_on_disk().unwrap();
        assert!(before > GROWTH_MAX * tree.live.get(), "sled gives nothing back by itself: {before}");
        let mut steps = 0;
        while tree.busy() || tree.copy.is_some() {
            tree.renew(&|| u64::MAX);
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
        let after = tree.read().size_on_disk().unwrap();
        tree.closing.take().unwrap().join().unwrap();
        assert!(!site(dir.path()).path(Side::A).exists() && tree.side == Side::B);
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
        drop(tree);
        assert_eq!(content(&Tree::open(site(dir.path())).unwrap()), expected, "and it is found again");
    }

    #[test]
    fn an_index_of_which_nobody_says_where_it_lies_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        drop(Tree::open(site(dir.path())).unwrap());
        fs::write(dir.path().join("index/current"), b"c").unwrap();
        assert!(Tree::open(site(dir.path())).is_err());
    }

    #[test]
    fn a_copy_that_a_kill_left_behind_is_removed_and_the_old_one_holds() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = drained(dir.path());
        tree.note_live().unwrap();
        let live = tree.live.get();
        tree.renew(&|| u64::MAX);
        tree.renew(&|| u64::MAX);
        assert!(site(dir.path()).path(Side::B).exists(), "it is under way");
        drop(tree);
        let tree = Tree::open(site(dir.path())).unwrap();
        assert!(!site(dir.path()).path(Side::B).exists());
        assert_eq!(content(&tree).len(), KEPT as usize + 1, "and the count of what lives");
        assert_eq!(tree.live.get() + 12, live, "it was written down, its own entry not yet in it");
    }

    #[test]
    fn a_copy_that_cannot_be_written_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = drained(dir.path());
        let before = tree.read().size_on_disk().unwrap();
        tree.renew(&|| 100);
        assert!(tree.copy.is_none(), "the disk has no room for a copy");
        tree.writes.set(LOOK_EVERY);
        fs::write(site(dir.path()).path(Side::B), b"a file stands where the copy would be made").unwrap();
        while tree.busy() {
            tree.renew(&|| u64::MAX);
        }
        assert_eq!(content(&tree).len(), KEPT as usize);
        assert_eq!(tree.read().size_on_disk().unwrap(), before);
        assert!(tree.every > LOOK_EVERY, "and not tried again at once");
    }
}
