//! The end of a sign-in: a session, and on to where the flow leads.

use std::time::Duration;

use axum::response::Response;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};

use super::browser::Browser;
use super::device::page_for;
use super::error::PageError;
use super::redirect;
use crate::app::App;
use crate::endpoint::oauth::authorize::proceed;
use crate::messages::say;
use crate::record::RecordError;
use crate::record::device::{self, Device};
use crate::record::flow::{Entered, Goal};
use crate::record::hash::StoredHash;
use crate::record::session::{self, Facts, Session};
use crate::record::signed_in_at;
use crate::record::user::User;

/// Signs the person in with what was proved. A session of its own for every sign-in and every step up: an id from before is worth nothing
/// after it.
pub async fn complete(
    app: &App,
    browser: Browser,
    user: &User,
    entered: &Entered,
) -> Result<(Browser, Session), PageError> {
    let before = browser.session(app).await?;
    let elevated = match entered.elevates {
        Some(id) => Some(before.as_ref().filter(|session| session.id == id).ok_or_else(signed_out_meanwhile)?),
        None => None,
    };
    // Its guard is the epoch of when the password was checked: whatever happened to the account since then stops this.
    let user = User { epoch: entered.epoch, ..user.clone() };
    let (session, token) = start(app, &user, entered, &browser, elevated).await?;
    replace(app, before, &session).await?;
    Ok((browser.signed_in(app, &user.id, &token)?, session))
}

fn signed_out_meanwhile() -> PageError {
    PageError::BadRequest(say::sorry_signed_out_meanwhile())
}

/// Where a goal leads once the person is signed in for it.
pub async fn go_on(app: &App, browser: Browser, goal: Goal, session: Session) -> Result<Response, PageError> {
    match goal {
        Goal::Authorize(request) => proceed(app, browser, *request, Some(session), true).await,
        Goal::Account => Ok(browser.answer(redirect("/account"))),
        Goal::Settings(page) => Ok(browser.answer(redirect(page.path()))),
        Goal::Device { user_code } => Ok(browser.answer(redirect(&page_for(user_code.as_ref())))),
    }
}

async fn start(
    app: &App,
    user: &User,
    Entered { proof, origin, .. }: &Entered,
    browser: &Browser,
    elevated: Option<&Session>,
) -> Result<(Session, OpaqueToken), PageError> {
    let now = app.now();
    let token = app.random.with(|rng| OpaqueToken::generate(TokenKind::Session, rng));
    let config = &app.config.session;
    let session = Session {
        id: token.id(),
        facts: Facts {
            sub: user.id.clone(),
            auth_time: proof.at,
            acr: proof.acr().to_owned(),
            amr: proof.amr(),
            sso: token.secret_hash().into(),
            user_agent: browser.user_agent().to_owned(),
            address: browser.address().to_string(),
            origin: origin.clone(),
        },
        last_used: now,
        longest_idle: elevated.map_or(config.idle_seconds, |session| session.longest_idle),
        // A second factor makes a session stronger, not longer.
        end: elevated.map_or(now + config.absolute_seconds, |session| session.end),
        profile: user.profile(),
    };
    match session::create(app.store(), user, &session, now).await {
        Ok(()) => {}
        Err(RecordError::SubjectChanged) => {
            return Err(PageError::Unavailable("the account was changed during the sign-in".to_owned()));
        }
        // Another provider, where it began, has ended it before it was there.
        Err(RecordError::Revoked) => return Err(signed_out_meanwhile()),
        Err(error) => return Err(error.into()),
    }
    let event = if elevated.is_some() { "sign-in.stepped-up" } else { "sign-in" };
    crate::audit::record(event, browser.address(), &user.id, format_args!("{} {}", session.id, proof.amr().join(" ")));
    Ok((session, token))
}

/// One browser, one session: the one before ends; what apps stored in it goes on if it is the same person's.
async fn replace(app: &App, before: Option<Session>, session: &Session) -> Result<(), PageError> {
    let Some(before) = before else { return Ok(()) };
    if before.facts.sub == session.facts.sub {
        session::inherit(app.store(), before.id, session.id).await?;
        let life = Duration::from_secs(session.end.saturating_sub(app.now()) + 1);
        signed_in_at::inherit(app.store(), before.id, session.id, life).await?;
    }
    crate::revoke::record(app, before.id).await?;
    Ok(())
}

/// Whether this person has asked to trust this browser.
pub async fn is_trusted(app: &App, browser: &Browser, sub: &str) -> Result<bool, PageError> {
    if app.config.factors.trust_browser_days == 0 {
        return Ok(false);
    }
    let Some((id, secret)) = browser.device() else { return Ok(false) };
    let known = device::load(app.store(), id).await?;
    let trusted = known.is_some_and(|known| known.device.sub == sub && known.device.secret.matches(&secret));
    if trusted {
        device::touch(app.store(), id, app.now()).await?;
    }
    Ok(trusted)
}

pub async fn trust(app: &App, browser: &mut Browser, sub: &str) -> Result<(), PageError> {
    let seconds = app.config.factors.trust_browser_days.saturating_mul(86_400);
    if seconds == 0 {
        return Ok(());
    }
    let (id, secret) = (app.random.with(TokenId::generate), app.random.secret());
    let device = Device {
        sub: sub.to_owned(),
        secret: StoredHash::of_secret(&secret),
        created: app.now(),
        user_agent: browser.user_agent().to_owned(),
        address: browser.address().to_string(),
    };
    device::create(app.store(), id, &device, Duration::from_secs(seconds)).await?;
    crate::audit::record("browser.trusted", sub, id, browser.address());
    browser.trust(id, &secret, seconds);
    Ok(())
}
