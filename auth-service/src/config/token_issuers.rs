//! Other issuers whose access tokens are taken beside ours (docs/foreign-tokens.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::{ConfigError, is_confidential};
use crate::jwks::ASYMMETRIC;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIssuer {
    /// What policies call it, and what its subjects and clients are prefixed with: `[a-z0-9-]`, 32 characters at most.
    pub id: String,
    /// `iss`, character by character.
    pub issuer: String,
    /// Which policies may take its tokens: `<namespace>/<name>`, either of them `*`.
    pub policies: Vec<String>,
    /// `aud` must name one of these. Without any, a token for whatever other service of theirs would do here.
    pub audiences: Vec<String>,
    /// Verifies its JWTs.
    #[serde(default)]
    pub jwks: Option<IssuerKeys>,
    /// Asks it (RFC 7662).
    #[serde(default)]
    pub introspection: Option<IntrospectionEndpoint>,
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// Which JWTs are access tokens.
    #[serde(default)]
    pub types: JwtTypes,
    /// By how much its clock may be ahead of ours.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u64,
    /// How long an answer of its introspection may be believed: the time within which its revocations hold here.
    #[serde(default = "default_cache")]
    pub cache_seconds: u64,
    #[serde(default)]
    pub claims: ClaimMapping,
    /// Their `acr` → ours. One that is not here says nothing.
    #[serde(default)]
    pub acr_values: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerKeys {
    /// Absent: where `<issuer>/.well-known/openid-configuration` says.
    #[serde(default)]
    pub url: Option<String>,
    /// PEM; absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionEndpoint {
    pub url: String,
    pub client_id: String,
    /// Read again each time.
    pub client_secret_file: PathBuf,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Asks about JWTs too, once the keys have not refused them, so that their revocations hold. Without keys it is the only way to judge
    /// one. Some issuers answer about opaque tokens only.
    #[serde(default = "default_jwts")]
    pub jwts: bool,
    /// How its opaque tokens begin, where a policy takes those of several issuers: none is shown to an issuer that it is not from.
    #[serde(default)]
    pub token_prefix: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum JwtTypes {
    /// `typ: at+jwt` only (RFC 9068).
    #[default]
    #[serde(rename = "at+jwt")]
    AccessToken,
    /// Also plain ones, told from ID tokens by what they say: Keycloak, Entra.
    #[serde(rename = "jwt")]
    Plain,
}

/// Names of claims, or JSON pointers (`/realm_access/roles`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimMapping {
    /// Absent: `sub`.
    pub subject: Option<String>,
    /// Absent: `client_id`, `azp` or `appid`.
    pub client: Option<String>,
    /// Absent: `preferred_username` or `username`.
    pub username: Option<String>,
    /// Absent: `name`.
    pub name: Option<String>,
    /// Absent: `email`.
    pub email: Option<String>,
    /// Absent: `scope` or `scp`.
    pub scope: Option<String>,
    /// Absent: no roles, since rules ask for them.
    pub roles: Option<String>,
    /// Absent: no groups.
    pub groups: Option<String>,
}

fn default_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA]
}

fn default_jwts() -> bool {
    true
}

fn default_leeway() -> u64 {
    30
}

fn default_cache() -> u64 {
    10
}

/// What our own subjects and clients begin with, up to the colon.
const RESERVED_IDS: [&str; 3] = ["api-key", "service", "system"];

pub(super) fn validate(issuers: &[TokenIssuer], own: &str) -> Result<(), ConfigError> {
    for (at, issuer) in issuers.iter().enumerate() {
        let refuse = |sentence: &str| Err(ConfigError::Invalid(format!("token_issuers: {:?}: {sentence}", issuer.id)));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let id = issuer.id.as_bytes();
        if !(1..=32).contains(&id.len()) || !id.iter().all(|b| plain(*b)) || id.starts_with(b"-") || id.ends_with(b"-")
        {
            return refuse("id: 1 to 32 lower-case letters, digits and dashes");
        }
        if RESERVED_IDS.contains(&issuer.id.as_str()) {
            return refuse("id: subjects of our own begin like that");
        }
        if issuers[..at].iter().any(|other| other.id == issuer.id || other.issuer == issuer.issuer) {
            return refuse("id and issuer: another entry has the same");
        }
        if !is_confidential(&issuer.issuer) {
            return refuse("issuer: https, or http on this machine");
        }
        if issuer.issuer.trim_end_matches('/') == own {
            return refuse("issuer: that is this service itself");
        }
        if issuer.policies.is_empty() || !issuer.policies.iter().all(|pattern| is_pattern(pattern)) {
            return refuse("policies: at least one <namespace>/<name>, either of them *");
        }
        if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
            return refuse("audiences: at least one, none of them empty");
        }
        if issuer.jwks.is_none() && issuer.introspection.is_none() {
            return refuse("jwks or introspection: at least one of them");
        }
        if let Some(url) = issuer.jwks.as_ref().and_then(|keys| keys.url.as_ref())
            && !is_confidential(url)
        {
            return refuse("jwks.url: https, or http on this machine");
        }
        if issuer.introspection.as_ref().is_some_and(|endpoint| !is_confidential(&endpoint.url)) {
            return refuse("introspection.url: https, or http on this machine");
        }
        if issuer.algorithms.is_empty() || !issuer.algorithms.iter().all(|alg| ASYMMETRIC.contains(alg)) {
            return refuse("algorithms: asymmetric ones only");
        }
        if issuer.leeway_seconds > 120 {
            return refuse("leeway_seconds: 120 at most");
        }
        if !(1..=60).contains(&issuer.cache_seconds) {
            return refuse("cache_seconds: 1 to 60");
        }
    }
    Ok(())
}

fn is_pattern(pattern: &str) -> bool {
    let part = |text: &str| text == "*" || (!text.is_empty() && !text.contains(['*', '/']));
    pattern.split_once('/').is_some_and(|(namespace, name)| part(namespace) && part(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn issuer() -> Value {
        json!({
            "id": "keycloak", "issuer": "https://sso.example.com/realms/main", "policies": ["shop/*"],
            "audiences": ["https://api.example.com"], "jwks": {},
        })
    }

    fn check(entries: &[Value]) -> Result<(), String> {
        let parsed: Vec<TokenIssuer> = serde_json::from_value(json!(entries)).map_err(|error| error.to_string())?;
        validate(&parsed, "https://auth.example.com").map_err(|error| error.to_string())
    }

    #[test]
    fn what_could_let_the_wrong_tokens_in_is_refused_at_the_start() {
        check(&[issuer()]).unwrap();
        for (change, sentence) in [
            (json!({"id": "Key_cloak"}), "lower-case"),
            (json!({"id": "api-key"}), "of our own"),
            (json!({"id": "service"}), "of our own"),
            (json!({"issuer": "http://sso.example.com"}), "https"),
            (json!({"issuer": "https://auth.example.com"}), "itself"),
            (json!({"issuer": "https://auth.example.com/"}), "itself"),
            (json!({"policies": []}), "policies"),
            (json!({"policies": ["shop"]}), "policies"),
            (json!({"policies": ["shop/we*"]}), "policies"),
            (json!({"audiences": []}), "audiences"),
            (json!({"audiences": [""]}), "audiences"),
            (json!({"jwks": null}), "at least one"),
            (json!({"jwks": {"url": "http://sso.example.com/keys"}}), "jwks.url"),
            (
                json!({"introspection": {"url": "http://x.example", "client_id": "a", "client_secret_file": "b"}}),
                "introspection.url",
            ),
            (json!({"algorithms": ["HS256"]}), "asymmetric"),
            (json!({"algorithms": ["RS256", "HS512"]}), "asymmetric"),
            (json!({"algorithms": ["none"]}), "none"),
            (json!({"algorithms": []}), "asymmetric"),
            (json!({"leeway_seconds": 121}), "leeway"),
            (json!({"cache_seconds": 61}), "cache_seconds"),
            (json!({"cache_seconds": 0}), "cache_seconds"),
            (json!({"types": "id_token"}), "id_token"),
        ] {
            let mut entry = issuer();
            entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let refusal = check(&[entry]).unwrap_err();
            assert!(refusal.contains(sentence), "{change}: {refusal}");
        }
        for missing in ["audiences", "policies", "issuer"] {
            let mut entry = issuer();
            entry.as_object_mut().unwrap().remove(missing);
            assert!(check(&[entry]).unwrap_err().contains(missing));
        }
        let mut twin = issuer();
        twin["id"] = json!("other");
        assert!(check(&[issuer(), twin]).unwrap_err().contains("another entry"));
    }
}
