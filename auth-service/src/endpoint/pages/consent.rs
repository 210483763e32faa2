//! `/consent`: what a third-party application may do, asked once and remembered.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::browser::Browser;
use super::error::PageError;
use super::flows::{self, FlowParameter};
use super::{Frame, LeadsTo, page, redirect, sign_in};
use crate::app::{App, Shared};
use crate::endpoint::oauth::authorize::{Refusal, client_of, proceed, refuse};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::client::{self, Client, redirect_uri};
use crate::record::consent;
use crate::record::flow::{AuthorizationRequest, Goal, Stage};

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage {
    frame: Frame,
    application: String,
    username: String,
    permissions: Vec<Sentence>,
    /// Absent for an application on this device.
    host: Option<String>,
    /// No administrator made it: its name is what it says.
    unchecked: Option<Sentence>,
    flow: String,
    csrf: String,
}

pub async fn begin(app: &App, browser: Browser, request: AuthorizationRequest) -> Result<Response, PageError> {
    let id = flows::start(app, &browser, Goal::Authorize(Box::new(request)), Stage::Consent).await?;
    Ok(browser.answer(redirect(&format!("/consent?flow={id}"))))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(FlowParameter { flow: id }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let request = flows::at_consent(&app, &browser, &id).await?;
    let Some(session) = browser.session(&app).await? else {
        return sign_in::begin(&app, browser, Goal::Authorize(Box::new(request))).await;
    };
    let client = client_of(&app, &request).await?;
    let host = redirect_uri::host(&request.redirect_uri);
    let template = ConsentPage {
        frame: Frame::asked_for(&app, &browser, request.ui_locales.as_deref()),
        application: client::shown_name(client.as_ref(), &request.client_id),
        username: session.profile.username.unwrap_or_default(),
        permissions: permissions(&request.scope),
        unchecked: client.and_then(|client| unchecked(&client, host.as_deref())),
        host,
        csrf: browser.form_token(&id),
        flow: id,
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Client(&request.redirect_uri))?))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = form.get("flow").unwrap_or_default();
    let mut request = flows::at_consent(&app, &browser, id).await?;
    let Some(session) = browser.session(&app).await? else {
        return sign_in::begin(&app, browser, Goal::Authorize(Box::new(request))).await;
    };
    client_of(&app, &request).await?;
    flows::finish(&app, id).await?;
    let sub = &session.facts.sub;
    if form.get("decision") != Some("allow") {
        crate::audit::record("consent.refused", sub, &request.client_id, &request.scope);
        let refusal = refuse(&app, &request.redirect_uri, request.state.as_deref(), Refusal::AccessDenied);
        return Ok(browser.answer(refusal));
    }
    consent::add(app.store(), sub, &request.client_id, &request.scope, &request.aud).await?;
    crate::audit::record("consent.given", sub, &request.client_id, &request.scope);
    // It has been asked for. Whoever signed in otherwise meanwhile is judged again.
    request.prompt.consent = false;
    proceed(&app, browser, request, Some(session), true).await
}

/// Who has registered it, if not an administrator, and where what is allowed goes.
fn unchecked(client: &Client, host: Option<&str>) -> Option<Sentence> {
    let by_namespace = client.of.as_ref().map(|of| of.resource.namespace());
    Some(match (by_namespace, host) {
        (Some(namespace), Some(host)) => say::application_of_namespace(say::strong(host), say::strong(namespace)),
        (Some(namespace), None) => {
            say::application_of_namespace(say::application_on_this_device(), say::strong(namespace))
        }
        (None, _) if !client.is_strangers() => return None,
        (None, Some(host)) => say::application_unchecked(say::strong(host)),
        (None, None) => say::application_unchecked(say::application_on_this_device()),
    })
}

/// What a scope allows, a sentence for each part.
pub fn permissions(scope: &str) -> Vec<Sentence> {
    scope.split(' ').filter(|scope| !scope.is_empty()).map(Sentence::of_scope).collect()
}
