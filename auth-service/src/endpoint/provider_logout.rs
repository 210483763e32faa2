//! `/sign-in/from/<id>/backchannel-logout`: another provider says that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0).

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::app::{App, Shared};
use crate::federation::{LogoutToken, LogoutTokenError, OLDEST_LOGOUT, Provider};
use crate::form::Parameters;
use crate::record::origin::{self, Departure};
use crate::revoke;
use crate::store::StoreError;

/// For as long as a token could be taken for a new one: its age, and how far clocks may differ.
const REMEMBER: Duration = Duration::from_secs(OLDEST_LOGOUT + 120);

#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    #[error("no such provider")]
    NotFound,
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Token(#[from] LogoutTokenError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub async fn post(State(app): State<Shared>, Path(id): Path<String>, body: Bytes) -> Result<Response, LogoutError> {
    let provider = app.providers.get(&id).ok_or(LogoutError::NotFound)?;
    let form = Parameters::parse(&body).map_err(|error| LogoutError::Refused(error.to_string()))?;
    let text = form.get("logout_token").ok_or_else(|| LogoutError::Refused("no logout_token".to_owned()))?;
    let token = provider.logout_token(text).await?;
    // §2.6: with an old token nobody signs somebody out again and again.
    if !origin::first_use(app.store(), provider.issuer(), &token.jti, REMEMBER).await? {
        return Err(LogoutError::Refused("this logout token was used before".to_owned()));
    }
    if let Err(error) = end(&app, provider, &token).await {
        // The provider tries again.
        origin::not_used(app.store(), provider.issuer(), &token.jti).await?;
        return Err(error.into());
    }
    Ok(never_stored(StatusCode::OK.into_response()))
}

async fn end(app: &App, provider: &Provider, token: &LogoutToken) -> Result<(), StoreError> {
    let departure =
        Departure { issuer: provider.issuer(), sub: token.sub.as_deref(), sid: token.sid.as_deref(), at: token.iat };
    for session in origin::depart(app.store(), &departure).await? {
        crate::audit::record("sign-out", provider.id(), session, "by the provider");
        revoke::session(app, session).await?;
    }
    Ok(())
}

/// §2.8.
fn never_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for LogoutError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Refused(_) | Self::Token(LogoutTokenError::Refused(_)) => StatusCode::BAD_REQUEST,
            Self::Token(LogoutTokenError::Provider(_)) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        if status == StatusCode::BAD_REQUEST {
            tracing::info!(error = %self, "a logout token is refused");
        } else {
            tracing::warn!(error = %self, "nobody could be signed out on a provider's word");
        }
        let error = if status.is_server_error() { "temporarily_unavailable" } else { "invalid_request" };
        never_stored((status, Json(json!({"error": error}))).into_response())
    }
}
