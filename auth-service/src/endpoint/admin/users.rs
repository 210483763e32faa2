//! `/admin/v1/users`: people and their passwords.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::token::TokenId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{List, Paging, Wait};
use crate::app::{App, Shared};
use crate::endpoint::caller::{Administrator, JsonBody};
use crate::endpoint::internal::revoke::{receipt_for, settle};
use crate::endpoint::problem::ApiError;
use crate::password::PasswordError;
use crate::record::profile::RESERVED_CLAIMS;
use crate::record::user::{self, Change, Details, PasswordHash, ProfileDetails, User};
use crate::record::{consent, factors, reset};
use crate::revoke::{self, Extent};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    username: String,
    /// Absent: cannot sign in with a password yet.
    password: Option<String>,
    name: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    claims: serde_json::Map<String, serde_json::Value>,
}

/// Absent fields stay as they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    name: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    roles: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    claims: Option<serde_json::Map<String, serde_json::Value>>,
    disabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    password: String,
}

#[derive(Serialize)]
struct Shown {
    id: String,
    username: String,
    #[serde(flatten)]
    profile: ProfileDetails,
    disabled: bool,
    has_password: bool,
    created: u64,
}

impl From<User> for Shown {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.details.username,
            profile: user.details.profile,
            disabled: user.details.disabled,
            has_password: user.password.is_some(),
            created: user.details.created,
        }
    }
}

pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<Response, ApiError> {
    let username = new.username.trim().to_owned();
    if username.is_empty() || username.len() > 256 || username.chars().any(char::is_control) {
        return Err(ApiError::Unprocessable("username: 1 to 256 bytes without control characters".to_owned()));
    }
    let profile = ProfileDetails {
        name: new.name,
        email: new.email,
        email_verified: new.email_verified,
        roles: new.roles,
        groups: new.groups,
        scopes: new.scopes,
        claims: new.claims,
    };
    validate(&profile)?;
    let password = match new.password {
        Some(password) => Some(hash(&app, password).await?),
        None => None,
    };
    let id = app.random.with(TokenId::generate).to_string();
    let details = Details { username, profile, created: app.now(), disabled: false };
    let user = User { id, details, epoch: 1, password };
    if !user::create(app.store(), &user).await? {
        return Err(ApiError::Conflict("the user name is taken".to_owned()));
    }
    crate::audit::record("user.created", &admin, &user.id, &user.details.username);
    Ok((StatusCode::CREATED, Json(Shown::from(user))).into_response())
}

/// Bounded, since it goes into every session and JWT.
fn validate(profile: &ProfileDetails) -> Result<(), ApiError> {
    if crate::store::to_json(profile).len() > 4 << 10 {
        return Err(ApiError::Unprocessable("the profile exceeds 4 KiB".to_owned()));
    }
    if let Some(claim) = profile.claims.keys().find(|name| RESERVED_CLAIMS.contains(&name.as_str())) {
        return Err(ApiError::Unprocessable(format!("claims: {claim:?} is set by the auth service itself")));
    }
    if let Some(scope) = profile.scopes.iter().find(|scope| !crate::record::client::is_scope(scope)) {
        return Err(ApiError::Unprocessable(format!("scopes: {scope:?} is not a scope")));
    }
    Ok(())
}

async fn hash(app: &App, password: String) -> Result<PasswordHash, ApiError> {
    app.passwords.hash(Zeroizing::new(password)).await.map_err(|error| match error {
        PasswordError::Length(_) => ApiError::Unprocessable(error.to_string()),
        PasswordError::Busy => ApiError::Unavailable(error.to_string()),
        PasswordError::Parameters(_) | PasswordError::Hashing(_) => ApiError::Internal(error.to_string()),
    })
}

#[derive(Deserialize)]
pub struct Search {
    username: Option<String>,
    #[serde(default)]
    offset: Option<usize>,
    #[serde(default)]
    limit: Option<usize>,
}

pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    Query(search): Query<Search>,
) -> Result<Json<impl Serialize>, ApiError> {
    let paging = Paging { offset: search.offset.unwrap_or(0), limit: search.limit.unwrap_or(100) };
    let users = match &search.username {
        Some(username) => {
            let found: Vec<Shown> = user::find(app.store(), username).await?.into_iter().map(Shown::from).collect();
            return Ok(Json(List { items: found, next_offset: None }));
        }
        None => user::list(app.store(), paging.offset, paging.limit()).await?,
    };
    Ok(Json(List::page(users.into_iter().map(Shown::from).collect(), paging)))
}

async fn find(app: &App, id: &str) -> Result<User, ApiError> {
    user::load(app.store(), id).await?.ok_or(ApiError::NotFound("no such user"))
}

pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<Json<impl Serialize>, ApiError> {
    Ok(Json(Shown::from(find(&app, &id).await?)))
}

pub async fn update(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
    JsonBody(patch): JsonBody<Patch>,
) -> Result<Json<impl Serialize>, ApiError> {
    let user = find(&app, &id).await?;
    let mut details = user.details.clone();
    let profile = &mut details.profile;
    profile.name = patch.name.or(profile.name.take());
    profile.email_verified = patch.email_verified.unwrap_or(profile.email_verified && patch.email.is_none());
    profile.email = patch.email.or(profile.email.take());
    for (place, new) in
        [(&mut profile.roles, patch.roles), (&mut profile.groups, patch.groups), (&mut profile.scopes, patch.scopes)]
    {
        if let Some(new) = new {
            *place = new;
        }
    }
    profile.claims = patch.claims.unwrap_or_else(|| std::mem::take(&mut profile.claims));
    details.disabled = patch.disabled.unwrap_or(details.disabled);
    validate(&details.profile)?;
    let disabling = details.disabled && !user.details.disabled;
    let changed = details.profile != user.details.profile;
    let epoch = user::change(app.store(), &user, Change { details: Some(details.clone()), password: None }).await?;
    let user = User { details, epoch, ..user };
    crate::audit::record(if disabling { "user.disabled" } else { "user.updated" }, &admin, &user.id, "");
    if disabling {
        settle(&app, &revoke::subject(&app, &user.id, None, Extent::Everything).await?).await;
    } else if changed {
        revoke::refresh_profile(&app, &user).await?;
    }
    Ok(Json(Shown::from(user)))
}

/// Whoever knew the old password is signed out everywhere.
pub async fn set_password(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<NewPassword>,
) -> Result<StatusCode, ApiError> {
    let user = find(&app, &id).await?;
    let password = hash(&app, body.password).await?;
    user::change(app.store(), &user, Change { details: None, password: Some(password) }).await?;
    crate::audit::record("user.password-set", &admin, &user.id, "");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct ResetLink {
    /// Shown once; whoever has it sets the password.
    url: String,
    expires_in: u64,
}

/// A link for the user, which replaces any earlier one. The old password goes on until it is used.
pub async fn reset_password(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let user = find(&app, &id).await?;
    if user.details.disabled {
        return Err(ApiError::Conflict("the user is disabled".to_owned()));
    }
    let expires_in = app.config.passwords.reset_link_seconds;
    let (secret, life) = (app.random.secret(), Duration::from_secs(expires_in));
    let token = reset::create(app.store(), &user.id, user.epoch, &secret, life).await?;
    crate::audit::record("user.password-reset-link", &admin, &user.id, "");
    let url = format!("{}/reset-password?token={token}", app.config.issuer);
    Ok((StatusCode::CREATED, Json(ResetLink { url, expires_in })).into_response())
}

#[derive(Serialize)]
struct ShownFactors {
    totp: bool,
    passkeys: usize,
    recovery_codes: usize,
}

pub async fn factors(
    State(app): State<Shared>,
    _: Administrator,
    Path(id): Path<String>,
) -> Result<Json<impl Serialize>, ApiError> {
    let user = find(&app, &id).await?;
    let factors = factors::load(app.store(), &user.id).await?;
    Ok(Json(ShownFactors {
        totp: factors.totp.is_some(),
        passkeys: factors.passkeys.len(),
        recovery_codes: factors.recovery_codes,
    }))
}

/// For somebody who has lost the device and the recovery codes. Whoever might hold a session by them is signed out.
pub async fn delete_factors(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let user = find(&app, &id).await?;
    factors::forget_all(app.store(), &user.id).await?;
    crate::audit::record("user.factors-removed", &admin, &user.id, "");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    Path(id): Path<String>,
    Query(Wait { wait }): Query<Wait>,
) -> Result<Json<impl Serialize>, ApiError> {
    let user = find(&app, &id).await?;
    // Ended before the account is gone, and once more after it: nothing begun in between can stay.
    revoke::subject(&app, &user.id, None, Extent::Everything).await?;
    user::remove(app.store(), &user).await?;
    let ended = revoke::subject(&app, &user.id, None, Extent::Everything).await?;
    consent::forget_all(app.store(), &user.id).await?;
    factors::forget_all(app.store(), &user.id).await?;
    crate::audit::record("user.deleted", &admin, &user.id, &user.details.username);
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
