//! Bodies to and from the disk, off the async threads: two threads read what is no longer in memory, and write the bodies that
//! are too large for the journal into files of their own.

use std::io::{self, IoSlice};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::index::{Ask, Place};
use super::room::Part;
use super::spool::Spool;
use super::{Embedded, READS_MAX};
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

/// How it went to read a message.
enum Read {
    Whole(Arc<Message>),
    Damaged,
    /// The file has gone: the message is elsewhere by now, or has ended.
    Moved,
    /// There is no descriptor to open its file with: the message is as whole as it was, and must not be taken for damaged.
    NoDescriptor(io::Error),
}

impl Embedded {
    /// A message, from memory or from the disk. No thread waits here: what needs a descriptor that is not there, or memory, leaves
    /// the threads to those that need neither.
    pub(super) async fn read(&self, id: Id) -> Result<Option<Arc<Message>>, StoreError> {
        if let Some(message) = self.cache.of(id) {
            return Ok(Some(message));
        }
        let (mut part, mut moves, mut pause, mut own_file) = (None, 0, PAUSE, false);
        while moves < READS_MAX {
            let Some((facts, place)) = self.ask(|reply| Ask::Where(id, reply)).await? else {
                return Ok(None);
            };
            let Some(mine) = part.take().or_else(|| self.room.try_take(&facts.tenant, place.octets())) else {
                // It may be elsewhere, or have ended, when its turn comes.
                part = Some(self.room.take(&facts.tenant, place.octets()).await);
                continue;
            };
            own_file = place.file.is_some();
            match self.look(facts, place, mine).await? {
                Read::Whole(message) => return Ok(Some(message)),
                Read::Damaged => return Err(StoreError::Damaged(id)),
                Read::Moved => moves += 1,
                Read::NoDescriptor(error) => {
                    tracing::warn!(%id, %error, "a message waits to be read");
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(PAUSE_MAX);
                }
            }
        }
        // Compaction moves a message once, not as often as this: the file in which it lay went without us.
        if own_file {
            self.spool.quarantine(format_args!("the file of the message {id} is missing"));
        } else {
            // A segment that could not be read was counted, with what was in it, when it was set aside.
            tracing::error!(%id, "the segment in which a message lay is missing");
        }
        Err(StoreError::Damaged(id))
    }

    /// Has one of the threads look there.
    async fn look(&self, facts: Arc<Facts>, place: Place, part: Part) -> Result<Read, StoreError> {
        let (reply, later) = oneshot::channel();
        let spool = Arc::clone(&self.spool);
        self.work(Box::new(move || drop(reply.send(Ok(read(&spool, facts, &place, part))))));
        answer(later).await
    }
}

/// Reads a message and checks it.
fn read(spool: &Spool, facts: Arc<Facts>, place: &Place, part: Part) -> Read {
    let read = match place.file {
        Some(file) => match spool.disk.open(&spool.body_path(facts.id)) {
            Err(error) if is_shortage(&error) => return Read::NoDescriptor(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::Moved,
            opened => opened
                .and_then(|opened| checked(&*opened, 0, usize::try_from(file.length).unwrap_or(0), file.crc)),
        },
        None => match spool.segment(place.at.segment) {
            Some(segment) => checked(&*segment.file, place.body_at, place.body as usize, place.crc),
            None => return Read::Moved,
        },
    };
    match read {
        Ok(body) => {
            Read::Whole(Arc::new(Message { facts: Arc::unwrap_or_clone(facts), body: part.keep(body) }))
        }
        Err(error) => {
            tracing::error!(id = %facts.id, %error, "a message cannot be read back from the spool");
            spool.quarantined.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Read::Damaged
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
