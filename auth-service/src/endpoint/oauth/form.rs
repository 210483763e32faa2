//! The body of a request from a program: a form, and nothing else (RFC 6749 §3.2, appendix B).

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{StatusCode, header};

use super::error::OAuthError;
use crate::app::Shared;
use crate::form::Parameters;

pub struct Form(pub Parameters);

impl FromRequest<Shared> for Form {
    type Rejection = OAuthError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, OAuthError> {
        let invalid = |sentence: &str| OAuthError::InvalidRequest(sentence.to_owned());
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        // Whoever names no type can only mean this one.
        let is_form = content_type.is_none_or(|value| {
            let kind = value.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        if !is_form {
            return Err(invalid("the body is application/x-www-form-urlencoded"));
        }
        let body = Bytes::from_request(request, app).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => OAuthError::TooLarge,
            _ => invalid("the body cannot be read"),
        })?;
        Parameters::parse(&body).map(Self).map_err(|error| OAuthError::InvalidRequest(error.to_string()))
    }
}
