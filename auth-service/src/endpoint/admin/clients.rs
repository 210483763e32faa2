//! `/admin/v1/clients`: registered OAuth clients. Secrets are ours, shown once.

use axum::Json;
use axum::extract::State;
use cloakroom_protocol::revocation::Receipt;
use cloakroom_protocol::token::TokenId;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::input::{InBody, InPath, InQuery, List, Paging, Wait, between, default_limit};
use crate::app::{App, Shared};
use crate::endpoint::caller::Administrator;
use crate::endpoint::internal::revoke::receipt_for;
use crate::endpoint::problem::ApiError;
use crate::keys::Algorithm;
use crate::record::client::{self, Client, GrantType, of_resource};
use crate::record::hash::StoredHash;
use crate::record::registered::{About, Registered, Way};
use crate::revoke;
use crate::store::Updated;

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
    /// Neither secret nor keys: native and browser applications. It stays as it is.
    public: bool,
    /// A JWK set of public keys, by which it authenticates (RFC 7523) instead of by a secret. Whether there is one stays as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    jwks: Option<Map<String, Value>>,
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
    /// What its ID tokens and logout tokens are signed with: RS256, or what everything is, which is meant if absent (OpenID Connect
    /// Registration §2).
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token_signed_response_alg: Option<Algorithm>,
    /// How it came, if it registered itself. Ours: what is sent is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    registered: Option<Provenance>,
    /// The `OAuthClient` resource, `<namespace>/<name>`, that it is of; it is changed there. Ours, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    resource: Option<String>,
    /// Shown once, when it was made. Ours: one that is sent is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(read_only)]
    client_secret: Option<String>,
}

/// How a client came that registered itself (RFC 7591).
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[schema(as = ClientRegistration)]
#[serde(deny_unknown_fields, default)]
pub struct Provenance {
    /// `open`, or `token:` and the label of the registration token.
    by: String,
    /// Unix seconds, as is the following.
    at: u64,
    /// When it last got a token, to the day; absent: never.
    last_used: Option<u64>,
    /// What it says about itself besides; nobody has checked it.
    about: About,
}

impl From<Registered> for Provenance {
    fn from(registered: Registered) -> Self {
        let Registered { by, at, last_used, about, .. } = registered;
        Self { by: by.to_string(), at, last_used, about }
    }
}

impl Document {
    /// `before`: what of it cannot be set.
    fn into_client(self, app: &App, client_id: String, before: Kept) -> Result<Client, ApiError> {
        let offered = app.ring.offered();
        if self.id_token_signed_response_alg.is_some_and(|alg| !offered.contains(&alg)) {
            let names: Vec<&str> = offered.into_iter().map(Algorithm::name).collect();
            return Err(ApiError::Unprocessable(format!("id_token_signed_response_alg: {}", names.join(" or "))));
        }
        if self.public && self.jwks.is_some() {
            return Err(ApiError::Unprocessable("a public client has no keys".to_owned()));
        }
        let client = Client {
            client_id,
            name: self.name,
            secret: before.secret,
            jwks: self.jwks.map(Value::Object),
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
            id_token_signed_response_alg: self.id_token_signed_response_alg,
            registered: before.registered,
            ..Client::default()
        };
        client.validate().map_err(|error| ApiError::Unprocessable(error.to_string()))?;
        Ok(client)
    }

    fn of(client: Client, client_secret: Option<String>) -> Self {
        Self {
            public: client.is_public(),
            client_id: Some(client.client_id),
            name: client.name,
            jwks: client.jwks.and_then(|jwks| serde_json::from_value(jwks).ok()),
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
            id_token_signed_response_alg: client.id_token_signed_response_alg,
            registered: client.registered.map(Provenance::from),
            resource: client.of.map(|of| of.resource.to_string()),
            client_secret,
        }
    }
}

/// What of a client is not the administrator's to set.
#[derive(Default)]
struct Kept {
    secret: Option<StoredHash>,
    registered: Option<Registered>,
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
    let secret = (!new.public && new.jwks.is_none()).then(|| app.random.secret());
    let id = new.client_id.clone().unwrap_or_else(|| format!("client-{}", app.random.with(TokenId::generate)));
    let kept = Kept { secret: secret.as_deref().map(StoredHash::of_secret), registered: None };
    let client = new.into_client(&app, id, kept)?;
    if !client::create(app.store(), &client, None).await? {
        return Err(ApiError::Conflict("the client id is taken".to_owned()));
    }
    crate::audit::record("client.created", &admin, &client.client_id, "");
    Ok((StatusCode::CREATED, Json(Document::of(client, secret))))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Only those that registered themselves, without a token or with one.
    #[param(inline)]
    registered: Option<Way>,
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
    get, path = "/clients", tag = "clients", summary = "List clients", params(Search),
    responses((status = 200, body = List<Document>))
)]
pub async fn list(
    State(app): State<Shared>,
    _: Administrator,
    InQuery(Search { registered, offset, limit }): InQuery<Search>,
) -> Result<Json<List<Document>>, ApiError> {
    let paging = Paging { offset, limit };
    let (clients, held) = client::list(app.store(), registered, paging.offset(), paging.limit()).await?;
    let items = clients.into_iter().map(|client| Document::of(client, None)).collect();
    Ok(Json(List::page(items, held, paging)))
}

async fn find(app: &Shared, id: &str) -> Result<(Client, String), ApiError> {
    client::load_with_text(app.store(), id).await?.ok_or(NO_SUCH)
}

const NO_SUCH: ApiError = ApiError::NotFound("no such client");

/// Whoever changed it here would see that undone within seconds.
fn refuse_resources(client: &Client) -> Result<(), ApiError> {
    match &client.of {
        Some(of) => Err(ApiError::Conflict(format!("it is of OAuthClient {}: change that", of.resource))),
        None => Ok(()),
    }
}

async fn replace_with(app: &Shared, client: &Client, before: String) -> Result<(), ApiError> {
    match client::replace(app.store(), client, before).await? {
        Updated::Yes => Ok(()),
        Updated::Missing => Err(NO_SUCH),
        Updated::Conflict => Err(ApiError::Conflict("somebody else has changed the client meanwhile".to_owned())),
    }
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
    Ok(Json(Document::of(find(&app, &id).await?.0, None)))
}

#[utoipa::path(
    put, path = "/clients/{id}", tag = "clients", summary = "Set all but id, secret and whether there is one",
    params(("id" = String, Path)), request_body = Document, responses(
        (status = 200, body = Document),
        (status = 409, description = "The body is of another client, or has no secret where this one has one; the client is an OAuthClient's; or somebody else has changed it.")
    )
)]
pub async fn replace(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
    InBody(new): InBody<Document>,
) -> Result<Json<Document>, ApiError> {
    let (before, text) = find(&app, &id).await?;
    refuse_resources(&before)?;
    if new.client_id.as_ref().is_some_and(|given| *given != id) {
        return Err(ApiError::Conflict("client_id: cannot be changed".to_owned()));
    }
    // Absent reads as false, and says nothing about a client that is public.
    if new.public && !before.is_public() {
        return Err(ApiError::Conflict("public: cannot be changed".to_owned()));
    }
    if new.jwks.is_some() != before.jwks.is_some() {
        return Err(ApiError::Conflict("jwks: whether there are keys cannot be changed".to_owned()));
    }
    let kept = Kept { secret: before.secret.clone(), registered: before.registered.clone() };
    let client = new.into_client(&app, id, kept)?;
    if client != before {
        replace_with(&app, &client, text).await?;
        crate::audit::record("client.updated", &admin, &client.client_id, "");
    }
    Ok(Json(Document::of(client, None)))
}

/// The old one is refused from now on.
#[utoipa::path(
    post, path = "/clients/{id}/secret", tag = "clients", summary = "Make a new secret; the old one is refused from now on",
    params(("id" = String, Path)),
    responses((status = 200, body = Document), (status = 409, description = "A public client, or one with keys, has no secret; an OAuthClient's is replaced there."))
)]
pub async fn new_secret(
    State(app): State<Shared>,
    admin: Administrator,
    InPath(id): InPath<String>,
) -> Result<Json<Document>, ApiError> {
    let (mut client, text) = find(&app, &id).await?;
    refuse_resources(&client)?;
    if client.secret.is_none() {
        return Err(ApiError::Conflict("this client has no secret".to_owned()));
    }
    let secret = app.random.secret();
    client.secret = Some(StoredHash::of_secret(&secret));
    replace_with(&app, &client, text).await?;
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
    let (client, _) = find(&app, &id).await?;
    of_resource::note_revoked(app.store(), &client).await?;
    client::remove(app.store(), &id).await?;
    crate::audit::record("client.deleted", &admin, &id, "");
    let ended = revoke::client(&app, &id).await?;
    Ok(Json(receipt_for(&app, &ended, wait).await?))
}
