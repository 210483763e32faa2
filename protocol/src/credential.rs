//! What the operator tells the auth service about a credential that a resource asks for: its hash, never the credential itself.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::policy_ref::PolicyRef;
use crate::token::{SecretHash, TokenId};

/// `<namespace>/<name>` of an `ApiKey`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
