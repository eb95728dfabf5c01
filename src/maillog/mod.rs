//! What a postmaster reads: one method an event, one JSON line each. `record` holds the format, `writer` the thread that
//! puts lines on disk in the order in which they were said. docs/log.md catalogues every event and field.

mod answered;
mod auth;
mod escape;
pub mod events;
pub mod kind;
pub mod record;
pub mod returns;
pub mod standing;
pub mod tail;
pub mod view;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use events::{
    Arrival, AttemptStart, Audit, Disposal, Dsn, DsnKind, Expected, Expiry, Probe, Rejected, Seal,
};
pub use returns::{Complained, RemoteBounce};
pub use standing::{HealthChange, TlsReported, Volume};

use crate::clock::Clock;
use crate::metrics::Metrics;
use kind::Type;
use record::Record;
use writer::Writer;

/// The mail log. Cheap to call: a line is formatted by the caller and handed to a thread that writes many at once.
#[derive(Debug)]
pub struct MailLog {
    writer: Writer,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl MailLog {
    /// Opens the file for appending, made with mode 0640 if it is not there. Counts go to metrics of its own.
    ///
    /// # Errors
    /// The file or its directory cannot be opened or made.
    pub fn open(path: &Path, clock: Clock) -> io::Result<Arc<Self>> {
        Self::open_with(path, clock, Arc::new(Metrics::new()))
    }

    /// Like `open`, counting in these metrics.
    ///
    /// # Errors
    /// The file or its directory cannot be opened or made.
    pub fn open_with(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let writer = Writer::start(path, Arc::clone(&metrics))?;
        Ok(Arc::new(Self { writer, clock, metrics }))
    }

    /// Opens the path again, after a rotation moved the file away: what was said before goes to the old file, what is
    /// said after this returns goes to the new one.
    ///
    /// # Errors
    /// The path cannot be opened; the old file then stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.writer.reopen()
    }

    /// Waits until everything said so far is written.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Writes what is left and ends the thread. Events after this are counted as lost.
    pub fn close(&self) {
        self.writer.close();
    }

    /// Starts a record of this type at the clock's time.
    fn record<'a>(&self, kind: Type) -> Record<'a> {
        Record::new(kind, self.clock.now())
    }

    /// Counts the record and hands its line to the writer.
    fn say(&self, record: &Record<'_>) {
        self.metrics.events.get_or_create(&record.kind.into()).inc();
        self.writer.push(&record.line());
    }
}

#[cfg(test)]
mod tests;
