//! Another issuer's JWT, read strictly (RFC 7515 compact serialization, RFC 8725).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::Failure;
use super::facts::Refused;
use super::object::Object;
use crate::config::{JwtTypes, TokenIssuer};
use crate::jwks::Jwks;

/// Read, and believed only once it is verified.
pub(super) struct Jws<'t> {
    /// Header and payload as they were signed.
    signed: &'t str,
    signature: &'t str,
    header: Object,
    pub(super) claims: Object,
}

/// Header parameters that change what is signed or what it is. `jku`, `jwk`, `x5u` and `x5c`, by which a token brings a key of its own, are
/// passed over: keys come from the configuration.
const NOT_UNDERSTOOD: [&str; 5] = ["crit", "b64", "enc", "zip", "cty"];

/// `None`: not a JWT, but something opaque.
pub(super) fn parse(token: &str) -> Option<Result<Jws<'_>, Refused>> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
    let object = |part: &str| {
        let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Malformed)?;
        serde_json::from_slice::<Object>(&json).map_err(|_| Refused::Malformed)
    };
    // What does not even begin as one is left to issuers that know what it is.
    let json = URL_SAFE_NO_PAD.decode(header).ok()?;
    serde_json::from_slice::<Value>(&json).ok()?.get("alg")?;
    let read = || Ok(Jws { signed, signature, header: object(header)?, claims: object(payload)? });
    Some(read())
}

impl Jws<'_> {
    /// Whether its header says that it is an access token; an error if it was not signed by one of these keys as the issuer signs.
    pub(super) async fn verify(&self, keys: &Jwks, issuer: &TokenIssuer) -> Result<bool, Failure> {
        if NOT_UNDERSTOOD.iter().any(|name| self.header.get(name).is_some()) {
            return Err(Refused::Header.into());
        }
        let typed = self.is_access_token(issuer.types)?;
        let algorithm = self.header.get("alg").cloned().unwrap_or_default();
        let algorithm: Algorithm = serde_json::from_value(algorithm).map_err(|_| Refused::Algorithm)?;
        if !issuer.algorithms.contains(&algorithm) {
            return Err(Refused::Algorithm.into());
        }
        let kid = match self.header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(Refused::Header.into()),
        };
        let key = keys.key(kid, algorithm).await?;
        let good = jsonwebtoken::crypto::verify(self.signature, self.signed.as_bytes(), &key, algorithm);
        if good.unwrap_or(false) { Ok(typed) } else { Err(Refused::Signature.into()) }
    }

    /// RFC 9068 §4: `application/` may be left out, and case does not count.
    fn is_access_token(&self, types: JwtTypes) -> Result<bool, Refused> {
        let typ = match self.header.get("typ") {
            None => String::new(),
            Some(typ) => typ.as_str().ok_or(Refused::Type)?.to_ascii_lowercase(),
        };
        match (typ.strip_prefix("application/").unwrap_or(&typ), types) {
            ("at+jwt", _) => Ok(true),
            ("" | "jwt", JwtTypes::Plain) => Ok(false),
            _ => Err(Refused::Type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn what_begins_as_a_jwt_is_one_or_nothing() {
        assert!(matches!(parse(&token(r#"{"alg":"ES256"}"#, r#"{"iss":"a"}"#)), Some(Ok(_))));
        for (header, payload) in [
            (r#"{"alg":"ES256","alg":"RS256"}"#, "{}"),
            (r#"{"alg":"ES256"}"#, r#"{"iss":"a","iss":"b"}"#),
            (r#"{"alg":"ES256"}"#, "[]"),
            (r#"{"alg":"ES256"}"#, "x"),
            (r#"{"alg":"ES256"}"#, "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"),
        ] {
            assert!(matches!(parse(&token(header, payload)), Some(Err(Refused::Malformed))), "{header} {payload}");
        }
        assert!(matches!(parse("eyJhbGciOiJFUzI1NiJ9.!.c2ln"), Some(Err(_))));
    }

    #[test]
    fn what_does_not_is_opaque() {
        for opaque in
            ["ory_at_abc.def", "abc", "a.b.c", "..", "eyJhbGciOiJFUzI1NiJ9", "eyJhIjoxfQ.e30.c2ln", "a.b.c.d.e"]
        {
            assert!(parse(opaque).is_none(), "{opaque}");
        }
        let encrypted = format!("{}.a.b.c.d", URL_SAFE_NO_PAD.encode(r#"{"alg":"dir","enc":"A256GCM"}"#));
        assert!(parse(&encrypted).is_none());
    }
}
