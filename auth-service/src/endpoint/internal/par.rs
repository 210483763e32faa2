//! `POST /internal/v1/par`: a sidecar pushes an authorization request (RFC 9126) for a browser that it will send to sign in.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::sign_in::{PushedAuthorization, PushedAuthorizationAnswer};
use http::StatusCode;

use super::policy_for;
use crate::app::Shared;
use crate::endpoint::caller::FormOrJson;
use crate::endpoint::oauth::authorize::REQUEST_URI_PREFIX;
use crate::endpoint::problem::ApiError;
use crate::pkce::is_challenge;
use crate::record::flow::{self, AuthorizationRequest, PUSHED_LIFETIME, Prompt};
use crate::workload::Caller;

const CALLBACK: &str = "/.cloakroom/callback";
const MAX_RETURN_TO: usize = 8 << 10;

pub async fn push(
    State(app): State<Shared>,
    caller: Caller,
    FormOrJson(body): FormOrJson<PushedAuthorization>,
) -> Result<Response, ApiError> {
    let policy = policy_for(&app, &caller, &body.client_id)?;
    let refuse = |sentence: &str| Err(ApiError::BadRequest(sentence.to_owned()));
    if body.response_type != "code" || body.code_challenge_method != "S256" || !is_challenge(&body.code_challenge) {
        return refuse("response_type is code, code_challenge_method is S256, and the challenge is its SHA-256");
    }
    let origin = body.redirect_uri.strip_suffix(CALLBACK).unwrap_or_default();
    if !policy.origins.iter().any(|registered| registered == origin) {
        crate::audit::record("par.foreign-origin", caller.name(), &body.client_id, &body.redirect_uri);
        return refuse("redirect_uri: <origin>/.cloakroom/callback of an origin in spec.origins");
    }
    let acr_fits = body.acr_values.as_ref().is_none_or(|values| values.len() <= 256);
    if !is_origin_form(&body.return_to) || body.state.is_empty() || body.state.len() > 512 || !acr_fits {
        return refuse("return_to is a path on the same origin, state is 1 to 512 bytes, acr_values at most 256");
    }
    let id = app.random.secret();
    let request = AuthorizationRequest {
        client_id: body.client_id,
        for_policy: true,
        redirect_uri: body.redirect_uri,
        state: Some(body.state),
        scope: String::new(),
        aud: Vec::new(),
        nonce: None,
        code_challenge: body.code_challenge,
        acr_values: body.acr_values,
        max_age: body.max_age,
        prompt: Prompt::default(),
        login_hint: None,
        ui_locales: None,
        sub: None,
        dpop_jkt: None,
        return_to: Some(body.return_to),
    };
    flow::push(app.store(), &id, &request).await?;
    let answer = PushedAuthorizationAnswer {
        request_uri: format!("{REQUEST_URI_PREFIX}{id}"),
        expires_in: PUSHED_LIFETIME.as_secs(),
    };
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

/// A path and query that no browser takes for another host: `//x`, `/\x` and control characters are not.
fn is_origin_form(text: &str) -> bool {
    text.len() <= MAX_RETURN_TO
        && text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains('\\')
        && text.bytes().all(|b| b.is_ascii_graphic())
        && !text.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_is_a_path_and_never_another_place() {
        for good in ["/", "/orders?id=1&x=%2F%2F", "/a//b", "/a:b@c"] {
            assert!(is_origin_form(good), "{good}");
        }
        for bad in [
            "",
            "orders",
            "//evil.example",
            "/\\evil.example",
            "/a\\b",
            "https://evil.example",
            "/a\tb",
            "/\n/evil",
            "/a#b",
            "/é",
            "\\/x",
        ] {
            assert!(!is_origin_form(bad), "{bad}");
        }
    }
}
