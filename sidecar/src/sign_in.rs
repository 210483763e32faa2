//! Sign-in through the sidecar: an OAuth code flow with PKCE (RFC 7636) and pushed authorization (RFC 9126), the policy being the client.
//!
//! The PKCE verifier is in a cookie of this browser, so any replica can finish a flow and no other browser can. Where to return to is
//! kept by the auth service.

pub mod callback;
pub mod cookies;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::sign_in::PushedAuthorization;
use cloakroom_protocol::token::TokenId;
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use rand::CryptoRng;
use sha2::{Digest as _, Sha256};

use crate::authority::{StepUp, Unavailable};
use crate::config::Policy;
use crate::control::Control;
use crate::local_response::LocalResponse;
use crate::log;
use crate::pages::{escape, failure};
use crate::request::head::RequestHead;
use cookies::{FlowCookies, LOOP_AFTER};

pub const CALLBACK_PATH: &str = "/.cloakroom/callback";

/// Longer ones do not survive a sign-in; people land on the front page instead.
const MAX_RETURN_TO: usize = 4096;

/// Sends a person to sign in, where the policy [offers that](Policy::offers_sign_in).
pub async fn start(control: &Control, head: &RequestHead, step_up: StepUp) -> Result<LocalResponse, Unavailable> {
    let policy = control.policy().ok_or(Unavailable)?;
    if !policy.origins.contains(&head.origin) {
        return Ok(unknown_origin(head));
    }
    let cookies = FlowCookies::of(&head.headers);
    if cookies.returns >= LOOP_AFTER {
        return Ok(going_in_circles(head));
    }
    let flow = control.with_rng(Flow::new);
    let request = flow.push(&policy, head, step_up);
    let pushed = control.client().push_authorization(&policy, &request).await.map_err(|error| {
        log::warn("cannot start a sign-in", &[("error", &error), ("decision", &head.decision_id)]);
        Unavailable
    })?;
    control.metrics().sign_ins_started.inc();
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &request.client_id)
        .append_pair("request_uri", &pushed.request_uri)
        .finish();
    let location = format!("{}/oauth2/authorize?{query}", policy.issuer);
    let mut response = redirect(&location).ok_or(Unavailable)?;
    cookies.begin(&flow.state, &flow.verifier, &mut response.headers);
    Ok(response)
}

/// 303 makes a GET of whatever it was (RFC 9110 §15.4.4).
pub fn redirect(location: &str) -> Option<LocalResponse> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(LOCATION, HeaderValue::from_str(location).ok()?);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(LocalResponse { status: StatusCode::SEE_OTHER, title: "", headers, body: bytes::Bytes::new() })
}

/// Whether a browser takes this for a path on the very same origin, whatever it does to it first (WHATWG URL §4.4: `\` is `/`, tabs and
/// line ends vanish).
pub fn is_local_path(path: &str) -> bool {
    path.starts_with('/')
        && !path[1..].starts_with(['/', '\\'])
        && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
        && path.len() <= MAX_RETURN_TO
}

struct Flow {
    state: String,
    verifier: String,
}

impl Flow {
    fn new(rng: &mut impl CryptoRng) -> Self {
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        Self { state: TokenId::generate(rng).to_string(), verifier: URL_SAFE_NO_PAD.encode(secret) }
    }

    fn push(&self, policy: &Policy, head: &RequestHead, step_up: StepUp) -> PushedAuthorization {
        PushedAuthorization {
            client_id: policy.policy.to_string(),
            response_type: "code".to_owned(),
            redirect_uri: format!("{}{CALLBACK_PATH}", head.origin),
            state: self.state.clone(),
            code_challenge: URL_SAFE_NO_PAD.encode(Sha256::digest(&self.verifier)),
            code_challenge_method: "S256".to_owned(),
            return_to: return_to(head),
            acr_values: step_up.acr,
            max_age: step_up.max_age,
        }
    }
}

/// Where the person wanted to go, if that can be gone to again.
fn return_to(head: &RequestHead) -> String {
    let repeatable = head.method == Method::GET || head.method == Method::HEAD;
    if !repeatable || crate::authority::is_own_path(&head.path) {
        return "/".to_owned();
    }
    let whole = match &head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.clone(),
    };
    if is_local_path(&whole) { whole } else { "/".to_owned() }
}

fn unknown_origin(head: &RequestHead) -> LocalResponse {
    let RequestHead { origin, decision_id, .. } = head;
    log::warn("sign-in at an origin that the policy does not name", &[("origin", origin), ("decision", decision_id)]);
    let html = format!(
        "<p>People cannot sign in at <code>{origin}</code>: the policy that protects this app does not name that address.</p>\
         <p>Whoever runs this site can add it to <code>spec.origins</code> of the AuthPolicy. If it is named there, a proxy in front may \
         be hiding it: then its network belongs into <code>spec.trustedProxies</code>.</p>",
        origin = escape(origin)
    );
    failure(StatusCode::MISDIRECTED_REQUEST, "Unknown address", &html, decision_id)
}

fn going_in_circles(head: &RequestHead) -> LocalResponse {
    let html = "<p>You signed in several times within a minute, and still this app did not find you signed in.</p>\
         <p>Your browser may be refusing this site's cookies, its clock may be wrong, or what the app asks for cannot be reached by \
         signing in.</p><p><a href=\"/\">Try again</a></p>";
    let title = "Signing in goes round in circles";
    let mut response = failure(StatusCode::FORBIDDEN, title, html, &head.decision_id);
    FlowCookies::forget_returns(&mut response.headers);
    response
}

#[cfg(test)]
mod tests;
