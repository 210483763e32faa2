//! `/admin/v1/groups`: who belongs together. A group is there while somebody is in it; the users' own records say who.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::{InPath, InQuery, List, Paging};
use super::users::{self, change};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::record::group::{self, is_name};

#[derive(Serialize, ToSchema)]
#[schema(as = Group)]
pub struct Shown {
    name: String,
}

#[utoipa::path(
    get, path = "/groups", tag = "groups", summary = "List groups that have members", params(Paging),
    responses((status = 200, body = List<Shown>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    let (names, held) = group::list(app.store(), paging.offset(), paging.limit()).await?;
    Ok(Json(List::page(names.into_iter().map(|name| Shown { name }).collect(), held, paging)))
}

#[utoipa::path(
    get, path = "/groups/{name}/members", tag = "groups", summary = "List the members of a group",
    params(("name" = String, Path), Paging), responses((status = 200, body = List<users::Shown>))
)]
pub async fn members(
    State(app): State<Shared>,
    _: Administrator,
    InPath(name): InPath<String>,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<users::Shown>>, ApiError> {
    let (users, held) = group::members(app.store(), &name, paging.offset(), paging.limit()).await?;
    Ok(Json(List::page(users.into_iter().map(users::Shown::from).collect(), held, paging)))
}

#[utoipa::path(
    put, path = "/groups/{name}/members/{id}", tag = "groups", summary = "Put a user into a group",
    params(("name" = String, Path, min_length = 1, max_length = 128), ("id" = String, Path)), responses((status = 204), (status = 422, description = "No name for a group, or the user's profile would be too large."))
)]
pub async fn add_member(
    State(app): State<Shared>,
    admin: Administrator,
    InPath((name, id)): InPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    if !is_name(&name) {
        return Err(ApiError::Unprocessable(
            "a group's name has 1 to 128 characters, no control characters".to_owned(),
        ));
    }
    change(&app, &admin, &id, |details| {
        let groups = &mut details.profile.groups;
        if !groups.contains(&name) {
            groups.push(name.clone());
        }
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete, path = "/groups/{name}/members/{id}", tag = "groups", summary = "Take a user out of a group",
    params(("name" = String, Path), ("id" = String, Path)), responses((status = 204))
)]
pub async fn remove_member(
    State(app): State<Shared>,
    admin: Administrator,
    InPath((name, id)): InPath<(String, String)>,
) -> Result<StatusCode, ApiError> {
    change(&app, &admin, &id, |details| details.profile.groups.retain(|group| *group != name)).await?;
    Ok(StatusCode::NO_CONTENT)
}
