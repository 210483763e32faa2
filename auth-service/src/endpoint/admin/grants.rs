//! `/admin/v1/grants`: what clients may do, for people and for themselves.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::{InPath, InQuery, List, Paging, Wait};
use super::{end, page_of_held};
use crate::app::{App, Shared};
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::record::grant::{self, Grant};

#[derive(Serialize, ToSchema)]
#[schema(as = Grant)]
pub struct Shown {
    #[schema(value_type = String)]
    id: TokenId,
    client_id: String,
    /// For whom: a user's id, or the client itself.
    sub: String,
    username: Option<String>,
    /// The session it ends with; absent for offline access and client credentials.
    #[schema(value_type = Option<String>)]
    sid: Option<TokenId>,
    scopes: Vec<String>,
    audiences: Vec<String>,
    /// Unix seconds, as is the following.
    created: u64,
    end: u64,
    refreshable: bool,
}

fn show(grant: Grant) -> Shown {
    Shown {
        id: grant.id,
        client_id: grant.facts.client_id,
        sub: grant.facts.sub,
        username: grant.profile.username,
        sid: grant.facts.sid,
        scopes: grant.facts.scope.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
        audiences: grant.facts.aud,
        created: grant.facts.created,
        end: grant.facts.end,
        refreshable: grant.refresh.is_some(),
    }
}

#[utoipa::path(
    get, path = "/users/{id}/grants", tag = "grants", summary = "List what a user has granted to clients",
    params(("id" = String, Path), Paging), responses((status = 200, body = List<Shown>))
)]
pub async fn of_user(
    State(app): State<Shared>,
    _: Administrator,
    InPath(sub): InPath<String>,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    Ok(Json(of_holder(&app, &sub, paging).await?))
}

#[utoipa::path(
    get, path = "/clients/{id}/grants", tag = "grants", summary = "List what was granted to a client",
    params(("id" = String, Path), Paging), responses((status = 200, body = List<Shown>))
)]
pub async fn of_client(
    State(app): State<Shared>,
    _: Administrator,
    InPath(client_id): InPath<String>,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    Ok(Json(of_holder(&app, &client_id, paging).await?))
}

async fn of_holder(app: &App, holder: &str, paging: Paging) -> Result<List<Shown>, ApiError> {
    let page = page_of_held(app, holder, "grant", paging).await?;
    let grants = futures::future::try_join_all(page.iter().map(|id| grant::load(app.store(), *id))).await?;
    Ok(List::page(grants.into_iter().flatten().map(show).collect(), page.len(), paging))
}

#[utoipa::path(
    get, path = "/grants/{id}", tag = "grants", summary = "A grant", params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")),
    responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<Json<Shown>, ApiError> {
    let grant = grant::load(app.store(), id).await?;
    Ok(Json(show(grant.ok_or(ApiError::NotFound("no such grant"))?)))
}

/// Idempotent.
#[utoipa::path(
    delete, path = "/grants/{id}", tag = "grants", summary = "End a grant and all its tokens",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$"), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("grant.revoked", &admin, id, "by id");
    end(&app, id, wait).await
}
