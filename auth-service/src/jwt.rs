//! The JWT that an app gets: RFC 9068, short-lived, for one audience.

use cloakroom_protocol::token::TokenId;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::keys::ring::{KeyError, KeyRing};
use crate::keys::signer::JwtType;
use crate::record::act::Actor;

/// Clocks differ: a JWT is valid from a little before it was made.
const NOT_BEFORE_LEEWAY: u64 = 10;

/// For whom and how long.
pub struct Mint<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    /// Seconds.
    pub lifetime: u64,
    /// Claims from the profile, by name.
    pub claims: &'a [String],
    pub jti: &'a str,
    /// Unix seconds.
    pub now: u64,
}

pub struct Minted {
    pub jwt: String,
    pub exp: u64,
    /// The profile's claims as the JWT carries them.
    pub claims: Map<String, Value>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: u64,
    nbf: u64,
    iat: u64,
    jti: &'a str,
    client_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    amr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<TokenId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<&'a Actor>,
    /// RFC 9068 §2.2.3.1, RFC 7643 §4.1.2. In `profile` instead, where the policy asks for them by name.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    roles: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a Map<String, Value>>,
    #[serde(flatten)]
    profile: &'a Map<String, Value>,
}

pub fn mint(ring: &KeyRing, identity: &Identity, mint: &Mint<'_>) -> Result<Minted, KeyError> {
    let exp = mint.now.saturating_add(mint.lifetime).min(identity.not_beyond).min(identity.exp);
    let profile = identity.profile.claims(mint.claims);
    let unless_named =
        |name: &str, list: &'_ [String]| if profile.contains_key(name) { Vec::new() } else { list.to_vec() };
    let (roles, groups) =
        (unless_named("roles", &identity.profile.roles), unless_named("groups", &identity.profile.groups));
    let claims = Claims {
        iss: mint.issuer,
        sub: &identity.sub,
        aud: mint.audience,
        exp,
        nbf: mint.now.saturating_sub(NOT_BEFORE_LEEWAY),
        iat: mint.now,
        jti: mint.jti,
        client_id: &identity.client_id,
        scope: &identity.scope,
        auth_time: identity.auth_time,
        acr: identity.acr.as_deref(),
        amr: &identity.amr,
        sid: identity.sid,
        act: identity.act.as_ref(),
        roles: &roles,
        groups: &groups,
        session: identity.sid.is_some().then_some(&identity.session),
        profile: &profile,
    };
    let jwt = ring.sign(JwtType::AccessToken, &claims)?;
    Ok(Minted { jwt, exp, claims: profile })
}
