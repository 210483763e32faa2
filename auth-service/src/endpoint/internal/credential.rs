//! What registering an API key and registering a client have in common: who may, and that nobody reaches into another namespace.

use std::fmt::Display;

use cloakroom_protocol::credential::{CredentialRef, EarlierSecret};
use http::StatusCode;

use crate::app::App;
use crate::endpoint::problem::ApiError;
use crate::registry::Holder;
use crate::workload::Caller;

/// Seconds, as for the keys of administrators.
const MAX_OVERLAP: u64 = 2_592_000;

/// What the audit trail calls what happens to a kind of credential.
pub(super) struct Trail {
    pub registered: &'static str,
    pub refused: &'static str,
    pub removed: &'static str,
}

/// The credential, if the caller may register it.
pub(super) fn allowed(caller: &Caller, trail: &Trail, namespace: &str, name: &str) -> Result<CredentialRef, ApiError> {
    if !caller.is_privileged() {
        crate::audit::record(trail.refused, caller.name(), format_args!("{namespace}/{name}"), "not an operator");
        return Err(ApiError::Forbidden("for operators and administrators".to_owned()));
    }
    CredentialRef::new(namespace, name).map_err(|error| ApiError::BadRequest(error.to_string()))
}

/// Writes down what came of a registration, if it changed anything, and answers. `id`: what is registered, if the name does not say it.
pub(super) fn conclude(
    done: Result<bool, ApiError>,
    caller: &Caller,
    trail: &Trail,
    of: &CredentialRef,
    id: impl Display,
) -> Result<StatusCode, ApiError> {
    match done {
        Ok(true) => crate::audit::record(trail.registered, caller.name(), of, id),
        Ok(false) => {}
        Err(error) => {
            crate::audit::record(trail.refused, caller.name(), of, &error);
            return Err(error);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// An audience must be that of a policy in the credential's own namespace. One that nobody holds yet could be another's tomorrow.
pub(super) fn refuse_audiences_of_others(app: &App, namespace: &str, audiences: &[String]) -> Result<(), ApiError> {
    for audience in audiences {
        match app.registry.holder(audience) {
            Holder::Namespace(holder) if holder == namespace => {}
            Holder::Namespace(holder) => {
                return Err(ApiError::Conflict(format!("audience {audience:?} is namespace {holder:?}'s")));
            }
            Holder::Nobody => {
                return Err(ApiError::Unprocessable(format!(
                    "audience {audience:?} is of no AuthPolicy in namespace {namespace:?}"
                )));
            }
        }
    }
    Ok(())
}

pub(super) fn refuse_long_overlap(app: &App, before: Option<&EarlierSecret>) -> Result<(), ApiError> {
    if before.is_some_and(|before| before.until > app.now().saturating_add(MAX_OVERLAP)) {
        return Err(ApiError::Unprocessable("before: good for at most 30 days".to_owned()));
    }
    Ok(())
}
