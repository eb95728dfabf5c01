//! Metrics and health, for machines that watch.

use axum::extract::State as In;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::{Shared, State};
use crate::metrics::StateLabel;
use crate::queue::store::Stats;

/// What Prometheus is told it gets.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn metrics(In(state): Shared) -> impl IntoResponse {
    if let Ok(stats) = state.store.stats().await {
        gauge(&state, &stats);
    }
    let (counts, _) = state.steer.sites(0);
    for (name, count) in ["open", "probing", "resting"].into_iter().zip(counts) {
        let gauge = state.metrics.sites.get_or_create_owned(&StateLabel { state: name });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    ([("content-type", OPENMETRICS)], state.metrics.render())
}

fn gauge(state: &State, stats: &Stats) {
    let numbers = [
        (&state.metrics.queue_messages, stats.messages),
        (&state.metrics.queue_recipients, stats.recipients),
        (&state.metrics.queue_active, stats.active),
        (&state.metrics.queue_held, stats.held),
        (&state.metrics.queue_owed, stats.owed),
        (&state.metrics.queue_unindexed, stats.unindexed),
        (&state.metrics.journal_bytes, stats.journal_bytes),
        (&state.metrics.journal_live_bytes, stats.live_bytes),
        (&state.metrics.journal_syncs, stats.syncs),
        (&state.metrics.journal_quarantined, stats.quarantined),
        (&state.metrics.journal_set_aside, stats.set_aside),
    ];
    for (gauge, value) in numbers {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
}

/// Whether the process should be left alone: false means that a restart would help.
pub(super) async fn livez(In(state): Shared) -> impl IntoResponse {
    answer(state.steer.alive())
}

/// Whether mail should be sent here.
pub(super) async fn readyz(In(state): Shared) -> impl IntoResponse {
    answer(match state.steer.alive() {
        Ok(()) => state.steer.ready().await,
        Err(dead) => Err(dead),
    })
}

fn answer(well: Result<(), String>) -> (StatusCode, String) {
    match well {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
