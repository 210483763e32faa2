//! `/oauth2/userinfo` (OpenID Connect Core §5.3): who the person is, as far as the token's scopes say.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::error::OAuthError;
use super::id_token::scope_claims;
use crate::app::Shared;
use crate::identity::{Asker, identify};

/// RFC 6750 §3.1.
enum Challenge {
    /// No credential at all: no error code either.
    Missing,
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
}

pub async fn userinfo(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, OAuthError> {
    let text = match bearer(&headers) {
        Ok(text) => text,
        Err(refused) => return Ok(challenge(&refused)),
    };
    let Some(token) = OpaqueToken::parse(text).ok().filter(|token| token.kind() == TokenKind::Access) else {
        return Ok(challenge(&Challenge::InvalidToken));
    };
    let asker = Asker::Anyone(&app.registry);
    let Some(identity) = identify(app.store(), &token, asker, None, app.now()).await? else {
        return Ok(challenge(&Challenge::InvalidToken));
    };
    if identity.auth_time.is_none() || !identity.scope.split(' ').any(|scope| scope == "openid") {
        return Ok(challenge(&Challenge::InsufficientScope));
    }
    let mut claims = scope_claims(&identity.profile, &identity.scope);
    claims.insert("sub".to_owned(), Value::from(identity.sub));
    let mut response = axum::Json(claims).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn bearer(headers: &HeaderMap) -> Result<&[u8], Challenge> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().ok_or(Challenge::Missing)?;
    if values.next().is_some() {
        return Err(Challenge::InvalidRequest);
    }
    let text = first.to_str().map_err(|_| Challenge::InvalidRequest)?;
    let (scheme, token) = text.split_once(' ').ok_or(Challenge::InvalidRequest)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim().as_bytes()) } else { Err(Challenge::Missing) }
}

fn challenge(challenge: &Challenge) -> Response {
    let (status, value) = match challenge {
        Challenge::Missing => (StatusCode::UNAUTHORIZED, "Bearer"),
        Challenge::InvalidRequest => (StatusCode::BAD_REQUEST, "Bearer error=\"invalid_request\""),
        Challenge::InvalidToken => (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
        Challenge::InsufficientScope => {
            (StatusCode::FORBIDDEN, "Bearer error=\"insufficient_scope\", scope=\"openid\"")
        }
    };
    let headers = [
        (header::WWW_AUTHENTICATE, HeaderValue::from_static(value)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers).into_response()
}
