//! One SMTP conversation with a client. `machine` decides every reply and holds no I/O; `driver` moves octets, waits and
//! asks the rest of the house what `machine` wants to know.

pub mod command;
pub mod data;
mod driver;
mod ending;
pub mod machine;
mod pace;
pub mod params;
pub mod path;
pub mod sasl;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use driver::{Visitor, run};
pub use stream::Stream;

use crate::admit::Admit;
use crate::clock::Clock;
use crate::config::Config;
use crate::inbound::Inbound;
use crate::maillog::MailLog;
use crate::memory::Budget;
use crate::metrics::Metrics;
use crate::queue::store::Store;
use crate::tenant::Tenants;
use crate::tenant::auth::Gate;
use crate::tenant::meter::Meter;

/// What every session uses. Made once by the daemon.
pub struct Shared {
    /// Hostname and limits; a reload swaps it, and the next session reads it.
    pub config: Arc<ArcSwap<Config>>,
    /// Who may send; asked again at every MAIL.
    pub tenants: Arc<Tenants>,
    /// Checks passwords.
    pub gate: Arc<Gate>,
    /// Counts each tenant's messages.
    pub meter: Arc<Meter>,
    /// Where messages go.
    pub admit: Arc<Admit>,
    /// Where what comes back goes.
    pub inbound: Arc<Inbound>,
    /// Asked at MAIL whether there is room.
    pub store: Arc<dyn Store>,
    /// The memory that messages share while they come in.
    pub memory: Arc<Budget>,
    /// Refusals and connection tests are told here.
    pub log: Arc<MailLog>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Wall time.
    pub clock: Clock,
    /// What TLS is served with (`listen::certs::Certificates::server_config`); `None` where no certificate is configured.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Waits that no administrator sets.
    pub waits: Waits,
}

/// Waits that no administrator sets, and tests shorten.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// Before the first refused AUTH is answered; doubles with each.
    pub auth: Duration,
    /// For a client that does not read its replies.
    pub write: Duration,
    /// For a message under way when the daemon is told to stop.
    pub drain: Duration,
    /// What the minimum rate of a message is averaged over.
    pub rate: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            auth: Duration::from_millis(500),
            write: Duration::from_secs(60),
            drain: Duration::from_secs(25),
            rate: Duration::from_secs(60),
        }
    }
}
