//! May this message be sent? One short story: own the From, repair, sign, put. Each refusal is a `Reply` made where it is
//! found; what is accepted is on stable storage before its 250.

mod body;
mod encode;
mod own;
mod put;
mod refusal;
mod repair;
mod tail;
mod trace;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::Config;
use crate::mail::address::{Address, Domain};
use crate::mail::attempt::TlsFacts;
use crate::mail::envelope::Envelope;
use crate::mail::header::Headers;
use crate::mail::id::Id;
use crate::mail::reply::{Enhanced, Reply};
use crate::mail::time::Time;
use crate::maillog::{MailLog, Rejected};
use crate::queue::store::Store;
use crate::seal::{Keyring, Order, SealError, Sealed};
use crate::tenant::{Tenant, Tenants};
use own::Author;
use refusal::Refusal;
use repair::Repaired;
use trace::Stamp;

/// A signature outlives the queue's give-up age by this, for mail that was long on its way.
const SEAL_MARGIN: Duration = Duration::from_secs(2 * 24 * 3600);

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
    /// Told of every message, accepted or not.
    pub log: Arc<MailLog>,
    /// Wall time.
    pub clock: Clock,
}

/// The gate that every submitted message passes once.
pub struct Admit {
    parts: Parts,
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
#[derive(Clone, Debug)]
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
    /// Headers and body.
    pub body: Vec<u8>,
}

/// A message that may be sent, ready to be put.
struct Admitted {
    author: Author,
    envelope: Envelope,
    repaired: Repaired,
    sealed: Sealed,
}

impl Admit {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Whether this tenant may use that reverse-path, asked at MAIL so that a refusal costs no body.
    ///
    /// # Errors
    /// The reply to give.
    pub fn may_send_from(&self, tenant: &Tenant, from: Option<&Address>) -> Result<(), Reply> {
        own::reverse_path(&self.parts.tenants.load(), tenant, from).map_err(|refusal| refusal.reply)
    }

    /// Accepts a message (250, durable) or says why not.
    pub async fn submit(&self, mut submission: Submission) -> Reply {
        tail::trim(&mut submission.body);
        let now = self.parts.clock.now();
        let id = Id::new(now, rand::random());
        match self.admit(&submission, id, now) {
            Ok(admitted) => self.put(submission, admitted, id, now).await,
            Err(refusal) => self.refuse(&submission, id, refusal),
        }
    }

    /// The story up to the queue; nothing in it waits.
    fn admit(&self, submission: &Submission, id: Id, now: Time) -> Result<Admitted, Refusal> {
        let config = self.parts.config.load();
        let message = submission.body.as_slice();
        let headers = Headers::parse(message, config.limits.header_size)?;
        trace::count_hops(&headers, &config)?;
        let author = own::the_from(message, &headers, &submission.tenant)?;
        let envelope = own::the_envelope(&submission.envelope, &submission.tenant, &author);
        let stamp = Stamp { hostname: &config.hostname, id, now };
        let repaired = repair::repair(submission, &headers, &author, &stamp)?;
        let sealed = self.sign(submission, &author, &repaired, now)?;
        Ok(Admitted { author, envelope, repaired, sealed })
    }

    /// Seals with the key of the From domain itself or, for a name below the tenant's domain, with that domain's. Signing on
    /// the session's thread costs it a quarter of a millisecond.
    fn sign(
        &self,
        submission: &Submission,
        author: &Author,
        repaired: &Repaired,
        now: Time,
    ) -> Result<Sealed, Refusal> {
        let keyring = self.parts.keyring.load();
        let life = self.parts.config.load().delivery.give_up + SEAL_MARGIN;
        let exact = author.address.domain();
        let domain = if keyring.keys(exact).is_empty() { &author.owned } else { exact };
        let head = Headers::parse(&repaired.head, repaired.head.len())?;
        let covered = (&head, repaired.body.octets(&submission.body));
        let order = Order { domain, only: None, signing: &submission.tenant.signing, now, life };
        keyring.seal(&order, covered).map_err(|error| match error {
            SealError::NoKey(domain) | SealError::NoneAllowed(domain) => no_key(&domain),
            SealError::Failed(why) => {
                tracing::error!(%domain, why, "a message could not be sealed");
                let text =
                    "the relay cannot sign mail now, and does not send it unsigned; send it again later";
                Refusal::new("key", 451, Enhanced(4, 7, 0), text)
            }
        })
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

/// RFC 7372 section 3.1: no passing DKIM signature, which is what receivers would find.
fn no_key(domain: &Domain) -> Refusal {
    let text = format!(
        "the relay has no DKIM key for {domain}, so receivers would not believe the mail; nothing was sent.\n\
         Ask the relay's administrator: waxseal key generate {domain}"
    );
    Refusal::new("key", 550, Enhanced(5, 7, 20), text)
}
