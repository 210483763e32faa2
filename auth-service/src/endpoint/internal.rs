//! The internal port: sidecars, operator, CLI.

pub mod acknowledge;
pub mod api_keys;
pub mod clients;
mod credential;
pub mod events;
pub mod interest;
pub mod introspect;
pub mod jwks;
pub mod par;
pub mod policies;
pub mod revoke;
pub mod session;
pub mod token;
pub mod usage;

use std::sync::Arc;

use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::registration::PolicyRegistration;

use super::problem::ApiError;
use crate::app::App;
use crate::workload::Caller;

/// The registered policy that a caller names, if it may.
///
/// One that is not registered (yet, or since the store lost it) is an outage and not a refusal: nobody is signed out for it.
fn policy_for(app: &App, caller: &Caller, name: &str) -> Result<Arc<PolicyRegistration>, ApiError> {
    let policy: PolicyRef = name.parse().map_err(|error| ApiError::BadRequest(format!("policy: {error}")))?;
    if !caller.may_act_in(policy.namespace()) {
        crate::audit::record("workload.foreign-policy", caller.name(), name, "refused");
        return Err(ApiError::Forbidden("a workload acts for policies of its own namespace only".to_owned()));
    }
    app.registry.get(name).ok_or_else(|| ApiError::Unavailable(format!("policy {name} is not registered")))
}
