//! `POST /internal/v1/session`: an app's change to its session data, applied by compare-and-set before its response goes on.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::introspection::Introspection;
use cloakroom_protocol::session::SessionPatch;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::HeaderMap;
use serde_json::{Map, Value};

use super::introspect::active;
use super::policy_for;
use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::events::coverage::{Coverage, Covered};
use crate::identity::{Asker, identify};
use crate::record::session;
use crate::store::{Updated, to_json};
use crate::workload::Caller;

/// Bytes of JSON that one policy may keep in a session: they travel in every JWT.
const MAX_DATA: usize = 8 << 10;

pub async fn patch(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SessionPatch>,
) -> Result<Response, ApiError> {
    let policy = policy_for(&app, &caller, &body.policy)?;
    let inactive = || Ok(axum::Json(Introspection::INACTIVE).into_response());
    let Ok(token) = OpaqueToken::parse(body.token.as_bytes()) else { return inactive() };
    if token.kind() != TokenKind::Session {
        return Err(ApiError::Unprocessable("only a person's session has data".to_owned()));
    }
    if let Some(key) = body.patch.keys().find(|key| !policy.writable.contains(*key)) {
        return Err(ApiError::Unprocessable(format!("{key:?} is not writable (spec.session.writable)")));
    }
    let now = app.now();
    let coverage = Coverage::of(&app.hub, &headers);
    let began = coverage.begin();
    let Some(mut identity) = identify(app.store(), &token, Asker::Policy(&policy), None, now).await? else {
        return inactive();
    };
    let covered = coverage.cover(began, &identity);
    if identity.session_version != body.version {
        return Err(conflict());
    }
    if !body.patch.is_empty() {
        merge(&mut identity.session, body.patch);
        if to_json(&identity.session).len() > MAX_DATA {
            return Err(ApiError::TooLarge);
        }
        let written =
            session::write_data(app.store(), identity.id, &body.policy, body.version, &identity.session).await?;
        match written {
            Updated::Yes => identity.session_version = body.version + 1,
            Updated::Conflict => return Err(conflict()),
            Updated::Missing => return inactive(),
        }
        // Other pods of the app have the old data cached. The change itself is done; the next introspection shows it anyway.
        if let Err(error) = crate::revoke::updated(&app, identity.id).await {
            tracing::warn!(%error, "other sidecars were not told of changed session data");
        }
    }
    let answer = Introspection::Active(Box::new(active(&app, identity, &policy, now)?));
    let mut response = axum::Json(answer).into_response();
    if covered == Covered::Yes {
        coverage.confirm(response.headers_mut());
    }
    Ok(response)
}

fn conflict() -> ApiError {
    ApiError::Conflict("the session's data has changed since it was read".to_owned())
}

/// RFC 7396.
fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(inner) => {
                let place = target.entry(key).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                if let Value::Object(object) = place {
                    merge(object, inner);
                }
            }
            other => {
                target.insert(key, other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merging_follows_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let (Value::Object(mut object), Value::Object(patch)) = (target, patch) else { unreachable!() };
            merge(&mut object, patch);
            assert_eq!(Value::Object(object), result);
        }
    }
}
