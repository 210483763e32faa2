//! What the data plane asks of whoever speaks with the auth service. One instance serves every worker.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::revocation::RevokeScope;
use cloakroom_protocol::sidecar_config::Outage;
use cloakroom_protocol::token::OpaqueToken;
use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::local_response::LocalResponse;
use crate::request::head::RequestHead;

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Every method may be called from any worker's runtime.
pub trait Authority: Send + Sync + 'static {
    /// The hot path: no IO, and `None` unless the lease on the cached answer holds.
    fn cached(&self, token: &Presented) -> Option<Arc<Identity>>;

    /// For how long nobody would have told of a revocation; zero while the lease holds.
    fn unheard(&self) -> Duration;

    /// Cache, else introspection, once per token at a time.
    fn exchange<'a>(&'a self, token: &'a Presented, outage: Outage) -> Answer<'a, Result<Exchanged, Unavailable>>;

    /// Commits an app's merge patch of the session's data, if nobody changed them since `identity` was read.
    fn commit_session<'a>(
        &'a self,
        token: &'a OpaqueToken,
        identity: &'a Identity,
        patch: Map<String, Value>,
    ) -> Answer<'a, Result<(), CommitError>>;

    fn sign_out<'a>(&'a self, token: &'a OpaqueToken, scope: RevokeScope) -> Answer<'a, Result<(), SignOutError>>;

    /// The redirect that begins a sign-in and returns to the request's own path and query.
    fn start_sign_in<'a>(
        &'a self,
        head: &'a RequestHead,
        step_up: StepUp,
    ) -> Answer<'a, Result<LocalResponse, Unavailable>>;

    /// Answers a request for one of the sidecar's own paths ([`is_own_path`]), on the listener that protects `app_port`.
    fn own_path<'a>(
        &'a self,
        head: &'a RequestHead,
        app_port: u16,
        token: Option<Presented>,
    ) -> Answer<'a, LocalResponse>;
}

/// Paths which the sidecar answers itself: its own, and RFC 9728's metadata to which every 401 points.
pub fn is_own_path(path: &str) -> bool {
    path.starts_with("/.cloakroom/") || path == "/.cloakroom" || path == RESOURCE_METADATA_PATH
}

pub const RESOURCE_METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

#[derive(Clone, Debug)]
pub enum Exchanged {
    Active(Arc<Identity>),
    Inactive,
}

/// What a sign-in must reach beyond being signed in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepUp {
    pub acr: Option<String>,
    /// Seconds.
    pub max_age: Option<u64>,
}

/// No auth service answered, and the outage contract does not bridge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no auth service answers")]
pub struct Unavailable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignOutError {
    #[error("a token of this kind does not end that much")]
    NotASession,
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("the session's data changed meanwhile")]
    Conflict,
    #[error("a key of the patch is not among session.writable")]
    NotWritable,
    #[error("the data would grow too large")]
    TooLarge,
    #[error("the token is no session's, and nothing else has data")]
    NotASession,
    #[error("the session is gone")]
    Gone,
    #[error("no auth service answers")]
    Unavailable,
}
