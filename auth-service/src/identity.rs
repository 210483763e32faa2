//! What an opaque token stands for at one audience. Pure, but for the loading; every way to ask (sidecar, gateway, administrator) ends
//! here.

use cloakroom_protocol::credential::CredentialRef;
use cloakroom_protocol::presented::Kind;
use cloakroom_protocol::registration::PolicyRegistration;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use serde_json::{Map, Value};

use crate::record::act::Actor;
use crate::record::api_key::{self, ApiKey};
use crate::record::grant::{self, Grant};
use crate::record::hash::StoredHash;
use crate::record::profile::Profile;
use crate::record::session::{self, SeatedSession, Terms};
use crate::registry::{Holder, Registry, terms};
use crate::store::{Store, StoreError};

/// A use is written down only when the last one is this long ago, or a twentieth of the idle time: reading costs no write.
const TOUCH_EVERY: u64 = 60;

#[derive(Clone, Debug)]
pub struct Identity {
    pub kind: Kind,
    pub id: TokenId,
    pub sub: String,
    pub client_id: String,
    pub scope: String,
    /// The opaque token's own end, Unix seconds.
    pub exp: u64,
    /// When it ends if it is not used again; nothing minted for it may last longer.
    pub not_beyond: u64,
    pub iat: u64,
    pub auth_time: Option<u64>,
    pub acr: Option<String>,
    pub amr: Vec<String>,
    pub sid: Option<TokenId>,
    pub profile: Profile,
    pub session: Map<String, Value>,
    pub session_version: u64,
    /// Audiences of the token; a session's is its policy's.
    pub aud: Vec<String>,
    /// Who acts for the subject (RFC 8693 §4.1).
    pub act: Option<Actor>,
    /// Thumbprint of the key that the token is bound to (RFC 9449).
    pub jkt: Option<String>,
    pub touch: Option<Touch>,
}

/// A use to be written down.
#[derive(Clone, Debug)]
pub enum Touch {
    Session(Box<session::Session>, u64),
    ApiKey(Box<ApiKey>, u64),
}

/// Who asks about a token.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    /// A sidecar: sessions of this policy only, and tokens for its audience.
    Policy(&'a PolicyRegistration),
    /// A gateway or resource server, for these audiences; no sessions.
    Audiences(&'a [String], &'a Registry),
    /// The client that a token was issued to.
    Client(&'a str, &'a Registry),
    /// An administrator.
    Anyone(&'a Registry),
}

/// `None` is "not active", whatever the reason: unknown, expired, revoked, or meant for somebody else (RFC 7662 §2.2).
pub async fn identify(
    store: &dyn Store,
    token: &OpaqueToken,
    asker: Asker<'_>,
    idle_for: Option<u64>,
    now: u64,
) -> Result<Option<Identity>, StoreError> {
    match token.kind() {
        TokenKind::Session => match asker {
            Asker::Policy(policy) => {
                let client = policy.policy.to_string();
                let Some(seated) = session::load_seat(store, token.id(), &client).await? else { return Ok(None) };
                Ok(of_session(token, client, seated, terms(policy), idle_for, now, &policy.audience))
            }
            Asker::Anyone(registry) => {
                let Some((client, seated)) = session::find_seat(store, token).await? else { return Ok(None) };
                let Some(policy) = registry.get(&client) else { return Ok(None) };
                Ok(of_session(token, client, seated, terms(&policy), idle_for, now, &policy.audience))
            }
            Asker::Audiences(..) | Asker::Client(..) => Ok(None),
        },
        TokenKind::Access => {
            let Some(grant) = grant::load(store, token.id()).await? else { return Ok(None) };
            let client = CredentialRef::of_client_id(&grant.facts.client_id);
            let identity = of_access(token, grant, now);
            Ok(identity.and_then(|identity| judge(identity, client.as_ref(), asker)))
        }
        TokenKind::ApiKey => {
            let Some(api_key) = api_key::load(store, token.id()).await? else { return Ok(None) };
            let of = api_key.facts.of.clone();
            let identity = of_api_key(token, api_key, now);
            Ok(identity.and_then(|identity| judge(identity, of.as_ref(), asker)))
        }
        // A refresh token is for the token endpoint alone.
        TokenKind::Refresh => Ok(None),
    }
}

/// `of`: the resource that asked for the credential, if one did.
fn judge(identity: Identity, of: Option<&CredentialRef>, asker: Asker<'_>) -> Option<Identity> {
    let identity = match of {
        Some(of) => at_home(identity, of.namespace(), asker)?,
        None => identity,
    };
    is_meant_for(&identity, asker).then_some(identity)
}

fn is_meant_for(identity: &Identity, asker: Asker<'_>) -> bool {
    match asker {
        Asker::Policy(policy) => identity.aud.contains(&policy.audience),
        Asker::Audiences(audiences, _) => identity.aud.iter().any(|aud| audiences.contains(aud)),
        Asker::Client(client, _) => identity.client_id == client,
        Asker::Anyone(_) => true,
    }
}

/// What a resource of some namespace asked for counts at that namespace's policies only. That was judged when it was registered; but audiences
/// come and go with policies, and the next to hold one may be another namespace.
fn at_home(mut identity: Identity, namespace: &str, asker: Asker<'_>) -> Option<Identity> {
    match asker {
        Asker::Policy(policy) => (policy.policy.namespace() == namespace).then_some(identity),
        Asker::Audiences(_, registry) | Asker::Client(_, registry) => {
            identity.aud.retain(|aud| registry.holder(aud) == Holder::Namespace(namespace.to_owned()));
            Some(identity)
        }
        Asker::Anyone(_) => Some(identity),
    }
}

fn of_session(
    token: &OpaqueToken,
    client: String,
    seated: SeatedSession,
    terms: Terms,
    idle_for: Option<u64>,
    now: u64,
    audience: &str,
) -> Option<Identity> {
    let SeatedSession { session, seat, data, version } = seated;
    if !seat.secret.matches(&StoredHash::from(token.secret_hash())) || !session.is_within(terms, now) {
        return None;
    }
    let used = now.saturating_sub(idle_for.unwrap_or(0)).max(session.last_used);
    let exp = session.end_under(terms);
    let granularity = TOUCH_EVERY.min(terms.idle / 20).max(1);
    let profile = session.profile.clone();
    Some(Identity {
        kind: TokenKind::Session.into(),
        id: session.id,
        sub: session.facts.sub.clone(),
        client_id: client,
        scope: profile.scopes.join(" "),
        exp,
        not_beyond: exp.min(used.saturating_add(terms.idle)),
        iat: seat.issued,
        auth_time: Some(session.facts.auth_time),
        acr: Some(session.facts.acr.clone()),
        amr: session.facts.amr.clone(),
        sid: Some(session.id),
        profile,
        session: data,
        session_version: version,
        aud: vec![audience.to_owned()],
        act: None,
        jkt: None,
        touch: (used >= session.last_used + granularity).then(|| Touch::Session(Box::new(session), used)),
    })
}

fn of_access(token: &OpaqueToken, grant: Grant, now: u64) -> Option<Identity> {
    let hash = StoredHash::from(token.secret_hash());
    let access = grant.live_access(&hash, now)?.clone();
    let facts = grant.facts;
    let exp = access.exp.min(facts.end);
    Some(Identity {
        kind: TokenKind::Access.into(),
        id: grant.id,
        sub: facts.sub,
        client_id: facts.client_id,
        scope: access.scope.unwrap_or(facts.scope),
        exp,
        not_beyond: exp,
        iat: access.iat,
        auth_time: facts.auth_time,
        acr: facts.acr,
        amr: facts.amr,
        sid: facts.sid,
        profile: grant.profile,
        session: Map::new(),
        session_version: 0,
        aud: facts.aud,
        act: facts.act,
        jkt: access.jkt,
        touch: None,
    })
}

fn of_api_key(token: &OpaqueToken, api_key: ApiKey, now: u64) -> Option<Identity> {
    let facts = &api_key.facts;
    // A key without an end is asked for again within the hour, as everything else is.
    let exp = api_key.end_of(&StoredHash::from(token.secret_hash()), now + 3600)?;
    if exp <= now {
        return None;
    }
    Some(Identity {
        kind: TokenKind::ApiKey.into(),
        id: api_key.id,
        sub: facts.sub.clone(),
        client_id: format!("api-key:{}", api_key.id),
        scope: facts.scope.clone(),
        exp,
        not_beyond: exp,
        iat: facts.created,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        sid: None,
        profile: api_key.profile.clone(),
        session: Map::new(),
        session_version: 0,
        aud: facts.aud.clone(),
        act: None,
        jkt: None,
        touch: (api_key.last_used.unwrap_or(0) + TOUCH_EVERY <= now).then(|| Touch::ApiKey(Box::new(api_key), now)),
    })
}

/// Writes a use down.
pub async fn touch(store: &dyn Store, touch: &Touch, now: u64) -> Result<(), StoreError> {
    match touch {
        Touch::Session(session, used) => session::touch(store, session, *used, now).await,
        Touch::ApiKey(api_key, used) => api_key::touch(store, api_key, *used).await,
    }
}
