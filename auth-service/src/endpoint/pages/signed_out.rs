//! `/signed-out`, and the question before signing out on a client's word.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::account::Told;
use super::browser::{Browser, language};
use super::error::PageError;
use super::{Frame, LeadsTo, page};
use crate::app::{App, Shared};
use crate::federation::Provider;
use crate::messages::{Sentence, say};
use crate::record::session::Session;

#[derive(Template)]
#[template(path = "signed_out.html")]
struct SignedOutPage {
    frame: Frame,
    told: Option<Sentence>,
    /// Where the session came from.
    elsewhere: Option<Arc<Provider>>,
}

#[derive(Deserialize)]
pub struct CameFrom {
    #[serde(default)]
    from: Option<String>,
}

/// The page's address for a browser whose session has ended.
pub fn address(app: &App, session: &Session, told: Told) -> String {
    let origin = session.facts.origin.as_ref();
    let from = origin.and_then(|origin| app.providers.all().iter().find(|one| one.issuer() == origin.issuer));
    let from = from.filter(|provider| provider.settings.sign_out).map(|provider| format!("from={}", provider.id()));
    let parts: Vec<String> = told.sentence().map(|_| told.query()).into_iter().chain(from).collect();
    if parts.is_empty() { "/signed-out".to_owned() } else { format!("/signed-out?{}", parts.join("&")) }
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
    Query(CameFrom { from }): Query<CameFrom>,
) -> Result<Response, PageError> {
    let frame = Frame::in_language(&app, language(&app, &headers));
    let elsewhere = from.and_then(|id| app.providers.get(&id)).filter(|provider| provider.settings.sign_out).cloned();
    page(StatusCode::OK, &SignedOutPage { frame, told: told.sentence(), elsewhere }, &LeadsTo::Here)
}

/// `back`: the client's registered address, offered as a link for those who stay; `wanted`: its `ui_locales`.
pub fn ask(app: &App, browser: Browser, back: Option<&str>, wanted: Option<&str>) -> Result<Response, PageError> {
    let template = SignOutPage {
        frame: Frame::asked_for(app, &browser, wanted),
        csrf: browser.form_token("account"),
        back: back.filter(|uri| uri.starts_with("https://") || uri.starts_with("http://")).map(str::to_owned),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}
