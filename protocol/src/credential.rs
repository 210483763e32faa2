//! What the operator tells the auth service about a credential that a resource asks for: its hash, never the credential itself.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::policy_ref::PolicyRef;
use crate::token::{SecretHash, TokenId};

/// `<namespace>/<name>` of an `ApiKey` or `OAuthClient`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialRef(PolicyRef);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a credential is named <namespace>/<name>, both Kubernetes names")]
pub struct InvalidCredentialRef;

impl CredentialRef {
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidCredentialRef> {
        PolicyRef::new(namespace, name).map(Self).map_err(|_| InvalidCredentialRef)
    }

    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Of an `OAuthClient`: `<name>@<namespace>`. Neither has an `@` in it, nor has any other client's id; and since a namespace has no dots,
    /// it is nobody's e-mail address.
    pub fn client_id(&self) -> String {
        format!("{}@{}", self.name(), self.namespace())
    }

    /// The `OAuthClient` that a client id is of.
    pub fn of_client_id(id: &str) -> Option<Self> {
        let (name, namespace) = id.split_once('@')?;
        Self::new(namespace, name).ok()
    }
}

impl fmt::Display for CredentialRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CredentialRef {
    type Err = InvalidCredentialRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| InvalidCredentialRef)
    }
}

/// Body of `PUT /internal/v1/api-keys/<namespace>/<name>`: desired state, idempotent.
///
/// Answers: 204; 409 with a problem if an audience is another namespace's, or the id somebody else's; 410 if the key with this id was
/// revoked, which only another id mends; 422 if a value is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyRegistration {
    pub of: CredentialRef,
    /// The public part of the key. Another one than before: the key before it ends.
    pub id: TokenId,
    #[serde(with = "hash")]
    pub secret: SecretHash,
    /// The secret before the last rotation, for as long as both are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<EarlierSecret>,
    #[serde(default)]
    pub scopes: Vec<String>,
    pub audiences: Vec<String>,
    /// Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// Body of `PUT /internal/v1/clients/<namespace>/<name>`: desired state, idempotent. The client's id is [`CredentialRef::client_id`].
///
/// There is no field for what a client of a namespace's may not be: first party, a gateway, one that exchanges tokens.
///
/// Answers: 204; 409 with a problem if an audience or a redirect URI's origin is another namespace's, or whether there is a secret changed;
/// 410 if an administrator revoked the client, which only another resource mends; 422 if a value is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRegistration {
    pub of: CredentialRef,
    /// `metadata.uid`. Another one than before: another resource of the same name, for which nothing is good that was issued before.
    pub uid: String,
    /// Absent: a public client.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_hash")]
    pub secret: Option<SecretHash>,
    /// The secret before the last rotation, for as long as both are good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<EarlierSecret>,
    /// What people see who are asked for consent.
    #[serde(default)]
    pub name: String,
    pub grant_types: Vec<ClientGrant>,
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    #[serde(default)]
    pub post_logout_redirect_uris: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default)]
    pub audiences: Vec<String>,
    #[serde(default)]
    pub dpop_bound_access_tokens: bool,
    #[serde(default)]
    pub require_mfa: bool,
}

/// The grant types that a client of a namespace's may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientGrant {
    AuthorizationCode,
    RefreshToken,
    ClientCredentials,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierSecret {
    #[serde(with = "hash")]
    pub secret: SecretHash,
    /// Unix seconds.
    pub until: u64,
}

/// `<hash> <until>`, as it stands in an annotation. A hash of 256 random bits gives nothing away.
impl fmt::Display for EarlierSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", URL_SAFE_NO_PAD.encode(self.secret.as_bytes()), self.until)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash and a time are needed")]
pub struct InvalidEarlierSecret;

impl FromStr for EarlierSecret {
    type Err = InvalidEarlierSecret;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (secret, until) = text.split_once(' ').ok_or(InvalidEarlierSecret)?;
        let secret = hash::decode(secret).ok_or(InvalidEarlierSecret)?;
        Ok(Self { secret, until: until.parse().map_err(|_| InvalidEarlierSecret)? })
    }
}

/// Base64url, as the auth service keeps hashes.
mod hash {
    use base64::Engine as _;

    use super::{Deserialize, Deserializer, SecretHash, Serializer, URL_SAFE_NO_PAD, de};

    pub(super) fn serialize<S: Serializer>(hash: &SecretHash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(hash.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| de::Error::custom("a SHA-256 in base64url is needed"))
    }

    pub(super) fn decode(text: &str) -> Option<SecretHash> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(SecretHash::from_bytes(bytes.try_into().ok()?))
    }
}

mod optional_hash {
    use super::{Deserialize, Deserializer, SecretHash, Serialize, Serializer, hash};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Text(#[serde(with = "hash")] SecretHash);

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(hash: &Option<SecretHash>, serializer: S) -> Result<S::Ok, S::Error> {
        hash.map(Text).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretHash>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_says_whose_it_is_and_nothing_else_looks_like_one() {
        let of: CredentialRef = "shop/reports.v1".parse().unwrap();
        assert_eq!(of.client_id(), "reports.v1@shop");
        assert_eq!(CredentialRef::of_client_id("reports.v1@shop"), Some(of));
        for other in ["shop/reports", "shop", "@", "@shop", "reports@", "a@shop@b", "a@Shop", "a@b.c", "a b@shop", ""] {
            assert_eq!(CredentialRef::of_client_id(other), None, "{other}");
        }
    }

    #[test]
    fn a_client_s_registration_has_no_place_for_what_it_may_not_be() {
        let plain = serde_json::json!({"of": "shop/reports", "uid": "1", "grant_types": ["client_credentials"]});
        let read = |value: &serde_json::Value| serde_json::from_value::<ClientRegistration>(value.clone());
        assert_eq!(read(&plain).unwrap().secret, None);
        for (name, value) in [
            ("first_party", serde_json::json!(true)),
            ("introspects", serde_json::json!(["a"])),
            ("backchannel_logout_uri", serde_json::json!("https://a.example")),
            ("grant_types", serde_json::json!(["urn:ietf:params:oauth:grant-type:token-exchange"])),
            ("secret", serde_json::json!("short")),
        ] {
            let mut bad = plain.clone();
            bad[name] = value;
            assert!(read(&bad).is_err(), "{name}");
        }
        let mut good = plain;
        good["secret"] = serde_json::json!("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        let read = read(&good).unwrap();
        assert_eq!(read.secret, Some(SecretHash::from_bytes([7; 32])));
        assert_eq!(serde_json::to_value(&read).unwrap()["secret"], good["secret"]);
    }

    #[test]
    fn a_hash_survives_json_and_annotations() {
        let earlier = EarlierSecret { secret: SecretHash::from_bytes([7; 32]), until: 1_800_000_000 };
        assert_eq!(earlier.to_string().parse::<EarlierSecret>().unwrap(), earlier);
        let json = serde_json::to_string(&earlier).unwrap();
        assert_eq!(serde_json::from_str::<EarlierSecret>(&json).unwrap(), earlier);
        for bad in [
            "",
            "x",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "AAAA 1",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc -1",
        ] {
            assert!(bad.parse::<EarlierSecret>().is_err(), "{bad}");
        }
    }
}
