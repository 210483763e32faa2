//! `/new-passkey`: a passkey, by the link that an administrator gave somebody. Where there are no passwords it is how people come in first.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::browser::Browser;
use super::error::PageError;
use super::link::{self, Link};
use super::passkeys::{self, Make, New};
use super::{Frame, LeadsTo, flows, page_with_script, redirect};
use crate::app::{App, Shared};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::factors;
use crate::record::reset::Purpose;
use crate::record::user::User;

#[derive(Template)]
#[template(path = "new_passkey.html")]
struct NewPasskeyPage {
    frame: Frame,
    new: New,
    problem: Option<Sentence>,
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(link): Query<Link>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    if let Some(text) = &link.token {
        return link::enter(&app, browser, Purpose::Passkey, text).await;
    }
    let id = link.flow.ok_or_else(link::over)?;
    let (_, user) = link::open(&app, &browser, &id, Purpose::Passkey).await?;
    show(&app, browser, &id, &user, StatusCode::OK, None).await
}

async fn show(
    app: &App,
    browser: Browser,
    id: &str,
    user: &User,
    status: StatusCode,
    problem: Option<Sentence>,
) -> Result<Response, PageError> {
    let factors = factors::load(app.store(), &user.id).await?;
    let make = Make { action: "/new-passkey", flow: id.to_owned(), csrf: browser.form_token(id) };
    let new = passkeys::offer(app, &browser, (user, &factors), make).ok_or(PageError::NotFound)?;
    let template = NewPasskeyPage { frame: Frame::of(app, &browser), new, problem };
    Ok(browser.answer(page_with_script(status, &template, &LeadsTo::Here)?))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, sent) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = flows::of_form(&sent);
    let (ticket, user) = link::open(&app, &browser, &id, Purpose::Passkey).await?;
    let factors = factors::load(app.store(), &user.id).await?;
    if !passkeys::may_add(&app, &factors) {
        return Err(PageError::BadRequest(say::sorry_too_many_passkeys()));
    }
    let name = passkeys::name(&sent, &browser, &factors);
    let passkey = match passkeys::register(&app, &passkeys::challenge(&browser, &id), &name, &sent) {
        Ok(passkey) => passkey,
        Err(refused) => {
            crate::audit::record("passkey.refused", &user.id, "new", refused);
            let problem = Some(say::passkey_unusable());
            return show(&app, browser, &id, &user, StatusCode::UNPROCESSABLE_ENTITY, problem).await;
        }
    };
    // Only now, so that a passkey that does not fit does not cost the link.
    let user = link::use_up(&app, &id, &ticket).await?;
    factors::add_passkey(app.store(), &user.id, &passkey).await?;
    crate::audit::record("factor.added", browser.address(), &user.id, format_args!("passkey {} by link", passkey.id));
    // It is asked for at once: whoever made it can use it.
    Ok(browser.forget_session().answer(redirect("/sign-in?done=passkey-added")))
}
