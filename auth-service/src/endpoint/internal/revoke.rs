//! `POST /internal/v1/revoke?wait=<ms>`: ends a session, grant or key, or all of a subject, with a receipt.

use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::revocation::{Receipt, RevokeRequest, RevokeScope};
use cloakroom_protocol::token::OpaqueToken;
use serde::Deserialize;

use crate::app::Shared;
use crate::endpoint::caller::JsonBody;
use crate::endpoint::problem::ApiError;
use crate::events::receipt;
use crate::identity::{Asker, Identity, identify};
use crate::revoke::{self, Ended, Extent};
use crate::workload::Caller;

/// A receipt is waited for no longer than this.
pub const MAX_WAIT: u64 = 30_000;

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
    let Some(identity) = holder(app, caller, &token).await? else {
        // Dead already, perhaps by a call that failed before its event was out: announcing it once more harms nobody.
        let dead = app.store().is_dead(&crate::record::session::key(token.id())).await?;
        return Ok(if dead { revoke::record(app, token.id()).await? } else { Ended::default() });
    };
    crate::audit::record(
        "revoke",
        caller.name(),
        &identity.sub,
        format_args!("{:?} {} {scope:?}", identity.kind, identity.id),
    );
    Ok(match scope {
        RevokeScope::Session => revoke::record(app, identity.id).await?,
        RevokeScope::Everywhere => revoke::subject(app, &identity.sub, None, Extent::SignedIn).await?,
    })
}

/// Whose token it is, as far as the caller may know: a sidecar ends only what was presented at a policy of its namespace.
async fn holder(app: &Shared, caller: &Caller, token: &OpaqueToken) -> Result<Option<Identity>, ApiError> {
    let now = app.now();
    let Caller::Workload(workload) = caller else {
        return Ok(identify(app.store(), token, Asker::Anyone(&app.registry), None, now).await?);
    };
    for policy in app.registry.in_namespace(&workload.namespace) {
        if let Some(identity) = identify(app.store(), token, Asker::Policy(&policy), None, now).await? {
            return Ok(Some(identity));
        }
    }
    Ok(None)
}

/// The receipt, waited for if that was asked.
pub async fn receipt_for(app: &Shared, ended: &Ended, wait: u64) -> Result<Receipt, ApiError> {
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
