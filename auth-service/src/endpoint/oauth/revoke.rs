//! `POST /oauth2/revoke` (RFC 7009): a client gives a token back. Either token of a grant ends the grant.

use axum::extract::State;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::{HeaderMap, StatusCode};

use super::client_auth::authenticate;
use super::error::OAuthError;
use super::form::Form;
use crate::app::Shared;
use crate::endpoint::internal::revoke::settle;
use crate::record::grant::{self, Presented};
use crate::record::hash::StoredHash;

pub async fn revoke(State(app): State<Shared>, headers: HeaderMap, Form(form): Form) -> Result<StatusCode, OAuthError> {
    let client = authenticate(&app, &headers, &form).await?;
    let text = form.get("token").ok_or_else(|| OAuthError::InvalidRequest("token is missing".to_owned()))?;
    // RFC 7009 §2.2: an invalid token is as good as revoked.
    let Ok(token) = OpaqueToken::parse(text.as_bytes()) else { return Ok(StatusCode::OK) };
    let Some(grant) = grant::load(app.store(), token.id()).await? else { return Ok(StatusCode::OK) };
    let (hash, now) = (StoredHash::from(token.secret_hash()), app.now());
    let known = match token.kind() {
        TokenKind::Access => grant.live_access(&hash, now).is_some(),
        TokenKind::Refresh => {
            grant.refresh.as_ref().is_some_and(|refresh| refresh.judge(&hash, now) != Presented::Unknown)
        }
        TokenKind::Session | TokenKind::ApiKey => false,
    };
    if known && grant.facts.client_id == client.client_id {
        crate::audit::record("revoke", &client.client_id, &grant.facts.sub, grant.id);
        let ended = crate::revoke::record(&app, grant.id).await?;
        settle(&app, &ended).await;
    }
    Ok(StatusCode::OK)
}
