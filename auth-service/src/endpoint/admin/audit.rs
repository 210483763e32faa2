//! `/admin/v1/audit`: the last few thousand security events.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::input::{InQuery, between, default_limit};
use crate::app::Shared;
use crate::audit::Line;
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::store::{EventId, from_json};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Only events before this one: `next` of the page before.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,15}-[0-9]{1,15}$")]
    before: Option<EventId>,
    /// Items at most.
    #[serde(default = "default_limit", deserialize_with = "between::<_, 1, 500>")]
    #[param(required = false, default = 100, minimum = 1, maximum = 500)]
    limit: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub struct Page {
    items: Vec<Line>,
    /// `before` of the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    next: Option<EventId>,
}

#[utoipa::path(
    get, path = "/audit", tag = "audit", summary = "List security events, the latest first", params(Part),
    responses((status = 200, body = Page))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(Part { before, limit }): InQuery<Part>,
) -> Result<Json<Page>, ApiError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let kept = app.store().trail(before, limit).await?;
    let next = kept.last().filter(|_| kept.len() == limit).map(|(id, _)| *id);
    let items = kept.iter().map(|(_, line)| from_json("audit line", line)).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next }))
}
