//! What a page may know about its own session: never the token, never the JWT.

use cloakroom_protocol::presented::Presented;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::is_same_origin;
use crate::authority::Exchanged;
use crate::config::Policy;
use crate::control::Control;
use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::pages::{json, problem};
use crate::request::head::RequestHead;

pub async fn answer(
    control: &Control,
    policy: &Policy,
    head: &RequestHead,
    token: Option<&Presented>,
) -> LocalResponse {
    if !is_same_origin(head, policy) {
        return problem(StatusCode::FORBIDDEN, "Only a page of this site may ask", &head.decision_id);
    }
    let Some(token) = token else { return json(StatusCode::OK, &json!({"active": false})) };
    match control.client().exchange(token, policy.outage).await {
        Ok(Exchanged::Active(identity)) => json(StatusCode::OK, &describe(&identity)),
        Ok(Exchanged::Inactive) => json(StatusCode::OK, &json!({"active": false})),
        Err(_) => {
            let title = "The auth service does not answer";
            let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, title, &head.decision_id);
            response.headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            response
        }
    }
}

fn describe(identity: &Identity) -> Value {
    let mut description = json!({
        "active": true,
        "sub": identity.sub,
        "scope": identity.scope,
        "roles": identity.roles,
        "expires": identity.expires,
        "session": identity.session,
    });
    for (name, value) in [
        ("username", identity.username.clone().map(Value::from)),
        ("acr", identity.acr.clone().map(Value::from)),
        ("auth_time", identity.auth_time.map(Value::from)),
    ] {
        if let Some(value) = value {
            description[name] = value;
        }
    }
    description
}
