//! Why a registration is refused, as RFC 7591 §3.2.2 and RFC 6750 §3.1 name it.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::endpoint::oauth::error::answer;
use crate::record::client::InvalidClient;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error("{0}")]
    RedirectUri(String),
    #[error("{0}")]
    Metadata(String),
    #[error("no software statement is accepted here: nobody's is known")]
    SoftwareStatement,
    #[error("the body is too large")]
    TooLarge,
    #[error("a token is needed to register here: ask whoever runs this service")]
    NoToken,
    #[error("the token is unknown, expired, used up, or of another client")]
    InvalidToken,
    /// With the seconds to wait.
    #[error("too many clients were registered from this network today")]
    TooMany(u64),
    #[error("all places are taken: try again later")]
    Full(u64),
    #[error("somebody else has changed the client meanwhile")]
    Contention,
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for RegistrationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::NotReplicated => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<InvalidClient> for RegistrationError {
    fn from(error: InvalidClient) -> Self {
        match error {
            InvalidClient::RedirectUri(_) | InvalidClient::NoRedirectUri => Self::RedirectUri(error.to_string()),
            other => Self::Metadata(other.to_string()),
        }
    }
}

impl IntoResponse for RegistrationError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::RedirectUri(_) => (StatusCode::BAD_REQUEST, "invalid_redirect_uri"),
            Self::Metadata(_) => (StatusCode::BAD_REQUEST, "invalid_client_metadata"),
            Self::SoftwareStatement => (StatusCode::BAD_REQUEST, "unapproved_software_statement"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "invalid_client_metadata"),
            Self::NoToken | Self::InvalidToken => (StatusCode::UNAUTHORIZED, "invalid_token"),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            Self::Full(_) | Self::Contention | Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        let description = match &self {
            Self::Unavailable(_) | Self::Internal(_) => {
                tracing::warn!(error = %self, "registration failed");
                "try again later".to_owned()
            }
            said => said.to_string(),
        };
        let mut response = answer(status, code, &description);
        let challenge = match &self {
            // RFC 6750 §3.1: whoever showed no token is told no more than that one is needed.
            Self::NoToken => Some("Bearer"),
            Self::InvalidToken => Some("Bearer error=\"invalid_token\""),
            _ => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Self::TooMany(seconds) | Self::Full(seconds) = self {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
