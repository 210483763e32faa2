//! `POST /oauth2/par` (RFC 9126): confidential clients push what browsers then only name.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::authorize::{REQUEST_URI_PREFIX, check};
use super::client_auth::authenticate;
use super::error::OAuthError;
use super::form::Form;
use crate::app::Shared;
use crate::endpoint::pages::error::PageError;
use crate::record::flow::{self, PUSHED_LIFETIME};

pub async fn push(State(app): State<Shared>, headers: HeaderMap, Form(form): Form) -> Result<Response, OAuthError> {
    let invalid = OAuthError::InvalidRequest;
    let client = authenticate(&app, &headers, &form).await?;
    // RFC 9126 §2.1
    if form.get("request_uri").is_some() {
        return Err(invalid("request_uri cannot be pushed".to_owned()));
    }
    let form = form.with("client_id", &client.client_id);
    let request = match check(&app, &form).await {
        Ok(Ok(request)) => request,
        Ok(Err(refused)) => return Err(refused.into_error()),
        Err(PageError::Unavailable(why)) => return Err(OAuthError::Unavailable(why)),
        Err(PageError::Internal(why)) => return Err(OAuthError::Internal(why)),
        Err(PageError::Malformed(why)) => return Err(invalid(why)),
        Err(error @ (PageError::NotFound | PageError::ProviderUnavailable { .. } | PageError::NoAccount { .. })) => {
            return Err(invalid(error.to_string()));
        }
        Err(PageError::BadRequest(why) | PageError::Forbidden(why) | PageError::Throttled(why, _)) => {
            return Err(invalid(why.to_string()));
        }
    };
    let id = app.random.secret();
    flow::push(app.store(), &id, &request).await?;
    let answer = json!({
        "request_uri": format!("{REQUEST_URI_PREFIX}{id}"),
        "expires_in": PUSHED_LIFETIME.as_secs(),
    });
    let mut response = (StatusCode::CREATED, axum::Json(answer)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
