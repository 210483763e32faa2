//! `/account/passkeys`: passkeys are added and removed.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::PURPOSE;
use super::recent::{Recent, recently};
use super::words::ago;
use crate::app::{App, Shared};
use crate::endpoint::pages::authenticator::{new_recovery_codes, show_recovery_codes};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::passkeys::{Make, New};
use crate::endpoint::pages::{Frame, LeadsTo, flows, page_with_script, passkeys, redirect};
use crate::federation::accounts;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::flow::{Goal, Settings, Stage};
use crate::record::{factors, federated};

#[derive(Template)]
#[template(path = "passkeys.html")]
struct PasskeysPage {
    frame: Frame,
    passkeys: Vec<Row>,
    /// What the script makes a new one with; absent where there can be none.
    new: Option<New>,
    csrf: String,
    problem: Option<Sentence>,
}

struct Row {
    id: String,
    name: String,
    backed_up: bool,
    since: Sentence,
    used: Sentence,
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    match recently(&app, browser, Settings::Passkeys).await? {
        Ok(recent) => show(&app, recent, StatusCode::OK, None).await,
        Err(response) => Ok(*response),
    }
}

async fn show(app: &App, recent: Recent, status: StatusCode, problem: Option<Sentence>) -> Result<Response, PageError> {
    let Recent { browser, user, factors, .. } = recent;
    let now = app.now();
    let new = if passkeys::may_add(app, &factors) {
        let flow = flows::start(app, &browser, Goal::Settings(Settings::Passkeys), Stage::NewPasskey).await?;
        let csrf = browser.form_token(PURPOSE);
        passkeys::offer(app, &browser, (&user, &factors), Make { action: "/account/passkeys", flow, csrf })
    } else {
        None
    };
    let rows = factors.passkeys.iter().map(|passkey| Row {
        id: passkey.id.clone(),
        name: passkey.kept.name.clone(),
        backed_up: passkey.kept.backed_up,
        since: ago(now.saturating_sub(passkey.kept.created)),
        used: ago(now.saturating_sub(passkey.kept.last_used)),
    });
    let template = PasskeysPage {
        frame: Frame::of(app, &browser),
        passkeys: rows.collect(),
        new,
        csrf: browser.form_token(PURPOSE),
        problem,
    };
    Ok(browser.answer(page_with_script(status, &template, &LeadsTo::Here)?))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, sent) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let recent = match recently(&app, browser, Settings::Passkeys).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let flow = sent.get("flow").unwrap_or_default();
    flows::at_new_passkey(&app, &recent.browser, flow).await?;
    flows::finish(&app, flow).await?;
    let challenge = passkeys::challenge(&recent.browser, flow);
    let passkey =
        match passkeys::register(&app, &challenge, &passkeys::name(&sent, &recent.browser, &recent.factors), &sent) {
            Ok(passkey) => passkey,
            Err(refused) => {
                crate::audit::record("passkey.refused", &recent.user.id, "new", refused);
                let problem = Some(say::passkey_unusable());
                return show(&app, recent, StatusCode::UNPROCESSABLE_ENTITY, problem).await;
            }
        };
    if !passkeys::may_add(&app, &recent.factors) {
        return Err(PageError::BadRequest(say::sorry_too_many_passkeys()));
    }
    let sub = &recent.user.id;
    factors::add_passkey(app.store(), sub, &passkey).await?;
    crate::audit::record("factor.added", sub, sub, format_args!("passkey {}", passkey.id));
    if recent.factors.recovery_codes > 0 {
        return Ok(recent.browser.answer(redirect("/account?done=passkey-added")));
    }
    let codes = new_recovery_codes(&app, sub).await?;
    let frame = Frame::of(&app, &recent.browser);
    show_recovery_codes(frame, recent.browser, codes, "/account".to_owned())
}

pub async fn remove(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, sent) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, factors, .. } = match recently(&app, browser, Settings::Passkeys).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let id = sent.get("passkey").unwrap_or_default();
    if !factors.passkeys.iter().any(|passkey| passkey.id == id) {
        return Err(PageError::BadRequest(say::sorry_passkey_gone()));
    }
    let last = factors.passkeys.len() == 1 && !app.takes_password_of(&user);
    if last && !accounts::any_usable(&app, &federated::of_account(app.store(), &user.id).await?) {
        let passwords = app.config.passwords.enabled;
        let only = if passwords { say::sorry_last_passkey() } else { say::sorry_last_passkey_no_passwords() };
        return Err(PageError::BadRequest(only));
    }
    factors::remove_passkey(app.store(), &user.id, &factors, id).await?;
    crate::audit::record("factor.removed", &user.id, &user.id, format_args!("passkey {id}"));
    Ok(browser.answer(redirect("/account?done=passkey-removed")))
}
