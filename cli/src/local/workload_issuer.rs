//! What the API server is in a cluster: an issuer of service-account tokens, by which workloads prove who they are.

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cloakroom_protocol::internal_api::WORKLOAD_AUDIENCE;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://kubernetes.local";
const KEY_ID: &str = "local";

/// Nobody rotates tokens here, so they outlive any trial.
const LIFETIME_SECONDS: u64 = 365 * 86_400;

pub(crate) struct WorkloadIssuer {
    key: EncodingKey,
    /// The public key's coordinates.
    point: Vec<u8>,
}

impl WorkloadIssuer {
    pub(crate) fn generate() -> Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        // SEC 1 §2.3.3: 4, then x and y.
        let point = pair.public_key_raw().get(1..65).context("an uncompressed point on P-256")?.to_vec();
        Ok(Self { key: EncodingKey::from_ec_der(&pair.serialize_der()), point })
    }

    pub(crate) fn jwks(&self) -> Value {
        let (x, y) = self.point.split_at(32);
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": encode(x), "y": encode(y),
        }] })
    }

    /// `now`: Unix seconds.
    pub(crate) fn token(&self, namespace: &str, service_account: &str, pod: &str, now: u64) -> Result<String> {
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        let claims = json!({
            "iss": ISSUER,
            "aud": [WORKLOAD_AUDIENCE],
            "sub": format!("system:serviceaccount:{namespace}:{service_account}"),
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": service_account, "uid": service_account },
                "pod": { "name": pod, "uid": pod },
            },
        });
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation};

    use super::*;

    #[test]
    fn a_token_verifies_by_the_published_key_and_names_its_workload() {
        let issuer = WorkloadIssuer::generate().unwrap();
        let token = issuer.token("shop", "web", "web-0", 1_800_000_000).unwrap();
        let keys: JwkSet = serde_json::from_value(issuer.jwks()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[WORKLOAD_AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(&keys.keys[0]).unwrap();
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "system:serviceaccount:shop:web");
        let other = WorkloadIssuer::generate().unwrap().token("shop", "web", "web-0", 1_800_000_000).unwrap();
        assert!(jsonwebtoken::decode::<Value>(&other, &key, &validation).is_err());
    }
}
