//! What an issuer says of its token → an identity of ours, or why not. Pure.

use cloakroom_protocol::presented::Kind;
use cloakroom_protocol::token::TokenId;
use serde_json::{Map, Value};

use super::object::Object;
use crate::config::{ClaimMapping, TokenIssuer};
use crate::identity::Identity;
use crate::record::act::Actor;
use crate::record::client::is_scope;
use crate::record::profile::Profile;

/// Who said it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    /// A verified JWT; `typed`: its header says `at+jwt`.
    Jwt { typed: bool },
    /// The issuer, asked.
    Introspection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("its issuer says that it is not active")]
    Inactive,
    #[error("not a well-formed JWT")]
    Malformed,
    #[error("neither verified by keys nor is its issuer asked about such")]
    NotAsked,
    #[error("a header parameter that changes what is signed")]
    Header,
    #[error("the JWT's type is not that of an access token")]
    Type,
    #[error("the algorithm is not one that this issuer uses")]
    Algorithm,
    #[error("signed with a key that the issuer does not have")]
    Key,
    #[error("the signature does not fit")]
    Signature,
    #[error("issued by somebody else")]
    Issuer,
    #[error("meant for somebody else")]
    Audience,
    #[error("expired, or without an end")]
    Expired,
    #[error("not valid yet")]
    NotYet,
    #[error("bound to a key, of which nobody here has seen a proof")]
    Bound,
    #[error("an ID token, a refresh token or something else that is not for APIs")]
    NotAnAccessToken,
    #[error("without a subject")]
    Subject,
    #[error("{0} is not what it should be")]
    Claim(&'static str),
}

/// Bytes of a name.
const MAX_TEXT: usize = 512;
/// Members of a list.
const MAX_LIST: usize = 256;
/// Without an end of its own, what introspection calls active is asked about again within the hour, as everything else is.
const NO_END: u64 = 3600;

pub(super) fn read(
    issuer: &TokenIssuer,
    claims: &Object,
    origin: Origin,
    id: TokenId,
    audience: &str,
    now: u64,
) -> Result<Identity, Refused> {
    let by_jwt = matches!(origin, Origin::Jwt { .. });
    match claims.get("iss") {
        Some(iss) if *iss == issuer.issuer => {}
        None if !by_jwt => {}
        _ => return Err(Refused::Issuer),
    }
    if !texts(claims.get("aud"), "aud")?.iter().any(|aud| issuer.audiences.contains(aud)) {
        return Err(Refused::Audience);
    }
    is_alive(claims, now)?;
    let exp = match time(claims, "exp")? {
        Some(exp) => exp,
        None if by_jwt => return Err(Refused::Expired),
        None => now + NO_END,
    };
    let latest = now.saturating_add(issuer.leeway_seconds);
    let iat = time(claims, "iat")?;
    if [iat, time(claims, "nbf")?].into_iter().flatten().any(|begin| begin > latest) {
        return Err(Refused::NotYet);
    }
    // DPoP (RFC 9449) and mutual TLS (RFC 8705): whoever stole the token could present it here.
    if claims.get("cnf").is_some() {
        return Err(Refused::Bound);
    }
    is_access_token(claims, origin)?;
    identity(issuer, claims, id, audience, Times { exp, iat: iat.unwrap_or(now), latest })
}

/// Not over yet: what can be seen without keys. Their end is the end, whatever the clocks.
pub(super) fn is_alive(claims: &Object, now: u64) -> Result<(), Refused> {
    match time(claims, "exp")? {
        Some(exp) if exp <= now => Err(Refused::Expired),
        _ => Ok(()),
    }
}

/// Other JWTs of the same issuer are signed by the same keys, and introspection answers about refresh tokens too.
fn is_access_token(claims: &Object, origin: Origin) -> Result<(), Refused> {
    let hashes = ["at_hash", "c_hash", "s_hash", "events"];
    if hashes.iter().any(|name| claims.get(name).is_some()) {
        return Err(Refused::NotAnAccessToken);
    }
    // Keycloak's `typ`, Cognito's and Hydra's `token_use`: a word of theirs is not asked for, but counts.
    let says = |name: &str, good: [&str; 3]| match claims.get(name) {
        None => Ok(false),
        Some(word) if word.as_str().is_some_and(|word| good.iter().any(|one| one.eq_ignore_ascii_case(word))) => {
            Ok(true)
        }
        Some(_) => Err(Refused::NotAnAccessToken),
    };
    let declared = says("typ", ["Bearer", "at+jwt", "application/at+jwt"])?
        | says("token_use", ["access", "access_token", "access-token"])?;
    let good = match origin {
        Origin::Jwt { typed: true } => true,
        // OpenID Connect Core §2 has `nonce` in ID tokens only, and these in none.
        Origin::Jwt { typed: false } => {
            let of_access = ["scope", "scp", "client_id", "azpacr", "appidacr"];
            declared || (claims.get("nonce").is_none() && of_access.iter().any(|name| claims.get(name).is_some()))
        }
        // RFC 7662 §2.2 leaves it out for what is no access token.
        Origin::Introspection => claims.text("token_type").is_some_and(|one| one.eq_ignore_ascii_case("Bearer")),
    };
    if good { Ok(()) } else { Err(Refused::NotAnAccessToken) }
}

#[derive(Clone, Copy)]
struct Times {
    exp: u64,
    iat: u64,
    /// Whatever lies after it lies in the future.
    latest: u64,
}

fn identity(
    issuer: &TokenIssuer,
    claims: &Object,
    id: TokenId,
    audience: &str,
    times: Times,
) -> Result<Identity, Refused> {
    let mapping = &issuer.claims;
    let client = first(claims, mapping.client.as_ref(), &["client_id", "azp", "appid"]);
    let client = client.map(|client| text(client, "client")).transpose()?;
    let subject = claims.find(mapping.subject.as_deref().unwrap_or("sub"));
    let subject = match (subject, client) {
        (Some(subject), _) => text(subject, "subject")?,
        // RFC 9068 §2.2: where no person is involved, the client is the subject.
        (None, Some(client)) if mapping.subject.is_none() => client,
        (None, _) => return Err(Refused::Subject),
    };
    // What is said under a prefix of theirs can be nobody of ours.
    let theirs = |name: &str| format!("{}:{name}", issuer.id);
    let acr = claims.text("acr").and_then(|acr| issuer.acr_values.get(acr)).cloned();
    let act = claims.get("act").map(|act| actor(act, &theirs)).transpose()?;
    Ok(Identity {
        kind: Kind::FOREIGN,
        id,
        sub: theirs(subject),
        client_id: client.map_or_else(|| issuer.id.clone(), theirs),
        scope: scope(claims, mapping)?,
        exp: times.exp,
        not_beyond: times.exp,
        iat: times.iat,
        auth_time: time(claims, "auth_time")?.filter(|at| *at <= times.latest),
        // How somebody signed in counts only where the configuration says what it means.
        amr: if acr.is_some() { texts(claims.get("amr"), "amr")? } else { Vec::new() },
        acr,
        sid: None,
        profile: profile(claims, mapping)?,
        session: Map::new(),
        session_version: 0,
        aud: vec![audience.to_owned()],
        act,
        jkt: None,
        touch: None,
    })
}

fn profile(claims: &Object, mapping: &ClaimMapping) -> Result<Profile, Refused> {
    let named = |place: &Option<String>, usual: &[&str], what| {
        first(claims, place.as_ref(), usual).map(|value| text(value, what).map(str::to_owned)).transpose()
    };
    let list = |place: &Option<String>, what| texts(place.as_ref().and_then(|place| claims.find(place)), what);
    Ok(Profile {
        username: named(&mapping.username, &["preferred_username", "username"], "username")?,
        name: named(&mapping.name, &["name"], "name")?,
        email: named(&mapping.email, &["email"], "email")?,
        email_verified: claims.get("email_verified") == Some(&Value::Bool(true)),
        roles: list(&mapping.roles, "roles")?,
        groups: list(&mapping.groups, "groups")?,
        scopes: Vec::new(),
        claims: Map::new(),
    })
}

fn scope(claims: &Object, mapping: &ClaimMapping) -> Result<String, Refused> {
    let scopes = match first(claims, mapping.scope.as_ref(), &["scope", "scp"]) {
        // RFC 6749 §3.3
        Some(Value::String(text)) => text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        other => texts(other, "scope")?,
    };
    if scopes.len() > MAX_LIST || !scopes.iter().all(|scope| is_scope(scope)) {
        return Err(Refused::Claim("scope"));
    }
    Ok(scopes.join(" "))
}

/// Who acts for the subject (RFC 8693 §4.1): nobody who does may be left out.
fn actor(act: &Value, theirs: &impl Fn(&str) -> String) -> Result<Actor, Refused> {
    let wrong = Refused::Claim("act");
    let mut chain = Vec::new();
    let mut next = Some(act);
    while let Some(act) = next {
        chain.push(text(act.get("sub").ok_or(wrong)?, "act")?);
        next = act.get("act");
    }
    let mut actor = None;
    for sub in chain.into_iter().rev() {
        actor = Some(Actor::new(&theirs(sub), actor).ok_or(wrong)?);
    }
    actor.ok_or(wrong)
}

fn first<'c>(claims: &'c Object, place: Option<&String>, usual: &[&str]) -> Option<&'c Value> {
    match place {
        Some(place) => claims.find(place),
        None => usual.iter().find_map(|name| claims.get(name)),
    }
}

fn text<'v>(value: &'v Value, what: &'static str) -> Result<&'v str, Refused> {
    let fits = |text: &&str| !text.is_empty() && text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
    value.as_str().filter(fits).ok_or(Refused::Claim(what))
}

/// One or several.
fn texts(value: Option<&Value>, what: &'static str) -> Result<Vec<String>, Refused> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(all)) if all.len() <= MAX_LIST => {
            all.iter().map(|one| text(one, what).map(str::to_owned)).collect()
        }
        Some(Value::Array(_)) => Err(Refused::Claim(what)),
        Some(one) => Ok(vec![text(one, what)?.to_owned()]),
    }
}

/// RFC 7519 §2 `NumericDate`: seconds, perhaps with a fraction.
fn time(claims: &Object, name: &'static str) -> Result<Option<u64>, Refused> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    if let Some(seconds) = value.as_u64() {
        return Ok(Some(seconds));
    }
    let seconds = value.as_f64().filter(|seconds| (0.0..9e15).contains(seconds)).ok_or(Refused::Claim(name))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its bounds are checked")]
    Ok(Some(seconds as u64))
}

#[cfg(test)]
mod tests;
