//! The configuration, parsed and checked: nothing downstream reads a file or doubts a value.

mod check;
pub mod class;
mod defaults;
mod error;
mod file;
mod load;
pub(crate) mod value;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

pub use self::class::{Class, ClassTls, Classes};
pub use self::error::ConfigError;
pub use self::load::Environment;
pub(crate) use self::load::read;
use crate::mail::address::Domain;

/// Everything `waxseal.toml` says, with defaults filled in and paths made absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file this came from.
    pub file: PathBuf,
    /// Greeting, EHLO, `Received:`, `Authentication-Results:`.
    pub hostname: Domain,
    /// Spool, index, caches, secrets that we make ourselves.
    pub state: PathBuf,
    /// One file a tenant.
    pub tenants: PathBuf,
    /// DKIM private keys: `<domain>/<selector>.pem`.
    pub keys: PathBuf,
    /// The sockets that take mail.
    pub listeners: Vec<Listener>,
    /// The listener's certificate; needed unless every listener is `none`.
    pub tls: Option<Tls>,
    /// The relay's own identity.
    pub relay: Relay,
    /// What receivers must believe.
    pub seal: Seal,
    /// Bounds.
    pub limits: Limits,
    /// Name servers.
    pub dns: Dns,
    /// How mail leaves.
    pub delivery: Delivery,
    /// The queue on disk.
    pub queue: Queue,
    /// The mail log.
    pub log: Log,
    /// The daemon's admin API.
    pub admin: Admin,
    /// Where readers unsubscribe; `None`: nowhere.
    pub unsubscribe: Option<Unsubscribe>,
    /// The kinds of mail; a tenant's file may change what each means for its own.
    pub classes: Classes,
}

/// One socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it binds; port 0 in tests.
    pub address: SocketAddr,
    /// What it is for.
    pub role: Role,
    /// How TLS starts.
    pub tls: ListenerTls,
    /// AUTH before TLS.
    pub cleartext_auth: CleartextAuth,
}

/// What a listener takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Tenants' mail.
    Submission,
    /// Bounces and reports that come back to us; never relays.
    Inbound,
}

/// The three methods of the platform's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerTls {
    /// Clear text; no STARTTLS is offered.
    None,
    /// STARTTLS is offered.
    Starttls,
    /// TLS from the first octet.
    Implicit,
}

/// AUTH on a connection without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CleartextAuth {
    /// Not advertised, and refused.
    Hide,
    /// Advertised, answered `530 5.7.0 Must issue a STARTTLS command first` without a look at the credential.
    Upgrade,
    /// Taken.
    Allow,
}

/// The certificate and key served; further pairs are chosen by SNI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// More pairs, chosen by the names in their certificates.
    pub more: Vec<(PathBuf, PathBuf)>,
}

/// The relay's own identity, which seals notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Its From domain; default: hostname.
    pub domain: Domain,
    /// Zone that tenants' DKIM CNAMEs point into.
    pub dkim_zone: Option<Domain>,
    /// Name that tenants' return paths can point at with a CNAME: the relay publishes MX and SPF there.
    pub bounce_host: Option<Domain>,
}

/// How long what receivers would not believe is kept, and how old a key may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Longest time that mail is parked until DNS is right.
    pub hold_max: Duration,
    /// Age at which a key is replaced by a new one; zero: never.
    pub rotate_after: Duration,
}

/// The most RCPTs of a transaction: all that is known of a message fits into one record of the queue, which leaves 3,355 octets
/// for each of so many recipients.
pub const RECIPIENTS_MAX: usize = 5_000;

/// Every bound of the listener; each has a default and a line in the sample configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; one more gets 421 4.3.2.
    pub connections: usize,
    /// Sessions at once from one address.
    pub connections_per_address: usize,
    /// Octets of a message (SIZE).
    pub message_size: u64,
    /// Octets of memory for messages on their way in; one that finds none gets 452.
    pub body_memory: u64,
    /// RCPTs of a transaction.
    pub recipients: usize,
    /// Errors before 421 (CM11).
    pub errors: u32,
    /// NOOP, RSET, VRFY, HELP and repeated EHLO before 421.
    pub junk_commands: u32,
    /// Longest wait for a command (RFC 5321 section 4.5.3.2.7).
    pub command_timeout: Duration,
    /// Longest wait for the next octets of a message (RFC 5321 section 4.5.3.2.5).
    pub data_timeout: Duration,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Octets a second below which a transfer is given up, averaged over a minute.
    pub minimum_rate: u64,
    /// How long an address not yet known may take to show a TLS ClientHello before the banner is sent.
    pub hello_wait: Duration,
    /// Octets of the header section.
    pub header_size: usize,
    /// `Received:` lines after which a message is a loop (RFC 5321 section 6.3).
    pub hops: usize,
    /// The shortest time that is taken with BY and mode R (RFC 2852); whole seconds count, zero: any.
    pub deliver_by: Duration,
}

/// Name servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
    /// Whether DNSSEC is validated.
    pub dnssec: Dnssec,
    /// The keys that validation begins from; `None`: the root's own.
    pub trust_anchors: Option<PathBuf>,
    /// Longest wait for an answer.
    pub timeout: Duration,
}

/// How DNS proves what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dnssec {
    /// Not at all.
    #[default]
    Off,
    /// The relay validates the answers of delivery's lookups itself.
    Validate,
    /// The name servers validate, and what they say of it (the AD bit) is believed: all of them are on this machine.
    TrustAd,
}

/// An address to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// A local address.
    pub address: IpAddr,
    /// What it greets with: the name of its reverse record.
    pub hostname: Domain,
    /// Whose mail leaves from it; empty: anybody's.
    pub tenants: Vec<String>,
    /// Mail of these classes only; empty: any.
    pub classes: Vec<String>,
}

/// How mail leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Port of exchangers.
    pub port: u16,
    /// Local addresses to send from, those of `source` among them; empty: the system's choice.
    pub sources: Vec<IpAddr>,
    /// Those that greet with a name of their own, or are some tenants' or classes' only.
    pub source: Vec<Source>,
    /// The addresses receivers see.
    pub public_addresses: Vec<IpAddr>,
    /// Loopback, private and link-local destinations (tests, sandbox).
    pub allow_private_destinations: bool,
    /// Ranges that are allowed all the same.
    pub allow_destinations: Vec<IpNet>,
    /// Root certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the MTA-STS policies of recipients' domains are looked for and obeyed.
    pub mta_sts: bool,
    /// Port of the hosts that publish them.
    pub mta_sts_port: u16,
    /// Whether domains that ask for it are told how sessions with their exchangers went (RFC 8460).
    pub tls_reports: bool,
    /// Attempts at once, in all.
    pub concurrency: usize,
    /// Attempts at once to one site of exchangers, or one tenant's upstream.
    pub concurrency_per_destination: usize,
    /// Names below which all exchangers are one site.
    pub sites: Vec<Domain>,
    /// The longest rest of a site after a failure; zero: none ever rests.
    pub rest_max: Duration,
    /// Messages over one connection.
    pub messages_per_connection: u32,
    /// Idle time after which a kept connection is closed.
    pub idle: Duration,
    /// Waits between attempts; the last one repeats.
    pub retry: Vec<Duration>,
    /// Age at which the queue gives up (RFC 5321 section 4.5.4.1: 4 to 5 days).
    pub give_up: Duration,
    /// Age at which the tenant is told of a delay; zero: never.
    pub delay_notice: Duration,
    /// How long failures are gathered into one notification.
    pub gather: Duration,
    /// How long attempts in flight may take after SIGTERM.
    pub drain: Duration,
    /// Longest wait for a TCP connection.
    pub connect_timeout: Duration,
    /// Longest wait for the greeting, MAIL and RCPT replies (RFC 5321 section 4.5.3.2: 5 min).
    pub command_timeout: Duration,
    /// Longest wait for DATA's 354 (2 min).
    pub data_init_timeout: Duration,
    /// Longest wait for a block to be taken (3 min).
    pub data_block_timeout: Duration,
    /// Longest wait for the reply to the final dot (10 min).
    pub data_done_timeout: Duration,
}

/// The queue on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Recipients held in memory.
    pub window: usize,
    /// Octets of bodies kept in memory.
    pub body_cache: u64,
    /// Octets of memory for bodies read back from the disk.
    pub read_memory: u64,
    /// sled's cache.
    pub index_cache: u64,
    /// Free octets of the disk below which MAIL gets 452.
    pub disk_reserve: u64,
}

/// The mail log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// JSON Lines, one event each.
    pub path: PathBuf,
}

/// The daemon's admin API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Unix socket.
    pub socket: PathBuf,
    /// Optional TCP address: metrics and health.
    pub http: Option<SocketAddr>,
}

/// Where readers unsubscribe (RFC 8058).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Where it listens.
    pub address: SocketAddr,
    /// What links begin with, as readers reach it: `https://`, without a slash at the end.
    pub base_url: String,
    /// Whether it serves TLS itself, with the listeners' certificates; otherwise a proxy before it does.
    pub tls: bool,
}

impl Delivery {
    /// The name of its own that a source greets with.
    #[must_use]
    pub fn greets(&self, source: IpAddr) -> Option<&Domain> {
        self.source.iter().find(|one| one.address == source).map(|one| &one.hostname)
    }
}

impl Config {
    /// Reads the file: `path`, or `WAXSEAL_CONFIG`, `./config/waxseal.toml`, `/etc/waxseal/waxseal.toml`; then the
    /// `WAXSEAL_*` variables, which win over the file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        load::load(path, &|name| std::env::var(name).ok())
    }

    /// The same with an environment of the caller's, for tests.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load_with(path: Option<&Path>, environment: Environment<'_>) -> Result<Self, ConfigError> {
        load::load(path, environment)
    }

    /// What return paths are made and known by: made at `init`, or at the first start.
    #[must_use]
    pub fn bounce_secret(&self) -> PathBuf {
        self.state.join("secrets/bounce")
    }

    /// Which file `load` would read.
    ///
    /// # Errors
    /// There is none.
    pub fn find(path: Option<&Path>) -> Result<PathBuf, ConfigError> {
        load::find(path, &|name| std::env::var(name).ok())
    }

    /// Every option at its default, all files below `state`, and no listener: for the sandbox and for tests, which
    /// then set what they need.
    #[must_use]
    pub fn new(hostname: Domain, state: &Path) -> Self {
        Self {
            file: state.join("waxseal.toml"),
            relay: Relay { domain: hostname.clone(), dkim_zone: None, bounce_host: None },
            seal: Seal::default(),
            hostname,
            state: state.to_owned(),
            tenants: state.join("tenants"),
            keys: state.join("keys"),
            listeners: Vec::new(),
            tls: None,
            limits: Limits::default(),
            dns: Dns::default(),
            delivery: Delivery::default(),
            queue: Queue::default(),
            log: Log { path: state.join("mail.jsonl") },
            admin: Admin { socket: state.join("admin.sock"), http: None },
            unsubscribe: None,
            classes: Classes::default(),
        }
    }
}
