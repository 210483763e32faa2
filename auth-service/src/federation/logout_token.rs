//! A provider's word that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0 §2.4, §2.6).

use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use openidconnect::JsonWebKey;
use serde_json::{Map, Value};

use super::discovery::Metadata;
use super::{LEEWAY, Provider, ProviderError};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Seconds: how old a token may be, and so how long its `jti` is remembered.
pub const OLDEST: u64 = 600;
const MAX_TOKEN: usize = 16 << 10;
const MAX_TEXT: usize = 512;

/// As for ID tokens: asymmetric ones only.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Verified; whether it was used before is for the caller to know.
#[derive(Debug)]
pub struct LogoutToken {
    pub jti: String,
    /// Unix seconds.
    pub iat: u64,
    /// At least one of the two is there.
    pub sub: Option<String>,
    pub sid: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogoutTokenError {
    #[error("{0}")]
    Refused(String),
    /// The keys cannot be had; the token may well be good.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

fn refused(why: impl Into<String>) -> LogoutTokenError {
    LogoutTokenError::Refused(why.into())
}

impl Provider {
    pub async fn logout_token(&self, text: &str) -> Result<LogoutToken, LogoutTokenError> {
        if text.len() > MAX_TOKEN {
            return Err(refused("too long"));
        }
        let header = decode_header(text).map_err(|error| refused(error.to_string()))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(refused("algorithm not allowed"));
        }
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !["jwt", "logout+jwt", "application/logout+jwt"].contains(&typ.as_str()) {
            return Err(refused("typ is another one's"));
        }
        let key = self.key_of(&header).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[self.issuer()]);
        validation.set_audience(&[&self.settings.client_id]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // Times are judged below, by our own clock.
        validation.validate_exp = false;
        let claims = decode::<Map<String, Value>>(text, &key, &validation);
        judge(&claims.map_err(|error| refused(error.to_string()))?.claims, self.clock.seconds())
    }

    async fn key_of(&self, header: &Header) -> Result<DecodingKey, LogoutTokenError> {
        let known: Arc<Metadata> = self.discovery.current().await?;
        if let Some(key) = find(&known, header) {
            return Ok(key);
        }
        find(&*self.discovery.renewed().await?, header).ok_or_else(|| refused("unknown key"))
    }
}

/// Without a key id only a set of one key is clear.
fn find(metadata: &Metadata, header: &Header) -> Option<DecodingKey> {
    let keys = metadata.jwks().keys();
    let found = match header.kid.as_deref() {
        Some(kid) => keys.iter().find(|key| key.key_id().is_some_and(|id| id.as_str() == kid)),
        None => keys.first().filter(|_| keys.len() == 1),
    };
    let jwk: Jwk = serde_json::from_value(serde_json::to_value(found?).ok()?).ok()?;
    DecodingKey::from_jwk(&jwk).ok()
}

/// §2.6, steps 4 to 7, and the times.
fn judge(claims: &Map<String, Value>, now: u64) -> Result<LogoutToken, LogoutTokenError> {
    let text = |name: &str| {
        let text = claims.get(name).and_then(Value::as_str).map(str::to_owned);
        text.filter(|text| !text.is_empty() && text.len() <= MAX_TEXT)
    };
    let number = |name: &str| claims.get(name).and_then(Value::as_u64);
    if claims.contains_key("nonce") {
        return Err(refused("a nonce: this is an ID token"));
    }
    if !claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
        return Err(refused("not the event of a sign-out"));
    }
    let iat = number("iat").ok_or_else(|| refused("no iat"))?;
    if iat > now + LEEWAY || now > iat.saturating_add(OLDEST) {
        return Err(refused("iat is too far from now"));
    }
    if claims.contains_key("exp") && number("exp").is_none_or(|exp| now >= exp.saturating_add(LEEWAY)) {
        return Err(refused("expired"));
    }
    let jti = text("jti").ok_or_else(|| refused("no jti"))?;
    let (sub, sid) = (text("sub"), text("sid"));
    if sub.is_none() && sid.is_none() {
        return Err(refused("neither sub nor sid"));
    }
    Ok(LogoutToken { jti, iat, sub, sid })
}
