//! `waxseal.toml` as it is written. Every key is optional here; `check` fills in the defaults and joins paths.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::value::{Count, Port, Size, Span, Wait};
use crate::mail::address::Domain;

/// A table whose keys are known by name, so that a variable of the environment can stand for each.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name { $(pub(super) $key: Option<$type>,)* }

        impl $name {
            /// Every key, as written.
            pub(super) const KEYS: &[&str] = &[$(stringify!($key)),*];

            /// What `over` says wins.
            fn overlay(&mut self, over: Self) {
                $(if over.$key.is_some() { self.$key = over.$key; })*
            }
        }
    };
}

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) hostname: Option<Domain>,
    pub(super) state: Option<PathBuf>,
    pub(super) tenants: Option<PathBuf>,
    pub(super) keys: Option<PathBuf>,
    #[serde(default)]
    pub(super) listener: Vec<Spanned<Listener>>,
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) relay: Relay,
    #[serde(default)]
    pub(super) seal: Seal,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) dns: Dns,
    #[serde(default)]
    pub(super) delivery: Delivery,
    #[serde(default)]
    pub(super) queue: Queue,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) admin: Admin,
    pub(super) unsubscribe: Option<Unsubscribe>,
    #[serde(default)]
    pub(super) class: Vec<super::class::Written>,
}

/// The keys that stand before the first table.
pub(super) const TOP_KEYS: &[&str] = &["hostname", "state", "tenants", "keys"];

/// The tables that the environment can speak for, with their keys.
pub(super) const SECTIONS: &[(&str, &[&str])] = &[
    ("tls", Tls::KEYS),
    ("relay", Relay::KEYS),
    ("seal", Seal::KEYS),
    ("limits", Limits::KEYS),
    ("dns", Dns::KEYS),
    ("delivery", Delivery::KEYS),
    ("queue", Queue::KEYS),
    ("log", Log::KEYS),
    ("admin", Admin::KEYS),
    ("unsubscribe", Unsubscribe::KEYS),
];

/// The keys that hold a path.
pub(super) const PATHS: &[&str] = &[
    "delivery.ca_file",
    "dns.trust_anchors",
    "state",
    "tenants",
    "keys",
    "tls.certificate",
    "tls.key",
    "log.path",
    "admin.socket",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub(super) address: Spanned<SocketAddr>,
    pub(super) role: Option<super::Role>,
    pub(super) tls: Option<Spanned<super::ListenerTls>>,
    pub(super) cleartext_auth: Option<Spanned<super::CleartextAuth>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

section!(Tls { certificate: PathBuf, key: PathBuf, more: Vec<Pair>, });

section!(Relay { domain: Domain, dkim_zone: Domain, bounce_host: Domain });

section!(Seal { hold_max: Wait, rotate_after: Spanned<Span> });

section!(Limits {
    connections: Count,
    connections_per_address: Count,
    message_size: Size,
    body_memory: Size,
    recipients: Spanned<Count>,
    errors: Count,
    junk_commands: Count,
    command_timeout: Wait,
    data_timeout: Wait,
    handshake_timeout: Wait,
    minimum_rate: Size,
    hello_wait: Span,
    header_size: Size,
    hops: Count,
    deliver_by: Span,
});

section!(Dns { servers: Vec<SocketAddr>, dnssec: super::Dnssec, trust_anchors: PathBuf, timeout: Wait });

/// `[[delivery.source]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EgressSource {
    pub(super) address: IpAddr,
    pub(super) hostname: Option<Domain>,
    #[serde(default)]
    pub(super) tenants: Vec<String>,
    #[serde(default)]
    pub(super) classes: Vec<String>,
}

section!(Delivery {
    port: Port,
    sources: Vec<IpAddr>,
    source: Vec<Spanned<EgressSource>>,
    public_addresses: Vec<IpAddr>,
    allow_private_destinations: bool,
    allow_destinations: Vec<IpNet>,
    ca_file: Spanned<PathBuf>,
    mta_sts: bool,
    mta_sts_port: Port,
    tls_reports: bool,
    concurrency: Count,
    concurrency_per_destination: Count,
    sites: Vec<Domain>,
    rest_max: Span,
    messages_per_connection: Count,
    idle: Span,
    retry: Vec<Wait>,
    give_up: Wait,
    delay_notice: Span,
    gather: Span,
    drain: Span,
    connect_timeout: Wait,
    command_timeout: Wait,
    data_init_timeout: Wait,
    data_block_timeout: Wait,
    data_done_timeout: Wait,
});

section!(Queue { window: Count, body_cache: Size, read_memory: Size, index_cache: Size, disk_reserve: Size });

section!(Log { path: PathBuf });

section!(Admin { socket: PathBuf, http: SocketAddr });

section!(Unsubscribe { address: SocketAddr, base_url: Spanned<String>, tls: bool });

impl File {
    /// What `over` says wins; lists are replaced whole.
    pub(super) fn overlay(&mut self, over: Self) {
        self.hostname = over.hostname.or(self.hostname.take());
        self.state = over.state.or(self.state.take());
        self.tenants = over.tenants.or(self.tenants.take());
        self.keys = over.keys.or(self.keys.take());
        if let Some(tls) = over.tls {
            self.tls.get_or_insert_default().overlay(tls);
        }
        self.relay.overlay(over.relay);
        self.seal.overlay(over.seal);
        self.limits.overlay(over.limits);
        self.dns.overlay(over.dns);
        self.delivery.overlay(over.delivery);
        self.queue.overlay(over.queue);
        self.log.overlay(over.log);
        self.admin.overlay(over.admin);
        if let Some(unsubscribe) = over.unsubscribe {
            self.unsubscribe.get_or_insert_default().overlay(unsubscribe);
        }
    }
}
