//! Who a token stands for, as cached. An identity is cached, a decision never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cloakroom_protocol::token::{TokenId, TokenKind};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// One introspection's answer, ready for use on the hot path.
pub struct Identity {
    pub kind: TokenKind,
    /// Of the session, grant or API key behind the token; may be logged.
    pub id: TokenId,
    pub sub: String,
    pub client_id: String,
    pub username: Option<String>,
    pub scopes: Vec<String>,
    pub roles: Vec<String>,
    pub acr: Option<String>,
    /// Unix seconds.
    pub auth_time: Option<u64>,
    pub session: Map<String, Value>,
    pub session_version: u64,
    /// Compact serialization, kept once and shared by every request.
    pub jwt: Bytes,
    /// The configured header's whole value: `Bearer <jwt>` or the bare JWT.
    pub jwt_header: Bytes,
    /// `claimHeaders`, rendered.
    pub claim_headers: Vec<(HeaderName, HeaderValue)>,
    pub life: Arc<Life>,
}

/// Whether the session behind an identity still lives; shared by every identity and open stream of the session.
#[derive(Default)]
pub struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Life {
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.ended.notify_waiters();
    }

    /// Completes once the session has been revoked; what stays open must be closed then.
    pub async fn over(&self) {
        loop {
            let ended = self.ended.notified();
            if self.is_over() {
                return;
            }
            ended.await;
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("kind", &self.kind).field("id", &self.id).finish_non_exhaustive()
    }
}
