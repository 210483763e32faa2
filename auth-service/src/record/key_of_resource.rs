//! Which API key an `ApiKey` resource has. Written down before the key is, so that no key is without a resource to end it by.
//!
//! Fields: `id`, `made` once the key was written. A key that was made and is not there any more was revoked.

use std::time::Duration;

use cloakroom_protocol::credential::CredentialRef;
use cloakroom_protocol::token::TokenId;

use crate::store::{Key, Store, StoreError, Update, Updated};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOfResource {
    pub id: TokenId,
    pub made: bool,
}

fn key(of: &CredentialRef) -> Key {
    Key::new("api-key-of", of)
}

pub async fn load(store: &dyn Store, of: &CredentialRef) -> Result<Option<KeyOfResource>, StoreError> {
    let Some(values) = store.read(&key(of), &["id", "made"]).await? else { return Ok(None) };
    let mut values = values.into_iter();
    let (id, made) = (values.next().flatten(), values.next().flatten());
    Ok(id.and_then(|id| id.parse().ok()).map(|id| KeyOfResource { id, made: made.is_some() }))
}

/// Another key than before is to be made. `false`: somebody else wrote something meanwhile.
pub async fn announce(
    store: &dyn Store,
    of: &CredentialRef,
    before: Option<TokenId>,
    id: TokenId,
) -> Result<bool, StoreError> {
    let update = Update {
        require: vec![("id".to_owned(), before.map(String::from))],
        set: vec![("id".to_owned(), id.to_string())],
        unset: vec!["made".to_owned()],
        ..Update::default()
    };
    Ok(store.upsert(&key(of), update).await? == Updated::Yes)
}

/// The key is there, and for how long.
pub async fn made(store: &dyn Store, of: &CredentialRef, id: TokenId, life: Duration) -> Result<(), StoreError> {
    let update = Update {
        require: vec![("id".to_owned(), Some(id.to_string()))],
        set: vec![("made".to_owned(), "1".to_owned())],
        ttl: Some(life),
        ..Update::default()
    };
    store.update_durably(&key(of), update).await.map(drop)
}

pub async fn forget(store: &dyn Store, of: &CredentialRef) -> Result<(), StoreError> {
    store.take(&key(of)).await.map(drop)
}
