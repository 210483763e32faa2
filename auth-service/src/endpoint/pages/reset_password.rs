//! `/reset-password`: a new password, by the link that an administrator gave somebody.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::browser::Browser;
use super::error::PageError;
use super::flows;
use super::link::{self, Link};
use super::new_password::{self, Chosen};
use super::{Frame, LeadsTo, page, redirect};
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::settle;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::reset::Purpose;
use crate::record::user::{self, Change, User};
use crate::revoke::{self, Extent};

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

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(link): Query<Link>,
) -> Result<Response, PageError> {
    new_password::are_enabled(&app)?;
    let browser = Browser::of(&app, &headers, address);
    if let Some(text) = &link.token {
        return link::enter(&app, browser, Purpose::Password, text).await;
    }
    let id = link.flow.ok_or_else(link::over)?;
    let (_, user) = link::open(&app, &browser, &id, Purpose::Password).await?;
    show(&app, browser, &id, user, StatusCode::OK, None)
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
    new_password::are_enabled(&app)?;
    let (browser, form) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = form.get("flow").unwrap_or_default();
    let (ticket, user) = link::open(&app, &browser, id, Purpose::Password).await?;
    let hash = match new_password::choose(&app, &user, &form).await? {
        Chosen::Good(hash) => hash,
        Chosen::Bad(problem) => {
            return show(&app, browser, id, user, StatusCode::UNPROCESSABLE_ENTITY, Some(problem));
        }
    };
    // Only now, so that a password that is too weak does not cost the link.
    let user = link::use_up(&app, id, &ticket).await?;
    user::change(app.store(), &user, Change { details: None, password: Some(hash) }).await?;
    crate::audit::record("password.reset", browser.address(), &user.id, "by link");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    // Whoever has a second factor is asked for it as always: the link stands for the password only.
    Ok(browser.forget_session().answer(redirect("/sign-in?done=password-reset")))
}
