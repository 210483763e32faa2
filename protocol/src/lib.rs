//! What two Cloakroom processes must agree on: tokens, messages, files and environment names. No IO.

pub mod acr;
pub mod client_secret;
pub mod credential;
pub mod events;
pub mod injected;
pub mod interest;
pub mod internal_api;
pub mod introspection;
pub mod path_pattern;
pub mod policy_ref;
pub mod presented;
pub mod proof;
pub mod registration;
pub mod revocation;
pub mod session;
pub mod sidecar_config;
pub mod sign_in;
pub mod token;
