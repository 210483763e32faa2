//! `/account`: who is signed in, where else, with which factors, and which applications may do what.

pub mod applications;
pub mod authenticator;
pub mod browsers;
pub mod connections;
pub mod passkeys;
pub mod password;
mod recent;
pub mod recovery_codes;
pub mod sessions;
pub mod words;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::browser::Browser;
use super::error::PageError;
use super::{Frame, LeadsTo, page, sign_in};
use crate::app::Shared;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::flow::Goal;
use crate::record::{factors, federated, user};
use crate::webauthn::Party;
pub use words::Told;

/// What forms of the account page prove that they come from.
const PURPOSE: &str = "account";

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    name: String,
    username: String,
    email: Option<String>,
    notice: Option<Sentence>,
    sessions: Vec<sessions::Row>,
    browsers: Vec<browsers::Row>,
    applications: Vec<applications::Row>,
    authenticator_since: Option<Sentence>,
    passkeys: Vec<String>,
    passkeys_work: bool,
    /// Whether there are other providers to sign in with, and with which the account is connected.
    providers: bool,
    connected: Vec<String>,
    /// Whether there is one; absent where people sign in without.
    password: Option<bool>,
    recovery_codes: usize,
    csrf: String,
}

/// What was just done, as a redirect tells it.
#[derive(Deserialize)]
pub struct Done {
    #[serde(default)]
    done: Option<String>,
}

impl Done {
    fn sentence(&self, told: Told) -> Option<Sentence> {
        let what = match self.done.as_deref()? {
            "signed-out" => say::done_signed_out(),
            "browser-forgotten" => say::done_browser_forgotten(),
            "disconnected" => say::done_disconnected(),
            "password-changed" => say::done_password_changed(),
            "authenticator-set-up" => say::done_authenticator_set_up(),
            "passkey-added" => say::done_passkey_added(),
            "passkey-removed" => say::done_passkey_removed(),
            "connected" => say::done_connected(),
            "provider-disconnected" => say::done_provider_disconnected(),
            "declined" => say::done_declined(),
            "authenticator-removed" => say::done_authenticator_removed(),
            _ => return None,
        };
        Some(match told.sentence() {
            Some(told) => what.then(told),
            None => what,
        })
    }
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(done): Query<Done>,
    Query(told): Query<Told>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Some(session) = browser.session(&app).await? else { return sign_in::begin(&app, browser, Goal::Account).await };
    let (profile, sub) = (&session.profile, &session.facts.sub);
    let username = profile.username.clone().unwrap_or_default();
    let factors = factors::load(app.store(), sub).await?;
    let identities = federated::of_account(app.store(), sub).await?;
    let user = user::load(app.store(), sub).await?;
    let template = AccountPage {
        frame: Frame::of(&app, &browser),
        name: profile.name.clone().unwrap_or_else(|| username.clone()),
        username,
        email: profile.email.clone(),
        notice: done.sentence(told),
        sessions: sessions::rows(&app, &session).await?,
        browsers: browsers::rows(&app, sub).await?,
        applications: applications::rows(&app, sub).await?,
        authenticator_since: factors.totp.map(|totp| words::ago(app.now().saturating_sub(totp.created))),
        passkeys: factors.passkeys.into_iter().map(|passkey| passkey.kept.name).collect(),
        passkeys_work: Party::of_issuer(&app.config.issuer).is_some(),
        providers: !app.providers.all().is_empty() || !identities.is_empty(),
        connected: connections::names(&app, &identities),
        password: app.config.passwords.enabled.then(|| user.is_some_and(|user| user.password.is_some())),
        recovery_codes: factors.recovery_codes,
        csrf: browser.form_token(PURPOSE),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}
