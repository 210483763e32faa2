//! What the store's documents mean: typed, each kind in its file. Nothing here answers a request.

pub mod act;
pub mod api_key;
pub mod client;
pub mod code;
pub mod consent;
pub mod device;
pub mod device_grant;
pub mod factors;
pub mod federated;
pub mod flow;
pub mod grant;
pub mod group;
pub mod hash;
pub mod origin;
pub mod profile;
pub mod registered;
pub mod registration_token;
pub mod reset;
pub mod session;
pub mod signed_in_at;
pub mod user;

use std::time::Duration;

use crate::store::{Key, StoreError};

/// How long a removed record cannot come back: longer than any request that may still carry it is on its way.
pub const TOMBSTONE: Duration = Duration::from_secs(600);

/// Records of one subject or client, so that all of them can be ended at once.
pub fn records_of(holder: &str) -> Key {
    Key::new("records", holder)
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The user was changed, disabled or signed out everywhere while this was under way.
    #[error("the subject has changed meanwhile")]
    SubjectChanged,
    #[error("the record was revoked before it was written")]
    Revoked,
    #[error("too many changes at once")]
    Contention,
    #[error(transparent)]
    Store(#[from] StoreError),
}
