//! `/admin/v1/clients`: registered OAuth clients. Secrets are ours, shown once.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::{InBody, InPath, InQuery, List, Paging, Wait};
use crate::app::Shared;
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::record::client::{self, Client, GrantType};
use crate::record::hash::StoredHash;
use crate::revoke;

/// A client as it is written and as it is shown: what `GET` gives, `PUT` takes.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = Client)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, as RFC 7591 §2 has them")]
pub struct Document {
    /// Absent in a new one: made up. It stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// Shown to people who are asked for consent.
    #[schema(max_length = 256)]
    name: String,
    /// No secret: native and browser applications. It stays as it is.
    public: bool,
    #[schema(max_items = 100)]
    redirect_uris: Vec<String>,
    #[schema(max_items = 100)]
    post_logout_redirect_uris: Vec<String>,
    /// Where it wants to be told that somebody has signed out (OpenID Connect Back-Channel Logout §2.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    backchannel_logout_uri: Option<String>,
    grant_types: Vec<GrantType>,
    /// It may ask for these.
    #[schema(max_items = 100)]
    scopes: Vec<String>,
    /// Of the policies that its tokens are good for.
    #[schema(max_items = 100)]
    audiences: Vec<String>,
    /// Audiences it answers for, whose tokens it may introspect.
    #[schema(max_items = 100)]
    introspects: Vec<String>,
    /// Every access token is bound to a key of the client's (RFC 9449 §5.2).
    dpop_bound_access_tokens: bool,
    /// The organisation's own: no consent page.
    first_party: bool,
    /// People sign in to it with two factors, whatever it asks for.
    require_mfa: bool,
    /// Shown once, when it was made. Ours: one that is sent is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    client_secret: Option<String>,
}

impl Document {
    fn into_client(self, client_id: String, secret: Option<StoredHash>) -> Result<Client, ApiError> {
        let client = Client {
            client_id,
            name: self.name,
            secret,
            redirect_uris: self.redirect_uris,
            post_logout_redirect_uris: self.post_logout_redirect_uris,
            backchannel_logout_uri: self.backchannel_logout_uri,
            grant_types: self.grant_types,
            scopes: self.scopes,
            audiences: self.audiences,
            introspects: self.introspects,
            dpop_bound_access_tokens: self.dpop_bound_access_tokens,
            first_party: self.first_party,
            require_mfa: self.require_mfa,
        };
        client.validate().map_err(|error| ApiError::Unprocessable(error.to_string()))?;
        Ok(client)
    }

    fn of(client: Client, client_secret: Option<String>) -> Self {
        Self {
            client_id: Some(client.client_id),
            name: client.name,
            public: client.secret.is_none(),
            redirect_uris: client.redirect_uris,
            post_logout_redirect_uris: client.post_logout_redirect_uris,
            backchannel_logout_uri: client.backchannel_logout_uri,
            grant_types: client.grant_types,
            scopes: client.scopes,
            audiences: client.audiences,
            introspects: client.introspects,
            dpop_bound_access_tokens: client.dpop_bound_access_tokens,
            first_party: client.first_party,
            require_mfa: client.require_mfa,
            client_secret,
        }
    }
}

#[utoipa::path(
    post, path = "/clients", tag = "clients", summary = "Register a client; its secret is shown this once",
    request_body = Document,
    responses((status = 201, body = Document), (status = 409, description = "The client id is taken."))
)]
pub async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    InBody(new): InBody<Document>,
) -> Result<(StatusCode, Json<Document>), ApiError> {
    let secret = (!new.public).then(|| app.random.secret());
    let id = new.client_id.clone().unwrap_or_else(|| format!("client-{}", app.random.with(TokenId::generate)));
    let client = new.into_client(id, secret.as_deref().map(StoredHash::of_secret))?;
    if !client::create(app.store(), &client).await? {
        return Err(ApiError::Conflict("the client id is taken".to_owned()));
    }
    crate::audit::record("client.created", &admin, &client.client_id, "");
    Ok((StatusCode::CREATED, Json(Document::of(client, secret))))
}

#[utoipa::path(
    get, path = "/clients", tag = "clients", summary = "List clients", params(Paging),
    responses((status = 200, body = List<Document>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(paging): InQuery<Paging>,
) -> Result<Json<List<Document>>, ApiError> {
    let (clients, held) = client::list(app.store(), paging.offset(), paging.limit()).await?;
    let items = clients.into_iter().map(|client| Document::of(client, None)).collect();
    Ok(Json(List::page(items, held, paging)))
}

async fn find(app: &Shared, id: &str) -> Result<Client, ApiError> {
    client::load(app.store(), id).await?.ok_or(ApiError::NotFound("no such client"))
}

#[utoipa::path(
    get, path = "/clients/{id}", tag = "clients", summary = "A client", params(("id" = String, Path)),
    responses((status = 200, body = Document))
)]
pub async fn get(
    State(app): State<Shared>,
    _: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<Document>, ApiError> {
    Ok(Json(Document::of(find(&app, &id).await?, None)))
}

#[utoipa::path(
    put, path = "/clients/{id}", tag = "clients", summary = "Set all but id, secret and whether there is one",
    params(("id" = String, Path)), request_body = Document, responses(
        (status = 200, body = Document),
        (status = 409, description = "The body is of another client, or has a secret where this one has none.")
    )
)]
pub async fn replace(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InBody(new): InBody<Document>,
) -> Result<Json<Document>, ApiError> {
    let before = find(&app, &id).await?;
    if new.client_id.as_ref().is_some_and(|given| *given != id) {
        return Err(ApiError::Conflict("client_id: cannot be changed".to_owned()));
    }
    // Absent reads as false, and says nothing about a client that is public.
    if new.public && before.secret.is_some() {
        return Err(ApiError::Conflict("public: cannot be changed".to_owned()));
    }
    let client = new.into_client(id, before.secret.clone())?;
    if client != before {
        if !client::replace(app.store(), &client).await? {
            return Err(ApiError::NotFound("no such client"));
        }
        crate::audit::record("client.updated", &admin, &client.client_id, "");
    }
    Ok(Json(Document::of(client, None)))
}

/// The old one is refused from now on.
#[utoipa::path(
    post, path = "/clients/{id}/secret", tag = "clients", summary = "Make a new secret; the old one is refused from now on",
    params(("id" = String, Path)),
    responses((status = 200, body = Document), (status = 409, description = "A public client has no secret."))
)]
pub async fn new_secret(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<Document>, ApiError> {
    let mut client = find(&app, &id).await?;
    if client.secret.is_none() {
        return Err(ApiError::Conflict("a public client has no secret".to_owned()));
    }
    let secret = app.random.secret();
    client.secret = Some(StoredHash::of_secret(&secret));
    client::replace(app.store(), &client).await?;
    crate::audit::record("client.secret-rotated", &admin, &client.client_id, "");
    Ok(Json(Document::of(client, Some(secret))))
}

#[utoipa::path(
    delete, path = "/clients/{id}", tag = "clients", summary = "Delete a client with everything that was issued to it",
    params(("id" = String, Path), Wait), responses((status = 200, body = Receipt))
)]
pub async fn delete(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InQuery(Wait { wait }): InQuery<Wait>,
) -> Result<Json<Receipt>, ApiError> {
    if !client::remove(app.store(), &id).await? {
        return Err(ApiError::NotFound("no such client"));
    }
    crate::audit::record("client.deleted", &admin, &id, "");
    let ended = revoke::client(&app, &id).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
