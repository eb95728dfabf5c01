//! Reads the mail log back: old lines, rotated files, and what is being written, across rotations.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Octets looked at from the end for the last lines: enough for some thousands.
const LOOK_BACK: u64 = 4 << 20;

/// The log's files that can be read as text, oldest first: those a rotation left beside it, and the one in use.
///
/// # Errors
/// The directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut rotated = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = other.strip_prefix(&name) else { continue };
        // `mail.jsonl.1`, `mail.jsonl-20260131`; what is compressed is left to zgrep.
        let digits = rest.trim_start_matches(['.', '-']);
        if rest.len() > digits.len() && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
            rotated.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    rotated.sort();
    let mut files: Vec<PathBuf> = rotated.into_iter().map(|(_, path)| path).collect();
    if path.exists() {
        files.push(path.to_owned());
    }
    Ok(files)
}

/// Reads a file a line at a time; `each` answers whether to go on.
///
/// # Errors
/// The file cannot be read.
pub fn scan(path: &Path, mut each: impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut lines = BufReader::with_capacity(1 << 18, File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(true);
        }
        if !each(&line) {
            return Ok(false);
        }
    }
}

/// The log as it grows.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    file: BufReader<File>,
    inode: u64,
    line: Vec<u8>,
}

impl Follow {
    /// Starts so far before the end that the last lines can be shown; answers also those lines.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path, last: usize) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let start = meta.len().saturating_sub(LOOK_BACK);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(meta.len() - start).read_to_end(&mut bytes)?;
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
        let torn = bytes.split_off(whole);
        let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        if start > 0 && !lines.is_empty() {
            lines.remove(0);
        }
        let lines = lines.split_off(lines.len().saturating_sub(last));
        let follow =
            Self { path: path.to_owned(), file: BufReader::new(file), inode: meta.ino(), line: torn };
        Ok((follow, lines))
    }

    /// The next whole line, if there is one by now. A file that was moved away is read to its end first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.read()? {
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        let Ok(meta) = fs::metadata(&self.path) else { return Ok(None) };
        let moved = meta.ino() != self.inode;
        let cut = !moved && meta.len() < self.file.stream_position()?;
        if !moved && !cut {
            return Ok(None);
        }
        // Between the last read and the move more may have been written.
        if moved && self.read()? {
            return Ok(Some(std::mem::take(&mut self.line)));
        }
        self.file = BufReader::new(File::open(&self.path)?);
        self.inode = self.file.get_ref().metadata()?.ino();
        self.line.clear();
        Ok(self.read()?.then(|| std::mem::take(&mut self.line)))
    }

    /// Whether a whole line was read.
    fn read(&mut self) -> io::Result<bool> {
        self.file.read_until(b'\n', &mut self.line)?;
        Ok(self.line.ends_with(b"\n"))
    }
}
