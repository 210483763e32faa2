//! The custom resources of the `cloakroom.dev` API group, and the YAML that installs them.

#[expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]
pub mod api_key;
#[expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]
pub mod auth_policy;
#[expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]
pub mod credential;
#[expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]
pub mod oauth_client;
#[expect(unreachable_pub, reason = "KubeSchema repeats each struct, with its visibility, inside a function")]
pub mod status;
pub mod yaml;

pub use api_key::{ApiKey, ApiKeySpec};
pub use auth_policy::{
    Access, AccessRule, AppProtocol, AuthPolicy, AuthPolicySpec, Interception, Jwt, Limits, Mode, Outage, OutageMode,
    Preflight, Require, Rollout, RuleMatch, Session, Tls, Token, TokenSource, Unauthenticated,
};
pub use credential::{CredentialStatus, Rotation};
pub use oauth_client::{ClientGrantType, ClientType, OAuthClient, OAuthClientSpec};
pub use status::AuthPolicyStatus;
