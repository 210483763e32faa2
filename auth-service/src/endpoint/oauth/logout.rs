//! `/oauth2/logout` (OpenID Connect RP-Initiated Logout): ends the session, asking first unless the client proves for whom it speaks.

use std::net::IpAddr;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::authorize::with_parameters;
use super::id_token::{self, Hint};
use super::redirects::may_leave_to;
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::settle;
use crate::endpoint::pages::account::Told;
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{redirect, signed_out};
use crate::form::Parameters;
use crate::messages::say;
use crate::peer::ClientAddress;
use crate::record::client;

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    logout(&app, &headers, address, query.unwrap_or_default().as_bytes()).await
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    logout(&app, &headers, address, &body).await
}

async fn logout(app: &App, headers: &HeaderMap, address: IpAddr, encoded: &[u8]) -> Result<Response, PageError> {
    let parameters = Parameters::parse(encoded).map_err(|error| PageError::Malformed(error.to_string()))?;
    let hint = parameters.get("id_token_hint").and_then(|hint| id_token::hint(app, hint));
    let target = target(app, &parameters, hint.as_ref()).await?;
    let browser = Browser::of(app, headers, address);
    let Some(session) = browser.session(app).await? else {
        return Ok(browser.answer(redirect(target.as_deref().unwrap_or("/signed-out"))));
    };
    let speaks_for = hint
        .is_some_and(|hint| hint.sub == session.facts.sub && hint.sid.is_none_or(|sid| sid == session.id.to_string()));
    if !speaks_for {
        // Anybody can link here; only the person decides (RP-Initiated Logout §2, "should ask").
        return signed_out::ask(app, browser, target.as_deref(), parameters.get("ui_locales"));
    }
    crate::audit::record("sign-out", &session.facts.sub, session.id, "by a client");
    let ended = crate::revoke::record(app, session.id).await?;
    settle(app, &ended).await;
    let target = target.unwrap_or_else(|| signed_out::address(app, &session, Told::default()));
    Ok(browser.forget_session().answer(redirect(&target)))
}

/// Where the client wants the browser back: only an address registered for that, only for a client that is named.
async fn target(app: &App, parameters: &Parameters, hint: Option<&Hint>) -> Result<Option<String>, PageError> {
    let Some(uri) = parameters.get("post_logout_redirect_uri") else { return Ok(None) };
    let unregistered = || PageError::BadRequest(say::sorry_leave_unregistered());
    let named = parameters.get("client_id").or(hint.map(|hint| hint.aud.as_str())).ok_or_else(unregistered)?;
    if hint.is_some_and(|hint| hint.aud != named) {
        return Err(unregistered());
    }
    let client = client::load(app.store(), named).await?.ok_or_else(unregistered)?;
    if !may_leave_to(app, &client, uri) {
        return Err(unregistered());
    }
    Ok(Some(with_parameters(uri, [("state", parameters.get("state"))])))
}
