//! `/admin/v1/users/{id}/…`: helping somebody who cannot sign in any more.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::input::InPath;
use super::users::find;
use crate::app::{App, Shared};
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::settle;
use crate::endpoint::problem::ApiError;
use crate::record::factors;
use crate::record::reset::{self, Purpose};
use crate::record::user::User;
use crate::revoke::{self, Extent};
use crate::webauthn::Party;

#[derive(Serialize, ToSchema)]
pub struct ResetLink {
    /// Shown once; whoever has it is let in.
    url: String,
    /// Seconds.
    expires_in: u64,
}

/// A link for the user, which replaces any earlier one. The old password goes on until it is used.
#[utoipa::path(
    post, path = "/users/{id}/password-reset", tag = "users", summary = "Make a link by which the user sets a new password, once",
    params(("id" = String, Path)),
    responses((status = 201, body = ResetLink), (status = 409, description = "The user is disabled, or passwords are."))
)]
pub async fn reset_password(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
) -> Result<(StatusCode, Json<ResetLink>), ApiError> {
    super::users::passwords_are_enabled(&app)?;
    let (link, user) = link(&app, &id, Purpose::Password, "/reset-password").await?;
    crate::audit::record("user.password-reset-link", &admin, &user.id, "");
    Ok((StatusCode::CREATED, Json(link)))
}

/// A link for the user, which replaces any earlier one: with a passkey the user needs nothing else to sign in.
#[utoipa::path(
    post, path = "/users/{id}/passkey-link", tag = "users", summary = "Make a link by which the user adds a passkey, once",
    params(("id" = String, Path)),
    responses((status = 201, body = ResetLink), (status = 409, description = "The user is disabled, or the issuer can have no passkeys."))
)]
pub async fn passkey_link(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
) -> Result<(StatusCode, Json<ResetLink>), ApiError> {
    if Party::of_issuer(&app.config.issuer).is_none() {
        return Err(ApiError::Conflict(
            "the issuer is an address, and browsers have passkeys for names only".to_owned(),
        ));
    }
    let (link, user) = link(&app, &id, Purpose::Passkey, "/new-passkey").await?;
    crate::audit::record("user.passkey-link", &admin, &user.id, "");
    Ok((StatusCode::CREATED, Json(link)))
}

async fn link(app: &App, id: &str, purpose: Purpose, path: &str) -> Result<(ResetLink, User), ApiError> {
    let user = find(app, id).await?;
    if user.details.disabled {
        return Err(ApiError::Conflict("the user is disabled".to_owned()));
    }
    let expires_in = app.config.passwords.reset_link_seconds;
    let (secret, life) = (app.random.secret(), Duration::from_secs(expires_in));
    let token = reset::create(app.store(), purpose, (&user.id, user.epoch), &secret, life).await?;
    let url = format!("{}{path}?token={token}", app.config.issuer);
    Ok((ResetLink { url, expires_in }, user))
}

#[derive(Serialize, ToSchema)]
#[schema(as = Factors)]
pub struct Shown {
    totp: bool,
    passkeys: usize,
    /// Unused ones.
    recovery_codes: usize,
}

#[utoipa::path(
    get, path = "/users/{id}/factors", tag = "users", summary = "Which second factors a user has",
    params(("id" = String, Path)), responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<Shown>, ApiError> {
    let user = find(&app, &id).await?;
    let factors = factors::load(app.store(), &user.id).await?;
    Ok(Json(Shown {
        totp: factors.totp.is_some(),
        passkeys: factors.passkeys.len(),
        recovery_codes: factors.recovery_codes,
    }))
}

/// For somebody who has lost the device and the recovery codes. Whoever might hold a session by them is signed out.
#[utoipa::path(
    delete, path = "/users/{id}/factors", tag = "users",
    summary = "Take all second factors of a user away; signs the user out everywhere",
    params(("id" = String, Path)), responses((status = 204))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let user = find(&app, &id).await?;
    factors::forget_all(app.store(), &user.id).await?;
    crate::audit::record("user.factors-removed", &admin, &user.id, "");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    Ok(StatusCode::NO_CONTENT)
}
