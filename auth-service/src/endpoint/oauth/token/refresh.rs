//! Refresh tokens: good once, each answer with the next one (RFC 6749 §6, RFC 9700 §4.14).

use cloakroom_protocol::token::{OpaqueToken, TokenKind};

use super::{Answer, Issued, Request, add_access, new_token, respond};
use crate::app::App;
use crate::endpoint::oauth::error::OAuthError;
use crate::record::grant::{self, Presented};
use crate::record::hash::StoredHash;
use crate::store::Updated;

/// Tries against a grant that the same client refreshes at the same time.
const TRIES: usize = 8;

pub(super) async fn by_refresh(app: &App, request: &Request<'_>) -> Result<Answer, OAuthError> {
    let Request { client, form, jkt } = request;
    let unknown = || OAuthError::InvalidGrant("unknown, expired or revoked refresh token");
    let text =
        form.get("refresh_token").ok_or_else(|| OAuthError::InvalidRequest("refresh_token is missing".to_owned()))?;
    let token = OpaqueToken::parse(text.as_bytes()).map_err(|_| unknown())?;
    if token.kind() != TokenKind::Refresh {
        return Err(unknown());
    }
    let hash = StoredHash::from(token.secret_hash());
    for _ in 0..TRIES {
        let now = app.now();
        let grant = grant::load(app.store(), token.id()).await?;
        let mut grant = grant.filter(|grant| now < grant.facts.end).ok_or_else(unknown)?;
        if grant.facts.client_id != client.client_id {
            return Err(unknown());
        }
        let refresh = grant.refresh.take().ok_or_else(unknown)?;
        let judged = refresh.judge(&hash, now);
        match judged {
            Presented::Current | Presented::Repeated => {}
            Presented::Unknown => return Err(unknown()),
            Presented::Reused => {
                crate::audit::record("refresh.reused", &client.client_id, &grant.facts.sub, "the grant is revoked");
                crate::revoke::record(app, grant.id).await?;
                return Err(unknown());
            }
        }
        // RFC 9449 §5: a public client's refresh token is worth nothing without the key that it was bound to.
        if grant.facts.jkt.is_some() && grant.facts.jkt != *jkt {
            return Err(OAuthError::InvalidDpopProof("the refresh token is bound to another key"));
        }
        let scope = narrowed(&grant.facts.scope, form.get("scope"))?;
        let next = new_token(app, TokenKind::Refresh, grant.id);
        let grace = app.config.tokens.refresh_grace_seconds;
        grant.refresh = Some(refresh.rotated(judged, next.secret_hash().into(), now, grace));
        let access = add_access(app, &mut grant, scope.clone(), jkt.clone(), now);
        match grant::save_tokens(app.store(), &grant, now).await? {
            Updated::Yes => {
                let issued = Issued { access: &access, refresh: Some(&next), nonce: None };
                return respond(app, client, &grant, &issued, now).await;
            }
            Updated::Missing => return Err(unknown()),
            Updated::Conflict => {}
        }
    }
    Err(OAuthError::Unavailable("the grant is refreshed by many at once".to_owned()))
}

/// RFC 6749 §6: no more than was granted.
fn narrowed(granted: &str, asked: Option<&str>) -> Result<Option<String>, OAuthError> {
    let Some(asked) = asked else { return Ok(None) };
    let within = asked.split(' ').all(|one| !one.is_empty() && granted.split(' ').any(|scope| scope == one));
    if within { Ok(Some(asked.to_owned())) } else { Err(OAuthError::InvalidScope) }
}
