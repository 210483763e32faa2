//! What registering an API key and registering a client have in common: who may, and that nobody reaches into another namespace.

use cloakroom_protocol::credential::CredentialRef;

use crate::app::App;
use crate::endpoint::problem::ApiError;
use crate::registry::Holder;
use crate::workload::Caller;

/// The credential, if the caller may register it. `refused`: what the audit trail calls it otherwise.
pub(super) fn allowed(
    caller: &Caller,
    refused: &'static str,
    namespace: &str,
    name: &str,
) -> Result<CredentialRef, ApiError> {
    if !caller.is_privileged() {
        crate::audit::record(refused, caller.name(), format_args!("{namespace}/{name}"), "not an operator");
        return Err(ApiError::Forbidden("for operators and administrators".to_owned()));
    }
    CredentialRef::new(namespace, name).map_err(|error| ApiError::BadRequest(error.to_string()))
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
