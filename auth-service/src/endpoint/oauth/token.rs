//! `POST /oauth2/token`: what each grant type gives. No implicit grant, no passwords.

mod device;
mod exchange;
mod refresh;

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use http::{HeaderMap, HeaderValue, Method, header};
use serde::Serialize;

use super::audiences::audiences;
use super::client_auth::authenticate;
use super::dpop;
use super::error::OAuthError;
use super::form::Form;
use super::id_token::{self, Occasion};
use crate::app::{App, Shared};
use crate::form::Parameters;
use crate::metrics::Outcome;
use crate::pkce::verifies;
use crate::record::client::{self, Client, GrantType};
use crate::record::code::{self, Code, Found, Spent};
use crate::record::grant::{self, Access, Facts, Grant, Refresh};
use crate::record::profile::Profile;
use crate::record::{registered, session, signed_in_at};

pub const PATH: &str = "/oauth2/token";

#[derive(Serialize)]
pub struct Answer {
    access_token: String,
    /// RFC 8693 §2.2.1
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

/// Who asks for what.
struct Request<'a> {
    client: Client,
    form: &'a Parameters,
    /// Thumbprint of the key whose possession was proved (RFC 9449).
    jkt: Option<String>,
}

/// What is to be issued, once a grant type's own checks have passed.
struct Issuing {
    id: TokenId,
    facts: Facts,
    profile: Profile,
    /// Of the person, when the decision was made.
    epoch: Option<u64>,
    /// Whether a refresh token goes with it, if the client may have one.
    refreshable: bool,
}

pub async fn token(State(app): State<Shared>, headers: HeaderMap, Form(form): Form) -> Result<Response, OAuthError> {
    let result = answer(&app, &headers, &form).await;
    let outcome = if result.is_ok() { "success" } else { "failure" };
    app.metrics.tokens.get_or_create(&Outcome { outcome }).inc();
    let mut response = axum::Json(result?).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn answer(app: &App, headers: &HeaderMap, form: &Parameters) -> Result<Answer, OAuthError> {
    let client = authenticate(app, headers, form).await?;
    let jkt = dpop::proved(app, headers, &dpop::Use { method: &Method::POST, path: PATH, access_token: None }).await?;
    if jkt.is_none() && client.dpop_bound_access_tokens {
        return Err(OAuthError::InvalidDpopProof("this client's tokens are bound to a key: DPoP is missing"));
    }
    let request = Request { client, form, jkt };
    let Some(named) = form.get("grant_type") else {
        return Err(OAuthError::InvalidRequest("grant_type is missing".to_owned()));
    };
    let grant_type = GrantType::named(named).ok_or(OAuthError::UnsupportedGrantType)?;
    if !request.client.allows(grant_type) {
        return Err(OAuthError::UnauthorizedClient);
    }
    let answer = by_grant(app, &request, grant_type).await?;
    if let Err(error) = registered::used(app.store(), &request.client, &app.config.registration, app.now()).await {
        // It has its tokens, and will come again.
        tracing::warn!(%error, client_id = request.client.client_id, "a client's use was not written down");
    }
    Ok(answer)
}

async fn by_grant(app: &App, request: &Request<'_>, grant_type: GrantType) -> Result<Answer, OAuthError> {
    let issuing = match grant_type {
        GrantType::AuthorizationCode => by_code(app, request).await?,
        GrantType::RefreshToken => return refresh::by_refresh(app, request).await,
        GrantType::ClientCredentials => by_credentials(app, request)?,
        GrantType::DeviceCode => device::by_device_code(app, request).await?,
        GrantType::TokenExchange => exchange::exchange(app, request).await?,
    };
    let mut answer = issue(app, request, issuing).await?;
    if grant_type == GrantType::TokenExchange {
        answer.issued_token_type = Some(exchange::ACCESS_TOKEN);
    }
    Ok(answer)
}

async fn by_code(app: &App, request: &Request<'_>) -> Result<Issuing, OAuthError> {
    let Request { client, form, jkt } = request;
    let missing = |name: &str| OAuthError::InvalidRequest(format!("{name} is missing"));
    let text = form.get("code").ok_or_else(|| missing("code"))?;
    let verifier = form.get("code_verifier").ok_or_else(|| missing("code_verifier"))?;
    let redirect_uri = form.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    let Found { code, spent } =
        code::find(app.store(), text).await?.ok_or(OAuthError::InvalidGrant("unknown or expired code"))?;
    let asked = &code.request;
    let fits = !asked.for_policy && asked.client_id == client.client_id && asked.redirect_uri == redirect_uri;
    if !fits || !verifies(verifier, &asked.code_challenge) {
        return Err(OAuthError::InvalidGrant("client, redirect URI or verifier do not fit the code"));
    }
    // RFC 9449 §10
    if asked.dpop_jkt.is_some() && asked.dpop_jkt != *jkt {
        return Err(OAuthError::InvalidDpopProof("the code is bound to another key"));
    }
    if let Some(Spent::Grant(id)) = spent {
        replayed(app, client, id).await?;
        return Err(OAuthError::InvalidGrant("code used before"));
    }
    let id = app.random.with(TokenId::generate);
    if !code::spend(app.store(), text, &Spent::Grant(id)).await? {
        // Whoever was faster has written which grant that became.
        if let Some(Found { spent: Some(Spent::Grant(id)), .. }) = code::find(app.store(), text).await? {
            replayed(app, client, id).await?;
        }
        return Err(OAuthError::InvalidGrant("code used before"));
    }
    of_code(app, client, id, &code).await
}

/// RFC 6749 §4.1.2.
async fn replayed(app: &App, client: &Client, grant: TokenId) -> Result<(), OAuthError> {
    crate::audit::record("code.replayed", &client.client_id, grant, "the grant is revoked");
    // It may not even be written yet.
    crate::revoke::grant(app, grant).await?;
    Ok(())
}

async fn of_code(app: &App, client: &Client, id: TokenId, code: &Code) -> Result<Issuing, OAuthError> {
    let now = app.now();
    let session =
        session::load(app.store(), code.sid).await?.ok_or(OAuthError::InvalidGrant("signed out meanwhile"))?;
    let request = &code.request;
    let offline = request.scope.split(' ').any(|scope| scope == "offline_access");
    let end = now + app.config.tokens.grant_seconds;
    if client.backchannel_logout_uri.is_some() {
        let life = Duration::from_secs(session.end.saturating_sub(now) + 1);
        signed_in_at::add(app.store(), code.sid, &client.client_id, life).await?;
    }
    let facts = Facts {
        client_id: request.client_id.clone(),
        sub: code.sub.clone(),
        sid: (!offline).then_some(code.sid),
        given_in: offline.then_some(code.sid),
        parent: None,
        scope: request.scope.clone(),
        aud: request.aud.clone(),
        auth_time: Some(session.facts.auth_time),
        acr: Some(session.facts.acr.clone()),
        amr: session.facts.amr.clone(),
        nonce: request.nonce.clone(),
        act: None,
        jkt: None,
        created: now,
        end: if offline { end } else { end.min(session.end) },
    };
    Ok(Issuing { id, facts, profile: session.profile, epoch: Some(code.epoch), refreshable: true })
}

fn by_credentials(app: &App, Request { client, form, .. }: &Request<'_>) -> Result<Issuing, OAuthError> {
    let scope = client.scope_for(form.get("scope")).ok_or(OAuthError::InvalidScope)?;
    let aud = audiences(app, client, form).ok_or(OAuthError::InvalidTarget)?;
    let now = app.now();
    let facts = Facts {
        client_id: client.client_id.clone(),
        // RFC 9068 §2.2: no person is behind it.
        sub: client.client_id.clone(),
        sid: None,
        given_in: None,
        parent: None,
        scope,
        aud,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        nonce: None,
        act: None,
        jkt: None,
        created: now,
        end: now + app.config.tokens.access_seconds,
    };
    let id = app.random.with(TokenId::generate);
    Ok(Issuing { id, facts, profile: Profile::default(), epoch: None, refreshable: false })
}

async fn issue(app: &App, request: &Request<'_>, issuing: Issuing) -> Result<Answer, OAuthError> {
    let client = &request.client;
    let now = app.now();
    let Issuing { id, facts, profile, epoch, refreshable } = issuing;
    let mut grant = Grant::new(id, facts, profile);
    let access = add_access(app, &mut grant, None, request.jkt.clone(), now);
    let refresh =
        (refreshable && client.allows(GrantType::RefreshToken)).then(|| new_token(app, TokenKind::Refresh, id));
    if let Some(token) = &refresh {
        grant.refresh = Some(Refresh { current: vec![token.secret_hash().into()], ..Refresh::default() });
        // A confidential client's secret binds its refresh tokens already.
        grant.facts.jkt = request.jkt.clone().filter(|_| client.is_public());
    }
    grant::create(app.store(), &grant, epoch, now).await?;
    // Whoever removes a client looks for its grants after that: either this one is among them, or the client is gone by now.
    if client::load(app.store(), &client.client_id).await?.is_none() {
        crate::revoke::grant(app, grant.id).await?;
        return Err(OAuthError::InvalidClient);
    }
    crate::audit::record("grant.issued", &client.client_id, &grant.facts.sub, grant.id);
    let nonce = grant.facts.nonce.as_deref();
    respond(app, client, &grant, &Issued { access: &access, refresh: refresh.as_ref(), nonce }, now).await
}

fn new_token(app: &App, kind: TokenKind, id: TokenId) -> OpaqueToken {
    app.random.with(|rng| OpaqueToken::with_id(kind, id, rng))
}

fn add_access(app: &App, grant: &mut Grant, scope: Option<String>, jkt: Option<String>, now: u64) -> OpaqueToken {
    let token = new_token(app, TokenKind::Access, grant.id);
    let exp = (now + app.config.tokens.access_seconds).min(grant.facts.end);
    grant.add_access(Access { hash: token.secret_hash().into(), iat: now, exp, scope, jkt }, now);
    token
}

/// The tokens of an answer; the access token is the grant's newest.
struct Issued<'a> {
    access: &'a OpaqueToken,
    refresh: Option<&'a OpaqueToken>,
    nonce: Option<&'a str>,
}

async fn respond(
    app: &App,
    client: &Client,
    grant: &Grant,
    issued: &Issued<'_>,
    now: u64,
) -> Result<Answer, OAuthError> {
    let newest = grant.access.last();
    let scope = newest.and_then(|access| access.scope.clone()).unwrap_or_else(|| grant.facts.scope.clone());
    // An exchanged token is for calling somebody, not for knowing who signed in.
    let openid =
        grant.facts.auth_time.is_some() && grant.facts.act.is_none() && scope.split(' ').any(|scope| scope == "openid");
    let id_token = if openid {
        let occasion = Occasion { access_token: issued.access.expose(), scope: &scope, nonce: issued.nonce, now };
        Some(id_token::mint(app, client, grant, &occasion).await?)
    } else {
        None
    };
    Ok(Answer {
        access_token: issued.access.expose().to_owned(),
        issued_token_type: None,
        token_type: if newest.is_some_and(|access| access.jkt.is_some()) { "DPoP" } else { "Bearer" },
        expires_in: newest.map_or(now, |access| access.exp).saturating_sub(now),
        scope,
        refresh_token: issued.refresh.map(|token| token.expose().to_owned()),
        id_token,
    })
}
