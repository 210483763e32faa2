//! `/account/recovery-codes`: new ones in the place of all earlier ones.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::PURPOSE;
use super::recent::{Recent, recently};
use crate::app::Shared;
use crate::endpoint::pages::authenticator::{new_recovery_codes, show_recovery_codes};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{Frame, LeadsTo, page, redirect};
use crate::messages::say;
use crate::peer::ClientAddress;
use crate::record::flow::Settings;

#[derive(Template)]
#[template(path = "new_recovery_codes.html")]
struct NewRecoveryCodesPage {
    frame: Frame,
    left: usize,
    csrf: String,
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Recent { browser, factors, .. } = match recently(&app, browser, Settings::RecoveryCodes).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    if !factors.is_enrolled() {
        return Ok(browser.answer(redirect("/account")));
    }
    let template = NewRecoveryCodesPage {
        frame: Frame::of(&app, &browser),
        left: factors.recovery_codes,
        csrf: browser.form_token(PURPOSE),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, _) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, factors, .. } = match recently(&app, browser, Settings::RecoveryCodes).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    if !factors.is_enrolled() {
        return Ok(browser.answer(redirect("/account")));
    }
    let codes = new_recovery_codes(&app, &user.id).await?;
    let frame = Frame::of(&app, &browser);
    show_recovery_codes(frame, browser, codes, "/account".to_owned())
}
