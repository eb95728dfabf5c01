//! How From domains stand with receivers.

use axum::Json;
use axum::extract::{Path, State as In};

use super::{Problem, Shared};
use crate::mail::address::Domain;
use crate::seal::check::Report;

/// Every From domain, from memory.
pub(super) async fn all(In(state): Shared) -> Json<Vec<Report>> {
    Json(state.steer.reports())
}

/// One From domain; DNS is asked now, and what it says is in force when this answers.
pub(super) async fn check(In(state): Shared, Path(name): Path<String>) -> Result<Json<Report>, Problem> {
    let domain: Domain = name.parse().map_err(|error| Problem::Refused(format!("{name}: {error}")))?;
    let report = state.steer.check(domain).await.map_err(Problem::Refused)?;
    report.map(Json).ok_or_else(|| Problem::Absent(format!("{name} is no tenant's From domain")))
}
