//! `POST /internal/v1/events/interest`: a sidecar says what it holds, and from then on hears of that only.

use axum::extract::State;
use cloakroom_protocol::interest::Interest;
use http::StatusCode;

use super::events::sidecar_name;
use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::workload::Caller;

/// 404: that stream is not here. It goes on as it was, wherever it is.
pub async fn declare(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(body): JsonBody<Interest>,
) -> Result<StatusCode, ApiError> {
    let sidecar = sidecar_name(&caller, &body.sidecar)?;
    // Nobody narrows what another hears, not even who has learned the stream's name.
    let stream = app.hub.streams.find(&body.stream).filter(|stream| stream.is_of(&sidecar));
    let stream = stream.ok_or(ApiError::NotFound("no such stream of that sidecar at this replica"))?;
    app.hub.streams.declare(&stream, body.generation, &body.filter);
    Ok(StatusCode::NO_CONTENT)
}
