//! A device asks whether somebody has said yes by now (RFC 8628 §3.4, §3.5).

use cloakroom_protocol::token::TokenId;

use super::{Issuing, Request};
use crate::app::App;
use crate::endpoint::oauth::error::OAuthError;
use crate::record::device_grant::{self, Allowed, DeviceRequest, Verdict};
use crate::record::grant::Facts;
use crate::record::user;

pub(super) async fn by_device_code(app: &App, request: &Request<'_>) -> Result<Issuing, OAuthError> {
    let missing = || OAuthError::InvalidRequest("device_code is missing".to_owned());
    let code = request.form.get("device_code").ok_or_else(missing)?;
    let found = device_grant::find(app.store(), code).await?;
    let found = found.filter(|found| found.request.client_id == request.client.client_id);
    let found = found.ok_or(OAuthError::InvalidGrant("unknown or used device code"))?;
    let now = app.now();
    if now >= found.request.end {
        return Err(OAuthError::ExpiredToken);
    }
    match &found.verdict {
        Some(Verdict::Allowed(allowed)) => {
            if !device_grant::take(app.store(), code).await? {
                return Err(OAuthError::InvalidGrant("unknown or used device code"));
            }
            issue(app, &found.request, allowed, now).await
        }
        Some(Verdict::Denied) => Err(OAuthError::AccessDenied),
        None if device_grant::poll(app.store(), code, &found, now).await? => Err(OAuthError::AuthorizationPending),
        None => Err(OAuthError::SlowDown),
    }
}

/// The grant stands on its own: the browser in which somebody said yes may sign out before the television does. Signing out everywhere ends it.
async fn issue(app: &App, request: &DeviceRequest, allowed: &Allowed, now: u64) -> Result<Issuing, OAuthError> {
    let user = user::load(app.store(), &allowed.sub).await?.filter(|user| user.epoch == allowed.epoch);
    let user = user.ok_or(OAuthError::InvalidGrant("signed out meanwhile"))?;
    Ok(Issuing {
        id: app.random.with(TokenId::generate),
        facts: Facts {
            client_id: request.client_id.clone(),
            sub: allowed.sub.clone(),
            sid: None,
            given_in: None,
            parent: None,
            scope: request.scope.clone(),
            aud: request.aud.clone(),
            auth_time: Some(allowed.auth_time),
            acr: Some(allowed.acr.clone()),
            amr: allowed.amr.clone(),
            nonce: None,
            act: None,
            jkt: None,
            created: now,
            end: now + app.config.tokens.grant_seconds,
        },
        profile: user.profile(),
        epoch: Some(allowed.epoch),
        refreshable: true,
    })
}
