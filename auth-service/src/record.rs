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
pub mod key_of_resource;
pub mod once;
pub mod origin;
pub mod profile;
pub mod registered;
pub mod registration_token;
pub mod reset;
pub mod session;
pub mod signed_in_at;
pub mod user;

use std::future::Future;
use std::time::Duration;

use cloakroom_protocol::token::TokenId;

use crate::random::SECRET_LEN;
use crate::store::{Key, Store, StoreError};

/// How long a removed record cannot come back: longer than any request that may still carry it is on its way.
pub const TOMBSTONE: Duration = Duration::from_secs(600);

/// Of a [`TokenId`], and of a user's id.
const ID_LEN: usize = 22;

/// The id and the secret that codes and links have in one text; `None`: it is none of ours.
fn id_and_secret(text: &str) -> Option<(&str, &str)> {
    let ours = text.len() == ID_LEN + SECRET_LEN && text.bytes().all(|b| b.is_ascii_alphanumeric());
    ours.then(|| text.split_at(ID_LEN))
}

/// What an index has on a page, as far as it is still there, and how many entries of the index that are.
async fn page<T, F>(
    store: &dyn Store,
    index: &Key,
    offset: usize,
    limit: usize,
    load: impl Fn(TokenId) -> F,
) -> Result<(Vec<T>, usize), StoreError>
where
    F: Future<Output = Result<Option<T>, StoreError>>,
{
    let ids = store.index_list(index, offset, limit).await?;
    let found = ids.iter().filter_map(|id| id.parse().ok()).map(load);
    let found = futures::future::try_join_all(found).await?;
    Ok((found.into_iter().flatten().collect(), ids.len()))
}

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
