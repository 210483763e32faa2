//! `POST /internal/v1/events/ack`: a sidecar has acted on everything up to an event.

use axum::extract::State;
use cloakroom_protocol::revocation::Acknowledgement;
use http::StatusCode;

use super::events::sidecar_name;
use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::events::sidecars::STRAY;
use crate::store::EventId;
use crate::workload::Caller;

pub async fn acknowledge(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(body): JsonBody<Acknowledgement>,
) -> Result<StatusCode, ApiError> {
    let name = sidecar_name(&caller, &body.sidecar)?;
    let last: EventId = body.last.parse().map_err(|error| ApiError::BadRequest(format!("last: {error}")))?;
    if !app.hub.sidecars.acknowledge(&name, last) {
        // Its stream is at another replica, which will find this.
        app.store().set_mark(&format!("{STRAY}{name}"), &last.to_string()).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
