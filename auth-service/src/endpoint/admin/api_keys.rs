//! `/admin/v1/api-keys`: made for a user or a service, shown once, listed by their public id.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::credential::CredentialRef;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::{OpaqueToken, TokenId, TokenKind};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::end;
use super::input::{InBody, InPath, InQuery, List, Paging, Wait, whole};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::record::api_key::{self, ApiKey, Facts};
use crate::record::client::is_scope;
use crate::record::hash::Before;
use crate::record::profile::Profile;
use crate::record::user;
use crate::revoke;
use crate::store::Updated;

/// Ten years, in seconds.
const MAX_LIFE: u64 = 315_360_000;
const DEFAULT_OVERLAP: u64 = 86_400;
/// 30 days, in seconds.
const MAX_OVERLAP: u64 = 2_592_000;
const MAX_NAME: usize = 256;
const MAX_LIST: usize = 100;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    #[serde(default)]
    #[schema(max_length = 256)]
    name: String,
    /// Id of the user it acts for; or
    user: Option<String>,
    /// the name of a service, which becomes the subject `service:<name>`.
    service: Option<String>,
    #[serde(default)]
    #[schema(max_items = 100)]
    scopes: Vec<String>,
    /// Audiences of the policies where it counts.
    #[schema(min_items = 1, max_items = 100)]
    audiences: Vec<String>,
    /// Seconds; absent: until it is revoked.
    #[serde(default, deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct Shown {
    #[schema(value_type = String)]
    id: TokenId,
    name: String,
    sub: String,
    /// The `ApiKey` resource, `<namespace>/<name>`, that it is of; it is changed and rotated there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    resource: Option<CredentialRef>,
    scopes: Vec<String>,
    audiences: Vec<String>,
    /// Unix seconds, as are the following.
    created: u64,
    /// Absent: until it is revoked.
    expires: Option<u64>,
    /// To the minute.
    last_used: Option<u64>,
    /// While a rotation overlaps: until when the secret before it is good.
    old_secret_until: Option<u64>,
    /// Shown once, when it was made or rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
}

impl Shown {
    fn of(key: ApiKey, api_key: Option<String>) -> Self {
        Self {
            id: key.id,
            name: key.facts.name,
            sub: key.facts.sub,
            resource: key.facts.of,
            scopes: key.facts.scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            audiences: key.facts.aud,
            created: key.facts.created,
            expires: key.facts.end,
            last_used: key.last_used,
            old_secret_until: key.facts.before.map(|before| before.until),
            api_key,
        }
    }
}

#[utoipa::path(
    post, path = "/api-keys", tag = "api-keys", summary = "Make an API key, shown this once", request_body = NewKey,
    responses((status = 201, body = Shown), (status = 404, description = "There is no such active user."))
)]
pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    InBody(new): InBody<NewKey>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    validate(&new)?;
    let (sub, profile, epoch) = owner(&app, &new).await?;
    let now = app.now();
    let token = app.random.with(|rng| OpaqueToken::generate(TokenKind::ApiKey, rng));
    let facts = Facts {
        sub,
        of: None,
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
    Ok((StatusCode::CREATED, Json(Shown::of(key, Some(token.expose().to_owned())))))
}

fn validate(new: &NewKey) -> Result<(), ApiError> {
    let refuse = |sentence: String| Err(ApiError::Unprocessable(sentence));
    if new.name.chars().count() > MAX_NAME || new.name.chars().any(char::is_control) {
        return refuse(format!("name: at most {MAX_NAME} characters, none of them a control character"));
    }
    let is_audience = |aud: &String| !aud.is_empty() && aud.len() <= 512 && !aud.contains([' ', '\0']);
    if !(1..=MAX_LIST).contains(&new.audiences.len()) || !new.audiences.iter().all(is_audience) {
        return refuse("audiences: those of the policies where the key counts".to_owned());
    }
    if new.scopes.len() > MAX_LIST {
        return refuse(format!("scopes: at most {MAX_LIST}"));
    }
    if let Some(scope) = new.scopes.iter().find(|scope| !is_scope(scope)) {
        return refuse(format!("scopes: {scope:?} is not a scope"));
    }
    if new.expires_in.is_some_and(|seconds| !(1..=MAX_LIFE).contains(&seconds)) {
        return refuse(format!("expires_in: 1 to {MAX_LIFE} seconds"));
    }
    Ok(())
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

#[utoipa::path(
    get, path = "/api-keys", tag = "api-keys", summary = "List API keys", params(Paging),
    responses((status = 200, body = List<Shown>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    let (keys, held) = api_key::list(app.store(), paging.offset(), paging.limit()).await?;
    Ok(Json(List::page(keys.into_iter().map(|key| Shown::of(key, None)).collect(), held, paging)))
}

#[utoipa::path(
    get, path = "/api-keys/{id}", tag = "api-keys", summary = "An API key", params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")),
    responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<Json<Shown>, ApiError> {
    let key = api_key::load(app.store(), id).await?.ok_or(ApiError::NotFound("no such API key"))?;
    Ok(Json(Shown::of(key, None)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRotation {
    /// Seconds that the old secret stays good, so that whoever uses it has time to change; 0: it has leaked.
    #[serde(default, deserialize_with = "whole")]
    #[schema(default = 86_400, minimum = 0, maximum = 2_592_000)]
    overlap: Option<u64>,
}

#[utoipa::path(
    post, path = "/api-keys/{id}/rotate", tag = "api-keys", summary = "Make a new secret under the same id, scopes and end, shown this once",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")), request_body = SecretRotation,
    responses((status = 200, body = Shown), (status = 409, description = "Somebody else is rotating the key, or it is of an ApiKey resource."))
)]
pub async fn rotate(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
    InBody(SecretRotation { overlap }): InBody<SecretRotation>,
) -> Result<Json<Shown>, ApiError> {
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
    if overlap > MAX_OVERLAP {
        return Err(ApiError::Unprocessable(format!("overlap: at most {MAX_OVERLAP} seconds")));
    }
    let now = app.now();
    let alive = |key: &ApiKey| key.facts.end.is_none_or(|end| now < end);
    let key = api_key::load(app.store(), id).await?.filter(alive);
    let mut key = key.ok_or(ApiError::NotFound("no such API key"))?;
    if let Some(of) = &key.facts.of {
        return Err(ApiError::Conflict(format!("the key is of ApiKey {of}: change spec.rotation there")));
    }
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
    Ok(Json(Shown::of(key, Some(token.expose().to_owned()))))
}

/// Idempotent.
#[utoipa::path(
    delete, path = "/api-keys/{id}", tag = "api-keys", summary = "Revoke an API key",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$"), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("api-key.revoked", &admin, id, "");
    end(&app, id, wait).await
}
