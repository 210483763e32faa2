//! `/admin/v1/keys`: what JWTs are signed with.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{InBody, List};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::keys::ring::Stage;

#[derive(Serialize, ToSchema)]
#[schema(as = SigningKey)]
pub struct Shown {
    kid: String,
    alg: &'static str,
    /// `published`: signs soon; `signing`; `retired`: its JWTs may still be alive.
    stage: Stage,
    /// Unix seconds, as is the following.
    created: u64,
    signs_from: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// The old keys are forgotten at once: what they signed is refused.
    #[serde(default)]
    emergency: bool,
}

#[utoipa::path(
    get, path = "/keys", tag = "keys", summary = "List the published signing keys",
    responses((status = 200, body = List<Shown>))
)]
pub async fn list(State(app): State<Shared>, _: Administrator) -> Json<List<Shown>> {
    let shown = |(kid, alg, stage, created, signs_from)| Shown { kid, alg, stage, created, signs_from };
    Json(List { items: app.ring.published().into_iter().map(shown).collect(), next_offset: None })
}

#[utoipa::path(
    post, path = "/keys/rotate", tag = "keys", summary = "Make a new signing key", request_body = KeyRotation,
    responses((status = 204))
)]
pub async fn rotate(
    State(app): State<Shared>,
    admin: Administrator,
    InBody(KeyRotation { emergency }): InBody<KeyRotation>,
) -> Result<StatusCode, ApiError> {
    app.ring.rotate(app.store(), emergency).await?;
    crate::audit::record("keys.rotated", &admin, "", if emergency { "emergency" } else { "regular" });
    Ok(StatusCode::NO_CONTENT)
}
