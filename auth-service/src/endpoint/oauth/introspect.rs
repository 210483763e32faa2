//! `POST /oauth2/introspect` (RFC 7662), for gateways and resource servers; `Accept: application/jwt` gets the JWT itself.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::OpaqueToken;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::client_auth::authenticate;
use super::error::OAuthError;
use super::form::Form;
use crate::app::{App, Shared};
use crate::endpoint::internal::introspect::touch_later;
use crate::identity::{Asker, Identity, identify};
use crate::jwt::{Mint, mint};
use crate::record::client::Client;

pub async fn introspect(
    State(app): State<Shared>,
    headers: HeaderMap,
    Form(form): Form,
) -> Result<Response, OAuthError> {
    let client = authenticate(&app, &headers, &form).await?;
    if client.is_public() {
        // RFC 7662 §2.1: or anybody could scan for tokens.
        return Err(OAuthError::InvalidClient);
    }
    let text = form.get("token").ok_or_else(|| OAuthError::InvalidRequest("token is missing".to_owned()))?;
    let identity = match OpaqueToken::parse(text.as_bytes()) {
        Ok(token) => find(&app, &client, &token).await?,
        Err(_) => None,
    };
    if let Some(identity) = &identity {
        touch_later(&app, identity, app.now());
    }
    let mut response = if wants_jwt(&headers) {
        as_jwt(&app, &client, identity.as_ref())?
    } else {
        axum::Json(identity.as_ref().map_or_else(|| json!({"active": false}), |identity| facts(&app, identity)))
            .into_response()
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A caller learns only about tokens that are meant for it: its own, and those for audiences that it answers for.
pub async fn find(app: &App, client: &Client, token: &OpaqueToken) -> Result<Option<Identity>, OAuthError> {
    let now = app.now();
    let asker = Asker::Audiences(&client.introspects, &app.registry);
    if let Some(identity) = identify(app.store(), token, asker, None, now).await? {
        return Ok(Some(identity));
    }
    let asker = Asker::Client(&client.client_id, &app.registry);
    Ok(identify(app.store(), token, asker, None, now).await?)
}

fn wants_jwt(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/jwt")))
}

fn facts(app: &App, identity: &Identity) -> serde_json::Value {
    let mut facts = json!({
        "active": true,
        "iss": app.config.issuer,
        "sub": identity.sub,
        "client_id": identity.client_id,
        "aud": identity.aud,
        "exp": identity.exp,
        "iat": identity.iat,
        "token_type": if identity.jkt.is_some() { "DPoP" } else { "Bearer" },
    });
    if let Some(object) = facts.as_object_mut() {
        let text = |value: &Option<String>| value.clone().map(serde_json::Value::from);
        let optional = [
            ("scope", (!identity.scope.is_empty()).then(|| identity.scope.clone().into())),
            ("username", text(&identity.profile.username)),
            ("sid", identity.sid.map(|sid| sid.to_string().into())),
            ("acr", text(&identity.acr)),
            ("auth_time", identity.auth_time.map(Into::into)),
            ("act", identity.act.as_ref().map(|act| json!(act))),
            ("cnf", identity.jkt.as_ref().map(|jkt| json!({"jkt": jkt}))),
        ];
        object.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    }
    facts
}

/// As gateways' phantom-token modules ask: the bare JWT, or 204 if there is none.
fn as_jwt(app: &App, client: &Client, identity: Option<&Identity>) -> Result<Response, OAuthError> {
    // The JWT is presented as a bearer's: it would take a token's binding away (RFC 9449 §7.2). It is for apps, not for whoever calls them:
    // a stranger's client answers for none.
    let Some(identity) = identity.filter(|identity| identity.jkt.is_none() && !client.is_strangers()) else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let audience = identity.aud.iter().find(|aud| client.introspects.contains(aud)).or(identity.aud.first());
    let minted = mint(
        &app.ring,
        identity,
        &Mint {
            issuer: &app.config.issuer,
            audience: audience.map_or(identity.client_id.as_str(), String::as_str),
            lifetime: app.config.tokens.gateway_jwt_seconds,
            claims: &[],
            jti: &app.random.reference(),
            now: app.now(),
        },
    )?;
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/jwt"))];
    Ok((content_type, minted.jwt).into_response())
}
