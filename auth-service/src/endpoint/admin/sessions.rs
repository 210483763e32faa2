//! `/admin/v1/sessions`, and those of one user.

use axum::Json;
use axum::extract::{Path, Query, State};
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use serde::Serialize;

use super::{List, Wait};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::session::{self, Session};
use crate::record::user::held;
use crate::revoke::{self, Extent};

#[derive(Serialize)]
struct Shown {
    id: TokenId,
    sub: String,
    username: Option<String>,
    clients: Vec<String>,
    auth_time: u64,
    last_used: u64,
    end: u64,
    acr: String,
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
        address: session.facts.address,
        user_agent: session.facts.user_agent,
    }
}

pub async fn of_user(
    State(app): State<Shared>,
    _: Administrator,
    Path(sub): Path<String>,
) -> Result<Json<impl Serialize>, ApiError> {
    let mut items = Vec::new();
    for one in held(app.store(), &sub).await?.into_iter().filter(|one| one.kind == "session") {
        items.extend(session::load_with_clients(app.store(), one.id).await?.map(show));
    }
    Ok(Json(List { items, next_offset: None }))
}

pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    Path(id): Path<TokenId>,
) -> Result<Json<impl Serialize>, ApiError> {
    let session = session::load_with_clients(app.store(), id).await?;
    Ok(Json(show(session.ok_or(ApiError::NotFound("no such session"))?)))
}

/// A session, grant or API key by its id.
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<TokenId>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("revoke", &admin, id, "by id");
    let ended = revoke::record(&app, id).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}

pub async fn delete_of_user(
    State(app): State<Shared>,
    admin: Administrator,
    Path(sub): Path<String>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    crate::audit::record("revoke.everywhere", &admin, &sub, "");
    let ended = revoke::subject(&app, &sub, None, Extent::SignedIn).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
