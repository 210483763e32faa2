//! What a request changes: a session's beginning, its data, its end.

use cloakroom_protocol::events::Revoked;
use cloakroom_protocol::revocation::{RevokeRequest, RevokeScope};
use cloakroom_protocol::session::SessionPatch;
use cloakroom_protocol::sign_in::{CodeExchange, PushedAuthorization, PushedAuthorizationAnswer, SignedIn};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::StatusCode;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::{AuthClient, CallError};
use crate::authority::{CommitError, SignOutError, Unavailable};
use crate::config::Policy;
use crate::identity::Identity;
use crate::log;
use crate::token_cache::{Fingerprint, NotAdmitted, Overtaken};

impl AuthClient {
    pub async fn push_authorization(
        &self,
        policy: &Policy,
        request: &PushedAuthorization,
    ) -> Result<PushedAuthorizationAnswer, CallError> {
        self.calls.push_authorization(policy, request).await
    }

    pub async fn redeem(&self, policy: &Policy, exchange: &CodeExchange) -> Result<SignedIn, CallError> {
        self.calls.redeem(policy, exchange).await
    }

    /// Compare and set: applied only if nobody changed the data since `identity` was read.
    pub async fn commit_session(
        &self,
        token: &OpaqueToken,
        identity: &Identity,
        patch: Map<String, Value>,
    ) -> Result<(), CommitError> {
        let policy = self.policy.load_full().ok_or(CommitError::Unavailable)?;
        if token.kind() != TokenKind::Session {
            return Err(CommitError::NotASession);
        }
        if !patch.keys().all(|key| policy.writable.contains(key)) {
            return Err(CommitError::NotWritable);
        }
        let fingerprint = Fingerprint::of(token);
        let (question, asked) = (self.cache.question(), Instant::now());
        let request = SessionPatch {
            token: token.expose().to_owned(),
            policy: policy.policy.to_string(),
            version: identity.session_version,
            patch,
        };
        let answered = self.calls.commit(&policy, &request, question.stream()).await.map_err(|error| {
            // Whoever comes next must see what is there now.
            self.cache.update(token.id());
            commit_error(&error)
        })?;
        let fresh = Self::fresh((token.kind().into(), token.id()), answered, asked, &policy).map_err(|error| {
            log::error("session committed, but the answer is unusable", &[("error", &error)]);
            CommitError::Unavailable
        })?;
        let Some(fresh) = fresh else {
            self.cache.refuse(fingerprint, Instant::now());
            return Err(CommitError::Gone);
        };
        match self.cache.admit(fingerprint, &question, fresh, &policy.jwt, Instant::now()) {
            // Overtaken by the event of this very change, as a rule.
            Ok(_) | Err(NotAdmitted::Overtaken(Overtaken::Updated, _)) => Ok(()),
            Err(NotAdmitted::Overtaken(Overtaken::Uncovered, _)) => {
                self.abandon_stream();
                self.cache.update(token.id());
                Ok(())
            }
            Err(NotAdmitted::Overtaken(Overtaken::Revoked, _)) => Err(CommitError::Gone),
            Err(NotAdmitted::Jwt(error)) => {
                log::error("session committed, but the answer is unusable", &[("error", &error)]);
                Err(CommitError::Unavailable)
            }
        }
    }

    /// Returns once every connected sidecar has dropped it, or was given up on.
    pub async fn sign_out(&self, token: &OpaqueToken, scope: RevokeScope) -> Result<(), SignOutError> {
        if !scope.is_open_to(token.kind()) {
            return Err(SignOutError::NotASession);
        }
        let policy = self.policy.load_full().ok_or(Unavailable)?;
        let known = self.cache.get_unrenewed(&Fingerprint::of(token), Instant::now());
        let request = RevokeRequest { token: Some(token.expose().to_owned()), id: None, sub: None, scope };
        let receipt =
            self.calls.revoke(&policy, &request).await.map_err(|error| Self::unavailable("cannot revoke", &error))?;
        // The event will say the same; this request's own answer must not depend on when.
        self.cache.revoke(&Revoked::Id { id: token.id() });
        if let (RevokeScope::Everywhere, Some((identity, _))) = (scope, known) {
            self.cache.revoke(&Revoked::Subject { sub: identity.sub.clone(), except: None });
        }
        self.metrics.sign_outs.inc();
        log::info(
            "signed out",
            &[
                ("session", &token.id()),
                ("connected", &receipt.connected),
                ("acknowledged", &receipt.acknowledged),
                ("lost_lease", &receipt.lost_lease),
            ],
        );
        Ok(())
    }
}

fn commit_error(error: &CallError) -> CommitError {
    match error.status() {
        Some(StatusCode::CONFLICT) => CommitError::Conflict,
        Some(refused @ (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE)) => {
            log::warn("session data refused", &[("error", error)]);
            if refused == StatusCode::PAYLOAD_TOO_LARGE { CommitError::TooLarge } else { CommitError::NotWritable }
        }
        _ => {
            log::warn("cannot commit the session", &[("error", error)]);
            CommitError::Unavailable
        }
    }
}
