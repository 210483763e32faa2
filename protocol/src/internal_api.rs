//! Paths of the auth service's internal port, and its errors.

use serde::{Deserialize, Serialize};

pub const INTROSPECT: &str = "/internal/v1/introspect";
/// As [`INTROSPECT`], about several tokens.
pub const INTROSPECT_MANY: &str = "/internal/v1/introspect/many";
pub const EVENTS: &str = "/internal/v1/events";
pub const ACKNOWLEDGE: &str = "/internal/v1/events/ack";
pub const INTEREST: &str = "/internal/v1/events/interest";
pub const REVOKE: &str = "/internal/v1/revoke";
pub const SESSION: &str = "/internal/v1/session";
pub const USAGE: &str = "/internal/v1/usage";
pub const PAR: &str = "/internal/v1/par";
pub const TOKEN: &str = "/internal/v1/token";
pub const JWKS: &str = "/internal/v1/jwks";
pub const POLICIES: &str = "/internal/v1/policies";
pub const API_KEYS: &str = "/internal/v1/api-keys";
pub const CLIENTS: &str = "/internal/v1/clients";

/// Audience of the projected service-account token with which workloads authenticate.
pub const WORKLOAD_AUDIENCE: &str = "cloakroom";

/// Form body of [`INTROSPECT`] (RFC 7662 §2.1, with the policy that asks).
#[derive(Clone, Serialize, Deserialize)]
pub struct IntrospectForm {
    pub token: String,
    /// `<namespace>/<name>`; its namespace must be the workload's.
    pub policy: String,
    /// Seconds since the token was last used, when a used JWT is renewed ahead of its end. Absent: it is in use now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_for: Option<u64>,
}

/// JSON body of [`INTROSPECT_MANY`]: tokens that are in use now.
#[derive(Clone, Serialize, Deserialize)]
pub struct IntrospectMany {
    /// `<namespace>/<name>`; its namespace must be the workload's.
    pub policy: String,
    /// [`MOST_TOKENS`] at most.
    pub tokens: Vec<String>,
}

pub const MOST_TOKENS: usize = 64;

/// RFC 9457 problem, for people and logs; the status code is what programs act on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    #[serde(default = "about_blank", rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Names the request: the log of whoever answered has it, with the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_id: Option<String>,
}

impl Problem {
    pub fn new(status: u16, title: &str, detail: Option<String>) -> Self {
        Self { kind: about_blank(), title: title.to_owned(), status, detail, decision_id: None }
    }
}

fn about_blank() -> String {
    "about:blank".to_owned()
}
