//! The queue verbs: what they ask of the store, and what they tell the mail log.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path};
use axum::response::{IntoResponse, Response};
use axum::{Json, extract::State as In};

use super::wire::{Act, Row, Rows, Shown, VERSION};
use super::{Peer, Problem, Shared, State};
use crate::config::class::Hides;
use crate::deliver::redact;
use crate::mail::id::Id;
use crate::mail::message::{Facts, Message};
use crate::queue::store::{Action, Entry, Filter, StateName};

/// Legs in one answer, unless the asker says how many.
const LIST_DEFAULT: usize = 1_000;
/// Legs in one answer at most: some 50 MB.
const LIST_MAX: usize = 100_000;
/// Legs that a command does before it is told and answered, and so all that memory holds of it; the last message whole.
const ACT_PAGE: usize = 2_000;

pub(super) async fn list(In(state): Shared, Json(mut filter): Json<Filter>) -> Result<Json<Rows>, Problem> {
    let most = filter.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
    filter.limit = Some(most + 1);
    let entries = state.store.list(filter, state.clock.now()).await?;
    let more = entries.len() > most;
    let rows = entries.iter().take(most).map(Row::from).collect();
    Ok(Json(Rows { v: VERSION, rows, more }))
}

pub(super) async fn act(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(order): Json<Act>,
) -> Result<Json<Rows>, Problem> {
    let Act { mut filter, action } = order;
    let asked = serde_json::to_string(&filter).unwrap_or_default();
    let limit = filter.limit;
    filter.page = Some(ACT_PAGE);
    let entries = state.store.act(filter, action.clone(), state.clock.now()).await?;
    for entry in &entries {
        tell(&state, &peer.actor, &action, entry);
    }
    state.steer.nudge();
    let detail = format!("{} legs of {asked}", entries.len());
    state.audit(&peer.actor, verb(&action), &detail, None);
    let more = entries.len() >= ACT_PAGE && limit.is_none_or(|limit| entries.len() < limit);
    Ok(Json(Rows { v: VERSION, rows: entries.iter().map(Row::from).collect(), more }))
}

fn verb(action: &Action) -> &'static str {
    match action {
        Action::Retry => "queue.retry",
        Action::Hold { .. } => "queue.hold",
        Action::Release => "queue.release",
        Action::Bounce { .. } => "queue.bounce",
        Action::Drop => "queue.drop",
    }
}

/// One event a recipient, so that its story in the log has no gap.
fn tell(state: &State, actor: &str, action: &Action, entry: &Entry) {
    let (facts, rcpts) = (&*entry.facts, entry.leg.rcpts.as_slice());
    match action {
        Action::Hold { reason } => state.log.held(facts, rcpts, actor, reason),
        Action::Release => state.log.released(facts, rcpts, actor, "asked for"),
        // A retry of a held leg makes it due too.
        Action::Retry if entry.state == StateName::Held => {
            state.log.released(facts, rcpts, actor, "retry asked for")
        }
        Action::Retry => {}
        Action::Bounce { reason } => state.log.bounced_by(facts, rcpts, actor, reason),
        Action::Drop => state.log.dropped(facts, rcpts, actor, "asked for"),
    }
}

pub(super) async fn show(In(state): Shared, Path(id): Path<String>) -> Result<Json<Shown>, Problem> {
    let message = find(&state, &id).await?;
    let filter = Filter { ids: vec![message.facts.id], ..Filter::default() };
    let entries = state.store.list(filter, state.clock.now()).await?;
    let end = memchr::memmem::find(&message.body, b"\r\n\r\n").map_or(message.body.len(), |end| end + 2);
    let hides = hides(&state, &message.facts);
    let headers = redact::headers(message.body.get(..end).unwrap_or(&[]), hides);
    let headers = String::from_utf8_lossy(&headers).into_owned();
    let legs = entries.iter().map(Row::from).collect();
    let hidden = [("subject", hides.subject), ("link", hides.link)];
    let hidden = hidden.into_iter().filter(|(_, hides)| *hides).map(|(what, _)| what.to_owned()).collect();
    Ok(Json(Shown { v: VERSION, facts: message.facts.clone(), headers, hidden, legs }))
}

/// What the class of a message does not show. Without its tenant the built-in classes have the word.
fn hides(state: &State, facts: &Facts) -> Hides {
    let tenants = state.tenants.load();
    let classes = tenants.tenant(&facts.tenant).map(|tenant| tenant.classes.clone());
    classes.unwrap_or_default().hides(facts.class.as_ref())
}

pub(super) async fn raw(
    In(state): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let message = find(&state, &id).await?;
    // Somebody read a customer's mail: that is told.
    state.audit(&peer.actor, "queue.cat", &id, Some(&message.facts.tenant));
    Ok(([("content-type", "message/rfc822")], message.body.clone()).into_response())
}

async fn find(state: &State, id: &str) -> Result<Arc<Message>, Problem> {
    let id: Id = id.parse().map_err(|error: crate::mail::id::BadId| Problem::Absent(error.to_string()))?;
    let found = state.store.message(id).await?;
    found.ok_or_else(|| Problem::Absent(format!("{id} is not in the queue: it has ended, or never was")))
}
