//! `/device` (RFC 8628 §3.3): a person types in what a device shows, sees who asks for what, and decides.
//!
//! The danger is a code that somebody else sent (§5.4): nothing is allowed by opening a link, and the page says what to look for.

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::browser::Browser;
use super::error::PageError;
use super::{Frame, LeadsTo, consent, page, second_factor, sign_in, when_to_try_again};
use crate::app::{App, Shared};
use crate::assurance::{Demand, Missing, Proof};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::device_grant::{self, Allowed, DeviceRequest, UserCode, Verdict};
use crate::record::flow::Goal;
use crate::record::session::Session;
use crate::record::{client, user};
use crate::throttle::{self, Source};

const PURPOSE: &str = "device";

#[derive(Template)]
#[template(path = "device_code.html")]
struct CodePage {
    frame: Frame,
    csrf: String,
    user_code: String,
    problem: Option<Sentence>,
}

#[derive(Template)]
#[template(path = "device_confirm.html")]
struct ConfirmPage {
    frame: Frame,
    csrf: String,
    user_code: String,
    application: String,
    username: String,
    permissions: Vec<Sentence>,
}

#[derive(Template)]
#[template(path = "device_done.html")]
struct DonePage {
    frame: Frame,
    allowed: bool,
}

#[derive(Deserialize)]
pub struct CodeParameter {
    user_code: Option<String>,
}

/// Where a person goes on after signing in.
pub fn page_for(user_code: Option<&UserCode>) -> String {
    user_code.map_or_else(|| "/device".to_owned(), |code| format!("/device?user_code={code}"))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(CodeParameter { user_code }): Query<CodeParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let user_code = user_code.as_deref().and_then(UserCode::parse);
    if browser.session(&app).await?.is_none() {
        return sign_in::begin(&app, browser, Goal::Device { user_code }).await;
    }
    let typed = user_code.map(|code| code.to_string()).unwrap_or_default();
    ask(&app, browser, typed, StatusCode::OK, None)
}

fn ask(
    app: &App,
    browser: Browser,
    user_code: String,
    status: StatusCode,
    problem: Option<Sentence>,
) -> Result<Response, PageError> {
    let template = CodePage { frame: Frame::of(app, &browser), csrf: browser.form_token(PURPOSE), user_code, problem };
    let response = page(status, &template, &LeadsTo::Here)?;
    Ok(browser.answer(when_to_try_again(app, response)))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let typed = form.get("user_code").unwrap_or_default();
    let user_code = UserCode::parse(typed);
    let Some(session) = browser.session(&app).await? else {
        return sign_in::begin(&app, browser, Goal::Device { user_code }).await;
    };
    let refused = || (StatusCode::UNPROCESSABLE_ENTITY, Some(say::device_unknown_code()));
    let found = match guess(&app, &session, user_code.as_ref(), address).await? {
        Guess::Right(found) => Some(*found),
        Guess::Wrong => None,
        Guess::TooMany => {
            let problem = Some(say::device_too_many_codes());
            return ask(&app, browser, String::new(), StatusCode::TOO_MANY_REQUESTS, problem);
        }
    };
    let (Some((id, request)), Some(user_code)) = (found, user_code) else {
        let typed = typed.chars().take(16).collect();
        let (status, problem) = refused();
        return ask(&app, browser, typed, status, problem);
    };
    if lacks_second_factor(&app, &session, &request).await? {
        let goal = Goal::Device { user_code: Some(user_code) };
        return second_factor::step_up(&app, browser, goal, &session).await;
    }
    let allow = match form.get("decision") {
        Some("allow") => true,
        Some("deny") => false,
        _ => return confirm(&app, browser, &session, &request).await,
    };
    let verdict = verdict(&app, &session, &request, allow).await?;
    if !device_grant::decide(app.store(), &id, &user_code, &verdict).await? {
        let (status, problem) = refused();
        return ask(&app, browser, String::new(), status, problem);
    }
    let template = DonePage { frame: Frame::of(&app, &browser), allowed: allow };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}

enum Guess {
    Right(Box<(String, DeviceRequest)>),
    Wrong,
    TooMany,
}

/// Wrong codes are counted for the person and for the address: 34 bits are few for somebody who may try without end (RFC 8628 §5.1).
async fn guess(app: &App, session: &Session, code: Option<&UserCode>, address: IpAddr) -> Result<Guess, PageError> {
    let account = format!("device\0{}", session.facts.sub);
    // Codes are anybody's to guess: that this browser is known here says nothing.
    let from = Source { address, known: None };
    if let throttle::Verdict::Wait(_) = throttle::attempt(app.store(), &app.config.limits, &account, from).await? {
        crate::audit::record("device.throttled", &session.facts.sub, address, "");
        return Ok(Guess::TooMany);
    }
    let Some(code) = code else { return Ok(Guess::Wrong) };
    let Some(found) = device_grant::waiting(app.store(), code, app.now()).await? else { return Ok(Guess::Wrong) };
    throttle::forgive(app.store(), &account, from).await?;
    Ok(Guess::Right(Box::new(found)))
}

/// A client that needs two factors needs them of whoever lets a device in, too.
async fn lacks_second_factor(app: &App, session: &Session, request: &DeviceRequest) -> Result<bool, PageError> {
    let client = client::load(app.store(), &request.client_id).await?;
    let demand = Demand { mfa: client.is_none_or(|client| client.require_mfa), ..Demand::default() };
    let proof = Proof::from_amr(&session.facts.amr, session.facts.auth_time);
    Ok(demand.missing(&proof, app.now()) == Missing::SecondFactor)
}

async fn confirm(
    app: &App,
    browser: Browser,
    session: &Session,
    request: &DeviceRequest,
) -> Result<Response, PageError> {
    let client = client::load(app.store(), &request.client_id).await?;
    let template = ConfirmPage {
        frame: Frame::of(app, &browser),
        csrf: browser.form_token(PURPOSE),
        user_code: request.user_code.to_string(),
        application: client::shown_name(client.as_ref(), &request.client_id),
        username: session.profile.username.clone().unwrap_or_default(),
        permissions: consent::permissions(&request.scope),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}

async fn verdict(app: &App, session: &Session, request: &DeviceRequest, allow: bool) -> Result<Verdict, PageError> {
    let sub = &session.facts.sub;
    if !allow {
        crate::audit::record("device.refused", sub, &request.client_id, &request.scope);
        return Ok(Verdict::Denied);
    }
    let user = user::load(app.store(), sub).await?.filter(|user| !user.details.disabled);
    let user = user.ok_or(PageError::Forbidden(say::sorry_not_active()))?;
    crate::audit::record("device.allowed", sub, &request.client_id, &request.scope);
    Ok(Verdict::Allowed(Box::new(Allowed {
        sub: sub.clone(),
        epoch: user.epoch,
        auth_time: session.facts.auth_time,
        acr: session.facts.acr.clone(),
        amr: session.facts.amr.clone(),
    })))
}
