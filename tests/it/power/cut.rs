//! What a power cut leaves of a disk. What was synced stays: a file's octets by the file's sync, its name by the
//! directory's, and neither by the other's. Of the rest anything may have come to the disk, in any order: each sector of
//! 512 octets by itself, the length apart from the content, each name by itself.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Deed, Image, put};

const SECTOR: usize = 512;

/// How much of what was not synced came to the disk.
#[derive(Clone, Copy)]
enum Luck {
    None,
    All,
    /// Each piece with this chance in eight.
    Some(u32),
}

impl Luck {
    fn drawn(chance: &mut StdRng) -> Self {
        match chance.random_range(0..5) {
            0 => Self::None,
            1 => Self::All,
            _ => Self::Some(chance.random_range(1..8)),
        }
    }

    /// Which of `0..=last` versions of a thing is there.
    fn version(self, last: usize, chance: &mut StdRng) -> usize {
        match self {
            Self::None => 0,
            Self::All => last,
            Self::Some(eighths) => {
                let moves = (0..last).filter(|_| chance.random_ratio(eighths, 8)).count();
                // Not only the middle: all of it and nothing of it are as likely as a part.
                if chance.random_bool(0.5) { moves } else { last * usize::from(moves * 2 >= last) }
            }
        }
    }
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Change>,
}

enum Change {
    Write(u64, std::sync::Arc<[u8]>),
    Length(u64),
}

impl File {
    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write(offset, octets) => put(&mut self.durable, &octets, offset),
                Change::Length(length) => self.durable.resize(length as usize, 0),
            }
        }
    }

    fn left(mut self, luck: Luck, chance: &mut StdRng) -> Vec<u8> {
        let mut lengths = vec![self.durable.len()];
        let mut sectors: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        for change in &self.pending {
            let before = *lengths.last().unwrap();
            match change {
                Change::Length(length) => lengths.push(*length as usize),
                Change::Write(offset, octets) => {
                    let offset = *offset as usize;
                    lengths.push(before.max(offset + octets.len()));
                    for (at, part) in torn(offset, octets) {
                        sectors.entry(at / SECTOR).or_default().push((at, part));
                    }
                }
            }
        }
        for versions in sectors.values() {
            let there = luck.version(versions.len(), chance);
            for (at, part) in &versions[..there] {
                put(&mut self.durable, part, *at as u64);
            }
        }
        self.durable.resize(lengths[luck.version(lengths.len() - 1, chance)], 0);
        self.durable
    }
}

/// A write in its sectors.
fn torn(offset: usize, octets: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - offset % SECTOR).min(octets.len());
    let (head, rest) = octets.split_at(first);
    let rest = rest.chunks(SECTOR).enumerate().map(move |(n, part)| (offset + first + n * SECTOR, part));
    std::iter::once((offset, head)).filter(|(_, head)| !head.is_empty()).chain(rest)
}

#[derive(Default)]
struct Names {
    durable: BTreeMap<String, usize>,
    pending: Vec<Deed>,
}

/// One change of the names. What it needs may not have come to the disk; then it has not either.
fn rename(names: &mut BTreeMap<String, usize>, deed: &Deed) {
    match deed {
        Deed::Create { name, file, .. } => drop(names.insert(name.clone(), *file)),
        Deed::Remove { name } => drop(names.remove(name)),
        Deed::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Deed::Write { .. } | Deed::Sync { .. } | Deed::Cut { .. } | Deed::SyncDir => {}
    }
}

/// The disk as it is found when the power comes back, after these deeds on a disk that held this.
pub fn power_cut(held: &Image, deeds: &[Deed], chance: &mut StdRng) -> Image {
    let luck = Luck::drawn(chance);
    left(held, deeds, luck, chance)
}

/// The same where everything came to the disk.
pub fn all_of(deeds: &[Deed]) -> Image {
    left(&Image::new(), deeds, Luck::All, &mut StdRng::seed_from_u64(0))
}

fn left(held: &Image, deeds: &[Deed], luck: Luck, chance: &mut StdRng) -> Image {
    let mut files: Vec<File> =
        held.values().map(|content| File { durable: content.clone(), pending: Vec::new() }).collect();
    let mut names = Names { durable: held.keys().cloned().zip(0..).collect(), pending: Vec::new() };
    for deed in deeds {
        match deed {
            Deed::Create { file, room, .. } => {
                assert_eq!(files.len(), *file, "files are numbered as they are made");
                files.push(File { durable: Vec::new(), pending: vec![Change::Length(*room)] });
                names.pending.push(deed.clone());
            }
            Deed::Write { file, offset, octets } => {
                files[*file].pending.push(Change::Write(*offset, octets.clone()));
            }
            Deed::Cut { file, length } => files[*file].pending.push(Change::Length(*length)),
            Deed::Sync { file } => files[*file].sync(),
            Deed::Rename { .. } | Deed::Remove { .. } => names.pending.push(deed.clone()),
            Deed::SyncDir => {
                let Names { durable, pending } = &mut names;
                pending.drain(..).for_each(|deed| rename(durable, &deed));
            }
        }
    }
    for deed in &names.pending {
        if luck.version(1, chance) == 1 {
            rename(&mut names.durable, deed);
        }
    }
    let mut left = Image::new();
    for (name, file) in names.durable {
        left.insert(name, std::mem::take(&mut files[file]).left(luck, chance));
    }
    left
}
