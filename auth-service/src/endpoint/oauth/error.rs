//! Errors of OAuth endpoints that programs call, named as the RFCs name them.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::authorize::Refusal;
use crate::keys::ring::KeyError;
use crate::record::RecordError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    #[error("{0}")]
    InvalidRequest(String),
    #[error("the body is too large")]
    TooLarge,
    #[error("client authentication failed")]
    InvalidClient,
    #[error("{0}")]
    InvalidGrant(&'static str),
    #[error("the client may not use this")]
    UnauthorizedClient,
    #[error("grant type not supported")]
    UnsupportedGrantType,
    #[error("scope not allowed for this client")]
    InvalidScope,
    /// RFC 8707 §2.
    #[error("resource not allowed for this client")]
    InvalidTarget,
    /// RFC 8628 §3.5.
    #[error("nobody has decided yet")]
    AuthorizationPending,
    #[error("asked too soon: wait five seconds longer from now on")]
    SlowDown,
    #[error("the device code has expired")]
    ExpiredToken,
    #[error("the person said no")]
    AccessDenied,
    /// RFC 9449 §5.
    #[error("{0}")]
    InvalidDpopProof(&'static str),
    /// RFC 9449 §8, with the nonce to use.
    #[error("a proof with this nonce is needed")]
    UseDpopNonce(String),
    /// With the seconds to wait.
    #[error("too many requests from this network")]
    TooMany(u64),
    /// What the authorization endpoint would have said, to a client that pushes its request (RFC 9126 §2.3).
    #[error("{}", .0.description())]
    Authorization(Refusal),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for OAuthError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::NotReplicated => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<RecordError> for OAuthError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            RecordError::SubjectChanged | RecordError::Revoked => Self::InvalidGrant("ended meanwhile"),
            RecordError::Contention => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<KeyError> for OAuthError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoKey => Self::Unavailable(error.to_string()),
            KeyError::Store(error) => error.into(),
            KeyError::Unusable(_) | KeyError::Signing(_) | KeyError::Seal(_) => Self::Internal(error.to_string()),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_request"),
            Self::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
            Self::InvalidGrant(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
            Self::UnauthorizedClient => (StatusCode::BAD_REQUEST, "unauthorized_client"),
            Self::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
            Self::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
            Self::InvalidTarget => (StatusCode::BAD_REQUEST, "invalid_target"),
            Self::AuthorizationPending => (StatusCode::BAD_REQUEST, "authorization_pending"),
            Self::SlowDown => (StatusCode::BAD_REQUEST, "slow_down"),
            Self::ExpiredToken => (StatusCode::BAD_REQUEST, "expired_token"),
            Self::AccessDenied => (StatusCode::BAD_REQUEST, "access_denied"),
            Self::InvalidDpopProof(_) => (StatusCode::BAD_REQUEST, "invalid_dpop_proof"),
            Self::UseDpopNonce(_) => (StatusCode::BAD_REQUEST, "use_dpop_nonce"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            Self::Authorization(refusal) => (StatusCode::BAD_REQUEST, refusal.code()),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        let description = if status.is_server_error() {
            tracing::warn!(error = %self, "OAuth request failed");
            "try again later".to_owned()
        } else {
            self.to_string()
        };
        let mut response = answer(status, code, &description);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6749 §5.2 wants it for those who used the header, RFC 9110 §15.5.2 for all.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"cloakroom\""));
        }
        let named = match &self {
            Self::UseDpopNonce(nonce) => Some(("dpop-nonce", HeaderValue::from_str(nonce))),
            Self::TooMany(seconds) => Some(("retry-after", HeaderValue::from_str(&seconds.to_string()))),
            _ => None,
        };
        if let Some((name, Ok(value))) = named {
            headers.insert(name, value);
        }
        response
    }
}

/// RFC 6749 §5.2, which RFC 7591 §3.2.2 follows.
pub fn answer(status: StatusCode, code: &str, description: &str) -> Response {
    let body = serde_json::json!({"error": code, "error_description": printable(description)}).to_string();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, crate::endpoint::problem::RETRY_AFTER);
    }
    response
}

/// RFC 6749 §5.2 leaves visible ASCII and space, without quotation mark and backslash.
fn printable(text: &str) -> String {
    let fits = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    text.chars().map(|c| if fits(c) { c } else { '\'' }).collect()
}
