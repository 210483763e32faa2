//! `/account`: who is signed in, and where else; sign out here, there or everywhere.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use cloakroom_protocol::token::TokenId;
use http::{HeaderMap, StatusCode};

use super::browser::{Browser, is_from_us};
use super::error::PageError;
use super::{Frame, LeadsTo, page, redirect, sign_in};
use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::settle;
use crate::form::Parameters;
use crate::peer::ClientAddress;
use crate::record::flow::Goal;
use crate::record::session::{self, Session};
use crate::record::user::held;
use crate::revoke::{self, Extent};

const PURPOSE: &str = "account";

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    name: String,
    username: String,
    email: Option<String>,
    sessions: Vec<Row>,
    csrf: String,
}

struct Row {
    id: String,
    here: bool,
    device: String,
    address: String,
    since: String,
    used: String,
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Some(session) = browser.session(&app).await? else { return sign_in::begin(&app, browser, Goal::Account).await };
    let profile = &session.profile;
    let username = profile.username.clone().unwrap_or_default();
    let template = AccountPage {
        frame: Frame::of(&app),
        name: profile.name.clone().unwrap_or_else(|| username.clone()),
        username,
        email: profile.email.clone(),
        sessions: rows(&app, &session).await?,
        csrf: browser.form_token(PURPOSE),
    };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}

async fn rows(app: &App, here: &Session) -> Result<Vec<Row>, PageError> {
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
            address: session.facts.address,
            since: ago(now.saturating_sub(session.facts.auth_time)),
            used: ago(now.saturating_sub(session.last_used)),
        })
        .collect())
}

pub async fn sign_out(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let form = Parameters::parse(&body).map_err(|error| PageError::BadRequest(error.to_string()))?;
    let browser = Browser::of(&app, &headers, address);
    if !is_from_us(&app, &headers) || !browser.proves(PURPOSE, form.get("csrf")) {
        return Err(PageError::BadRequest("This form did not come from our page, or the page is too old.".to_owned()));
    }
    let Some(session) = browser.session(&app).await? else { return Ok(browser.answer(redirect("/signed-out"))) };
    let sub = &session.facts.sub;
    match form.get("what") {
        Some("here") => {
            crate::audit::record("sign-out", sub, session.id, "account page");
            settle(&app, &revoke::record(&app, session.id).await?).await;
        }
        Some("everywhere") => {
            crate::audit::record("sign-out.everywhere", sub, session.id, "account page");
            settle(&app, &revoke::subject(&app, sub, None, Extent::SignedIn).await?).await;
        }
        Some(id) => {
            end_other(&app, &session, id).await?;
            return Ok(browser.answer(redirect("/account")));
        }
        None => return Err(PageError::BadRequest("There is nothing to sign out of.".to_owned())),
    }
    Ok(browser.forget_session().answer(redirect("/signed-out")))
}

/// Another session of the same person; of nobody else.
async fn end_other(app: &App, session: &Session, id: &str) -> Result<(), PageError> {
    let unknown = || PageError::BadRequest("That session has ended already.".to_owned());
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let other = session::load(app.store(), id).await?.filter(|other| other.facts.sub == session.facts.sub);
    let other = other.ok_or_else(unknown)?;
    crate::audit::record("sign-out", &session.facts.sub, other.id, "from another session");
    settle(app, &revoke::record(app, other.id).await?).await;
    Ok(())
}

/// Roughly what the browser says that it is.
fn device(user_agent: &str) -> String {
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name)
    };
    let browser = find(&[
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = find(&[
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => "Unknown device".to_owned(),
    }
}

fn ago(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_devices_read_like_sentences() {
        assert_eq!(
            (ago(5).as_str(), ago(60).as_str(), ago(7200).as_str()),
            ("just now", "1 minute ago", "2 hours ago")
        );
        assert_eq!(
            device("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
            "Firefox on Linux"
        );
        assert_eq!(device(""), "Unknown device");
    }
}
