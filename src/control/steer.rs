//! Status, what is known of policies, reload and drain.

use axum::extract::ConnectInfo;
use axum::{Json, extract::State as In};

use super::wire::{Done, Probe, Probed, Status, StsPolicy, VERSION};
use super::{Peer, Problem, Reloaded, Shared};

/// Sites that `status` names at most.
const SITES: usize = 50;

pub(super) async fn status(In(state): Shared) -> Json<Status> {
    let queue = state.store.stats().await.ok();
    let alive = state.steer.alive();
    let trouble = match alive {
        Ok(()) => state.steer.ready().await.err(),
        Err(dead) => Some(dead),
    };
    let about = state.steer.about();
    let (_, sites) = state.steer.sites(SITES);
    Json(Status { v: VERSION, about, sessions: state.metrics.sessions.get(), queue, sites, trouble })
}

pub(super) async fn policies(In(state): Shared) -> Json<Vec<StsPolicy>> {
    Json(state.steer.policies())
}

pub(super) async fn reload(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Done>, Problem> {
    let outcome = state.steer.reload().await;
    let said = outcome.as_ref().map_or_else(String::clone, Reloaded::words);
    state.audit(&peer.actor, "reload", &said, None);
    match outcome {
        Ok(Reloaded { log: None, .. }) => Ok(Json(Done { v: VERSION, done: said })),
        Ok(_) | Err(_) => Err(Problem::Refused(said)),
    }
}

pub(super) async fn drain(In(state): Shared, ConnectInfo(peer): ConnectInfo<Peer>) -> Json<Done> {
    state.audit(&peer.actor, "drain", "begun", None);
    state.steer.drain();
    Json(Done { v: VERSION, done: "draining".to_owned() })
}

pub(super) async fn probe(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(order): Json<Probe>,
) -> Result<Json<Probed>, Problem> {
    state.audit(&peer.actor, "domain.probe", order.domain.as_str(), None);
    Ok(Json(state.steer.probe(order).await.map_err(Problem::Refused)?))
}
