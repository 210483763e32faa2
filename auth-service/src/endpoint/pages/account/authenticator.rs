//! `/account/authenticator`: an authenticator app is set up, replaced or removed.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::PURPOSE;
use super::recent::{Recent, recently};
use crate::app::{App, Shared};
use crate::endpoint::pages::authenticator::{self, Confirmed, show_recovery_codes};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{Frame, LeadsTo, page, redirect};
use crate::peer::ClientAddress;
use crate::record::factors;
use crate::record::flow::Settings;

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Recent { browser, user, .. } = match recently(&app, browser, Settings::Authenticator).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let form = form(&app, &browser);
    let offer = authenticator::offer(&app, &browser, &user, form)?;
    Ok(browser.answer(page(StatusCode::OK, &offer, &LeadsTo::Here)?))
}

fn form(app: &App, browser: &Browser) -> authenticator::Form {
    authenticator::Form {
        frame: Frame::of(app, browser),
        action: "/account/authenticator",
        flow: None,
        csrf: browser.form_token(PURPOSE),
        demanded: false,
    }
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, sent) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, .. } = match recently(&app, browser, Settings::Authenticator).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let form = form(&app, &browser);
    match authenticator::confirm(&app, &browser, &user, &sent, form).await? {
        Confirmed::Yes(Some(codes)) => {
            show_recovery_codes(Frame::of(&app, &browser), browser, codes, "/account".to_owned())
        }
        Confirmed::Yes(None) => Ok(browser.answer(redirect("/account?done=authenticator-set-up"))),
        Confirmed::No(again) => {
            Ok(browser.answer(page(StatusCode::UNPROCESSABLE_ENTITY, again.as_ref(), &LeadsTo::Here)?))
        }
    }
}

pub async fn remove(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, _) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, factors, .. } = match recently(&app, browser, Settings::Authenticator).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    factors::remove_totp(app.store(), &user.id, &factors).await?;
    crate::audit::record("factor.removed", &user.id, &user.id, "totp");
    Ok(browser.answer(redirect("/account?done=authenticator-removed")))
}
