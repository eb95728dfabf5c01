//! A message on its way in: into the journal whole, or, where its body is large, with the body in a file of its own first.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::cache::Cache;
use super::inbox::{Done, Request};
use super::index::{self, Ask, Reply};
use super::reader;
use super::record::{AcceptedRef, BodyFile, Kind, Record};
use super::spool::{Entered, Said, Spool};
use super::{Accept, Embedded, StoreError};
use crate::mail::id::Id;

/// Hands an accepted message to the journal. Runs to its end whether or not the caller still waits.
pub(super) fn put(spool: &Spool, cache: Arc<Cache>, accept: Accept, file: Option<BodyFile>, done: Done) {
    let (body, crc) = index::inline(&accept, file);
    let payload = AcceptedRef::new(&accept, &[], file);
    let record = match Record::with_body(Kind::Accept, accept.message.facts.id, &payload, body, crc) {
        Ok(record) => record,
        Err(error) => {
            let error = StoreError::Full(Arc::from(format!("the message cannot be written: {error}")));
            return done(Err(error));
        }
    };
    if file.is_none() {
        // Before the journal has it: the index may hand it out the moment it is durable.
        cache.put(&accept.message);
    }
    let id = accept.message.facts.id;
    let done = Box::new(move |durable: Result<(), StoreError>| {
        if durable.is_err() {
            cache.remove(id);
        }
        done(durable);
    });
    let said = Said::Accept(Entered::new(&accept), file, Vec::new());
    spool.inbox.submit(Request { records: vec![(record, said)], essential: false, done });
}

impl Embedded {
    /// The body goes into a file of its own first, so that the journal never names what is not there.
    pub(super) fn accept_large(&self, accept: Accept, reply: Reply<()>) {
        let (spool, cache) = (Arc::clone(&self.spool), Arc::clone(&self.cache));
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.work(Box::new(move || {
            let message = &accept.message;
            let id = message.facts.id;
            if accept.tells.is_empty() && !spool.room.load(Ordering::Relaxed) {
                return drop(reply.send(Err(StoreError::Full(Arc::from("the disk is below its reserve")))));
            }
            if let Err(error) = reader::write(&spool, id, &message.body) {
                drop(spool.disk.remove(&spool.body_path(id)));
                return drop(reply.send(Err(StoreError::Full(Arc::from(error.to_string())))));
            }
            let file = BodyFile { length: message.body.len() as u64, crc: crc32c::crc32c(&message.body) };
            let done = kept(&spool, id, reply);
            match asks.filter(|_| !accept.tells.is_empty()) {
                Some(asks) => drop(asks.send(Ask::Tell(Arc::new(accept), Some(file), done))),
                None => put(&spool, cache, accept, Some(file), done),
            }
        }));
    }
}

/// Answers, and removes the body's file where the journal was not told of it and never will be. After a failed write nobody knows
/// what the journal has: there it stays.
fn kept(spool: &Arc<Spool>, id: Id, reply: Reply<()>) -> Done {
    let spool = Arc::clone(spool);
    Box::new(move |durable| {
        if matches!(durable, Err(StoreError::Full(_) | StoreError::Rebuilding)) {
            drop(spool.disk.remove(&spool.body_path(id)));
        }
        drop(reply.send(durable));
    })
}
