//! `/admin/v1/registration-tokens`: initial access tokens (RFC 7591 §1.2), with which clients register themselves; shown once.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::token::TokenId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{InBody, InPath, InQuery, List, Paging, whole};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::problem::ApiError;
use crate::record::hash::StoredHash;
use crate::record::registration_token::{self, Facts, RegistrationToken};

/// A week, in seconds.
const DEFAULT_LIFE: u64 = 604_800;
/// A year, in seconds.
const MAX_LIFE: u64 = 31_536_000;
const MAX_USES: u64 = 10_000;
const MAX_LABEL: usize = 64;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRegistrationToken {
    /// Whom it is for; the clients registered with it say so.
    #[schema(min_length = 1, max_length = 64)]
    label: String,
    /// Clients that may be registered with it.
    #[serde(default, deserialize_with = "whole")]
    #[schema(default = 1, minimum = 1, maximum = 10_000)]
    uses: Option<u64>,
    /// Seconds.
    #[serde(default, deserialize_with = "whole")]
    #[schema(default = 604_800, minimum = 1, maximum = 31_536_000)]
    expires_in: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RegistrationToken)]
pub struct Shown {
    #[schema(value_type = String)]
    id: TokenId,
    label: String,
    uses: u64,
    /// Clients registered with it so far.
    used: u64,
    /// Unix seconds, as is the following.
    created: u64,
    expires: u64,
    /// Shown once, when it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl Shown {
    fn of(RegistrationToken { id, facts, used }: RegistrationToken, token: Option<String>) -> Self {
        let Facts { label, created, end, uses, .. } = facts;
        Self { id, label, uses, used, created, expires: end, token }
    }
}

#[utoipa::path(
    post, path = "/registration-tokens", tag = "registration-tokens", summary = "Make a registration token, shown this once",
    request_body = NewRegistrationToken, responses((status = 201, body = Shown))
)]
pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    InBody(new): InBody<NewRegistrationToken>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    let refuse = |sentence: String| Err(ApiError::Unprocessable(sentence));
    let (uses, life) = (new.uses.unwrap_or(1), new.expires_in.unwrap_or(DEFAULT_LIFE));
    let length = new.label.chars().count();
    if !(1..=MAX_LABEL).contains(&length) || new.label.chars().any(char::is_control) {
        return refuse(format!("label: 1 to {MAX_LABEL} characters, none of them a control character"));
    }
    if !(1..=MAX_USES).contains(&uses) || !(1..=MAX_LIFE).contains(&life) {
        return refuse(format!("uses: 1 to {MAX_USES}; expires_in: 1 to {MAX_LIFE} seconds"));
    }
    let (id, secret, now) = (app.random.with(TokenId::generate), app.random.secret(), app.now());
    let secret_hash = StoredHash::of_secret(&secret);
    let facts = Facts { label: new.label, secret: secret_hash, created: now, end: now.saturating_add(life), uses };
    let token = RegistrationToken { id, facts, used: 0 };
    registration_token::create(app.store(), &token).await?;
    crate::audit::record("registration-token.created", &admin, id, &token.facts.label);
    Ok((StatusCode::CREATED, Json(Shown::of(token, Some(format!("{id}{secret}"))))))
}

#[utoipa::path(
    get, path = "/registration-tokens", tag = "registration-tokens", summary = "List registration tokens", params(Paging),
    responses((status = 200, body = List<Shown>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Shown>>, ApiError> {
    let (tokens, held) = registration_token::list(app.store(), paging.offset(), paging.limit()).await?;
    Ok(Json(List::page(tokens.into_iter().map(|token| Shown::of(token, None)).collect(), held, paging)))
}

#[utoipa::path(
    get, path = "/registration-tokens/{id}", tag = "registration-tokens", summary = "A registration token",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")), responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<Json<Shown>, ApiError> {
    let token = registration_token::load(app.store(), id).await?;
    Ok(Json(Shown::of(token.ok_or(ApiError::NotFound("no such registration token"))?, None)))
}

/// Clients that were registered with it stay.
#[utoipa::path(
    delete, path = "/registration-tokens/{id}", tag = "registration-tokens", summary = "Revoke a registration token; clients registered with it stay",
    params(("id" = String, Path, pattern = "^[0-9A-Za-z]{22}$")), responses((status = 204, description = "It is gone."))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<TokenId>,
) -> Result<StatusCode, ApiError> {
    if !registration_token::remove(app.store(), id).await? {
        return Err(ApiError::NotFound("no such registration token"));
    }
    crate::audit::record("registration-token.revoked", &admin, id, "");
    Ok(StatusCode::NO_CONTENT)
}
