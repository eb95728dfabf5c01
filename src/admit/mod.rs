//! May this message be sent? One short story: own the From, repair, sign, put; each refusal is a `Reply` made where it
//! is found.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::Config;
use crate::mail::address::Address;
use crate::mail::attempt::TlsFacts;
use crate::mail::envelope::Envelope;
use crate::mail::reply::Reply;
use crate::queue::store::Store;
use crate::seal::Keyring;
use crate::tenant::Tenant;

/// What admission is made of.
pub struct Parts {
    /// Hostname, limits and the queue's life; a reload swaps it.
    pub config: Arc<ArcSwap<Config>>,
    /// Where accepted mail goes.
    pub store: Arc<dyn Store>,
    /// The keys that seal it; a reload swaps it.
    pub keyring: Arc<ArcSwap<Keyring>>,
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
        let _ = (tenant, from, &self.parts);
        Ok(())
    }

    /// Accepts a message (250, durable) or says why not.
    pub async fn submit(&self, submission: Submission) -> Reply {
        let _ = submission;
        todo!()
    }
}
