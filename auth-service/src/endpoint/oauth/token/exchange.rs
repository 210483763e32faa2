//! Token exchange (RFC 8693): a service that was called for somebody gets a token to call the next one, for the same person, and it says who
//! acts.

use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use serde::Deserialize;

use super::{Issuing, Request};
use crate::app::App;
use crate::endpoint::oauth::audiences::audiences;
use crate::endpoint::oauth::error::OAuthError;
use crate::endpoint::oauth::introspect::find;
use crate::identity::Identity;
use crate::keys::signer::JwtType;
use crate::record::act::Actor;
use crate::record::client::Client;
use crate::record::grant::Facts;
use crate::record::profile::Profile;
use crate::record::session;

pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// A subject token, whichever kind, as far as an exchange looks at it.
struct Subject {
    sub: String,
    scope: String,
    /// Unix seconds; the new token ends no later.
    end: u64,
    auth_time: Option<u64>,
    acr: Option<String>,
    amr: Vec<String>,
    /// What the new grant ends with.
    sid: Option<TokenId>,
    parent: Option<TokenId>,
    act: Option<Actor>,
    profile: Profile,
}

pub(super) async fn exchange(app: &App, request: &Request<'_>) -> Result<Issuing, OAuthError> {
    let Request { client, form, .. } = request;
    let invalid = |sentence: &str| OAuthError::InvalidRequest(sentence.to_owned());
    let text = form.get("subject_token").ok_or_else(|| invalid("subject_token is missing"))?;
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        return Err(invalid("the actor is the client that asks: actor_token is not supported"));
    }
    if form.get("requested_token_type").is_some_and(|kind| kind != ACCESS_TOKEN) {
        return Err(invalid("requested_token_type is an access token's"));
    }
    let subject = match form.get("subject_token_type") {
        Some(ACCESS_TOKEN) => by_token(app, client, text).await?,
        Some(JWT) => by_jwt(app, client, text).await?,
        Some(_) => return Err(invalid("subject_token_type is an access token's or a JWT's")),
        None => return Err(invalid("subject_token_type is missing")),
    };
    // RFC 8693 §2.2.2: whatever is wrong with the subject token is invalid_request.
    let subject = subject.ok_or_else(|| invalid("the subject token is not active, or not meant for this client"))?;
    let act = Actor::new(&client.client_id, subject.act).ok_or_else(|| invalid("too many have acted already"))?;
    let scope = scope(client, &subject.scope, form.get("scope")).ok_or(OAuthError::InvalidScope)?;
    let now = app.now();
    crate::audit::record("token.exchanged", &client.client_id, &subject.sub, &scope);
    Ok(Issuing {
        id: app.random.with(TokenId::generate),
        facts: Facts {
            client_id: client.client_id.clone(),
            sub: subject.sub,
            sid: subject.sid,
            given_in: None,
            parent: subject.parent,
            scope,
            aud: audiences(app, client, form).ok_or(OAuthError::InvalidTarget)?,
            auth_time: subject.auth_time,
            acr: subject.acr,
            amr: subject.amr,
            nonce: None,
            act: Some(act),
            jkt: None,
            created: now,
            end: subject.end.min(now + app.config.tokens.access_seconds),
        },
        profile: subject.profile,
        epoch: None,
        refreshable: false,
    })
}

/// Never more than the subject token had, nor than the client may have.
fn scope(client: &Client, subject: &str, asked: Option<&str>) -> Option<String> {
    let held = |scope: &&str| subject.split(' ').any(|one| one == *scope);
    if let Some(asked) = asked {
        return client.scope_for(Some(asked)).filter(|scope| scope.split(' ').all(|one| held(&one)));
    }
    let common: Vec<&str> = client.scopes.iter().map(String::as_str).filter(held).collect();
    Some(common.join(" "))
}

/// An opaque token that was issued to this client, or is for an audience that it answers for.
async fn by_token(app: &App, client: &Client, text: &str) -> Result<Option<Subject>, OAuthError> {
    let Ok(token) = OpaqueToken::parse(text.as_bytes()) else { return Ok(None) };
    if token.kind() != TokenKind::Access {
        return Ok(None);
    }
    // A bound token is worth nothing without its key, here as elsewhere.
    Ok(find(app, client, &token).await?.filter(|identity| identity.jkt.is_none()).map(of_identity))
}

fn of_identity(identity: Identity) -> Subject {
    Subject {
        sub: identity.sub,
        scope: identity.scope,
        end: identity.exp,
        auth_time: identity.auth_time,
        acr: identity.acr,
        amr: identity.amr,
        sid: None,
        parent: Some(identity.id),
        act: identity.act,
        profile: identity.profile,
    }
}

/// What an app finds in the JWT that its sidecar gave it.
#[derive(Clone, Deserialize)]
struct Claims {
    sub: String,
    aud: String,
    exp: u64,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    auth_time: Option<u64>,
    #[serde(default)]
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
    #[serde(default)]
    sid: Option<TokenId>,
    #[serde(default)]
    act: Option<Actor>,
}

/// The JWT of an app that this client answers for. With a session behind it, the new token ends with that; without, with the JWT.
async fn by_jwt(app: &App, client: &Client, text: &str) -> Result<Option<Subject>, OAuthError> {
    let Some(claims) = app.ring.verify::<Claims>(JwtType::AccessToken, text, &app.config.issuer) else {
        return Ok(None);
    };
    let now = app.now();
    if claims.exp <= now || !client.introspects.contains(&claims.aud) {
        return Ok(None);
    }
    let session = match claims.sid {
        Some(sid) => session::load(app.store(), sid).await?,
        None => None,
    };
    if claims.sid.is_some() && session.is_none() {
        return Ok(None);
    }
    let end = session.as_ref().map_or(claims.exp, |session| session.end);
    Ok(Some(Subject {
        sub: claims.sub,
        scope: claims.scope,
        end,
        auth_time: claims.auth_time,
        acr: claims.acr,
        amr: claims.amr,
        sid: claims.sid,
        parent: None,
        act: claims.act,
        profile: session.map(|session| session.profile).unwrap_or_default(),
    }))
}
