//! Bodies to and from the disk, off the async threads: two threads read what is no longer in memory, one writes the bodies
//! that are too large for the journal into files of their own.

use std::io::{self, IoSlice};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::index::Place;
use super::spool::Spool;
use crate::failpoint::{self, Failpoint};
use crate::fsx::{DiskFile, read_exact_at};
use crate::mail::id::Id;
use crate::mail::message::{Facts, Message};
use crate::queue::store::StoreError;

/// Bodies over this have a file of their own: they would fill a segment with a few messages.
pub(super) const INLINE_MAX: usize = 1 << 20;
const THREADS: usize = 2;
/// Between two tries to open a file for which there is no descriptor: at first, and at most.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Work for these threads.
pub(super) type Task = Box<dyn FnOnce() + Send>;

/// Starts the threads; they end when the sender is dropped.
pub(super) fn start() -> io::Result<(Sender<Task>, Vec<JoinHandle<()>>)> {
    let (tasks, inbox) = channel();
    let inbox: Arc<Mutex<Receiver<Task>>> = Arc::new(Mutex::new(inbox));
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let inbox = Arc::clone(&inbox);
        let work = move || {
            loop {
                let task = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(task) = task else { return };
                task();
            }
        };
        threads.push(std::thread::Builder::new().name("spool-bodies".into()).spawn(work)?);
    }
    Ok((tasks, threads))
}

/// Reads a message and checks it. `None`: the segment has gone, and the message is elsewhere by now.
pub(super) fn read(spool: &Spool, facts: &Facts, place: &Place) -> Option<Result<Arc<Message>, StoreError>> {
    let read = match place.file {
        Some(file) => opened(spool, facts.id)
            .and_then(|opened| checked(&*opened, 0, usize::try_from(file.length).unwrap_or(0), file.crc)),
        None => {
            let segment = spool.segment(place.at.segment)?;
            checked(&*segment.file, place.body_at, place.body as usize, place.crc)
        }
    };
    Some(match read {
        Ok(body) => Ok(Arc::new(Message { facts: facts.clone(), body: body.into() })),
        Err(error) => {
            tracing::error!(id = %facts.id, %error, "a message cannot be read back from the spool");
            spool.quarantined.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(StoreError::Damaged(facts.id))
        }
    })
}

/// Opens a body's file. Without descriptors it waits for some: the message is as whole as it was, and must not be taken for damaged.
fn opened(spool: &Spool, id: Id) -> io::Result<Box<dyn DiskFile>> {
    let mut pause = PAUSE;
    loop {
        match spool.disk.open(&spool.body_path(id)) {
            Err(error) if is_shortage(&error) && !spool.is_over() => {
                tracing::warn!(%id, %error, "a message waits to be read");
                std::thread::sleep(pause);
                pause = pause.saturating_mul(2).min(PAUSE_MAX);
            }
            other => return other,
        }
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// Memos that were looked for.
#[derive(Default)]
pub(super) struct Memos {
    pub(super) read: Vec<(String, Vec<u8>)>,
    /// Keys of those whose segment has gone: they are elsewhere by now.
    pub(super) gone: Vec<String>,
}

/// Reads memos. One that is damaged is left out: it concerns itself only.
pub(super) fn memos(spool: &Spool, places: Vec<(String, Place)>) -> Memos {
    let mut found = Memos::default();
    for (key, place) in places {
        let Some(segment) = spool.segment(place.at.segment) else {
            found.gone.push(key);
            continue;
        };
        match checked(&*segment.file, place.body_at, place.body as usize, place.crc) {
            Ok(value) => found.read.push((key, value)),
            Err(error) => spool.quarantine(format_args!("the memo {key} cannot be read back: {error}")),
        }
    }
    found
}

fn checked(file: &dyn DiskFile, at: u64, length: usize, crc: u32) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    read_exact_at(file, &mut body, at)?;
    if crc32c::crc32c(&body) == crc { Ok(body) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Writes a body into a file of its own, durable when this returns.
pub(super) fn write(spool: &Spool, id: Id, body: &[u8]) -> io::Result<()> {
    let file = spool.disk.create(&spool.body_path(id), 0)?;
    failpoint::pass(Failpoint::BodyCreated);
    file.write_at(&mut [IoSlice::new(body)], 0)?;
    failpoint::pass(Failpoint::BodyWritten);
    file.sync()?;
    failpoint::pass(Failpoint::BodySynced);
    spool.disk.sync_dir(&spool.dir)?;
    failpoint::pass(Failpoint::BodyNamed);
    Ok(())
}

/// An answer that never comes means that the store was closed.
pub(super) async fn answer<T>(reply: oneshot::Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    reply.await.unwrap_or_else(|_| Err(StoreError::Failed(Arc::from("the store is closed"))))
}
