//! `/internal/v1/policies`: the operator says which policies there are.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::registration::{PolicyRegistration, Registered};
use http::StatusCode;

use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::workload::Caller;

pub async fn put(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
    JsonBody(body): JsonBody<PolicyRegistration>,
) -> Result<Response, ApiError> {
    let policy = allowed(&caller, &namespace, &name)?;
    if body.policy != policy {
        return Err(ApiError::BadRequest("body and path name different policies".to_owned()));
    }
    if let Err(sentence) = app.foreign.judge(&body) {
        crate::audit::record("policy.refused", caller.name(), &policy, &sentence);
        return Err(ApiError::Unprocessable(sentence));
    }
    let answer = Registered { policy: policy.clone(), revision: body.revision.clone() };
    match app.registry.put(app.store(), body).await {
        Ok(changed) => {
            if changed {
                crate::audit::record("policy.registered", caller.name(), &policy, &answer.revision);
            }
            Ok(axum::Json(answer).into_response())
        }
        Err(error) => {
            crate::audit::record("policy.refused", caller.name(), &policy, &error);
            Err(error.into())
        }
    }
}

pub async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let policy = allowed(&caller, &namespace, &name)?;
    if app.registry.delete(app.store(), &policy).await? {
        crate::audit::record("policy.removed", caller.name(), &policy, "");
    }
    Ok(StatusCode::NO_CONTENT)
}

pub async fn list(State(app): State<Shared>, caller: Caller) -> Result<Response, ApiError> {
    if !caller.is_privileged() {
        return Err(ApiError::Forbidden("for operators and administrators".to_owned()));
    }
    // From the store itself: the operator must see it if the store has lost them.
    app.registry.reload(app.store()).await?;
    let all: Vec<Registered> = app
        .registry
        .all()
        .iter()
        .map(|one| Registered { policy: one.policy.clone(), revision: one.revision.clone() })
        .collect();
    Ok(axum::Json(all).into_response())
}

fn allowed(caller: &Caller, namespace: &str, name: &str) -> Result<PolicyRef, ApiError> {
    if !caller.is_privileged() {
        crate::audit::record("policy.refused", caller.name(), format_args!("{namespace}/{name}"), "not an operator");
        return Err(ApiError::Forbidden("for operators and administrators".to_owned()));
    }
    PolicyRef::new(namespace, name).map_err(|error| ApiError::BadRequest(error.to_string()))
}
