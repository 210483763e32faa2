//! `/admin/v1/users`: people and their passwords.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zeroize::Zeroizing;

use super::input::{InBody, InPath, InQuery, List, Paging, Wait, between, default_limit};
use crate::app::{App, Shared};
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::{receipt_for, settle};
use crate::endpoint::problem::ApiError;
use crate::password::PasswordError;
use crate::record::profile::RESERVED_CLAIMS;
use crate::record::user::{self, Change, Details, PasswordHash, ProfileDetails, User};
use crate::record::{RecordError, consent, factors, federated};
use crate::revoke::{self, Extent};

/// Tries against others who change the same user.
const TRIES: usize = 5;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Compared without regard to case or surrounding space.
    #[schema(min_length = 1, max_length = 256)]
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
    #[schema(value_type = Object)]
    claims: serde_json::Map<String, serde_json::Value>,
}

/// All that an administrator sets; what is absent is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
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
    #[schema(value_type = Object)]
    claims: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    disabled: bool,
}

/// Absent fields stay as they are.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatch {
    name: Option<String>,
    email: Option<String>,
    email_verified: Option<bool>,
    roles: Option<Vec<String>>,
    groups: Option<Vec<String>>,
    scopes: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    claims: Option<serde_json::Map<String, serde_json::Value>>,
    disabled: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    #[schema(min_length = 1)]
    password: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct Shown {
    /// `sub` of everything that is theirs.
    id: String,
    username: String,
    #[serde(flatten)]
    profile: ProfileDetails,
    disabled: bool,
    has_password: bool,
    /// Unix seconds.
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

#[utoipa::path(
    post, path = "/users", tag = "users", summary = "Make a user", request_body = NewUser,
    responses((status = 201, body = Shown), (status = 409, description = "The user name is taken, or there is a password and passwords are disabled."))
)]
pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    InBody(new): InBody<NewUser>,
) -> Result<(StatusCode, Json<Shown>), ApiError> {
    let username = new.username.trim().to_owned();
    if username.is_empty() || username.chars().count() > 256 || username.chars().any(char::is_control) {
        return Err(ApiError::Unprocessable(
            "username: 1 to 256 characters, none of them a control character".to_owned(),
        ));
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
        Some(password) => {
            passwords_are_enabled(&app)?;
            Some(hash(&app, password).await?)
        }
        None => None,
    };
    let id = app.random.with(TokenId::generate).to_string();
    let details = Details { username, profile, created: app.now(), disabled: false };
    let user = User { id, details, epoch: 1, password };
    if !user::create(app.store(), &user).await? {
        return Err(ApiError::Conflict("the user name is taken".to_owned()));
    }
    crate::audit::record("user.created", &admin, &user.id, &user.details.username);
    Ok((StatusCode::CREATED, Json(Shown::from(user))))
}

fn validate(profile: &ProfileDetails) -> Result<(), ApiError> {
    if !user::is_small(profile) {
        return Err(ApiError::Unprocessable("the profile exceeds 4 KiB".to_owned()));
    }
    if let Some(claim) = profile.claims.keys().find(|name| RESERVED_CLAIMS.contains(&name.as_str())) {
        return Err(ApiError::Unprocessable(format!("claims: {claim:?} is set by the auth service itself")));
    }
    if let Some(scope) = profile.scopes.iter().find(|scope| !crate::record::client::is_scope(scope)) {
        return Err(ApiError::Unprocessable(format!("scopes: {scope:?} is not a scope")));
    }
    if profile.groups.iter().any(|group| !crate::record::group::is_name(group)) {
        return Err(ApiError::Unprocessable(
            "groups: 1 to 128 characters, none of them a control character".to_owned(),
        ));
    }
    Ok(())
}

pub(super) fn passwords_are_enabled(app: &App) -> Result<(), ApiError> {
    if app.config.passwords.enabled {
        return Ok(());
    }
    Err(ApiError::Conflict("passwords are disabled here: people sign in with passkeys or other providers".to_owned()))
}

async fn hash(app: &App, password: String) -> Result<PasswordHash, ApiError> {
    app.passwords.hash(Zeroizing::new(password)).await.map_err(|error| match error {
        PasswordError::Length(_) => ApiError::Unprocessable(error.to_string()),
        PasswordError::Busy => ApiError::Unavailable(error.to_string()),
        PasswordError::Parameters(_) | PasswordError::Hashing(_) => ApiError::Internal(error.to_string()),
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Only the user of this name.
    username: Option<String>,
    /// Items to pass over.
    #[serde(default, deserialize_with = "between::<_, 0, 1_000_000_000>")]
    #[param(required = false, default = 0, minimum = 0, maximum = 1_000_000_000)]
    offset: u64,
    /// Items at most.
    #[serde(default = "default_limit", deserialize_with = "between::<_, 1, 500>")]
    #[param(required = false, default = 100, minimum = 1, maximum = 500)]
    limit: u64,
}

#[utoipa::path(
    get, path = "/users", tag = "users", summary = "List users, or find one by name", params(Search),
    responses((status = 200, body = List<Shown>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(search): InQuery<Search>,
) -> Result<Json<List<Shown>>, ApiError> {
    if let Some(username) = &search.username {
        let items = user::find(app.store(), username).await?.into_iter().map(Shown::from).collect();
        return Ok(Json(List { items, next_offset: None }));
    }
    let paging = Paging { offset: search.offset, limit: search.limit };
    let (users, held) = user::list(app.store(), paging.offset(), paging.limit()).await?;
    Ok(Json(List::page(users.into_iter().map(Shown::from).collect(), held, paging)))
}

pub(super) async fn find(app: &App, id: &str) -> Result<User, ApiError> {
    user::load(app.store(), id).await?.ok_or(ApiError::NotFound("no such user"))
}

#[utoipa::path(
    get, path = "/users/{id}", tag = "users", summary = "A user", params(("id" = String, Path)),
    responses((status = 200, body = Shown))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<Shown>, ApiError> {
    Ok(Json(Shown::from(find(&app, &id).await?)))
}

/// Idempotent: what changes nothing writes nothing.
#[utoipa::path(
    put, path = "/users/{id}", tag = "users", summary = "Set all but name and password; the same again changes nothing",
    params(("id" = String, Path)), request_body = UserSettings, responses((status = 200, body = Shown))
)]
pub async fn replace(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InBody(new): InBody<UserSettings>,
) -> Result<Json<Shown>, ApiError> {
    let profile = ProfileDetails {
        name: new.name,
        email: new.email,
        email_verified: new.email_verified,
        roles: new.roles,
        groups: new.groups,
        scopes: new.scopes,
        claims: new.claims,
    };
    let user = change(&app, &admin, &id, |details| {
        details.profile.clone_from(&profile);
        details.disabled = new.disabled;
    })
    .await?;
    Ok(Json(Shown::from(user)))
}

#[utoipa::path(
    patch, path = "/users/{id}", tag = "users", summary = "Change some of a user; disabling ends everything of theirs",
    params(("id" = String, Path)), request_body = UserPatch, responses((status = 200, body = Shown))
)]
pub async fn update(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InBody(patch): InBody<UserPatch>,
) -> Result<Json<Shown>, ApiError> {
    let user = change(&app, &admin, &id, |details| {
        let profile = &mut details.profile;
        profile.name = patch.name.clone().or(profile.name.take());
        profile.email_verified = patch.email_verified.unwrap_or(profile.email_verified && patch.email.is_none());
        profile.email = patch.email.clone().or(profile.email.take());
        for (place, new) in [
            (&mut profile.roles, &patch.roles),
            (&mut profile.groups, &patch.groups),
            (&mut profile.scopes, &patch.scopes),
        ] {
            if let Some(new) = new {
                place.clone_from(new);
            }
        }
        if let Some(claims) = &patch.claims {
            profile.claims.clone_from(claims);
        }
        details.disabled = patch.disabled.unwrap_or(details.disabled);
    })
    .await?;
    Ok(Json(Shown::from(user)))
}

/// Changes a user's details, again if somebody else did so meanwhile, and does what follows from it.
pub(super) async fn change(
    app: &App,
    admin: &Administrator,
    id: &str,
    edit: impl Fn(&mut Details),
) -> Result<User, ApiError> {
    for _ in 0..TRIES {
        let before = find(app, id).await?;
        let mut details = before.details.clone();
        edit(&mut details);
        if details == before.details {
            return Ok(before);
        }
        validate(&details.profile)?;
        let change = Change { details: Some(details.clone()), password: None };
        let epoch = match user::change(app.store(), &before, change).await {
            Err(RecordError::Contention) => continue,
            other => other?,
        };
        let disabling = details.disabled && !before.details.disabled;
        let user = User { details, epoch, ..before.clone() };
        crate::audit::record(if disabling { "user.disabled" } else { "user.updated" }, admin, &user.id, "");
        if disabling {
            settle(app, &revoke::subject(app, &user.id, None, Extent::Everything).await?).await;
        } else if user.details.profile != before.details.profile {
            revoke::refresh_profile(app, &user).await?;
        }
        return Ok(user);
    }
    Err(RecordError::Contention.into())
}

/// Whoever knew the old password is signed out everywhere.
#[utoipa::path(
    put, path = "/users/{id}/password", tag = "users", summary = "Set a password; signs the user out everywhere",
    params(("id" = String, Path)), request_body = NewPassword,
    responses((status = 204), (status = 409, description = "Passwords are disabled."))
)]
pub async fn set_password(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InBody(body): InBody<NewPassword>,
) -> Result<StatusCode, ApiError> {
    passwords_are_enabled(&app)?;
    let user = find(&app, &id).await?;
    let password = hash(&app, body.password).await?;
    user::change(app.store(), &user, Change { details: None, password: Some(password) }).await?;
    crate::audit::record("user.password-set", &admin, &user.id, "");
    settle(&app, &revoke::subject(&app, &user.id, None, Extent::SignedIn).await?).await;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete, path = "/users/{id}", tag = "users", summary = "Delete a user and end everything of theirs",
    params(("id" = String, Path), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    let user = find(&app, &id).await?;
    // Ended before the account is gone, and once more after it: nothing begun in between can stay.
    revoke::subject(&app, &user.id, None, Extent::Everything).await?;
    user::remove(app.store(), &user).await?;
    let ended = revoke::subject(&app, &user.id, None, Extent::Everything).await?;
    consent::forget_all(app.store(), &user.id).await?;
    factors::forget_all(app.store(), &user.id).await?;
    federated::forget_all(app.store(), &user.id).await?;
    crate::audit::record("user.deleted", &admin, &user.id, &user.details.username);
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
