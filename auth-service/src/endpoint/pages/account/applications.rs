//! Applications that somebody has given access to, what they may do, and taking it back.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;

use super::PURPOSE;
use super::sessions::tell;
use crate::app::{App, Shared};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{redirect, sign_in};
use crate::messages::Sentence;
use crate::peer::ClientAddress;
use crate::record::flow::Goal;
use crate::record::grant::{self, Grant};
use crate::record::user::held;
use crate::record::{client, consent};
use crate::revoke::{self, Ended};

pub struct Row {
    pub client_id: String,
    pub name: String,
    pub permissions: Vec<Sentence>,
    /// Whether it holds tokens now, or merely would not have to ask.
    pub connected: bool,
}

/// What was consented to, and what is in use without having been asked for: the organisation's own applications.
pub async fn rows(app: &App, sub: &str) -> Result<Vec<Row>, PageError> {
    let mut scopes: BTreeMap<String, (Vec<String>, bool)> = BTreeMap::new();
    for (client, given) in consent::list(app.store(), sub).await? {
        scopes.insert(client, (given.scopes, false));
    }
    for grant in grants(app, sub).await? {
        let (known, connected) = scopes.entry(grant.facts.client_id).or_default();
        *connected = true;
        for scope in grant.facts.scope.split(' ').filter(|scope| !scope.is_empty()) {
            if !known.iter().any(|one| one == scope) {
                known.push(scope.to_owned());
            }
        }
    }
    let mut rows = Vec::with_capacity(scopes.len());
    for (client_id, (scopes, connected)) in scopes {
        let registered = client::load(app.store(), &client_id).await?;
        rows.push(Row {
            name: client::shown_name(registered.as_ref(), &client_id),
            permissions: scopes.iter().map(|scope| Sentence::of_scope(scope)).collect(),
            client_id,
            connected,
        });
    }
    Ok(rows)
}

async fn grants(app: &App, sub: &str) -> Result<Vec<Grant>, PageError> {
    let held = held(app.store(), sub).await?;
    let ids = held.iter().filter(|one| one.kind == "grant").map(|one| grant::load(app.store(), one.id));
    Ok(futures::future::try_join_all(ids).await?.into_iter().flatten().collect())
}

pub async fn disconnect(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Some(session) = browser.session(&app).await? else { return sign_in::begin(&app, browser, Goal::Account).await };
    let sub = &session.facts.sub;
    let client_id = form.get("client").unwrap_or_default();
    // The consent first: no new grant comes about by it while the old ones end.
    consent::forget(app.store(), sub, client_id).await?;
    let mut last = Ended::default();
    for grant in grants(&app, sub).await?.into_iter().filter(|grant| grant.facts.client_id == client_id) {
        let ended = revoke::record(&app, grant.id).await?;
        last = if ended.event > last.event { ended } else { last };
    }
    crate::audit::record("application.disconnected", sub, client_id, "account page");
    let told = tell(&app, &last).await;
    Ok(browser.answer(redirect(&format!("/account?done=disconnected&{}", told.query()))))
}
