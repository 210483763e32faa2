//! What the operator tells the auth service about a policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::policy_ref::PolicyRef;

/// Body of `PUT /internal/v1/policies/<namespace>/<name>`: desired state, idempotent.
///
/// Answers: 200 with [`Registered`]; 409 with a problem if another namespace holds the audience or an origin; 422 if a value is
/// not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRegistration {
    pub policy: PolicyRef,
    /// Changes whenever anything below changes.
    pub revision: String,
    pub audience: String,
    /// Where people use it, `https://shop.example.com`; redirect URIs are `<origin>/.cloakroom/callback`.
    pub origins: Vec<String>,
    pub session: SessionTerms,
    pub jwt: JwtTerms,
    /// Keys of the session's data that apps may write.
    #[serde(default)]
    pub writable: BTreeSet<String>,
    /// Issuers whose tokens count here beside ours, by the ids of the auth service's configuration.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub token_issuers: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTerms {
    pub idle_seconds: u64,
    pub absolute_seconds: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwtTerms {
    pub lifetime_seconds: u64,
    /// Claims beyond RFC 9068's, from the user's profile.
    #[serde(default)]
    pub claims: Vec<String>,
}

/// One policy as the auth service holds it; `GET /internal/v1/policies` lists them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    pub policy: PolicyRef,
    pub revision: String,
}
