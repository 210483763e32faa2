//! Signing out: asked for by a page of the same origin, confirmed only once the session is out of reach.

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::revocation::RevokeScope;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;

use super::{LOGOUT_PATH, is_page_load, is_same_origin};
use crate::authority::SignOutError;
use crate::config::Policy;
use crate::control::Control;
use crate::local_response::LocalResponse;
use crate::pages::{failure, json, page, problem};
use crate::request::head::RequestHead;
use crate::sign_in::{cookies, redirect};

pub async fn answer(
    control: &Control,
    policy: &Policy,
    head: &RequestHead,
    token: Option<&Presented>,
) -> LocalResponse {
    if head.method != Method::POST {
        return ask();
    }
    let refuse = |status, title| problem(status, title, &head.decision_id);
    if !is_same_origin(head, policy) {
        return refuse(StatusCode::FORBIDDEN, "Only a page of this site can sign you out");
    }
    let Some(scope) = scope(head.query.as_deref().unwrap_or_default()) else {
        return refuse(StatusCode::BAD_REQUEST, "scope is session or everywhere");
    };
    // Two tokens are none, but whoever is told to be signed out must be.
    if token.is_none() && policy.session_cookie().is_some_and(|name| cookies::has_token(name, &head.headers)) {
        return refuse(StatusCode::BAD_REQUEST, "More than one token");
    }
    if let Some(Presented::Foreign(_)) = token {
        return refuse(StatusCode::CONFLICT, "This token is another issuer's, and only that issuer can end it");
    }
    let Some(Presented::Ours(token)) = token else { return signed_out(policy, head) };
    match control.client().sign_out(token, scope).await {
        Ok(()) => signed_out(policy, head),
        Err(SignOutError::NotASession) => {
            refuse(StatusCode::CONFLICT, "This token is no session, and signing out does not end it")
        }
        Err(SignOutError::Unavailable(_)) => still_signed_in(head),
    }
}

/// A link cannot sign anybody out; a button can.
fn ask() -> LocalResponse {
    let html = format!(
        "<form method=\"post\" action=\"{LOGOUT_PATH}\"><button>Sign out</button>\
         <button formaction=\"{LOGOUT_PATH}?scope=everywhere\">Sign out everywhere</button></form>\
         <p>Everywhere: on all your devices and in all applications that you connected.</p>"
    );
    page(StatusCode::OK, "Sign out?", &html)
}

fn scope(query: &str) -> Option<RevokeScope> {
    let mut scopes =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "scope").map(|(_, value)| value);
    match (scopes.next().as_deref(), scopes.next()) {
        (None | Some("session"), None) => Some(RevokeScope::Session),
        (Some("everywhere"), None) => Some(RevokeScope::Everywhere),
        _ => None,
    }
}

fn signed_out(policy: &Policy, head: &RequestHead) -> LocalResponse {
    let mut response = if is_page_load(head) {
        redirect("/").unwrap_or_else(|| json(StatusCode::OK, &json!({"active": false})))
    } else {
        json(StatusCode::OK, &json!({"active": false}))
    };
    if let Some(cookie) = policy.session_cookie() {
        cookies::clear(cookie, &mut response.headers);
    }
    response
}

/// The cookie stays: without it nobody could try again.
fn still_signed_in(head: &RequestHead) -> LocalResponse {
    let title = "You are still signed in";
    let mut response = if is_page_load(head) {
        let html = "<p>The service that ends sessions does not answer. Please try again in a moment.</p>";
        failure(StatusCode::SERVICE_UNAVAILABLE, title, html, &head.decision_id)
    } else {
        problem(StatusCode::SERVICE_UNAVAILABLE, title, &head.decision_id)
    };
    response.headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    response
}
