//! `POST /admin/v1/keys/rotate`: a new signing key, by command.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;

use crate::app::Shared;
use crate::endpoint::caller::{Administrator, JsonBody};
use crate::endpoint::problem::ApiError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The old keys are forgotten at once: what they signed is refused.
    #[serde(default)]
    emergency: bool,
}

pub async fn rotate(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(Rotation { emergency }): JsonBody<Rotation>,
) -> Result<StatusCode, ApiError> {
    app.ring.rotate(app.store(), emergency).await?;
    crate::audit::record("keys.rotated", &admin, "", if emergency { "emergency" } else { "regular" });
    Ok(StatusCode::NO_CONTENT)
}
