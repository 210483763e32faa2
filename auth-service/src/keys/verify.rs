//! Our own JWTs, when somebody brings one back.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::de::DeserializeOwned;

use super::ring::KeyRing;
use super::signer::JwtType;

impl KeyRing {
    /// The claims, if one of the published keys signed it as this type for this issuer. Its end is the caller's to judge.
    pub fn verify<T: DeserializeOwned + Clone>(&self, typ: JwtType, jwt: &str, issuer: &str) -> Option<T> {
        let header = decode_header(jwt).ok()?;
        let ours = matches!(header.alg, Algorithm::ES256 | Algorithm::EdDSA | Algorithm::RS256);
        if !ours || header.typ.as_deref() != Some(typ.name()) {
            return None;
        }
        let set: JwkSet = serde_json::from_str(&self.jwks().ok()?).ok()?;
        let key = DecodingKey::from_jwk(set.find(header.kid.as_deref()?)?).ok()?;
        let mut validation = Validation::new(header.alg);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["iss", "sub", "aud"]);
        decode::<T>(jwt, &key, &validation).ok().map(|token| token.claims)
    }
}
