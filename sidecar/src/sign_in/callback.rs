//! Back from the auth service: code and verifier become a session.

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::sign_in::{CodeExchange, SignedIn};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::cookies::{self, FlowCookies};
use super::{CALLBACK_PATH, is_local_path, redirect};
use crate::auth_client::CallError;
use crate::authority::Exchanged;
use crate::config::Policy;
use crate::control::Control;
use crate::local_response::LocalResponse;
use crate::log;
use crate::pages::{self, escape};
use crate::request::head::RequestHead;

/// What the auth service sent the browser back with (RFC 6749 §4.1.2, RFC 9207 §2).
#[derive(Default)]
struct Returned {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum CallbackError {
    #[error("not an authorization response")]
    Malformed,
    #[error("no flow of this browser")]
    NoFlow,
    #[error("from another issuer")]
    Issuer,
    #[error("at an origin that the policy does not name")]
    Origin,
    #[error("the auth service answered {0}")]
    Denied(String),
    #[error("the code was not accepted: {0}")]
    Code(CallError),
    #[error("not a session")]
    Answer,
    #[error(transparent)]
    Unavailable(CallError),
}

pub async fn callback(
    control: &Control,
    policy: &Policy,
    head: &RequestHead,
    token: Option<&Presented>,
) -> LocalResponse {
    let returned = parse(head.query.as_deref().unwrap_or_default());
    let state = returned.as_ref().and_then(|returned| returned.state.clone()).unwrap_or_default();
    match complete(control, policy, head, returned).await {
        Ok(response) => {
            control.metrics().sign_ins_completed.inc();
            response
        }
        Err(error) => {
            log::warn("sign-in not completed", &[("error", &error), ("decision", &head.decision_id)]);
            // The other tab was faster, or somebody went back: signed in is signed in.
            if let Some(token) = token
                && let Ok(Exchanged::Active(_)) = control.client().exchange(token, policy.outage).await
                && let Some(mut home) = redirect("/")
            {
                FlowCookies::end(&state, &mut home.headers);
                return home;
            }
            control.metrics().sign_ins_failed.inc();
            explain(&error, &state, &head.decision_id)
        }
    }
}

async fn complete(
    control: &Control,
    policy: &Policy,
    head: &RequestHead,
    returned: Option<Returned>,
) -> Result<LocalResponse, CallbackError> {
    let returned = returned.ok_or(CallbackError::Malformed)?;
    let state = returned.state.filter(|state| cookies::is_state(state)).ok_or(CallbackError::Malformed)?;
    let flows = FlowCookies::of(&head.headers);
    let verifier = flows.verifier(&state).ok_or(CallbackError::NoFlow)?;
    // Before anything else of the answer is believed (RFC 9207 §2.4).
    if returned.iss.as_deref().map(|iss| iss.trim_end_matches('/')) != Some(&policy.issuer) {
        return Err(CallbackError::Issuer);
    }
    if let Some(error) = returned.error {
        return Err(CallbackError::Denied(error));
    }
    if !policy.origins.contains(&head.origin) {
        return Err(CallbackError::Origin);
    }
    let exchange = CodeExchange {
        grant_type: "authorization_code".to_owned(),
        client_id: policy.policy.to_string(),
        code: returned.code.ok_or(CallbackError::Malformed)?,
        redirect_uri: format!("{}{CALLBACK_PATH}", head.origin),
        code_verifier: verifier.to_owned(),
    };
    let signed_in = control.client().redeem(policy, &exchange).await.map_err(|error| match error.status() {
        Some(StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY) => {
            CallbackError::Code(error)
        }
        _ => CallbackError::Unavailable(error),
    })?;
    welcome(policy, &flows, &state, &signed_in)
}

fn welcome(
    policy: &Policy,
    flows: &FlowCookies,
    state: &str,
    signed_in: &SignedIn,
) -> Result<LocalResponse, CallbackError> {
    let token: OpaqueToken = signed_in.session_token.parse().map_err(|_| CallbackError::Answer)?;
    let cookie = policy.session_cookie().filter(|_| token.kind() == TokenKind::Session).ok_or(CallbackError::Answer)?;
    let return_to = if is_local_path(&signed_in.return_to) { &signed_in.return_to } else { "/" };
    let mut response = redirect(return_to).ok_or(CallbackError::Answer)?;
    cookies::set_session(cookie, token.expose(), signed_in.expires_in, &mut response.headers);
    FlowCookies::end(state, &mut response.headers);
    flows.returned(&mut response.headers);
    Ok(response)
}

/// A parameter twice could be read in two ways.
fn parse(query: &str) -> Option<Returned> {
    let mut returned = Returned::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let place = match name.as_ref() {
            "code" => &mut returned.code,
            "state" => &mut returned.state,
            "iss" => &mut returned.iss,
            "error" => &mut returned.error,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    Some(returned)
}

fn explain(error: &CallbackError, state: &str, decision_id: &str) -> LocalResponse {
    let again = "<p><a href=\"/\">Start again</a></p>";
    let (status, title, html) = match error {
        CallbackError::Unavailable(_) => {
            let html = "<p>The service that signs people in does not answer. Reload this page in a moment; nothing is lost.</p>";
            let title = "Sign-in does not answer";
            let mut response = pages::failure(StatusCode::SERVICE_UNAVAILABLE, title, html, decision_id);
            response.headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            return response;
        }
        CallbackError::Denied(code) if code == "access_denied" => {
            (StatusCode::FORBIDDEN, "Not signed in", format!("<p>Signing in was cancelled or not allowed.</p>{again}"))
        }
        CallbackError::Denied(code) => {
            let html = format!("<p>The sign-in service answered <code>{}</code>.</p>{again}", escape(code));
            (StatusCode::BAD_REQUEST, "Not signed in", html)
        }
        CallbackError::NoFlow => {
            let html = format!(
                "<p>This sign-in was not started in this browser, was started more than ten minutes ago, or was finished already. \
                 If it happens again, your browser may be refusing this site's cookies.</p>{again}"
            );
            (StatusCode::BAD_REQUEST, "This sign-in is not yours to finish", html)
        }
        CallbackError::Code(_) => (
            StatusCode::BAD_REQUEST,
            "This sign-in has expired",
            format!("<p>It took too long, or was used before.</p>{again}"),
        ),
        CallbackError::Malformed | CallbackError::Issuer | CallbackError::Origin | CallbackError::Answer => {
            let html = format!("<p>The answer of the sign-in service is not one that can be trusted.</p>{again}");
            (StatusCode::BAD_REQUEST, "Not signed in", html)
        }
    };
    let mut response = pages::failure(status, title, &html, decision_id);
    // A cookie that some other site's link named stays: only this flow's own answer ends it.
    if cookies::is_state(state)
        && !matches!(error, CallbackError::Issuer | CallbackError::Malformed | CallbackError::NoFlow)
    {
        FlowCookies::end(state, &mut response.headers);
    }
    response
}
