//! Write-back of session data by apps.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Body of `POST /internal/v1/session`: an RFC 7396 merge patch, applied only if the data still has `version`.
///
/// Answers: 200 with an [`Introspection`](crate::introspection::Introspection) that carries the new data; 409 if the version
/// has moved on; 422 if a key is not writable or the data would grow too large; 200 inactive if the session is gone.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionPatch {
    pub token: String,
    /// `<namespace>/<name>` of the policy.
    pub policy: String,
    pub version: u64,
    pub patch: Map<String, Value>,
}

/// Body of `POST /internal/v1/usage`: cached sessions that were used, so that idle time-outs are true.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    pub used: Vec<Usage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub id: crate::token::TokenId,
    /// How long ago, in seconds: no clock is compared.
    pub ago: u64,
}
