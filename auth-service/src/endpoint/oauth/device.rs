//! `POST /oauth2/device_authorization` (RFC 8628 §3.1): a device without a browser asks for a code to show.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::TokenId;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::audiences::audiences;
use super::client_auth::authenticate;
use super::error::OAuthError;
use super::form::Form;
use crate::app::Shared;
use crate::peer::ClientAddress;
use crate::record::client::GrantType;
use crate::record::device_grant::{self, DeviceRequest, INTERVAL, LIFETIME, UserCode};
use crate::record::hash::StoredHash;
use crate::throttle::{self, Verdict};

/// User codes that are in use already before something must be wrong.
const TRIES: usize = 5;

pub async fn authorize(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, OAuthError> {
    let client = authenticate(&app, &headers, &form).await?;
    if !client.allows(GrantType::DeviceCode) {
        return Err(OAuthError::UnauthorizedClient);
    }
    // Anybody can pose as a public client, and every request takes room in the store.
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, address).await? {
        return Err(OAuthError::TooMany(seconds));
    }
    let scope = client.scope_for(form.get("scope")).ok_or(OAuthError::InvalidScope)?;
    let aud = audiences(&app, &client, &form).ok_or(OAuthError::InvalidTarget)?;
    let now = app.now();
    for _ in 0..TRIES {
        let (id, secret) = (app.random.with(TokenId::generate), app.random.secret());
        let request = DeviceRequest {
            secret: StoredHash::of_secret(&secret),
            user_code: UserCode::random(&app.random),
            client_id: client.client_id.clone(),
            scope: scope.clone(),
            aud: aud.clone(),
            end: now + LIFETIME,
        };
        if let Some(device_code) = device_grant::create(app.store(), (id, &secret), &request, now).await? {
            crate::audit::record("device.asked", &client.client_id, "", &scope);
            return Ok(shown(&app.config.issuer, &device_code, &request.user_code));
        }
    }
    Err(OAuthError::Unavailable("no user code is free".to_owned()))
}

fn shown(issuer: &str, device_code: &str, user_code: &UserCode) -> Response {
    let answer = json!({
        "device_code": device_code,
        "user_code": user_code.to_string(),
        "verification_uri": format!("{issuer}/device"),
        "verification_uri_complete": format!("{issuer}/device?user_code={user_code}"),
        "expires_in": LIFETIME,
        "interval": INTERVAL,
    });
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::OK, no_store, axum::Json(answer)).into_response()
}
