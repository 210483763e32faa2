//! `/account/connections`: the account is connected with sign-ins at other providers, and taken off them.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::recent::{Recent, recently};
use super::sessions::tell;
use super::words::{Told, ago};
use super::{Done, PURPOSE};
use crate::app::{App, Shared};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{Frame, LeadsTo, elsewhere, page, redirect};
use crate::federation::accounts::{self, AccountError, Ways};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::federated::{self, Identities};
use crate::record::flow::{Goal, Settings};

#[derive(Template)]
#[template(path = "connections.html")]
struct ConnectionsPage {
    frame: Frame,
    notice: Option<Sentence>,
    connected: Vec<Row>,
    /// Id and name.
    others: Vec<(String, String)>,
    csrf: String,
}

struct Row {
    provider: String,
    name: String,
    shown: String,
    since: Sentence,
    used: Sentence,
}

/// Names of the providers that an account is connected with.
pub fn names(app: &App, identities: &Identities) -> Vec<String> {
    let known = app.providers.all().iter().filter(|provider| identities.contains_key(provider.id()));
    known.map(|provider| provider.name().to_owned()).collect()
}

/// A provider that is no longer configured is called by its id.
fn name_of(app: &App, id: &str) -> String {
    app.providers.get(id).map_or(id, |provider| provider.name()).to_owned()
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(done): Query<Done>,
    Query(told): Query<Told>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Recent { browser, user, .. } = match recently(&app, browser, Settings::Connections).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let identities = federated::of_account(app.store(), &user.id).await?;
    let now = app.now();
    let rows = identities.iter().map(|(id, held)| Row {
        provider: id.clone(),
        name: name_of(&app, id),
        shown: held.identity.shown.clone(),
        since: ago(now.saturating_sub(held.identity.since)),
        used: ago(now.saturating_sub(held.identity.used)),
    });
    let others = app.providers.all().iter().filter(|provider| !identities.contains_key(provider.id()));
    let template = ConnectionsPage {
        frame: Frame::of(&app, &browser),
        notice: done.sentence(told),
        connected: rows.collect(),
        others: others.map(|provider| (provider.id().to_owned(), provider.name().to_owned())).collect(),
        csrf: browser.form_token(PURPOSE),
    };
    let issuers: Vec<&str> = app.providers.all().iter().map(|provider| provider.issuer()).collect();
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Providers(&issuers))?))
}

pub async fn connect(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, .. } = match recently(&app, browser, Settings::Connections).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let provider = app.providers.get(form.get("provider").unwrap_or_default()).ok_or(PageError::NotFound)?;
    elsewhere::send(&app, browser, provider, Goal::Settings(Settings::Connections), Some(user.id)).await
}

pub async fn remove(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Recent { browser, user, session, factors } = match recently(&app, browser, Settings::Connections).await? {
        Ok(recent) => recent,
        Err(response) => return Ok(*response),
    };
    let id = form.get("provider").unwrap_or_default();
    let identities = federated::of_account(app.store(), &user.id).await?;
    let ended = match accounts::beside(&app, &user, &factors, identities, id) {
        Ways::None => Err(AccountError::LastWay),
        Ways::Some => accounts::disconnect(&app, &user, id, None, Some(session.id)).await,
        Ways::Only(spare) => accounts::disconnect(&app, &user, id, Some(&spare), Some(session.id)).await,
    };
    let ended = ended.map_err(|error| elsewhere::not_entered(&app, &name_of(&app, id), error))?;
    crate::audit::record("identity.disconnected", &user.id, &user.id, id);
    let told = tell(&app, &ended).await;
    Ok(browser.answer(redirect(&format!("/account/connections?done=provider-disconnected&{}", told.query()))))
}
