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
use crate::endpoint::pages::{Frame, LeadsTo, flows, page_with_script, passkeys, redirect};
use crate::federation::accounts;
use crate::form::Parameters;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::flow::{Goal, Settings, Stage};
use crate::record::{factors, federated};
use crate::webauthn::{ALGORITHMS, Party};

const MAX_PASSKEYS: usize = 20;
const MAX_NAME: usize = 64;

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

struct New {
    rp: String,
    user: String,
    username: String,
    display_name: String,
    challenge: String,
    algorithms: String,
    exclude: String,
    flow: String,
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
    let ids: Vec<&str> = factors.passkeys.iter().map(|passkey| passkey.id.as_str()).collect();
    let new = match Party::of_issuer(&app.config.issuer).filter(|_| ids.len() < MAX_PASSKEYS) {
        Some(party) => {
            let flow = flows::start(app, &browser, Goal::Settings(Settings::Passkeys), Stage::NewPasskey).await?;
            let details = &user.details;
            Some(New {
                rp: party.id,
                username: details.username.clone(),
                display_name: details.profile.name.clone().unwrap_or_else(|| details.username.clone()),
                user: user.id,
                challenge: passkeys::challenge(&browser, &flow),
                algorithms: ALGORITHMS.map(|algorithm| algorithm.to_string()).join(" "),
                exclude: ids.join(" "),
                flow,
            })
        }
        None => None,
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
    let passkey = match passkeys::register(&app, &challenge, &name(&sent, &recent), &sent) {
        Ok(passkey) => passkey,
        Err(refused) => {
            crate::audit::record("passkey.refused", &recent.user.id, "new", refused);
            let problem = Some(say::passkey_unusable());
            return show(&app, recent, StatusCode::UNPROCESSABLE_ENTITY, problem).await;
        }
    };
    if recent.factors.passkeys.len() >= MAX_PASSKEYS {
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

fn name(sent: &Parameters, recent: &Recent) -> String {
    let given: String =
        sent.get("name").unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let given = given.trim();
    if !given.is_empty() {
        return given.to_owned();
    }
    recent.browser.language().say(&say::passkey_numbered(recent.factors.passkeys.len() + 1)).to_text()
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
    let last = factors.passkeys.len() == 1 && user.password.is_none();
    if last && !accounts::any_usable(&app, &federated::of_account(app.store(), &user.id).await?) {
        return Err(PageError::BadRequest(say::sorry_last_passkey()));
    }
    factors::remove_passkey(app.store(), &user.id, &factors, id).await?;
    crate::audit::record("factor.removed", &user.id, &user.id, format_args!("passkey {id}"));
    Ok(browser.answer(redirect("/account?done=passkey-removed")))
}
