//! `/oauth2/register/{client_id}` (RFC 7592): a client reads, changes or removes its own registration.
//!
//! It may change what it says about itself, not what it may do: scopes get fewer, never more, and what an administrator has set stays.

use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::error::RegistrationError;
use super::metadata::Metadata;
use super::{bearer, shown};
use crate::app::{App, Shared};
use crate::record::client::{self, Client};
use crate::record::hash::StoredHash;
use crate::revoke;
use crate::store::Updated;

pub async fn get(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, RegistrationError> {
    let Own { client, access, .. } = own(&app, &headers, &id).await?;
    Ok(shown(&app, StatusCode::OK, &client, access, None))
}

pub async fn replace(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, RegistrationError> {
    let Own { client: before, text, access } = own(&app, &headers, &id).await?;
    let metadata = Metadata::read(&headers, body)?;
    metadata.is_of(&before)?;
    let client = metadata.apply(before.clone(), &app.config.issuer, &app.ring.offered())?;
    if client != before {
        match client::replace(app.store(), &client, text).await? {
            Updated::Yes => {}
            Updated::Conflict => return Err(RegistrationError::Contention),
            Updated::Missing => return Err(RegistrationError::InvalidToken),
        }
        crate::audit::record("client.updated", &id, &id, "by itself");
    }
    Ok(shown(&app, StatusCode::OK, &client, access, None))
}

pub async fn delete(
    State(app): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, RegistrationError> {
    own(&app, &headers, &id).await?;
    client::remove(app.store(), &id).await?;
    crate::audit::record("client.deleted", &id, &id, "by itself");
    revoke::client(&app, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A client, as it is stored, and the token by which it was shown to be the caller's.
struct Own<'a> {
    client: Client,
    text: String,
    access: &'a str,
}

/// RFC 7592 §2: a client that is not there, one that an administrator made, and a wrong token are all the same 401.
async fn own<'a>(app: &App, headers: &'a HeaderMap, id: &str) -> Result<Own<'a>, RegistrationError> {
    let access = bearer(headers)?.ok_or(RegistrationError::NoToken)?;
    let given = StoredHash::of_secret(access);
    let found = client::load_with_text(app.store(), id).await?;
    let is_own = |client: &Client| client.registered.as_ref().is_some_and(|one| one.access.matches(&given));
    let Some((client, text)) = found.filter(|(client, _)| is_own(client)) else {
        crate::audit::record("client.refused", id, "", "wrong registration access token");
        return Err(RegistrationError::InvalidToken);
    };
    Ok(Own { client, text, access })
}
