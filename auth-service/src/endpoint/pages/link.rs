//! Links that an administrator gives somebody.
//!
//! A link's secret leaves the address bar at once, for a flow of this browser's, and is used up only by the form: previews of links in mail
//! and chat open them, too.

use axum::response::Response;
use http::{HeaderValue, header};
use serde::Deserialize;

use super::browser::Browser;
use super::error::PageError;
use super::{flows, redirect};
use crate::app::App;
use crate::messages::say;
use crate::record::flow::{Goal, Stage};
use crate::record::reset::{self, Purpose, Ticket};
use crate::record::user::{self, User};
use crate::throttle::{self, Verdict};

#[derive(Deserialize)]
pub struct Link {
    pub token: Option<String>,
    pub flow: Option<String>,
}

pub fn over() -> PageError {
    PageError::BadRequest(say::sorry_link_over())
}

/// From a link to its page.
pub async fn enter(app: &App, browser: Browser, purpose: Purpose, text: &str) -> Result<Response, PageError> {
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, browser.address()).await? {
        return Err(PageError::Throttled(say::sorry_too_many_visits(), seconds));
    }
    let ticket = reset::parse(purpose, text).ok_or_else(over)?;
    reset::check(app.store(), &ticket).await?.ok_or_else(over)?;
    let id = flows::start(app, &browser, Goal::Account, Stage::Reset(ticket)).await?;
    let page = match purpose {
        Purpose::Password => "/reset-password",
        Purpose::Passkey => "/new-passkey",
    };
    let mut response = browser.answer(redirect(&format!("{page}?flow={id}")));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

/// What a link's page is about: the link stays good.
pub async fn open(app: &App, browser: &Browser, id: &str, purpose: Purpose) -> Result<(Ticket, User), PageError> {
    let ticket = flows::at_link(app, browser, id, purpose).await?;
    let user = person(app, reset::check(app.store(), &ticket).await?, &ticket).await?;
    Ok((ticket, user))
}

/// Uses a link up; of several who do at once, one gets an answer.
pub async fn use_up(app: &App, id: &str, ticket: &Ticket) -> Result<User, PageError> {
    let user = person(app, reset::take(app.store(), ticket).await?, ticket).await?;
    flows::finish(app, id).await?;
    Ok(user)
}

/// Whose link it is, if nothing has happened to the account since it was made.
async fn person(app: &App, epoch: Option<u64>, ticket: &Ticket) -> Result<User, PageError> {
    let epoch = epoch.ok_or_else(over)?;
    let user = user::load(app.store(), &ticket.sub).await?;
    user.filter(|user| !user.details.disabled && user.epoch == epoch).ok_or_else(over)
}
