//! A disk in memory that writes down everything done to it, so that a power cut can be put behind any of it. All its files
//! are in one directory: the journal's.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use waxseal::fsx::{Disk, DiskFile};

/// Files by name, as they lie on a disk at rest.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Something that changed the disk. Files are numbered: a name may come, change and go without its file.
#[derive(Clone, Debug)]
pub enum Deed {
    Create { name: String, file: usize, room: u64 },
    Write { file: usize, offset: u64, octets: Arc<[u8]> },
    Sync { file: usize },
    Cut { file: usize, length: u64 },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncDir,
}

/// Which sync the disk only pretends to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Nothing,
    Files,
    Names,
}

struct State {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    deeds: Vec<Deed>,
}

/// The disk.
#[derive(Clone)]
pub struct Memory {
    lie: Lie,
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// A disk with these files on it, all of them durable.
    pub fn holding(image: &Image, lie: Lie) -> Self {
        let names = image.keys().cloned().zip(0..).collect();
        let state = State { names, files: image.values().cloned().collect(), deeds: Vec::new() };
        Self { lie, state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How much has been done to it.
    pub fn done(&self) -> usize {
        self.state().deeds.len()
    }

    /// All that was done to it.
    pub fn deeds(&self) -> Vec<Deed> {
        self.state().deeds.clone()
    }

    /// What is on it.
    pub fn image(&self) -> Image {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].clone())).collect()
    }

    fn file(&self, file: usize) -> Box<dyn DiskFile> {
        Box::new(File { disk: self.clone(), file })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn absent() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Memory {
    fn create(&self, path: &Path, room: u64) -> io::Result<Box<dyn DiskFile>> {
        let (mut state, name) = (self.state(), name(path));
        if state.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(vec![0; room as usize]);
        state.names.insert(name.clone(), file);
        state.deeds.push(Deed::Create { name, file, room });
        drop(state);
        Ok(self.file(file))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().names.get(&name(path)).copied().ok_or_else(absent)?;
        Ok(self.file(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, from, to) = (self.state(), name(from), name(to));
        let file = state.names.remove(&from).ok_or_else(absent)?;
        state.names.insert(to.clone(), file);
        state.deeds.push(Deed::Rename { from, to });
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, name) = (self.state(), name(path));
        state.names.remove(&name).ok_or_else(absent)?;
        state.deeds.push(Deed::Remove { name });
        Ok(())
    }
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        if self.lie != Lie::Names {
            self.state().deeds.push(Deed::SyncDir);
        }
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state().names.keys().map(|name| dir.join(name)).collect())
    }
    fn free(&self, _path: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct File {
    disk: Memory,
    file: usize,
}

impl File {
    fn with<T>(&self, look: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        look(&mut self.disk.state().files[self.file])
    }
}

/// Writes into a file's octets, which grow as needed.
pub fn put(content: &mut Vec<u8>, octets: &[u8], offset: u64) {
    let (from, to) = (offset as usize, offset as usize + octets.len());
    content.resize(content.len().max(to), 0);
    content[from..to].copy_from_slice(octets);
}

impl DiskFile for File {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let octets: Arc<[u8]> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.with(|content| put(content, &octets, offset));
        self.disk.state().deeds.push(Deed::Write { file: self.file, offset, octets });
        Ok(())
    }
    fn sync(&self) -> io::Result<()> {
        if self.disk.lie != Lie::Files {
            self.disk.state().deeds.push(Deed::Sync { file: self.file });
        }
        Ok(())
    }
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content| {
            let rest = content.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(into.len());
            into[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.with(|content| content.len() as u64))
    }
    fn cut(&self, length: u64) -> io::Result<()> {
        self.with(|content| content.resize(length as usize, 0));
        self.disk.state().deeds.push(Deed::Cut { file: self.file, length });
        Ok(())
    }
}
