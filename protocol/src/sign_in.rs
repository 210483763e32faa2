//! Sign-in through a sidecar: pushed authorization (RFC 9126), code with PKCE (RFC 7636), session token.

use serde::{Deserialize, Serialize};

/// Form body of `POST /internal/v1/par`; the client is the policy, authenticated by the workload token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushedAuthorization {
    /// `<namespace>/<name>` of the policy.
    pub client_id: String,
    /// Always `code`.
    pub response_type: String,
    /// `<origin>/.cloakroom/callback`, of a registered origin.
    pub redirect_uri: String,
    pub state: String,
    pub code_challenge: String,
    /// Always `S256`.
    pub code_challenge_method: String,
    /// Where the person wanted to go: origin-form path and query on the same origin. Kept by the auth service, so that no
    /// URL or cookie a browser holds can change it.
    pub return_to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr_values: Option<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

/// RFC 9126 §2.2. The browser goes to `<issuer>/oauth2/authorize?client_id=…&request_uri=…`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushedAuthorizationAnswer {
    pub request_uri: String,
    /// Seconds.
    pub expires_in: u64,
}

/// Form body of `POST /internal/v1/token`.
#[derive(Clone, Serialize, Deserialize)]
pub struct CodeExchange {
    /// Always `authorization_code`.
    pub grant_type: String,
    pub client_id: String,
    pub code: String,
    pub redirect_uri: String,
    pub code_verifier: String,
}

/// What the sidecar puts into the browser.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignedIn {
    /// `cs_…`
    pub session_token: String,
    /// Seconds until the session's absolute end.
    pub expires_in: u64,
    /// As pushed.
    pub return_to: String,
}
