//! An AuthPolicy's way. What needs no cluster (read, parse, plan) is here for everyone; the rest is the controller's.

pub mod parse;
pub mod plan;
pub mod read;

use cloakroom_crds::AuthPolicy;
use cloakroom_protocol::sidecar_config::AuthService;

pub use parse::{Policy, Rejected};
pub use plan::Compiled;

/// What policies do not say themselves: the installation they are compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub auth_service: AuthService,
}

/// The one way from an AuthPolicy to what sidecar and auth service are told.
pub fn compile(policy: &AuthPolicy, settings: &Settings) -> Result<Compiled, Rejected> {
    Ok(plan::plan(parse::parse(policy)?, settings))
}
