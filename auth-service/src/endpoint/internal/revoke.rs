//! `POST /internal/v1/revoke?wait=<ms>`: ends a session, grant or key, or all of a subject, with a receipt.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::registration::PolicyRegistration;
use cloakroom_protocol::revocation::{Receipt, RevokeRequest, RevokeScope};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use serde::Deserialize;

use crate::app::{App, Shared};
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::events::receipt;
use crate::identity::{Asker, identify};
use crate::record::session;
use crate::revoke::{self, Ended, Extent};
use crate::workload::Caller;

/// A receipt is waited for no longer than this.
pub const MAX_WAIT: u64 = 30_000;
/// How long those wait who do not say.
pub const SETTLE_WITHIN: u64 = 500;

#[derive(Deserialize)]
pub struct Parameters {
    /// Milliseconds.
    #[serde(default)]
    wait: u64,
}

pub async fn revoke(
    State(app): State<Shared>,
    caller: Caller,
    Query(Parameters { wait }): Query<Parameters>,
    JsonBody(body): JsonBody<RevokeRequest>,
) -> Result<Response, ApiError> {
    let ended = match (&body.token, body.id, &body.sub) {
        (Some(token), None, None) => by_token(&app, &caller, token, body.scope).await?,
        (None, Some(id), None) => {
            privileged(&caller)?;
            crate::audit::record("revoke", caller.name(), id, "by id");
            revoke::record(&app, id).await?
        }
        (None, None, Some(sub)) => {
            privileged(&caller)?;
            crate::audit::record("revoke.everywhere", caller.name(), sub, "by subject");
            revoke::subject(&app, sub, None, Extent::SignedIn).await?
        }
        _ => return Err(ApiError::BadRequest("exactly one of token, id and sub".to_owned())),
    };
    Ok(axum::Json(receipt_for(&app, &ended, wait).await?).into_response())
}

fn privileged(caller: &Caller) -> Result<(), ApiError> {
    if caller.is_privileged() {
        Ok(())
    } else {
        Err(ApiError::Forbidden("a workload revokes by token only".to_owned()))
    }
}

async fn by_token(app: &Shared, caller: &Caller, token: &str, scope: RevokeScope) -> Result<Ended, ApiError> {
    // What is no token of ours is not signed in: nothing to do.
    let Ok(token) = OpaqueToken::parse(token.as_bytes()) else { return Ok(Ended::default()) };
    if !caller.is_privileged() && !scope.is_open_to(token.kind()) {
        return Err(ApiError::Conflict(
            "only a session ends everywhere, an access token ends its own grant, and an API key ends where it was made"
                .to_owned(),
        ));
    }
    let Some(sub) = subject_of(app, caller, &token).await? else {
        // Dead already, perhaps by a call that failed before its event was out: announcing it once more harms nobody.
        let dead = app.store().is_dead(&session::key(token.id())).await?;
        return Ok(if dead { revoke::record(app, token.id()).await? } else { Ended::default() });
    };
    crate::audit::record("revoke", caller.name(), &sub, format_args!("{:?} {} {scope:?}", token.kind(), token.id()));
    Ok(match scope {
        RevokeScope::Session => revoke::record(app, token.id()).await?,
        RevokeScope::Everywhere => revoke::subject(app, &sub, None, Extent::SignedIn).await?,
    })
}

/// Whose token it is, if the caller may end it: a sidecar only what its namespace's policies accept. Idle or not: who asks to be signed
/// out is signed out.
async fn subject_of(app: &Shared, caller: &Caller, token: &OpaqueToken) -> Result<Option<String>, ApiError> {
    if token.kind() == TokenKind::Session {
        let found = session::find_seat(app.store(), token).await?;
        let found = found.filter(|(client, _)| {
            caller.is_privileged() || client.split_once('/').is_some_and(|(namespace, _)| caller.may_act_in(namespace))
        });
        return Ok(found.map(|(_, seated)| seated.session.facts.sub));
    }
    let identity = identify(app.store(), token, Asker::Anyone(&app.registry), None, app.now()).await?;
    let policies = app.registry.all();
    let identity = identity.filter(|identity| {
        let accepts = |policy: &PolicyRegistration| identity.aud.contains(&policy.audience);
        caller.is_privileged()
            || policies.iter().any(|policy| caller.may_act_in(policy.policy.namespace()) && accepts(policy))
    });
    Ok(identity.map(|identity| identity.sub))
}

/// Whoever signs out may count on it: waits until every connected sidecar has dropped what ended, but not for long.
pub async fn settle(app: &App, ended: &Ended) {
    if let Err(error) = receipt_for(app, ended, SETTLE_WITHIN).await {
        // It is revoked, whatever is known about the sidecars.
        tracing::debug!(%error, "no receipt");
    }
}

/// The receipt, waited for if that was asked.
pub async fn receipt_for(app: &App, ended: &Ended, wait: u64) -> Result<Receipt, ApiError> {
    let Some(event) = ended.event else {
        return Ok(Receipt { event_id: None, connected: 0, acknowledged: 0, lost_lease: 0, store_replicas: None });
    };
    let wait = Duration::from_millis(wait.min(MAX_WAIT));
    let receipt = receipt::collect(&app.hub, app.store(), &app.replica, &app.clock, event, wait).await;
    // It is revoked, whatever is known about the sidecars.
    let receipt = receipt.unwrap_or(Receipt {
        event_id: Some(event.to_string()),
        connected: 0,
        acknowledged: 0,
        lost_lease: 0,
        store_replicas: None,
    });
    Ok(Receipt { store_replicas: ended.replicas, ..receipt })
}
