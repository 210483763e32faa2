//! `/oauth2/userinfo` (OpenID Connect Core §5.3): who the person is, as far as the token's scopes say.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use super::dpop::{self, Use};
use super::error::OAuthError;
use super::id_token::scope_claims;
use crate::app::{App, Shared};
use crate::identity::{Asker, Identity, identify};

pub const PATH: &str = "/oauth2/userinfo";

/// Errors of a protected resource: RFC 6750 §3.1, RFC 9449 §7.1.
enum Challenge {
    /// No credential at all: no error code either.
    Missing,
    InvalidRequest,
    InvalidToken,
    InsufficientScope,
    InvalidProof,
    UseNonce(String),
}

/// How a token came: as a bearer's, or with a proof.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Bearer,
    Dpop,
}

pub async fn userinfo(State(app): State<Shared>, method: Method, headers: HeaderMap) -> Result<Response, OAuthError> {
    let (scheme, presented) = presented(&app, &method, &headers).await?;
    let identity = match presented {
        Ok(identity) => identity,
        Err(refused) => return Ok(challenge(scheme, &refused)),
    };
    if identity.auth_time.is_none() || !identity.scope.split(' ').any(|scope| scope == "openid") {
        return Ok(challenge(scheme, &Challenge::InsufficientScope));
    }
    let mut claims = scope_claims(&identity.profile, &identity.scope);
    claims.insert("sub".to_owned(), Value::from(identity.sub));
    let mut response = axum::Json(claims).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Whose token it is, if it is good and came the way that it was issued for.
async fn presented(
    app: &App,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(Scheme, Result<Identity, Challenge>), OAuthError> {
    let (scheme, text) = match credential(headers) {
        Ok(found) => found,
        Err(refused) => return Ok((Scheme::Bearer, Err(refused))),
    };
    let refuse = |refused| Ok((scheme, Err(refused)));
    let token = OpaqueToken::parse(text.as_bytes()).ok().filter(|token| token.kind() == TokenKind::Access);
    let Some(token) = token else { return refuse(Challenge::InvalidToken) };
    let asker = Asker::Anyone(&app.registry);
    let Some(identity) = identify(app.store(), &token, asker, None, app.now()).await? else {
        return refuse(Challenge::InvalidToken);
    };
    let jkt = match scheme {
        // RFC 9449 §7.2: a bound token presented as a bearer's is refused.
        Scheme::Bearer => None,
        Scheme::Dpop => match dpop::proved(app, headers, &Use { method, path: PATH, access_token: Some(text) }).await {
            Ok(Some(jkt)) => Some(jkt),
            Ok(None) | Err(OAuthError::InvalidDpopProof(_)) => return refuse(Challenge::InvalidProof),
            Err(OAuthError::UseDpopNonce(nonce)) => return refuse(Challenge::UseNonce(nonce)),
            Err(other) => return Err(other),
        },
    };
    if identity.jkt == jkt { Ok((scheme, Ok(identity))) } else { refuse(Challenge::InvalidToken) }
}

fn credential(headers: &HeaderMap) -> Result<(Scheme, &str), Challenge> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().ok_or(Challenge::Missing)?;
    if values.next().is_some() {
        return Err(Challenge::InvalidRequest);
    }
    let text = first.to_str().map_err(|_| Challenge::InvalidRequest)?;
    let (scheme, token) = text.split_once(' ').ok_or(Challenge::InvalidRequest)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok((Scheme::Bearer, token.trim()))
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Ok((Scheme::Dpop, token.trim()))
    } else {
        Err(Challenge::Missing)
    }
}

fn challenge(scheme: Scheme, challenge: &Challenge) -> Response {
    let (status, error) = match challenge {
        Challenge::Missing => (StatusCode::UNAUTHORIZED, ""),
        Challenge::InvalidRequest => (StatusCode::BAD_REQUEST, "error=\"invalid_request\""),
        Challenge::InvalidToken => (StatusCode::UNAUTHORIZED, "error=\"invalid_token\""),
        Challenge::InsufficientScope => (StatusCode::FORBIDDEN, "error=\"insufficient_scope\", scope=\"openid\""),
        Challenge::InvalidProof => (StatusCode::UNAUTHORIZED, "error=\"invalid_dpop_proof\""),
        Challenge::UseNonce(_) => (StatusCode::UNAUTHORIZED, "error=\"use_dpop_nonce\""),
    };
    let value = match scheme {
        Scheme::Bearer => format!("Bearer {error}"),
        Scheme::Dpop => format!("DPoP {error}, algs=\"{}\"", dpop::ALGORITHMS.join(" ")),
    };
    let mut response = (status, [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]).into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(value.trim_end()) {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
    if let Challenge::UseNonce(nonce) = challenge
        && let Ok(nonce) = HeaderValue::from_str(nonce)
    {
        headers.insert("dpop-nonce", nonce);
    }
    response
}
