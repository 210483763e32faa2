//! `/account/password`: a new one, after a recent sign-in. Every other session ends.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::PURPOSE;
use super::recent::{Recent, recently};
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::settle;
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::new_password::{self, Chosen, are_enabled};
use crate::endpoint::pages::{Frame, LeadsTo, page, redirect};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::flow::Settings;
use crate::record::user::{self, Change, User};
use crate::revoke::{self, Extent};

#[derive(Template)]
#[template(path = "change_password.html")]
struct ChangePasswordPage {
    frame: Frame,
    username: String,
    min_length: usize,
    csrf: String,
    problem: Option<Sentence>,
}

fn show(
    app: &App,
    browser: Browser,
    user: User,
    status: StatusCode,
    problem: Option<Sentence>,
) -> Result<Response, PageError> {
    let template = ChangePasswordPage {
        frame: Frame::of(app, &browser),
        username: user.details.username,
        min_length: app.config.passwords.min_length,
        csrf: browser.form_token(PURPOSE),
        problem,
    };
    Ok(browser.answer(page(status, &template, &LeadsTo::Here)?))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    are_enabled(&app)?;
    let browser = Browser::of(&app, &headers, address);
    match recently(&app, browser, Settings::Password).await? {
        Ok(Recent { browser, user, .. }) => show(&app, browser, user, StatusCode::OK, None),
        Err(response) => Ok(*response),
    }
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    are_enabled(&app)?;
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, session, .. } = match recently(&app, browser, Settings::Password).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let hash = match new_password::choose(&app, &user, &form).await? {
        Chosen::Good(hash) => hash,
        Chosen::Bad(problem) => {
            return show(&app, browser, user, StatusCode::UNPROCESSABLE_ENTITY, Some(problem));
        }
    };
    user::change(app.store(), &user, Change { details: None, password: Some(hash) }).await?;
    crate::audit::record("password.changed", &user.id, &user.id, "account page");
    settle(&app, &revoke::subject(&app, &user.id, Some(session.id), Extent::SignedIn).await?).await;
    Ok(browser.answer(redirect("/account?done=password-changed")))
}
