//! `/admin/v1/sessions`, and those of one user.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::input::{InPath, InQuery, List, Paging, Wait};
use super::{end, page_of_held};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::session::{self, Session};
use crate::revoke::{self, Extent};

#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub struct Shown {
    #[schema(value_type = String)]
    id: TokenId,
    sub: String,
    username: Option<String>,
    /// Policies that the person has visited in it.
    clients: Vec<String>,
    /// Unix seconds, as are the following.
    auth_time: u64,
    last_used: u64,
    end: u64,
    acr: String,
    amr: Vec<String>,
    address: String,
    user_agent: String,
}

fn show((session, clients): (Session, Vec<String>)) -> Shown {
    Shown {
        id: session.id,
        sub: session.facts.sub,
        username: session.profile.username,
        clients,
        auth_time: session.facts.auth_time,
        last_used: session.last_used,
        end: session.end,
        acr: session.facts.acr,
        amr: session.facts.amr,
        address: session.facts.address,
        user_agent: session.facts.user_agent,
    }
}

/// What one policy's app keeps in a session.
#[derive(Serialize, ToSchema)]
#[schema(as = SessionData)]
pub struct Data {
    /// Of compare-and-set; 0: never written.
    version: u64,
    #[schema(value_type = Object)]
    data: Map<String, Value>,
}

#[utoipa::path(
    get, path = "/users/{id}/sessions", tag = "sessions", summary = "List a user's sessions",
    params(("id" = String, Path), Paging), responses((status = 200, body = List<Shown>))
)]
pub async fn of_user(
    State(app): State<Shared>,
    _: Administrator,
    InPath(sub): InPath<String>,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    let page = page_of_held(&app, &sub, "session", paging).await?;
    let load = page.iter().map(|id| session::load_with_clients(app.store(), *id));
    let sessions = futures::future::try_join_all(load).await?;
    Ok(Json(List::page(sessions.into_iter().flatten().map(show).collect(), page.len(), paging)))
}

#[utoipa::path(
    get, path = "/sessions/{id}", tag = "sessions", summary = "A session", params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")),
    responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<Json<Shown>, ApiError> {
    let session = session::load_with_clients(app.store(), id).await?;
    Ok(Json(show(session.ok_or(ApiError::NotFound("no such session"))?)))
}

#[utoipa::path(
    get, path = "/sessions/{id}/data", tag = "sessions", summary = "What apps keep in a session, by policy",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")), responses((status = 200, body = BTreeMap<String, Data>))
)]
pub async fn data(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<Json<BTreeMap<String, Data>>, ApiError> {
    let all = session::load_data(app.store(), id).await?.ok_or(ApiError::NotFound("no such session"))?;
    // It is the person's own: whoever looks at it is on record.
    crate::audit::record("session.data-read", &admin, id, "");
    Ok(Json(all.into_iter().map(|(client, (version, data))| (client, Data { version, data })).collect()))
}

/// Idempotent.
#[utoipa::path(
    delete, path = "/sessions/{id}", tag = "sessions", summary = "End a session, grant or API key by its id",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$"), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("revoke", &admin, id, "by id");
    end(&app, id, wait).await
}

/// Idempotent.
#[utoipa::path(
    delete, path = "/users/{id}/sessions", tag = "sessions", summary = "Sign a user out everywhere",
    params(("id" = String, Path), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete_of_user(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(sub): InPath<String>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("revoke.everywhere", &admin, &sub, "");
    let ended = revoke::subject(&app, &sub, None, Extent::SignedIn).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
