//! `POST /oauth2/token`: authorization code, refresh token, client credentials. No implicit grant, no passwords.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;

use super::client_auth::authenticate;
use super::error::OAuthError;
use super::form::Form;
use super::id_token::{self, Occasion};
use crate::app::{App, Shared};
use crate::form::Parameters;
use crate::metrics::Outcome;
use crate::pkce::verifies;
use crate::record::client::{Client, GrantType};
use crate::record::code::{self, Code, Found, Spent};
use crate::record::grant::{self, Access, Facts, Grant, Presented, Refresh};
use crate::record::hash::StoredHash;
use crate::record::profile::Profile;
use crate::record::session;
use crate::store::Updated;

/// Tries against a grant that the same client refreshes at the same time.
const TRIES: usize = 8;

#[derive(Serialize)]
struct Answer {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
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
    let allowed = |grant| if client.allows(grant) { Ok(()) } else { Err(OAuthError::UnauthorizedClient) };
    match form.get("grant_type") {
        Some("authorization_code") => {
            allowed(GrantType::AuthorizationCode)?;
            by_code(app, &client, form).await
        }
        Some("refresh_token") => {
            allowed(GrantType::RefreshToken)?;
            by_refresh(app, &client, form).await
        }
        Some("client_credentials") => {
            allowed(GrantType::ClientCredentials)?;
            by_credentials(app, &client, form).await
        }
        Some(_) => Err(OAuthError::UnsupportedGrantType),
        None => Err(OAuthError::InvalidRequest("grant_type is missing".to_owned())),
    }
}

async fn by_code(app: &App, client: &Client, form: &Parameters) -> Result<Answer, OAuthError> {
    let missing = |name: &str| OAuthError::InvalidRequest(format!("{name} is missing"));
    let text = form.get("code").ok_or_else(|| missing("code"))?;
    let verifier = form.get("code_verifier").ok_or_else(|| missing("code_verifier"))?;
    let redirect_uri = form.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    let Found { code, spent } =
        code::find(app.store(), text).await?.ok_or(OAuthError::InvalidGrant("unknown or expired code"))?;
    let request = &code.request;
    let fits = !request.for_policy && request.client_id == client.client_id && request.redirect_uri == redirect_uri;
    if !fits || !verifies(verifier, &request.code_challenge) {
        return Err(OAuthError::InvalidGrant("client, redirect URI or verifier do not fit the code"));
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
    let grant = grant_of(app, id, &code).await?;
    issue_new(app, client, grant, Some(code.epoch)).await
}

/// RFC 6749 §4.1.2.
async fn replayed(app: &App, client: &Client, grant: TokenId) -> Result<(), OAuthError> {
    crate::audit::record("code.replayed", &client.client_id, grant, "the grant is revoked");
    // It may not even be written yet.
    crate::revoke::grant(app, grant).await?;
    Ok(())
}

async fn grant_of(app: &App, id: TokenId, code: &Code) -> Result<Grant, OAuthError> {
    let now = app.now();
    let session =
        session::load(app.store(), code.sid).await?.ok_or(OAuthError::InvalidGrant("signed out meanwhile"))?;
    let request = &code.request;
    let offline = request.scope.split(' ').any(|scope| scope == "offline_access");
    let end = now + app.config.tokens.grant_seconds;
    let facts = Facts {
        client_id: request.client_id.clone(),
        sub: code.sub.clone(),
        sid: (!offline).then_some(code.sid),
        scope: request.scope.clone(),
        aud: request.aud.clone(),
        auth_time: Some(session.facts.auth_time),
        acr: Some(session.facts.acr.clone()),
        amr: session.facts.amr.clone(),
        nonce: request.nonce.clone(),
        created: now,
        end: if offline { end } else { end.min(session.end) },
    };
    Ok(Grant::new(id, facts, session.profile))
}

async fn by_credentials(app: &App, client: &Client, form: &Parameters) -> Result<Answer, OAuthError> {
    let scope = client.scope_for(form.get("scope")).ok_or(OAuthError::InvalidScope)?;
    let aud = audiences(client, form)?;
    let now = app.now();
    let facts = Facts {
        client_id: client.client_id.clone(),
        // RFC 9068 §2.2: no person is behind it.
        sub: client.client_id.clone(),
        sid: None,
        scope,
        aud,
        auth_time: None,
        acr: None,
        amr: Vec::new(),
        nonce: None,
        created: now,
        end: now + app.config.tokens.access_seconds,
    };
    let id = app.random.with(TokenId::generate);
    issue_new(app, client, Grant::new(id, facts, Profile::default()), None).await
}

/// `resource` (RFC 8707) or `audience`; all that the client may have if neither is given.
pub fn audiences(client: &Client, form: &Parameters) -> Result<Vec<String>, OAuthError> {
    let mut asked = form.list("resource");
    asked.extend(form.list("audience"));
    client.audiences_for(&asked).ok_or(OAuthError::InvalidTarget)
}

async fn issue_new(app: &App, client: &Client, mut grant: Grant, epoch: Option<u64>) -> Result<Answer, OAuthError> {
    let now = app.now();
    let access = add_access(app, &mut grant, None, now);
    let for_person = epoch.is_some();
    let refresh =
        (for_person && client.allows(GrantType::RefreshToken)).then(|| new_token(app, TokenKind::Refresh, grant.id));
    if let Some(token) = &refresh {
        grant.refresh = Some(Refresh { current: vec![token.secret_hash().into()], ..Refresh::default() });
    }
    grant::create(app.store(), &grant, epoch, now).await?;
    crate::audit::record("grant.issued", &client.client_id, &grant.facts.sub, grant.id);
    let nonce = grant.facts.nonce.clone();
    respond(app, &grant, &Issued { access: &access, refresh: refresh.as_ref(), scope: None, nonce }, now)
}

async fn by_refresh(app: &App, client: &Client, form: &Parameters) -> Result<Answer, OAuthError> {
    let unknown = || OAuthError::InvalidGrant("unknown, expired or revoked refresh token");
    let text =
        form.get("refresh_token").ok_or_else(|| OAuthError::InvalidRequest("refresh_token is missing".to_owned()))?;
    let token = OpaqueToken::parse(text.as_bytes()).map_err(|_| unknown())?;
    if token.kind() != TokenKind::Refresh {
        return Err(unknown());
    }
    let hash = StoredHash::from(token.secret_hash());
    for _ in 0..TRIES {
        let now = app.now();
        let grant = grant::load(app.store(), token.id()).await?;
        let mut grant = grant.filter(|grant| now < grant.facts.end).ok_or_else(unknown)?;
        if grant.facts.client_id != client.client_id {
            return Err(unknown());
        }
        let refresh = grant.refresh.take().ok_or_else(unknown)?;
        let judged = refresh.judge(&hash, now);
        match judged {
            Presented::Current | Presented::Repeated => {}
            Presented::Unknown => return Err(unknown()),
            Presented::Reused => {
                crate::audit::record("refresh.reused", &client.client_id, &grant.facts.sub, "the grant is revoked");
                crate::revoke::record(app, grant.id).await?;
                return Err(unknown());
            }
        }
        let scope = narrowed(&grant.facts.scope, form.get("scope"))?;
        let next = new_token(app, TokenKind::Refresh, grant.id);
        let grace = app.config.tokens.refresh_grace_seconds;
        grant.refresh = Some(refresh.rotated(judged, next.secret_hash().into(), now, grace));
        let access = add_access(app, &mut grant, scope.clone(), now);
        match grant::save_tokens(app.store(), &grant, now).await? {
            Updated::Yes => {
                let issued = Issued { access: &access, refresh: Some(&next), scope, nonce: None };
                return respond(app, &grant, &issued, now);
            }
            Updated::Missing => return Err(unknown()),
            Updated::Conflict => {}
        }
    }
    Err(OAuthError::Unavailable("the grant is refreshed by many at once".to_owned()))
}

/// RFC 6749 §6: no more than was granted.
fn narrowed(granted: &str, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    let Some(asked) = asked else { return Ok(None) };
    let within = asked.split(' ').all(|one| !one.is_empty() && granted.split(' ').any(|scope| scope == one));
    if within { Ok(Some(asked.to_owned())) } else { Err(OAuthError::InvalidScope) }
}

fn new_token(app: &App, kind: TokenKind, id: TokenId) -> OpaqueToken {
    app.random.with(|rng| OpaqueToken::with_id(kind, id, rng))
}

fn add_access(app: &App, grant: &mut Grant, scope: Option<String>, now: u64) -> OpaqueToken {
    let token = new_token(app, TokenKind::Access, grant.id);
    let exp = (now + app.config.tokens.access_seconds).min(grant.facts.end);
    grant.add_access(Access { hash: token.secret_hash().into(), iat: now, exp, scope }, now);
    token
}

struct Issued<'a> {
    access: &'a OpaqueToken,
    refresh: Option<&'a OpaqueToken>,
    /// Where it is less than the grant's.
    scope: Option<String>,
    nonce: Option<String>,
}

fn respond(app: &App, grant: &Grant, issued: &Issued<'_>, now: u64) -> Result<Answer, OAuthError> {
    let exp = grant.access.last().map_or(now, |access| access.exp);
    let scope = issued.scope.clone().unwrap_or_else(|| grant.facts.scope.clone());
    let openid = grant.facts.auth_time.is_some() && scope.split(' ').any(|scope| scope == "openid");
    let id_token = if openid {
        let nonce = issued.nonce.as_deref();
        let occasion = Occasion { access_token: issued.access.expose(), scope: &scope, nonce, now };
        Some(id_token::mint(app, grant, &occasion)?)
    } else {
        None
    };
    Ok(Answer {
        access_token: issued.access.expose().to_owned(),
        token_type: "Bearer",
        expires_in: exp.saturating_sub(now),
        scope,
        refresh_token: issued.refresh.map(|token| token.expose().to_owned()),
        id_token,
    })
}
