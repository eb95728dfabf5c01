//! What came of an attempt, a recipient at a time: the words that deliver, schedule, queue and log share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::meaning::Meaning;
use super::reply::PeerReply;
use super::time::Time;

/// What one attempt decided about one recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The next hop took responsibility with its 250.
    Delivered,
    /// Not now; it stays queued.
    Deferred,
    /// Never; the tenant is told.
    Failed,
}

/// One recipient's fate with everything known about how it came, made when its reply arrives.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Index into the envelope's recipients.
    pub rcpt: u16,
    /// What was decided.
    pub fate: Fate,
    /// The reply that decided it, or our own words with code 0.
    pub reply: PeerReply,
    /// Who gave it and how they were reached.
    pub hop: Hop,
    /// How long each step took.
    pub ms: Timings,
}

impl Decided {
    /// What the reply means, where it was no success.
    #[must_use]
    pub fn meaning(&self) -> Meaning {
        Meaning::of_reply(self.hop.host.as_deref(), &self.reply)
    }
}

/// The server an attempt ended at; all `None` where no host was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// `mx` or `upstream`.
    pub route: &'static str,
    /// The site that the mail goes to: exchangers that share their limits.
    pub site: Option<Arc<str>>,
    /// Until when the site rests.
    pub rests: Option<Time>,
    /// The exchanger's name.
    pub host: Option<String>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The address of ours that the connection came from.
    pub source: Option<IpAddr>,
    /// The TLS session, if there was one.
    pub tls: Option<TlsFacts>,
    /// Whether it offered DSN and so was told what notifications the sender wants (RFC 3461): it then reports, not we.
    pub dsn: bool,
    /// Whether it offered DELIVERBY (RFC 2852), and so keeps the sender's time from here on.
    pub deliver_by: bool,
    /// How our login went.
    #[serde(skip)]
    pub login: Login,
    /// Whether the connection was lost after the whole message had been sent: it may have arrived (RFC 1047).
    #[serde(skip)]
    pub lost: bool,
    /// Whether its reply answered for several recipients at once, as one to the final dot does.
    #[serde(skip)]
    pub shared: bool,
}

/// A tenant's way out: its route, or that route's fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// The route.
    First,
    /// Its fallback.
    Second,
}

/// How a login at an upstream went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// None was needed, or it came to no decision, or the session was kept since an earlier message.
    #[default]
    None,
    /// The upstream took the tenant's credentials.
    Accepted,
    /// It refuses them: nothing of the tenant's can leave this way until they are changed there or here.
    Refused {
        /// How long it is not asked again.
        again: Duration,
    },
    /// None was tried: the upstream does not show the certificate, or offer the STARTTLS, without which nothing is sent to it.
    Withheld,
}

/// What is worth knowing of a TLS session, inbound or outbound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFacts {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: String,
    /// The cipher suite's IANA name.
    pub cipher: String,
    /// Outbound: whether chain and name of the certificate were good. Inbound: false.
    pub verified: bool,
    /// Outbound: what asked for it, such as `class` or `mta-sts`; `None`: nothing more than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Milliseconds spent in each step of an attempt; `None` where the step did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From accept (or from due) to the start of the attempt.
    pub queue: Option<u64>,
    /// MX and address lookups.
    pub dns: Option<u64>,
    /// TCP connect; absent on a reused connection.
    pub connect: Option<u64>,
    /// The TLS handshake.
    pub tls: Option<u64>,
    /// From MAIL to the last reply.
    pub smtp: Option<u64>,
    /// From accept to this outcome.
    pub total: Option<u64>,
}
