//! Browsers that are trusted with a password only, and the end of that trust.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::PURPOSE;
use super::words::{ago, device};
use crate::app::{App, Shared};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{redirect, sign_in};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::device;
use crate::record::flow::Goal;

pub struct Row {
    pub id: String,
    pub device: Sentence,
    pub address: String,
    pub since: Sentence,
    pub used: Sentence,
}

pub async fn rows(app: &App, sub: &str) -> Result<Vec<Row>, PageError> {
    let now = app.now();
    let known = device::list(app.store(), sub).await?;
    Ok(known
        .into_iter()
        .map(|known| Row {
            id: known.id.to_string(),
            device: device(&known.device.user_agent),
            address: known.device.address,
            since: ago(now.saturating_sub(known.device.created)),
            used: ago(now.saturating_sub(known.last_used)),
        })
        .collect())
}

pub async fn forget(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Some(session) = browser.session(&app).await? else { return sign_in::begin(&app, browser, Goal::Account).await };
    let unknown = || PageError::BadRequest(say::sorry_browser_not_trusted());
    let id = form.get("browser").and_then(|id| id.parse().ok()).ok_or_else(unknown)?;
    let sub = &session.facts.sub;
    if !device::forget(app.store(), sub, id).await? {
        return Err(unknown());
    }
    crate::audit::record("browser.forgotten", sub, id, "account page");
    Ok(browser.answer(redirect("/account?done=browser-forgotten")))
}
