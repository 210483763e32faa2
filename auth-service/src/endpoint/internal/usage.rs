//! `POST /internal/v1/usage`: sessions that sidecars answered from their caches were used all the same.

use axum::extract::State;
use cloakroom_protocol::session::UsageReport;
use http::StatusCode;

use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::record::session;
use crate::workload::Caller;

/// Sidecars report in batches; a larger one is not theirs.
const MAX_REPORTED: usize = 10_000;

pub async fn report(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(body): JsonBody<UsageReport>,
) -> Result<StatusCode, ApiError> {
    if body.used.len() > MAX_REPORTED {
        return Err(ApiError::BadRequest(format!("at most {MAX_REPORTED} at once")));
    }
    let now = app.now();
    for used in body.used {
        let Some(session) = session::load(app.store(), used.id).await? else { continue };
        let used_at = now.saturating_sub(used.ago);
        // An idle session cannot be revived by a late or made-up report: it was not in use when its idle time ended.
        let alive = used_at < session.last_used.saturating_add(session.longest_idle);
        if alive && is_seated(&app, &caller, used.id).await? {
            session::touch(app.store(), &session, used_at, now).await?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A sidecar reports only about sessions that its namespace's policies have a seat in.
async fn is_seated(app: &Shared, caller: &Caller, id: cloakroom_protocol::token::TokenId) -> Result<bool, ApiError> {
    let Caller::Workload(workload) = caller else { return Ok(true) };
    let Some(fields) = app.store().read_all(&session::key(id)).await? else { return Ok(false) };
    Ok(session::clients(&fields)
        .any(|client| client.split_once('/').is_some_and(|(namespace, _)| namespace == workload.namespace)))
}
