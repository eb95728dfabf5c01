//! The suppression verbs.

use axum::Json;
use axum::extract::{ConnectInfo, State as In};

use super::wire::{Changed, SuppressAdd, SuppressList, SuppressRemove, Suppressed, VERSION};
use super::{Peer, Problem, Shared, State};
use crate::suppress::PORTIONS;

pub(super) async fn list(
    In(state): Shared,
    Json(order): Json<SuppressList>,
) -> Result<Json<Suppressed>, Problem> {
    known(&state, &order.tenant)?;
    let entries = state.suppressions.portion(&order.tenant, order.portion).await?;
    let next = Some(order.portion + 1).filter(|next| *next < PORTIONS);
    Ok(Json(Suppressed { v: VERSION, entries, next }))
}

pub(super) async fn add(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(order): Json<SuppressAdd>,
) -> Result<Json<Changed>, Problem> {
    known(&state, &order.tenant)?;
    let asked = order.entries.len();
    let told = order.entries.first().filter(|_| asked == 1).map(|entry| entry.address.clone());
    let changed = state.suppressions.add(&order.tenant, order.entries).await?.len();
    audit(&state, &peer, "suppress.add", (&order.tenant, told, changed));
    Ok(Json(Changed { v: VERSION, changed }))
}

pub(super) async fn remove(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(order): Json<SuppressRemove>,
) -> Result<Json<Changed>, Problem> {
    known(&state, &order.tenant)?;
    let told = order.entries.first().filter(|_| order.entries.len() == 1).map(|(address, _)| address.clone());
    let changed = state.suppressions.remove(&order.tenant, &order.entries).await?;
    audit(&state, &peer, "suppress.remove", (&order.tenant, told, changed));
    Ok(Json(Changed { v: VERSION, changed }))
}

fn known(state: &State, tenant: &str) -> Result<(), Problem> {
    let tenants = state.tenants.load();
    tenants.tenant(tenant).map(drop).ok_or_else(|| Problem::Absent(format!("there is no tenant {tenant}")))
}

fn audit(state: &State, peer: &Peer, action: &str, (tenant, one, changed): (&str, Option<String>, usize)) {
    let detail = match one {
        Some(address) if changed == 1 => address,
        _ => format!("{changed} addresses"),
    };
    state.audit(&peer.actor, action, &detail, Some(tenant));
}
