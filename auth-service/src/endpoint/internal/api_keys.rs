//! `/internal/v1/api-keys`: the operator says which API keys the `ApiKey` resources ask for, by their hashes.

use axum::extract::{Path, State};
use cloakroom_protocol::credential::ApiKeyRegistration;
use cloakroom_protocol::token::TokenId;
use http::StatusCode;

use super::credential::{Trail, allowed, conclude, refuse_audiences_of_others, refuse_long_overlap};
use crate::app::{App, Shared};
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::record::api_key::{self, ApiKey, Facts};
use crate::record::client::is_scope;
use crate::record::profile::Profile;
use crate::record::{RecordError, grant, key_of_resource, session};
use crate::revoke;
use crate::store::Updated;
use crate::workload::Caller;

const MAX_LIST: usize = 100;

const TRAIL: Trail = Trail { registered: "api-key.registered", refused: "api-key.refused", removed: "api-key.removed" };
const REVOKED: ApiError = ApiError::Gone("the key was revoked, and does not come back: it takes a new one");
const ANOTHERS: &str = "the id is somebody else's";
const MEANWHILE: &str = "somebody else registers the key at the same time";

pub async fn put(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
    JsonBody(body): JsonBody<ApiKeyRegistration>,
) -> Result<StatusCode, ApiError> {
    let of = allowed(&caller, &TRAIL, &namespace, &name)?;
    if body.of != of {
        return Err(ApiError::BadRequest("body and path name different keys".to_owned()));
    }
    conclude(register(&app, &body).await, &caller, &TRAIL, &of, body.id)
}

/// Whether anything changed.
async fn register(app: &App, wanted: &ApiKeyRegistration) -> Result<bool, ApiError> {
    validate(app, wanted)?;
    let store = app.store();
    let known = key_of_resource::load(store, &wanted.of).await?;
    let same = known.as_ref().filter(|known| known.id == wanted.id);
    let held = api_key::load(store, wanted.id).await?;
    if held.as_ref().is_some_and(|held| held.facts.of.as_ref() != Some(&wanted.of)) {
        return Err(ApiError::Conflict(ANOTHERS.to_owned()));
    }
    if same.is_some_and(|known| known.made) {
        return amend(app, held.ok_or(REVOKED)?, wanted).await;
    }
    if same.is_none() {
        refuse_others_id(app, wanted.id).await?;
        let before = known.map(|known| known.id);
        if let Some(before) = before {
            revoke::record(app, before).await?;
        }
        if !key_of_resource::announce(store, &wanted.of, before, wanted.id).await? {
            return Err(ApiError::Unavailable(MEANWHILE.to_owned()));
        }
    }
    make(app, held, wanted).await
}

/// Ids are no secret, and the Secret with the key is its namespace's to write: ending a key must not end somebody's session or grant.
async fn refuse_others_id(app: &App, id: TokenId) -> Result<(), ApiError> {
    for key in [session::key(id), grant::key(id)] {
        if app.store().read_all(&key).await?.is_some() {
            return Err(ApiError::Conflict(ANOTHERS.to_owned()));
        }
    }
    Ok(())
}

fn validate(app: &App, wanted: &ApiKeyRegistration) -> Result<(), ApiError> {
    let refuse = |sentence: &str| Err(ApiError::Unprocessable(sentence.to_owned()));
    if !(1..=MAX_LIST).contains(&wanted.audiences.len()) {
        return refuse("audiences: those of the policies where the key counts, 1 to 100");
    }
    refuse_audiences_of_others(app, wanted.of.namespace(), &wanted.audiences)?;
    if wanted.scopes.len() > MAX_LIST || !wanted.scopes.iter().all(|scope| is_scope(scope)) {
        return refuse("scopes: at most 100, each as RFC 6749 §3.3 has them");
    }
    refuse_long_overlap(app, wanted.before.as_ref())?;
    if wanted.expires.is_some_and(|end| end <= app.now()) {
        return refuse("expires: it has ended already");
    }
    Ok(())
}

fn facts(wanted: &ApiKeyRegistration, created: u64) -> Facts {
    Facts {
        sub: format!("service:{}", wanted.of),
        of: Some(wanted.of.clone()),
        name: wanted.of.to_string(),
        scope: wanted.scopes.join(" "),
        aud: wanted.audiences.clone(),
        secret: wanted.secret.into(),
        before: wanted.before.as_ref().map(Into::into),
        created,
        end: wanted.expires,
    }
}

/// One that is held already was made by a call that was cut off.
async fn make(app: &App, held: Option<ApiKey>, wanted: &ApiKeyRegistration) -> Result<bool, ApiError> {
    let (store, now) = (app.store(), app.now());
    if let Some(held) = held {
        amend(app, held, wanted).await?;
    } else {
        let key = ApiKey::new(wanted.id, facts(wanted, now), Profile::default());
        api_key::create(store, &key, None, now).await.map_err(|error| match error {
            RecordError::Revoked => REVOKED,
            error => error.into(),
        })?;
    }
    key_of_resource::made(store, &wanted.of, wanted.id, api_key::lasting(wanted.expires, now)).await?;
    Ok(true)
}

async fn amend(app: &App, mut held: ApiKey, wanted: &ApiKeyRegistration) -> Result<bool, ApiError> {
    let (store, now) = (app.store(), app.now());
    let facts = facts(wanted, held.facts.created);
    if held.facts == facts {
        return Ok(false);
    }
    held.facts = facts;
    match api_key::amend(store, &held, now).await? {
        Updated::Yes => {}
        Updated::Conflict => return Err(ApiError::Unavailable(MEANWHILE.to_owned())),
        Updated::Missing => return Err(REVOKED),
    }
    key_of_resource::made(store, &wanted.of, wanted.id, api_key::lasting(wanted.expires, now)).await?;
    // Sidecars ask again: what the key may do, and which secrets are good.
    revoke::updated(app, held.id).await?;
    Ok(true)
}

/// Idempotent.
pub async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let of = allowed(&caller, &TRAIL, &namespace, &name)?;
    if let Some(known) = key_of_resource::load(app.store(), &of).await? {
        revoke::record(&app, known.id).await?;
        key_of_resource::forget(app.store(), &of).await?;
        crate::audit::record(TRAIL.removed, caller.name(), &of, known.id);
    }
    Ok(StatusCode::NO_CONTENT)
}
