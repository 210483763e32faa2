//! A secret's SHA-256 as records keep it: base64url text, compared in constant time.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::credential::EarlierSecret;
use cloakroom_protocol::token::SecretHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoredHash(String);

impl StoredHash {
    /// Of a secret with enough entropy that a plain hash protects it (ours have 256 bits).
    pub fn of_secret(secret: &str) -> Self {
        Self(URL_SAFE_NO_PAD.encode(Sha256::digest(secret)))
    }

    pub fn matches(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

/// The secret before the last rotation, for as long as both are good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub secret: StoredHash,
    /// Unix seconds.
    pub until: u64,
}

impl From<&EarlierSecret> for Before {
    fn from(before: &EarlierSecret) -> Self {
        Self { secret: before.secret.into(), until: before.until }
    }
}

/// In constant time, as everywhere.
impl PartialEq for StoredHash {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other)
    }
}

impl Eq for StoredHash {}

impl From<SecretHash> for StoredHash {
    fn from(hash: SecretHash) -> Self {
        Self(URL_SAFE_NO_PAD.encode(hash.as_bytes()))
    }
}

impl std::fmt::Debug for StoredHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredHash(…)")
    }
}
