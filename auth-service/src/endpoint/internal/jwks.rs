//! `GET /internal/v1/jwks`, and the same set on the public port: the keys that verify our JWTs (RFC 7517).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use crate::app::Shared;
use crate::endpoint::problem::ApiError;

pub async fn jwks(State(app): State<Shared>) -> Result<Response, ApiError> {
    let set = app.ring.jwks()?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        // Shorter than the lead of a new key.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60")),
    ];
    Ok((headers, set.to_string()).into_response())
}
