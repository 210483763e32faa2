//! What handlers take: the authenticated caller, and bodies as form or JSON.

use axum::extract::{FromRequest, FromRequestParts, MatchedPath, RawPathParams, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::problem::ApiError;
use crate::app::Shared;
use crate::workload::{AuthenticationError, Caller, Wish};

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        Ok(app.authenticator.caller(authorization(&parts.headers)?).await?)
    }
}

/// Where the admin API lives on the internal port.
pub const ADMIN_API: &str = "/admin/v1";

/// Somebody who may use the admin API.
pub struct Administrator(pub Caller);

impl FromRequestParts<Shared> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, ApiError> {
        let route = MatchedPath::from_request_parts(parts, app).await;
        let route = route.as_ref().map_or("", |matched| matched.as_str().trim_start_matches(ADMIN_API));
        let parameters = RawPathParams::from_request_parts(parts, app).await;
        let name = parameters.iter().flatten().next().map(|(_, value)| value);
        let wish = Wish::of(&parts.method, route, name);
        let result = app.authenticator.admin(authorization(&parts.headers)?, &wish).await;
        if let Err(error) = &result {
            crate::audit::record("admin.refused", "unknown", parts.uri.path(), error);
        }
        Ok(Self(result?))
    }
}

impl std::fmt::Display for Administrator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.name())
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<&[u8]>, AuthenticationError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().map(http::HeaderValue::as_bytes);
    // Two of them could be read differently by whoever stands in front.
    if values.next().is_some() { Err(AuthenticationError::Missing) } else { Ok(first) }
}

/// A JSON body, whatever its content type says.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let bytes = body(request, app).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| ApiError::BadRequest(format!("body: {error}")))
    }
}

/// A form (as OAuth wants it) or JSON, by content type.
pub struct FormOrJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Shared> for FormOrJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, ApiError> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"application/json"));
        let bytes = body(request, app).await?;
        let parsed = if json {
            serde_json::from_slice(&bytes).map_err(|error| error.to_string())
        } else {
            crate::form::parse(&bytes).map_err(|error| error.to_string())
        };
        parsed.map(Self).map_err(|error| ApiError::BadRequest(format!("body: {error}")))
    }
}

async fn body(request: Request, app: &Shared) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, app).await.map_err(|error| ApiError::BadRequest(error.to_string()))
}
