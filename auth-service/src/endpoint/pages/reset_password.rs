//! `/reset-password`: the link that an administrator gave somebody.
//!
//! The link's secret leaves the address bar at once, for a flow of this browser's, and is used up only by the form: previews of links
//! in mail and chat open them, too.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::browser::Browser;
use super::error::PageError;
use super::flows;
use super::new_password::{self, Chosen};
use super::{Frame, LeadsTo, page, redirect};
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::settle;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::flow::{Goal, Stage};
use crate::record::reset::{self, Ticket};
use crate::record::user::{self, Change, User};
use crate::revoke::{self, Extent};
use crate::throttle::{self, Verdict};

#[derive(Template)]
#[template(path = "reset_password.html")]
struct ResetPasswordPage {
    frame: Frame,
    username: String,
    min_length: usize,
    flow: String,
    csrf: String,
    problem: Option<Sentence>,
}

#[derive(Deserialize)]
pub struct Link {
    token: Option<String>,
    flow: Option<String>,
}

fn over() -> PageError {
    PageError::BadRequest(say::sorry_link_over())
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(link): Query<Link>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    if let Some(text) = link.token {
        return enter(&app, browser, &text).await;
    }
    let id = link.flow.ok_or_else(over)?;
    let ticket = flows::at_reset(&app, &browser, &id).await?;
    let user = person(&app, reset::check(app.store(), &ticket).await?, &ticket).await?;
    show(&app, browser, &id, user, StatusCode::OK, None)
}

async fn enter(app: &App, browser: Browser, text: &str) -> Result<Response, PageError> {
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, browser.address()).await? {
        return Err(PageError::Throttled(say::sorry_too_many_visits(), seconds));
    }
    let ticket = reset::parse(text).ok_or_else(over)?;
    reset::check(app.store(), &ticket).await?.ok_or_else(over)?;
    let id = flows::start(app, &browser, Goal::Account, Stage::Reset(ticket)).await?;
    let mut response = browser.answer(redirect(&format!("/reset-password?flow={id}")));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// Whose link it is, if nothing has happened to the account since it was made.
async fn person(app: &App, epoch: Option<u64>, ticket: &Ticket) -> Result<User, PageError> {
    let epoch = epoch.ok_or_else(over)?;
    let user = user::load(app.store(), &ticket.sub).await?;
    user.filter(|user| !user.details.disabled && user.epoch == epoch).ok_or_else(over)
}

fn show(
    app: &App,
    browser: Browser,
    id: &str,
    user: User,
    status: StatusCode,
    problem: Option<Sentence>,
) -> Result<Response, PageError> {
    let template = ResetPasswordPage {
        frame: Frame::of(app, &browser),
        username: user.details.username,
        min_length: app.config.passwords.min_length,
        flow: id.to_owned(),
        csrf: browser.form_token(id),
        problem,
    };
    Ok(browser.answer(page(status, &template, &LeadsTo::Here)?))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = form.get("flow").unwrap_or_default();
    let ticket = flows::at_reset(&app, &browser, id).await?;
    let user = person(&app, reset::check(app.store(), &ticket).await?, &ticket).await?;
    let hash = match new_password::choose(&app, &user, &form).await? {
        Chosen::Good(hash) => hash,
        Chosen::Bad(problem) => {
            return show(&app, browser, id, user, StatusCode::UNPROCESSABLE_ENTITY, Some(problem));
        }
    };
    // Only now, so that a password that is too weak does not cost the link.
    let user = person(&app, reset::take(app.store(), &ticket).await?, &ticket).await?;
    flows::finish(&app, id).await?;
    user::change(app.store(), &user, Change { details: None, password: Some(hash) }).await?;
    crate::audit::record("password.reset", browser.address(), &user.id, "by link");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    // Whoever has a second factor is asked for it as always: the link stands for the password only.
    Ok(browser.forget_session().answer(redirect("/sign-in?done=password-reset")))
}
