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
use crate::record::api_key::{self, ApiKey, Facts};
use crate::record::client::is_scope;
use crate::record::profile::Profile;
use crate::record::user;
use crate::revoke;

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
        created: now,
        end: new.expires_in.map(|seconds| now.saturating_add(seconds)),
    };
    let key = ApiKey { id: token.id(), facts, profile, last_used: None };
    api_key::create(app.store(), &key, epoch, now).await?;
    crate::audit::record("api-key.created", &admin, &key.facts.sub, key.id);
    let mut shown = show(&key);
    if let Some(object) = shown.as_object_mut() {
        object.insert("api_key".to_owned(), Value::from(token.expose()));
    }
    Ok((StatusCode::CREATED, Json(shown)).into_response())
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
