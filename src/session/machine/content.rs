//! The message itself: DATA and BDAT.

use bytes::{Buf, BytesMut};

use super::{Machine, Note, Octets, Phase, Step, Transaction, replies};
use crate::admit::{Client, Submission};
use crate::inbound::{Peer, Returned};
use crate::mail::envelope::Envelope;
use crate::mail::reply::Reply;
use crate::memory::{Full, Holder, Permit, READING, START};
use crate::session::command::{self, Chunk};
use crate::session::data::{Body, Fault, Framing};
use crate::tenant::BareNewlines;

/// A chunk announced larger than this is not read past: the connection ends instead.
const CHUNK_MAX: u64 = 1 << 31;

impl Machine {
    pub(super) fn begin_data(&mut self, rest: &str) {
        if !rest.is_empty() {
            return self.fail(replies::no_argument());
        }
        if let Some(reply) = self.content_out_of_place() {
            return self.fail(reply);
        }
        if self.in_chunks() {
            return self.fail(replies::in_chunks());
        }
        // The transaction stays as it is: DATA may be tried again.
        let Ok(body) = self.new_body(Framing::Dots) else {
            return self.reject(replies::no_memory(), "memory", None);
        };
        self.say(replies::GO_AHEAD);
        self.phase = Phase::Data(Box::new(body));
    }

    fn content_out_of_place(&self) -> Option<Reply> {
        if !self.is_inbound() && self.sender().is_none() {
            return Some(self.who_are_you());
        }
        match &self.transaction {
            None => Some(replies::mail_first()),
            Some(transaction) if !transaction.rcpts.is_empty() => None,
            Some(transaction) if transaction.refused => Some(replies::no_valid_recipients()),
            Some(_) => Some(replies::rcpt_first()),
        }
    }

    pub(super) fn in_chunks(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.chunks.is_some())
    }

    /// Whose share of the memory a message takes.
    fn holder(&self) -> Holder {
        self.sender().map(|tenant| std::sync::Arc::clone(&tenant.name))
    }

    /// Memory that a message takes at its beginning. What was announced is set aside whole, so that a transfer for which
    /// there was room is not refused halfway.
    fn share(&self, announced: Option<u64>) -> u64 {
        announced.map_or(START, |octets| READING.saturating_add(octets.min(self.size_limit())))
    }

    /// Whether there is memory for a message of this size now. Another may be faster until DATA: then that is refused.
    pub(super) fn has_memory(&self, announced: Option<u64>) -> bool {
        let most = self.setting.config.limits.body_memory;
        self.setting.memory.has_room(&self.holder(), self.share(announced), most)
    }

    pub(super) fn memory(&self, octets: u64) -> Result<Permit, Full> {
        self.setting.memory.take(self.holder(), octets, self.setting.config.limits.body_memory)
    }

    fn new_body(&self, framing: Framing) -> Result<Body, Full> {
        // A report is read and never passed on, so that its line ends can do no harm.
        let usual = if self.is_inbound() { BareNewlines::Normalize } else { BareNewlines::Refuse };
        let bare = self.sender().map_or(usual, |tenant| tenant.bare_newlines);
        let announced = self.transaction.as_ref().and_then(|transaction| transaction.params.size);
        let held = self.memory(self.share(announced))?;
        Ok(Body::new(framing, bare, self.size_limit(), announced, held))
    }

    pub(super) fn data(&mut self, input: &mut BytesMut) -> Option<Step> {
        let Phase::Data(body) = &mut self.phase else { return None };
        let (used, end) = body.take(input);
        input.advance(used);
        if !end {
            return Some(Step::Read);
        }
        let Phase::Data(body) = std::mem::replace(&mut self.phase, Phase::Command) else { return None };
        self.tally.commands += 1;
        self.submit(*body)
    }

    pub(super) fn begin_chunk(&mut self, rest: &str) {
        let Some(chunk) = command::chunk(rest) else {
            return self.close(&replies::chunk_unknown());
        };
        if chunk.octets > CHUNK_MAX {
            return self.close(&replies::too_big(self.size_limit()));
        }
        // A chunk of nothing still has to be answered, and it is, at once.
        let refusal = self.content_out_of_place();
        let refusal = refusal.or_else(|| self.chunk_unclear(&chunk));
        let refusal = refusal.or_else(|| self.first_chunk().err());
        self.phase = Phase::Chunk(Octets { left: chunk.octets, chunk, refusal });
    }

    /// A word after the count that is not LAST: its octets are thrown away, so the transaction is over (RFC 3030 section 2). The message
    /// would have a hole where they were.
    fn chunk_unclear(&mut self, chunk: &Chunk) -> Option<Reply> {
        let unclear = chunk.last.is_none();
        self.transaction.take_if(|_| unclear);
        unclear.then(replies::chunk_syntax)
    }

    /// Room for the chunks, once. Without it the transaction is over: the next chunk must not be taken for the first.
    fn first_chunk(&mut self) -> Result<(), Reply> {
        if self.in_chunks() {
            return Ok(());
        }
        match self.new_body(Framing::Counted) {
            Ok(body) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.chunks = Some(Box::new(body));
                }
                Ok(())
            }
            Err(Full) => {
                let reply = replies::no_memory();
                let from = self.transaction.take().map(|transaction| transaction.from);
                let said = reply.clone();
                self.notes.push(Note::Rejected {
                    to: None,
                    from,
                    login: None,
                    reply: said,
                    reason: "memory",
                });
                Err(reply)
            }
        }
    }

    pub(super) fn chunk_octets(&mut self, input: &mut BytesMut) -> Option<Step> {
        let Phase::Chunk(octets) = &mut self.phase else { return None };
        let here = usize::try_from(octets.left).unwrap_or(usize::MAX).min(input.len());
        let chunks = self.transaction.as_mut().and_then(|transaction| transaction.chunks.as_mut());
        if let (None, Some(body), Some(piece)) = (&octets.refusal, chunks, input.get(..here)) {
            body.take(piece);
        }
        input.advance(here);
        octets.left -= here as u64;
        if octets.left > 0 {
            return Some(Step::Read);
        }
        let (chunk, refusal) = (octets.chunk, octets.refusal.take());
        self.phase = Phase::Command;
        self.tally.commands += 1;
        let Some(reply) = refusal else { return self.chunk_done(chunk) };
        self.fail(reply);
        None
    }

    fn chunk_done(&mut self, chunk: Chunk) -> Option<Step> {
        let transaction = self.transaction.as_mut()?;
        let body = transaction.chunks.take()?;
        if chunk.last == Some(true) {
            return self.submit(*body);
        }
        if let Some(fault) = body.fault() {
            // RFC 3030 section 2: the transaction is over; chunks that still come find none and get 503.
            self.content_refused(fault);
            return None;
        }
        transaction.chunks = Some(body);
        Reply::new(250, crate::mail::reply::Enhanced(2, 0, 0), format!("{} octets received", chunk.octets))
            .write(&mut self.out);
        None
    }

    fn content_refused(&mut self, fault: Fault) {
        let reply = match fault {
            Fault::TooBig => replies::too_big(self.size_limit()),
            Fault::NoMemory => replies::no_memory(),
            Fault::Nul => replies::nul(),
            Fault::BareLf => replies::bare_lf(),
            Fault::BareCr => replies::bare_cr(),
        };
        let reason = match fault {
            Fault::TooBig => "size",
            Fault::NoMemory => "memory",
            Fault::Nul | Fault::BareLf | Fault::BareCr => "content",
        };
        self.reject(reply, reason, None);
        self.transaction = None;
    }

    /// The end of data: what is wrong with the octets is said now, all else is decided by admission.
    fn submit(&mut self, body: Body) -> Option<Step> {
        let (body, mut held) = match body.finish() {
            Ok(whole) => whole,
            Err(fault) => {
                self.content_refused(fault);
                return None;
            }
        };
        if body.is_empty() {
            self.reject(replies::empty(), "content", None);
            self.transaction = None;
            return None;
        }
        if self.is_inbound() {
            return self.hand_back(body, held);
        }
        let tenant = self.sender().cloned();
        let (Some(tenant), Some(transaction)) = (tenant, self.transaction.take()) else {
            // Without a sender there was no MAIL.
            self.fail(replies::no_valid_recipients());
            return None;
        };
        held.settle_at(held.octets().saturating_add(transaction.held.octets()));
        self.phase = Phase::Waiting;
        Some(Step::Submit(Box::new(Submission {
            client: self.client(),
            tenant,
            eight_bit_mime: transaction.params.eight_bit_mime,
            smtputf8: transaction.params.smtputf8,
            require_tls: transaction.params.require_tls,
            priority: transaction.params.priority,
            deliver_by: transaction.deliver_by,
            envelope: envelope(*transaction),
            body,
            held,
        })))
    }

    /// Something came back to the one recipient of the transaction.
    fn hand_back(&mut self, body: Vec<u8>, held: Permit) -> Option<Step> {
        let transaction = self.transaction.take();
        let named = transaction.and_then(|mut named| Some((named.rcpts.pop()?.address, named.from)));
        let known = named.and_then(|(to, from)| {
            let token = self.setting.returns.as_ref()?.token(&to)?;
            Some(Returned { peer: self.peer(), from, to, token, body, held })
        });
        let Some(returned) = known else {
            self.fail(replies::no_valid_recipients());
            return None;
        };
        self.phase = Phase::Waiting;
        Some(Step::Return(Box::new(returned)))
    }

    fn peer(&self) -> Peer {
        Peer { ip: self.setting.ip, helo: self.hello.name.clone(), tls: self.tls.clone() }
    }

    fn client(&self) -> Client {
        Client {
            ip: self.setting.ip,
            helo: self.hello.name.clone(),
            login: self.login.as_ref().map(|login| std::sync::Arc::clone(&login.name)),
            tls: self.tls.clone(),
        }
    }
}

fn envelope(transaction: Transaction) -> Envelope {
    Envelope {
        from: transaction.from,
        rcpts: transaction.rcpts,
        ret: transaction.params.ret,
        envid: transaction.params.envid,
    }
}
