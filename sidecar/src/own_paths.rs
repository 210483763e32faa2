//! What the sidecar answers itself: `/.cloakroom/…`, and RFC 9728's metadata.

pub mod logout;
pub mod session;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::proof::{self, Proof};
use cloakroom_protocol::sidecar_config::Access;
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;

use crate::authority::{RESOURCE_METADATA_PATH, is_own_path};
use crate::config::Policy;
use crate::control::Control;
use crate::local_response::LocalResponse;
use crate::log;
use crate::pages::{escape, failure, json, problem};
use crate::request::head::RequestHead;
use crate::request::rescue::PROXIED_METHODS;
use crate::sign_in::{CALLBACK_PATH, callback::callback};

const LOGOUT_PATH: &str = "/.cloakroom/logout";
const SESSION_PATH: &str = "/.cloakroom/session";

pub async fn answer(control: &Control, head: &RequestHead, app_port: u16, token: Option<Presented>) -> LocalResponse {
    let Some(policy) = control.policy() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "No policy is in force yet", &head.decision_id);
    };
    let allowed: &[Method] = match head.path.as_str() {
        LOGOUT_PATH => &[Method::GET, Method::HEAD, Method::POST],
        CALLBACK_PATH => &[Method::GET],
        SESSION_PATH | proof::PATH | RESOURCE_METADATA_PATH => &[Method::GET, Method::HEAD],
        path if is_own_path(path) => return not_found(head),
        // What asks about the way to the app, and is to go no further (RFC 9110 §7.6.2).
        _ => return options(),
    };
    if !allowed.contains(&head.method) {
        return not_allowed(head, allowed);
    }
    match head.path.as_str() {
        CALLBACK_PATH => callback(control, &policy, head, token.as_ref()).await,
        LOGOUT_PATH => logout::answer(control, &policy, head, token.as_ref()).await,
        SESSION_PATH => session::answer(control, &policy, head, token.as_ref()).await,
        proof::PATH => prove(control, &policy, head, app_port),
        _ => resource_metadata(&policy, head),
    }
}

/// Whether a browser sent this from a page of the same origin, or it was no browser at all.
fn is_same_origin(head: &RequestHead, policy: &Policy) -> bool {
    let header = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
    if header("sec-fetch-site").is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = head.headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    // A proxy that ends TLS and is not named as trusted makes us see http where the browser saw https.
    let host = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
    origin == head.origin || (policy.origins.iter().any(|known| known == origin) && host(origin) == host(&head.origin))
}

fn is_page_load(head: &RequestHead) -> bool {
    match head.headers.get("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => {
            head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|a| a.contains("text/html"))
        }
    }
}

/// That it is the sidecar who answers here, and with which config.
fn prove(control: &Control, policy: &Policy, head: &RequestHead, app_port: u16) -> LocalResponse {
    let refuse = |status, title| problem(status, title, &head.decision_id);
    let query = head.query.as_deref().unwrap_or_default();
    let mut nonces =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "nonce").map(|(_, value)| value);
    let (Some(nonce), None) = (nonces.next(), nonces.next()) else {
        return refuse(StatusCode::BAD_REQUEST, "One nonce is needed");
    };
    if nonce.len() != 22 || !nonce.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return refuse(StatusCode::BAD_REQUEST, "A nonce has 22 letters and digits");
    }
    match proof_key(control.proof_key_file()) {
        Ok(key) => {
            let proof = Proof::new(&key, &nonce, control.pod_uid(), app_port, &policy.revision);
            serde_json::to_value(proof).map_or_else(
                |_| refuse(StatusCode::INTERNAL_SERVER_ERROR, "No proof"),
                |proof| json(StatusCode::OK, &proof),
            )
        }
        Err(error) => {
            log::error("proof key", &[("error", &error)]);
            refuse(StatusCode::SERVICE_UNAVAILABLE, "There is no key to prove anything with")
        }
    }
}

/// Read each time: the operator asks rarely, and may have changed it.
fn proof_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = Vec::new();
    File::open(path)?.take(4096).read_to_end(&mut key)?;
    if key.len() < 16 { Err(io::Error::other("shorter than 16 bytes")) } else { Ok(key) }
}

/// RFC 9728 §3.2: where clients of this API get their tokens.
fn resource_metadata(policy: &Policy, head: &RequestHead) -> LocalResponse {
    let mut metadata = json!({
        "resource": policy.public_origin(&head.origin),
        "authorization_servers": [policy.issuer],
        "bearer_methods_supported": if policy.takes_bearer_header() { &["header"][..] } else { &[] },
    });
    let scopes = scopes(policy);
    // RFC 9728 §3.2: what has no value is left out.
    if !scopes.is_empty() {
        metadata["scopes_supported"] = json!(scopes);
    }
    let mut response = json(StatusCode::OK, &metadata);
    // It is public, and browser-based clients have to read it.
    response.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Those that some rule asks for, so that a client can ask its user for no more.
fn scopes(policy: &Policy) -> BTreeSet<&str> {
    let asking = policy.rules.iter().filter(|rule| rule.access == Access::Authenticated);
    asking.flat_map(|rule| &rule.require.scopes).map(String::as_str).collect()
}

fn not_found(head: &RequestHead) -> LocalResponse {
    if is_page_load(head) {
        let html = format!("<p>There is no page <code>{}</code>.</p>", escape(&head.path));
        return failure(StatusCode::NOT_FOUND, "Not found", &html, &head.decision_id);
    }
    problem(StatusCode::NOT_FOUND, "Not found", &head.decision_id)
}

fn options() -> LocalResponse {
    let headers = HeaderMap::from_iter([(ALLOW, HeaderValue::from_static(PROXIED_METHODS))]);
    LocalResponse { status: StatusCode::NO_CONTENT, title: "", headers, body: Bytes::new() }
}

fn not_allowed(head: &RequestHead, allowed: &[Method]) -> LocalResponse {
    let title = "This method is not allowed here";
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, title, &head.decision_id);
    let allowed: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers.insert(ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests;
