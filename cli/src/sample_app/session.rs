//! The header contract between app and sidecar, from the app's side: a good citizen and a careless one.

use axum::Json;
use axum::extract::Query;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::received_jwt;

#[derive(Deserialize)]
pub(super) struct Change {
    key: String,
    /// Absent: the key is removed (RFC 7396).
    value: Option<String>,
}

/// Asks the sidecar to write one key of the session's data.
pub(super) async fn session(Query(change): Query<Change>) -> Response {
    let patch = json!({ change.key: change.value });
    let header = (HeaderName::from_static("cloakroom-session"), BASE64_URL_SAFE_NO_PAD.encode(patch.to_string()));
    ([header], Json(patch)).into_response()
}

/// Hands its JWT out, in a header and in a cookie. Behind a sidecar it never arrives.
pub(super) async fn leak(headers: HeaderMap) -> Response {
    let Some(jwt) = received_jwt::find(&headers) else {
        return (StatusCode::OK, "there was no JWT to leak\n").into_response();
    };
    let header = (HeaderName::from_static("x-leaked-jwt"), jwt.to_owned());
    let cookie = (SET_COOKIE, format!("leaked={jwt}; Path=/leak; HttpOnly"));
    ([header, cookie], "leaked in the header X-Leaked-JWT and the cookie leaked\n").into_response()
}
