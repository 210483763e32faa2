//! `/signed-out`, and the question before signing out on a client's word.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::StatusCode;

use super::account::Told;
use super::browser::Browser;
use super::error::PageError;
use super::{Frame, LeadsTo, page};
use crate::app::{App, Shared};

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    frame: Frame,
    told: Option<String>,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage {
    frame: Frame,
    csrf: String,
    back: Option<String>,
}

pub async fn get(State(app): State<Shared>, Query(told): Query<Told>) -> Result<Response, PageError> {
    page(StatusCode::OK, &SignedOutPage { frame: Frame::of(&app), told: told.sentence() }, &LeadsTo::Here)
}

/// `back`: the client's registered address, offered as a link for those who stay.
pub fn ask(app: &App, browser: Browser, back: Option<&str>) -> Result<Response, PageError> {
    let template = SignOutPage {
        frame: Frame::of(app),
        csrf: browser.form_token("account"),
        back: back.filter(|uri| uri.starts_with("https://") || uri.starts_with("http://")).map(str::to_owned),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}
