//! `POST /internal/v1/usage`: sessions that sidecars answered from their caches were used all the same.

use axum::extract::State;
use cloakroom_protocol::session::{Usage, UsageReport};
use futures::{StreamExt, TryStreamExt, stream};
use http::StatusCode;

use crate::app::{App, Shared};
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::record::session;
use crate::store::StoreError;
use crate::workload::Caller;

/// Sidecars report in batches; a larger one is not theirs.
const MAX_REPORTED: usize = 10_000;
const AT_ONCE: usize = 64;

pub async fn report(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(body): JsonBody<UsageReport>,
) -> Result<StatusCode, ApiError> {
    if body.used.len() > MAX_REPORTED {
        return Err(ApiError::BadRequest(format!("at most {MAX_REPORTED} at once")));
    }
    let now = app.now();
    let writes = body.used.into_iter().map(|used| write_down(&app, &caller, used, now));
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write_down(app: &App, caller: &Caller, used: Usage, now: u64) -> Result<(), StoreError> {
    let Some((session, clients)) = session::load_with_clients(app.store(), used.id).await? else { return Ok(()) };
    // A sidecar reports only about sessions that its namespace's policies have a seat in.
    let seated =
        clients.iter().any(|client| client.split_once('/').is_some_and(|(namespace, _)| caller.may_act_in(namespace)));
    let used_at = now.saturating_sub(used.ago);
    // An idle session cannot be revived by a late or made-up report: it was not in use when its idle time ended.
    let alive = used_at < session.last_used.saturating_add(session.longest_idle);
    if seated && alive { session::touch(app.store(), &session, used_at, now).await } else { Ok(()) }
}
