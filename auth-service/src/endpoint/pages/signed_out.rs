//! `/signed-out`, and the question before signing out on a client's word.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::account::Told;
use super::browser::{Browser, language};
use super::error::PageError;
use super::{Frame, LeadsTo, page};
use crate::app::{App, Shared};
use crate::messages::{Sentence, say};

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    frame: Frame,
    told: Option<Sentence>,
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOutPage {
    frame: Frame,
    csrf: String,
    back: Option<String>,
}

pub async fn get(
    State(app): State<Shared>,
    headers: HeaderMap,
    Query(told): Query<Told>,
) -> Result<Response, PageError> {
    let frame = Frame::in_language(&app, language(&app, &headers));
    page(StatusCode::OK, &SignedOutPage { frame, told: told.sentence() }, &LeadsTo::Here)
}

/// `back`: the client's registered address, offered as a link for those who stay; `wanted`: its `ui_locales`.
pub fn ask(app: &App, browser: Browser, back: Option<&str>, wanted: Option<&str>) -> Result<Response, PageError> {
    let asked = wanted.and_then(|wanted| app.messages.among(wanted));
    let template = SignOutPage {
        frame: Frame::in_language(app, asked.unwrap_or_else(|| Arc::clone(browser.language()))),
        csrf: browser.form_token("account"),
        back: back.filter(|uri| uri.starts_with("https://") || uri.starts_with("http://")).map(str::to_owned),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}
