//! Where somebody is signed in, and signing out: here, there or everywhere.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use cloakroom_protocol::token::TokenId;
use http::HeaderMap;

use super::PURPOSE;
use super::words::{Told, ago, device};
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::{SETTLE_WITHIN, receipt_for};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{redirect, signed_out};
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::session::{self, Session};
use crate::record::user::held;
use crate::revoke::{self, Ended, Extent};

pub struct Row {
    pub id: String,
    pub here: bool,
    pub device: Sentence,
    pub address: String,
    pub since: Sentence,
    pub used: Sentence,
    /// Whether two factors were used.
    pub strong: bool,
}

pub async fn rows(app: &App, here: &Session) -> Result<Vec<Row>, PageError> {
    let now = app.now();
    let held = held(app.store(), &here.facts.sub).await?;
    let ids = held.iter().filter(|one| one.kind == "session").map(|one| session::load(app.store(), one.id));
    let mut sessions: Vec<Session> = futures::future::try_join_all(ids).await?.into_iter().flatten().collect();
    sessions.sort_by_key(|session| (session.id != here.id, std::cmp::Reverse(session.last_used)));
    Ok(sessions
        .into_iter()
        .map(|session| Row {
            id: session.id.to_string(),
            here: session.id == here.id,
            device: device(&session.facts.user_agent),
            since: ago(now.saturating_sub(session.facts.auth_time)),
            used: ago(now.saturating_sub(session.last_used)),
            strong: session.facts.acr == cloakroom_protocol::acr::MULTI_FACTOR,
            address: session.facts.address,
        })
        .collect())
}

pub async fn sign_out(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, |_| PURPOSE.to_owned())?;
    let Some(session) = browser.session(&app).await? else { return Ok(browser.answer(redirect("/signed-out"))) };
    let sub = &session.facts.sub;
    let ended = match form.get("what") {
        Some("here") => {
            crate::audit::record("sign-out", sub, session.id, "account page");
            revoke::record(&app, session.id).await?
        }
        Some("everywhere") => {
            crate::audit::record("sign-out.everywhere", sub, session.id, "account page");
            revoke::subject(&app, sub, None, Extent::SignedIn).await?
        }
        Some(id) => {
            let ended = end_other(&app, &session, id).await?;
            let told = tell(&app, &ended).await;
            return Ok(browser.answer(redirect(&format!("/account?done=signed-out&{}", told.query()))));
        }
        None => return Err(PageError::BadRequest(say::sorry_nothing_to_sign_out())),
    };
    let told = tell(&app, &ended).await;
    let target = signed_out::address(&app, &session, told);
    Ok(browser.forget_session().answer(redirect(&target)))
}

/// Who knows of it by now.
pub async fn tell(app: &App, ended: &Ended) -> Told {
    match receipt_for(app, ended, SETTLE_WITHIN).await {
        Ok(receipt) => Told::by(&receipt),
        Err(error) => {
            // It is revoked, whatever is known about the sidecars.
            tracing::debug!(%error, "no receipt");
            Told::default()
        }
    }
}

/// Another session of the same person; of nobody else.
async fn end_other(app: &App, session: &Session, id: &str) -> Result<Ended, PageError> {
    let unknown = || PageError::BadRequest(say::sorry_session_over());
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let other = session::load(app.store(), id).await?.filter(|other| other.facts.sub == session.facts.sub);
    let other = other.ok_or_else(unknown)?;
    crate::audit::record("sign-out", &session.facts.sub, other.id, "from another session");
    Ok(revoke::record(app, other.id).await?)
}
