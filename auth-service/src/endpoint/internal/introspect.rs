//! `POST /internal/v1/introspect`: opaque token in, JWT and facts out, in one round trip to the store.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::internal_api::{IntrospectMany, MOST_TOKENS};
use cloakroom_protocol::introspection::{ActiveToken, Introspection, True};
use cloakroom_protocol::presented::ForeignToken;
use cloakroom_protocol::registration::PolicyRegistration;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;

use super::policy_for;
use crate::app::{App, Shared};
use crate::endpoint::caller::{FormOrJson, JsonBody};
use crate::endpoint::problem::ApiError;
use crate::events::coverage::{ATTEMPTS, Coverage, Covered};
use crate::identity::{Asker, Identity, identify, touch};
use crate::jwt::{Mint, mint};
use crate::metrics::Outcome;
use crate::store::to_json;
use crate::workload::Caller;

#[derive(Deserialize)]
pub struct Form {
    token: String,
    /// Needed but for administrators.
    policy: Option<String>,
    idle_for: Option<u64>,
}

pub async fn introspect(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    FormOrJson(form): FormOrJson<Form>,
) -> Result<Response, ApiError> {
    let coverage = Coverage::of(&app.hub, &headers);
    Ok(match counted(&app, &caller, &form, &coverage).await? {
        Answer::Active(facts, covered) => {
            let mut response = json(&Introspection::Active(facts));
            if covered == Covered::Yes {
                coverage.confirm(response.headers_mut());
            }
            response
        }
        Answer::Inactive => json(&Introspection::INACTIVE),
        Answer::Bare(facts) => json(&facts),
    })
}

/// A line for each token (see [`Introspection`]), read together: to the store they are one round trip.
pub async fn introspect_many(
    State(app): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(asked): JsonBody<IntrospectMany>,
) -> Result<Response, ApiError> {
    if asked.tokens.len() > MOST_TOKENS {
        return Err(ApiError::BadRequest(format!("tokens: {MOST_TOKENS} at most")));
    }
    policy_for(&app, &caller, &asked.policy)?;
    let coverage = Coverage::of(&app.hub, &headers);
    let answers = asked.tokens.into_iter().map(|token| {
        let form = Form { token, policy: Some(asked.policy.clone()), idle_for: None };
        let (app, caller, coverage) = (&app, &caller, &coverage);
        async move { counted(app, caller, &form, coverage).await }
    });
    let (mut lines, mut covers) = (String::new(), false);
    for answer in futures::future::join_all(answers).await {
        lines += &match answer {
            Ok(Answer::Active(mut active, covered)) => {
                active.covered = covered == Covered::Yes;
                covers |= active.covered;
                to_json(&active)
            }
            Ok(Answer::Inactive) => to_json(&Introspection::INACTIVE),
            Ok(Answer::Bare(_)) | Err(_) => "null".to_owned(),
        };
        lines.push('\n');
    }
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (headers, lines).into_response();
    if covers {
        coverage.confirm(response.headers_mut());
    }
    Ok(response)
}

async fn counted(app: &Shared, caller: &Caller, form: &Form, coverage: &Coverage<'_>) -> Result<Answer, ApiError> {
    let started = tokio::time::Instant::now();
    let result = answer(app, caller, form, coverage).await;
    let outcome = match &result {
        Ok(Answer::Active(..) | Answer::Bare(_)) => "active",
        Ok(Answer::Inactive) => "inactive",
        Err(ApiError::Unavailable(_)) => "unavailable",
        Err(_) => "refused",
    };
    app.metrics.introspections.get_or_create(&Outcome { outcome }).inc();
    app.metrics.introspection_seconds.observe(started.elapsed().as_secs_f64());
    result
}

enum Answer {
    Active(Box<ActiveToken>, Covered),
    Inactive,
    /// For an administrator who named no policy: facts without a JWT.
    Bare(serde_json::Value),
}

async fn answer(app: &Shared, caller: &Caller, form: &Form, coverage: &Coverage<'_>) -> Result<Answer, ApiError> {
    let policy = match &form.policy {
        Some(name) => Some(policy_for(app, caller, name)?),
        None if matches!(caller, Caller::Admin(_)) => None,
        None => return Err(ApiError::BadRequest("policy: missing".to_owned())),
    };
    // Junk costs no IO, unless a policy takes what may be junk.
    let Ok(token) = OpaqueToken::parse(form.token.as_bytes()) else {
        let token = ForeignToken::parse(form.token.as_bytes());
        return match (token, &policy) {
            (Ok(token), Some(policy)) if !policy.token_issuers.is_empty() => {
                foreign(app, &token, policy, coverage).await
            }
            _ => Ok(Answer::Inactive),
        };
    };
    let now = app.now();
    let asker = policy.as_ref().map_or(Asker::Anyone(&app.registry), |policy| Asker::Policy(policy));
    let mut attempts = 1..=ATTEMPTS;
    let (identity, covered) = loop {
        let began = coverage.begin();
        let identity = identify(app.store(), &token, asker, form.idle_for, now).await?;
        let Some(identity) = identity else { return Ok(Answer::Inactive) };
        match coverage.cover(began, &identity) {
            Covered::Overtaken if attempts.next().is_some() => {}
            covered => break (identity, covered),
        }
    };
    if policy.is_some() && identity.jkt.is_some() {
        // A sidecar sees no proof of the key that the token is bound to: whoever stole the token could present it (RFC 9449 §7.2).
        return Ok(Answer::Inactive);
    }
    if policy.is_some() {
        touch_later(app, &identity, now);
    }
    let Some(policy) = policy else { return Ok(Answer::Bare(bare(&identity))) };
    let active = active(app, identity, &policy, now)?;
    Ok(Answer::Active(Box::new(active), covered))
}

/// Of another issuer's token. There is no record of it, so nothing can change here but by words about its subject or client.
async fn foreign(
    app: &Shared,
    token: &ForeignToken,
    policy: &PolicyRegistration,
    coverage: &Coverage<'_>,
) -> Result<Answer, ApiError> {
    let mut attempts = 1..=ATTEMPTS;
    let (word, covered) = loop {
        let began = coverage.begin();
        let Some(word) = app.foreign.identify(token, policy, &app.metrics).await? else { return Ok(Answer::Inactive) };
        match coverage.cover(began, &word.identity) {
            Covered::Overtaken if attempts.next().is_some() => {}
            covered => break (word, covered),
        }
    };
    let mut active = active(app, word.identity, policy, app.now())?;
    active.believe_ms = word.believe_ms;
    Ok(Answer::Active(Box::new(active), covered))
}

/// Facts and JWT for a sidecar.
pub fn active(app: &App, identity: Identity, policy: &PolicyRegistration, now: u64) -> Result<ActiveToken, ApiError> {
    let jti = app.random.reference();
    let minted = mint(
        &app.ring,
        &identity,
        &Mint {
            issuer: &app.config.issuer,
            audience: &policy.audience,
            lifetime: policy.jwt.lifetime_seconds,
            claims: &policy.jwt.claims,
            jti: &jti,
            now,
        },
    )?;
    Ok(ActiveToken {
        active: True,
        kind: identity.kind,
        id: identity.id,
        sub: identity.sub,
        client_id: identity.client_id,
        scope: identity.scope,
        exp: identity.exp,
        iat: identity.iat,
        auth_time: identity.auth_time,
        acr: identity.acr,
        amr: identity.amr,
        sid: identity.sid,
        username: identity.profile.username,
        roles: identity.profile.roles,
        groups: identity.profile.groups,
        claims: minted.claims,
        session_version: identity.session_version,
        session: identity.session,
        jwt: minted.jwt,
        jwt_exp: minted.exp,
        believe_ms: None,
        covered: false,
    })
}

/// A use is written down beside the answer, not before it.
pub fn touch_later(app: &Shared, identity: &Identity, now: u64) {
    if let Some(what) = identity.touch.clone() {
        let app = Shared::clone(app);
        tokio::spawn(async move {
            if let Err(error) = touch(app.store(), &what, now).await {
                tracing::debug!(%error, "a use was not written down");
            }
        });
    }
}

fn bare(identity: &Identity) -> serde_json::Value {
    serde_json::json!({
        "active": true,
        "kind": identity.kind,
        "id": identity.id,
        "sub": identity.sub,
        "client_id": identity.client_id,
        "scope": identity.scope,
        "aud": identity.aud,
        "exp": identity.exp,
        "iat": identity.iat,
        "sid": identity.sid,
        "username": identity.profile.username,
        "session_version": identity.session_version,
        "token_type": if identity.kind == TokenKind::Session { "session" } else { "Bearer" },
    })
}

fn json<T: serde::Serialize>(body: &T) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, to_json(body)).into_response()
}
