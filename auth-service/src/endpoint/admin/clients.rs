//! `/admin/v1/clients`: registered OAuth clients. Secrets are ours, shown once.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::revocation::Receipt;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{List, Paging, Wait};
use crate::app::Shared;
use crate::endpoint::caller::{Administrator, JsonBody};
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::client::{self, Client, GrantType};
use crate::record::hash::StoredHash;
use crate::revoke;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewClient {
    client_id: String,
    #[serde(default)]
    name: String,
    /// No secret: native and browser applications.
    #[serde(default)]
    public: bool,
    #[serde(flatten)]
    settings: Settings,
}

#[derive(Deserialize, Serialize)]
pub struct Settings {
    #[serde(default)]
    redirect_uris: Vec<String>,
    #[serde(default)]
    post_logout_redirect_uris: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backchannel_logout_uri: Option<String>,
    #[serde(default)]
    grant_types: Vec<GrantType>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    introspects: Vec<String>,
    #[serde(default)]
    dpop_bound_access_tokens: bool,
    #[serde(default)]
    first_party: bool,
    #[serde(default)]
    require_mfa: bool,
}

/// Everything but id and secret.
#[derive(Deserialize)]
pub struct Replacement {
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    settings: Settings,
}

fn client(client_id: String, name: String, secret: Option<StoredHash>, settings: Settings) -> Result<Client, ApiError> {
    let client = Client {
        client_id,
        name,
        secret,
        redirect_uris: settings.redirect_uris,
        post_logout_redirect_uris: settings.post_logout_redirect_uris,
        backchannel_logout_uri: settings.backchannel_logout_uri,
        grant_types: settings.grant_types,
        scopes: settings.scopes,
        audiences: settings.audiences,
        introspects: settings.introspects,
        dpop_bound_access_tokens: settings.dpop_bound_access_tokens,
        first_party: settings.first_party,
        require_mfa: settings.require_mfa,
    };
    client.validate().map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    Ok(client)
}

fn show(client: &Client) -> Value {
    json!({
        "client_id": client.client_id,
        "name": client.name,
        "public": client.secret.is_none(),
        "redirect_uris": client.redirect_uris,
        "post_logout_redirect_uris": client.post_logout_redirect_uris,
        "backchannel_logout_uri": client.backchannel_logout_uri,
        "grant_types": client.grant_types,
        "scopes": client.scopes,
        "audiences": client.audiences,
        "introspects": client.introspects,
        "dpop_bound_access_tokens": client.dpop_bound_access_tokens,
        "first_party": client.first_party,
        "require_mfa": client.require_mfa,
    })
}

fn with_secret(client: &Client, secret: Option<&str>) -> Value {
    let mut shown = show(client);
    if let (Some(object), Some(secret)) = (shown.as_object_mut(), secret) {
        object.insert("client_secret".to_owned(), Value::from(secret));
    }
    shown
}

pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(new): JsonBody<NewClient>,
) -> Result<Response, ApiError> {
    let secret = (!new.public).then(|| app.random.secret());
    let hash = secret.as_deref().map(StoredHash::of_secret);
    let client = client(new.client_id, new.name, hash, new.settings)?;
    if !client::create(app.store(), &client).await? {
        return Err(ApiError::Conflict("the client id is taken".to_owned()));
    }
    crate::audit::record("client.created", &admin, &client.client_id, "");
    Ok((StatusCode::CREATED, Json(with_secret(&client, secret.as_deref()))).into_response())
}

pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    Query(paging): Query<Paging>,
) -> Result<Json<impl Serialize>, ApiError> {
    let clients = client::list(app.store(), paging.offset, paging.limit()).await?;
    Ok(Json(List::page(clients.iter().map(show).collect(), paging)))
}

pub async fn get(State(app): State<Shared>, _: Administrator, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let client = client::load(app.store(), &id).await?.ok_or(ApiError::NotFound("no such client"))?;
    Ok(Json(show(&client)))
}

/// Sets everything but id and secret; idempotent.
pub async fn replace(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
    JsonBody(new): JsonBody<Replacement>,
) -> Result<Json<Value>, ApiError> {
    let before = client::load(app.store(), &id).await?.ok_or(ApiError::NotFound("no such client"))?;
    let client = client(id, new.name, before.secret, new.settings)?;
    if !client::replace(app.store(), &client).await? {
        return Err(ApiError::NotFound("no such client"));
    }
    crate::audit::record("client.updated", &admin, &client.client_id, "");
    Ok(Json(show(&client)))
}

/// A new secret; the old one is refused from now on.
pub async fn new_secret(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let mut client = client::load(app.store(), &id).await?.ok_or(ApiError::NotFound("no such client"))?;
    if client.secret.is_none() {
        return Err(ApiError::Conflict("a public client has no secret".to_owned()));
    }
    let secret = app.random.secret();
    client.secret = Some(StoredHash::of_secret(&secret));
    client::replace(app.store(), &client).await?;
    crate::audit::record("client.secret-rotated", &admin, &client.client_id, "");
    Ok(Json(with_secret(&client, Some(&secret))))
}

/// With everything that was issued to it.
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    if !client::remove(app.store(), &id).await? {
        return Err(ApiError::NotFound("no such client"));
    }
    crate::audit::record("client.deleted", &admin, &id, "");
    let ended = revoke::client(&app, &id).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
