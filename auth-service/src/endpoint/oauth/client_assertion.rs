//! `private_key_jwt` (OpenID Connect Core §9, RFC 7523 §3): a client shows by a signature who it is; nothing that is kept here could be used in
//! its place.
//!
//! The audience is our issuer, as one string: an assertion for a list, or for an endpoint that a metadata document named, could be meant for
//! somebody else who passes it on.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;

use crate::app::App;
use crate::jwks::{ASYMMETRIC, KeySet};
use crate::record::client::Client;
use crate::record::once;
use crate::store::StoreError;

pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const MAX_LEN: usize = 8 << 10;
const MAX_JTI: usize = 256;
/// Seconds until an assertion ends, at most: so long it is remembered.
const MAX_LIFE: u64 = 600;
/// Clocks differ.
const LEEWAY: u64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum AssertionError {
    #[error("assertion refused: {0}")]
    Refused(&'static str),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Deserialize)]
struct Assertion {
    iss: String,
    sub: String,
    aud: String,
    exp: u64,
    jti: String,
    #[serde(default)]
    nbf: u64,
    #[serde(default)]
    iat: u64,
}

/// Algorithms as discovery names them.
pub fn algorithms() -> Vec<String> {
    ASYMMETRIC.iter().map(|algorithm| format!("{algorithm:?}")).collect()
}

/// Whose assertion it says that it is: to look up the keys that can tell.
pub fn claimed_client(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claimed {
        sub: String,
    }
    let payload = text.split('.').nth(1).filter(|_| text.len() <= MAX_LEN)?;
    let claimed: Claimed = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    Some(claimed.sub)
}

/// RFC 7523 §3, by the client's own keys; each assertion once.
pub async fn verify(app: &App, client: &Client, text: &str) -> Result<(), AssertionError> {
    let now = app.now();
    let assertion = read(client, text).map_err(AssertionError::Refused)?;
    judge(&assertion, &client.client_id, &app.config.issuer, now).map_err(AssertionError::Refused)?;
    let name = format!("{}\0{}", client.client_id, assertion.jti);
    let life = Duration::from_secs(assertion.exp.saturating_sub(now) + LEEWAY);
    if !once::is_first(app.store(), "assertion-jti", &name, life).await? {
        return Err(AssertionError::Refused("it was used before"));
    }
    Ok(())
}

/// What it says, if one of the client's keys has signed it.
fn read(client: &Client, text: &str) -> Result<Assertion, &'static str> {
    let keys = client.jwks.as_ref().and_then(KeySet::of_client).ok_or("this client has no keys")?;
    let header = decode_header(text).map_err(|_| "not a JWT")?;
    if !ASYMMETRIC.contains(&header.alg) {
        return Err("algorithm not allowed");
    }
    // A JWT of another kind, signed by the same key, must not pass for one (RFC 8725 §3.11).
    let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
    if !matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "client-authentication+jwt") {
        return Err("typ is another one's");
    }
    let key = keys.find(header.kid.as_deref(), header.alg).ok_or("unknown key")?;
    let mut validation = Validation::new(header.alg);
    // All of it is judged below, by our own clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let read = decode::<Assertion>(text, &key, &validation).map_err(|_| "wrong signature, or claims are missing");
    read.map(|data| data.claims)
}

fn judge(assertion: &Assertion, client_id: &str, issuer: &str, now: u64) -> Result<(), &'static str> {
    if assertion.iss != client_id || assertion.sub != client_id {
        return Err("iss and sub are the client");
    }
    if assertion.aud != issuer {
        return Err("aud is the issuer and nothing else");
    }
    if assertion.exp.saturating_add(LEEWAY) <= now {
        return Err("expired");
    }
    if assertion.exp > now.saturating_add(MAX_LIFE) {
        return Err("exp is too far away");
    }
    if assertion.nbf.max(assertion.iat) > now.saturating_add(LEEWAY) {
        return Err("not valid yet");
    }
    if assertion.jti.is_empty() || assertion.jti.len() > MAX_JTI {
        return Err("jti is missing, or over-long");
    }
    Ok(())
}
