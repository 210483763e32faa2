//! Errors of the internal port and the admin API as RFC 9457 problems. The status is what programs act on; details of ours go to the log.

use axum::response::{IntoResponse, Response};
use cloakroom_protocol::internal_api::Problem;
use http::{HeaderValue, StatusCode, header};

use crate::keys::ring::KeyError;
use crate::record::RecordError;
use crate::registry::RegistryError;
use crate::store::StoreError;
use crate::workload::AuthenticationError;

/// Seconds after which asking again makes sense.
pub const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error("a JSON body is needed, and Content-Type: application/json")]
    UnsupportedMediaType,
    #[error("the body is too large")]
    TooLarge,
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(&'static str),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Gone(&'static str),
    #[error("{0}")]
    Unprocessable(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::NotReplicated => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<crate::foreign::Unavailable> for ApiError {
    fn from(error: crate::foreign::Unavailable) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            RecordError::SubjectChanged | RecordError::Revoked => Self::Conflict(error.to_string()),
            RecordError::Contention => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Invalid(sentence) => Self::Unprocessable(sentence),
            RegistryError::Held { .. } => Self::Conflict(error.to_string()),
            RegistryError::Contention => Self::Unavailable(error.to_string()),
            RegistryError::Store(error) => error.into(),
        }
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NoKey => Self::Unavailable(error.to_string()),
            KeyError::Store(error) => error.into(),
            KeyError::Unusable(_) | KeyError::Signing(_) | KeyError::Seal(_) => Self::Internal(error.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, title, detail) = match &self {
            Self::BadRequest(detail) => (StatusCode::BAD_REQUEST, "bad request", Some(detail.clone())),
            Self::Authentication(AuthenticationError::Missing) => (StatusCode::UNAUTHORIZED, "no bearer token", None),
            Self::Authentication(AuthenticationError::Refused(why)) => {
                (StatusCode::UNAUTHORIZED, "token refused", Some(why.clone()))
            }
            Self::Authentication(AuthenticationError::Forbidden(_)) => (StatusCode::FORBIDDEN, "not allowed", None),
            Self::Authentication(AuthenticationError::Unavailable(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the issuer of workload tokens cannot be reached", None)
            }
            Self::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not JSON", Some(self.to_string())),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too large", None),
            Self::Forbidden(detail) => (StatusCode::FORBIDDEN, "not allowed", Some(detail.clone())),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "not found", Some((*what).to_owned())),
            Self::Conflict(detail) => (StatusCode::CONFLICT, "conflict", Some(detail.clone())),
            Self::Gone(what) => (StatusCode::GONE, "gone", Some((*what).to_owned())),
            Self::Unprocessable(detail) => (StatusCode::UNPROCESSABLE_ENTITY, "not acceptable", Some(detail.clone())),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "try again", None),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal error", None),
        };
        if status.is_server_error() {
            tracing::warn!(error = %self, status = status.as_u16(), decision = crate::audit::decision().as_deref(), "request failed");
        }
        let mut response = problem(status, title, detail);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

pub fn problem(status: StatusCode, title: &str, detail: Option<String>) -> Response {
    let decision_id = crate::audit::decision().map(|id| id.to_string());
    let body = crate::store::to_json(&Problem { decision_id, ..Problem::new(status.as_u16(), title, detail) });
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}
