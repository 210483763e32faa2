//! Revoking, and the receipt that proves it.

use serde::{Deserialize, Serialize};

use crate::token::{TokenId, TokenKind};

/// Body of `POST /internal/v1/revoke`; `?wait=<milliseconds>` asks for a receipt from every connected sidecar.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub struct RevokeRequest {
    /// The opaque token whose session (or grant) ends; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// the id of a session, grant or API key; or
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<TokenId>,
    /// a subject, everywhere (operators and administrators only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    #[serde(default)]
    pub scope: RevokeScope,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeScope {
    #[default]
    Session,
    /// Every session and grant of the same subject.
    Everywhere,
}

impl RevokeScope {
    /// Whether a token of this kind may end so much. What a person let in by some other way than a sign-in must not sign that person out.
    pub fn is_open_to(self, kind: TokenKind) -> bool {
        match kind {
            TokenKind::Session => true,
            // An application may give its own grant back.
            TokenKind::Access | TokenKind::Refresh => self == Self::Session,
            // Ends where keys are managed: whoever uses one has no other.
            TokenKind::ApiKey => false,
        }
    }
}

/// What is known about a revocation when the answer is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// Id of the event on the stream; absent if there was nothing to revoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Sidecars connected when the event was published.
    pub connected: u64,
    /// Of those, how many have dropped the session.
    pub acknowledged: u64,
    /// Of those, how many went silent and so lost their lease.
    pub lost_lease: u64,
    /// Replicas of the store that hold the revocation, where the store has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_replicas: Option<u64>,
}

/// Body of `POST /internal/v1/events/ack`: all events up to `last` have taken effect in this sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// As given in `GET /internal/v1/events?sidecar=`.
    pub sidecar: String,
    pub last: String,
}
