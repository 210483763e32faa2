//! `POST /oauth2/register` (RFC 7591): clients that register themselves, where the configuration lets them.
//!
//! Such a client is a third party for good: people are asked each time, it acts for nobody but them, and it may have what the configuration
//! lists. Nothing that it says about itself is fetched, or believed.

mod error;
pub mod manage;
mod metadata;

use std::net::IpAddr;

use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cloakroom_protocol::token::TokenId;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::config::Config;
use crate::config::registration::Mode;
use crate::peer::ClientAddress;
use crate::record::client::{self, Client, GrantType};
use crate::record::hash::StoredHash;
use crate::record::registered::{self, About, AuthMethod, By, IN_USE, Registered};
use crate::record::registration_token::{self, RegistrationToken};
use crate::throttle::{self, Verdict};
use error::RegistrationError;
use metadata::Metadata;

pub const PATH: &str = "/oauth2/register";

pub fn is_offered(config: &Config) -> bool {
    config.registration.mode != Mode::Off
}

pub async fn register(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RegistrationError> {
    let token = admit(&app, &headers).await?;
    let metadata = Metadata::read(&headers, body)?;
    let public = metadata.auth_method()? == AuthMethod::None;
    let (secret, access) = ((!public).then(|| app.random.secret()), app.random.secret());
    let by = token.as_ref().map_or(By::Open, |token| By::Token { id: token.id, label: token.facts.label.clone() });
    let client =
        metadata.apply(blank(&app, by, secret.as_deref(), &access), &app.config.issuer, &app.ring.offered())?;

    let config = &app.config.registration;
    match &token {
        Some(token) if !registration_token::spend(app.store(), token.id, app.now()).await? => {
            return Err(RegistrationError::InvalidToken);
        }
        Some(_) => {}
        None => make_way(&app, address).await?,
    }
    let life = client.registered.as_ref().and_then(|registered| registered.first_life(config));
    if !client::create(app.store(), &client, life).await? {
        return Err(RegistrationError::Internal("a random client id was taken".to_owned()));
    }
    let by = client.registered.as_ref().map(|registered| registered.by.to_string()).unwrap_or_default();
    crate::audit::record("client.registered", address, &client.client_id, by);
    Ok(shown(&app, StatusCode::CREATED, &client, &access, secret))
}

/// Before anything is read of what they send: the token of those who have one. Without, only where anybody may.
async fn admit(app: &App, headers: &HeaderMap) -> Result<Option<RegistrationToken>, RegistrationError> {
    let Some(text) = bearer(headers)? else {
        let open = app.config.registration.mode == Mode::Open;
        return if open { Ok(None) } else { Err(RegistrationError::NoToken) };
    };
    let found = registration_token::find(app.store(), text, app.now()).await?;
    found.map(Some).ok_or(RegistrationError::InvalidToken)
}

/// Of those without a token only so many: from one address, and at all.
async fn make_way(app: &App, address: IpAddr) -> Result<(), RegistrationError> {
    let config = &app.config.registration;
    if let Verdict::Wait(seconds) = throttle::registration(app.store(), config.per_address, address).await? {
        return Err(RegistrationError::TooMany(seconds));
    }
    if !registered::make_room(app.store(), config, app.now()).await? {
        crate::audit::record("client.refused", address, "", "all places of open registration are in use");
        return Err(RegistrationError::Full(IN_USE));
    }
    Ok(())
}

/// All that such a client may have; it says itself what of that it wants.
fn blank(app: &App, by: By, secret: Option<&str>, access: &str) -> Client {
    let config = &app.config.registration;
    let registered = Registered {
        by,
        at: app.now(),
        access: StoredHash::of_secret(access),
        auth_method: AuthMethod::None,
        about: About::default(),
        last_used: None,
    };
    Client {
        client_id: format!("client-{}", app.random.with(TokenId::generate)),
        secret: secret.map(StoredHash::of_secret),
        scopes: config.scopes.clone(),
        audiences: config.audiences.clone(),
        registered: Some(registered),
        ..Client::default()
    }
}

/// The one bearer token, if there is any. RFC 6750 §2.1: nowhere else than in the header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, RegistrationError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let pair = value.to_str().ok().and_then(|text| text.split_once(' '));
    match (pair, values.next()) {
        (Some((scheme, token)), None) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(RegistrationError::InvalidToken),
    }
}

/// RFC 7591 §3.2.1: all that is registered, whatever was asked for. Of the secrets only hashes are kept: a client's is shown once, the
/// access token to whoever has it already.
fn shown(app: &App, status: StatusCode, client: &Client, access: &str, secret: Option<String>) -> Response {
    let mut document = json!({
        "client_id": client.client_id,
        "registration_access_token": access,
        "registration_client_uri": format!("{}{PATH}/{}", app.config.issuer, client.client_id),
        "redirect_uris": client.redirect_uris,
        "grant_types": client.grant_types.iter().map(|grant| GrantType::name(*grant)).collect::<Vec<_>>(),
        "response_types": ["code"],
        "scope": client.scopes.join(" "),
        "dpop_bound_access_tokens": client.dpop_bound_access_tokens,
    });
    if let Some(secret) = secret {
        document["client_secret"] = secret.into();
        // It does not expire, the client may (RFC 7591 §3.2.1).
        document["client_secret_expires_at"] = 0.into();
    }
    if let Some(alg) = client.id_token_signed_response_alg {
        document["id_token_signed_response_alg"] = alg.name().into();
    }
    if !client.name.is_empty() {
        document["client_name"] = client.name.clone().into();
    }
    if !client.post_logout_redirect_uris.is_empty() {
        document["post_logout_redirect_uris"] = json!(client.post_logout_redirect_uris);
    }
    if let Some(uri) = &client.backchannel_logout_uri {
        document["backchannel_logout_uri"] = uri.clone().into();
    }
    if let (Some(registered), Some(document)) = (&client.registered, document.as_object_mut()) {
        document.insert("client_id_issued_at".to_owned(), registered.at.into());
        document.insert("token_endpoint_auth_method".to_owned(), json!(registered.auth_method));
        if let Value::Object(about) = json!(registered.about) {
            document.extend(about);
        }
    }
    let mut response = (status, axum::Json(document)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
