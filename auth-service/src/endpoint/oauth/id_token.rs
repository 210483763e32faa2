//! ID tokens (OpenID Connect Core §2), for clients that ask for scope `openid`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256, Sha512};

use crate::app::App;
use crate::keys::Algorithm;
use crate::keys::ring::KeyError;
use crate::keys::signer::JwtType;
use crate::record::client::Client;
use crate::record::grant::Grant;
use crate::record::profile::Profile;

/// What an ID token says beside the grant's facts.
pub struct Occasion<'a> {
    pub access_token: &'a str,
    /// Of the access token: less than the grant's, if the client asked for less.
    pub scope: &'a str,
    /// Of the sign-in; a refresh has none (OpenID Connect Core §12.2).
    pub nonce: Option<&'a str>,
    /// Unix seconds.
    pub now: u64,
}

pub async fn mint(app: &App, client: &Client, grant: &Grant, occasion: &Occasion<'_>) -> Result<String, KeyError> {
    let Occasion { access_token, scope, nonce, now } = *occasion;
    let facts = &grant.facts;
    let wanted = client.id_token_signed_response_alg;
    let mut claims = json!({
        "iss": app.config.issuer,
        "sub": facts.sub,
        "aud": facts.client_id,
        "exp": now + app.config.tokens.id_token_seconds,
        "iat": now,
        "auth_time": facts.auth_time,
        "acr": facts.acr,
        "amr": facts.amr,
        "at_hash": at_hash(app.ring.algorithm_for(wanted), access_token),
    });
    if let Some(object) = claims.as_object_mut() {
        object.extend(nonce.map(|nonce| ("nonce".to_owned(), Value::from(nonce))));
        object.extend(facts.sid.or(facts.given_in).map(|sid| ("sid".to_owned(), Value::from(sid.to_string()))));
        object.extend(scope_claims(&grant.profile, scope));
    }
    app.ring.sign_as(app.store(), wanted, JwtType::Plain, &claims).await
}

/// What a client tells of somebody with an ID token that it got earlier.
#[derive(Clone, Deserialize)]
pub struct Hint {
    pub sub: String,
    pub aud: String,
    #[serde(default)]
    pub sid: Option<String>,
}

/// One of our ID tokens, expired or not (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2).
pub fn hint(app: &App, text: &str) -> Option<Hint> {
    app.ring.verify(JwtType::Plain, text, &app.config.issuer)
}

/// What `profile`, `email` and so on reveal (OpenID Connect Core §5.4).
pub fn scope_claims(profile: &Profile, scope: &str) -> Map<String, Value> {
    let names = scope.split(' ').flat_map(|scope| -> &[&str] {
        match scope {
            "profile" => &["name", "preferred_username"],
            "email" => &["email", "email_verified"],
            "roles" => &["roles"],
            "groups" => &["groups"],
            _ => &[],
        }
    });
    names.filter_map(|name| Some(((*name).to_owned(), profile.claim(name)?))).collect()
}

/// The left half of the hash that belongs to the signature's algorithm (OpenID Connect Core §3.1.3.6).
fn at_hash(alg: Algorithm, access_token: &str) -> String {
    match alg {
        Algorithm::ES256 | Algorithm::RS256 => URL_SAFE_NO_PAD.encode(&Sha256::digest(access_token)[..16]),
        Algorithm::EdDSA => URL_SAFE_NO_PAD.encode(&Sha512::digest(access_token)[..32]),
    }
}
