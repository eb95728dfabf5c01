//! May this message be sent? One short story: own the From, classify, repair, judge, sign, put. Each refusal is a `Reply` made where it is
//! found; what is accepted is on stable storage before its 250.

mod asked;
mod beside;
mod body;
pub mod classify;
mod encode;
mod judge;
mod own;
mod own_seal;
mod platform;
pub mod priority;
mod put;
mod refusal;
mod repair;
mod results;
mod tail;
mod trace;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::Config;
use crate::dns::Resolver;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::TlsFacts;
use crate::mail::deliver_by::DeliverBy;
use crate::mail::envelope::Envelope;
use crate::mail::header::Headers;
use crate::mail::id::Id;
use crate::mail::message::{Asked, Facts, Message};
use crate::mail::priority::Priority;
use crate::mail::reply::{Enhanced, Reply};
use crate::mail::return_path::Secret;
use crate::mail::time::Time;
use crate::maillog::{MailLog, Rejected};
use crate::memory::Permit;
use crate::metrics::Metrics;
use crate::queue::store::Store;
use crate::seal::outlook::{Force, Outlook};
use crate::seal::{self, Keyring, Order, SealError, Sealed};
use crate::suppress::Links;
use crate::tenant::{Tenant, Tenants};
use beside::Beside;
use classify::{ControlKey, Told};
use judge::Judged;
use own::Author;
use priority::Given;
use refusal::Refusal;
use repair::{Added, Repaired};
use trace::Stamp;

/// What admission is made of.
pub struct Parts {
    /// Hostname, limits and the queue's life; a reload swaps it.
    pub config: Arc<ArcSwap<Config>>,
    /// All tenants: nobody may name another's domain as the sender.
    pub tenants: Arc<Tenants>,
    /// Where accepted mail goes.
    pub store: Arc<dyn Store>,
    /// The keys that seal it; a reload swaps it.
    pub keyring: Arc<ArcSwap<Keyring>>,
    /// What receivers would make of it.
    pub outlook: Arc<Outlook>,
    /// Verifies signatures that a platform's own server put on.
    pub resolver: Resolver,
    /// Told of every message, accepted or not.
    pub log: Arc<MailLog>,
    /// Counts octets and times.
    pub metrics: Arc<Metrics>,
    /// Makes return paths.
    pub secret: Arc<Secret>,
    /// Wall time.
    pub clock: Clock,
    /// What links to unsubscribe by are made with.
    pub links: Links,
    /// What control addresses are authenticated with.
    pub control: ControlKey,
}

/// The gate that every submitted message passes once.
pub struct Admit {
    parts: Parts,
    beside: Beside,
}

/// Who hands a message in, for `Received:` and the log.
#[derive(Clone, Debug)]
pub struct Client {
    /// The peer's address.
    pub ip: IpAddr,
    /// What it called itself, as sent.
    pub helo: String,
    /// The user name; `None` for method None.
    pub login: Option<Arc<str>>,
    /// The TLS session, if there was one.
    pub tls: Option<TlsFacts>,
}

/// One message as a session hands it over: CRLF line ends, no NUL, dots unstuffed.
#[derive(Debug)]
pub struct Submission {
    /// Who hands it in.
    pub client: Client,
    /// Whose mail it is.
    pub tenant: Arc<Tenant>,
    /// What MAIL and RCPT said.
    pub envelope: Envelope,
    /// `BODY=8BITMIME` was given (only a hint: the octets decide).
    pub eight_bit_mime: bool,
    /// `SMTPUTF8` was given; without it an address that needs it is refused.
    pub smtputf8: bool,
    /// `REQUIRETLS` was given, under TLS (RFC 8689).
    pub require_tls: bool,
    /// `MT-PRIORITY` (RFC 6710).
    pub priority: Option<Priority>,
    /// `BY` (RFC 2852), counted from MAIL.
    pub deliver_by: Option<DeliverBy>,
    /// Headers and body.
    pub body: Vec<u8>,
    /// The memory they take.
    pub held: Permit,
}

/// A message that may be sent, ready to be put.
struct Admitted {
    author: Author,
    envelope: Envelope,
    told: Told,
    asked: (Asked, Duration),
    given: Given,
    repaired: Repaired,
    judged: Judged,
    /// `None`: it is held, and sealed when it is released.
    sealed: Option<Sealed>,
    /// Signatures that it came with.
    signatures: usize,
}

impl Admit {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let beside = Beside::new(&parts.resolver, &parts.log, &parts.metrics);
        Self { parts, beside }
    }

    /// Whether this tenant may use that reverse-path, asked at MAIL so that a refusal costs no body.
    ///
    /// # Errors
    /// The reply to give.
    pub fn may_send_from(&self, tenant: &Tenant, from: Option<&Address>) -> Result<(), Reply> {
        own::reverse_path(&self.parts.tenants.load(), tenant, from).map_err(|refusal| refusal.reply)
    }

    /// Accepts a message (250, durable) or says why not.
    pub async fn submit(&self, submission: Submission) -> Reply {
        let asked = submission.priority;
        match self.accept(submission).await {
            Ok(message) => queued(&message.facts, asked),
            Err(reply) => reply,
        }
    }

    /// The same, and answers the message as it will leave.
    ///
    /// # Errors
    /// The refusal.
    pub async fn accept(&self, mut submission: Submission) -> Result<Arc<Message>, Reply> {
        let began = Instant::now();
        tail::trim(&mut submission.body);
        let size = submission.body.len() as u64;
        let now = self.parts.clock.now();
        let id = Id::new(now, rand::random());
        let reply = match self.admit(&submission, id, now) {
            Ok(admitted) => self.put(submission, admitted, id, now).await,
            Err(refusal) => Err(self.refuse(&submission, id, refusal)),
        };
        if reply.is_ok() {
            self.parts.metrics.received_bytes.inc_by(size);
            self.parts.metrics.accept_seconds.observe(began.elapsed().as_secs_f64());
        }
        reply
    }

    /// The story up to the queue; nothing in it waits.
    fn admit(&self, submission: &Submission, id: Id, now: Time) -> Result<Admitted, Refusal> {
        let (config, keyring) = (self.parts.config.load_full(), self.parts.keyring.load_full());
        let force = Force { config: &config, keyring: &keyring };
        let message = submission.body.as_slice();
        let headers = Headers::parse(message, config.limits.header_size)?;
        trace::count_hops(&headers, &config)?;
        let author = own::the_from(message, &headers, &submission.tenant)?;
        let mut envelope = own::the_envelope(&submission.envelope, &submission.tenant, &author);
        let told = classify::tell(&self.parts, submission, (&headers, &author), &mut envelope)?;
        let (classes, give_up) = (&submission.tenant.classes, config.delivery.give_up);
        let asked = asked::of(classes, told.class.as_ref(), (&headers, &envelope), give_up);
        let stamp = Stamp { hostname: &config.hostname, id, now };
        let class = classes.certain(told.class.as_ref());
        let link = asked::link(&self.parts.links, &config, (&submission.tenant.name, class), &envelope);
        let given = priority::of(submission, &headers, told.class.as_ref());
        let added = Added { link: link.as_deref(), priority: given.to_tunnel() };
        let repaired = repair::repair(submission, &headers, &author, &stamp, &added)?;
        let judged = self.judge(submission, (&author, &envelope), (id, now), force)?;
        let sealed = match &judged.held {
            Some(_) => None,
            None => {
                let began = Instant::now();
                let sealed = sign(&judged, &submission.tenant, &repaired, message, (force, now))?;
                self.parts.metrics.seal_seconds.observe(began.elapsed().as_secs_f64());
                Some(sealed)
            }
        };
        let signatures = headers.all("DKIM-Signature").count();
        Ok(Admitted { author, envelope, told, asked, given, repaired, judged, sealed, signatures })
    }

    /// Says no, to the client and to the log.
    fn refuse(&self, submission: &Submission, id: Id, refusal: Refusal) -> Reply {
        let Submission { client, tenant, envelope, body, .. } = submission;
        let most = self.parts.config.load().limits.header_size;
        let headers = Headers::parse(body, most).unwrap_or_default();
        let header_from = headers.first("From").map(|field| String::from_utf8_lossy(field.value()));
        let to: Vec<_> = envelope.rcpts.iter().map(|rcpt| rcpt.address.clone()).collect();
        self.parts.log.rejected(&Rejected {
            id: Some(id),
            tenant: Some(&tenant.name),
            login: client.login.as_deref(),
            ip: client.ip,
            helo: &client.helo,
            tls: client.tls.as_ref(),
            from: Some(envelope.from.as_ref()),
            to: &to,
            header_from: header_from.as_deref().map(str::trim),
            reply: &refusal.reply,
            reason: refusal.reason,
        });
        refusal.reply
    }
}

/// X.3.6 of RFC 6710: a priority other than the one asked for stands first in the text.
fn queued(facts: &Facts, asked: Option<Priority>) -> Reply {
    let (id, priority) = (facts.id, facts.priority);
    if asked.is_some_and(|asked| asked != priority) {
        let text = format!("{priority} is the new priority, no more may be asked for here; queued as {id}");
        return Reply::new(250, Enhanced(2, 3, 6), text);
    }
    Reply::new(250, Enhanced(2, 0, 0), format!("Ok: queued as {id}"))
}

/// Seals on the session's thread: that costs it a quarter of a millisecond.
fn sign(
    judged: &Judged,
    tenant: &Tenant,
    repaired: &Repaired,
    message: &[u8],
    (force, now): (Force<'_>, Time),
) -> Result<Sealed, Refusal> {
    if judged.ruled.only().is_some_and(<[String]>::is_empty) {
        return Ok(Sealed::none(judged.signer.clone()));
    }
    let head = Headers::parse(&repaired.head, repaired.head.len())?;
    let order = Order {
        domain: &judged.signer,
        only: judged.ruled.only(),
        signing: &tenant.signing,
        now,
        life: seal::life(force.config),
    };
    force.keyring.seal(&order, (&head, repaired.body.octets(message))).map_err(|error| match error {
        SealError::NoKey(domain) | SealError::NoneAllowed(domain) => no_key(&domain),
        SealError::Failed(why) => {
            tracing::error!(domain = %judged.signer, why, "a message could not be sealed");
            let text = "the relay cannot sign mail now, and does not send it unsigned; send it again later";
            Refusal::new("key", 451, Enhanced(4, 7, 0), text)
        }
    })
}

/// RFC 7372 section 3.1: no passing DKIM signature, which is what receivers would find.
fn no_key(domain: &Domain) -> Refusal {
    let text = format!(
        "the relay has no DKIM key for {domain}, so receivers would not believe the mail; nothing was sent.\n\
         Ask the relay's administrator: waxseal key generate {domain}"
    );
    Refusal::new("key", 550, Enhanced(5, 7, 20), text)
}
