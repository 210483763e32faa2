//! `/admin/v1`: users, groups, sessions, grants, clients, registration tokens, API keys, signing keys, audit trail; JSON, for administrators.

#![expect(unused_qualifications, reason = "utoipa's macros name types by their whole path")]

pub mod api_keys;
pub mod audit;
pub mod clients;
pub mod factors;
pub mod grants;
pub mod groups;
pub mod identities;
pub mod input;
pub mod keys;
pub mod openapi;
pub mod registration_tokens;
pub mod sessions;
pub mod users;

use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use http::header;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{App, Shared};
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::user::held;
use crate::revoke;
use input::Paging;

/// The routes, and their description among them; that one needs no token, since it says nothing that the documentation does not.
pub fn routes() -> Router<Shared> {
    let (router, document) = described();
    let document = Bytes::from(document);
    let answer = move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    };
    router.route("/openapi.json", get(answer))
}

/// Ends a session, grant or API key, and waits for the receipt as long as was asked.
async fn end(app: &App, id: TokenId, wait: u64) -> Result<Json<Receipt>, ApiError> {
    let ended = revoke::record(app, id).await?;
    Ok(Json(receipt_for(app, &ended, wait).await?))
}

/// The ids of a page of what a user or client holds of one kind.
async fn page_of_held(app: &App, holder: &str, kind: &str, paging: Paging) -> Result<Vec<TokenId>, ApiError> {
    let all = held(app.store(), holder).await?;
    let ids = all.iter().filter(|one| one.kind == kind).map(|one| one.id);
    Ok(ids.skip(paging.offset()).take(paging.limit()).collect())
}

/// The OpenAPI document.
pub fn document() -> String {
    described().1
}

fn described() -> (Router<Shared>, String) {
    let (router, api) = table().split_for_parts();
    let mut document = openapi::with_problems(api).to_pretty_json().unwrap_or_default();
    document.push('\n');
    (router, document)
}

/// The table from which both the routes and their description are made: none can be missing from the other.
fn table() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::get, users::replace, users::update, users::delete))
        .routes(routes!(users::set_password))
        .routes(routes!(factors::reset_password))
        .routes(routes!(factors::passkey_link))
        .routes(routes!(factors::get, factors::delete))
        .routes(routes!(identities::list))
        .routes(routes!(identities::delete))
        .routes(routes!(groups::list))
        .routes(routes!(groups::members))
        .routes(routes!(groups::add_member, groups::remove_member))
        .routes(routes!(sessions::of_user, sessions::delete_of_user))
        .routes(routes!(sessions::get, sessions::delete))
        .routes(routes!(sessions::data))
        .routes(routes!(grants::of_user))
        .routes(routes!(grants::of_client))
        .routes(routes!(grants::get, grants::delete))
        .routes(routes!(clients::list, clients::create))
        .routes(routes!(clients::get, clients::replace, clients::delete))
        .routes(routes!(clients::new_secret))
        .routes(routes!(registration_tokens::list, registration_tokens::create))
        .routes(routes!(registration_tokens::get, registration_tokens::delete))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::get, api_keys::delete))
        .routes(routes!(api_keys::rotate))
        .routes(routes!(keys::list))
        .routes(routes!(keys::rotate))
        .routes(routes!(audit::list))
}
