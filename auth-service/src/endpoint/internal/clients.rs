//! `/internal/v1/clients`: the operator says which OAuth clients the `OAuthClient` resources ask for, a secret's hash with each.

use axum::extract::{Path, State};
use cloakroom_protocol::credential::{ClientGrant, ClientRegistration};
use http::StatusCode;

use super::credential::{Trail, allowed, conclude, refuse_audiences_of_others, refuse_long_overlap};
use crate::app::{App, Shared};
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::record::client::of_resource::{self, OfResource};
use crate::record::client::{self, Client, GrantType};
use crate::revoke;
use crate::store::Updated;
use crate::workload::Caller;

const MAX_UID: usize = 64;

const TRAIL: Trail =
    Trail { registered: "oauth-client.registered", refused: "oauth-client.refused", removed: "oauth-client.removed" };
const REVOKED: ApiError =
    ApiError::Gone("the client was revoked, and does not come back: it takes another OAuthClient");
const MEANWHILE: &str = "somebody else registers the client at the same time";

pub async fn put(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
    JsonBody(body): JsonBody<ClientRegistration>,
) -> Result<StatusCode, ApiError> {
    let of = allowed(&caller, &TRAIL, &namespace, &name)?;
    if body.of != of {
        return Err(ApiError::BadRequest("body and path name different clients".to_owned()));
    }
    conclude(register(&app, body).await, &caller, &TRAIL, &of, "")
}

/// Whether anything changed.
async fn register(app: &App, wanted: ClientRegistration) -> Result<bool, ApiError> {
    validate(app, &wanted)?;
    let wanted = client_of(wanted);
    wanted.validate().map_err(|error| ApiError::Unprocessable(error.to_string()))?;
    let store = app.store();
    let held = client::load_with_text(store, &wanted.client_id).await?;
    if let Some((held, text)) = held {
        if held == wanted {
            return Ok(false);
        }
        if held.of == wanted.of {
            return amend(app, &held, text, &wanted).await;
        }
        // A resource of the same name that went without our being told: nothing of it is to count for this one.
        end(app, &wanted.client_id).await?;
    } else if of_resource::is_revoked(store, &wanted).await? {
        return Err(REVOKED);
    }
    if !client::create(store, &wanted, None).await? {
        return Err(ApiError::Unavailable(MEANWHILE.to_owned()));
    }
    of_resource::forget_revoked(store, &wanted.client_id).await?;
    Ok(true)
}

async fn amend(app: &App, held: &Client, text: String, wanted: &Client) -> Result<bool, ApiError> {
    // Whoever knows a confidential client's id, and it is no secret, could pass for it as a public one.
    if held.is_public() != wanted.is_public() {
        let sentence = "type: whether a client has a secret stays as it is; delete the OAuthClient and make another";
        return Err(ApiError::Conflict(sentence.to_owned()));
    }
    match client::replace(app.store(), wanted, text).await? {
        Updated::Yes => Ok(true),
        Updated::Conflict | Updated::Missing => Err(ApiError::Unavailable(MEANWHILE.to_owned())),
    }
}

/// What [`Client::validate`] cannot know.
fn validate(app: &App, wanted: &ClientRegistration) -> Result<(), ApiError> {
    let namespace = wanted.of.namespace();
    if !(1..=MAX_UID).contains(&wanted.uid.len()) {
        return Err(ApiError::Unprocessable("uid: the resource's".to_owned()));
    }
    if wanted.grant_types.is_empty() {
        return Err(ApiError::Unprocessable("grant_types: at least one".to_owned()));
    }
    if wanted.secret.is_none() && wanted.before.is_some() {
        return Err(ApiError::Unprocessable("before: a public client has no secrets".to_owned()));
    }
    refuse_long_overlap(app, wanted.before.as_ref())?;
    refuse_audiences_of_others(app, namespace, &wanted.audiences)?;
    for uri in wanted.redirect_uris.iter().chain(&wanted.post_logout_redirect_uris) {
        if let Some(holder) = app.registry.stranger_at(uri, namespace) {
            return Err(ApiError::Conflict(format!(
                "{uri:?} is at an app of namespace {holder:?}: name an address of your own, or make the OAuthClient there"
            )));
        }
    }
    Ok(())
}

fn client_of(wanted: ClientRegistration) -> Client {
    Client {
        client_id: wanted.of.client_id(),
        name: wanted.name,
        secret: wanted.secret.map(Into::into),
        before: wanted.before.as_ref().map(Into::into),
        redirect_uris: wanted.redirect_uris,
        post_logout_redirect_uris: wanted.post_logout_redirect_uris,
        grant_types: wanted.grant_types.into_iter().map(grant_type).collect(),
        scopes: wanted.scopes,
        audiences: wanted.audiences,
        dpop_bound_access_tokens: wanted.dpop_bound_access_tokens,
        require_mfa: wanted.require_mfa,
        of: Some(OfResource { resource: wanted.of, uid: wanted.uid }),
        ..Client::default()
    }
}

fn grant_type(grant: ClientGrant) -> GrantType {
    match grant {
        ClientGrant::AuthorizationCode => GrantType::AuthorizationCode,
        ClientGrant::RefreshToken => GrantType::RefreshToken,
        ClientGrant::ClientCredentials => GrantType::ClientCredentials,
    }
}

/// Idempotent: after a call that was cut off, what was issued to the client is ended whether the client is there or not.
pub async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let of = allowed(&caller, &TRAIL, &namespace, &name)?;
    end(&app, &of.client_id()).await?;
    of_resource::forget_revoked(app.store(), &of.client_id()).await?;
    crate::audit::record(TRAIL.removed, caller.name(), &of, "");
    Ok(StatusCode::NO_CONTENT)
}

async fn end(app: &App, client_id: &str) -> Result<(), ApiError> {
    client::remove(app.store(), client_id).await?;
    revoke::client(app, client_id).await?;
    Ok(())
}
