//! The running daemon's admin API: JSON over a unix socket that only its owner may open, for what the command line asks.
//! An optional TCP address serves metrics and health, and no verb.

pub mod client;
mod domain;
mod door;
mod health;
mod queue;
mod steer;
mod suppress;
mod web;
pub mod wire;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

pub use client::Client;
pub use door::{Doors, Peer};

use crate::clock::Clock;
use crate::mail::address::Domain;
use crate::maillog::{Audit, MailLog};
use crate::metrics::Metrics;
use crate::queue::store::{Store, StoreError};
use crate::seal::check::Report;
use crate::suppress::{List, ListError};
use crate::tenant::Tenants;

/// What an order answers, later.
pub type Ordered<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What a reload came to.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    /// Changed settings that need a restart.
    pub fixed: Vec<&'static str>,
    /// Why the mail log goes on in the file it had, where it cannot be opened anew.
    pub log: Option<String>,
}

impl Reloaded {
    /// For a person.
    #[must_use]
    pub fn words(&self) -> String {
        let done = self.log.as_ref().map_or_else(
            || "reloaded".to_owned(),
            |error| {
                format!("{error}: the mail log goes on in the file it had; everything else was taken over")
            },
        );
        match self.fixed.as_slice() {
            [] => done,
            some => format!("{done}; a restart is needed for {}", some.join(", ")),
        }
    }
}

/// What only the daemon can do, because it alone knows all the parts.
pub trait Steer: Send + Sync {
    /// Takes over changed files, and answers which settings need a restart. On an error the old ones stay in force.
    fn reload(&self) -> Ordered<'_, Reloaded>;
    /// Has the queue looked at, and what is owed told: an administrator changed something.
    fn nudge(&self);
    /// Begins to end: nothing new is taken, what is in flight finishes.
    fn drain(&self);
    /// Asks DNS about a From domain now, takes over what it says, and reports; `None`: it is nobody's.
    fn check(&self, domain: Domain) -> Ordered<'_, Option<Report>>;
    /// What is known of every From domain.
    fn reports(&self) -> Vec<Report>;
    /// Sends a probe by the route of this domain's tenant, and answers what a receiver found, or where it is stuck.
    fn probe(&self, order: wire::Probe) -> Ordered<'_, wire::Probed>;
    /// What it says of itself.
    fn about(&self) -> wire::About;
    /// How many sites of exchangers are open, probed and at rest, and up to `most` of those in use or at rest.
    fn sites(&self, most: usize) -> ([usize; 3], Vec<wire::Site>);
    /// The MTA-STS policies in force, by domain.
    fn policies(&self) -> Vec<wire::StsPolicy>;
    /// Whether everything that must run still runs; otherwise what does not.
    fn alive(&self) -> Result<(), String>;
    /// Whether new mail can be taken now; otherwise why not.
    fn ready(&self) -> Ordered<'_, ()>;
}

/// What the API works on.
pub struct State {
    /// The queue.
    pub store: Arc<dyn Store>,
    /// What each tenant's classes hide.
    pub tenants: Arc<Tenants>,
    /// Whom tenants' mail no longer goes to.
    pub suppressions: Arc<List>,
    /// Where what administrators do is told.
    pub log: Arc<MailLog>,
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Wall time.
    pub clock: Clock,
    /// The daemon.
    pub steer: Arc<dyn Steer>,
}

type Shared = axum::extract::State<Arc<State>>;

/// Serves until `stop` is cancelled.
pub async fn serve(doors: Doors, state: Arc<State>, stop: CancellationToken) {
    let Doors { socket, path, http } = doors;
    let health = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .with_state(Arc::clone(&state));
    let verbs = Router::new()
        .route("/v1/status", get(steer::status))
        .route("/v1/reload", post(steer::reload))
        .route("/v1/drain", post(steer::drain))
        .route("/v1/domain/probe", post(steer::probe))
        .route("/v1/queue/list", post(queue::list))
        .route("/v1/queue/act", post(queue::act))
        .route("/v1/suppress/list", post(suppress::list))
        .route("/v1/suppress/add", post(suppress::add))
        .route("/v1/suppress/remove", post(suppress::remove))
        .route("/v1/tls/policies", get(steer::policies))
        .route("/v1/domains", get(domain::all))
        .route("/v1/domain/{name}/check", post(domain::check))
        .route("/v1/message/{id}", get(queue::show))
        .route("/v1/message/{id}/raw", get(queue::raw))
        .with_state(state)
        .merge(health.clone());
    let admin = axum::serve(socket, verbs.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(stop.clone().cancelled_owned());
    let open = async {
        if let Some(http) = http {
            web::serve(http, health, stop).await;
        }
    };
    let (admin, ()) = tokio::join!(admin, open);
    if let Err(failed) = admin {
        tracing::error!(%failed, "the admin API ended");
    }
    path.leave();
}

/// Why an order was not carried out.
#[derive(Debug)]
enum Problem {
    Store(StoreError),
    Absent(String),
    Refused(String),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Store(error) => Self::Store(error),
            ListError::Full => Self::Refused(error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::Store(error @ StoreError::Rebuilding) => {
                (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            Self::Store(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            Self::Absent(what) => (StatusCode::NOT_FOUND, what),
            Self::Refused(why) => (StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        (status, axum::Json(wire::Problem { v: wire::VERSION, error })).into_response()
    }
}

impl State {
    /// Tells the mail log what was done, and by whom.
    fn audit(&self, actor: &str, action: &str, detail: &str, tenant: Option<&str>) {
        self.log.audit(&Audit { actor, action, detail, tenant });
    }
}

#[cfg(test)]
mod tests;
