//! The thread that puts lines on disk. Callers append to a shared buffer under a short lock, so order is the order of the
//! calls; the thread takes all that is there and writes it at once. While a file can be written nothing is lost: a full
//! buffer makes callers wait. While it cannot (disk full), lines beyond the buffer are counted as lost, because
//! queued mail must keep leaving.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::metrics::Metrics;

/// Octets that may wait for the disk: some 40,000 lines, about a second at the highest rate.
const BUFFER_MAX: usize = 16 << 20;
/// The thread's rest between writes: it bounds writes (and wake-ups that callers pay for) to 500 a second.
const PAUSE: Duration = Duration::from_millis(2);
/// Octets of an empty buffer that are kept for the next round.
const SPARE_MAX: usize = 1 << 20;
/// Between tries to write after one failed.
const RETRY: Duration = Duration::from_secs(1);

/// The handle that callers hold.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Something to write, or an order.
    work: Condvar,
    /// Something was written, or an order was carried out.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Octets ever pushed, and ever written or given up.
    pushed: u64,
    settled: u64,
    idle: bool,
    failing: bool,
    closed: bool,
    /// A file to go on with, once everything before it is written.
    next: Option<File>,
}

impl Writer {
    pub(super) fn start(path: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let file = open(path)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            metrics,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let run = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("maillog".into()).spawn(move || run.write_all(file))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Appends a line. Waits only while the buffer is full and the disk still takes what is in it.
    pub(super) fn push(&self, line: &[u8]) {
        let shared = &self.shared;
        let mut state = shared.lock();
        if state.lines.len() + line.len() > BUFFER_MAX && !state.failing && !state.closed {
            shared.metrics.log_waits.inc();
            state = wait(&shared.done, state, |s| {
                s.lines.len() + line.len() > BUFFER_MAX && !s.failing && !s.closed
            });
        }
        if state.closed || state.lines.len() + line.len() > BUFFER_MAX {
            drop(state);
            shared.metrics.log_lost.inc();
            return;
        }
        state.lines.extend_from_slice(line);
        state.pushed += line.len() as u64;
        if std::mem::take(&mut state.idle) {
            shared.work.notify_one();
        }
    }

    pub(super) fn reopen(&self) -> io::Result<()> {
        let file = open(&self.shared.path)?;
        let mut state = self.shared.lock();
        state.next = Some(file);
        state.idle = false;
        self.shared.work.notify_one();
        drop(wait(&self.shared.done, state, |s| s.next.is_some() && !s.closed));
        Ok(())
    }

    pub(super) fn flush(&self) {
        let state = self.shared.lock();
        let upto = state.pushed;
        drop(wait(&self.shared.done, state, |s| s.settled < upto && !s.failing));
    }

    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
        self.shared.done.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the mail log's thread ended badly");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: takes what waits, writes it, rests a moment, until closed and empty.
    fn write_all(&self, mut file: File) {
        let mut lines = Vec::new();
        loop {
            let mut state = self.lock();
            state.idle = state.nothing_to_do();
            let mut state = wait(&self.work, state, |s| s.nothing_to_do());
            state.idle = false;
            std::mem::swap(&mut lines, &mut state.lines);
            let (next, closed) = (state.next.take(), state.closed);
            drop(state);
            self.put(&mut file, &lines);
            if let Some(next) = next {
                file = next;
            }
            self.settle(lines.len());
            if closed && lines.is_empty() {
                return;
            }
            lines.clear();
            lines.shrink_to(SPARE_MAX);
            if !closed {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Writes these lines, and tries again until they are written, or the log is closed while it cannot be.
    fn put(&self, file: &mut File, lines: &[u8]) {
        let mut at = 0;
        while let Some(rest) = lines.get(at..).filter(|rest| !rest.is_empty()) {
            match file.write(rest) {
                Ok(wrote) if wrote > 0 => at += wrote,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => {
                    let why = other.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into());
                    let Some(next) = self.failed(&why, rest) else { return };
                    if let Some(next) = next {
                        *file = next;
                        at = start_of_line(lines, at);
                    }
                }
            }
        }
    }

    /// Says and counts that a write failed, and waits a moment. Answers a new file if one was opened meanwhile, and `None`
    /// if it is time to give up.
    fn failed(&self, why: &io::Error, rest: &[u8]) -> Option<Option<File>> {
        self.metrics.log_errors.inc();
        tracing::error!(path = %self.path.display(), %why, "the mail log cannot be written");
        let mut state = self.lock();
        state.failing = true;
        self.done.notify_all();
        let waited = self.work.wait_timeout_while(state, RETRY, |s| s.next.is_none() && !s.closed);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            let lost = rest.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.metrics.log_lost.inc_by(lost);
            tracing::error!(lost, "mail log records were lost at the end");
            return None;
        }
        let next = state.next.take();
        if next.is_some() {
            self.done.notify_all();
        }
        Some(next)
    }

    /// So many octets are on disk: whoever waits for them or for room goes on.
    fn settle(&self, written: usize) {
        let mut state = self.lock();
        state.settled += written as u64;
        state.failing = false;
        self.done.notify_all();
    }
}

impl State {
    fn nothing_to_do(&self) -> bool {
        self.lines.is_empty() && self.next.is_none() && !self.closed
    }
}

/// Where the line that holds this octet starts: a new file begins with a whole line.
fn start_of_line(lines: &[u8], at: usize) -> usize {
    let before = lines.get(..at).unwrap_or(lines);
    memchr::memrchr(b'\n', before).map_or(0, |end| end + 1)
}

/// Waits for the condition to become false.
fn wait<'a>(
    on: &Condvar,
    state: MutexGuard<'a, State>,
    until: impl FnMut(&mut State) -> bool,
) -> MutexGuard<'a, State> {
    on.wait_while(state, until).unwrap_or_else(PoisonError::into_inner)
}

/// Opens for appending; 0640, because a postmaster's group may read it and nobody else.
fn open(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
