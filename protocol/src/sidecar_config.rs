//! The sidecar's configuration: the operator writes it into the policy's ConfigMap, the sidecar reads it from the mounted file.
//!
//! What differs from pod to pod (ports, probes) comes from the pod itself: see [`injected`](crate::injected).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::path_pattern::PathPattern;
use crate::policy_ref::PolicyRef;

/// A sidecar refuses a config of a format it does not know.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarConfig {
    pub format: u32,
    /// Hash of everything below; reported by the proof and on port 15020.
    pub revision: String,
    pub policy: PolicyRef,
    pub auth_service: AuthService,
    pub mode: Mode,
    /// `https://host[:port]` (http for localhost only), lower case, no path.
    pub origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "AppProtocol::is_default")]
    pub app_protocol: AppProtocol,
    /// In order of preference; never empty.
    pub token_sources: Vec<TokenSource>,
    /// Issuers whose tokens are taken beside ours, from headers only; the auth service knows them by these ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_issuers: Vec<String>,
    pub unauthenticated: Unauthenticated,
    #[serde(default, skip_serializing_if = "Preflight::is_default")]
    pub preflight: Preflight,
    /// Keys of the session's data that the app may write.
    pub writable: Vec<String>,
    pub jwt: Jwt,
    pub outage: Outage,
    /// First match wins; no match: any authenticated caller.
    pub rules: Vec<Rule>,
    pub limits: Limits,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthService {
    /// What the certificate must name and `Host` says: `https://cloakroom-auth.cloakroom-system.svc:9443`. Plain http to
    /// loopback addresses only.
    pub internal_url: String,
    /// Where that is, since a static binary has no dependable resolver; tried in turn. Empty: the URL's host is an IP address.
    #[serde(default)]
    pub addresses: Vec<SocketAddr>,
    /// PEM. Absent only with plain http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The public URL, `iss` of every JWT; people are sent to `<issuer>/oauth2/authorize`.
    pub issuer: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Enforce,
    /// Decide, count, log, let pass.
    Shadow,
}

/// What the app is asked in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppProtocol {
    /// HTTP/1.1; gRPC calls in HTTP/2 with prior knowledge.
    #[default]
    Http,
    /// HTTP/2 with prior knowledge, whatever it is.
    H2c,
}

impl AppProtocol {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TokenSource {
    Cookie {
        name: String,
    },
    Header {
        name: String,
        /// `Bearer`: the value is `<scheme> <token>`. Absent: the value is the token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheme: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unauthenticated {
    /// Page loads are sent to sign in, everything else gets 401.
    Auto,
    Redirect,
    Deny,
}

/// What a CORS preflight gets, which browsers send without credentials (Fetch §4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preflight {
    /// What any other request of its path and method gets.
    #[default]
    AsRules,
    /// The app answers it, where no rule denies everything. It reaches the app as a question and nothing else.
    Pass,
}

impl Preflight {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// The request header that carries it; `Authorization` gets `Bearer <jwt>`, any other the bare JWT.
    pub header: String,
    pub audience: String,
    /// Header name → claim, for apps that read no JWT.
    pub claim_headers: BTreeMap<String, String>,
}

/// What to do while no auth service answers and the lease on cached answers has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Outage {
    /// 503 with Retry-After.
    Deny,
    /// Cached answers hold this much longer.
    Lease { seconds: u64 },
}

impl Outage {
    /// How much longer than the lease.
    pub fn bridges(self) -> Duration {
        match self {
            Self::Deny => Duration::ZERO,
            Self::Lease { seconds } => Duration::from_secs(seconds),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Any of them; never empty.
    pub matches: Vec<Match>,
    pub access: Access,
    #[serde(default)]
    pub require: Require,
    /// Instead of the policy's, where set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unauthenticated: Option<Unauthenticated>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Outage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Absent: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathPattern>,
    /// Upper case; empty: every method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// No look at tokens; they are removed all the same.
    Anonymous,
    /// A valid token is honoured, a missing or refused one is no hindrance.
    Optional,
    #[default]
    Authenticated,
    Deny,
}

/// All of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// All of them (RFC 6750 `insufficient_scope`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// Seconds since the person last authenticated (OpenID Connect `auth_time`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's head.
    pub request_headers: u64,
    /// Bytes of a request's body.
    pub request_body: u64,
    /// Seconds without a byte in either direction.
    pub idle_timeout: u64,
    /// The same for what may be silent for long: WebSockets and other upgrades, event streams, gRPC calls.
    #[serde(default = "default_stream_idle", skip_serializing_if = "is_default_stream_idle")]
    pub stream_idle_timeout: u64,
}

const fn default_stream_idle() -> u64 {
    60 * 60
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
const fn is_default_stream_idle(seconds: &u64) -> bool {
    *seconds == default_stream_idle()
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_headers: 32 << 10,
            request_body: 10 << 20,
            idle_timeout: 60,
            stream_idle_timeout: default_stream_idle(),
        }
    }
}

impl Require {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
