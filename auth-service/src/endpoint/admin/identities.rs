//! `/admin/v1/users/{id}/identities`: at which other providers somebody signs in.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::{InPath, List};
use super::users::find;
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::settle;
use crate::endpoint::problem::ApiError;
use crate::federation::accounts::{self, AccountError};
use crate::record::federated;

#[derive(Serialize, ToSchema)]
#[schema(as = Identity)]
pub struct Shown {
    /// Its id in the configuration.
    provider: String,
    issuer: String,
    /// Whom the issuer calls so.
    sub: String,
    /// A name or an address there.
    known_as: String,
    /// Whether the account was made for it.
    made_account: bool,
    /// Groups and roles that come from there.
    groups: Vec<String>,
    roles: Vec<String>,
    /// Unix seconds.
    since: u64,
    last_used: u64,
}

#[utoipa::path(
    get, path = "/users/{id}/identities", tag = "users", summary = "A user's identities at other providers",
    params(("id" = String, Path)), responses((status = 200, body = List<Shown>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<List<Shown>>, ApiError> {
    let user = find(&app, &id).await?;
    let held = federated::of_account(app.store(), &user.id).await?;
    let items = held.into_iter().map(|(provider, held)| Shown {
        provider,
        issuer: held.identity.issuer,
        sub: held.identity.sub,
        known_as: held.identity.shown,
        made_account: held.identity.made,
        groups: held.identity.groups,
        roles: held.identity.roles,
        since: held.identity.since,
        last_used: held.identity.used,
    });
    Ok(Json(List { items: items.collect(), next_offset: None }))
}

/// Even if nothing else is left to sign in with.
#[utoipa::path(
    delete, path = "/users/{id}/identities/{provider}", tag = "users",
    summary = "Take an identity off a user, with its groups and roles; ends the sessions begun with it",
    params(("id" = String, Path), ("provider" = String, Path)), responses((status = 204))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath((id, provider)): InPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = find(&app, &id).await?;
    let ended = accounts::disconnect(&app, &user, &provider, None, None).await.map_err(|error| match error {
        AccountError::Gone => ApiError::NotFound("no such identity"),
        AccountError::Record(error) => error.into(),
        other => ApiError::Conflict(other.to_string()),
    })?;
    crate::audit::record("identity.disconnected", &admin, &user.id, &provider);
    settle(&app, &ended).await;
    Ok(StatusCode::NO_CONTENT)
}
