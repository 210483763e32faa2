//! Proof of possession (RFC 9449): a token that is worth nothing without the key it was bound to.
//!
//! Each proof is good once, for one method and URL, for a minute; with `dpop.nonce` also only with a recent nonce of ours.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::OAuthError;
use crate::app::App;
use crate::record::once;
use crate::store::{Key, StoreError};

pub const ALGORITHMS: [&str; 2] = ["ES256", "EdDSA"];

/// Seconds that a proof is good for, and by how much its maker's clock may be ahead.
const MAX_AGE: u64 = 60;
const AHEAD: u64 = 10;
const MAX_LEN: usize = 4096;
/// A nonce is handed out for so long and taken for twice as long.
const NONCE_PERIOD: u64 = 180;

/// The request that a proof has to be for.
pub struct Use<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// At a protected resource, the token that comes with it.
    pub access_token: Option<&'a str>,
}

#[derive(Clone, Deserialize)]
struct Proof {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    #[serde(default)]
    ath: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
}

/// The thumbprint of the key whose possession a `DPoP` header proves; `None` if there is no such header.
pub async fn proved(app: &App, headers: &HeaderMap, usage: &Use<'_>) -> Result<Option<String>, OAuthError> {
    let mut values = headers.get_all("dpop").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let invalid = OAuthError::InvalidDpopProof;
    let text = value.to_str().ok().filter(|text| values.next().is_none() && text.len() <= MAX_LEN);
    let text = text.ok_or(invalid("one DPoP header with one proof"))?;
    let (proof, jkt) = parse(text).ok_or(invalid("not a proof signed with the key that it names"))?;
    judge(&proof, &app.config.issuer, usage, app.now()).map_err(invalid)?;
    if app.config.dpop.nonce {
        fresh(app, proof.nonce.as_deref()).await?;
    }
    let (name, life) = (format!("{jkt}\0{}", proof.jti), Duration::from_secs(MAX_AGE + AHEAD));
    if !once::is_first(app.store(), "dpop-jti", &name, life).await? {
        return Err(invalid("the proof was used before"));
    }
    Ok(Some(jkt))
}

/// RFC 9449 §4.3, steps 2 to 7.
fn parse(text: &str) -> Option<(Proof, String)> {
    let header = decode_header(text).ok()?;
    let known = matches!(header.alg, Algorithm::ES256 | Algorithm::EdDSA);
    if !known || header.typ.as_deref() != Some("dpop+jwt") || names_private_key(text) {
        return None;
    }
    let jwk: Jwk = header.jwk?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let proof = decode::<Proof>(text, &key, &validation).ok()?.claims;
    Some((proof, jwk.thumbprint(ThumbprintHash::SHA256).ok()?))
}

/// A header whose `jwk` has a private part: the key is nobody's any more.
fn names_private_key(text: &str) -> bool {
    let header = URL_SAFE_NO_PAD.decode(text.split('.').next().unwrap_or_default()).unwrap_or_default();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap_or_default();
    header["jwk"].get("d").is_some()
}

/// Steps 8 to 12.
fn judge(proof: &Proof, issuer: &str, usage: &Use<'_>, now: u64) -> Result<(), &'static str> {
    if proof.htm != usage.method.as_str() {
        return Err("htm is another method");
    }
    let htu = proof.htu.split(['?', '#']).next().unwrap_or_default();
    let htu = url::Url::parse(htu).map_err(|_| "htu is no URL")?;
    if url::Url::parse(&format!("{issuer}{}", usage.path)) != Ok(htu) {
        return Err("htu is another URL");
    }
    if proof.iat > now + AHEAD || proof.iat + MAX_AGE < now {
        return Err("iat is not now");
    }
    if proof.jti.is_empty() || proof.jti.len() > 256 {
        return Err("jti is missing");
    }
    let Some(token) = usage.access_token else { return Ok(()) };
    let wanted = URL_SAFE_NO_PAD.encode(Sha256::digest(token));
    let right = proof.ath.as_ref().is_some_and(|ath| ath.as_bytes().ct_eq(wanted.as_bytes()).into());
    if right { Ok(()) } else { Err("ath is not the token's hash") }
}

async fn fresh(app: &App, given: Option<&str>) -> Result<(), OAuthError> {
    let period = app.now() / NONCE_PERIOD;
    let current = nonce_of(app, period).await?;
    let known = match given {
        Some(given) if given == current => true,
        Some(given) => nonce_of(app, period.saturating_sub(1)).await? == given,
        None => false,
    };
    if known { Ok(()) } else { Err(OAuthError::UseDpopNonce(current)) }
}

/// The nonce of a period, which all replicas share.
async fn nonce_of(app: &App, period: u64) -> Result<String, StoreError> {
    let key = Key::new("dpop-nonce", period);
    let fields = vec![("n".to_owned(), app.random.secret())];
    app.store().create(&key, fields, Some(Duration::from_secs(NONCE_PERIOD * 3))).await?;
    let held = app.store().read(&key, &["n"]).await?.and_then(|mut values| values.pop().flatten());
    held.ok_or_else(|| StoreError::Unavailable("a nonce was not kept".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> Proof {
        Proof {
            jti: "1".into(),
            htm: "POST".into(),
            htu: "https://auth.example.com/oauth2/token".into(),
            iat: 1000,
            ath: None,
            nonce: None,
        }
    }

    fn judged(change: impl FnOnce(&mut Proof)) -> Result<(), &'static str> {
        let mut proof = proof();
        change(&mut proof);
        let usage = Use { method: &Method::POST, path: "/oauth2/token", access_token: None };
        judge(&proof, "https://auth.example.com", &usage, 1000)
    }

    #[test]
    fn a_proof_is_for_one_method_one_url_and_now() {
        assert_eq!(judged(|_| {}), Ok(()));
        assert_eq!(judged(|proof| proof.htu.push_str("?x=1#y")), Ok(()), "without query and fragment (§4.3)");
        assert_eq!(judged(|proof| proof.htu = "https://AUTH.example.com:443/oauth2/token".into()), Ok(()));
        assert!(judged(|proof| proof.htm = "GET".into()).is_err());
        assert!(judged(|proof| proof.htu = "https://auth.example.com/oauth2/revoke".into()).is_err());
        assert!(judged(|proof| proof.htu = "https://evil.example/oauth2/token".into()).is_err());
        assert!(judged(|proof| proof.htu = "/oauth2/token".into()).is_err());
        assert!(judged(|proof| proof.iat = 939).is_err());
        assert!(judged(|proof| proof.iat = 1011).is_err());
        assert!(judged(|proof| proof.jti.clear()).is_err());
    }

    #[test]
    fn junk_is_no_proof() {
        for text in ["", "a.b.c", "eyJhbGciOiJub25lIiwidHlwIjoiZHBvcCtqd3QifQ.e30.", "....", "\u{e9}"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
