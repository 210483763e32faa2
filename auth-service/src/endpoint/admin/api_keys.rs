//! `/admin/v1/api-keys`: made for a user or a service, shown once, listed by their public id.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{List, Paging, Wait};
use crate::app::Shared;
use crate::endpoint::caller::{Administrator, JsonBody};
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::api_key::{self, ApiKey, Before, Facts};
use crate::record::client::is_scope;
use crate::record::profile::Profile;
use crate::record::user;
use crate::revoke;
use crate::store::Updated;

const MAX_OVERLAP: u64 = 30 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    #[serde(default)]
    name: String,
    /// Id of the user it acts for; or
    user: Option<String>,
    /// the name of a service, which becomes the subject `service:<name>`.
    service: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    /// Audiences of the policies where it counts.
    audiences: Vec<String>,
    /// Seconds; absent: until it is revoked.
    expires_in: Option<u64>,
}

fn show(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.facts.name,
        "sub": key.facts.sub,
        "scopes": key.facts.scope.split(' ').filter(|scope| !scope.is_empty()).collect::<Vec<_>>(),
        "audiences": key.facts.aud,
        "created": key.facts.created,
        "expires": key.facts.end,
        "last_used": key.last_used,
        "old_secret_until": key.facts.before.as_ref().map(|before| before.until),
    })
}

pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(new): JsonBody<NewKey>,
) -> Result<Response, ApiError> {
    let (sub, profile, epoch) = owner(&app, &new).await?;
    if new.audiences.is_empty() || new.audiences.iter().any(|aud| aud.is_empty() || aud.contains(' ')) {
        return Err(ApiError::Unprocessable("audiences: those of the policies where the key counts".to_owned()));
    }
    if let Some(scope) = new.scopes.iter().find(|scope| !is_scope(scope)) {
        return Err(ApiError::Unprocessable(format!("scopes: {scope:?} is not a scope")));
    }
    let now = app.now();
    let token = app.random.with(|rng| OpaqueToken::generate(TokenKind::ApiKey, rng));
    let facts = Facts {
        sub,
        name: new.name,
        scope: new.scopes.join(" "),
        aud: new.audiences,
        secret: token.secret_hash().into(),
        before: None,
        created: now,
        end: new.expires_in.map(|seconds| now.saturating_add(seconds)),
    };
    let key = ApiKey::new(token.id(), facts, profile);
    api_key::create(app.store(), &key, epoch, now).await?;
    crate::audit::record("api-key.created", &admin, &key.facts.sub, key.id);
    Ok((StatusCode::CREATED, Json(with_secret(&key, &token))).into_response())
}

/// The one time that the key itself is shown.
fn with_secret(key: &ApiKey, token: &OpaqueToken) -> Value {
    let mut shown = show(key);
    if let Some(object) = shown.as_object_mut() {
        object.insert("api_key".to_owned(), Value::from(token.expose()));
    }
    shown
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// Seconds that the old secret stays good, so that whoever uses it has time to change.
    #[serde(default = "default_overlap")]
    overlap: u64,
}

fn default_overlap() -> u64 {
    86_400
}

/// A new secret under the same id, scopes and end.
pub async fn rotate(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<TokenId>,
    JsonBody(Rotation { overlap }): JsonBody<Rotation>,
) -> Result<Json<Value>, ApiError> {
    if overlap > MAX_OVERLAP {
        return Err(ApiError::Unprocessable(format!("overlap: at most {MAX_OVERLAP} seconds")));
    }
    let now = app.now();
    let alive = |key: &ApiKey| key.facts.end.is_none_or(|end| now < end);
    let key = api_key::load(app.store(), id).await?.filter(alive);
    let mut key = key.ok_or(ApiError::NotFound("no such API key"))?;
    let token = app.random.with(|rng| OpaqueToken::with_id(TokenKind::ApiKey, id, rng));
    let old = std::mem::replace(&mut key.facts.secret, token.secret_hash().into());
    key.facts.before = (overlap > 0).then(|| Before { secret: old, until: now.saturating_add(overlap) });
    match api_key::save(app.store(), &key).await? {
        Updated::Yes => {}
        Updated::Conflict => return Err(ApiError::Conflict("the key is being rotated by somebody else".to_owned())),
        Updated::Missing => return Err(ApiError::NotFound("no such API key")),
    }
    // Sidecars ask again, and learn when the old secret ends.
    revoke::updated(&app, id).await?;
    crate::audit::record("api-key.rotated", &admin, &key.facts.sub, id);
    Ok(Json(with_secret(&key, &token)))
}

pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    Path(id): Path<TokenId>,
) -> Result<Json<Value>, ApiError> {
    let key = api_key::load(app.store(), id).await?.ok_or(ApiError::NotFound("no such API key"))?;
    Ok(Json(show(&key)))
}

async fn owner(app: &Shared, new: &NewKey) -> Result<(String, Profile, Option<u64>), ApiError> {
    match (&new.user, &new.service) {
        (Some(id), None) => {
            let user = user::load(app.store(), id).await?.filter(|user| !user.details.disabled);
            let user = user.ok_or(ApiError::NotFound("no such active user"))?;
            Ok((user.id.clone(), user.profile(), Some(user.epoch)))
        }
        (None, Some(name)) if !name.is_empty() && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok((format!("service:{name}"), Profile::default(), None))
        }
        _ => Err(ApiError::Unprocessable("either user (an id) or service (a name)".to_owned())),
    }
}

pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    Query(paging): Query<Paging>,
) -> Result<Json<impl Serialize>, ApiError> {
    let keys = api_key::list(app.store(), paging.offset, paging.limit()).await?;
    Ok(Json(List::page(keys.iter().map(show).collect(), paging)))
}

pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<TokenId>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("api-key.revoked", &admin, id, "");
    let ended = revoke::record(&app, id).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
