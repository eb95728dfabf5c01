//! What the configuration says about attempts; a reload swaps it whole, and attempts under way keep the old one.

use std::net::SocketAddr;
use std::time::Duration;

use super::guard::Guard;
use super::pace::Bounds;
use super::source::Sources;
use super::tls::Tls;
use crate::config::Config;
use crate::mail::address::Domain;

/// What the configuration says about attempts.
pub(super) struct Settings {
    pub(super) tls: Tls,
    pub(super) guard: Guard,
    /// Exchangers' port.
    pub(super) port: u16,
    pub(super) sources: Sources,
    pub(super) mta_sts: bool,
    /// Port of the hosts that publish MTA-STS policies.
    pub(super) sts_port: u16,
    /// Whether sessions are counted for reports.
    pub(super) tls_reports: bool,
    pub(super) idle: Duration,
    /// Messages over one connection.
    pub(super) messages: u32,
    pub(super) bounds: Bounds,
    /// Names below which all exchangers are one site.
    pub(super) roofs: Vec<Domain>,
    pub(super) connect: Duration,
    pub(super) command: Duration,
    pub(super) data_init: Duration,
    pub(super) data_block: Duration,
    pub(super) data_done: Duration,
}

impl Settings {
    pub(super) fn new(config: &Config, own: Vec<SocketAddr>) -> Self {
        let delivery = &config.delivery;
        // A name that a stranger publishes must not lead to the admin API either.
        let own = own.into_iter().chain(config.admin.http).collect();
        Self {
            tls: Tls::new(delivery.ca_file.as_deref()),
            guard: Guard::new(delivery, own),
            port: delivery.port,
            sources: Sources::new(delivery, &config.hostname),
            mta_sts: delivery.mta_sts,
            sts_port: delivery.mta_sts_port,
            tls_reports: delivery.tls_reports,
            idle: delivery.idle,
            messages: delivery.messages_per_connection,
            bounds: Bounds { most: delivery.concurrency_per_destination, rest: delivery.rest_max },
            roofs: delivery.sites.clone(),
            connect: delivery.connect_timeout,
            command: delivery.command_timeout,
            data_init: delivery.data_init_timeout,
            data_block: delivery.data_block_timeout,
            data_done: delivery.data_done_timeout,
        }
    }
}
